//! Space for an upload: charged as it grows, and given back unless the upload is completed.
//!
//! What it will replace counts as free already, though both are on the disk until the end: so a file
//! can be overwritten in a full allocation, as with the reference.

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::book::{Id, cost};
use super::{Space, lock};
use crate::vfs::{Dir, is_reserved};

/// The space of one upload.
#[derive(Debug, Default)]
pub struct Reservation {
    space: Space,
    charge: Option<Charge>,
}

#[derive(Debug)]
struct Charge {
    home: Id,
    /// What the name cost when the upload began.
    credit: u64,
    held: u64,
}

impl Reservation {
    /// Starts the reservation of an upload to a name in a directory.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn new(space: &Space, dir: &Dir, name: &[u8]) -> Result<Self, Errno> {
        let mut charge = None;
        if let Some((_, book)) = space.limited().filter(|_| !is_reserved(name)) {
            let mut book = lock(book);
            let old = dir.stat(name).ok();
            charge = Some(Charge {
                home: book.home(dir)?.id,
                credit: old.map_or(0, |old| book.freed_by_unlink(&old)),
                held: 0,
            });
            book.uploads += 1;
        }
        Ok(Self {
            space: space.clone(),
            charge,
        })
    }

    /// Makes sure that the upload, which has `written` bytes, can get to `length`.
    ///
    /// # Errors
    ///
    /// `NOSPC`; what was reserved before stays so.
    pub fn grow(&mut self, written: u64, length: u64) -> Result<(), Errno> {
        self.space.room(length.saturating_sub(written))?;
        if let (Some(charge), Some((_, book))) = (&mut self.charge, self.space.limited()) {
            let more = cost(length)
                .saturating_sub(charge.credit)
                .saturating_sub(charge.held);
            if more > 0 {
                lock(book).charge(charge.home, more)?;
                charge.held += more;
            }
        }
        Ok(())
    }

    /// Puts the upload, `length` bytes, in place by `install`, which gives it its name in the
    /// directory, and makes the figures those of the files.
    ///
    /// # Errors
    ///
    /// `NOSPC` if what it replaces is smaller by now, or those of `install`; the upload was not put
    /// in place then.
    pub fn install(
        mut self,
        dir: &Dir,
        name: &[u8],
        length: u64,
        install: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let (Some(charge), Some((_, book))) = (&mut self.charge, self.space.limited()) else {
            return install();
        };
        // As long as it is open the old file's content stays, and is not removed under the lock.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let _old = rustix::fs::openat(dir, name, flags, Mode::empty());
        let mut book = lock(book);
        // The directory may have been moved to another allocation meanwhile.
        let home = book.home(dir)?.id;
        if home != charge.home {
            let held = charge.held;
            book.charge(home, held)?;
            book.refund(charge.home, held);
            charge.home = home;
        }
        let old: Option<Stat> = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok();
        let freed = old.as_ref().map_or(0, |old| book.freed_by_unlink(old));
        let needed = cost(length);
        let more = needed.saturating_sub(freed.saturating_add(charge.held));
        book.charge(home, more)?;
        charge.held = charge.held.saturating_add(more);
        install()?;
        let held = std::mem::take(&mut charge.held);
        book.refund(home, freed.saturating_add(held).saturating_sub(needed));
        if let Some(old) = old {
            book.unlinked(&old);
        }
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let (Some(charge), Some((_, book))) = (&self.charge, self.space.limited()) {
            let mut book = lock(book);
            book.refund(charge.home, charge.held);
            book.uploads = book.uploads.saturating_sub(1);
        }
    }
}
