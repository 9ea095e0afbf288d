//! `stat`, `lstat`, `statfs`, `access`, `chmod`, `chown`, `truncate`, `utime` (part 3.7).

use chirp_proto::request::AccessMode;

use crate::authorize::{Failure, Granted};
use crate::export::Export;
use crate::outcome::Outcome;
use crate::vfs::wire;

/// The status as it was when the rights were checked.
pub(crate) fn stat(object: &Granted) -> Result<Outcome, Failure> {
    Ok(Outcome::Stat(0, wire::stat(object.stat()?)))
}

/// The figures of the file system that holds a directory, or those of its allocation.
pub(crate) fn statfs(export: &Export, object: &Granted) -> Result<Outcome, Failure> {
    let stat = wire::statfs(&object.statfs()?);
    Ok(Outcome::StatFs(
        export.space.limit_statfs(object.directory()?, stat)?,
    ))
}

/// The rights are there; what is left are Unix permissions. X on a directory is L, which they do
/// not know.
pub(crate) fn access(object: &Granted, mode: AccessMode) -> Result<Outcome, Failure> {
    object.access(mode.read(), mode.write(), mode.execute())?;
    Ok(Outcome::Number(0))
}

/// Sets the mode.
pub(crate) fn chmod(object: &Granted, mode: u32) -> Result<Outcome, Failure> {
    object.chmod(mode)?;
    Ok(Outcome::Number(0))
}

/// Changes nothing: all files belong to the server's account (part 3.7). A missing file is an
/// error, unlike in the reference (W31).
pub(crate) fn chown(object: &Granted) -> Result<Outcome, Failure> {
    object.stat()?;
    Ok(Outcome::Number(0))
}

/// Cuts or extends a file.
pub(crate) fn truncate(export: &Export, object: &Granted, length: u64) -> Result<Outcome, Failure> {
    export.space.truncate(object, length)?;
    Ok(Outcome::Number(0))
}

/// Sets the times.
pub(crate) fn utime(object: &Granted, atime: i64, mtime: i64) -> Result<Outcome, Failure> {
    object.utime(atime, mtime)?;
    Ok(Outcome::Number(0))
}
