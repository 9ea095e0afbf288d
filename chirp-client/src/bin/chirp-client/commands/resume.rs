//! Streams of a program that go on after their connection was lost.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use chirp_client::{Client, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep};

/// Bytes of standard input that are kept to be sent again: more than any server lets be on the way.
const KEPT_MAX: usize = 4 * 1024 * 1024;

/// How long to leave between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(200);

/// Repeats, on new connections, what failed with `error` because its connection was lost, for as long
/// as the client's time limit allows.
///
/// # Errors
///
/// What an attempt failed with, if not by another loss; else `error`.
pub(super) async fn again<T>(
    client: &Client,
    error: Error,
    attempt: impl AsyncFn(&Client) -> Result<T, Error>,
) -> Result<T, Error> {
    if !is_loss(&error) {
        return Err(error);
    }
    let deadline = Instant::now() + client.timeout();
    loop {
        match client.connect_another().await {
            None => return Err(error),
            Some(Ok(next)) => match attempt(&next).await {
                Err(another) if is_loss(&another) => {}
                outcome => return outcome,
            },
            // A server that starts again may refuse at first.
            Some(Err(_)) => {}
        }
        if Instant::now() >= deadline {
            return Err(error);
        }
        sleep(PAUSE).await;
    }
}

/// Says whether a connection was lost, after which nobody knows how far a request came.
fn is_loss(error: &Error) -> bool {
    matches!(error, Error::Lost { .. } | Error::Uncertain { .. })
}

/// A writer that knows how many bytes it took.
pub(super) struct Counted<W> {
    inner: W,
    /// The bytes taken so far.
    pub(super) count: u64,
}

impl<W> Counted<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, count: 0 }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Counted<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.count += taken as u64;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// Standard input of which the last bytes can be read again.
pub(super) struct Replay {
    source: Box<dyn AsyncRead + Unpin>,
    kept: VecDeque<u8>,
    /// Bytes that the source has brought.
    brought: u64,
    /// The offset of the next byte to hand out.
    at: u64,
}

impl Replay {
    /// Takes a source whose first byte follows `offset` bytes that nobody needs again.
    pub(super) fn behind(offset: u64, source: Box<dyn AsyncRead + Unpin>) -> Self {
        Self {
            source,
            kept: VecDeque::new(),
            brought: offset,
            at: offset,
        }
    }

    /// Goes back to what lies behind the first `received` bytes, and returns how many bytes lie before
    /// what is read next: fewer than `received` where the source has not brought as many yet. None where
    /// what is wanted is no longer kept.
    pub(super) fn restart(&mut self, received: u64) -> Option<u64> {
        let from = received.min(self.brought);
        (from >= self.earliest()).then(|| {
            self.at = from;
            from
        })
    }

    fn earliest(&self) -> u64 {
        self.brought - self.kept.len() as u64
    }
}

impl AsyncRead for Replay {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.at >= this.brought {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.source).poll_read(context, buffer))?;
            let new = buffer.filled().get(before..).unwrap_or_default();
            this.kept.extend(new);
            let surplus = this.kept.len().saturating_sub(KEPT_MAX);
            this.kept.drain(..surplus);
            this.brought += new.len() as u64;
            this.at = this.brought;
            return Poll::Ready(Ok(()));
        }
        let room = buffer.remaining();
        let earliest = this.earliest();
        let skip = usize::try_from(this.at.saturating_sub(earliest)).unwrap_or(usize::MAX);
        let (head, tail) = this.kept.as_slices();
        let part = match head.get(skip..) {
            Some(part) if !part.is_empty() => part,
            _ => tail
                .get(skip.saturating_sub(head.len())..)
                .unwrap_or_default(),
        };
        let part = part.get(..room).unwrap_or(part);
        buffer.put_slice(part);
        this.at += part.len() as u64;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn input_begins_again_with_what_is_kept_of_it() {
        let size = KEPT_MAX + 1000;
        let source: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let mut replay = Replay::behind(0, Box::new(io::Cursor::new(source.clone())));
        let mut first = vec![0; size - 10];
        replay.read_exact(&mut first).await.unwrap();
        assert!(first == source[..size - 10]);
        assert_eq!(replay.restart(100), None);
        assert_eq!(replay.restart(1_000_000), Some(1_000_000));
        let mut second = Vec::new();
        replay.read_to_end(&mut second).await.unwrap();
        assert!(second == source[1_000_000..]);
        // Who takes over may have sent less than the one before.
        assert_eq!(replay.restart(size as u64 + 1), Some(size as u64));
    }
}
