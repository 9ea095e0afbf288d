//! What both ends of a stream share: its times, and how a frame is written.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// The times of a stream, the same on both sides by default.
#[derive(Clone, Copy, Debug)]
pub struct StreamSettings {
    /// How long without a byte from the peer until the connection counts as lost. 30 s.
    pub lost_after: Duration,
    /// How long without a frame of one's own until `alive` is sent. 10 s.
    pub alive_every: Duration,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            lost_after: Duration::from_secs(30),
            alive_every: Duration::from_secs(10),
        }
    }
}

/// Bytes that a reader makes room for before it reads.
pub(crate) const READ_ROOM: usize = 64 * 1024;

/// Bytes of one frame's payload that this implementation sends.
pub(crate) const PAYLOAD_MAX: usize = 64 * 1024;

/// Writes a header and its payload, in one system call where the transport can, and flushes.
pub(crate) async fn write_frame<W: AsyncWrite + Unpin>(
    writer: &mut W,
    header: &mut BytesMut,
    payload: Option<&Bytes>,
) -> io::Result<()> {
    let payload = payload.cloned().unwrap_or_default();
    let mut whole = header.split().freeze().chain(payload);
    writer.write_all_buf(&mut whole).await?;
    writer.flush().await
}

/// The error of a peer that was silent for too long.
pub(crate) fn silent(after: Duration) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("no byte from the peer for {} s", after.as_secs_f64()),
    )
}

/// The error of a connection that the peer closed in stream mode.
pub(crate) fn cut() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the peer closed the connection in the middle of a stream",
    )
}
