//! What a request came to, as a value: the connection turns it into bytes.

use std::fs::File;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use chirp_client::Address;
use chirp_proto::{Code, Stat, StatFs, encode};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use crate::export::Export;
use crate::handlers::third::Copying;
use crate::heavy::Slice;
use crate::transfer::Sink;
use crate::vfs::Listing;
use crate::vfs::stride::Gather;

/// The result of dispatching a request.
///
/// `Send` everywhere, so that long work may move to another thread.
pub enum Outcome {
    /// A failure: the bare code.
    Failed(Code),
    /// A success: one number.
    Number(u64),
    /// A count and as many bytes.
    Counted(Vec<u8>),
    /// 0 (or the descriptor, for `open`) and a stat line.
    Stat(u64, Stat),
    /// 0 and a statfs line.
    StatFs(StatFs),
    /// 0 and raw text that was made whole (an ACL with its empty line at the end).
    Text(Vec<u8>),
    /// 0, and the listing in pieces, with the empty line at its end.
    Listing(Listing),
    /// A count and as many bytes of the file.
    SendFile {
        /// What to send from.
        file: File,
        /// Where the bytes begin.
        offset: u64,
        /// How many there are.
        length: u64,
    },
    /// A count ([`Gather::total`]) and as many bytes, in pieces.
    Gather(Gather),
    /// A body that comes at once (`pwrite`, `swrite`): taken by the sink, then its verdict.
    Receive {
        /// The length the client announced.
        length: u64,
        /// Where it goes.
        sink: Box<dyn Receiver>,
    },
    /// A body that the client sends after it has read a 0 (`putfile`): taken by the sink, then its
    /// verdict as a second status line.
    ReceiveAfterGo {
        /// The length the client announced.
        length: u64,
        /// Where it goes.
        sink: Box<dyn Receiver>,
    },
    /// 0 and the file to its end; then the connection is closed (`getstream`).
    SendStream(File),
    /// 0, then a body that ends with the client's side of the connection, which is closed without
    /// an answer (`putstream`).
    ReceiveStream(Box<dyn Receiver>),
    /// A body that comes at once and is needed whole: taken into memory, then what comes of it.
    Body {
        /// The length the client announced.
        length: u64,
        /// The longest that is taken; a longer one is dropped and answered -7.
        limit: u64,
        /// What to do with it.
        then: Then,
    },
    /// A call to another server, to learn who this one is there.
    Whoareyou {
        /// The other server.
        address: Address,
        /// Bytes of the answer that the client wants.
        limit: u64,
    },
    /// A copy to another server.
    Thirdput {
        /// The other server.
        address: Address,
        /// What is copied.
        copying: Box<Copying>,
    },
    /// Long work in slices, which writes its answer piece by piece or at its end.
    Steps(Box<dyn Steps>),
    /// Whether the request is allowed depends on this group, which is to be fetched; then the request is
    /// dispatched again. Nothing was done, and its body is still on its way.
    Group(Arc<[u8]>),
    /// Work that may take long: to be run where it holds up no other connection.
    Blocking {
        /// What to do. The token tells it that nobody waits for it any more.
        work: Work,
        /// Whether it keeps a processor or a disk busy for as long as it takes (`rmall`): that runs
        /// after everything else, where there is always a thread for the others (`fsync`).
        heavy: bool,
    },
}

impl Outcome {
    /// Appends the status line and what stands right behind it; bodies are for the connection.
    pub fn encode_head(&self, out: &mut BytesMut) {
        match self {
            Self::Failed(code) => encode::failure(*code, out),
            Self::Number(number) => encode::number(*number, out),
            Self::Counted(data) => encode::counted(data, out),
            Self::Stat(number, stat) => {
                encode::number(*number, out);
                stat.encode_into(out);
            }
            Self::StatFs(stat) => {
                encode::number(0, out);
                stat.encode_into(out);
            }
            Self::Text(text) => {
                encode::number(0, out);
                out.put_slice(text);
            }
            Self::Listing(_)
            | Self::ReceiveAfterGo { .. }
            | Self::SendStream(_)
            | Self::ReceiveStream(_) => encode::number(0, out),
            Self::Gather(gather) => encode::number(gather.total(), out),
            Self::SendFile { length, .. } => encode::number(*length, out),
            // These answer when they are done.
            Self::Receive { .. }
            | Self::Body { .. }
            | Self::Group(_)
            | Self::Whoareyou { .. }
            | Self::Thirdput { .. }
            | Self::Steps(_)
            | Self::Blocking { .. } => {}
        }
    }

    /// Returns how many bytes of a file are sent, as far as that is known before.
    #[must_use]
    pub const fn sent_length(&self) -> u64 {
        match self {
            Self::SendFile { length, .. } => *length,
            Self::Gather(gather) => gather.total(),
            _ => 0,
        }
    }

    /// Makes a [`Outcome::Blocking`] of work that the system may refuse.
    pub fn blocking(
        heavy: bool,
        work: impl FnOnce(&CancellationToken) -> Result<Self, Errno> + Send + 'static,
    ) -> Self {
        let work = move |token: &CancellationToken| {
            work(token).unwrap_or_else(|errno| Self::Failed(Code::from_errno(errno.raw_os_error())))
        };
        Self::Blocking {
            work: Box::new(work),
            heavy,
        }
    }
}

/// What comes of a body.
pub type Then = Box<dyn FnOnce(Vec<u8>) -> Outcome + Send>;

/// Long work, and what it comes to.
pub type Work = Box<dyn FnOnce(&CancellationToken) -> Outcome + Send>;

/// Long work that pauses: what waits gets its turn in between, nothing waits for a client that is
/// slow to take its answer, and one that left is noticed.
pub trait Steps: Send {
    /// Works until the slice is over, or there is an answer, or a piece of it. What it appends to `out`
    /// is sent before the next step.
    fn step(&mut self, export: &Export, out: &mut BytesMut, slice: &Slice) -> Turn;
}

/// What a step of long work came to.
pub enum Turn {
    /// There is more to do.
    More,
    /// The answer is written.
    End,
    /// This is the answer.
    Answer(Outcome),
}

/// Takes a body and says at its end what it came to. Dropped before [`Receiver::finish`], it
/// leaves everything as it was, as far as the verb promises that.
pub trait Receiver: Send {
    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// What the client is told; the rest of the body is then read and dropped.
    fn take(&mut self, bytes: &[u8]) -> Result<(), Code>;

    /// Returns how many bytes to hand over at once at most: fewer where each costs much time, so
    /// that other connections get their turn in between.
    fn portion(&self) -> usize {
        usize::MAX
    }

    /// Ends the body.
    ///
    /// # Errors
    ///
    /// What the client is told instead of the number.
    fn finish(self: Box<Self>) -> Result<u64, Code>;
}

impl Sink for Box<dyn Receiver> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Code> {
        self.as_mut().take(bytes)
    }

    fn portion(&self) -> usize {
        self.as_ref().portion()
    }
}
