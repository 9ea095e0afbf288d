//! Moving bytes between a connection and files, with a bound on memory and on patience.
//!
//! What a connection needs for a transfer is one buffer of at most [`CHUNK`] bytes, whatever
//! length the peer announced.

use std::fs::File;
use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use chirp_proto::Code;
use tokio::io::Interest;
use tokio::time::Instant;

use crate::socket::Socket;

/// Bytes that one step of a transfer moves at most.
pub const CHUNK: usize = 256 * 1024;

/// Bytes of a stream that are gathered before they are written.
const STREAM_CHUNK: usize = 64 * 1024;

/// The least that a transfer must move a second, on average over the stall time.
const BYTES_PER_SECOND_MIN: u64 = 1024;

/// Watches that a transfer gets on: in every span of the stall time it must move at least 1 KiB
/// a second, or anything at all.
#[derive(Debug)]
pub struct Progress {
    span: Duration,
    deadline: Instant,
    moved: u64,
    /// The least that has to move in a span.
    least: u64,
}

impl Progress {
    /// Starts the watch; `span` is the stall time.
    #[must_use]
    pub fn new(span: Duration) -> Self {
        Self {
            span,
            deadline: Instant::now() + span,
            moved: 0,
            least: span.as_secs().max(1).saturating_mul(BYTES_PER_SECOND_MIN),
        }
    }

    /// Starts a watch that any byte satisfies.
    #[must_use]
    pub fn any(span: Duration) -> Self {
        Self {
            least: 1,
            ..Self::new(span)
        }
    }

    fn note(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes as u64);
    }

    /// Waits for a socket to be ready, as long as the transfer gets on.
    async fn wait(&mut self, ready: impl Future<Output = io::Result<()>>) -> io::Result<()> {
        let mut ready = std::pin::pin!(ready);
        loop {
            if let Ok(result) = tokio::time::timeout_at(self.deadline, &mut ready).await {
                return result;
            }
            if self.moved < self.least {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the transfer made no progress",
                ));
            }
            self.moved = 0;
            self.deadline = Instant::now() + self.span;
        }
    }
}

/// Writes and clears `out`. With `more`, the kernel may wait for what follows before it sends a
/// segment.
///
/// # Errors
///
/// The connection's, or `TimedOut` for a peer that takes nothing.
///
/// # Cancel safety
///
/// Not cancel safe: part of `out` may have gone.
pub async fn flush(
    stream: &Socket,
    out: &mut BytesMut,
    more: bool,
    progress: &mut Progress,
) -> io::Result<()> {
    use rustix::net::SendFlags;
    let flags = if more {
        SendFlags::MORE | SendFlags::NOSIGNAL
    } else {
        SendFlags::NOSIGNAL
    };
    while !out.is_empty() {
        let sent = stream.try_io(Interest::WRITABLE, || {
            Ok(rustix::net::send(stream, out, flags)?)
        });
        match sent {
            Ok(count) => {
                out.advance(count);
                progress.note(count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                progress.wait(stream.writable()).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends `length` bytes of a file from the page cache, without a copy through this program.
///
/// # Errors
///
/// The connection's or the file's; `UnexpectedEof` if the file shrank, after which the connection
/// is out of step and must be closed (weakness W11).
///
/// # Cancel safety
///
/// Not cancel safe.
pub async fn send_file(
    stream: &Socket,
    file: &File,
    offset: u64,
    length: u64,
    progress: &mut Progress,
) -> io::Result<()> {
    let mut position = offset;
    let end = offset.saturating_add(length);
    while position < end {
        let count = usize::try_from(end - position)
            .unwrap_or(CHUNK)
            .min(4 * CHUNK);
        let sent = stream.try_io(Interest::WRITABLE, || {
            Ok(rustix::fs::sendfile(
                stream,
                file,
                Some(&mut position),
                count,
            )?)
        });
        match sent {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file shrank while it was being sent",
                ));
            }
            Ok(count) => {
                progress.note(count);
                // A fast peer would otherwise keep this thread to itself.
                tokio::task::coop::consume_budget().await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                progress.wait(stream.writable()).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends a file from its beginning to its end, which may move while it is sent.
///
/// # Errors
///
/// The connection's or the file's.
///
/// # Cancel safety
///
/// Not cancel safe.
pub async fn send_to_end(stream: &Socket, file: &File, progress: &mut Progress) -> io::Result<()> {
    let mut position = 0;
    loop {
        let sent = stream.try_io(Interest::WRITABLE, || {
            Ok(rustix::fs::sendfile(
                stream,
                file,
                Some(&mut position),
                4 * CHUNK,
            )?)
        });
        match sent {
            Ok(0) => return Ok(()),
            Ok(count) => {
                progress.note(count);
                tokio::task::coop::consume_budget().await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                progress.wait(stream.writable()).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Where a body goes.
pub trait Sink {
    /// Takes the next bytes of the body.
    ///
    /// # Errors
    ///
    /// What the client is told. The rest of the body is then read and dropped.
    fn take(&mut self, bytes: &[u8]) -> Result<(), Code>;

    /// Returns how many bytes to hand over at once at most.
    fn portion(&self) -> usize {
        usize::MAX
    }
}

/// Hands bytes to a sink in the portions it wants, until it fails; other connections get their turn
/// in between.
async fn hand_over(sink: &mut impl Sink, outcome: &mut Result<(), Code>, bytes: &[u8]) {
    let mut portions = bytes.chunks(sink.portion().max(1)).peekable();
    while let Some(portion) = portions.next() {
        if outcome.is_err() {
            return;
        }
        *outcome = sink.take(portion);
        if portions.peek().is_some() {
            tokio::task::yield_now().await;
        }
    }
}

/// Drops a body whose request was refused.
#[derive(Debug)]
pub struct Discard;

impl Sink for Discard {
    fn take(&mut self, _: &[u8]) -> Result<(), Code> {
        Ok(())
    }
}

/// Keeps a body that is wanted whole. The caller has limited its length.
#[derive(Debug, Default)]
pub struct Collect(pub Vec<u8>);

impl Sink for Collect {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Code> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Returns the bytes to make room for when `rest` are to come.
fn room(rest: u64) -> usize {
    usize::try_from(rest).unwrap_or(CHUNK).min(CHUNK)
}

/// Receives a body of `length` bytes: first what stands in `buffered`, then from the connection.
/// All of it is read even if the sink fails, so that the next request is found.
///
/// The outer result is the connection's, the inner one the sink's.
///
/// # Errors
///
/// The connection's; `UnexpectedEof` if the peer left in the middle; `TimedOut` for lack of
/// progress.
///
/// # Cancel safety
///
/// Not cancel safe.
pub async fn receive(
    stream: &Socket,
    buffered: &mut BytesMut,
    length: u64,
    sink: &mut impl Sink,
    progress: &mut Progress,
) -> io::Result<Result<(), Code>> {
    let mut outcome = Ok(());
    let mut rest = length;
    let at_hand = usize::try_from(rest)
        .unwrap_or(usize::MAX)
        .min(buffered.len());
    let mut chunk = buffered.split_to(at_hand);
    rest -= at_hand as u64;
    // Files are written in whole chunks: writes that begin and end inside a page cost more.
    if rest > 0 {
        chunk.reserve(room(rest + at_hand as u64).saturating_sub(at_hand));
    }
    while rest > 0 {
        let room = room(rest).min(CHUNK.saturating_sub(chunk.len()));
        match stream.try_read_buf(&mut (&mut chunk).limit(room)) {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the peer left in the middle of a body",
                ));
            }
            Ok(count) => {
                progress.note(count);
                rest -= count as u64;
                if chunk.len() >= CHUNK {
                    hand_over(sink, &mut outcome, &chunk).await;
                    chunk.clear();
                }
                tokio::task::coop::consume_budget().await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                progress.wait(stream.readable()).await?;
            }
            Err(error) => return Err(error),
        }
    }
    if !chunk.is_empty() {
        hand_over(sink, &mut outcome, &chunk).await;
    }
    Ok(outcome)
}

/// Receives a body that ends with the peer's side of the connection: first what stands in
/// `buffered`, then from the connection. The sink has everything that came, however it ends, and soon after
/// it came.
///
/// # Errors
///
/// The connection's; `TimedOut` for lack of progress; the sink's, in words, and then the rest of the
/// body was not read.
///
/// # Cancel safety
///
/// Not cancel safe: what came last may be lost.
pub async fn receive_to_end(
    stream: &Socket,
    buffered: &mut BytesMut,
    sink: &mut impl Sink,
    progress: &mut Progress,
) -> io::Result<()> {
    let mut chunk = buffered.split();
    loop {
        let room = STREAM_CHUNK.saturating_sub(chunk.len());
        chunk.reserve(room);
        let read = match room {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            room => stream.try_read_buf(&mut (&mut chunk).limit(room)),
        };
        if let Ok(count @ 1..) = read {
            progress.note(count);
            tokio::task::coop::consume_budget().await;
            continue;
        }
        let mut outcome = Ok(());
        hand_over(sink, &mut outcome, &chunk).await;
        outcome.map_err(|code| io::Error::other(format!("the stream cannot be kept: {code}")))?;
        chunk.clear();
        match read {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                progress.wait(stream.readable()).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Reads and drops what the peer still sends after this side has said its last, until it closes
/// its side; for as long as `patience` allows. A connection closed with unread bytes would be reset, and the
/// peer might lose the end of what it was sent.
pub async fn drop_until_end(stream: &Socket, patience: Duration) {
    let drain = async {
        let mut dropped = [0; 4096];
        loop {
            match stream.try_read(&mut dropped) {
                Ok(0) => return,
                Ok(_) => tokio::task::coop::consume_budget().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if stream.readable().await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    };
    let _ended = tokio::time::timeout(patience, drain).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits beyond the first span after one byte; returns whether the watch went on to another one.
    async fn goes_on(mut progress: Progress) -> bool {
        let first = progress.deadline;
        progress.note(1);
        let error = progress.wait(std::future::pending()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        progress.deadline > first
    }

    #[tokio::test]
    async fn a_slow_log_gets_on_and_a_slow_body_does_not() {
        let span = Duration::from_millis(20);
        assert!(goes_on(Progress::any(span)).await);
        assert!(!goes_on(Progress::new(span)).await);
    }
}
