//! Who has how much: the figures of all allocations, kept in memory.
//!
//! Everything here happens under one lock, together with the change of the tree that it is about,
//! if that is one of names: so a figure and the tree never say different things. Content is written
//! outside the lock, on a promise that was charged before (see `growth`).

use std::collections::HashMap;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

/// What sizes of files are rounded up to (part 8.2).
const UNIT: u64 = 4096;

/// Levels above a directory among which its allocation is looked for: more than any path has.
const LEVELS_MAX: usize = 4096;

/// A file or directory, whatever its name is: device and inode.
pub(super) type Id = (u64, u64);

/// The figures of a server's allocations.
#[derive(Debug)]
pub(super) struct Book {
    /// The exported directory, which always is an allocation.
    pub(super) top: Id,
    pub(super) allocations: HashMap<Id, Allocation>,
    /// Files that descriptors hold open.
    pub(super) files: HashMap<Id, OpenFile>,
    /// Directories that a removal moved out of their allocation to empty them, and that allocation.
    pub(super) shelved: HashMap<Id, Id>,
    /// Uploads under way.
    pub(super) uploads: usize,
    /// A file with other names was removed, replaced or moved: whose it is now is not known.
    pub(super) doubtful: bool,
    /// Counts what changes the figures or the tree that they are about.
    pub(super) changes: u64,
}

/// One allocation.
#[derive(Clone, Debug)]
pub(super) struct Allocation {
    /// The link-free path of its top directory below the root; what was true when it was last seen.
    pub(super) path: Vec<u8>,
    pub(super) size: u64,
    pub(super) used: u64,
    /// The allocation that this one's size is taken from.
    pub(super) parent: Option<Id>,
    /// The figures that its file has; none if the file is to be left as it is.
    pub(super) on_disk: Option<(u64, u64)>,
}

/// A file that descriptors hold open.
#[derive(Clone, Debug)]
pub(super) struct OpenFile {
    /// The allocation that it is charged to.
    pub(super) home: Id,
    /// What it is charged.
    pub(super) charged: u64,
    /// Descriptors, of all connections.
    pub(super) holders: usize,
    /// Where promised writes end.
    pub(super) ends: Vec<u64>,
    /// Bytes that were promised at the file's end, wherever that is.
    pub(super) appends: u64,
    /// It has no name any more: its space comes back with the last descriptor.
    pub(super) unlinked: bool,
}

/// Which allocation a directory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) id: Id,
    /// How many levels above the directory the allocation's top is; or more, if that is the root.
    pub(super) levels: usize,
}

impl Book {
    /// Finds the nearest allocation at or above a directory.
    ///
    /// # Errors
    ///
    /// The system's; `STALE` for a directory that is below the root no more.
    pub(super) fn home(&self, dir: impl AsFd) -> Result<Home, Errno> {
        if self.allocations.len() == 1 && self.shelved.is_empty() {
            return Ok(Home {
                id: self.top,
                levels: usize::MAX,
            });
        }
        let mut above = Vec::from(*b".");
        let mut last = None;
        for levels in 0..LEVELS_MAX {
            let stat = rustix::fs::statat(&dir, above.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?;
            let id = id(&stat);
            if self.allocations.contains_key(&id) {
                return Ok(Home { id, levels });
            }
            if let Some(home) = self.shelved.get(&id) {
                return Ok(Home { id: *home, levels });
            }
            // The root of everything is its own parent.
            if last == Some(id) {
                break;
            }
            last = Some(id);
            above.extend_from_slice(b"/..");
        }
        Err(Errno::STALE)
    }

    /// Takes space from an allocation.
    ///
    /// # Errors
    ///
    /// `NOSPC` if it has less; nothing is taken then.
    pub(super) fn charge(&mut self, id: Id, amount: u64) -> Result<(), Errno> {
        if amount == 0 {
            return Ok(());
        }
        let allocation = self.allocations.get_mut(&id).ok_or(Errno::STALE)?;
        let used = allocation.used.checked_add(amount).ok_or(Errno::NOSPC)?;
        if used > allocation.size {
            return Err(Errno::NOSPC);
        }
        allocation.used = used;
        self.changes += 1;
        Ok(())
    }

    /// Takes space from an allocation that something takes already, whether it has it or not.
    pub(super) fn debit(&mut self, id: Id, amount: u64) {
        self.changes += u64::from(amount > 0);
        if let Some(allocation) = self.allocations.get_mut(&id) {
            allocation.used = allocation.used.saturating_add(amount);
        }
    }

    /// Gives space back.
    pub(super) fn refund(&mut self, id: Id, amount: u64) {
        self.changes += u64::from(amount > 0);
        if let Some(allocation) = self.allocations.get_mut(&id) {
            allocation.used = allocation.used.saturating_sub(amount);
        }
    }

    /// Changes what an open file is charged to what it needs now that it has this size.
    pub(super) fn settle(&mut self, file: Id, size: u64) {
        let Some(open) = self.files.get_mut(&file) else {
            return;
        };
        let (home, before, now) = (open.home, open.charged, open.needs(size));
        open.charged = now;
        self.debit(home, now.saturating_sub(before));
        self.refund(home, before.saturating_sub(now));
    }

    /// Returns what the removal of a name gives back at once. An open file's space comes back with
    /// its last descriptor.
    pub(super) fn freed_by_unlink(&self, stat: &Stat) -> u64 {
        if stat.st_nlink > 1 || self.files.contains_key(&id(stat)) {
            0
        } else {
            cost_of(stat)
        }
    }

    /// Notes that an object has one name less.
    pub(super) fn unlinked(&mut self, stat: &Stat) {
        if stat.st_nlink > 1 {
            self.doubtful |= cost_of(stat) > 0;
            return;
        }
        if let Some(open) = self.files.get_mut(&id(stat)) {
            open.unlinked = true;
        }
    }

    /// Forgets an allocation whose directory is gone: its size goes back where it came from.
    pub(super) fn forget(&mut self, dir: Id) {
        self.shelved.remove(&dir);
        if dir == self.top {
            return;
        }
        let Some(gone) = self.allocations.remove(&dir) else {
            return;
        };
        self.changes += 1;
        let parent = gone.parent.unwrap_or(self.top);
        self.refund(parent, gone.size);
        // What is still open in it takes space that is now the parent's.
        let mut orphans = 0u64;
        for open in self.files.values_mut().filter(|open| open.home == dir) {
            open.home = parent;
            orphans = orphans.saturating_add(open.charged);
        }
        self.debit(parent, orphans);
        for home in self.shelved.values_mut().filter(|home| **home == dir) {
            *home = parent;
        }
        for child in self.allocations.values_mut() {
            if child.parent == Some(dir) {
                child.parent = Some(parent);
            }
        }
    }
}

impl OpenFile {
    /// Returns what the file needs at this size, if all that was promised is written.
    pub(super) fn needs(&self, size: u64) -> u64 {
        let end = self.ends.iter().copied().fold(size, u64::max);
        cost(end.saturating_add(self.appends))
    }
}

/// Returns what a file of this size costs.
pub(super) fn cost(size: u64) -> u64 {
    size.checked_next_multiple_of(UNIT).unwrap_or(u64::MAX)
}

/// Returns what an object costs: only regular files cost anything.
pub(super) fn cost_of(stat: &Stat) -> u64 {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => cost(size(stat)),
        _ => 0,
    }
}

/// Returns a file's size.
pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Returns what identifies an object.
#[expect(
    clippy::useless_conversion,
    reason = "the widths of these fields differ between architectures"
)]
pub(super) fn id(stat: &Stat) -> Id {
    (stat.st_dev.into(), stat.st_ino.into())
}
