//! Room for what has to be complete before its length can be told: files without a name in the
//! server's transient directory, gone with their last descriptor.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

/// The directory for such files.
#[derive(Debug)]
pub struct Spool {
    directory: OwnedFd,
}

impl Spool {
    /// Opens the directory.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn open(directory: &Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, directory, flags, Mode::empty())?;
        Ok(Self { directory })
    }

    /// Makes an empty file.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn file(&self) -> Result<File, Errno> {
        let private = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.directory, ".", flags | OFlags::TMPFILE, private) {
            Ok(file) => Ok(file.into()),
            // Some file systems, NFS for one, know no files that never had a name.
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
                let random = crate::random::hex::<16>().map_err(|_| Errno::IO)?;
                let name = format!("spool.{random}");
                let flags = flags | OFlags::CREATE | OFlags::EXCL;
                let file = rustix::fs::openat(&self.directory, &name, flags, private)?;
                rustix::fs::unlinkat(&self.directory, &name, AtFlags::empty())?;
                Ok(file.into())
            }
            Err(errno) => Err(errno),
        }
    }
}
