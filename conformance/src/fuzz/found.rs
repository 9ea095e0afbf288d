//! `vectors/found.jsonl`: differences that the fuzzer has found and that were mended, played in each run.
//!
//! A line is a JSON object: `name`; `server`, the options of both servers; `script`, for each step `send`,
//! as [`super::text`] has it, and `reply`, what the reference answers, normalised as [`super::normalise`]
//! does; and `note`, what was wrong. Both servers must answer so, or as `fuzz.toml` accepts, and leave
//! the same tree.

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::accepted::Accepted;
use super::campaign::{self, Difference, Pair};
use super::{Step, text};
use crate::vector::latin1;

const FOUND: &str = include_str!("../../vectors/found.jsonl");

/// A script that once showed a difference.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Its unique name.
    pub name: String,
    /// Options of the servers, separated by blanks.
    pub server: String,
    script: Vec<Line>,
    /// What was wrong.
    pub note: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    send: String,
    reply: String,
}

impl Found {
    /// Reads a line of the file.
    ///
    /// # Errors
    ///
    /// Fails on a line that is no such object.
    pub fn parse(line: &str) -> Result<Self> {
        Ok(serde_json::from_str(line)?)
    }

    /// Reads all lines of the file.
    ///
    /// # Errors
    ///
    /// Fails on a line that is no such object.
    pub fn all() -> Result<Vec<Self>> {
        let lines = FOUND.lines().enumerate();
        lines
            .map(|(at, line)| {
                Self::parse(line).with_context(|| format!("found.jsonl, line {}", at + 1))
            })
            .collect()
    }

    /// Returns the requests of the script.
    ///
    /// # Errors
    ///
    /// Fails on one that is none.
    pub fn steps(&self) -> Result<Vec<Step>> {
        let steps = self.script.iter();
        steps.map(|line| text::read(&line.send)).collect()
    }

    /// Plays the script on the reference and on another server.
    ///
    /// # Errors
    ///
    /// Says how they differ, or that the reference does not answer as it did.
    pub fn play(&self, pair: Pair<'_>, accepted: &Accepted) -> Result<()> {
        let played = campaign::play(pair, &self.steps()?, accepted)?;
        for (line, [reply, _]) in self.script.iter().zip(&played.replies) {
            ensure!(
                latin1(&line.reply)? == *reply,
                "{}: the reference answers \"{}\" to {:?}, and not {:?}: nothing is shown",
                self.name,
                reply.escape_ascii(),
                line.send,
                line.reply
            );
        }
        match played.difference {
            None => {}
            Some(Difference::Replies(left, right)) => bail!(
                "{}: {}\n  reference \"{}\"\n  ours      \"{}\"",
                self.name,
                self.note,
                left.escape_ascii(),
                right.escape_ascii()
            ),
            Some(Difference::Tree(path, sides)) => {
                bail!(
                    "{}: {}\n  the trees differ at {path}: {sides:?}",
                    self.name,
                    self.note
                )
            }
        }
        ensure!(
            played.replies.len() == self.script.len(),
            "{}: an accepted difference ends the script before its end",
            self.name
        );
        Ok(())
    }
}
