//! `mkalloc`, `lsalloc`, and the figures of `statfs` (parts 8.3 and 8.4).

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::book::{Allocation, Book, Home, id};
use super::{Figures, Space, disk, identity, lock};
use crate::vfs::temporary::{Replace, Temporary};
use crate::vfs::{Dir, Located};
use chirp_proto::StatFs;

impl Space {
    /// Makes a directory that was built under a temporary name an allocation of `size` bytes, and
    /// gives it its name.
    ///
    /// # Errors
    ///
    /// `NOSPC` unless more than `size` is available, or the system's; the directory is removed then.
    pub fn allocate(&self, target: &Located, size: u64, built: Temporary) -> Result<(), Errno> {
        let Some((_, book)) = self.limited() else {
            return Err(Errno::INVAL);
        };
        let dir = built.open_directory()?;
        disk::write(&dir, size, 0)?;
        let key = identity(&dir)?;
        let mut book = lock(book);
        let parent = book.home(target.holder())?.id;
        // One byte more than is taken has to be there, as with the reference.
        let more = size.checked_add(1).ok_or(Errno::NOSPC)?;
        book.charge(parent, more)?;
        book.refund(parent, 1);
        if let Err(errno) = built.install(target.name(), Replace::No) {
            book.refund(parent, size);
            return Err(errno);
        }
        let allocation = Allocation {
            path: target.path().to_vec(),
            size,
            used: 0,
            parent: Some(parent),
            on_disk: Some((size, 0)),
        };
        book.changes += 1;
        book.allocations.insert(key, allocation);
        Ok(())
    }

    /// Returns the figures of the allocation that an object belongs to; none without `-Q`.
    ///
    /// # Errors
    ///
    /// The system's; `STALE` for an object that was moved meanwhile.
    pub fn figures(&self, object: &Located) -> Result<Option<Figures>, Errno> {
        let Some((_, book)) = self.limited() else {
            return Ok(None);
        };
        let book = lock(book);
        let (home, path) = match object.directory() {
            Ok(dir) => (book.home(dir)?, object.path()),
            Err(_) => (book.home(object.holder())?, object.holder_path()),
        };
        let mut top = path;
        for _ in 0..home.levels {
            if top.is_empty() {
                break;
            }
            let end = memchr::memrchr(b'/', top).unwrap_or(0);
            top = top.get(..end).unwrap_or_default();
        }
        Ok(book.allocations.get(&home.id).map(|allocation| Figures {
            path: [b"/", top].concat(),
            size: allocation.size,
            used: allocation.used,
        }))
    }

    /// Puts the figures of a directory's allocation in the place of the file system's.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn limit_statfs(&self, dir: &Dir, stat: StatFs) -> Result<StatFs, Errno> {
        let Some((_, book)) = self.limited() else {
            return Ok(stat);
        };
        let book = lock(book);
        let home = book.home(dir)?;
        Ok(book.limit(home, stat))
    }

    /// Does the same for an open file or directory.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn limit_fstatfs(&self, file: &File, stat: StatFs) -> Result<StatFs, Errno> {
        let Some((_, book)) = self.limited() else {
            return Ok(stat);
        };
        let book = lock(book);
        let status = rustix::fs::fstat(file)?;
        let home = if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            book.home(file.as_fd())?
        } else {
            let open = book.files.get(&id(&status));
            Home {
                id: open.map_or(book.top, |open| open.home),
                levels: 0,
            }
        };
        Ok(book.limit(home, stat))
    }
}

impl Book {
    fn limit(&self, home: Home, stat: StatFs) -> StatFs {
        let Some(allocation) = self.allocations.get(&home.id) else {
            return stat;
        };
        let block = u64::try_from(stat.block_size).unwrap_or(0);
        let blocks = |bytes: u64| {
            let blocks = bytes.checked_div(block).unwrap_or(0);
            i64::try_from(blocks).unwrap_or(i64::MAX)
        };
        let free = blocks(allocation.size.saturating_sub(allocation.used));
        StatFs {
            blocks: blocks(allocation.size),
            blocks_free: free,
            blocks_available: free,
            ..stat
        }
    }
}
