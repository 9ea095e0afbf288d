//! Replaces what differs from run to run.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use anyhow::Result;
use regex::bytes::{Captures, Regex, RegexBuilder};

/// Texts that are replaced as they are, and patterns.
pub(super) struct Normal {
    texts: Vec<(String, String)>,
    patterns: &'static Patterns,
    digests: BTreeMap<Vec<u8>, usize>,
}

/// What [`PATTERNS`] says, ready for use.
struct Patterns {
    replaced: Vec<(Regex, &'static str)>,
    digest: Regex,
}

/// Made once: that takes as long as some tools run.
static COMPILED: OnceLock<Patterns> = OnceLock::new();

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
            patterns: Patterns::compiled()?,
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
        let mut text = text.into_bytes();
        for (pattern, with) in &self.patterns.replaced {
            if let Cow::Owned(replaced) = pattern.replace_all(&text, with.as_bytes()) {
                text = replaced;
            }
        }
        let digests = &mut self.digests;
        let digest = &self.patterns.digest;
        let text = digest.replace_all(&text, |found: &Captures<'_>| {
            let next = digests.len();
            let digest = found.get(0).map_or(&b""[..], |found| found.as_bytes());
            let number = *digests.entry(digest.to_vec()).or_insert(next);
            format!("DIGEST{number}").into_bytes()
        });
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Patterns {
    fn compiled() -> Result<&'static Self> {
        if let Some(compiled) = COMPILED.get() {
            return Ok(compiled);
        }
        // Without the tables of Unicode, which take most of the time and match nothing here.
        let compile = |pattern| RegexBuilder::new(pattern).unicode(false).build();
        let compiled = Self {
            replaced: PATTERNS
                .iter()
                .map(|(pattern, text)| Ok((compile(pattern)?, *text)))
                .collect::<Result<_>>()?,
            digest: compile(r"\b[0-9a-f]{32}\b")?,
        };
        Ok(COMPILED.get_or_init(|| compiled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_varies_is_replaced_and_all_else_kept() {
        let mut normal = Normal::new().unwrap();
        normal.replace("/tmp/x", "{WORK}");
        let digest = "0123456789abcdef0123456789abcdef";
        let other = "f".repeat(32);
        assert_eq!(
            normal.apply(&format!(
                "é /tmp/x/ü inode: {digest} {other}\ninode:  77\n{digest}"
            )),
            "é {WORK}/ü inode: DIGEST0 DIGEST1\ninode:  I\nDIGEST0"
        );
        assert_eq!(
            normal.apply("-----BEGIN KEY-----\nab\n-----END KEY-----\n12345\n123456\n"),
            "KEY\nSECONDS\n123456\n"
        );
        assert_eq!(normal.apply(&other), "DIGEST1");
    }
}
