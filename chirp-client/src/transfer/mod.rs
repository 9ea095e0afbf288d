//! Copies of files and whole trees between this machine and a server.
//!
//! Contents, modes, times of modification, symbolic links inside a tree, hard links within it, empty
//! directories, dot files and holes arrive as they were. Owners do not. The named source itself is
//! followed if it is a link. Small files are many at a time: several connections are opened, and
//! each has many requests in flight.
//!
//! A file gets its name only when it is whole. What is received is written beside, under a temporary
//! name, and renamed. Nothing is written outside the target or through a symbolic link in it,
//! whatever names the server sends: every step is relative to a directory handle and follows no
//! link. What is sent to our server is put into place by the server; to another one it goes under a
//! temporary name and is renamed, or, where the rights do not allow that, under its own name at once,
//! which [`Summary::direct`] counts.
//!
//! | module | content |
//! |---|---|
//! | `put`, `send`, `pieces` | sending: the walk, the connections' work, files in pieces |
//! | `get`, `receive` | receiving: the walk, the connections' work |
//! | `local` | the tree that is received into |
//! | `facts`, `compare`, `digest` | what is known of an entry, and whether two are the same |
//! | `firsts` | files with several names |
//! | `space` | whether a tree fits, before its first byte goes |
//! | `job`, `tally`, `worker` | what belongs to one running transfer |
//! | `threads` | local work on threads that may block |
//! | `place`, `source` | what target names mean; local files with a length that holds |

mod compare;
mod digest;
mod facts;
mod finish;
mod firsts;
mod get;
mod job;
mod local;
mod pieces;
mod place;
mod put;
mod receive;
mod send;
mod source;
mod space;
mod tally;
mod threads;
mod worker;

use std::fmt;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use get::get;
pub use put::{put, put_file};
pub use threads::settled;

use crate::Error;

/// How a transfer is made.
#[derive(Clone)]
pub struct TransferOptions {
    /// Connections that move contents at once, at least 1. They are opened when there is work for
    /// them, besides the one of the [`crate::Client`].
    pub connections: usize,
    /// What the target's name means.
    pub placement: Placement,
    /// Whether copies get the modes and times of their originals. Otherwise they have what new files
    /// have: here what the umask leaves of the mode, on a server its execute bit. What is replaced on
    /// a server keeps its own, so on one other than ours it is written in place.
    pub preserve: bool,
    /// What is done with files that are there already.
    pub existing: Existing,
    /// Whether a large file whose copy is interrupted leaves what came of it, under a name that
    /// begins with `.chirp-part.`, and whether such a part is continued. Needs
    /// [`Existing::Update`] or [`Existing::Compare`] to be of use for trees.
    pub resume: bool,
    /// Whether the digests of every copy and its original are compared: SHA-256, or MD5 where the
    /// server has no more. What is skipped because it is there already is compared too.
    pub verify: bool,
    /// Whether entries of target directories that the source does not have are removed, at the end,
    /// and entries of another type are replaced.
    pub delete: bool,
    /// Whether nothing is changed anywhere: [`TransferOptions::events`] says what would be.
    pub dry_run: bool,
    /// Whether the copy is begun although there seems to be too little space for it.
    pub ignore_space: bool,
    /// Whether all files of the transfer are on disk at its end, and not only in a cache: received
    /// ones before they get their names, sent ones and those that were there already afterwards.
    pub fsync: bool,
    /// Called after every step with what is done so far: it must not block.
    pub progress: Option<Arc<dyn Fn(Summary) + Send + Sync>>,
    /// Called for every change, before it is made or where it is only said: it must not block.
    pub events: Option<Events>,
    /// Ends the transfer with [`Error::Cancelled`], after removing what is unfinished on both sides.
    pub cancel: CancellationToken,
}

impl Default for TransferOptions {
    fn default() -> Self {
        Self {
            connections: 4,
            placement: Placement::default(),
            preserve: true,
            existing: Existing::default(),
            resume: false,
            verify: false,
            delete: false,
            dry_run: false,
            ignore_space: false,
            fsync: false,
            progress: None,
            events: None,
            cancel: CancellationToken::new(),
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

/// What is done with a file that is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It is copied over.
    #[default]
    Replace,
    /// It is left if size and time of modification, in seconds, are those of the original; if only
    /// the size is, and the digests are the same, it gets the original's time.
    Update,
    /// It is left if size and digest are those of the original, whatever the times are.
    Compare,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Regular files.
    pub files: u64,
    /// Directories, also those that were there already.
    pub directories: u64,
    /// Symbolic links, and further names of files.
    pub links: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Files and links that were there already.
    pub skipped: u64,
    /// Entries that were removed because the source does not have them.
    pub deleted: u64,
    /// Files that stood under their names before they were whole: the server is another one than
    /// ours, and the rights in the directory do not allow to rename.
    pub direct: u64,
    /// Modes and times that the rights did not allow to set.
    pub unset: u64,
    /// All regular files of the source, as far as is known: 0 before they are counted.
    pub total_files: u64,
    /// All their bytes, likewise.
    pub total_bytes: u64,
}

/// A change that is made, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// What is done.
    pub action: Action,
    /// The entry at the target, printable, without the host.
    pub path: &'a str,
    /// Bytes of content, where there are any.
    pub bytes: u64,
}

/// Is called for every change.
pub type Events = Arc<dyn Fn(Event<'_>) + Send + Sync>;

/// What is done with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// A file is copied.
    Copy,
    /// A file of equal size and unequal time is compared, and copied if it differs.
    Compare,
    /// A directory is made.
    Directory,
    /// A symbolic link is made.
    Symlink,
    /// A file gets a further name.
    Link,
    /// Mode or time is changed, and nothing else.
    Attributes,
    /// An entry is removed.
    Delete,
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
