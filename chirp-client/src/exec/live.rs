//! A running program as a stream of events, or as halves to be written and read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;
use tokio_util::task::AbortOnDropHandle;

use super::{Control, Ending, Execution};
use crate::Error;

/// Pieces of output, of 64 KiB at most, that wait to be taken; the server waits for room.
const EVENTS_MAX: usize = 8;

/// Bytes of each stream that wait to be taken.
const HALF_MAX: usize = 256 * 1024;

/// What is waiting to be told to the program.
const CONTROLS_MAX: usize = 16;

/// What happens to a running program.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It wrote to standard output.
    Out(Bytes),
    /// It wrote to standard error.
    Err(Bytes),
    /// It ended, and all of its output came before; or it was left. Nothing follows.
    End(Ending),
}

/// The program could not be told: it has ended, or was lost or left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the program has ended, or there is no connection to it")]
pub struct Gone;

/// A running program, as the task that serves its streams. Dropped, it ends the connection, and the
/// server does what the request's `on_disconnect` says.
#[derive(Debug)]
pub struct Running {
    control: mpsc::Sender<Control>,
    /// None once its end was told.
    task: Option<AbortOnDropHandle<Result<Ending, Error>>>,
}

impl Running {
    /// Sends a signal, detaches, or changes the terminal's size.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    ///
    /// # Cancel safety
    ///
    /// Cancelling before it returns means that nothing was sent.
    pub async fn tell(&self, control: Control) -> Result<(), Gone> {
        self.control.send(control).await.map_err(|_| Gone)
    }

    /// Waits until the program has ended or is left. Its output has to be read meanwhile, or it waits for
    /// room.
    ///
    /// # Errors
    ///
    /// As [`Execution::run`]; [`Error::Argument`] where its end was told before.
    ///
    /// # Cancel safety
    ///
    /// Cancelling changes nothing.
    pub async fn wait(&mut self) -> Result<Ending, Error> {
        std::future::poll_fn(|context| self.poll_end(context)).await
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Result<Ending, Error>> {
        let ended = match &mut self.task {
            Some(task) => ready!(task.poll_unpin(context)).ok(),
            None => None,
        };
        self.task = None;
        Poll::Ready(ended.unwrap_or_else(|| {
            Err(Error::Argument {
                what: "wait".to_owned(),
                reason: "the end of a program is told once, and only while its runtime lives",
            })
        }))
    }
}

/// The events of a running program, in order: a [`Stream`], or by [`Events::next`].
///
/// Output is acknowledged when it waits here. Whoever leaves before having taken it has lost it.
#[derive(Debug)]
pub struct Events {
    waiting: mpsc::Receiver<Event>,
    running: Running,
    over: bool,
}

impl Events {
    /// Returns the next event; None behind the end.
    ///
    /// # Errors
    ///
    /// As [`Execution::run`]; nothing follows.
    ///
    /// # Cancel safety
    ///
    /// Cancelling loses no event.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Returns what tells the program something.
    #[must_use]
    pub const fn running(&self) -> &Running {
        &self.running
    }
}

impl Stream for Events {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Some(event) = ready!(self.waiting.poll_recv(context)) {
            return Poll::Ready(Some(Ok(event)));
        }
        let ended = ready!(self.running.poll_end(context));
        self.over = true;
        Poll::Ready(Some(ended.map(Event::End)))
    }
}

/// A running program's streams and itself.
#[derive(Debug)]
pub struct Halves {
    /// Its standard input. Shut down or dropped, that is closed.
    pub stdin: ProgramInput,
    /// Its standard output. Dropped, it ends the connection with an error at the next output.
    pub stdout: ProgramOutput,
    /// Its standard error, likewise. Both have to be read, or the program waits for room.
    pub stderr: ProgramOutput,
    /// The program.
    pub running: Running,
}

/// A program's standard input.
#[derive(Debug)]
pub struct ProgramInput(DuplexStream);

/// One of a program's outputs.
#[derive(Debug)]
pub struct ProgramOutput(DuplexStream);

impl Execution {
    /// Returns the program's output and end as events. `stdin` is as in [`Execution::run`]. Needs a tokio
    /// runtime.
    pub fn events<I>(self, stdin: Option<I>) -> Events
    where
        I: AsyncRead + Unpin + Send + 'static,
    {
        let (sender, waiting) = mpsc::channel(EVENTS_MAX);
        let sink = |wrap| Sink {
            sender: PollSender::new(sender.clone()),
            wrap,
        };
        let running = self.start(stdin, sink(Event::Out), sink(Event::Err));
        Events {
            waiting,
            running,
            over: false,
        }
    }

    /// Returns the program's streams as halves to be written and read. Needs a tokio runtime.
    pub fn halves(self) -> Halves {
        let (stdin, input) = tokio::io::duplex(HALF_MAX);
        let (stdout, out) = tokio::io::duplex(HALF_MAX);
        let (stderr, err) = tokio::io::duplex(HALF_MAX);
        Halves {
            stdin: ProgramInput(stdin),
            stdout: ProgramOutput(stdout),
            stderr: ProgramOutput(stderr),
            running: self.start(Some(input), out, err),
        }
    }

    fn start<I, O, E>(self, stdin: Option<I>, mut out: O, mut err: E) -> Running
    where
        I: AsyncRead + Unpin + Send + 'static,
        O: AsyncWrite + Unpin + Send + 'static,
        E: AsyncWrite + Unpin + Send + 'static,
    {
        let (control, mut told) = mpsc::channel(CONTROLS_MAX);
        let serve = async move { self.run(stdin, &mut out, &mut err, &mut told).await };
        Running {
            control,
            task: Some(AbortOnDropHandle::new(tokio::spawn(serve))),
        }
    }
}

/// Turns what is written into events.
struct Sink {
    sender: PollSender<Event>,
    wrap: fn(Bytes) -> Event,
}

impl AsyncWrite for Sink {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.sender.poll_reserve(context)).map_err(gone)?;
        let event = (self.wrap)(Bytes::copy_from_slice(bytes));
        self.sender.send_item(event).map_err(gone)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ProgramInput {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl AsyncRead for ProgramOutput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}
