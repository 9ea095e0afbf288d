//! The benchmark runs and reports every kind of experiment. What it measures is no matter of a test.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use conformance::account::Account;
use conformance::program::Program;
use conformance::tool;
use serde_json::Value;

#[test]
fn every_kind_of_experiment_is_measured() -> Result<()> {
    // The benchmark looks for the server beside itself; this says what to build if it is missing.
    Program::our_server()?;
    let outcome = tool::run(
        Path::new(env!("CARGO_BIN_EXE_chirp-bench")),
        &[
            "--turns=1",
            "--seconds=0.02",
            "--idle=20",
            "--files=20",
            "--entries=50",
            "--clients=5",
            "--heavy=1",
            "--json",
            "--only=stat,open,pread,putfile 4,getfile,connect,idle,thirdput,search,getlongdir,clients,p99",
        ],
        &std::env::temp_dir(),
        &Account::unprivileged()?,
        b"",
    )?
    .succeeds()?;
    let report: Value = serde_json::from_slice(&outcome.stdout)?;
    let experiments = report
        .get("experiments")
        .and_then(Value::as_array)
        .context("no experiments in the report")?;
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
