//! A tree gone through directory by directory: with one descriptor, whatever its depth, and with
//! no memory for files, however many they are. Names of directories that are still to be entered
//! are kept, those of one directory a level.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir as Entries, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::book::{Id, id};
use crate::vfs::temporary::is_temporary;
use crate::vfs::{Dir, is_reserved};

/// What is to be done with a tree.
pub(super) trait Visitor {
    /// Enters a directory that belongs to the allocation `home` unless it is the top of one itself.
    /// Returns the allocation of what is in it; `None` to leave it out.
    ///
    /// # Errors
    ///
    /// What ends the walk.
    fn enter(&mut self, dir: BorrowedFd<'_>, at: &Place<'_>) -> Result<Option<Id>, Errno>;

    /// Is told that there is one entry more, of whatever kind.
    ///
    /// # Errors
    ///
    /// What ends the walk.
    fn entry(&mut self) -> Result<(), Errno>;

    /// Sees a file, link or special file in an allocation.
    ///
    /// # Errors
    ///
    /// What ends the walk.
    fn file(&mut self, home: Id, stat: &Stat) -> Result<(), Errno>;

    /// Is told of a directory that cannot be read.
    ///
    /// # Errors
    ///
    /// What ends the walk.
    fn unreadable(&mut self, path: &[u8], errno: Errno) -> Result<(), Errno>;
}

/// Where a directory is.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) id: Id,
    /// The path from the walk's top, without slashes at its ends; empty for the top.
    pub(super) path: &'a [u8],
    /// The allocation of the directory above; for the top, what the walk was started with.
    pub(super) home: Id,
}

struct Level {
    id: Id,
    home: Id,
    /// Directories in this one that are still to be entered.
    pending: Vec<Vec<u8>>,
    /// Bytes of the path of this directory.
    path: usize,
}

/// Goes through a tree.
///
/// # Errors
///
/// `STALE` if a directory was moved away meanwhile; the visitor's, and the system's.
pub(super) fn walk(top: &Dir, home: Id, visitor: &mut impl Visitor) -> Result<(), Errno> {
    let mut here = top.readable()?;
    let mut path = Vec::new();
    let mut levels: Vec<Level> = Vec::new();
    levels.extend(enter(&here, &path, home, visitor)?);
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.pending.pop() else {
            levels.pop();
            if let Some(above) = levels.last() {
                here = open(&here, b"..")?;
                if id(&rustix::fs::fstat(&here)?) != above.id {
                    return Err(Errno::STALE);
                }
                path.truncate(above.path);
            }
            continue;
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let (below, home) = (level.path, level.home);
        let entered = match open(&here, &name) {
            Ok(child) => enter(&child, &path, home, visitor)?.map(|level| (child, level)),
            // Something else has the name by now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
            Err(errno) => {
                visitor.unreadable(&path, errno)?;
                None
            }
        };
        match entered {
            Some((child, level)) => {
                here = child;
                levels.push(level);
            }
            None => path.truncate(below),
        }
    }
    Ok(())
}

/// Sees the files of a directory and notes its directories. What will be gone or is not there yet (the
/// sandboxes of jobs, what is under construction) is in nobody's figures; what was shelved while a tree
/// is removed is.
fn enter(
    dir: &OwnedFd,
    path: &[u8],
    home: Id,
    visitor: &mut impl Visitor,
) -> Result<Option<Level>, Errno> {
    let place = Place {
        id: id(&rustix::fs::fstat(dir)?),
        path,
        home,
    };
    let Some(home) = visitor.enter(dir.as_fd(), &place)? else {
        return Ok(None);
    };
    let mut pending = Vec::new();
    let mut entries = Entries::read_from(dir)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        visitor.entry()?;
        match entry.file_type() {
            FileType::Directory if is_temporary(name) => {}
            FileType::Directory => pending.push(name.to_vec()),
            FileType::RegularFile | FileType::Unknown => {
                let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => stat,
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(errno),
                };
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    if !is_temporary(name) {
                        pending.push(name.to_vec());
                    }
                } else if !is_reserved(name) {
                    visitor.file(home, &stat)?;
                }
            }
            // Links and special files cost nothing.
            _ => {}
        }
    }
    Ok(Some(Level {
        id: place.id,
        home,
        pending,
        path: path.len(),
    }))
}

fn open(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}
