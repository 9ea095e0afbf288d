//! What a path led to, and the operations on it.
//!
//! Every operation acts on the handle of the directory that was reached and on one name in it,
//! and follows no link. If the object became something else since it was located, an operation
//! answers `STALE`: the caller locates it again, and checks again.

use std::fs::File;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, StatFs, Timestamps};
use rustix::io::Errno;

use super::{ACL_NAME, Dir};

/// The object of a path: a name in a directory, and what was seen there.
#[derive(Clone, Debug)]
pub struct Located {
    holder: Dir,
    above: Option<Dir>,
    /// The link-free path below the root, without slashes at its ends; empty for the root.
    path: Vec<u8>,
    object: Object,
    reserved: bool,
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub enum Object {
    /// Nothing; the error is what an operation that needs something answers.
    Missing(Errno),
    /// A directory.
    Directory(Dir, Stat),
    /// A file, a link that was not followed, or a special file.
    Other(Stat),
}

/// How to open a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Cut to nothing.
    pub truncate: bool,
    /// Write at the end only.
    pub append: bool,
    /// Every write is on disk before it returns.
    pub sync: bool,
    /// Make a file that is missing.
    pub create: Option<Create>,
}

/// How to make a file.
#[derive(Clone, Copy, Debug)]
pub struct Create {
    /// The mode the client sent; [`new_file_mode`] says what counts of it.
    pub mode: u32,
    /// Fail with `EXIST` if a file is there.
    pub exclusive: bool,
}

/// What is there.
impl Located {
    pub(super) fn root(dir: Dir, stat: Stat) -> Self {
        Self {
            holder: dir.clone(),
            above: None,
            path: Vec::new(),
            object: Object::Directory(dir, stat),
            reserved: false,
        }
    }

    pub(super) const fn new(
        holder: Dir,
        above: Option<Dir>,
        path: Vec<u8>,
        object: Object,
        reserved: bool,
    ) -> Self {
        Self {
            holder,
            above,
            path,
            object,
            reserved,
        }
    }

    /// Reports whether this is the exported directory itself.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        self.path.is_empty()
    }

    /// Reports whether a name on the way, or the object's own, belongs to the server.
    #[must_use]
    pub const fn is_reserved(&self) -> bool {
        self.reserved
    }

    /// Reports whether this is the access control list of a directory that clients may see.
    #[must_use]
    pub fn is_acl_file(&self) -> bool {
        self.name() == ACL_NAME
            && !self
                .holder_path()
                .split(|&b| b == b'/')
                .any(super::is_reserved)
    }

    /// Returns what was found.
    #[must_use]
    pub const fn object(&self) -> &Object {
        &self.object
    }

    /// Returns the name in [`Located::holder`]; empty for the root.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        match memchr::memrchr(b'/', &self.path) {
            Some(at) => self.path.get(at + 1..).unwrap_or_default(),
            None => &self.path,
        }
    }

    /// Returns the directory that holds the name; for the root, the root.
    #[must_use]
    pub const fn holder(&self) -> &Dir {
        &self.holder
    }

    /// Returns the link-free path of [`Located::holder`] below the root, without slashes at its
    /// ends.
    #[must_use]
    pub fn holder_path(&self) -> &[u8] {
        let end = memchr::memrchr(b'/', &self.path).unwrap_or(0);
        self.path.get(..end).unwrap_or_default()
    }

    /// Returns the link-free path of the object, as [`Located::holder_path`].
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Returns the directory above the holder, if the object was located with it and there is one.
    #[must_use]
    pub const fn above(&self) -> Option<&Dir> {
        self.above.as_ref()
    }

    /// Returns the directory whose access control list counts: the object if it is a directory,
    /// else the holder (part 3.1, step 2).
    #[must_use]
    pub const fn governing(&self) -> &Dir {
        match &self.object {
            Object::Directory(dir, _) => dir,
            Object::Missing(_) | Object::Other(_) => &self.holder,
        }
    }

    /// Returns the link-free path of [`Located::governing`], as [`Located::holder_path`].
    #[must_use]
    pub fn governing_path(&self) -> &[u8] {
        match &self.object {
            Object::Directory(..) => &self.path,
            Object::Missing(_) | Object::Other(_) => self.holder_path(),
        }
    }

    /// Returns the link-free path of [`Located::above`], as [`Located::holder_path`].
    #[must_use]
    pub fn above_path(&self) -> &[u8] {
        let holder = self.holder_path();
        let end = memchr::memrchr(b'/', holder).unwrap_or(0);
        holder.get(..end).unwrap_or_default()
    }

    /// Returns the object as a directory.
    ///
    /// # Errors
    ///
    /// `NOENT` (or why the name cannot exist), `NOTDIR`.
    pub const fn directory(&self) -> Result<&Dir, Errno> {
        match &self.object {
            Object::Directory(dir, _) => Ok(dir),
            Object::Missing(errno) => Err(*errno),
            Object::Other(_) => Err(Errno::NOTDIR),
        }
    }

    /// Returns the status as it was when the object was located.
    ///
    /// # Errors
    ///
    /// `NOENT`, or why the name cannot exist.
    pub const fn stat(&self) -> Result<&Stat, Errno> {
        match &self.object {
            Object::Directory(_, stat) | Object::Other(stat) => Ok(stat),
            Object::Missing(errno) => Err(*errno),
        }
    }

    /// Reports whether anything has the name.
    #[must_use]
    pub const fn exists(&self) -> bool {
        !matches!(self.object, Object::Missing(Errno::NOENT))
    }

    /// Returns the type of the object.
    fn file_type(&self) -> Option<FileType> {
        self.stat()
            .ok()
            .map(|stat| FileType::from_raw_mode(stat.st_mode))
    }
}

/// Content.
impl Located {
    /// Opens a regular file, or makes one.
    ///
    /// # Errors
    ///
    /// The system's; `ISDIR` for a directory, `INVAL` for any other special file, `STALE` if the
    /// object changed since it was located.
    pub fn open(&self, how: Open) -> Result<File, Errno> {
        match self.file_type() {
            Some(FileType::Directory) => return Err(Errno::ISDIR),
            Some(FileType::RegularFile) | None => {}
            // Opening a FIFO could wait for ever and opening a device has effects.
            Some(_) => return Err(Errno::INVAL),
        }
        let mut flags = match (how.read, how.write) {
            (_, false) => OFlags::RDONLY,
            (false, true) => OFlags::WRONLY,
            (true, true) => OFlags::RDWR,
        };
        flags |= OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        flags.set(OFlags::TRUNC, how.truncate);
        flags.set(OFlags::APPEND, how.append);
        flags.set(OFlags::SYNC, how.sync);
        let mut mode = Mode::empty();
        if let Some(create) = how.create {
            flags |= OFlags::CREATE;
            flags.set(OFlags::EXCL, create.exclusive);
            mode = new_file_mode(create.mode);
        } else {
            self.stat()?;
        }
        let file = match rustix::fs::openat(&self.holder, self.name(), flags, mode) {
            Ok(fd) => File::from(fd),
            // A link or something unopenable has taken the name.
            Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Err(Errno::STALE),
            Err(Errno::NOENT) if how.create.is_none() => return Err(Errno::STALE),
            Err(errno) => return Err(errno),
        };
        match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(file),
            _ => Err(Errno::STALE),
        }
    }

    /// Opens the object, a file or a directory, to change its metadata.
    fn open_any(&self) -> Result<File, Errno> {
        let Ok(dir) = self.directory() else {
            let read = self.open(Open {
                read: true,
                ..Open::default()
            });
            return match read {
                Err(Errno::ACCESS) => self.open(Open {
                    write: true,
                    ..Open::default()
                }),
                other => other,
            };
        };
        dir.readable().map(File::from)
    }

    /// Opens the object, a file or a directory, for its extended attributes.
    ///
    /// # Errors
    ///
    /// As [`Located::open`]; `OPNOTSUPP` for a link and `PERM` for a special file, which have none
    /// that clients may see.
    pub fn open_for_attributes(&self) -> Result<File, Errno> {
        match self.file_type() {
            Some(FileType::Directory | FileType::RegularFile) | None => self.open_any(),
            Some(FileType::Symlink) => Err(Errno::OPNOTSUPP),
            Some(_) => Err(Errno::PERM),
        }
    }

    /// Cuts or extends a file.
    ///
    /// # Errors
    ///
    /// As [`Located::open`]; `INVAL` or `FBIG` for a length the system refuses.
    pub fn truncate(&self, length: u64) -> Result<(), Errno> {
        let file = self.open(Open {
            write: true,
            ..Open::default()
        })?;
        rustix::fs::ftruncate(&file, length)
    }
}

/// Metadata.
impl Located {
    /// Sets the mode by the rule of part 3.7.
    ///
    /// # Errors
    ///
    /// As [`Located::open`]; a file that the server may neither read nor write is `ACCESS`.
    pub fn chmod(&self, mode: u32) -> Result<(), Errno> {
        let is_directory = self.file_type() == Some(FileType::Directory);
        rustix::fs::fchmod(&self.open_any()?, changed_mode(mode, is_directory))
    }

    /// Sets the times of last access and modification, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn utime(&self, atime: i64, mtime: i64) -> Result<(), Errno> {
        self.stat()?;
        let at = |seconds| rustix::fs::Timespec {
            tv_sec: seconds,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: at(atime),
            last_modification: at(mtime),
        };
        match &self.object {
            Object::Directory(dir, _) => {
                rustix::fs::utimensat(dir, c".", &times, AtFlags::SYMLINK_NOFOLLOW)
            }
            Object::Missing(_) | Object::Other(_) => {
                rustix::fs::utimensat(&self.holder, self.name(), &times, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    /// Reports whether the server's account may do all of this to the object by Unix permissions.
    ///
    /// # Errors
    ///
    /// `ACCESS` if not; `NOENT` if it is missing.
    pub fn access(&self, read: bool, write: bool, execute: bool) -> Result<(), Errno> {
        let mut wanted = rustix::fs::Access::EXISTS;
        wanted.set(rustix::fs::Access::READ_OK, read);
        wanted.set(rustix::fs::Access::WRITE_OK, write);
        wanted.set(rustix::fs::Access::EXEC_OK, execute);
        self.stat()?;
        match &self.object {
            Object::Directory(dir, _) => rustix::fs::accessat(dir, c".", wanted, AtFlags::EACCESS),
            Object::Missing(_) | Object::Other(_) => rustix::fs::accessat(
                &self.holder,
                self.name(),
                wanted,
                AtFlags::EACCESS | AtFlags::SYMLINK_NOFOLLOW,
            ),
        }
    }

    /// Returns the figures of the file system that holds the directory.
    ///
    /// # Errors
    ///
    /// `NOTDIR` for anything but a directory, as the reference has it.
    pub fn statfs(&self) -> Result<StatFs, Errno> {
        rustix::fs::fstatfs(self.directory()?)
    }

    /// Returns the text of a link.
    ///
    /// # Errors
    ///
    /// `INVAL` for anything else.
    pub fn readlink(&self) -> Result<Vec<u8>, Errno> {
        self.stat()?;
        if self.file_type() != Some(FileType::Symlink) {
            return Err(Errno::INVAL);
        }
        rustix::fs::readlinkat(&self.holder, self.name(), Vec::new()).map(|text| text.into_bytes())
    }
}

/// Names.
impl Located {
    /// Makes a link with this text, which is neither resolved nor checked.
    ///
    /// # Errors
    ///
    /// The system's: `EXIST`.
    pub fn symlink(&self, text: &[u8]) -> Result<(), Errno> {
        self.named_or(Errno::EXIST)?;
        rustix::fs::symlinkat(text, &self.holder, self.name())
    }

    /// Gives the object a second name; a link is linked itself.
    ///
    /// # Errors
    ///
    /// The system's: `PERM` for a directory, `EXIST`, `XDEV`.
    pub fn link(&self, to: &Self) -> Result<(), Errno> {
        self.named_or(Errno::PERM)?;
        to.named_or(Errno::EXIST)?;
        rustix::fs::linkat(
            &self.holder,
            self.name(),
            &to.holder,
            to.name(),
            AtFlags::empty(),
        )
    }

    /// Moves the object, over an existing one as POSIX has it.
    ///
    /// # Errors
    ///
    /// The system's; `BUSY` if either is the root.
    pub fn rename(&self, to: &Self) -> Result<(), Errno> {
        self.named_or(Errno::BUSY)?;
        to.named_or(Errno::BUSY)?;
        rustix::fs::renameat(&self.holder, self.name(), &to.holder, to.name())
    }

    /// Removes a name that is no directory.
    ///
    /// # Errors
    ///
    /// The system's: `ISDIR`, `NOENT`.
    pub fn unlink(&self) -> Result<(), Errno> {
        self.named_or(Errno::ISDIR)?;
        rustix::fs::unlinkat(&self.holder, self.name(), AtFlags::empty())
    }

    /// Fails with `errno` for the root, which has no name.
    const fn named_or(&self, errno: Errno) -> Result<(), Errno> {
        if self.is_root() { Err(errno) } else { Ok(()) }
    }
}

/// Returns the mode of a new file: of what the client sent only the owner's execute bit counts
/// (part 3.3; the reference's umask is 077).
#[must_use]
pub fn new_file_mode(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o100 | 0o600)
}

/// Returns the mode that `chmod` sets (part 3.7): no set-id bits, and the owner never loses access.
#[must_use]
pub fn changed_mode(mode: u32, is_directory: bool) -> Mode {
    let owner = if is_directory { 0o700 } else { 0o600 };
    Mode::from_raw_mode(mode & 0o177 | owner)
}
