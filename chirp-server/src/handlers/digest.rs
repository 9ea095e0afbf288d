//! `md5`, `hash`, and our `sha256` (part 3.7; `exec-extension.md`).

use std::fs::File;

use bytes::BytesMut;
use chirp_proto::Code;
use rustix::io::Errno;
use sha2::Digest;

use crate::authorize::{Failure, Granted};
use crate::export::Export;
use crate::heavy::Slice;
use crate::outcome::{Outcome, Steps, Turn};
use crate::vfs::Open;

/// Bytes that are read at once.
const PORTION: usize = 64 * 1024;

/// The size of a file up to which its digest is made on the spot: it takes less time than handing
/// the work to another thread.
const SMALL: i64 = 64 * 1024;

/// How often a small file is read on the spot. One that grows faster is no longer small.
const READS_MAX: usize = 4;

/// The digest of a file's content, in binary.
pub(crate) fn digest<D: Digest + Send + 'static>(source: &Granted) -> Result<Outcome, Failure> {
    let file = source.open(Open {
        read: true,
        ..Open::default()
    })?;
    let size = rustix::fs::fstat(&file)?.st_size;
    let mut making = Making {
        file,
        digest: D::new(),
        portion: Vec::with_capacity(PORTION),
    };
    if size <= SMALL {
        for _ in 0..READS_MAX {
            if !making.read()? {
                return Ok(making.finish());
            }
        }
    }
    Ok(Outcome::Steps(Box::new(Some(making))))
}

/// A digest under way.
struct Making<D> {
    file: File,
    digest: D,
    portion: Vec<u8>,
}

impl<D: Digest> Making<D> {
    /// Takes the next portion; false at the end of the file.
    fn read(&mut self) -> Result<bool, Errno> {
        self.portion.clear();
        let room = rustix::buffer::spare_capacity(&mut self.portion);
        match rustix::io::read(&self.file, room) {
            Ok(0) => Ok(false),
            Ok(_) => {
                self.digest.update(&self.portion);
                Ok(true)
            }
            Err(Errno::INTR) => Ok(true),
            Err(errno) => Err(errno),
        }
    }

    fn finish(self) -> Outcome {
        Outcome::Counted(self.digest.finalize().to_vec())
    }
}

impl<D: Digest + Send> Steps for Option<Making<D>> {
    fn step(&mut self, _: &Export, _: &mut BytesMut, slice: &Slice) -> Turn {
        let Some(mut making) = self.take() else {
            return Turn::End;
        };
        while !slice.is_over() {
            match making.read() {
                Ok(true) => {}
                Ok(false) => return Turn::Answer(making.finish()),
                Err(errno) => {
                    let code = Code::from_errno(errno.raw_os_error());
                    return Turn::Answer(Outcome::Failed(code));
                }
            }
        }
        *self = Some(making);
        Turn::More
    }
}
