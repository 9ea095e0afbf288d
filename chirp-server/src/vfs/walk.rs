//! Trees gone through entry by entry, by handles, with one descriptor and a few KiB a level: a
//! directory of a million entries takes no more memory than one of ten.

use std::mem::MaybeUninit;

use rustix::fs::{FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::{Dir, is_reserved};

/// Levels below which nothing is entered. No path of the protocol's length leads deeper.
pub const DEPTH_MAX: usize = chirp_proto::limits::PATH_MAX / 2;

/// Bytes of entries that are read at once.
const BATCH: usize = 8 * 1024;

/// A walk under way. The caller is told of each entry and decides which directories to enter;
/// reserved names are left out. `T` is what it wants to remember of each directory on the way.
#[derive(Debug)]
pub struct Walk<T> {
    levels: Vec<Level<T>>,
    /// The path of the current directory from the top: `/` and a name for each level below it.
    path: Vec<u8>,
}

#[derive(Debug)]
struct Level<T> {
    /// Open for reading.
    dir: Dir,
    data: T,
    /// Bytes of [`Walk::path`] that belong to the levels above.
    above: usize,
    /// Entries read ahead: a type and a name with its NUL each.
    batch: Vec<(FileType, Vec<u8>)>,
    /// The entry that the walk is at.
    at: Option<(FileType, Vec<u8>)>,
    finished: bool,
}

/// What a walk came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The next entry, [`Walk::name`], of the current directory.
    Entry,
    /// The end of the current directory, which [`Walk::leave`] leaves.
    End,
}

impl<T> Walk<T> {
    /// Starts a walk.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn new(top: &Dir, data: T) -> Result<Self, Errno> {
        let mut walk = Self {
            levels: Vec::new(),
            path: Vec::new(),
        };
        walk.push(Dir::new(top.readable()?), data, 0);
        Ok(walk)
    }

    /// Goes on to the next entry of the current directory; `None` when the top was left.
    ///
    /// # Errors
    ///
    /// The system's; the directory is then at its end.
    pub fn advance(&mut self) -> Option<Result<Event, Errno>> {
        let level = self.levels.last_mut()?;
        if level.batch.is_empty()
            && !level.finished
            && let Err(errno) = level.read()
        {
            level.finished = true;
            return Some(Err(errno));
        }
        level.at = level.batch.pop();
        Some(Ok(match level.at {
            Some(_) => Event::Entry,
            None => Event::End,
        }))
    }

    /// Leaves the current directory, and returns what was remembered of it.
    pub fn leave(&mut self) -> Option<T> {
        let level = self.levels.pop()?;
        self.path.truncate(level.above);
        Some(level.data)
    }

    /// Returns the current entry's name.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        let at = self.levels.last().and_then(|level| level.at.as_ref());
        at.map(|(_, name)| name.as_slice()).unwrap_or_default()
    }

    /// Returns the current entry's type, as far as the directory tells it.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        let at = self.levels.last().and_then(|level| level.at.as_ref());
        at.map_or(FileType::Unknown, |(kind, _)| *kind)
    }

    /// Returns the current directory; `None` when the top was left.
    #[must_use]
    pub fn dir(&self) -> Option<&Dir> {
        self.levels.last().map(|level| &level.dir)
    }

    /// Returns the directories on the way from the top to the current one.
    pub fn dirs(&self) -> impl Iterator<Item = &Dir> {
        self.levels.iter().map(|level| &level.dir)
    }

    /// Returns what is remembered of the current directory.
    #[must_use]
    pub fn data(&self) -> Option<&T> {
        self.levels.last().map(|level| &level.data)
    }

    /// Returns what is remembered of the directories on the way from the top to the current one.
    pub fn all_data(&self) -> impl Iterator<Item = &T> {
        self.levels.iter().map(|level| &level.data)
    }

    /// Returns the current directory's path from the top: empty there, else it begins with `/`.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Opens the current entry, a directory, for [`Walk::enter`]. Links are not followed.
    ///
    /// # Errors
    ///
    /// The system's: `NOTDIR` or `LOOP` for anything but a directory.
    pub fn open(&self) -> Result<Dir, Errno> {
        let dir = self.dir().ok_or(Errno::NOENT)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(dir, self.name(), flags, Mode::empty()).map(Dir::new)
    }

    /// Opens a directory that the current entry, a link, was found to lead to.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn open_elsewhere(&self, dir: &Dir) -> Result<Dir, Errno> {
        dir.readable().map(Dir::new)
    }

    /// Enters a directory that was opened, under the current entry's name.
    ///
    /// # Errors
    ///
    /// `NAMETOOLONG` below [`DEPTH_MAX`] levels.
    pub fn enter(&mut self, dir: Dir, data: T) -> Result<(), Errno> {
        if self.levels.len() >= DEPTH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let above = self.path.len();
        self.path.push(b'/');
        let at = self.levels.last().and_then(|level| level.at.as_ref());
        if let Some((_, name)) = at {
            self.path.extend_from_slice(name);
        }
        self.push(dir, data, above);
        Ok(())
    }

    fn push(&mut self, dir: Dir, data: T, above: usize) {
        self.levels.push(Level {
            dir,
            data,
            above,
            batch: Vec::new(),
            at: None,
            finished: false,
        });
    }
}

impl<T> Level<T> {
    /// Reads the next entries until there are some or the directory is at its end.
    fn read(&mut self) -> Result<(), Errno> {
        let mut buffer = [MaybeUninit::uninit(); BATCH];
        let mut entries = RawDir::new(&self.dir, &mut buffer);
        loop {
            let Some(entry) = entries.next() else {
                self.finished = true;
                return Ok(());
            };
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." && !is_reserved(name) {
                self.batch.push((entry.file_type(), name.to_vec()));
            }
            if entries.is_buffer_empty() && !self.batch.is_empty() {
                return Ok(());
            }
        }
    }
}
