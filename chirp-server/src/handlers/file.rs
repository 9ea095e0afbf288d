//! Descriptors (part 3.3).

use std::fs::File;
use std::sync::Arc;

use chirp_proto::limits::IO_MAX;
use chirp_proto::request::{Descriptor, OpenFlags, Stride};
use chirp_proto::{Code, VirtualPath};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::authorize::{Door, Failure};
use crate::outcome::Outcome;
use crate::session::Descriptors;
use crate::space::Space;
use crate::vfs::located::changed_mode;
use crate::vfs::stride::{Gather, Scatter};
use crate::vfs::wire;

/// Bytes up to which a `pread` is answered through memory; more goes from the page cache to the
/// socket.
const SMALL_READ: u64 = 64 * 1024;

/// Opens a file, or a directory for `fstat` and `fstatfs`.
pub(crate) fn open(
    space: &Space,
    door: Door<'_>,
    descriptors: &mut Descriptors,
    path: &VirtualPath,
    flags: OpenFlags,
    mode: u32,
) -> Result<Outcome, Failure> {
    let (target, how) = door.open(path, flags, mode)?;
    let (file, held) = match target.directory() {
        Ok(dir) => (Arc::new(File::from(dir.readable()?)), None),
        Err(_) => space.open_file(&target, how)?,
    };
    let stat = wire::stat(&rustix::fs::fstat(&*file)?);
    let number = descriptors.insert(file, held)?;
    Ok(Outcome::Stat(number.into(), stat))
}

/// Closes a descriptor.
pub(crate) fn close(descriptors: &mut Descriptors, number: Descriptor) -> Result<Outcome, Failure> {
    descriptors.close(number)?;
    Ok(Outcome::Number(0))
}

/// Reads from a position; short only at the end of the file.
pub(crate) fn pread(file: &Arc<File>, length: u64, offset: u64) -> Result<Outcome, Failure> {
    let mut length = length.min(IO_MAX);
    if length > SMALL_READ {
        // Says at once whether the descriptor can be read; nothing can be said once the length is.
        rustix::io::pread(&**file, &mut [0u8; 1], offset)?;
        let size = u64::try_from(rustix::fs::fstat(&**file)?.st_size).unwrap_or(0);
        // The size of a file that is made up as it is read says nothing, so some is tried all the same.
        length = length.min(size.saturating_sub(offset).max(SMALL_READ));
        if length > SMALL_READ {
            let file = file
                .try_clone()
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::MFILE))?;
            return Ok(Outcome::SendFile {
                file,
                offset,
                length,
            });
        }
    }
    let length = usize::try_from(length).unwrap_or(0);
    let mut data = vec![0; length];
    let mut done = 0;
    while let Some(rest) = data.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(&**file, rest, offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    data.truncate(done);
    Ok(Outcome::Counted(data))
}

/// Reads pieces at regular distances.
pub(crate) fn sread(file: &Arc<File>, stride: Stride) -> Result<Outcome, Failure> {
    let stride = Stride {
        length: stride.length.min(IO_MAX),
        ..stride
    };
    Ok(Outcome::Gather(Gather::new(Arc::clone(file), stride)?))
}

/// Writes a body at a position, or at the end of a file opened for that. Of a body above 16 MiB the
/// rest is dropped.
pub(crate) fn pwrite(
    space: &Space,
    file: &Arc<File>,
    length: u64,
    offset: u64,
) -> Result<Outcome, Failure> {
    let written = length.min(IO_MAX);
    if offset
        .checked_add(written)
        .is_none_or(|end| i64::try_from(end).is_err())
    {
        return Err(Code::InvalidRequest.into());
    }
    require_writable(file)?;
    scatter(
        space,
        file,
        length,
        Scatter::contiguous(Arc::clone(file), offset, written),
    )
}

/// Writes pieces of a body at regular distances, whole pieces only.
pub(crate) fn swrite(space: &Space, file: &Arc<File>, stride: Stride) -> Result<Outcome, Failure> {
    require_writable(file)?;
    let size = u64::try_from(rustix::fs::fstat(&**file)?.st_size).unwrap_or(0);
    if stride.offset > size {
        return Err(Code::InvalidRequest.into());
    }
    let kept = Stride {
        length: stride.length.min(IO_MAX),
        ..stride
    };
    scatter(
        space,
        file,
        stride.length,
        Scatter::strided(Arc::clone(file), kept),
    )
}

/// Takes a body into a file that has space for it, or none of it.
fn scatter(
    space: &Space,
    file: &Arc<File>,
    length: u64,
    scatter: Scatter,
) -> Result<Outcome, Failure> {
    let promise = space.promise(file, scatter.end(), scatter.total())?;
    Ok(Outcome::Receive {
        length,
        sink: Box::new(scatter.promised(promise)),
    })
}

/// The status of an open file.
pub(crate) fn fstat(file: &File) -> Result<Outcome, Failure> {
    Ok(Outcome::Stat(0, wire::stat(&rustix::fs::fstat(file)?)))
}

/// The figures of the file system or of the allocation; for files too, where the reference answers
/// -14 (W31).
pub(crate) fn fstatfs(space: &Space, file: &File) -> Result<Outcome, Failure> {
    let stat = wire::statfs(&rustix::fs::fstatfs(file)?);
    Ok(Outcome::StatFs(space.limit_fstatfs(file, stat)?))
}

/// Brings a file to the disk.
pub(crate) fn fsync(file: &Arc<File>) -> Outcome {
    let file = Arc::clone(file);
    Outcome::blocking(false, move |_| {
        rustix::fs::fsync(&*file)?;
        Ok(Outcome::Number(0))
    })
}

/// Cuts or extends an open file.
pub(crate) fn ftruncate(space: &Space, file: &Arc<File>, length: u64) -> Result<Outcome, Failure> {
    space.resize(file, length)?;
    Ok(Outcome::Number(0))
}

/// Sets the mode of an open file. The descriptor is right enough, except where nobody changes
/// anything.
pub(crate) fn fchmod(file: &File, mode: u32, read_only: bool) -> Result<Outcome, Failure> {
    if read_only {
        return Err(Code::NotAuthorized.into());
    }
    let stat = rustix::fs::fstat(file)?;
    let is_directory = wire::stat(&stat).is_directory();
    rustix::fs::fchmod(file, changed_mode(mode, is_directory))?;
    Ok(Outcome::Number(0))
}

/// Changes nothing, as `chown`; but the descriptor must be open (W31).
pub(crate) fn fchown(_open: &File) -> Result<Outcome, Failure> {
    Ok(Outcome::Number(0))
}

/// Fails at once for a descriptor that cannot write: an empty body would not notice.
fn require_writable(file: &File) -> Result<(), Failure> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    if flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
        Ok(())
    } else {
        Err(Code::BadDescriptor.into())
    }
}
