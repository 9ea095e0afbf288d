//! Extended attributes of open files and directories: those of users (`user.NAME`), no others.
//!
//! The other namespaces say how the system treats a file (capabilities, labels, ACLs); clients
//! neither see nor change them.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Bytes of the largest value that Linux takes (`XATTR_SIZE_MAX`).
pub const VALUE_MAX: u64 = 64 * 1024;

/// Bytes of the longest list of names that Linux returns (`XATTR_LIST_MAX`).
const LIST_MAX: usize = 64 * 1024;

/// The namespace that clients may use.
const NAMESPACE: &[u8] = b"user.";

/// The namespaces that are the system's.
const OF_THE_SYSTEM: [&[u8]; 3] = [b"security.", b"system.", b"trusted."];

/// Returns a value.
///
/// # Errors
///
/// `NODATA` if there is no such attribute, also for the system's; `OPNOTSUPP` for a namespace that does not exist, `INVAL` for one without a name.
pub fn get(file: impl AsFd, name: &[u8]) -> Result<Vec<u8>, Errno> {
    match check(name) {
        Err(Errno::PERM) => Err(Errno::NODATA),
        other => other,
    }?;
    // Most values are short; no value is longer than the second attempt's room.
    let mut value = Vec::with_capacity(256);
    for room in [256, VALUE_MAX as usize] {
        value.reserve(room);
        match rustix::fs::fgetxattr(&file, name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => return Ok(value),
            Err(Errno::RANGE) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::RANGE)
}

/// Returns the names that clients may see, each ended by a NUL.
///
/// # Errors
///
/// The system's.
pub fn list(file: impl AsFd) -> Result<Vec<u8>, Errno> {
    let mut names = Vec::new();
    for room in [256, LIST_MAX] {
        names.reserve(room);
        match rustix::fs::flistxattr(&file, rustix::buffer::spare_capacity(&mut names)) {
            Ok(_) => break,
            Err(Errno::RANGE) if room < LIST_MAX => {}
            // A file system without attributes has none.
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        }
    }
    let visible = names
        .split_inclusive(|&byte| byte == 0)
        .filter(|name| name.starts_with(NAMESPACE));
    Ok(visible.flatten().copied().collect())
}

/// Sets a value.
///
/// # Errors
///
/// `EXIST` and `NODATA` as the flags have it, `TOOBIG` above [`VALUE_MAX`], `NOSPC` for more than
/// the file system keeps with a file; `OPNOTSUPP` for a namespace that does not exist, `INVAL` for one without a name.
pub fn set(file: impl AsFd, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<(), Errno> {
    check(name)?;
    rustix::fs::fsetxattr(file, name, value, flags)
}

/// Removes an attribute.
///
/// # Errors
///
/// `NODATA` if there is none; `OPNOTSUPP` for a namespace that does not exist, `INVAL` for one without a name.
pub fn remove(file: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    check(name)?;
    rustix::fs::fremovexattr(file, name)
}

/// Gives a file the attributes of another that clients see.
///
/// # Errors
///
/// The system's: `NOSPC` where the file's file system keeps fewer.
pub fn copy(from: &File, to: &File) -> Result<(), Errno> {
    for name in list(from)?.split(|&byte| byte == 0) {
        if name.is_empty() {
            continue;
        }
        match get(from, name) {
            Ok(value) => set(to, name, &value, XattrFlags::empty())?,
            // Removed meanwhile.
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Checks that clients may use a name.
///
/// # Errors
///
/// `PERM` for the system's namespaces, `OPNOTSUPP` for one that does not exist, `INVAL` for a
/// namespace without a name.
fn check(name: &[u8]) -> Result<(), Errno> {
    if OF_THE_SYSTEM.iter().any(|space| name.starts_with(space)) {
        return Err(Errno::PERM);
    }
    match name.strip_prefix(NAMESPACE) {
        None => Err(Errno::OPNOTSUPP),
        Some(b"") => Err(Errno::INVAL),
        Some(_) => Ok(()),
    }
}
