//! The recorded vectors, as in part 14 of the protocol's specification.
//!
//! A vector is one JSON object in a line of `vectors/chirp-vectors.jsonl`: what to send to a
//! server, under which login, after which setup, and what the reference answered.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

/// The file of recorded vectors, a copy of the specification's.
const RECORDED: &str = include_str!("../vectors/chirp-vectors.jsonl");

/// One recorded exchange.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// The unique name.
    pub name: String,
    /// Extra options of the server, separated by blanks; equal values share one server.
    pub server: String,
    /// How the tested connection logs in.
    pub auth: Login,
    /// How the connection that sends `setup` logs in.
    pub setup_auth: Login,
    /// Requests sent first, whose answers do not matter.
    pub setup: Vec<String>,
    /// The bytes under test, one code point per byte.
    pub send: String,
    /// The same bytes in base64: a check against mangled text.
    send_b64: String,
    /// What comes back.
    pub expect: Expect,
    /// Seconds of silence after which the reply was taken to be complete.
    pub quiet: f64,
    /// How binding the reply is.
    pub level: Level,
    /// What is worth knowing about it.
    pub note: String,
}

/// What a server answers to the bytes under test.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The integer that the first reply line begins with.
    pub code: Option<i64>,
    /// All bytes of the reply, one code point per byte.
    pub reply: Option<String>,
    /// A regular expression that matches all of the reply, one code point per byte.
    pub regex: Option<String>,
    /// Whether the server closes the connection after it.
    pub eof: bool,
}

/// How a connection authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Login {
    /// By the owner of a file that the server names.
    Unix,
    /// By the peer's address.
    Address,
    /// By the name that the peer's address resolves to.
    Hostname,
    /// Not at all: the bytes under test are the authentication.
    None,
}

/// How binding a recorded reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Every implementation answers so.
    Must,
    /// A sensible different answer is tolerable.
    Should,
    /// An accident of the reference.
    Quirk,
}

/// Returns every recorded vector, in the order of the file.
///
/// # Errors
///
/// Fails if the file is damaged: not JSON, unknown keys, texts that differ from their base64, names
/// that are not unique.
pub fn recorded() -> Result<Vec<Vector>> {
    let mut names = BTreeSet::new();
    let mut vectors = Vec::new();
    for (index, line) in RECORDED.lines().enumerate() {
        let vector = parse(line).with_context(|| format!("vector file, line {}", index + 1))?;
        ensure!(
            names.insert(vector.name.clone()),
            "vector file, line {}: {} occurs twice",
            index + 1,
            vector.name
        );
        vectors.push(vector);
    }
    Ok(vectors)
}

fn parse(line: &str) -> Result<Vector> {
    let vector: Vector = serde_json::from_str(line)?;
    let name = &vector.name;
    ensure!(
        latin1(&vector.send)? == BASE64_STANDARD.decode(&vector.send_b64)?,
        "{name}: send and send_b64 differ"
    );
    ensure!(
        vector.expect.reply.is_some() != vector.expect.regex.is_some(),
        "{name}: exactly one of reply and regex is needed"
    );
    Ok(vector)
}

/// Returns the bytes that a text of one code point per byte stands for.
///
/// # Errors
///
/// Fails on a code point above 255.
pub fn latin1(text: &str) -> Result<Vec<u8>> {
    text.chars()
        .map(|c| u8::try_from(c).with_context(|| format!("{c:?} is no byte")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_recorded_vectors_are_read() {
        assert_eq!(recorded().unwrap().len(), 292);
    }

    #[test]
    fn a_text_that_differs_from_its_base64_is_refused() {
        let line = RECORDED.lines().next().unwrap();
        assert!(parse(line).is_ok());
        let mangled = line.replace("\"send\": \"whoami 4", "\"send\": \"whoami 5");
        assert_ne!(line, mangled);
        assert!(parse(&mangled).is_err());
    }

    #[test]
    fn code_points_are_bytes() {
        assert_eq!(latin1("a\u{0}\u{e9}").unwrap(), b"a\x00\xe9");
        assert!(latin1("\u{100}").is_err());
    }
}
