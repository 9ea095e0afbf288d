//! Extended attributes by path, by link and by descriptor (parts 3.3 and 3.7).

use std::fs::File;
use std::sync::Arc;

use chirp_proto::Code;
use chirp_proto::request::XattrFlags;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::authorize::{Failure, Granted};
use crate::outcome::Outcome;
use crate::space::Space;
use crate::vfs::xattr;

/// Opens a file or directory for its attributes. A link has none (-23), nor has a special file.
pub(crate) fn of(object: &Granted) -> Result<Arc<File>, Failure> {
    object.open_for_attributes().map(Arc::new).map_err(failure)
}

/// Returns the open file if its descriptor can read. That of a directory was given for the right to list,
/// and attributes ask for the right to read.
pub(crate) fn readable(file: &Arc<File>) -> Result<Arc<File>, Failure> {
    let flags = rustix::fs::fcntl_getfl(&**file)?;
    if flags.contains(OFlags::WRONLY) {
        return Err(Code::BadDescriptor.into());
    }
    let stat = rustix::fs::fstat(&**file)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Code::NotAuthorized.into());
    }
    Ok(Arc::clone(file))
}

/// Returns the open file if its descriptor can write: whoever may only read a file cannot change
/// its attributes by way of a descriptor.
pub(crate) fn writable(file: &Arc<File>) -> Result<Arc<File>, Failure> {
    let flags = rustix::fs::fcntl_getfl(&**file)?;
    if flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
        return Ok(Arc::clone(file));
    }
    Err(Code::BadDescriptor.into())
}

/// A value.
pub(crate) fn get(file: &File, name: &[u8]) -> Result<Outcome, Failure> {
    xattr::get(file, name)
        .map(Outcome::Counted)
        .map_err(failure)
}

/// All names, each with a NUL behind it.
pub(crate) fn list(file: &File) -> Result<Outcome, Failure> {
    xattr::list(file).map(Outcome::Counted).map_err(failure)
}

/// Takes a value and sets it.
pub(crate) fn set(
    space: &Space,
    file: Arc<File>,
    name: &[u8],
    length: u64,
    flags: XattrFlags,
) -> Result<Outcome, Failure> {
    if length > xattr::VALUE_MAX {
        return Err(Code::TooBig.into());
    }
    space.room(length)?;
    let name = name.to_vec();
    let flags = match flags {
        XattrFlags::Either => rustix::fs::XattrFlags::empty(),
        XattrFlags::Create => rustix::fs::XattrFlags::CREATE,
        XattrFlags::Replace => rustix::fs::XattrFlags::REPLACE,
    };
    Ok(Outcome::Body {
        length,
        limit: xattr::VALUE_MAX,
        then: Box::new(
            move |value| match xattr::set(&*file, &name, &value, flags) {
                Ok(()) => Outcome::Number(0),
                Err(errno) => Outcome::Failed(code(errno)),
            },
        ),
    })
}

/// Removes one.
pub(crate) fn remove(file: &File, name: &[u8]) -> Result<Outcome, Failure> {
    xattr::remove(file, name).map_err(failure)?;
    Ok(Outcome::Number(0))
}

fn failure(errno: Errno) -> Failure {
    match errno {
        Errno::STALE => Failure::Stale,
        errno => Failure::Code(code(errno)),
    }
}

/// An absent attribute is -8, which clients report as such; the reference's -127 makes them try
/// again until their deadline (W31).
fn code(errno: Errno) -> Code {
    match errno {
        Errno::NODATA => Code::InvalidRequest,
        Errno::RANGE => Code::NameTooLong,
        Errno::TOOBIG => Code::TooBig,
        errno => Code::from_errno(errno.raw_os_error()),
    }
}
