//! Differences between replies that are known and wanted: `conformance/fuzz.toml`.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use regex::bytes::Regex;
use serde::Deserialize;

use super::kind::Kind;
use super::{Step, text};

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

    /// Returns the script whose last replies differ so, and the options of the servers that it is for.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or a step of it is no request.
    pub fn example(&self) -> Result<(&str, Vec<Step>)> {
        let steps: Result<Vec<Step>> = self
            .entry
            .example
            .iter()
            .map(|step| text::read(step))
            .collect();
        let steps = steps.with_context(|| format!("the example of {:?}", self.entry.reason))?;
        ensure!(
            !steps.is_empty(),
            "fuzz.toml: {:?} {:?} has no example; find one: conformance examples",
            self.entry.requests,
            self.entry.replies
        );
        Ok((self.entry.server.as_deref().unwrap_or_default(), steps))
    }

    fn fits(&self, options: &str, step: &Step, left: &[u8], right: &[u8]) -> bool {
        let Entry { by, server, .. } = &self.entry;
        let [one, other] = &self.replies;
        self.entry.silent == (left == right)
            && self.kinds.contains(&Kind::of(&step.request))
            && by.as_ref().is_none_or(|by| by == step.by.name())
            && server.as_ref().is_none_or(|server| server == options)
            && one.is_match(left)
            && other.is_match(right)
    }

    /// Returns what it means for the rest of a script.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        match self.diverges || self.entry.silent {
            true => Verdict::Ends,
            false => Verdict::GoOn,
        }
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
    /// Both reply the same, and leave different trees: the script ends here, too.
    #[serde(default)]
    silent: bool,
    /// Whose requests it is about, if not everybody's.
    by: Option<String>,
    /// The options of the servers that it is about, if not all.
    server: Option<String>,
    /// The shortest script whose last replies differ so, as [`super::text`] has it. It is played in each
    /// run of the tests, so that an entry which nothing needs any more does not stay.
    #[serde(default)]
    example: Vec<String>,
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

    /// Returns the places of the entries that have no example.
    #[must_use]
    pub fn without_example(&self) -> BTreeSet<usize> {
        let all = self.patterns.iter().enumerate();
        all.filter(|(_, pattern)| pattern.entry.example.is_empty())
            .map(|(at, _)| at)
            .collect()
    }

    /// Judges two replies, of servers with these `options`: finds the first entry that accepts how they
    /// differ, or that accepts different trees behind the same reply, with its place in the file.
    #[must_use]
    pub fn judge(
        &self,
        options: &str,
        step: &Step,
        left: &[u8],
        right: &[u8],
    ) -> Option<(usize, &Pattern)> {
        let mut all = self.patterns.iter().enumerate();
        all.find(|(_, pattern)| pattern.fits(options, step, left, right))
    }
}
