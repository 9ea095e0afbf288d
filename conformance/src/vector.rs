//! The recorded vectors, as in part 14 of the protocol's specification.
//!
//! A vector is one JSON object in a line: what to send to a server, under which login, after which
//! setup, and what the reference answered. `vectors/chirp-vectors.jsonl` came with the specification;
//! `vectors/recorded.jsonl` is what [`crate::record`] writes, below a line that says from whom.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

/// The specification's vectors.
const GIVEN: &str = include_str!("../vectors/chirp-vectors.jsonl");
/// The vectors that [`crate::record`] made.
const GENERATED: &str = include_str!("../vectors/recorded.jsonl");
/// What a line of [`GENERATED`] begins with; the vector's name follows.
const NAME: &str = r#"{"name":""#;

/// What stands above the generated vectors: where they come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The program that answered, and its version, as it says it.
    pub recorded_from: String,
    /// The day on which an answer was last recorded that the file did not have before, as `YYYY-MM-DD`.
    pub date: String,
    /// The command that writes the file again.
    pub command: String,
}

/// One recorded exchange.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Requests sent first; each succeeds.
    pub setup: Vec<String>,
    /// What no request can make, made in the server's root after `setup`: see
    /// [`crate::script::Made`]. The given vectors have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host: Vec<String>,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The integer that the first reply line begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// All bytes of the reply, one code point per byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// A regular expression that matches all of the reply, one code point per byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// Whether the server closes the connection after it.
    pub eof: bool,
}

/// How a connection authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Every implementation answers so.
    Must,
    /// A sensible different answer is tolerable.
    Should,
    /// An accident of the reference.
    Quirk,
}

impl Vector {
    /// Makes a vector for a server with these `options`, to be sent by the login `unix` after nothing;
    /// what is expected is not known yet.
    #[must_use]
    pub fn new(name: String, options: &str, send: String) -> Self {
        let bytes: Vec<u8> = send
            .chars()
            .map(|c| u8::try_from(c).unwrap_or(b'?'))
            .collect();
        Self {
            name,
            server: options.to_owned(),
            auth: Login::Unix,
            setup_auth: Login::Unix,
            setup: Vec::new(),
            host: Vec::new(),
            send_b64: BASE64_STANDARD.encode(bytes),
            send,
            expect: Expect {
                code: None,
                reply: Some(String::new()),
                regex: None,
                eof: false,
            },
            quiet: 0.25,
            level: Level::Must,
            note: String::new(),
        }
    }

    /// Reports whether it is a generated one, as the name tells.
    #[must_use]
    pub fn is_generated(&self) -> bool {
        self.name.contains('.')
    }

    /// Reports whether it is a generated one about the root itself, of which it sees, and may change, what was
    /// there before.
    #[must_use]
    pub fn is_about_root(&self) -> bool {
        const NAMES: [&str; 4] = ["root", "link-to-root", "only-dot", "only-dot-dot"];
        let path = self.name.rsplit(['.', '=']).next();
        self.is_generated() && path.is_some_and(|path| NAMES.contains(&path))
    }

    /// Returns the verb that a generated vector is about: what its name begins with, up to a dot.
    #[must_use]
    pub fn verb(&self) -> &str {
        verb(&self.name)
    }
}

fn verb(name: &str) -> &str {
    name.split_once('.').map_or(name, |(verb, _)| verb)
}

/// Returns every vector, the given ones and the generated ones, in the order of the files.
///
/// # Errors
///
/// Fails if a file is damaged: not JSON, unknown keys, texts that differ from their base64, names
/// that are not unique.
pub fn recorded() -> Result<Vec<Vector>> {
    let mut vectors = given()?;
    vectors.extend(generated()?);
    unique(&vectors)?;
    Ok(vectors)
}

/// Returns the vectors that came with the specification.
///
/// # Errors
///
/// As [`recorded`].
pub fn given() -> Result<Vec<Vector>> {
    parse_all(GIVEN.lines())
}

/// Returns the vectors that [`crate::record`] made.
///
/// # Errors
///
/// As [`recorded`].
pub fn generated() -> Result<Vec<Vector>> {
    parse_all(GENERATED.lines().skip(1))
}

/// Returns the generated vectors about one verb; the others are not even parsed.
///
/// # Errors
///
/// As [`recorded`].
pub fn generated_about(verb: &str) -> Result<Vec<Vector>> {
    parse_all(
        GENERATED
            .lines()
            .filter(|line| verb_of_line(line) == Some(verb)),
    )
}

/// Returns the verbs that generated vectors are about, each once, in the order of the file.
#[must_use]
pub fn generated_verbs() -> Vec<&'static str> {
    let mut verbs: Vec<&str> = GENERATED.lines().filter_map(verb_of_line).collect();
    verbs.dedup();
    verbs
}

fn verb_of_line(line: &str) -> Option<&str> {
    line.strip_prefix(NAME).map(verb)
}

/// Returns where the generated vectors come from.
///
/// # Errors
///
/// Fails if the file does not say it.
pub fn header() -> Result<Header> {
    let line = GENERATED
        .lines()
        .next()
        .context("recorded.jsonl is empty")?;
    serde_json::from_str(line).context("recorded.jsonl, line 1")
}

fn parse_all<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<Vector>> {
    let vectors: Result<Vec<Vector>> = lines
        .map(|line| {
            let shown: String = line.chars().take(60).collect();
            parse(line).with_context(|| format!("the vector {shown}…"))
        })
        .collect();
    vectors
}

fn unique(vectors: &[Vector]) -> Result<()> {
    let mut names = BTreeSet::new();
    for vector in vectors {
        ensure!(names.insert(&vector.name), "{} occurs twice", vector.name);
    }
    Ok(())
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
    fn all_vectors_are_read() {
        assert_eq!(given().unwrap().len(), 292);
        let generated = generated().unwrap().len();
        assert!(generated > 800, "only {generated}");
        assert_eq!(recorded().unwrap().len(), 292 + generated);
        let by_verb: usize = generated_verbs()
            .into_iter()
            .map(|verb| generated_about(verb).unwrap().len())
            .sum();
        assert_eq!(by_verb, generated);
    }

    #[test]
    fn the_generated_file_says_where_it_comes_from() {
        let header = header().unwrap();
        assert!(header.recorded_from.starts_with("chirp_server version"));
        assert!(header.command.ends_with("record"));
    }

    #[test]
    fn a_vector_is_read_as_it_was_written() {
        for vector in generated().unwrap() {
            let line = serde_json::to_string(&vector).unwrap();
            assert_eq!(parse(&line).unwrap(), vector);
        }
    }

    #[test]
    fn a_text_that_differs_from_its_base64_is_refused() {
        let line = GIVEN.lines().next().unwrap();
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
