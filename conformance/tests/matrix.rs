//! Lets both makers' clients do the same on both makers' servers, and compares all that they print,
//! their exit codes, and the trees they leave: one case for each journey of `conformance::matrix`.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use conformance::coverage::Coverage;
use conformance::matrix::{self, Journey, accepted::Accepted, clients::Clients};
use conformance::program::Program;
use libtest_mimic::{Arguments, Failed, Trial};

#[path = "matrix/catalog.rs"]
mod catalog;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = vec![
        trial("suite::every-command-of-chirp-has-a-journey", || {
            every_command_has_a_journey()
        }),
        trial("suite::every-option-is-in-the-table", || {
            every_option_is_in_the_table()
        }),
        trial("tools::catalog-shows-both", catalog::both_are_shown_alike),
    ];
    for journey in matrix::journeys() {
        trials.push(trial(&journey.name(), move || compare(&journey)));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, act: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, || {
        act().map_err(|error| Failed::from(format!("{error:#}")))
    })
}

fn compare(journey: &Journey) -> Result<()> {
    let clients = [Clients::reference()?, Clients::ours()?];
    let servers = [Program::reference_server()?, Program::our_server()?];
    let outcome = matrix::run(journey, &clients, &servers, &Accepted::written()?);
    ensure!(outcome.is_clean(), "{outcome}");
    Ok(())
}

/// Asks `chirp` for its commands, so that none is forgotten.
fn every_command_has_a_journey() -> Result<()> {
    let account = conformance::account::Account::unprivileged()?;
    let outcome = conformance::tool::run(
        &Program::reference("chirp")?.path,
        &[""; 0],
        &std::env::temp_dir(),
        &account,
        b"help\n",
    )?;
    let text = String::from_utf8_lossy(&outcome.stdout);
    let commands: Vec<&str> = text
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    ensure!(commands.len() > 50, "only {commands:?} in {outcome}");
    let journeys = matrix::journeys();
    for command in commands {
        ensure!(
            journeys.iter().any(|journey| journey.subject() == command),
            "no journey is named {command}"
        );
    }
    Ok(())
}

/// Asks `chirp_server` for its options, so that none is forgotten in CONFORMANCE.md.
fn every_option_is_in_the_table() -> Result<()> {
    let account = conformance::account::Account::unprivileged()?;
    let outcome = conformance::tool::run(
        &Program::reference_server()?.path,
        &["-h"],
        &std::env::temp_dir(),
        &account,
        b"",
    )?;
    let text = String::from_utf8_lossy(&outcome.stdout);
    let coverage = Coverage::written()?;
    let listed: Vec<&str> = coverage
        .option
        .iter()
        .flat_map(|group| &group.names)
        .flat_map(|names| names.split_whitespace())
        .collect();
    let mut count = 0;
    for line in text.lines() {
        let Some(word) = line
            .split_whitespace()
            .next()
            .filter(|word| word.starts_with('-'))
        else {
            continue;
        };
        for name in word.split(',') {
            let name = name.split('=').next().unwrap_or(name);
            ensure!(
                listed.contains(&name),
                "coverage.toml says nothing of {name}"
            );
            count += 1;
        }
    }
    ensure!(count > 60, "only {count} names in {outcome}");
    Ok(())
}
