//! One connection with many requests in flight.
//!
//! Two tasks own the two halves of the transport. The writer task puts requests on the wire in the
//! order in which they were submitted and tells the reader task, through a bounded queue, what
//! replies to expect; the reader task takes the replies off in that order and hands each to its
//! caller. A caller that stops waiting costs nothing: its reply is taken off and dropped.
//!
//! What is too long for a message is lent out. A reply with a body gives the caller the reading
//! half until the body is read ([`ReaderLoan`]); a request that takes the whole connection
//! (`putfile`, `exec`) gives both ([`Duplex`]). Dropping a loan in a state from which the stream of
//! replies can be resumed gives it back; dropping it in any other ends the connection.

mod loan;
mod reader;
mod tasks;
mod texts;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use chirp_proto::parse::reply::{ReplyError, Status};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use loan::{Duplex, ReaderLoan, Rest};
pub(crate) use reader::Reader;
pub(crate) use texts::Layout;

/// Requests on the wire whose replies have not come; further ones wait to be written.
const IN_FLIGHT_MAX: usize = 256;

/// Requests that wait to be written; further callers wait to submit theirs.
const SUBMITTED_MAX: usize = 64;

/// Why a connection is of no more use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The peer ended it.
    Closed,
    /// The system ended it.
    Io(String),
    /// The peer broke the protocol.
    Protocol(String),
    /// A caller gave up in the middle of a body.
    Abandoned(&'static str),
}

impl From<ReplyError> for Fault {
    fn from(error: ReplyError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("the server closed it"),
            Self::Io(reason) | Self::Protocol(reason) => f.write_str(reason),
            Self::Abandoned(reason) => f.write_str(reason),
        }
    }
}

/// A call that came to no reply.
#[derive(Debug)]
pub(crate) struct Cut {
    /// Why.
    pub(crate) fault: Fault,
    /// Whether any of the request may have reached the server.
    pub(crate) sent: bool,
}

/// What follows a successful status line, and who reads it.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// Nothing.
    Number,
    /// As many bytes as the status says, which must not exceed the limit.
    Counted(u64),
    /// One line.
    Line,
    /// Several texts, which the connection reads.
    Texts(Layout),
    /// More than a message holds: the caller reads it. `Rest` says what it is, given the status.
    Lend(fn(u64) -> Rest),
    /// The caller reads and writes on its own until it gives the connection back.
    Exclusive,
}

/// A reply as far as the connection reads it.
pub(crate) enum Reply {
    /// The status with what [`Shape::Counted`] or [`Shape::Line`] brought.
    Data(u64, Bytes),
    /// What [`Shape::Texts`] brought.
    Texts(Vec<Bytes>),
    /// The status with the reading half.
    Lent(u64, ReaderLoan),
    /// The status with both halves.
    Exclusive(u64, Duplex),
    /// The server refused; nothing follows.
    Refused(Status),
}

/// A request with all that belongs to it.
pub(crate) struct Command {
    /// The encoded line.
    pub(crate) line: Bytes,
    /// The body that follows at once.
    pub(crate) body: Bytes,
    /// What the reply looks like.
    pub(crate) shape: Shape,
    /// Where the reply goes.
    pub(crate) reply: oneshot::Sender<Result<Reply, Fault>>,
}

/// A handle to the two tasks; dropping it ends them and closes the connection.
pub(crate) struct Connection {
    commands: mpsc::Sender<Command>,
    state: Arc<State>,
    tasks: [JoinHandle<()>; 2],
}

/// What the two tasks and all loans share.
pub(crate) struct State {
    fault: OnceLock<Fault>,
    ended: CancellationToken,
    /// Steps that callers made with halves they were lent.
    steps: AtomicUsize,
}

impl State {
    /// Ends the connection; the first reason counts.
    pub(crate) fn fail(&self, fault: Fault) {
        let _already = self.fault.set(fault);
        self.ended.cancel();
    }

    fn fault(&self) -> Fault {
        self.fault.get().cloned().unwrap_or(Fault::Closed)
    }

    fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }
}

impl Connection {
    /// Starts the tasks for a connection that is logged in.
    pub(crate) fn start(reader: Reader, writer: Box<dyn AsyncWrite + Send + Unpin>) -> Self {
        let (commands, submitted) = mpsc::channel(SUBMITTED_MAX);
        let (expect, expected) = mpsc::channel(IN_FLIGHT_MAX);
        let state = Arc::new(State {
            fault: OnceLock::new(),
            ended: CancellationToken::new(),
            steps: AtomicUsize::new(0),
        });
        let writing = tasks::write(submitted, expect, writer, Arc::clone(&state));
        let reading = tasks::read(expected, reader, Arc::clone(&state));
        Self {
            commands,
            state,
            tasks: [tokio::spawn(writing), tokio::spawn(reading)],
        }
    }

    /// Submits a request and waits for its reply.
    ///
    /// Cancel safe: a request that was submitted is carried out, and its reply dropped.
    pub(crate) async fn call(&self, line: Bytes, body: Bytes, shape: Shape) -> Result<Reply, Cut> {
        let (reply, answer) = oneshot::channel();
        let command = Command {
            line,
            body,
            shape,
            reply,
        };
        let unsent = || Cut {
            fault: self.state.fault(),
            sent: false,
        };
        self.commands.send(command).await.map_err(|_| unsent())?;
        match answer.await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(fault)) => Err(Cut {
                fault: self.fault().unwrap_or(fault),
                sent: true,
            }),
            // The writer task answers for whatever it has taken (`Due`).
            Err(_) => Err(unsent()),
        }
    }

    /// Returns a number that grows with every step of a body that moves on this connection: while
    /// it does, calls behind that body need not lose patience.
    pub(crate) fn steps(&self) -> usize {
        self.state.steps.load(Ordering::Relaxed)
    }

    /// Returns why the connection is of no more use, if it is so.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.state.fault.get().cloned()
    }

    /// Ends the connection.
    pub(crate) fn fail(&self, fault: Fault) {
        self.state.fail(fault);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The two halves of any transport, for the login and then for [`Connection::start`].
pub(crate) fn halves(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
) -> (Reader, Box<dyn AsyncWrite + Send + Unpin>) {
    let (reading, writing) = tokio::io::split(stream);
    (Reader::new(Box::new(reading)), Box::new(writing))
}
