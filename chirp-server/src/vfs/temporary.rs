//! A file or directory under construction, next to where it will stand.
//!
//! It has a reserved, unguessable name, and an entry in the [`Journal`] from before it exists until
//! it is gone or has its final name; so a server that is killed leaves nothing for good.

use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, RenameFlags, Stat};
use rustix::io::Errno;

use super::journal::{Entry, Journal};
use super::{Dir, tree};
use crate::space::Space;

/// The prefix of temporary names; recovery removes these and sandboxes of jobs, nothing else.
pub(super) const PREFIX: &[u8] = b".__put.";

/// The prefix of the sandboxes of jobs, which are temporary too.
pub(crate) const JOB_PREFIX: &[u8] = b".__job.";

/// Reports whether a name is that of something that is under construction or of a job's sandbox.
pub(crate) fn is_temporary(name: &[u8]) -> bool {
    name.starts_with(PREFIX) || name.starts_with(JOB_PREFIX)
}

/// A temporary name in a directory. Dropping it removes what has the name.
#[derive(Debug)]
pub struct Temporary {
    dir: Dir,
    name: Vec<u8>,
    journal: Arc<Journal>,
    entry: Option<Entry>,
}

/// What may have the final name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// Whatever rename(2) replaces.
    Yes,
    /// Nothing: `EXIST` otherwise.
    No,
}

impl Temporary {
    /// Reserves a name in `dir`, whose link-free path below the root is `dir_path`. Nothing has the
    /// name yet.
    ///
    /// # Errors
    ///
    /// The system's, from the journal or the random generator.
    pub fn new(journal: &Arc<Journal>, dir: &Dir, dir_path: &[u8]) -> Result<Self, Errno> {
        Self::named(journal, dir, dir_path, random_name()?)
    }

    /// Reserves this name, which must begin as recovery knows it and be unguessable.
    ///
    /// # Errors
    ///
    /// The system's, from the journal.
    pub(crate) fn named(
        journal: &Arc<Journal>,
        dir: &Dir,
        dir_path: &[u8],
        name: Vec<u8>,
    ) -> Result<Self, Errno> {
        let entry = journal.begin(dir_path, &name)?;
        Ok(Self {
            dir: dir.clone(),
            name,
            journal: Arc::clone(journal),
            entry: Some(entry),
        })
    }

    /// Returns the directory.
    #[must_use]
    pub const fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Returns the temporary name.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Opens what has the temporary name, a directory.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn open_directory(&self) -> Result<Dir, Errno> {
        self.dir.child(&self.name)
    }

    /// Gives what was built its final name in the same directory.
    ///
    /// # Errors
    ///
    /// The system's: `EXIST` with [`Replace::No`], `ISDIR`, `NOTEMPTY`. What was built is removed.
    pub fn install(mut self, name: &[u8], replace: Replace) -> Result<(), Errno> {
        match replace {
            Replace::Yes => {
                rustix::fs::renameat(&self.dir, self.name.as_slice(), &self.dir, name)?;
            }
            Replace::No => self.rename_without_replacing(name)?,
        }
        self.end();
        Ok(())
    }

    /// Takes the place of the file that has the final name, and removes that.
    ///
    /// The two are exchanged, and the old file goes under the temporary name. A plain rename over
    /// it would do the same; but ext4 writes a file's blocks to disk before it lets it replace
    /// another, which costs milliseconds where this costs microseconds, and what survives the loss
    /// of power is `fsync`'s affair.
    ///
    /// # Errors
    ///
    /// The system's; `ISDIR` if a directory has the name by now. What was built is then removed.
    pub(super) fn take_place(mut self, name: &[u8]) -> Result<(), Errno> {
        let exchange = |temporary: &Self| {
            let (dir, own) = (&temporary.dir, temporary.name.as_slice());
            rustix::fs::renameat_with(dir, own, dir, name, RenameFlags::EXCHANGE)
        };
        match exchange(&self) {
            Ok(()) => {}
            // Nothing has the name any more, or the file system cannot exchange.
            Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS) => {
                return self.install(name, Replace::Yes);
            }
            Err(errno) => return Err(errno),
        }
        let is_directory =
            |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if self.dir.stat(&self.name).is_ok_and(is_directory) {
            // A directory took the name after it was looked at: it gets it back.
            if let Err(errno) = exchange(&self) {
                tracing::error!(name = %self.name.escape_ascii(), "a directory now has this name");
                self.end();
                return Err(errno);
            }
            return Err(Errno::ISDIR);
        }
        // Dropping this removes the old file.
        Ok(())
    }

    /// Moves what has the temporary name into another directory. A name that nothing has yet is
    /// given up.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(crate) fn move_to(mut self, dir: &Dir, name: &[u8]) -> Result<(), Errno> {
        match rustix::fs::renameat(&self.dir, self.name.as_slice(), dir, name) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        self.end();
        Ok(())
    }

    fn rename_without_replacing(&self, name: &[u8]) -> Result<(), Errno> {
        let from = self.name.as_slice();
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&self.dir, from, &self.dir, name, flags) {
            Err(Errno::INVAL | Errno::NOSYS) => {}
            other => return other,
        }
        // A file system without the flag. Linking does not replace either; directories cannot be
        // linked, but an empty one of the final name, which mkdir makes only if none is there, is
        // replaced whole by rename.
        match rustix::fs::linkat(&self.dir, from, &self.dir, name, AtFlags::empty()) {
            Ok(()) => self.dir.unlink_if_there(from),
            Err(Errno::PERM) => {
                rustix::fs::mkdirat(&self.dir, name, rustix::fs::Mode::RWXU)?;
                rustix::fs::renameat(&self.dir, from, &self.dir, name)
            }
            Err(errno) => Err(errno),
        }
    }

    fn end(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.journal.end(entry);
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.entry.is_none() {
            return;
        }
        match remove(&self.dir, &self.name) {
            Ok(()) => self.end(),
            // The journal keeps the entry, and the next start tries again.
            Err(errno) => tracing::warn!(
                name = %self.name.escape_ascii(),
                %errno,
                "cannot remove an unfinished file"
            ),
        }
    }
}

/// Removes what has a temporary name, if anything has.
///
/// # Errors
///
/// The system's.
pub(super) fn remove(dir: &Dir, name: &[u8]) -> Result<(), Errno> {
    match dir.unlink_if_there(name) {
        // Only what is complete is in the figures of allocations.
        Err(Errno::ISDIR) => tree::remove(dir, name, &Space::default()),
        other => other,
    }
}

/// Returns a name that nobody can guess: 128 random bits.
fn random_name() -> Result<Vec<u8>, Errno> {
    let random = crate::random::hex::<16>().map_err(|_| Errno::IO)?;
    Ok([PREFIX, random.as_bytes()].concat())
}
