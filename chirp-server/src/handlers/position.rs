//! `read`, `write`, `lseek`: open files with a position (part 2.9). It is that of the system's own
//! open file, which no other descriptor and no other verb moves.

use std::fs::File;
use std::sync::Arc;

use chirp_proto::Code;
use chirp_proto::request::Whence;
use rustix::fs::{OFlags, SeekFrom};

use super::file;
use crate::authorize::Failure;
use crate::outcome::{Outcome, Receiver};
use crate::space::Space;
use crate::vfs::wire;

/// Reads from the position on, and moves it behind what was read.
pub(crate) fn read(file: &Arc<File>, length: u64) -> Result<Outcome, Failure> {
    let position = rustix::fs::seek(file, SeekFrom::Current(0))?;
    let outcome = file::pread(file, length, position)?;
    let read = match &outcome {
        Outcome::Counted(data) => data.len() as u64,
        Outcome::SendFile { length, .. } => *length,
        _ => 0,
    };
    rustix::fs::seek(file, SeekFrom::Start(position.saturating_add(read)))?;
    Ok(outcome)
}

/// Writes a body at the position, and moves that behind it.
pub(crate) fn write(space: &Space, file: &Arc<File>, length: u64) -> Result<Outcome, Failure> {
    let position = rustix::fs::seek(file, SeekFrom::Current(0))?;
    Ok(match file::pwrite(space, file, length, position)? {
        Outcome::Receive { length, sink } => Outcome::Receive {
            length,
            sink: Box::new(Moving {
                sink,
                file: Arc::clone(file),
                position,
            }),
        },
        other => other,
    })
}

/// Moves the position, and answers where it is now.
pub(crate) fn lseek(file: &File, offset: i64, whence: Whence) -> Result<Outcome, Failure> {
    if wire::stat(&rustix::fs::fstat(file)?).is_directory() {
        return Err(Code::IsDirectory.into());
    }
    let to = match whence {
        Whence::Start => SeekFrom::Start(u64::try_from(offset).map_err(|_| Code::InvalidRequest)?),
        Whence::Position => SeekFrom::Current(offset),
        Whence::End => SeekFrom::End(offset),
    };
    Ok(Outcome::Number(rustix::fs::seek(file, to)?))
}

/// The sink of a `write`: another one, and the position to move at the end.
struct Moving {
    sink: Box<dyn Receiver>,
    file: Arc<File>,
    position: u64,
}

impl Receiver for Moving {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Code> {
        self.sink.take(bytes)
    }

    fn portion(&self) -> usize {
        self.sink.portion()
    }

    fn finish(self: Box<Self>) -> Result<u64, Code> {
        let written = self.sink.finish()?;
        // What is appended lies at the end, wherever the position was.
        let to = match rustix::fs::fcntl_getfl(&*self.file) {
            Ok(flags) if flags.contains(OFlags::APPEND) => SeekFrom::End(0),
            _ => SeekFrom::Start(self.position.saturating_add(written)),
        };
        match rustix::fs::seek(&*self.file, to) {
            Ok(_) => Ok(written),
            Err(errno) => Err(Code::from_errno(errno.raw_os_error())),
        }
    }
}
