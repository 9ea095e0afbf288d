//! `getfile`, `putfile` (part 3.4), and the sinks of all verbs that bring a body.

use std::sync::Arc;

use chirp_proto::Code;

use crate::acl::{Locks, file};
use crate::authorize::{Failure, Granted};
use crate::export::Export;
use crate::guard::Guard;
use crate::outcome::{Outcome, Receiver};
use crate::vfs::stride::Scatter;
use crate::vfs::temporary::Replace;
use crate::vfs::{Dir, Open, Upload};

/// Sends a whole file, as long as it is now.
pub(crate) fn getfile(source: &Granted) -> Result<Outcome, Failure> {
    let file = source.open(Open {
        read: true,
        ..Open::default()
    })?;
    let length = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
    Ok(Outcome::SendFile {
        file,
        offset: 0,
        length,
    })
}

/// Receives a whole file, which replaces the old one when it is complete.
pub(crate) fn putfile(
    export: &Export,
    target: &Granted,
    replace: Replace,
    mode: u32,
    length: u64,
) -> Result<Outcome, Failure> {
    let mut upload = Upload::begin(target, mode, replace, &export.journal, &export.space)?;
    // What does not fit is refused before the client sends it.
    upload.reserve(length)?;
    let sink = into_place(export, target, upload);
    Ok(Outcome::ReceiveAfterGo { length, sink })
}

/// Receives a whole file as [`putfile`] does, but without a go-ahead, so that a client can send the
/// next one behind it; what is refused is read and dropped. Mode and time of modification are the
/// client's, also where a file is replaced.
pub(crate) fn store(
    export: &Export,
    target: &Granted,
    replace: Replace,
    (mode, mtime): (u32, i64),
    length: u64,
) -> Result<Outcome, Failure> {
    let mut upload = Upload::begin(target, mode, replace, &export.journal, &export.space)?;
    upload.reserve(length)?;
    upload.describe(mode, mtime);
    let sink = into_place(export, target, upload);
    Ok(Outcome::Receive { length, sink })
}

fn into_place(export: &Export, target: &Granted, upload: Upload) -> Box<dyn Receiver> {
    if !target.is_acl_file() {
        return Box::new(upload);
    }
    Box::new(ListUpload {
        upload,
        dir: target.holder().clone(),
        locks: Arc::clone(export.acls.locks()),
        guard: Arc::clone(export.guard()),
        text: Vec::new(),
    })
}

/// The upload of an access control list. It takes its place between two changes, so that none that has
/// read the old list brings back what this replaces.
#[derive(Debug)]
struct ListUpload {
    upload: Upload,
    dir: Dir,
    locks: Arc<Locks>,
    guard: Arc<Guard>,
    /// What came, for the record: a program could change the file before it has its name. One byte more
    /// than a list may have is enough to know that it is none.
    text: Vec<u8>,
}

impl Receiver for ListUpload {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Code> {
        let room = usize::try_from(file::SIZE_MAX + 1)
            .unwrap_or(usize::MAX)
            .saturating_sub(self.text.len());
        self.text
            .extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        self.upload.take(bytes)
    }

    fn finish(self: Box<Self>) -> Result<u64, Code> {
        let Self {
            upload,
            dir,
            locks,
            guard,
            text,
        } = *self;
        let written = upload.written();
        let commit = || {
            guard.writing(&dir, &text, || {
                guard.clear_way(&dir)?;
                upload.commit()
            })
        };
        locks.held(&dir, commit).map_err(code)?;
        Ok(written)
    }
}

impl Receiver for Upload {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Code> {
        self.write(bytes).map_err(code)
    }

    fn finish(self: Box<Self>) -> Result<u64, Code> {
        let written = self.written();
        self.commit().map_err(code)?;
        Ok(written)
    }
}

impl Receiver for Scatter {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Code> {
        self.write(bytes).map_err(code)
    }

    fn portion(&self) -> usize {
        self.portion()
    }

    fn finish(self: Box<Self>) -> Result<u64, Code> {
        Ok(self.done())
    }
}

/// The sink of a refused body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused(pub(crate) Code);

impl Receiver for Refused {
    fn take(&mut self, _: &[u8]) -> Result<(), Code> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<u64, Code> {
        Err(self.0)
    }
}

fn code(errno: rustix::io::Errno) -> Code {
    Code::from_errno(errno.raw_os_error())
}
