//! Halves of a connection in the hands of a caller.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use chirp_proto::parse::reply::Status;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::oneshot;

use super::{Fault, Reader, State};

/// What of a reply is still unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nothing: the next bytes are the next reply.
    Nothing,
    /// This many bytes.
    Bytes(u64),
    /// Lines up to an empty one.
    Lines,
    /// Who knows: the connection cannot go on from here.
    Unknown,
}

/// The reading half, lent until the reply is read.
pub(crate) struct ReaderLoan {
    reader: Option<Reader>,
    rest: Rest,
    back: Option<oneshot::Sender<(Reader, Rest)>>,
    state: Arc<State>,
}

/// A loan was used after it had been given back, which its owner's types rule out.
const GIVEN_BACK: Fault = Fault::Abandoned("used after it was given back");

impl ReaderLoan {
    pub(super) fn new(
        reader: Reader,
        rest: Rest,
        state: Arc<State>,
    ) -> (Self, oneshot::Receiver<(Reader, Rest)>) {
        let (back, returned) = oneshot::channel();
        let loan = Self {
            reader: Some(reader),
            rest,
            back: Some(back),
            state,
        };
        (loan, returned)
    }

    /// Takes up to `limit` bytes of a counted body off; empty at its end.
    pub(crate) async fn body(&mut self, limit: u64) -> Result<Bytes, Fault> {
        let Rest::Bytes(left) = self.rest else {
            return Ok(Bytes::new());
        };
        let chunk = match &mut self.reader {
            Some(reader) => reader.some(left.min(limit)).await,
            None => Err(GIVEN_BACK),
        };
        let chunk = self.noted(chunk)?;
        let left = left.saturating_sub(chunk.len() as u64);
        self.rest = Rest::Bytes(left);
        if left == 0 {
            self.rest = Rest::Nothing;
            self.give_back();
        }
        Ok(chunk)
    }

    /// Reads some of a counted body, or of one that ends with the connection, and returns how much;
    /// 0 at its end.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<Result<usize, Fault>> {
        let left = match self.rest {
            Rest::Bytes(left) => left,
            Rest::Unknown => u64::MAX,
            Rest::Nothing | Rest::Lines => 0,
        };
        let room = usize::try_from(left).unwrap_or(usize::MAX);
        let room = room.min(target.remaining());
        if room == 0 {
            return Poll::Ready(Ok(0));
        }
        let Some(reader) = &mut self.reader else {
            return Poll::Ready(Err(GIVEN_BACK));
        };
        let mut part = ReadBuf::new(target.initialize_unfilled_to(room));
        let outcome = ready!(Pin::new(reader).poll_read(context, &mut part));
        let count = part.filled().len();
        target.advance(count);
        let outcome = match (outcome, self.rest) {
            (Ok(()), Rest::Bytes(_)) if count == 0 => Err(Fault::Closed),
            (outcome, _) => outcome.map_err(Fault::from),
        };
        self.noted(outcome)?;
        if let Rest::Bytes(left) = &mut self.rest {
            *left = left.saturating_sub(count as u64);
            if *left == 0 {
                self.rest = Rest::Nothing;
                self.give_back();
            }
        }
        Poll::Ready(Ok(count))
    }

    /// Takes a line of a listing off; `None` after the empty one at its end.
    pub(crate) async fn name_line(&mut self) -> Result<Option<Bytes>, Fault> {
        if self.rest != Rest::Lines {
            return Ok(None);
        }
        let line = match &mut self.reader {
            Some(reader) => reader.name_line().await,
            None => Err(GIVEN_BACK),
        };
        let line = self.noted(line)?;
        if line.is_empty() {
            self.rest = Rest::Nothing;
            self.give_back();
            return Ok(None);
        }
        Ok(Some(line))
    }

    /// Takes exactly `length` bytes off.
    pub(crate) async fn exact(&mut self, length: u64) -> Result<Bytes, Fault> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let bytes = match &mut self.reader {
            Some(reader) => reader.exact(length).await,
            None => Err(GIVEN_BACK),
        };
        self.noted(bytes)
    }

    /// Takes a second status line off, as `putfile` has it.
    pub(crate) async fn status(&mut self) -> Result<Status, Fault> {
        let status = match &mut self.reader {
            Some(reader) => reader.status().await,
            None => Err(GIVEN_BACK),
        };
        self.noted(status)
    }

    /// Ends the connection for a reason that only the caller can see.
    pub(crate) fn fail(&mut self, fault: Fault) {
        self.rest = Rest::Unknown;
        self.state.fail(fault);
    }

    /// Takes a step's outcome into account.
    fn noted<T>(&mut self, result: Result<T, Fault>) -> Result<T, Fault> {
        self.state.step();
        result.inspect_err(|fault| self.fail(fault.clone()))
    }

    /// Gives the half back, as soon as all is read: whoever keeps an empty loan keeps nobody
    /// waiting.
    fn give_back(&mut self) {
        // Without a value the reader task sees that the half is gone, and ends the connection.
        if self.rest != Rest::Unknown
            && let (Some(reader), Some(back)) = (self.reader.take(), self.back.take())
        {
            let _gone = back.send((reader, self.rest));
        }
    }
}

impl Drop for ReaderLoan {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A boxed sending half of any transport.
pub(crate) type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// The writing half, lent until nothing more is owed.
pub(crate) struct WriterLoan {
    writer: Option<WriteHalf>,
    back: Option<oneshot::Sender<WriteHalf>>,
    /// Part of a message is on the wire: the connection cannot go on before the rest is.
    in_message: bool,
}

impl WriterLoan {
    pub(super) fn new(writer: WriteHalf) -> (Self, oneshot::Receiver<WriteHalf>) {
        let (back, returned) = oneshot::channel();
        let loan = Self {
            writer: Some(writer),
            back: Some(back),
            in_message: false,
        };
        (loan, returned)
    }
}

impl Drop for WriterLoan {
    fn drop(&mut self) {
        if !self.in_message
            && let (Some(writer), Some(back)) = (self.writer.take(), self.back.take())
        {
            let _gone = back.send(writer);
        }
    }
}

/// The whole connection, lent.
pub(crate) struct Duplex {
    pub(crate) reader: ReaderLoan,
    writer: WriterLoan,
}

impl Duplex {
    /// Joins the halves of an exchange that has begun: until [`Duplex::finish`], dropping ends the
    /// connection.
    pub(super) const fn new(mut reader: ReaderLoan, mut writer: WriterLoan) -> Self {
        writer.in_message = true;
        reader.rest = Rest::Unknown;
        Self { reader, writer }
    }

    /// Declares the exchange over and both streams at the start of the next message.
    pub(crate) const fn finish(&mut self) {
        self.writer.in_message = false;
        self.reader.rest = Rest::Nothing;
    }

    /// Sends bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let result = match &mut self.writer.writer {
            Some(writer) => writer.write_all(bytes).await.map_err(Fault::from),
            None => Err(GIVEN_BACK),
        };
        self.reader.noted(result)
    }

    /// Sends what the transport may still hold.
    pub(crate) async fn flush(&mut self) -> Result<(), Fault> {
        let result = match &mut self.writer.writer {
            Some(writer) => writer.flush().await.map_err(Fault::from),
            None => Err(GIVEN_BACK),
        };
        self.reader.noted(result)
    }

    /// Reads what comes behind an exchange, drops it and returns how much it was; 0 once the peer
    /// has closed the connection.
    pub(crate) async fn last_words(&mut self) -> Result<usize, Fault> {
        let mut words = [0; 1024];
        let mut words = ReadBuf::new(&mut words);
        poll_fn(|context| self.reader.poll_read(context, &mut words)).await
    }

    /// Writes some bytes and returns how many.
    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, Fault>> {
        self.poll_writer(|writer| writer.poll_write(context, bytes))
    }

    /// Sends what the transport may still hold.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.poll_writer(|writer| writer.poll_flush(context))
    }

    /// Ends the direction to the peer.
    pub(crate) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.poll_writer(|writer| writer.poll_shutdown(context))
    }

    fn poll_writer<T>(
        &mut self,
        step: impl FnOnce(Pin<&mut WriteHalf>) -> Poll<std::io::Result<T>>,
    ) -> Poll<Result<T, Fault>> {
        let outcome = match &mut self.writer.writer {
            Some(writer) => ready!(step(Pin::new(writer))).map_err(Fault::from),
            None => Err(GIVEN_BACK),
        };
        Poll::Ready(self.reader.noted(outcome))
    }

    /// Returns the halves for a protocol of their own; `None` if they were given back.
    pub(crate) fn halves(&mut self) -> Option<(&mut Reader, &mut WriteHalf)> {
        Some((self.reader.reader.as_mut()?, self.writer.writer.as_mut()?))
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.to_string())
    }
}
