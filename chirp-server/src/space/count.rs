//! Counting what a tree takes: the whole one at a start, a directory that is moved.

use std::collections::{HashMap, HashSet};
use std::os::fd::BorrowedFd;

use rustix::fs::Stat;
use rustix::io::Errno;

use super::book::{Allocation, Book, Id, cost_of, id};
use super::disk;
use super::walk::{Place, Visitor, walk};
use crate::vfs::Dir;

/// Files and directories of the largest directory that is moved from one allocation to another:
/// all others wait while it is counted, a few milliseconds.
const MOVED_MAX: usize = 1000;

/// What a whole tree takes.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) top: Id,
    pub(super) allocations: HashMap<Id, Allocation>,
    pub(super) files: u64,
    pub(super) directories: u64,
    /// Files of several names that were met; each counts once, where it was met first.
    linked: HashSet<Id>,
    /// Files that are looked for, as they are open.
    pub(super) open: HashSet<Id>,
    /// Those of them that were met, the allocation of each, and what it costs.
    pub(super) open_found: HashMap<Id, (Id, u64)>,
}

/// Counts a whole tree whose root is an allocation of `size` bytes, and looks for the files in
/// `open`.
///
/// # Errors
///
/// The system's; `STALE` if directories were moved meanwhile.
pub(super) fn count(root: &Dir, size: u64, open: HashSet<Id>) -> Result<Counted, Errno> {
    let top = id(&rustix::fs::fstat(root)?);
    let on_disk = disk::read(root.readable()?).unwrap_or(None);
    let allocation = Allocation {
        path: Vec::new(),
        size,
        used: 0,
        parent: None,
        on_disk: Some(on_disk.unwrap_or_default()),
    };
    let mut counted = Counted {
        top,
        allocations: HashMap::from([(top, allocation)]),
        files: 0,
        directories: 0,
        linked: HashSet::new(),
        open,
        open_found: HashMap::new(),
    };
    walk(root, top, &mut counted)?;
    Ok(counted)
}

impl Counted {
    fn add(&mut self, home: Id, amount: u64) {
        if let Some(allocation) = self.allocations.get_mut(&home) {
            allocation.used = allocation.used.saturating_add(amount);
        }
    }
}

impl Visitor for Counted {
    fn enter(&mut self, dir: BorrowedFd<'_>, at: &Place<'_>) -> Result<Option<Id>, Errno> {
        self.directories += 1;
        if at.id == self.top {
            return Ok(Some(self.top));
        }
        let (size, on_disk) = match disk::read(dir) {
            Ok(None) => return Ok(Some(at.home)),
            Ok(Some((size, used))) => (size, Some((size, used))),
            Err(errno) => {
                tracing::warn!(
                    directory = %at.path.escape_ascii(),
                    %errno,
                    "cannot read the file .__alloc there, so nothing in this directory may grow: \
                     write its size into the file, or remove the file, and start the server again"
                );
                (0, None)
            }
        };
        let allocation = Allocation {
            path: at.path.to_vec(),
            size,
            used: 0,
            parent: Some(at.home),
            on_disk,
        };
        self.allocations.insert(at.id, allocation);
        self.add(at.home, size);
        Ok(Some(at.id))
    }

    fn entry(&mut self) -> Result<(), Errno> {
        Ok(())
    }

    fn file(&mut self, home: Id, stat: &Stat) -> Result<(), Errno> {
        if stat.st_nlink > 1 && !self.linked.insert(id(stat)) {
            return Ok(());
        }
        if self.open.contains(&id(stat)) {
            self.open_found.insert(id(stat), (home, cost_of(stat)));
        }
        self.files += 1;
        self.add(home, cost_of(stat));
        Ok(())
    }

    fn unreadable(&mut self, path: &[u8], errno: Errno) -> Result<(), Errno> {
        match errno {
            Errno::ACCESS | Errno::PERM => {
                tracing::warn!(
                    directory = %path.escape_ascii(),
                    %errno,
                    "cannot count what is in this directory"
                );
                Ok(())
            }
            errno => Err(errno),
        }
    }
}

/// What a directory takes of its allocation.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// All of it, with the sizes of the allocations in it.
    pub(super) amount: u64,
    /// Open files in it.
    pub(super) open: Vec<Id>,
    /// Allocations in it that are not in others in it.
    pub(super) allocations: Vec<Id>,
}

/// Counts what a directory takes, whether or not it is the top of an allocation.
///
/// # Errors
///
/// `XDEV` for one with more than 1,000 entries; the system's.
pub(super) fn moved(book: &Book, dir: &Dir, home: Id) -> Result<Moved, Errno> {
    let mut moving = Moving {
        book,
        moved: Moved::default(),
        seen: 0,
    };
    walk(dir, home, &mut moving)?;
    Ok(moving.moved)
}

struct Moving<'a> {
    book: &'a Book,
    moved: Moved,
    seen: usize,
}

impl Visitor for Moving<'_> {
    fn enter(&mut self, _: BorrowedFd<'_>, at: &Place<'_>) -> Result<Option<Id>, Errno> {
        let Some(allocation) = self.book.allocations.get(&at.id) else {
            return Ok(Some(at.home));
        };
        self.moved.amount = self.moved.amount.saturating_add(allocation.size);
        self.moved.allocations.push(at.id);
        Ok(None)
    }

    fn entry(&mut self) -> Result<(), Errno> {
        self.seen += 1;
        if self.seen > MOVED_MAX {
            return Err(Errno::XDEV);
        }
        Ok(())
    }

    fn file(&mut self, _: Id, stat: &Stat) -> Result<(), Errno> {
        let charged = match self.book.files.get(&id(stat)) {
            Some(open) => {
                self.moved.open.push(id(stat));
                open.charged
            }
            None => cost_of(stat),
        };
        self.moved.amount = self.moved.amount.saturating_add(charged);
        Ok(())
    }

    fn unreadable(&mut self, _: &[u8], errno: Errno) -> Result<(), Errno> {
        Err(errno)
    }
}
