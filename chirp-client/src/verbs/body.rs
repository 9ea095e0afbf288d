//! Whole files (part 3.4): their content is streamed, never held.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use chirp_proto::parse::reply::Status;
use chirp_proto::request::OpenFlags;
use chirp_proto::{Request, VirtualPath};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::connection::{ReaderLoan, Rest};
use crate::patience::Patience;
use crate::{Client, Error};

/// Bytes of content that one transfer keeps in memory.
pub(crate) const CHUNK: usize = 256 * 1024;

/// The content of a remote file, to be read to its end. Held before that, it holds back the answers to all
/// later calls on the connection.
///
/// It is an [`AsyncRead`] as well, which fails with an [`io::Error`] that holds an [`Error`]; a file
/// that ends before its length is such a failure.
pub struct Body {
    client: Client,
    request: Request,
    length: u64,
    loan: ReaderLoan,
    patience: Patience,
}

impl AsyncRead for Body {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let step = this.loan.poll_read(context, target);
        let step = ready!(this.patience.watch(context, step));
        Poll::Ready(this.client.polled(&this.request, step).map(drop))
    }
}

impl Body {
    /// Returns the bytes of the file, as the server announced them.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Returns the next bytes, at most 256 KiB; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] or [`Error::Lost`]; the connection is then of no more use.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let step = self.loan.body(CHUNK as u64);
        let chunk = self.client.step(&self.request, step).await?;
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    /// Writes all that is left to `target`, flushes it and returns how many bytes that were.
    ///
    /// # Errors
    ///
    /// As [`Body::chunk`]; [`Error::Local`] where `target` fails.
    pub async fn copy_to(
        mut self,
        target: &mut (impl AsyncWrite + Unpin + ?Sized),
    ) -> Result<u64, Error> {
        let failed = |source| Error::Local {
            doing: "write",
            path: "the received data".into(),
            source,
        };
        let mut copied = 0;
        while let Some(chunk) = self.chunk().await? {
            copied += chunk.len() as u64;
            target.write_all(&chunk).await.map_err(failed)?;
        }
        target.flush().await.map_err(failed)?;
        Ok(copied)
    }
}

impl Client {
    /// Begins to receive a file.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn getfile(&self, path: &VirtualPath) -> Result<Body, Error> {
        let request = Request::Getfile { path: path.clone() };
        let (length, loan, client) = self
            .lent(&request, |length| match length {
                0 => Rest::Nothing,
                length => Rest::Bytes(length),
            })
            .await?;
        Ok(Body {
            client,
            request,
            length,
            loan,
            patience: Patience::new(self.timeout()),
        })
    }

    /// Sends a file of exactly `length` bytes, taken from `content`. Nothing of `content` is read
    /// unless the server accepts the file.
    ///
    /// # Errors
    ///
    /// [`Error::Local`] if `content` fails or ends early; the connection is then closed, since the
    /// server still waits for the rest, and our server keeps the old file.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future once the content moves ends the connection.
    pub async fn putfile(
        &self,
        path: &VirtualPath,
        mode: u32,
        length: u64,
        content: &mut (impl AsyncRead + Unpin + ?Sized),
    ) -> Result<(), Error> {
        if length == 0 && self.is_condor() {
            // HTCondor's proxy does not confirm an empty file, and would be waited for.
            let (opened, _) = self.open(path, OpenFlags::parse(b"wct"), mode).await?;
            return self.close(opened).await;
        }
        let request = Request::Putfile {
            path: path.clone(),
            mode,
            length,
        };
        let (_, mut duplex, this) = self.exclusive(&request, Bytes::new()).await?;
        let mut buffer = Vec::with_capacity(CHUNK.min(usize::try_from(length).unwrap_or(CHUNK)));
        let mut left = length;
        while left > 0 {
            buffer.clear();
            let mut limited = (&mut *content).take(left.min(CHUNK as u64));
            let count = limited.read_buf(&mut buffer).await;
            let count = match count {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                other => other,
            };
            let count = count.map_err(|source| Error::Local {
                doing: "read",
                path: format!("the content for {path}").into(),
                source,
            })?;
            left = left.saturating_sub(count as u64);
            this.step(&request, duplex.send(&buffer)).await?;
        }
        this.step(&request, duplex.flush()).await?;
        match this.step(&request, duplex.reader.status()).await? {
            Status::Success(stored) if stored == length => {
                duplex.finish();
                Ok(())
            }
            Status::Success(stored) => Err(this.violation(format!(
                "putfile {path}: {length} bytes were sent, {stored} confirmed"
            ))),
            refused => {
                duplex.finish();
                Err(this.refused(&request, refused))
            }
        }
    }
}
