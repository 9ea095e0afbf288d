//! Access control lists on disk (`chirp-protocol.md`, part 6): reading, evaluating, replacing.
//!
//! A list belongs to a directory *handle*: what is read here governs exactly the directory that an
//! operation then uses.

pub(crate) mod cache;
mod file;

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use chirp_proto::acl::Acl;

use crate::vfs::temporary::{Replace, Temporary};
use crate::vfs::{ACL_NAME, Dir, Journal};
use cache::Cache;

/// Locks that serialise changes; directories share them by chance.
const LOCKS: usize = 64;

/// The access control lists of the exported tree.
#[derive(Debug)]
pub struct Acls {
    cache: Cache<Acl>,
    default_file: Option<PathBuf>,
    locks: [Mutex<()>; LOCKS],
    hasher: RandomState,
}

impl Acls {
    /// Makes the store. `default_file` (`-A`) governs directories without a list of their own; it
    /// is looked at afresh for each use.
    #[must_use]
    pub fn new(default_file: Option<PathBuf>) -> Self {
        Self {
            cache: Cache::default(),
            default_file,
            locks: std::array::from_fn(|_| Mutex::new(())),
            hasher: RandomState::new(),
        }
    }

    /// Reports whether directories without a list are governed by a default one.
    #[must_use]
    pub const fn has_default(&self) -> bool {
        self.default_file.is_some()
    }

    /// Returns the list that governs a directory.
    ///
    /// # Errors
    ///
    /// `NOENT` if there is none, neither its own nor a default; `FBIG` for one above 1 MiB, `INVAL`
    /// for one that is no regular file; else the system's.
    pub fn effective(&self, dir: &Dir) -> Result<Arc<Acl>, Errno> {
        match self.own(dir) {
            Err(Errno::NOENT) => {
                let path = self.default_file.as_deref().ok_or(Errno::NOENT)?;
                file::read(file::open_host_file(path)?).map(Arc::new)
            }
            other => other,
        }
    }

    /// Returns the list in a directory itself.
    fn own(&self, dir: &Dir) -> Result<Arc<Acl>, Errno> {
        let stat = dir.stat(ACL_NAME)?;
        if let Some(acl) = self.cache.find(&stat) {
            return Ok(acl);
        }
        let file = file::open_in(dir)?;
        // The cache keeps what this descriptor says, which may be newer than the status above.
        let stat = rustix::fs::fstat(&file)?;
        let acl = Arc::new(file::read(file)?);
        self.cache.keep(&stat, &acl);
        Ok(acl)
    }

    /// Changes the list of a directory: `change` gets the effective list and returns the new one.
    /// Changes of one directory are made one after another, so none is lost, and readers see the
    /// old list or the new one.
    ///
    /// # Errors
    ///
    /// As [`Acls::effective`], and the system's of writing.
    pub fn change(
        &self,
        dir: &Dir,
        dir_path: &[u8],
        journal: &Arc<Journal>,
        change: impl FnOnce(&Acl) -> Acl,
    ) -> Result<(), Errno> {
        self.locked(dir, || {
            let acl = change(&*self.effective(dir)?);
            let temporary = Temporary::new(journal, dir, dir_path)?;
            file::write_new(dir, temporary.name(), &acl.to_text())?;
            temporary.install(ACL_NAME, Replace::Yes)
        })
    }

    /// Does something to a directory while its list does not change.
    ///
    /// # Errors
    ///
    /// Those of the action, and of looking at the directory.
    pub fn locked<T>(
        &self,
        dir: &Dir,
        action: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let stat = rustix::fs::fstat(dir)?;
        let hash = self.hasher.hash_one((stat.st_dev, stat.st_ino));
        let index = usize::try_from(hash % LOCKS as u64).unwrap_or(0);
        let lock = self.locks.get(index).or_else(|| self.locks.first());
        let _held = lock.map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner));
        action()
    }

    /// Writes the first list of an exported directory that has none, and no default (part 6.4).
    /// Returns whether it did.
    ///
    /// # Errors
    ///
    /// The system's. A list that is there is never touched, whatever is in it.
    pub fn initialise(&self, root: &Dir, text: &[u8]) -> Result<bool, Errno> {
        if self.has_default() {
            return Ok(false);
        }
        match file::write_new(root, ACL_NAME, text) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

/// Writes the list of a directory that nobody else sees yet.
///
/// # Errors
///
/// The system's: `EXIST` if it has one.
pub fn write_first(dir: &Dir, acl: &Acl) -> Result<(), Errno> {
    file::write_new(dir, ACL_NAME, &acl.to_text())
}

/// Checks at start that a default list can be read.
///
/// # Errors
///
/// As [`Acls::effective`].
pub fn check_default(path: &Path) -> Result<(), Errno> {
    file::read(file::open_host_file(path)?).map(drop)
}
