//! The file of a list.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use chirp_proto::acl::Acl;

use crate::vfs::{ACL_NAME, Dir};

/// Bytes of the largest list that is read.
const SIZE_MAX: u64 = 1024 * 1024;

/// Opens the list in a directory.
pub(super) fn open_in(dir: &Dir) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, ACL_NAME, flags, Mode::empty()) {
        Ok(fd) => Ok(File::from(fd)),
        // A link is not a list.
        Err(Errno::LOOP) => Err(Errno::INVAL),
        Err(errno) => Err(errno),
    }
}

/// Opens the file of `-A`, which lies outside the exported tree.
pub(super) fn open_host_file(path: &Path) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map(File::from)
}

/// Reads a list.
pub(super) fn read(file: File) -> Result<Acl, Errno> {
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let mut text = Vec::new();
    let mut limited = file.take(SIZE_MAX + 1);
    limited
        .read_to_end(&mut text)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    if text.len() as u64 > SIZE_MAX {
        return Err(Errno::FBIG);
    }
    Ok(Acl::parse(&text))
}

/// Writes a list under a name that is not taken. One too large to be read again is refused.
pub(super) fn write_new(dir: &Dir, name: &[u8], text: &[u8]) -> Result<(), Errno> {
    if text.len() as u64 > SIZE_MAX {
        return Err(Errno::FBIG);
    }
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
