//! `getstream`, `putstream` (part 3.5): content whose end is the connection's.

use std::fs::File;
use std::sync::Arc;

use chirp_proto::Code;
use rustix::io::Errno;

use crate::authorize::{Failure, Granted};
use crate::outcome::{Outcome, Receiver};
use crate::space::{Held, Space};
use crate::vfs::Open;
use crate::vfs::located::Create;
use crate::vfs::temporary::Replace;

/// The mode that `putstream` asks for (part 3.5); an old file keeps its own.
const MODE: u32 = 0o700;

/// Sends a file to its end, wherever that is by then.
pub(crate) fn getstream(source: &Granted) -> Result<Outcome, Failure> {
    let file = source.open(Open {
        read: true,
        ..Open::default()
    })?;
    Ok(Outcome::SendStream(file))
}

/// Receives a file until the client ends its side of the connection.
///
/// It is written in place as it comes, as in the reference: a stream has no length, so nobody can tell
/// whether it is complete, and readers may follow one that has no end. `putfile` is for content that
/// shall be there whole or not at all.
pub(crate) fn putstream(
    space: &Space,
    target: &Granted,
    replace: Replace,
) -> Result<Outcome, Failure> {
    let how = Open {
        write: true,
        truncate: true,
        create: Some(Create {
            mode: MODE,
            exclusive: replace == Replace::No,
        }),
        ..Open::default()
    };
    if target.directory().is_ok() {
        return Err(Errno::ISDIR.into());
    }
    // Written in place, a list would let nobody in from the first moment on.
    if target.is_acl_file() {
        return Err(Code::NotAuthorized.into());
    }
    let (file, held) = space.open_file(target, how)?;
    Ok(Outcome::ReceiveStream(Box::new(InPlace {
        space: space.clone(),
        file,
        written: 0,
        _held: held,
    })))
}

/// A file that grows with what comes.
struct InPlace {
    space: Space,
    file: Arc<File>,
    written: u64,
    _held: Option<Held>,
}

impl InPlace {
    fn write(&mut self, mut content: &[u8]) -> Result<(), Errno> {
        let end = self.written.saturating_add(content.len() as u64);
        let _promise = self.space.promise(&self.file, end, content.len() as u64)?;
        while !content.is_empty() {
            match rustix::io::pwrite(&*self.file, content, self.written) {
                Ok(0) => return Err(Errno::IO),
                Ok(count) => {
                    content = content.get(count..).unwrap_or_default();
                    self.written = self.written.saturating_add(count as u64);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

impl Receiver for InPlace {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Code> {
        self.write(bytes)
            .map_err(|errno| Code::from_errno(errno.raw_os_error()))
    }

    fn finish(self: Box<Self>) -> Result<u64, Code> {
        Ok(self.written)
    }
}
