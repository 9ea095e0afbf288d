//! Replaces what differs from run to run.

use std::collections::BTreeMap;

use anyhow::Result;
use regex::{Captures, Regex};

/// Texts that are replaced as they are, and patterns.
pub(super) struct Normal {
    texts: Vec<(String, String)>,
    patterns: Vec<(Regex, &'static str)>,
    digest: Regex,
    digests: BTreeMap<String, usize>,
}

/// What varies, and what stands for it.
const PATTERNS: &[(&str, &str)] = &[
    // `stat`.
    (r"(?m)^(inode: +)\d+$", "${1}I"),
    (r"(?m)^([amc]time: +).*$", "${1}T"),
    // `ls -l`.
    (r"\b[A-Z][a-z]{2} [ \d]\d \d\d:\d\d ", "DATE "),
    // `get`, `put`, `thirdput`.
    (r" in [\d.]+s \([\d.]+ ?[KMGT]?B/s\)", " in N s (RATE)"),
    (r" in \d+ seconds? \([\d.]+MB/s\)", " in N seconds (RATE)"),
    // `df`, `lsalloc`: how full the machine's disk is.
    (r"\d+\.\d ([KMGTP]?B) (TOTAL|INUSE|AVAIL)", "SIZE ${2}"),
    // Keys of tickets, and how long they are good for.
    (
        r"(?s)-----BEGIN ([A-Z ]+)-----.*?-----END [A-Z ]+-----",
        "${1}",
    ),
    (r"LS0tLS1[A-Za-z0-9+/=]+", "KEY"),
    (r"(?m)^\d{5}$", "SECONDS"),
    (
        r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d (UTC )?\d{4}",
        "DATE",
    ),
    // Jobs.
    (r#""(time_\w+)":\d+"#, r#""${1}":TIME"#),
    // Messages with a time and a process.
    (
        r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d+ (\w+)\[\d+\]",
        "TIME ${1}[PID]",
    ),
    // On a loaded machine the reference resets connections; ours says that it goes on trying.
    (r"(?m)^couldn't connect to .*; still trying for \d+\w\n", ""),
    // `chirp_benchmark`, `chirp_distribute`.
    (r"\t *\d+\.\d{4} \+/- +\d+\.\d{4}", "\tN +/- N"),
    (r"\t +\d+\.\d{4} ", "\tN "),
];

impl Normal {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            texts: Vec::new(),
            patterns: PATTERNS
                .iter()
                .map(|(pattern, text)| Ok((Regex::new(pattern)?, *text)))
                .collect::<Result<_>>()?,
            digest: Regex::new(r"\b[0-9a-f]{32}\b")?,
            digests: BTreeMap::new(),
        })
    }

    /// Lets `shown` stand for `text`.
    pub(super) fn replace(&mut self, text: &str, shown: &str) {
        self.texts.push((text.to_owned(), shown.to_owned()));
    }

    /// Replaces everything that varies. Digests are numbered as they appear.
    pub(super) fn apply(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.texts {
            text = text.replace(from, to);
        }
        for (pattern, with) in &self.patterns {
            text = pattern.replace_all(&text, *with).into_owned();
        }
        let digests = &mut self.digests;
        self.digest
            .replace_all(&text, |found: &Captures<'_>| {
                let next = digests.len();
                let number = *digests
                    .entry(found.get(0).map_or("", |m| m.as_str()).to_owned())
                    .or_insert(next);
                format!("DIGEST{number}")
            })
            .into_owned()
    }
}
