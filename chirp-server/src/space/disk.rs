//! The file `.__alloc` in the top directory of an allocation (part 8.2): its size and what of it is
//! in use, in decimal, with white space between.
//!
//! The size is believed; what is in use is counted afresh at each start, by the reference too.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// The name of the file.
pub(super) const NAME: &[u8] = b".__alloc";

/// What is written first, and renamed when it is whole. One name, so that a killed server leaves
/// one file at most, which the next overwrites.
const NEW_NAME: &[u8] = b".__alloc.new";

/// Bytes of the longest file that is read: two numbers of 20 digits, and generous space.
const LENGTH_MAX: u64 = 128;

/// Reads the size of an allocation; `None` if the directory is not the top of one.
///
/// # Errors
///
/// `INVAL` for a file that says no size; else the system's.
pub(super) fn read(dir: impl AsFd) -> Result<Option<(u64, u64)>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(dir, NAME, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(Errno::INVAL),
        Err(errno) => return Err(errno),
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let mut text = String::new();
    let read = file.take(LENGTH_MAX).read_to_string(&mut text);
    read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
    figures(&text).map(Some).ok_or(Errno::INVAL)
}

/// Reads the content of the file: the size, and what is in use; none where it says no size.
#[must_use]
pub fn figures(text: &str) -> Option<(u64, u64)> {
    let mut words = text.split_ascii_whitespace().map(str::parse::<u64>);
    let size = words.next().and_then(Result::ok)?;
    let used = words.next().and_then(Result::ok).unwrap_or(0);
    Some((size, used))
}

/// Writes the file anew, whole or not at all.
///
/// # Errors
///
/// The system's.
pub(super) fn write(dir: impl AsFd, size: u64, used: u64) -> Result<(), Errno> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&dir, NEW_NAME, flags, Mode::RUSR | Mode::WUSR)?;
    let text = format!("{size}\n{used}\n");
    let written = rustix::io::write(&file, text.as_bytes());
    if written == Ok(text.len()) {
        return rustix::fs::renameat(&dir, NEW_NAME, &dir, NAME);
    }
    // Half a file is of no use; if it stays, the next write cuts it.
    let _ = rustix::fs::unlinkat(&dir, NEW_NAME, AtFlags::empty());
    written.and(Err(Errno::NOSPC))
}
