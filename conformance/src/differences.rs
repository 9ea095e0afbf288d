//! Where our server may answer otherwise than the reference, and why.
//!
//! The list is `differences.toml`. An entry does not excuse a vector: it replaces the expected reply
//! by another one, which is checked as strictly. An entry that is no longer needed is an error.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use globset::{Glob, GlobSet};
use serde::Deserialize;

use crate::vector::{Expect, Level, Vector};

/// The accepted differences.
const ACCEPTED: &str = include_str!("../differences.toml");

/// One accepted difference.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// The vectors that show it: names, or patterns with `*`, `?`, `[ab]` and `{one,other}`.
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
    patterns: Vec<GlobSet>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    difference: Vec<Difference>,
}

impl Differences {
    /// Reads the list and checks it against all vectors.
    ///
    /// # Errors
    ///
    /// Fails if the file is malformed, names a vector that does not exist, has an entry to which no
    /// vector belongs, or would change the reply of a vector that every implementation must answer
    /// alike.
    pub fn accepted(vectors: &[Vector]) -> Result<Self> {
        let this = Self::load()?;
        this.check(vectors)
            .with_context(|| format!("{} is wrong", path("differences.toml").display()))?;
        Ok(this)
    }

    /// Reads the list.
    ///
    /// # Errors
    ///
    /// Fails if the file is malformed.
    pub fn load() -> Result<Self> {
        Self::parse(ACCEPTED)
            .with_context(|| format!("{} is wrong", path("differences.toml").display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text)?;
        let mut patterns = Vec::new();
        for (index, entry) in file.difference.iter().enumerate() {
            ensure!(
                entry.reply.is_some() != entry.regex.is_some(),
                "entry {}: exactly one of reply and regex is needed",
                index + 1
            );
            ensure!(!entry.vectors.is_empty(), "entry {}: no vectors", index + 1);
            let mut set = GlobSet::builder();
            for name in &entry.vectors {
                set.add(Glob::new(name)?);
            }
            patterns.push(set.build()?);
        }
        Ok(Self {
            entries: file.difference,
            patterns,
        })
    }

    fn check(&self, vectors: &[Vector]) -> Result<()> {
        let mut used: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); self.entries.len()];
        for vector in vectors {
            let Some(index) = self.index(vector) else {
                continue;
            };
            ensure!(
                vector.level != Level::Must,
                "{} is a must: our server has to follow it; if it is a generated vector whose answer is \
                 an accident of the reference, run: cargo run -p conformance -- record",
                vector.name
            );
            if let (Some(used), Some(set)) = (used.get_mut(index), self.patterns.get(index)) {
                used.extend(set.matches(&vector.name));
            }
        }
        for (entry, used) in self.entries.iter().zip(&used) {
            for (at, name) in entry.vectors.iter().enumerate() {
                ensure!(
                    used.contains(&at),
                    "{name} is no vector, or none that is not in an earlier entry"
                );
            }
        }
        Ok(())
    }

    /// Returns the place of the first entry whose patterns fit a vector's name.
    fn index(&self, vector: &Vector) -> Option<usize> {
        self.patterns
            .iter()
            .position(|set| set.is_match(&vector.name))
    }

    /// Returns the entry of a vector, if it has one.
    #[must_use]
    pub fn entry(&self, vector: &Vector) -> Option<&Difference> {
        self.entries.get(self.index(vector)?)
    }

    /// Returns what our server answers instead of what `vector` expects, if that is accepted.
    #[must_use]
    pub fn for_vector(&self, vector: &Vector) -> Option<Expect> {
        self.entry(vector).map(Difference::expect)
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
        let differences = Differences::parse(text)?;
        differences.check(&recorded().unwrap())?;
        Ok(differences)
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
    fn an_entry_to_which_nothing_belongs_is_an_error() {
        let entry = "[[difference]]\nvectors = [\"auth-blank\"]\nreply = \"\"\nreason = \"r\"\n";
        assert!(parse(entry).is_ok());
        assert!(parse(&entry.repeat(2)).is_err());
        assert!(parse(&entry.replace("blank", "{blank,none}")).is_ok());
        assert!(parse(&entry.replace("auth-blank", "none-*")).is_err());
    }

    #[test]
    fn an_entry_says_what_is_answered_instead() {
        let text = "[[difference]]\nvectors = [\"auth-blank\"]\nreason = \"r\"\n";
        assert!(parse(text).is_err());
    }
}
