//! `putfile`: content that becomes visible all at once.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::located::{changed_mode, new_file_mode};
use super::temporary::{Replace, Temporary};
use super::{Dir, Journal, Located, Object, xattr};
use crate::space::{Reservation, Space};

/// A file being uploaded. Until [`Upload::commit`] the name keeps what it had; dropping the upload
/// leaves it so.
#[derive(Debug)]
pub struct Upload {
    file: File,
    temporary: Temporary,
    name: Vec<u8>,
    mode: Mode,
    /// The mode and the time of modification that the file gets in any case.
    described: Option<(Mode, i64)>,
    replace: Replace,
    written: u64,
    space: Reservation,
}

impl Upload {
    /// Starts an upload to a located name.
    ///
    /// # Errors
    ///
    /// The system's; `ISDIR` for a directory, `INVAL` for a special file, `EXIST` if something is
    /// there and `replace` forbids it, `ACCESS` for a file that the server's account may not write.
    pub fn begin(
        target: &Located,
        mode: u32,
        replace: Replace,
        journal: &Arc<Journal>,
        space: &Space,
    ) -> Result<Self, Errno> {
        match target.object() {
            Object::Missing(Errno::NOENT) => {}
            Object::Missing(errno) => return Err(*errno),
            Object::Directory(..) => return Err(Errno::ISDIR),
            Object::Other(_) if replace == Replace::No => return Err(Errno::EXIST),
            Object::Other(stat) => {
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(Errno::INVAL);
                }
                // Rename would succeed, but a file that says it is read-only shall stay.
                if stat.st_mode & 0o222 == 0 {
                    return Err(Errno::ACCESS);
                }
            }
        }
        let temporary = Temporary::new(journal, target.holder(), target.holder_path())?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = new_file_mode(mode);
        let fd = rustix::fs::openat(temporary.dir(), temporary.name(), flags, mode)?;
        Ok(Self {
            file: File::from(fd),
            temporary,
            name: target.name().to_vec(),
            mode,
            described: None,
            replace,
            written: 0,
            space: Reservation::new(space, target.holder(), target.name())?,
        })
    }

    /// Makes sure that there is space for so many bytes in all.
    ///
    /// # Errors
    ///
    /// `NOSPC`.
    pub fn reserve(&mut self, length: u64) -> Result<(), Errno> {
        self.space.grow(self.written, length)
    }

    /// Gives the file this mode, as `chmod` would, and this time of modification, in seconds since
    /// 1970, in place of those it would have.
    pub fn describe(&mut self, mode: u32, mtime: i64) {
        self.described = Some((changed_mode(mode, false), mtime));
    }

    /// Appends content.
    ///
    /// # Errors
    ///
    /// `NOSPC`; the system's: `NOSPC`, `DQUOT`, `FBIG`.
    pub fn write(&mut self, mut content: &[u8]) -> Result<(), Errno> {
        self.reserve(self.written.saturating_add(content.len() as u64))?;
        while !content.is_empty() {
            match rustix::io::write(&self.file, content) {
                Ok(0) => return Err(Errno::IO),
                Ok(count) => {
                    content = content.get(count..).unwrap_or_default();
                    self.written = self.written.saturating_add(count as u64);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Returns the bytes that [`Upload::write`] has taken.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Puts the content in place of what has the name now, whose mode and extended attributes it
    /// keeps.
    ///
    /// # Errors
    ///
    /// `EXIST` if the caller may only make new files and one is there by now, `ISDIR` for a
    /// directory, or the system's. The name then keeps what it has.
    pub fn commit(self) -> Result<(), Errno> {
        let Self {
            file,
            temporary,
            name,
            mode: new_mode,
            described,
            replace,
            written,
            space,
        } = self;
        let dir = temporary.dir().clone();
        let mut exchange = false;
        if replace == Replace::Yes {
            match dir.stat(&name) {
                Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => return Err(Errno::ISDIR),
                    FileType::RegularFile => {
                        let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
                        if mode != new_mode && described.is_none() {
                            rustix::fs::fchmod(&file, mode)?;
                        }
                        copy_attributes(&dir, &name, &file)?;
                        exchange = true;
                    }
                    _ => {}
                },
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        if let Some((mode, mtime)) = described {
            if mode != new_mode {
                rustix::fs::fchmod(&file, mode)?;
            }
            let time = rustix::fs::Timespec {
                tv_sec: mtime,
                tv_nsec: 0,
            };
            let times = rustix::fs::Timestamps {
                last_access: time,
                last_modification: time,
            };
            rustix::fs::futimens(&file, &times)?;
        }
        space.install(&dir, &name, written, || {
            if exchange {
                temporary.take_place(&name)
            } else {
                temporary.install(&name, replace)
            }
        })
    }
}

/// Gives the new file the attributes that clients see on the old one.
fn copy_attributes(dir: &Dir, old: &[u8], new: &File) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, old, flags, Mode::empty()) {
        Ok(old) => xattr::copy(&File::from(old), new),
        // Removed or replaced meanwhile, or nothing that the server may read.
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::ACCESS) => Ok(()),
        Err(errno) => Err(errno),
    }
}
