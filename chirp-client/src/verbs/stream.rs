//! Content whose end is the connection's (part 3.5). Such a stream uses its connection up: open
//! another one for it ([`Client::connect_another`]).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use chirp_proto::{Request, VirtualPath};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::connection::{Duplex, Fault};
use crate::patience::Patience;
use crate::{Client, Error};

/// Bytes that a server may say behind a `putstream`: the reference sends a line that means nothing.
const LAST_WORDS_MAX: usize = 64 * 1024;

/// What the connection's other users are told.
const USED_UP: Fault =
    Fault::Abandoned("a stream used it up; streams need a connection of their own");

/// A remote file as a stream, to the end that it has when it is reached. Nobody can tell an end from
/// a cut: a length is only to be had from [`Client::getfile`].
///
/// Reading fails with an [`io::Error`] that holds an [`Error`].
pub struct GetStream {
    client: Client,
    request: Request,
    duplex: Duplex,
    patience: Patience,
}

impl AsyncRead for GetStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let step = this.duplex.reader.poll_read(context, target);
        let step = ready!(this.patience.watch(context, step));
        match this.client.polled(&this.request, step)? {
            0 => this.duplex.reader.fail(USED_UP),
            _more => {}
        }
        Poll::Ready(Ok(()))
    }
}

/// A remote file that grows with what is written here. [`PutStream::finish`] ends it; dropped, it
/// ends as well, and what was on its way may be lost.
///
/// Writing fails with an [`io::Error`] that holds an [`Error`].
pub struct PutStream {
    client: Client,
    request: Request,
    duplex: Duplex,
    patience: Patience,
}

impl PutStream {
    /// Ends the stream and waits until the server has taken all of it and closed the connection.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] or [`Error::Lost`]: some of the content may be missing. The protocol has
    /// no way to tell that the disk was full: compare the size or a digest where it matters.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the connection; the server may not have taken all.
    pub async fn finish(mut self) -> Result<(), Error> {
        if let Err(error) = self.shutdown().await {
            return Err(match error.downcast::<Error>() {
                Ok(error) => error,
                Err(error) => self.client.lost(&self.request, error.into(), true),
            });
        }
        let mut words = 0;
        loop {
            let step = self.duplex.last_words();
            match self.client.step(&self.request, step).await? {
                0 => break,
                more => words += more,
            }
            if words > LAST_WORDS_MAX {
                return Err(self
                    .client
                    .violation("the server goes on behind the end of a putstream".to_owned()));
            }
        }
        self.duplex.reader.fail(USED_UP);
        Ok(())
    }
}

impl AsyncWrite for PutStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let step = this.duplex.poll_write(context, bytes);
        let step = ready!(this.patience.watch(context, step));
        Poll::Ready(this.client.polled(&this.request, step))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let step = this.duplex.poll_flush(context);
        let step = ready!(this.patience.watch(context, step));
        Poll::Ready(this.client.polled(&this.request, step))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let step = this.duplex.poll_shutdown(context);
        let step = ready!(this.patience.watch(context, step));
        Poll::Ready(this.client.polled(&this.request, step))
    }
}

impl Client {
    /// Begins to receive a file as a stream, which uses the connection up.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`]. A refusal leaves the connection usable.
    pub async fn getstream(&self, path: &VirtualPath) -> Result<GetStream, Error> {
        let request = Request::Getstream { path: path.clone() };
        let (_, duplex, client) = self.exclusive(&request, Bytes::new()).await?;
        Ok(GetStream {
            client,
            request,
            duplex,
            patience: Patience::new(self.timeout()),
        })
    }

    /// Begins to send a file as a stream, which uses the connection up. The file is there at once,
    /// empty, and grows.
    ///
    /// # Errors
    ///
    /// As [`Client::getstream`].
    pub async fn putstream(&self, path: &VirtualPath) -> Result<PutStream, Error> {
        let request = Request::Putstream { path: path.clone() };
        let (_, duplex, client) = self.exclusive(&request, Bytes::new()).await?;
        Ok(PutStream {
            client,
            request,
            duplex,
            patience: Patience::new(self.timeout()),
        })
    }
}
