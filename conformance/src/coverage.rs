//! What of the reference is served, differs or is refused, and which test shows it: `coverage.toml`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::differences::path;

const WRITTEN: &str = include_str!("../coverage.toml");

/// The whole list.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    /// Requests, in groups.
    pub request: Vec<Requests>,
    /// Authentication methods.
    pub method: Vec<Method>,
    /// Options of the server.
    pub option: Vec<Options>,
    /// Weaknesses of the reference, and the tests that show ours without them.
    pub weakness: Vec<Weakness>,
    /// What a client sees of a complete file that replaces another.
    pub replacing: Vec<Sentence>,
}

/// Requests that are treated alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// Their verbs.
    pub verbs: Vec<String>,
    /// Why they are never carried out; nothing if they are.
    pub refused: Option<String>,
    /// How ours differs.
    #[serde(default)]
    pub note: String,
}

/// Whether something of the reference's is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is there.
    Served,
    /// It is there and means the same.
    Same,
    /// It is there and does something else in part.
    Differs,
    /// It is not there on purpose.
    Refused,
}

/// An authentication method.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// Its name on the wire.
    pub name: String,
    /// Whether it is there.
    pub status: Status,
    /// How ours differs, or why it is refused.
    #[serde(default)]
    pub note: String,
}

/// Options of the server that are treated alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Each with its short form, if it has one, and its long one.
    pub names: Vec<String>,
    /// Whether they are there.
    pub status: Status,
    /// How ours differ.
    #[serde(default)]
    pub note: String,
}

/// A weakness of the reference.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weakness {
    /// `W1` to `W36` as in part 13 of the specification, or `client`.
    pub name: String,
    /// What it is.
    pub what: String,
    /// The test functions that attack ours.
    pub tests: Vec<String>,
}

/// A sentence that tests show.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sentence {
    /// What holds.
    pub what: String,
    /// The test functions that show it.
    pub tests: Vec<String>,
}

impl Coverage {
    /// Reads the list.
    ///
    /// # Errors
    ///
    /// Fails if the file is malformed, leaves out a weakness, or says of something other than that it
    /// is the same nothing further.
    pub fn written() -> Result<Self> {
        let this: Self = toml::from_str(WRITTEN).context("coverage.toml is wrong")?;
        for number in 1..=36 {
            let name = format!("W{number}");
            ensure!(
                this.weakness.iter().any(|weakness| weakness.name == name),
                "coverage.toml says nothing of {name}"
            );
        }
        for option in &this.option {
            ensure!(
                option.status == Status::Same || !option.note.is_empty(),
                "coverage.toml gives no reason for {:?}",
                option.names
            );
        }
        Ok(this)
    }

    /// Returns every test that is named.
    pub fn tests(&self) -> impl Iterator<Item = &str> {
        let weaknesses = self.weakness.iter().flat_map(|weakness| &weakness.tests);
        let sentences = self.replacing.iter().flat_map(|sentence| &sentence.tests);
        weaknesses.chain(sentences).map(String::as_str)
    }
}

/// Checks that each test that the list names is in the sources of this workspace.
///
/// # Errors
///
/// Fails with the names that are not, or if the sources cannot be read.
pub fn check_tests(coverage: &Coverage) -> Result<()> {
    let mut sources = String::new();
    for part in ["chirp-server", "chirp-client", "chirp-proto", "conformance"] {
        for directory in ["src", "tests"] {
            let directory = path("..").join(part).join(directory);
            if directory.is_dir() {
                read_sources(&directory, &mut sources)?;
            }
        }
    }
    let missing: Vec<&str> = coverage
        .tests()
        .filter(|name| !sources.contains(&format!("fn {name}(")))
        .collect();
    ensure!(
        missing.is_empty(),
        "coverage.toml names tests that do not exist: {missing:?}"
    );
    Ok(())
}

fn read_sources(directory: &Path, sources: &mut String) -> Result<()> {
    let listing =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in listing {
        let path = entry?.path();
        if path.is_dir() {
            read_sources(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_well_formed() {
        Coverage::written().unwrap();
    }

    #[test]
    fn every_test_that_is_named_exists() {
        check_tests(&Coverage::written().unwrap()).unwrap();
    }

    #[test]
    fn a_name_that_no_test_has_is_told() {
        let mut coverage = Coverage::written().unwrap();
        let gone = ["no_test_is", "called_so"].join("_");
        coverage.weakness[0].tests.push(gone.clone());
        assert!(
            check_tests(&coverage)
                .unwrap_err()
                .to_string()
                .contains(&gone)
        );
    }
}
