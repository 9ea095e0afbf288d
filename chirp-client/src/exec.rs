//! Programs on the server (`exec-extension.md`).
//!
//! ```no_run
//! use chirp_client::Client;
//! use chirp_client::exec::{Control, Ending, ExecRequest};
//!
//! # async fn example(client: Client) -> Result<(), chirp_client::Error> {
//! let mut request = ExecRequest::new("make");
//! request.args = vec!["-j4".into()];
//! request.path = "/job".into();
//! let (_keep, mut control) = tokio::sync::mpsc::channel::<Control>(1);
//! let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
//! let execution = client.exec(&request).await?;
//! let stdin = None::<tokio::io::Stdin>;
//! let ending = execution.run(stdin, &mut out, &mut err, &mut control).await?;
//! if let Ending::Ended(status) = ending {
//!     println!("{:?}", status.results);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A program is also a stream of events ([`Execution::events`]) or halves to be written and read
//! ([`Execution::halves`]):
//!
//! ```no_run
//! use chirp_client::Client;
//! use chirp_client::exec::{Event, ExecRequest, StdinFrom};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
//! let mut events = client.exec(&ExecRequest::new("make")).await?.events(None::<&[u8]>);
//! while let Some(event) = events.next().await {
//!     match event? {
//!         Event::Out(bytes) => println!("{} bytes of output", bytes.len()),
//!         Event::Err(bytes) => eprintln!("{}", bytes.escape_ascii()),
//!         Event::End(ending) => println!("{ending:?}"),
//!     }
//! }
//!
//! let mut request = ExecRequest::new("sort");
//! request.stdin = StdinFrom::Stream;
//! let mut sort = client.exec(&request).await?.halves();
//! sort.stdin.write_all(b"b\na\n").await?;
//! drop(sort.stdin);
//! let mut sorted = String::new();
//! sort.stdout.read_to_string(&mut sorted).await?;
//! sort.running.wait().await?;
//! # Ok(())
//! # }
//! ```

mod live;

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chirp_proto::Request;
use chirp_proto::limits::IO_MAX;
use chirp_proto::request::{ExecutionName, OutputStream};
use exec_ext::client::{ExecStream, StreamError};
use futures_util::stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

pub use live::{Event, Events, Gone, Halves, ProgramInput, ProgramOutput, Running};

pub use exec_ext::StreamSettings;
pub use exec_ext::client::{Control, Ending};
pub use exec_ext::frame::Position;
pub use exec_ext::request::{CmdId, ExecRequest, OnDisconnect, OutputTo, StdinFrom, Terminal};
pub use exec_ext::status::{EndedBy, Limits, Resources, Results, State, Status};

use crate::connection::Duplex;
use crate::error::printable;
use crate::{Client, Error};

/// Bytes of a status: twice the output that one may hold inline, and the rest of it.
const STATUS_MAX: u64 = 4 * 1024 * 1024;

/// Bytes of a list of executions.
const LIST_MAX: u64 = 64 * 1024 * 1024;

/// A program that was started, with the connection in stream mode. Dropped before its end, it ends
/// the connection, and the server does what the request's `on_disconnect` says.
pub struct Execution {
    client: Client,
    id: u64,
    request: ExecRequest,
    window: u64,
    settings: StreamSettings,
    begun: Arc<OnceLock<Position>>,
    stdin_from: u64,
    /// Where somebody who only looks stops.
    look: Option<(u64, u64)>,
    duplex: Duplex,
}

impl Execution {
    /// Returns the server's number for it.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Returns what will hold the place where the streams began for this client: with the bytes that
    /// came it tells the offsets for [`Client::exec_attach`], should the connection be lost.
    #[must_use]
    pub fn begun(&self) -> Arc<OnceLock<Position>> {
        Arc::clone(&self.begun)
    }

    /// Takes the `stdin` of [`Execution::run`] for what lies behind so many bytes of it. The server must
    /// have had them: [`Status::stdin_received`].
    #[must_use]
    pub const fn with_stdin_from(mut self, offset: u64) -> Self {
        self.stdin_from = offset;
        self
    }

    /// Uses other times for finding a lost connection.
    #[must_use]
    pub const fn with_settings(mut self, settings: StreamSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Streams until the program ends or is left; the connection then takes requests again.
    ///
    /// `stdin` is sent as the server allows and closed at its end; `None` closes it at once. Output
    /// goes to `out` and `err` as it comes. `control` sends signals or detaches; it may be closed by
    /// dropping its sender.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] or [`Error::Protocol`]; [`Error::Local`] if `stdin`, `out` or `err` fails;
    /// [`Error::Exec`] if less output came than the program wrote. The connection is then of no more
    /// use.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the connection.
    pub async fn run<I, O, E>(
        mut self,
        stdin: Option<I>,
        out: &mut O,
        err: &mut E,
        control: &mut mpsc::Receiver<Control>,
    ) -> Result<Ending, Error>
    where
        I: AsyncRead + Unpin,
        O: AsyncWrite + Unpin,
        E: AsyncWrite + Unpin,
    {
        let Some((reader, writer)) = self.duplex.halves() else {
            return Err(self.client.violation("the connection is gone".to_owned()));
        };
        let stream = ExecStream::new(reader, writer, BytesMut::new(), &self.request)
            .with_settings(self.settings)
            .with_window(self.window)
            .noting(self.begun)
            .with_stdin_from(self.stdin_from);
        let stream = match self.look {
            Some((out, err)) => stream.looking_up_to(out, err),
            None => stream,
        };
        let finished = match stream.run(stdin, out, err, control).await {
            Ok(finished) => finished,
            Err(error) => return Err(stream_error(&self.client, error)),
        };
        let surplus = finished.buffered.len();
        let ending = finished.ending;
        if surplus > 0 {
            return Err(self
                .client
                .violation(format!("{surplus} bytes behind the end of an execution")));
        }
        // Whoever only looked does not say that all of it has come, and has to go.
        if self.look.is_none() || ending == Ending::Detached {
            self.duplex.finish();
        }
        Ok(ending)
    }

    /// Hands over what the server keeps of the streams, up to the offsets that `status` tells, and
    /// leaves it there for others. The connection may be of no use afterwards.
    ///
    /// # Errors
    ///
    /// As [`Execution::run`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the connection.
    pub async fn look<O, E>(
        mut self,
        status: &Status,
        out: &mut O,
        err: &mut E,
    ) -> Result<(), Error>
    where
        O: AsyncWrite + Unpin,
        E: AsyncWrite + Unpin,
    {
        self.look = Some((status.out_to, status.err_to));
        let (_nobody, mut control) = mpsc::channel(1);
        // What joins later may still send something.
        let silence = StreamReader::new(stream::pending::<io::Result<Bytes>>());
        self.run(Some(silence), out, err, &mut control)
            .await
            .map(drop)
    }
}

impl Client {
    /// Starts a program. The connection is in stream mode until [`Execution::run`] ends; other calls
    /// wait.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] from a server without exec; [`Error::Refused`] with the reasons that
    /// are known before the program runs: -3 for no such program or directory, -2 for what may not
    /// be run; [`Error::Argument`] for a request with `detach`.
    pub async fn exec(&self, request: &ExecRequest) -> Result<Execution, Error> {
        if request.detach {
            return Err(Error::Argument {
                what: "detach".to_owned(),
                reason: "a detached program has no streams: use exec_detached",
            });
        }
        let window = self.exec_window().await?;
        let body = Bytes::from(request.to_json());
        let length = body.len() as u64;
        let started = self.exclusive(&Request::Exec { length }, body).await;
        let (id, duplex, client) = started.map_err(|error| naming(request, error))?;
        Ok(Execution {
            client,
            id,
            request: request.clone(),
            window,
            settings: StreamSettings::default(),
            begun: Arc::default(),
            stdin_from: 0,
            look: None,
            duplex,
        })
    }

    /// Starts a program that nobody is attached to, and returns its number.
    ///
    /// # Errors
    ///
    /// As [`Client::exec`].
    pub async fn exec_detached(&self, request: &ExecRequest) -> Result<u64, Error> {
        self.exec_window().await?;
        let mut request = request.clone();
        request.detach = true;
        let body = Bytes::from(request.to_json());
        let length = body.len() as u64;
        let started = self.number_with(&Request::Exec { length }, body).await;
        started.map_err(|error| naming(&request, error))
    }

    /// Describes an execution of one's own.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with code -21 if there is none of that name.
    pub async fn exec_status(&self, execution: &ExecutionName) -> Result<Status, Error> {
        let execution = execution.clone();
        self.status(&Request::ExecStatus { execution }).await
    }

    /// Waits until an execution has ended, or for the time given (30 s at most), and describes it.
    ///
    /// # Errors
    ///
    /// As [`Client::exec_status`].
    pub async fn exec_wait(
        &self,
        execution: &ExecutionName,
        seconds: u64,
    ) -> Result<Status, Error> {
        let execution = execution.clone();
        let seconds = seconds.min(exec_ext::limits::WAIT_MAX_SECONDS);
        let patient = self.with_timeout(self.timeout() + Duration::from_secs(seconds));
        patient
            .status(&Request::ExecWait { execution, seconds })
            .await
    }

    /// Sends a signal to an execution's process group.
    ///
    /// # Errors
    ///
    /// As [`Client::exec_status`].
    pub async fn exec_signal(&self, execution: &ExecutionName, number: u32) -> Result<(), Error> {
        let execution = execution.clone();
        let request = Request::ExecSignal { execution, number };
        self.number(&request).await.map(drop)
    }

    /// Takes an execution's streams over, from these offsets on, with what the server says of it at
    /// that moment. Who was attached before is detached. The offsets are counts of bytes from the
    /// streams' beginning; [`Status::out_from`] and [`Status::err_from`] are the lowest that can be
    /// had. Hand to [`Execution::run`] the same `stdin` as before, from its beginning: what the
    /// server has had of it is passed over.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with code -21 if there is none of that name, -8 for offsets that cannot be
    /// had, -23 from a server that cannot do this.
    pub async fn exec_attach(
        &self,
        execution: &ExecutionName,
        out: u64,
        err: u64,
    ) -> Result<(Status, Execution), Error> {
        let window = self.exec_window().await?;
        let request = Request::ExecAttach {
            execution: execution.clone(),
            out,
            err,
        };
        let (length, mut duplex, client) = self.exclusive(&request, Bytes::new()).await?;
        if length > STATUS_MAX {
            return Err(client.violation(format!("a status of {length} bytes")));
        }
        let json = duplex.reader.exact(length);
        let status = client.read_status(&client.step(&request, json).await?)?;
        let execution = Execution {
            client,
            id: status.id,
            request: outputs_of(&status),
            window,
            settings: StreamSettings::default(),
            begun: Arc::default(),
            stdin_from: 0,
            look: None,
            duplex,
        };
        Ok((status, execution))
    }

    /// Lists one's own executions; the superuser's list has everyone's.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn exec_list(&self) -> Result<Vec<Status>, Error> {
        let json = self.counted(&Request::ExecList, LIST_MAX).await?;
        serde_json::from_slice(&json)
            .map_err(|error| self.violation(format!("list of executions: {error}")))
    }

    /// Lets the server forget an execution that has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with code -10 for one that still runs, -23 from a server that cannot do
    /// this.
    pub async fn exec_remove(&self, execution: &ExecutionName) -> Result<(), Error> {
        let execution = execution.clone();
        let request = Request::ExecRemove { execution };
        self.number(&request).await.map(drop)
    }

    /// Returns captured output from `offset` on, at most `length` bytes and 16 MiB.
    ///
    /// # Errors
    ///
    /// As [`Client::exec_remove`].
    pub async fn exec_output(
        &self,
        execution: &ExecutionName,
        stream: OutputStream,
        offset: u64,
        length: u64,
    ) -> Result<Bytes, Error> {
        let length = length.min(IO_MAX);
        let request = Request::ExecOutput {
            execution: execution.clone(),
            stream,
            offset,
            length,
        };
        self.counted(&request, length).await
    }

    /// Checks that the server runs programs and returns the window of its streams. To a server that
    /// does not know the verb, the request's body would be further requests.
    async fn exec_window(&self) -> Result<u64, Error> {
        match self.features().await? {
            Some(features) if features.features.contains_key("exec") => {
                Ok(features.limits.window_bytes)
            }
            _ => Err(Error::Unsupported {
                host: self.host().to_owned(),
                feature: "exec",
            }),
        }
    }

    async fn status(&self, request: &Request) -> Result<Status, Error> {
        let json = self.counted(request, STATUS_MAX).await?;
        self.read_status(&json)
    }

    fn read_status(&self, json: &[u8]) -> Result<Status, Error> {
        serde_json::from_slice(json)
            .map_err(|error| self.violation(format!("status of an execution: {error}")))
    }
}

/// Puts the program's name into a refusal: the request's line does not have it.
fn naming(request: &ExecRequest, mut error: Error) -> Error {
    if let Error::Refused { path, .. } = &mut error {
        *path = printable(request.cmd.as_bytes());
    }
    error
}

/// Returns a request that streams what that of a running program streams. A status has no values of
/// variables, so the request itself cannot be read back.
fn outputs_of(status: &Status) -> ExecRequest {
    let mut request = ExecRequest::new("");
    let is_streamed = |name| match status.request.as_ref().and_then(|sent| sent.get(name)) {
        None => true,
        Some(value) => value.as_str() == Some("stream"),
    };
    if !is_streamed("stdout") {
        request.stdout = OutputTo::Discard;
    }
    if !is_streamed("stderr") {
        request.stderr = OutputTo::Discard;
    }
    request
}

fn stream_error(client: &Client, error: StreamError) -> Error {
    let host = client.host().to_owned();
    match error {
        StreamError::Lost(error) => Error::Lost {
            host,
            reason: error.to_string(),
        },
        StreamError::Protocol(what) => Error::Protocol { host, what },
        StreamError::Sink { name, error } => Error::Local {
            doing: "write",
            path: name.into(),
            source: error,
        },
        StreamError::Stdin(error) => Error::Local {
            doing: "read",
            path: "the program's stdin".into(),
            source: error,
        },
        other => Error::Exec {
            host,
            reason: other.to_string(),
        },
    }
}
