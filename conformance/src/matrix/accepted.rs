//! Where the second clients or servers may do otherwise than the first, and why.
//!
//! The list is `matrix.toml`. An entry excuses one part of one kind of step in the journeys that it
//! names, and says by patterns what both sides give there; anything else still differs. An entry that
//! excuses nothing in a journey that it names fails that journey.

use anyhow::{Context as _, Result, ensure};
use regex::Regex;
use serde::{Deserialize, Deserializer};

use super::outcome::{Difference, Kind};
use super::{Journey, journeys};

/// The list of this workspace.
const WRITTEN: &str = include_str!("../../matrix.toml");

/// Accepted differences.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    #[serde(default)]
    difference: Vec<Entry>,
}

/// One accepted difference.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The journeys that show it: `batch::get`, or `get` for `batch::get` and `script::get`.
    pub journeys: Vec<String>,
    /// Whose second does otherwise.
    pub(super) side: Kind,
    /// What the step looks like.
    #[serde(deserialize_with = "pattern")]
    pub(super) step: Regex,
    /// The part of the step.
    pub part: String,
    /// All of that part in the first cell.
    #[serde(deserialize_with = "pattern")]
    pub(super) first: Regex,
    /// All of that part with the second.
    #[serde(deserialize_with = "pattern")]
    pub(super) second: Regex,
    /// Why the other way is better.
    pub reason: String,
}

/// Reads a pattern that has to match all of a text.
fn pattern<'de, D: Deserializer<'de>>(from: D) -> Result<Regex, D::Error> {
    let text = String::deserialize(from)?;
    Regex::new(&format!("(?s)^(?:{text})$")).map_err(serde::de::Error::custom)
}

impl Accepted {
    /// Returns the list of this workspace: ours is the second.
    ///
    /// # Errors
    ///
    /// Fails if the list is malformed, or names a journey that does not exist.
    pub fn written() -> Result<Self> {
        Self::parse(WRITTEN).context("matrix.toml is wrong")
    }

    /// Reads a list.
    ///
    /// # Errors
    ///
    /// As [`Accepted::written`].
    pub fn parse(text: &str) -> Result<Self> {
        let this: Self = toml::from_str(text)?;
        let known: Vec<String> = journeys().iter().map(Journey::name).collect();
        for entry in &this.difference {
            ensure!(
                !entry.reason.is_empty() && !entry.journeys.is_empty(),
                "each entry needs journeys and a reason"
            );
            for name in &entry.journeys {
                ensure!(
                    known.iter().any(|journey| is_named(journey, name)),
                    "{name} is no journey"
                );
            }
        }
        Ok(this)
    }

    /// Returns the entries in the order of the file.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.difference
    }

    pub(super) fn of_journey<'a>(
        &'a self,
        journey: &'a str,
    ) -> impl Iterator<Item = (usize, &'a Entry)> {
        self.difference
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.journeys.iter().any(|name| is_named(journey, name)))
    }
}

fn is_named(journey: &str, name: &str) -> bool {
    journey == name || journey.split_once("::").is_some_and(|(_, own)| own == name)
}

impl Entry {
    /// Returns whose second does otherwise: `clients` or `server`.
    #[must_use]
    pub fn whose(&self) -> &'static str {
        match self.side {
            Kind::Clients => "clients",
            Kind::Servers => "server",
        }
    }

    pub(super) fn covers(&self, difference: &Difference) -> bool {
        self.part == difference.part
            && self.step.is_match(&difference.step)
            && self.first.is_match(&difference.first)
            && self.second.is_match(&difference.here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "[[difference]]\njourneys = [\"batch::cat\"]\nside = \"clients\"\n\
        step = \"a.*\"\npart = \"stdout\"\nfirst = \"x+\"\nsecond = \"y\"\nreason = \"r\"\n";

    #[test]
    fn the_list_is_well_formed() {
        Accepted::written().unwrap();
    }

    #[test]
    fn an_unknown_journey_is_an_error() {
        let text = ENTRY.replace("batch::cat", "batch::none");
        let error = Accepted::parse(&text).unwrap_err();
        assert!(error.to_string().contains("no journey"), "{error}");
    }

    #[test]
    fn a_pattern_has_to_match_all() {
        let accepted = Accepted::parse(ENTRY).unwrap();
        let difference = |first: &str, here: &str| Difference {
            step: "a step".to_owned(),
            part: "stdout".to_owned(),
            first: first.to_owned(),
            here: here.to_owned(),
        };
        let entry = &accepted.entries()[0];
        assert!(entry.covers(&difference("xx", "y")));
        assert!(!entry.covers(&difference("xx", "y and more")));
        assert!(!entry.covers(&difference("z", "y")));
        let other = Difference {
            part: "stderr".to_owned(),
            ..difference("xx", "y")
        };
        assert!(!entry.covers(&other));
    }
}
