//! The receiving half of a connection: bytes to status lines, lines and counted data.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use chirp_proto::parse::reply::{self, Status};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::Fault;

/// Room that every read offers at least, in bytes. What a peer announces is never reserved beforehand.
const READ_ROOM: usize = 64 * 1024;

/// Room that is made for content: a call to the system for each 64 KiB is felt in large files.
const CONTENT_ROOM: usize = 256 * 1024;

/// Content bytes of a name line; a longer one is no name.
const NAME_LINE_MAX: usize = 4096;

/// A boxed receiving half of any transport.
pub(crate) type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;

/// The receiving half and what was received beyond the last value taken.
pub(crate) struct Reader {
    half: ReadHalf,
    buffer: BytesMut,
}

impl Reader {
    pub(crate) fn new(half: ReadHalf) -> Self {
        Self {
            half,
            buffer: BytesMut::new(),
        }
    }

    /// Takes a status line off. Cancel safe, as all methods here: bytes stay in the buffer until a
    /// whole value is there.
    pub(crate) async fn status(&mut self) -> Result<Status, Fault> {
        loop {
            if let Some((status, used)) = reply::status(&self.buffer)? {
                self.buffer.advance(used);
                return Ok(status);
            }
            self.fill().await?;
        }
    }

    /// Takes a line of numbers or words off, without its LF.
    pub(crate) async fn line(&mut self) -> Result<Bytes, Fault> {
        loop {
            let found = reply::text_line(&self.buffer)
                .map_err(|error| Fault::Protocol(error.to_string()))?
                .map(|(line, used)| (Bytes::copy_from_slice(&line), used));
            if let Some((line, used)) = found {
                self.buffer.advance(used);
                return Ok(line);
            }
            self.fill().await?;
        }
    }

    /// Takes a name line off, byte for byte: a CR in a name is part of it.
    pub(crate) async fn name_line(&mut self) -> Result<Bytes, Fault> {
        loop {
            match self.buffer.iter().position(|&byte| byte == b'\n') {
                Some(end) if end <= NAME_LINE_MAX => {
                    let line = self.buffer.split_to(end).freeze();
                    self.buffer.advance(1);
                    return Ok(line);
                }
                None if self.buffer.len() <= NAME_LINE_MAX => self.fill().await?,
                _ => {
                    return Err(Fault::Protocol(format!(
                        "a name in a listing is longer than {NAME_LINE_MAX} bytes"
                    )));
                }
            }
        }
    }

    /// Takes exactly `length` bytes off. Memory grows with what arrives.
    pub(crate) async fn exact(&mut self, length: usize) -> Result<Bytes, Fault> {
        while self.buffer.len() < length {
            self.fill().await?;
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    /// Takes some bytes off, at least one and at most `limit`.
    pub(crate) async fn some(&mut self, limit: u64) -> Result<Bytes, Fault> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if self.buffer.is_empty() {
            if self.buffer.capacity() < READ_ROOM {
                self.buffer.reserve(limit.clamp(READ_ROOM, CONTENT_ROOM));
            }
            self.fill().await?;
        }
        Ok(self.buffer.split_to(self.buffer.len().min(limit)).freeze())
    }

    /// Waits for more bytes.
    pub(crate) async fn fill(&mut self) -> Result<(), Fault> {
        self.buffer.reserve(READ_ROOM);
        match self.half.read_buf(&mut self.buffer).await {
            Ok(0) => Err(Fault::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(Fault::Io(error.to_string())),
        }
    }

    /// Returns what was received and not taken yet.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.buffer
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            return Pin::new(&mut self.half).poll_read(context, target);
        }
        let count = self.buffer.len().min(target.remaining());
        target.put_slice(&self.buffer.split_to(count));
        Poll::Ready(Ok(()))
    }
}
