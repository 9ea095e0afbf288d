//! A shared handle of a directory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

/// A directory, held by descriptor; cheap to clone, closed with its last clone.
///
/// The descriptor is `O_PATH`: good for operations on names in the directory, not for reading it.
#[derive(Clone, Debug)]
pub struct Dir(Arc<OwnedFd>);

impl Dir {
    /// Takes over a descriptor, which the caller knows to be of a directory.
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(Arc::new(fd))
    }

    /// Opens a directory that is an entry of this one, links not followed.
    ///
    /// # Errors
    ///
    /// The system's: `NOTDIR` for anything but a directory.
    pub(crate) fn child(&self, name: &[u8]) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(self, name, flags, Mode::empty()).map(Self::new)
    }

    /// Opens the directory that holds this one, be it inside the exported tree or not: the caller sees
    /// to it that the root's is not asked for.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(crate) fn parent(&self) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(self, c"..", flags, Mode::empty()).map(Self::new)
    }

    /// Opens the directory itself for reading its entries.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn readable(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(self, c".", flags, Mode::empty())
    }

    /// Returns the status of an entry, links not followed.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn stat(&self, name: &[u8]) -> Result<Stat, Errno> {
        rustix::fs::statat(self, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Removes an entry that is not a directory; one that is missing is as good.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(crate) fn unlink_if_there(&self, name: &[u8]) -> Result<(), Errno> {
        match rustix::fs::unlinkat(self, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
