//! What the commands of `chirp` do, by concern. The words were counted before.

pub(super) mod directories;
pub(super) mod files;
pub(super) mod jobs;
pub(super) mod local;
pub(super) mod matrices;
pub(super) mod metadata;
pub(super) mod rights;
pub(super) mod search;
pub(super) mod servers;
pub(super) mod space;
pub(super) mod tickets;

use crate::compat::trouble::Trouble;
use crate::output;

/// Writes text and a line end to stdout.
fn line(text: &[u8]) -> Result<(), Trouble> {
    Ok(output::write(&[text, b"\n"].concat())?)
}

/// Writes what a server made up, and a line end: on a terminal without control characters.
fn foreign(text: &[u8]) -> Result<(), Trouble> {
    line(&output::name(text))
}
