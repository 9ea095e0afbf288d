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

    /// Returns the handle of the exported directory itself.
    #[must_use]
    pub const fn dir(&self) -> &Dir {
        &self.dir
    }
}
