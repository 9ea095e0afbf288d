//! The benchmark runs and reports every kind of experiment. What it measures is no matter of a test.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use conformance::account::Account;
use conformance::program::Program;
use conformance::tool;
use serde_json::Value;

/// Runs the benchmark with one turn, and returns what it reports under `key`.
fn report(account: &Account, arguments: &[&str], key: &str) -> Result<Vec<Value>> {
    // The benchmark looks for our programs beside itself; this says what to build if one is missing.
    Program::our_server()?;
    Program::our_client()?;
    let mut all = vec!["--json", "--turns=1"];
    all.extend(arguments);
    let program = Path::new(env!("CARGO_BIN_EXE_chirp-bench"));
    let outcome = tool::run(program, &all, &std::env::temp_dir(), account, b"")?.succeeds()?;
    let mut report: Value = serde_json::from_slice(&outcome.stdout)?;
    match report.get_mut(key).map(Value::take) {
        Some(Value::Array(rows)) => Ok(rows),
        _ => anyhow::bail!("no {key} in the report"),
    }
}

#[test]
fn every_kind_of_experiment_is_measured() -> Result<()> {
    let experiments = report(
        &Account::unprivileged()?,
        &[
            "--seconds=0.02",
            "--idle=20",
            "--files=20",
            "--entries=50",
            "--clients=5",
            "--heavy=1",
            "--only=stat,open,pread,putfile 4,getfile,connect,idle,thirdput,search,getlongdir,clients,p99",
        ],
        "experiments",
    )?;
    ensure!(experiments.len() == 20, "{} experiments", experiments.len());
    for experiment in experiments {
        let measured = |subject| {
            let best = format!("/values/{subject}/best");
            experiment.pointer(&best).and_then(Value::as_f64).is_some()
        };
        // One row is about priorities on our server alone.
        ensure!(
            measured("ours") && (measured("reference") || measured("floor")),
            "nothing measured: {experiment}"
        );
    }
    Ok(())
}

/// Copies small trees, as the user of the test: `ssh` lets nobody else in.
fn copies(only: &str, contenders: &[&str], lines: usize) -> Result<()> {
    let sizes = ["--copy", "3", "2", "2", "--copy-big=1", "--only", only];
    let copies = report(&Account::current()?, &sizes, "copies")?;
    ensure!(copies.len() == lines, "{} lines", copies.len());
    for line in &copies {
        let values = line.get("values").and_then(Value::as_object);
        let values = values.context("no values")?;
        for contender in contenders {
            ensure!(values.contains_key(*contender), "{contender}: {line}");
        }
    }
    Ok(())
}

const EVERYBODY: [&str; 6] = ["ours", "chirp", "scp -r", "sftp", "rsync", "tar|ssh"];

#[test]
fn everybody_copies_trees() -> Result<()> {
    copies(" 0 ms", &EVERYBODY, 2)
}

#[test]
fn everybody_copies_trees_over_a_long_way() -> Result<()> {
    copies(" 50 ms", &EVERYBODY, 2)
}

#[test]
fn a_large_file_is_copied_and_measured() -> Result<()> {
    copies(
        "in one file",
        &["ours", "chirp", "bare socket", "memory"],
        2,
    )
}

#[test]
fn a_second_copy_is_measured() -> Result<()> {
    copies("nothing to do", &["ours"], 1)
}
#[test]
fn programs_are_run_and_measured() -> Result<()> {
    let sizes = [
        "--seconds=0.02",
        "--exec-output=2",
        "--exec-crowd=6",
        "--only=exec",
    ];
    let lines = report(&Account::current()?, &sizes, "executions")?;
    ensure!(lines.len() == 6, "{} lines", lines.len());
    for (at, line) in lines.iter().enumerate() {
        // The guest agent need not be installed, and only our server runs many at once.
        let measured: &[&str] = if at < 2 {
            &["ours", "bare", "ssh"]
        } else {
            &["ours"]
        };
        for column in measured {
            let values = line.pointer(&format!("/values/{column}"));
            let values = values.and_then(Value::as_array).context("no values")?;
            ensure!(!values.is_empty(), "{column}: {line}");
        }
    }
    Ok(())
}
