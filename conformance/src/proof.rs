//! What the suite is worth: mistakes put into the programs one at a time, and what caught them.
//!
//! A mistake is a patch, `bugs/NAME.patch`, whose first line says what is wrong. `conformance prove`
//! applies each to a copy of the workspace, builds it, runs the suite on what was built, and writes
//! `proof.toml`, which `CONFORMANCE.md` shows. [`Proof::check`] holds that against the patches as they
//! are now.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};

use crate::differences::path;

/// The record.
const WRITTEN: &str = include_str!("../proof.toml");
/// How many cases are named that caught a mistake.
const NAMED: usize = 6;

/// What was seen when each mistake was put in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// One for each patch, by name.
    #[serde(default)]
    pub bug: Vec<Proven>,
}

/// A mistake, and what caught it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Proven {
    /// The patch's name.
    pub name: String,
    /// What is wrong with it applied: the patch's first line.
    pub what: String,
    /// The patch's MD5 digest, which shows when it is another one.
    pub patch: String,
    /// How many cases caught it.
    pub count: usize,
    /// Some of them, at least one of each kind.
    pub caught: Vec<String>,
}

/// A mistake to put in.
#[derive(Clone, Debug)]
pub struct Bug {
    /// The patch's name, without its end.
    pub name: String,
    /// What is wrong with it applied.
    pub what: String,
    /// The patch.
    pub path: PathBuf,
    digest: String,
}

impl Bug {
    /// Returns all mistakes, by name.
    ///
    /// # Errors
    ///
    /// Fails if a patch cannot be read or does not say what is wrong with it.
    pub fn all() -> Result<Vec<Self>> {
        let directory = path("bugs");
        let mut bugs = Vec::new();
        for entry in fs::read_dir(&directory).context("bugs/")? {
            let path = entry?.path();
            let text = fs::read_to_string(&path)?;
            let what = text.lines().next().unwrap_or_default().to_owned();
            ensure!(
                !what.is_empty() && !what.starts_with("---") && !what.contains('|'),
                "the first line of {} does not say what is wrong",
                path.display()
            );
            let name = path.file_stem().context("no name")?.to_string_lossy();
            bugs.push(Self {
                name: name.into_owned(),
                what,
                digest: BASE64_STANDARD.encode(Md5::digest(&text)),
                path,
            });
        }
        bugs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(bugs)
    }

    /// Returns what to record of it when these cases have caught it.
    #[must_use]
    pub fn proven(&self, caught: &[String]) -> Proven {
        let kind = |case: &String| case.split(' ').next().unwrap_or_default().to_owned();
        let mut named: Vec<String> = Vec::new();
        // One of each kind first.
        for case in caught {
            if !named.iter().any(|other| kind(other) == kind(case)) {
                named.push(case.clone());
            }
        }
        for case in caught {
            if named.len() < NAMED && !named.contains(case) {
                named.push(case.clone());
            }
        }
        named.sort();
        Proven {
            name: self.name.clone(),
            what: self.what.clone(),
            patch: self.digest.clone(),
            count: caught.len(),
            caught: named,
        }
    }

    /// Applies the patch to a tree, or only sees whether it applies.
    ///
    /// # Errors
    ///
    /// Fails if it does not.
    pub fn apply(&self, tree: &std::path::Path, only_check: bool) -> Result<()> {
        let mut command = Command::new("git");
        command.current_dir(tree).arg("apply");
        if only_check {
            command.arg("--check");
        }
        // A tree within another repository is none of that; git would leave out its files.
        if let (false, Some(above)) = (only_check, tree.parent()) {
            command.env("GIT_CEILING_DIRECTORIES", above);
        }
        let output = command
            .arg(&self.path)
            .output()
            .context("cannot run git; install it: apt-get install git")?;
        ensure!(
            output.status.success(),
            "{} does not apply any more; make the same mistake in the code as it is now: {}",
            self.path.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

impl Proof {
    /// Reads the record.
    ///
    /// # Errors
    ///
    /// Fails if it is malformed.
    pub fn written() -> Result<Self> {
        toml::from_str(WRITTEN).context("proof.toml is wrong")
    }

    /// Reads the record as it is on disk now.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read or is malformed.
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string(path("proof.toml")).context("proof.toml")?;
        toml::from_str(&text).context("proof.toml is wrong")
    }

    /// Replaces what is recorded of a mistake.
    pub fn set(&mut self, proven: Proven) {
        self.bug.retain(|other| other.name != proven.name);
        self.bug.push(proven);
        self.bug.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// Checks that the record is that of the patches as they are, that each was caught, and that each
    /// still applies.
    ///
    /// # Errors
    ///
    /// Fails with what is to be done.
    pub fn check(&self) -> Result<()> {
        let bugs = Bug::all()?;
        ensure!(bugs.len() >= 10, "only {} mistakes", bugs.len());
        for bug in &bugs {
            bug.apply(&path(".."), true)?;
            let Some(proven) = self.bug.iter().find(|proven| proven.name == bug.name) else {
                bail!("{0} is not proven; run: conformance prove {0}", bug.name);
            };
            ensure!(
                proven.patch == bug.digest && proven.what == bug.what,
                "the patch {0} is another one than was proven; run: conformance prove {0}",
                bug.name
            );
            ensure!(!proven.caught.is_empty(), "nothing catches {}", bug.name);
        }
        for proven in &self.bug {
            ensure!(
                bugs.iter().any(|bug| bug.name == proven.name),
                "proof.toml has {}, of which there is no patch; delete it there",
                proven.name
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_applies_and_was_caught() {
        Proof::written().unwrap().check().unwrap();
    }

    #[test]
    fn a_mistake_that_is_not_proven_is_told() {
        let mut proof = Proof::written().unwrap();
        proof.bug.pop();
        assert!(
            proof
                .check()
                .unwrap_err()
                .to_string()
                .contains("not proven")
        );
    }

    #[test]
    fn each_kind_of_case_is_named() {
        let bug = Bug::all().unwrap().remove(0);
        let mut caught: Vec<String> = (0..20).map(|number| format!("vector {number}")).collect();
        caught.push("random x".to_owned());
        let proven = bug.proven(&caught);
        assert_eq!(proven.count, 21);
        assert_eq!(proven.caught.len(), NAMED);
        assert!(proven.caught.contains(&"random x".to_owned()));
    }
}
