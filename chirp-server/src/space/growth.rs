//! Files that descriptors hold open, and what they may grow to.
//!
//! Before a write, the size that the file can then have is charged; when the write is over, however
//! it ended, the file is charged what it has. Any number of writes to one file may be under way: it
//! is charged what the farthest of them needs.

use std::fs::File;
use std::sync::{Arc, Mutex};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::book::{Book, Id, OpenFile, cost_of, id, size};
use super::{Limits, Space, lock};
use crate::vfs::{Located, Open};

/// Keeps an open file in the figures; belongs to one descriptor and is dropped with it.
#[derive(Debug)]
pub struct Held {
    limits: Arc<Limits>,
    id: Id,
    /// Keeps the inode's number from being given to another file before this is dropped.
    _file: Arc<File>,
}

/// A write for which there is space. Dropping it says that the write is over.
#[derive(Debug, Default)]
#[must_use]
pub struct Promise {
    /// What does the work when it is dropped.
    _kept: Option<Promised>,
}

#[derive(Debug)]
struct Promised {
    limits: Arc<Limits>,
    file: Arc<File>,
    id: Id,
    growth: Growth,
}

/// How far a file may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    /// To this size.
    To(u64),
    /// By so many bytes at its end.
    By(u64),
}

impl Space {
    /// Opens a regular file as [`Located::open`] does, for a descriptor.
    ///
    /// # Errors
    ///
    /// As [`Located::open`].
    pub fn open_file(
        &self,
        located: &Located,
        how: Open,
    ) -> Result<(Arc<File>, Option<Held>), Errno> {
        let Some((limits, book)) = self.limited() else {
            return Ok((Arc::new(located.open(how)?), None));
        };
        // Cutting the file is a change of its own, for which the figures have to know the file.
        let uncut = Open {
            truncate: false,
            ..how
        };
        let (file, held) = hold(limits, book, located, uncut)?;
        if how.truncate {
            if how.write {
                self.resize(&file, 0)?;
            } else {
                let writing = Open {
                    write: true,
                    ..Open::default()
                };
                self.resize(&Arc::new(located.open(writing)?), 0)?;
            }
        }
        Ok((file, Some(held)))
    }

    /// Charges a write to an open file that goes up to the position `end`, or, to a file opened for
    /// appending, of `length` bytes.
    ///
    /// # Errors
    ///
    /// `NOSPC`; nothing is charged then.
    pub fn promise(&self, file: &Arc<File>, end: u64, length: u64) -> Result<Promise, Errno> {
        let Some(limits) = &self.0 else {
            return Ok(Promise::default());
        };
        let flags = rustix::fs::fcntl_getfl(&**file)?;
        limits.promise(
            file,
            if flags.contains(OFlags::APPEND) {
                Growth::By(length)
            } else {
                Growth::To(end)
            },
        )
    }

    /// Cuts or extends a file.
    ///
    /// # Errors
    ///
    /// `NOSPC`, or the system's.
    pub fn resize(&self, file: &Arc<File>, length: u64) -> Result<(), Errno> {
        let _promise = match &self.0 {
            Some(limits) => limits.promise(file, Growth::To(length))?,
            None => Promise::default(),
        };
        rustix::fs::ftruncate(&**file, length)
    }

    /// Cuts or extends a file that is not open yet.
    ///
    /// # Errors
    ///
    /// `NOSPC`, or as [`Located::truncate`].
    pub fn truncate(&self, located: &Located, length: u64) -> Result<(), Errno> {
        if self.0.is_none() {
            return located.truncate(length);
        }
        let writing = Open {
            write: true,
            ..Open::default()
        };
        let (file, _held) = self.open_file(located, writing)?;
        self.resize(&file, length)
    }
}

/// Opens a file, and keeps it in the figures as long as it is open.
fn hold(
    limits: &Arc<Limits>,
    book: &Mutex<Book>,
    located: &Located,
    how: Open,
) -> Result<(Arc<File>, Held), Errno> {
    // Whoever removes or moves the file does it before or after this, not in between.
    let mut book = lock(book);
    let home = book.home(located.holder())?.id;
    let file = Arc::new(located.open(how)?);
    let stat = rustix::fs::fstat(&*file)?;
    let key = id(&stat);
    let open = book.files.entry(key).or_insert_with(|| OpenFile {
        home,
        charged: cost_of(&stat),
        holders: 0,
        ends: Vec::new(),
        appends: 0,
        unlinked: false,
    });
    open.holders += 1;
    let held = Held {
        limits: Arc::clone(limits),
        id: key,
        _file: Arc::clone(&file),
    };
    Ok((file, held))
}

impl Limits {
    fn promise(self: &Arc<Self>, file: &Arc<File>, growth: Growth) -> Result<Promise, Errno> {
        let now = || rustix::fs::fstat(&**file).map(|stat| (id(&stat), size(&stat)));
        if self.keep_free > 0 {
            let (_, size) = now()?;
            let more = match growth {
                Growth::To(end) => end.saturating_sub(size),
                Growth::By(length) => length,
            };
            // What shrinks a file, or writes where it has content, is allowed on a full disk.
            if more > 0 {
                self.room(more)?;
            }
        }
        let Some(book) = &self.book else {
            return Ok(Promise::default());
        };
        let mut book = lock(book);
        let (id, size) = now()?;
        let Some(open) = book.files.get_mut(&id) else {
            // Every descriptor's file is in the book.
            return Err(Errno::BADF);
        };
        open.add(growth);
        let (home, charged, needed) = (open.home, open.charged, open.needs(size));
        let more = needed.saturating_sub(charged);
        let verdict = book.charge(home, more);
        if let Some(open) = book.files.get_mut(&id) {
            match verdict {
                Ok(()) => open.charged = charged.saturating_add(more),
                Err(_) => open.remove(growth),
            }
        }
        verdict?;
        let promised = Promised {
            limits: Arc::clone(self),
            file: Arc::clone(file),
            id,
            growth,
        };
        Ok(Promise {
            _kept: Some(promised),
        })
    }
}

impl OpenFile {
    fn add(&mut self, growth: Growth) {
        match growth {
            Growth::To(end) => self.ends.push(end),
            Growth::By(length) => self.appends = self.appends.saturating_add(length),
        }
    }

    fn remove(&mut self, growth: Growth) {
        match growth {
            Growth::To(end) => {
                if let Some(at) = self.ends.iter().position(|other| *other == end) {
                    self.ends.swap_remove(at);
                }
            }
            Growth::By(length) => self.appends = self.appends.saturating_sub(length),
        }
    }
}

impl Drop for Promised {
    fn drop(&mut self) {
        let Some(book) = &self.limits.book else {
            return;
        };
        let mut book = lock(book);
        if let Some(open) = book.files.get_mut(&self.id) {
            open.remove(self.growth);
        }
        // A file whose status cannot be read stays charged what was promised.
        if let Ok(stat) = rustix::fs::fstat(&*self.file) {
            book.settle(self.id, size(&stat));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(book) = &self.limits.book else {
            return;
        };
        let mut book = lock(book);
        let Some(open) = book.files.get_mut(&self.id) else {
            return;
        };
        open.holders = open.holders.saturating_sub(1);
        if open.holders > 0 {
            return;
        }
        let (home, charged, unlinked) = (open.home, open.charged, open.unlinked);
        book.files.remove(&self.id);
        if unlinked {
            book.refund(home, charged);
        }
    }
}
