//! How much clients may write: free space that is left alone (`-F`), and allocations (`-Q`,
//! `chirp-protocol.md`, part 8).
//!
//! Off, none of this costs anything: [`Space`] is empty, and every function here does the plain
//! operation and nothing else.
//!
//! With `-Q` the figures of all allocations are in memory (`book`). They are counted at the start
//! by going through the tree, so that neither a kill nor what programs did to the tree meanwhile
//! matters; where programs run for clients, they are counted again at most half a minute later. From then on each change of a name and its change of the figures are one step, under one
//! lock; and what a write may need is charged before it and corrected by the file's true size after
//! it (`growth`), so that no number of clients together gets more than there is.
//!
//! A file costs its size rounded up to 4096 and costs nothing while its name begins with `.__`;
//! directories and links are free; an allocation costs its size where it was made. A removed file
//! that a descriptor holds open takes its space until that is closed.
//!
//! The files `.__alloc` are the reference's, so either server takes over a tree from the other. In
//! them the figures are those of a start, a clean stop, or of at most half a minute ago.
//!
//! | module | content |
//! |---|---|
//! | `book` | the figures |
//! | `count`, `walk` | counting a tree |
//! | [`disk`] | the file `.__alloc` |
//! | `growth` | open files that grow |
//! | `reservation` | uploads |
//! | `names` | removing and moving |
//! | `allocate` | `mkalloc` and `lsalloc` |
//! | `recount` | counting the tree while it is served |
//! | `upkeep` | when that is done, and when the figures are saved |

mod allocate;
mod book;
mod count;
pub mod disk;
mod growth;
mod names;
mod recount;
mod reservation;
mod upkeep;
mod walk;

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::vfs::{Dir, Root};
use book::{Allocation, Book, Id};

pub use growth::{Held, Promise};
pub use reservation::Reservation;
pub use upkeep::upkeep;

/// The name of an allocation's file.
pub(crate) const STATE_NAME: &[u8] = disk::NAME;

/// How often directories that move while the tree is counted make it count again.
const COUNTS_MAX: usize = 8;

/// The limits on space; empty where there are none.
#[derive(Clone, Debug, Default)]
pub struct Space(Option<Arc<Limits>>);

#[derive(Debug)]
struct Limits {
    root: Dir,
    /// Bytes of the file system that stay free.
    keep_free: u64,
    book: Option<Mutex<Book>>,
    /// Nothing in the tree is written, not even by the server.
    read_only: bool,
    /// Others than this server may have changed the tree since it was counted.
    changed_outside: AtomicBool,
}

/// An allocation as `lsalloc` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The virtual path of its top directory.
    pub path: Vec<u8>,
    /// Bytes it has.
    pub size: u64,
    /// Bytes in use.
    pub used: u64,
}

impl Space {
    /// Sets the limits, and counts the tree if it is limited.
    ///
    /// # Errors
    ///
    /// The system's, of reading the tree.
    pub fn open(
        root: &Root,
        keep_free: u64,
        quota: Option<u64>,
        read_only: bool,
    ) -> Result<Self, Errno> {
        if keep_free == 0 && quota.is_none() {
            return Ok(Self::default());
        }
        let book = quota.map(|size| counted(root.dir(), size)).transpose()?;
        let space = Self(Some(Arc::new(Limits {
            root: root.dir().clone(),
            keep_free,
            book: book.map(Mutex::new),
            read_only,
            changed_outside: AtomicBool::new(false),
        })));
        space.save();
        Ok(space)
    }

    /// Checks that so many bytes more leave enough free in the file system.
    ///
    /// # Errors
    ///
    /// `NOSPC`.
    pub fn room(&self, bytes: u64) -> Result<(), Errno> {
        match &self.0 {
            Some(limits) => limits.room(bytes),
            None => Ok(()),
        }
    }

    /// Reports whether there are allocations.
    #[must_use]
    pub fn has_allocations(&self) -> bool {
        self.limited().is_some()
    }

    /// Writes the figures that changed into the files of their allocations. They are for the next
    /// server, which counts again anyway, so one that cannot be written is only worth a warning.
    pub fn save(&self) {
        let Some((limits, book)) = self.limited().filter(|(limits, _)| !limits.read_only) else {
            return;
        };
        let changed: Vec<(Id, Allocation)> = lock(book)
            .allocations
            .iter()
            .filter(|(_, it)| it.on_disk.is_some_and(|there| there != (it.size, it.used)))
            .map(|(id, it)| (*id, it.clone()))
            .collect();
        for (id, allocation) in changed {
            match save_one(&limits.root, id, &allocation) {
                Ok(()) => {
                    if let Some(it) = lock(book).allocations.get_mut(&id) {
                        it.on_disk = Some((allocation.size, allocation.used));
                    }
                }
                Err(errno) => tracing::warn!(
                    directory = %allocation.path.escape_ascii(),
                    %errno,
                    "cannot write the file .__alloc there"
                ),
            }
        }
    }

    /// Returns the limits if there are allocations, and their figures.
    fn limited(&self) -> Option<(&Arc<Limits>, &Mutex<Book>)> {
        let limits = self.0.as_ref()?;
        Some((limits, limits.book.as_ref()?))
    }
}

impl Limits {
    fn room(&self, bytes: u64) -> Result<(), Errno> {
        if self.keep_free == 0 {
            return Ok(());
        }
        let stat = rustix::fs::fstatfs(&self.root)?;
        let block = u64::try_from(stat.f_bsize).unwrap_or(0);
        let free = stat.f_bavail.saturating_mul(block);
        if free > self.keep_free.saturating_add(bytes) {
            Ok(())
        } else {
            Err(Errno::NOSPC)
        }
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts the tree.
fn counted(root: &Dir, size: u64) -> Result<Book, Errno> {
    let begun = Instant::now();
    let mut counts = 0;
    let counted = loop {
        match count::count(root, size, HashSet::new()) {
            Err(Errno::STALE) if counts < COUNTS_MAX => counts += 1,
            other => break other?,
        }
    };
    tracing::info!(
        allocations = counted.allocations.len(),
        files = counted.files,
        directories = counted.directories,
        seconds = begun.elapsed().as_secs_f64(),
        "counted what the tree takes"
    );
    Ok(Book {
        top: counted.top,
        allocations: counted.allocations,
        files: HashMap::new(),
        shelved: HashMap::new(),
        uploads: 0,
        doubtful: false,
        changes: 0,
    })
}

/// Writes the figures of one allocation, if its directory is still where it was.
fn save_one(root: &Dir, id: Id, allocation: &Allocation) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir = rustix::fs::openat(root, c".", flags, Mode::empty())?;
    let names = allocation.path.split(|&byte| byte == b'/');
    for name in names.filter(|name| !name.is_empty()) {
        dir = rustix::fs::openat(&dir, name, flags, Mode::empty())?;
    }
    if identity(&dir)? != id {
        return Err(Errno::NOENT);
    }
    disk::write(&dir, allocation.size, allocation.used)
}

/// Returns what identifies an open file or directory.
fn identity(file: impl AsFd) -> Result<Id, Errno> {
    Ok(book::id(&rustix::fs::fstat(file)?))
}
