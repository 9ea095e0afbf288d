//! Differences between replies that are known and wanted: `conformance/fuzz.toml`.

use anyhow::{Context as _, Result, ensure};
use regex::bytes::Regex;
use serde::Deserialize;

use super::Step;
use super::kind::Kind;

const ACCEPTED: &str = include_str!("../../fuzz.toml");

/// The known differences between the replies to some kinds of requests.
#[derive(Debug)]
pub struct Accepted {
    patterns: Vec<Pattern>,
}

/// One of them.
#[derive(Debug)]
pub struct Pattern {
    kinds: Vec<Kind>,
    replies: [Regex; 2],
    diverges: bool,
    entry: Entry,
}

impl Pattern {
    /// Returns the requests, named as [`Kind`] names them; the two replies, as they are written; why
    /// both are right.
    #[must_use]
    pub fn shown(&self) -> (&[String], &[String; 2], &str) {
        (
            &self.entry.requests,
            &self.entry.replies,
            &self.entry.reason,
        )
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    difference: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The kinds of requests, named as [`Kind`] names them.
    requests: Vec<String>,
    /// The two normalised replies, each a regular expression for the whole of it: the first server's,
    /// against which the second is held, and the second's. The other way round they are not accepted.
    replies: [String; 2],
    /// One server did what the other refused: the script ends here.
    #[serde(default)]
    diverges: bool,
    /// Why both are right.
    reason: String,
}

/// What an accepted difference means for the rest of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both servers are in the same state.
    GoOn,
    /// They are not: nothing that follows can be compared.
    Ends,
}

impl Accepted {
    /// Reads the list.
    ///
    /// # Errors
    ///
    /// Fails on a malformed entry, an unknown request, or a reason that is missing.
    pub fn load() -> Result<Self> {
        let file: File = toml::from_str(ACCEPTED).context("fuzz.toml")?;
        let mut patterns = Vec::new();
        for entry in file.difference {
            ensure!(!entry.reason.is_empty(), "an entry without a reason");
            let kinds: Result<Vec<Kind>, String> =
                entry.requests.iter().map(|name| name.parse()).collect();
            let kinds = kinds.map_err(anyhow::Error::msg).context("fuzz.toml")?;
            let [one, other] = &entry.replies;
            let whole = |text: &str| Regex::new(&format!(r"(?s-u)\A(?:{text})\z"));
            patterns.push(Pattern {
                kinds,
                replies: [whole(one)?, whole(other)?],
                diverges: entry.diverges,
                entry,
            });
        }
        Ok(Self { patterns })
    }

    /// Returns them, in the order of the file.
    #[must_use]
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Judges two replies that differ; none where that is not accepted.
    #[must_use]
    pub fn judge(&self, step: &Step, left: &[u8], right: &[u8]) -> Option<Verdict> {
        let kind = Kind::of(&step.request);
        let fits = |pattern: &&Pattern| {
            let [one, other] = &pattern.replies;
            pattern.kinds.contains(&kind) && one.is_match(left) && other.is_match(right)
        };
        let found = self.patterns.iter().find(fits)?;
        Some(match found.diverges {
            true => Verdict::Ends,
            false => Verdict::GoOn,
        })
    }
}
