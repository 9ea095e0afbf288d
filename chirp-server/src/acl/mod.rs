//! Access control lists on disk (`chirp-protocol.md`, part 6): reading, evaluating, replacing.
//!
//! A list belongs to a directory *handle*: what is read here governs exactly the directory that an
//! operation then uses.

pub(crate) mod cache;
pub(crate) mod file;
pub mod groups;

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::Stat;
use rustix::io::Errno;

use chirp_proto::acl::{Acl, Rights};

use crate::guard::Guard;
use crate::vfs::temporary::{Replace, Temporary};
use crate::vfs::{ACL_NAME, Dir, Journal};
use cache::Cache;
use groups::{Group, Groups};

/// Locks that serialise changes; directories share them by chance.
const LOCKS: usize = 64;

/// The access control lists of the exported tree.
#[derive(Debug)]
pub struct Acls {
    cache: Cache<Acl>,
    /// The lists that the log has had a word about.
    complaints: Cache<()>,
    default_file: Option<PathBuf>,
    inherit: bool,
    root: Dir,
    groups: Arc<Groups>,
    guard: Arc<Guard>,
    locks: Arc<Locks>,
}

/// What serialises the changes of lists.
#[derive(Debug)]
pub(crate) struct Locks {
    locks: [Mutex<()>; LOCKS],
    hasher: RandomState,
}

impl Default for Locks {
    fn default() -> Self {
        Self {
            locks: std::array::from_fn(|_| Mutex::new(())),
            hasher: RandomState::new(),
        }
    }
}

impl Locks {
    /// Does something to a directory while its list does not change.
    ///
    /// # Errors
    ///
    /// Those of the action, and of looking at the directory.
    pub(crate) fn held<T>(
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
}

impl Acls {
    /// Makes the store of the tree below `root`. Directories without a list of their own are governed
    /// with `inherit` by that of the nearest directory above them, else by `default_file` (`-A`), which
    /// is looked at afresh for each use.
    #[must_use]
    pub(crate) fn new(
        root: Dir,
        default_file: Option<PathBuf>,
        inherit: bool,
        groups: Arc<Groups>,
        guard: Arc<Guard>,
        locks: Arc<Locks>,
    ) -> Self {
        Self {
            cache: Cache::default(),
            complaints: Cache::default(),
            default_file,
            inherit,
            root,
            groups,
            guard,
            locks,
        }
    }

    /// Reports whether directories without a list are governed by another one.
    #[must_use]
    pub const fn has_default(&self) -> bool {
        self.inherit || self.default_file.is_some()
    }

    /// Returns the groups that lists may name.
    #[must_use]
    pub const fn groups(&self) -> &Arc<Groups> {
        &self.groups
    }

    /// Returns what a list gives a subject for certain, and the name of a group that has to be fetched
    /// to know whether it gives more.
    pub(crate) fn rights(&self, acl: &Acl, subject: &str) -> (Rights, Option<Arc<[u8]>>) {
        let mut unknown = None;
        let rights = acl.rights_with_groups(subject, |group| {
            Ok::<_, Infallible>(match self.groups.look(group, subject.as_bytes()) {
                Group::Member => true,
                Group::Stranger => false,
                Group::Unknown => {
                    unknown.get_or_insert_with(|| Arc::from(group));
                    false
                }
            })
        });
        match rights {
            Ok(rights) => (rights, unknown),
            Err(never) => match never {},
        }
    }

    /// Returns the list that governs a directory.
    ///
    /// # Errors
    ///
    /// `NOENT` if there is none, neither its own nor a default; `FBIG` for one above 1 MiB, `INVAL`
    /// for one that is no regular file; else the system's.
    pub fn effective(&self, dir: &Dir) -> Result<Arc<Acl>, Errno> {
        match self.own(dir) {
            Err(Errno::NOENT) => self.above(dir),
            other => other,
        }
    }

    /// Returns the list that governs what is in a directory, is none itself, and asks for one: the
    /// inherited one, or that of `-A`.
    ///
    /// # Errors
    ///
    /// As [`Acls::effective`].
    pub(crate) fn of_others_in(&self, dir: &Dir) -> Result<Arc<Acl>, Errno> {
        if self.inherit {
            return self.effective(dir);
        }
        self.above(dir)
    }

    /// Returns the list of a directory that has none itself.
    fn above(&self, dir: &Dir) -> Result<Arc<Acl>, Errno> {
        if self.inherit {
            let identity =
                |dir: &Dir| rustix::fs::fstat(dir).map(|stat| (stat.st_dev, stat.st_ino));
            let root = identity(&self.root)?;
            let mut dir = dir.clone();
            let mut here = identity(&dir)?;
            // Up by the handles of the directories themselves, as they stand now, and never above the
            // exported one.
            while here != root {
                dir = dir.parent()?;
                let above = identity(&dir)?;
                if above == here {
                    return Err(Errno::NOENT);
                }
                here = above;
                match self.own(&dir) {
                    Err(Errno::NOENT) => {}
                    other => return other,
                }
            }
        }
        let path = self.default_file.as_deref().ok_or(Errno::NOENT)?;
        file::read(file::open_host_file(path)?).map(Arc::new)
    }

    /// Returns the list of a directory itself: where programs run the one on record, else what it has.
    fn own(&self, dir: &Dir) -> Result<Arc<Acl>, Errno> {
        loop {
            let begun = self.guard.begun();
            if let Some(list) = self.guard.kept(dir)? {
                return list.acl();
            }
            let own = self.own_in_tree(dir);
            // A program may have been let in meanwhile.
            if self.guard.begun() == begun {
                return own;
            }
        }
    }

    /// Returns what a directory has as its list.
    fn own_in_tree(&self, dir: &Dir) -> Result<Arc<Acl>, Errno> {
        let stat = dir.stat(ACL_NAME)?;
        if let Some(acl) = self.cache.find(&stat) {
            return Ok(acl);
        }
        let read = || {
            let file = file::open_in(dir)?;
            // The cache keeps what this descriptor says, which may be newer than the status above.
            let stat = rustix::fs::fstat(&file)?;
            Ok((stat, file::read_text(file)?))
        };
        let (stat, text) = match read() {
            Ok(read) => read,
            Err(errno) => {
                if matches!(errno, Errno::INVAL | Errno::FBIG) {
                    self.complain(dir, &stat, || {
                        format!("it is no regular file of up to 1 MiB ({errno})")
                    });
                }
                return Err(errno);
            }
        };
        if let Some(first) = Acl::misfits(&text).next() {
            self.complain(dir, &stat, || {
                let count = Acl::misfits(&text).count();
                format!("{count} of its lines say nothing, first line {first}; they grant no right")
            });
        }
        let acl = Arc::new(Acl::parse(&text));
        self.cache.keep(&stat, &acl);
        Ok(acl)
    }

    /// Says in the log what is wrong with a list, once for each state of it.
    fn complain(&self, dir: &Dir, stat: &Stat, what: impl FnOnce() -> String) {
        if !self.complaints.remark(stat, &Arc::new(())) {
            return;
        }
        let link = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
        let place = rustix::fs::readlink(link, Vec::new());
        let place = place.map_or_else(
            |_| "?".to_owned(),
            // A name may hold anything, and a line of the log is one line.
            |path| path.as_bytes().escape_ascii().to_string(),
        );
        tracing::warn!(file = %format!("{place}/.__acl"), "access control list: {}", what());
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
            let text = change(&*self.effective(dir)?).to_text();
            let temporary = Temporary::new(journal, dir, dir_path)?;
            file::write_new(dir, temporary.name(), &text)?;
            self.guard.writing(dir, &text, || {
                self.guard.clear_way(dir)?;
                temporary.install(ACL_NAME, Replace::Yes)
            })
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
        self.locks.held(dir, action)
    }

    /// Returns what serialises changes, for one that is finished without the store.
    pub(crate) const fn locks(&self) -> &Arc<Locks> {
        &self.locks
    }

    /// Returns what keeps the lists from programs.
    pub(crate) const fn guard(&self) -> &Arc<Guard> {
        &self.guard
    }

    /// Writes the first list of an exported directory that has none, and no default (part 6.4).
    /// Returns whether it did.
    ///
    /// # Errors
    ///
    /// The system's. A list that is there is never touched, whatever is in it.
    pub fn initialise(&self, root: &Dir, text: &[u8]) -> Result<bool, Errno> {
        if self.default_file.is_some() {
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
pub fn write_first(dir: &Dir, text: &[u8]) -> Result<(), Errno> {
    file::write_new(dir, ACL_NAME, text)
}

/// Checks at start that a default list can be read.
///
/// # Errors
///
/// As [`Acls::effective`].
pub fn check_default(path: &Path) -> Result<(), Errno> {
    file::read(file::open_host_file(path)?).map(drop)
}
