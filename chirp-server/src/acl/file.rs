//! The file of a list.

use std::fs::File;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use chirp_proto::acl::Acl;

use crate::vfs::{ACL_NAME, Dir, small};

/// Bytes of the largest list that is read.
pub(crate) const SIZE_MAX: u64 = 1024 * 1024;

/// Opens the list in a directory.
pub(crate) fn open_in(dir: &Dir) -> Result<File, Errno> {
    small::open(dir, ACL_NAME)
}

/// Opens the file of `-A`, which lies outside the exported tree.
pub(crate) fn open_host_file(path: &Path) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map(File::from)
}

/// Reads a list.
pub(crate) fn read(file: File) -> Result<Acl, Errno> {
    read_text(file).map(|text| Acl::parse(&text))
}

/// Reads the text of a list.
pub(crate) fn read_text(file: File) -> Result<Vec<u8>, Errno> {
    small::read(file, SIZE_MAX)
}

/// Writes a list under a name that is not taken. One too large to be read again is refused.
pub(crate) fn write_new(dir: &Dir, name: &[u8], text: &[u8]) -> Result<(), Errno> {
    if text.len() as u64 > SIZE_MAX {
        return Err(Errno::FBIG);
    }
    small::write_new(dir, name, text)
}
