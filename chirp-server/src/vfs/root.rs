//! The handle of the exported directory.

use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Dir;

/// The exported directory: the only way into the file system for clients.
#[derive(Clone, Debug)]
pub struct Root {
    dir: Dir,
}

impl Root {
    /// Opens the directory to export. This is the last time its host path is used.
    ///
    /// # Errors
    ///
    /// The system's: `NOENT`, `NOTDIR`, `ACCESS`.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { dir: Dir::new(fd) })
    }

    /// Goes down to the directory with this link-free path below the root; `None` if there is none.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(crate) fn descend(&self, path: &[u8]) -> Result<Option<Dir>, Errno> {
        let mut names = path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty());
        match names.try_fold(self.dir.clone(), |dir, name| dir.child(name)) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Returns the handle of the exported directory itself.
    #[must_use]
    pub const fn dir(&self) -> &Dir {
        &self.dir
    }
}
