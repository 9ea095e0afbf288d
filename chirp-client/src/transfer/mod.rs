//! Copies of files and whole trees between this machine and a server.
//!
//! Contents, the execute bits of modes, symbolic links inside a tree, empty directories and dot
//! files arrive as they were. Owners, times, hard links and sparse blocks do not. The named source
//! itself is followed if it is a link. Small files are many at a time: several connections are
//! opened, and `get` has many requests in flight on each.
//!
//! A received file gets its name only when it is whole: it is written beside, under a temporary
//! name, and renamed. Nothing is written outside the target or through a symbolic link in it,
//! whatever names the server sends: every step is relative to a directory handle and follows no
//! link. A sent file is stored by the server; ours replaces the old one only when the new one is
//! whole, the reference's truncates the old one first.

mod get;
mod local;
mod place;
mod put;
mod source;
mod tally;
mod worker;

use std::fmt;
use std::sync::Arc;

pub use get::get;
pub use put::{put, put_file};

use crate::Error;

/// How a transfer is made.
#[derive(Clone)]
pub struct TransferOptions {
    /// Connections that move contents at once, at least 1. They are opened when there is work for
    /// them, besides the one of the [`crate::Client`].
    pub connections: usize,
    /// What the target's name means.
    pub placement: Placement,
    /// Called after every step with what is done so far, from the task that makes the transfer: it
    /// must not block.
    pub progress: Option<Arc<dyn Fn(Summary) + Send + Sync>>,
}

impl Default for TransferOptions {
    fn default() -> Self {
        Self {
            connections: 4,
            placement: Placement::default(),
            progress: None,
        }
    }
}

/// What the name of a target means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// As `cp -r` has it: in a target that is an existing directory, the source's name is made;
    /// any other target is the new name itself. A local source that ends in `/.` means its content;
    /// a [`crate::VirtualPath`] cannot say that, so take [`Placement::Exact`] for it.
    #[default]
    Cp,
    /// The target is the new name, or the directory that the source's content joins.
    Exact,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Regular files.
    pub files: u64,
    /// Directories, also those that were there already.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// An entry that was not copied.
#[derive(Debug)]
pub struct Failure {
    /// The entry, as the messages of the side it comes from name it.
    pub path: String,
    /// Why.
    pub error: Error,
}

/// A tree that was copied but for some entries.
#[derive(Debug)]
pub struct Incomplete {
    /// What was copied.
    pub copied: Summary,
    /// The first thousand entries that were not.
    pub failures: Vec<Failure>,
    /// How many were not.
    pub failed: u64,
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = if self.failed == 1 { "entry" } else { "entries" };
        write!(f, "{} {entries} not copied", self.failed)?;
        if let Some(first) = self.failures.first() {
            write!(f, "; the first: {}: {}", first.path, first.error)?;
        }
        Ok(())
    }
}

impl std::error::Error for Incomplete {}
