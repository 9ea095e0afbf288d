//! Where our server may answer otherwise than the reference, and why.
//!
//! The list is `differences.toml`. An entry does not excuse a vector: it replaces the expected reply
//! by another one, which is checked as strictly. An entry that is no longer needed is an error.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::vector::{Expect, Level, Vector};

/// The accepted differences.
const ACCEPTED: &str = include_str!("../differences.toml");

/// One accepted difference.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// The vectors that show it.
    pub vectors: Vec<String>,
    /// What our server answers instead, one code point per byte.
    pub reply: Option<String>,
    /// A regular expression for what our server answers instead.
    pub regex: Option<String>,
    /// Whether our server closes the connection after it.
    #[serde(default)]
    pub eof: bool,
    /// Why the other answer is better.
    pub reason: String,
}

impl Difference {
    /// Returns what is answered instead.
    #[must_use]
    pub fn expect(&self) -> Expect {
        Expect {
            code: None,
            reply: self.reply.clone(),
            regex: self.regex.clone(),
            eof: self.eof,
        }
    }
}

/// The accepted differences, by vector.
#[derive(Clone, Debug)]
pub struct Differences {
    entries: Vec<Difference>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    difference: Vec<Difference>,
}

impl Differences {
    /// Reads the list and checks it against the vectors.
    ///
    /// # Errors
    ///
    /// Fails if the file is malformed, names a vector twice or one that does not exist, or would
    /// change the reply of a vector that every implementation must answer alike.
    pub fn accepted(vectors: &[Vector]) -> Result<Self> {
        Self::parse(ACCEPTED, vectors)
            .with_context(|| format!("{} is wrong", path("differences.toml").display()))
    }

    fn parse(text: &str, vectors: &[Vector]) -> Result<Self> {
        let file: File = toml::from_str(text)?;
        let levels: BTreeMap<&str, Level> = vectors
            .iter()
            .map(|vector| (vector.name.as_str(), vector.level))
            .collect();
        let mut seen = BTreeMap::new();
        for (index, entry) in file.difference.iter().enumerate() {
            ensure!(
                entry.reply.is_some() != entry.regex.is_some(),
                "entry {}: exactly one of reply and regex is needed",
                index + 1
            );
            ensure!(!entry.vectors.is_empty(), "entry {}: no vectors", index + 1);
            for name in &entry.vectors {
                match levels.get(name.as_str()) {
                    None => bail!("{name} is no vector"),
                    Some(Level::Must) => bail!("{name} is a must: our server has to follow it"),
                    Some(Level::Should | Level::Quirk) => {}
                }
                ensure!(seen.insert(name, index).is_none(), "{name} is listed twice");
            }
        }
        Ok(Self {
            entries: file.difference,
        })
    }

    /// Returns what our server answers instead of what `vector` expects, if that is accepted.
    #[must_use]
    pub fn for_vector(&self, vector: &Vector) -> Option<Expect> {
        self.entry(vector).map(Difference::expect)
    }

    /// Returns the entry of a vector, if it has one.
    #[must_use]
    pub fn entry(&self, vector: &Vector) -> Option<&Difference> {
        self.entries
            .iter()
            .find(|entry| entry.vectors.contains(&vector.name))
    }

    /// Returns the entries in the order of the file.
    #[must_use]
    pub fn entries(&self) -> &[Difference] {
        &self.entries
    }
}

/// Returns the path of a file of this crate's directory, as it was when the crate was built.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::recorded;

    fn parse(text: &str) -> Result<Differences> {
        Differences::parse(text, &recorded().unwrap())
    }

    #[test]
    fn the_list_is_well_formed() {
        Differences::accepted(&recorded().unwrap()).unwrap();
    }

    #[test]
    fn an_unknown_vector_is_an_error() {
        let text = "[[difference]]\nvectors = [\"nonsense\"]\nreply = \"\"\nreason = \"r\"\n";
        assert!(parse(text).unwrap_err().to_string().contains("no vector"));
    }

    #[test]
    fn a_must_cannot_be_excused() {
        let text = "[[difference]]\nvectors = [\"pread-head\"]\nreply = \"\"\nreason = \"r\"\n";
        assert!(parse(text).unwrap_err().to_string().contains("is a must"));
    }

    #[test]
    fn a_vector_is_listed_once() {
        let text = "[[difference]]\nvectors = [\"auth-blank\", \"auth-blank\"]\nreply = \"\"\nreason = \"r\"\n";
        assert!(
            parse(text)
                .unwrap_err()
                .to_string()
                .contains("listed twice")
        );
    }

    #[test]
    fn an_entry_says_what_is_answered_instead() {
        let text = "[[difference]]\nvectors = [\"auth-blank\"]\nreason = \"r\"\n";
        assert!(parse(text).is_err());
    }
}
