//! What the coverage-guided fuzz targets of `fuzz/` came to in their long runs: `guided.toml`, which
//! `CONFORMANCE.md` shows.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::differences::path;

/// The record.
const WRITTEN: &str = include_str!("../guided.toml");
/// No long run is shorter.
const MINUTES_MIN: u32 = 10;

/// The long runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guided {
    /// How long each target ran.
    pub minutes: u32,
    /// One for each target, by name.
    pub target: Vec<Target>,
}

/// A target, and what came of its run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its name: `fuzz/fuzz_targets/NAME.rs`.
    pub name: String,
    /// What it reads.
    pub reads: String,
    /// How many inputs it was given, none of which was a finding.
    pub executions: u64,
}

impl Guided {
    /// Reads the record.
    ///
    /// # Errors
    ///
    /// Fails if it is malformed.
    pub fn written() -> Result<Self> {
        toml::from_str(WRITTEN).context("guided.toml is wrong")
    }

    /// Checks that every target there is has run, and long enough.
    ///
    /// # Errors
    ///
    /// Fails with the targets that are missing or too many.
    pub fn check(&self) -> Result<()> {
        let mut targets = BTreeSet::new();
        let directory = path("../fuzz/fuzz_targets");
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("cannot list {}", directory.display()))?;
        for entry in entries {
            let file = entry?.path();
            let name = file.file_stem().context("a target without a name")?;
            targets.insert(name.to_string_lossy().into_owned());
        }
        let named: Vec<&String> = self.target.iter().map(|target| &target.name).collect();
        ensure!(
            targets.iter().eq(named.iter().copied()),
            "guided.toml is of {named:?}; fuzz/ has {targets:?}"
        );
        ensure!(
            self.minutes >= MINUTES_MIN && self.target.iter().all(|target| target.executions > 0),
            "guided.toml: a long run takes {MINUTES_MIN} minutes"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_had_its_long_run() {
        Guided::written().unwrap().check().unwrap();
    }

    #[test]
    fn a_target_that_never_ran_is_told() {
        let mut guided = Guided::written().unwrap();
        guided.target.pop();
        assert!(guided.check().unwrap_err().to_string().contains("ticket"));
    }
}
