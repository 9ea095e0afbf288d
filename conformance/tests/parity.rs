//! Lets the reference's tools do the same on the reference's server and on ours, and compares all
//! that they print, their exit codes, and the trees they leave.
//!
//! A scene says what is done, not what comes out: the reference's server says that. What must
//! differ between two runs (ports, inodes, times, keys) is replaced on both sides, see [`normal`].
//! Each command of `chirp` is done twice, from arguments (`batch`) and from standard input
//! (`script`).

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use conformance::coverage::Coverage;
use conformance::program::{Maker, Program};
use conformance::target::Options;
use libtest_mimic::{Arguments, Failed, Trial};

#[path = "parity/catalog.rs"]
mod catalog;
#[path = "parity/commands.rs"]
mod commands;
#[path = "parity/normal.rs"]
mod normal;
#[path = "parity/play.rs"]
mod play;
#[path = "parity/terminal.rs"]
mod terminal;
#[path = "parity/tools.rs"]
mod tools;

use play::{Form, Play};

/// A scene: its name, how its servers are started, and what is done.
struct Scene {
    name: &'static str,
    /// Further options of the servers, separated by blanks.
    options: &'static str,
    /// How many servers it needs.
    servers: usize,
    act: fn(&mut Play) -> Result<()>,
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = vec![Trial::test(
        "suite::every-command-of-chirp-has-a-scene",
        || every_command_has_a_scene().map_err(|error| Failed::from(format!("{error:#}"))),
    )];
    trials.push(Trial::test("suite::every-option-is-in-the-table", || {
        every_option_is_in_the_table().map_err(|error| Failed::from(format!("{error:#}")))
    }));
    for form in [Form::Batch, Form::Script] {
        add(&mut trials, form, commands::SCENES);
    }
    // No form makes a difference to a tool of its own.
    for scene in tools::SCENES.iter().chain(terminal::SCENES) {
        trials.push(Trial::test(format!("tools::{}", scene.name), move || {
            compare(scene, Form::Batch).map_err(|error| Failed::from(format!("{error:#}")))
        }));
    }
    trials.push(Trial::test("tools::catalog-shows-both", || {
        catalog::both_are_shown_alike().map_err(|error| Failed::from(format!("{error:#}")))
    }));
    for (name, makers) in [
        (
            "ours-to-reference",
            [Maker::Ours, Maker::Reference, Maker::Ours],
        ),
        (
            "reference-to-ours",
            [Maker::Reference, Maker::Ours, Maker::Reference],
        ),
    ] {
        trials.push(Trial::test(
            format!("tools::chirp-distribute-{name}"),
            move || distribute_among(makers).map_err(|error| Failed::from(format!("{error:#}"))),
        ));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn add(trials: &mut Vec<Trial>, form: Form, scenes: &'static [Scene]) {
    for scene in scenes {
        trials.push(Trial::test(
            format!("{}::{}", form.name(), scene.name),
            move || compare(scene, form).map_err(|error| Failed::from(format!("{error:#}"))),
        ));
    }
}

/// Distributes a tree from a server of one maker to those of both.
fn distribute_among(makers: [Maker; 3]) -> Result<()> {
    let play = |makers: &[Maker]| -> Result<Vec<String>> {
        let mut play = Play::with_servers(makers, Form::Batch, &Options::default())?;
        tools::distribute(&mut play)?;
        play.finish()
    };
    same(&play(&[Maker::Reference; 3])?, &play(&makers)?)
}

/// Plays a scene with both makers' servers and compares.
fn compare(scene: &Scene, form: Form) -> Result<()> {
    let expected = perform(scene, form, Maker::Reference).context("with the reference's server")?;
    let came = perform(scene, form, Maker::Ours).context("with our server")?;
    same(&expected, &came)
}

fn same(expected: &[String], came: &[String]) -> Result<()> {
    if expected == came {
        return Ok(());
    }
    let mut text = String::from("what the reference's server gives (-), and ours (+):\n");
    for at in 0..expected.len().max(came.len()) {
        let (left, right) = (expected.get(at), came.get(at));
        if left == right {
            continue;
        }
        for (mark, step) in [('-', left), ('+', right)] {
            for line in step.map_or("", String::as_str).lines() {
                text.push_str(&format!("{mark} {line}\n"));
            }
        }
    }
    anyhow::bail!(text)
}

fn perform(scene: &Scene, form: Form, maker: Maker) -> Result<Vec<String>> {
    let mut play = Play::set(maker, form, scene.options, scene.servers)?;
    (scene.act)(&mut play)?;
    play.finish()
}

/// Asks `chirp` for its commands, so that none is forgotten.
fn every_command_has_a_scene() -> Result<()> {
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
    for command in commands {
        ensure!(
            commands::SCENES.iter().any(|scene| scene.name == command),
            "no scene is named {command}"
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
