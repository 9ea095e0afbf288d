//! Removing and moving: the change of the name and that of the figures are one step.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::book::{Book, Id, id};
use super::count::{self, Moved};
use super::{Space, disk, lock};
use crate::vfs::{Dir, Located, is_reserved};

impl Space {
    /// Removes a name that is no directory, as [`Located::unlink`] does.
    ///
    /// # Errors
    ///
    /// As [`Located::unlink`].
    pub fn unlink(&self, target: &Located) -> Result<(), Errno> {
        if target.is_root() || !self.has_allocations() {
            return target.unlink();
        }
        self.unlink_entry(target.holder(), target.name())
    }

    /// Removes an entry that is no directory.
    ///
    /// # Errors
    ///
    /// The system's: `ISDIR`, `NOENT`.
    pub(crate) fn unlink_entry(&self, dir: &Dir, name: &[u8]) -> Result<(), Errno> {
        let Some((_, book)) = self.limited() else {
            return rustix::fs::unlinkat(dir, name, AtFlags::empty());
        };
        if is_reserved(name) {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
            if name == disk::NAME {
                lock(book).lost_its_file(dir)?;
            }
            return Ok(());
        }
        // Freeing the blocks of a large file takes long: the last handle to it is closed after the
        // lock is free.
        let _file = handle(dir, name);
        let mut book = lock(book);
        let stat = dir.stat(name)?;
        let home = book.home(dir)?.id;
        rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
        let freed = book.freed_by_unlink(&stat);
        book.refund(home, freed);
        book.unlinked(&stat);
        Ok(())
    }

    /// Removes an empty directory. The space of an allocation goes back to where it came from.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(crate) fn remove_directory(&self, holder: &Dir, name: &[u8]) -> Result<(), Errno> {
        self.removing_directory(holder, name, || {
            rustix::fs::unlinkat(holder, name, AtFlags::REMOVEDIR)
        })
    }

    /// Removes a directory by `remove`, which may remove files of the server in it first.
    ///
    /// # Errors
    ///
    /// Those of `remove`; an allocation stays one then.
    pub(crate) fn removing_directory(
        &self,
        holder: &Dir,
        name: &[u8],
        remove: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let Some((_, book)) = self.limited() else {
            return remove();
        };
        let mut book = lock(book);
        let stat = holder.stat(name)?;
        let removed = remove();
        match removed {
            Ok(()) => book.forget(id(&stat)),
            Err(_) => {
                if let Some(allocation) = book.allocations.get(&id(&stat)) {
                    let dir = holder.child(name)?;
                    if disk::read(&dir)?.is_none() {
                        disk::write(&dir, allocation.size, allocation.used)?;
                    }
                }
            }
        }
        removed
    }

    /// Moves a directory out of the depth of a tree that is being removed, up to its top. What is in
    /// it keeps its allocation.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(crate) fn shelve(
        &self,
        dir: &Dir,
        name: &[u8],
        top: &Dir,
        place: &[u8],
    ) -> Result<(), Errno> {
        let Some((_, book)) = self.limited() else {
            return rustix::fs::renameat(dir, name, top, place);
        };
        let mut book = lock(book);
        let stat = dir.stat(name)?;
        let home = book.home(dir)?.id;
        rustix::fs::renameat(dir, name, top, place)?;
        // An allocation of its own is found by itself.
        if !book.allocations.contains_key(&id(&stat)) {
            book.shelved.insert(id(&stat), home);
        }
        Ok(())
    }

    /// Moves an object as [`Located::rename`] does, and its charge with it.
    ///
    /// # Errors
    ///
    /// As [`Located::rename`]; `NOSPC` if the allocation that it is moved to has not enough left;
    /// `XDEV` for a directory with more than 1,000 entries below it that would change its
    /// allocation.
    pub fn rename(&self, from: &Located, to: &Located) -> Result<(), Errno> {
        let Some((_, book)) = self.limited().filter(|_| !from.is_root() && !to.is_root()) else {
            return from.rename(to);
        };
        let _replaced = handle(to.holder(), to.name());
        let mut book = lock(book);
        let moving = from.holder().stat(from.name())?;
        let replaced = match to.holder().stat(to.name()) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno),
        };
        // Two names of one file: nothing happens.
        if replaced.as_ref().is_some_and(|it| id(it) == id(&moving)) {
            return from.rename(to);
        }
        let source = book.home(from.holder())?.id;
        let target = book.home(to.holder())?.id;
        let moved = if source == target {
            Moved::default()
        } else {
            book.moved(from, &moving, source)?
        };
        let freed = replaced.as_ref().map_or(0, |it| book.freed_by_unlink(it));
        book.charge(target, moved.amount.saturating_sub(freed))?;
        if let Err(errno) = from.rename(to) {
            book.refund(target, moved.amount.saturating_sub(freed));
            return Err(errno);
        }
        book.changes += 1;
        book.refund(target, freed.saturating_sub(moved.amount));
        if let Some(replaced) = replaced {
            // A directory that was replaced was empty, so it was no allocation's.
            book.unlinked(&replaced);
        }
        book.doubtful |= moving.st_nlink > 1 && source != target && moved.amount > 0;
        book.refund(source, moved.amount);
        book.rehome(&moved, target);
        if FileType::from_raw_mode(moving.st_mode) == FileType::Directory {
            book.repath(from.path(), to.path());
        }
        Ok(())
    }
}

impl Book {
    /// Notes that the file of an allocation is gone. If the directory stays it gets another.
    fn lost_its_file(&mut self, dir: &Dir) -> Result<(), Errno> {
        let id = super::identity(dir)?;
        if let Some(allocation) = self.allocations.get_mut(&id) {
            allocation.on_disk = Some((u64::MAX, u64::MAX));
        }
        Ok(())
    }

    /// Counts what an object takes that will go to another allocation.
    fn moved(&self, from: &Located, stat: &Stat, home: Id) -> Result<Moved, Errno> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let dir = from.directory()?;
                if id(&rustix::fs::fstat(dir)?) != id(stat) {
                    return Err(Errno::STALE);
                }
                count::moved(self, dir, home)
            }
            FileType::RegularFile => Ok(match self.files.get(&id(stat)) {
                Some(open) => Moved {
                    amount: open.charged,
                    open: vec![id(stat)],
                    allocations: Vec::new(),
                },
                None => Moved {
                    amount: super::book::cost_of(stat),
                    ..Moved::default()
                },
            }),
            _ => Ok(Moved::default()),
        }
    }

    fn rehome(&mut self, moved: &Moved, home: Id) {
        for file in &moved.open {
            if let Some(open) = self.files.get_mut(file) {
                open.home = home;
            }
        }
        for inner in &moved.allocations {
            if let Some(allocation) = self.allocations.get_mut(inner) {
                allocation.parent = Some(home);
            }
        }
    }

    /// Notes that a directory and all below it have another path.
    fn repath(&mut self, from: &[u8], to: &[u8]) {
        for allocation in self.allocations.values_mut() {
            if let Some(below) = allocation.path.strip_prefix(from)
                && (below.is_empty() || below.starts_with(b"/"))
            {
                allocation.path = [to, below].concat();
            }
        }
    }
}

/// Returns a handle that keeps a removed file's content until it is closed; none for what is not
/// there.
fn handle(dir: &Dir, name: &[u8]) -> Option<std::os::fd::OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).ok()
}
