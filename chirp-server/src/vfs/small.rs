//! The server's own small files in the tree, access control lists and tickets: read whole, and made
//! anew.

use std::fs::File;
use std::io::Read;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Dir;

/// Opens a file in a directory; a link is none.
///
/// # Errors
///
/// The system's; `INVAL` for a link.
pub(crate) fn open(dir: &Dir, name: &[u8]) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => Ok(File::from(fd)),
        Err(Errno::LOOP) => Err(Errno::INVAL),
        Err(errno) => Err(errno),
    }
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
///
/// The system's; `INVAL` for what is no regular file, `FBIG` for a larger one.
pub(crate) fn read(file: File, limit: u64) -> Result<Vec<u8>, Errno> {
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let mut text = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut text)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    if text.len() as u64 > limit {
        return Err(Errno::FBIG);
    }
    Ok(text)
}

/// Writes a file, readable for its owner only, under a name that is not taken.
///
/// # Errors
///
/// The system's; `EXIST`.
pub(crate) fn write_new(dir: &Dir, name: &[u8], text: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
    let mut rest = text;
    while !rest.is_empty() {
        match rustix::io::write(&file, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
