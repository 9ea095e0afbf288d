//! A connection as callers see it, and the core that every typed method goes through.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chirp_proto::dialect::Dialect;
use chirp_proto::parse::reply::Status;
use chirp_proto::{Code, Method, Request, Subject, encode};
use exec_ext::status::Features;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;

use crate::auth::Secrets;
use crate::connect::{self, ConnectOptions, Opened};
use crate::connection::{Connection, Cut, Duplex, Fault, Layout, ReaderLoan, Reply, Rest, Shape};
use crate::cookie::Cookie;
use crate::describe::{object, verb};
use crate::error::printable;
use crate::live::{Backoff, Current, Live};
use crate::patience::Elapsed;
use crate::repeat::{Repeat, repeat};
use crate::ticket::Offered;
use crate::{DEFAULT_TIMEOUT, Error};

/// A logged-in connection to one server. Clones share it; the last one to go closes it.
///
/// Calls from any number of tasks are sent at once and answered in order. While the body of a
/// `getfile` or a listing is being read, later replies wait behind it; while a `putfile` or an
/// `exec` runs, later requests do. So whoever holds a body must not wait for another call on the
/// same connection.
///
/// # Time limits
///
/// A call fails after [`Client::timeout`] without an answer, counted anew while bodies of
/// other calls move before it; while a body moves, it fails after that long without a byte. A call that timed out before its answer began leaves the connection usable (the
/// late answer is dropped); one that timed out in the middle of a body does not, and says so.
///
/// # Cancel safety
///
/// Every call may be dropped at any time. A request that was submitted is still carried out and its
/// answer dropped. Dropping a `putfile`, or a body of which more than 1 MiB is unread, ends the
/// connection.
///
/// # Lost connections
///
/// With [`ConnectOptions::reconnect`], a call whose connection was lost is made on a new one if that
/// is safe: if it never left, if it only looks, or if a second time leaves what the first time left.
/// Everything else fails with [`Error::Uncertain`]. Descriptors, bodies, listings and streams end with
/// their connection; they are never carried over to another one.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    timeout: Duration,
    /// The one connection that calls may use: that of a body, or of a descriptor.
    only: Option<Arc<Live>>,
}

struct Shared {
    host: String,
    subject: Subject,
    /// How we logged in.
    method: Method,
    dialect: Dialect,
    options: Option<ConnectOptions>,
    features: OnceCell<Option<Features>>,
    current: Current,
}

impl Client {
    /// Connects and logs in.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`], [`Error::Login`], [`Error::Timeout`], or what the peer made of the login.
    pub async fn connect(options: ConnectOptions) -> Result<Self, Error> {
        let opened = connect::open(&options).await?;
        let host = options.address.to_string();
        let timeout = options.timeout;
        Ok(Self::new(host, timeout, Some(options), opened))
    }

    /// Logs in on a transport that is there already; `host` is its name in messages. There is no
    /// time limit on the login here.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub async fn from_stream(
        host: &str,
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        methods: &[Method],
    ) -> Result<Self, Error> {
        Self::from_stream_with(host, stream, methods, &Offered::default(), None).await
    }

    /// As [`Client::from_stream`], with these tickets for the `ticket` method and this cookie for the
    /// `cookie` method.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub async fn from_stream_with(
        host: &str,
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        methods: &[Method],
        tickets: &Offered,
        cookie: Option<&Cookie>,
    ) -> Result<Self, Error> {
        let secrets = Secrets { tickets, cookie };
        let opened = connect::log_in(host, stream, methods, secrets).await?;
        Ok(Self::new(host.to_owned(), DEFAULT_TIMEOUT, None, opened))
    }

    fn new(
        host: String,
        timeout: Duration,
        options: Option<ConnectOptions>,
        opened: Opened,
    ) -> Self {
        let shared = Arc::new(Shared {
            host,
            subject: opened.subject,
            method: opened.method,
            dialect: opened.dialect,
            options,
            features: OnceCell::new(),
            current: Current::new(opened.connection),
        });
        Self {
            shared,
            timeout,
            only: None,
        }
    }

    /// Opens one more connection to the same server in the same way; `None` if this one was made
    /// from a stream.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub async fn connect_another(&self) -> Option<Result<Self, Error>> {
        let mut options = self.shared.options.clone()?;
        options.timeout = self.timeout;
        self.pin_method(&mut options);
        Some(Self::connect(options).await)
    }

    /// Returns this connection with another time limit for the calls made through the result.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            timeout,
            only: self.only.clone(),
        }
    }

    /// Returns the time without progress after which a call fails.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Returns `HOST:PORT`, as messages name the server.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.shared.host
    }

    /// Returns who the server takes this connection for.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.shared.subject
    }

    /// Reports whether the connection is known to be of no more use. With
    /// [`ConnectOptions::reconnect`] the next call makes a new one.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.live().connection.fault().is_some()
    }

    /// Returns the connection that calls are made on.
    fn live(&self) -> Arc<Live> {
        self.only
            .clone()
            .unwrap_or_else(|| self.shared.current.get())
    }

    /// Returns this client for calls that belong to one connection.
    fn only(&self, live: Arc<Live>) -> Self {
        Self {
            only: Some(live),
            ..self.clone()
        }
    }

    /// Returns this client for calls about something of a certain connection.
    pub(crate) fn of_connection(&self, number: u64) -> Result<Self, Error> {
        let live = self.live();
        if live.number == number {
            return Ok(self.only(live));
        }
        Err(Error::Lost {
            host: self.shared.host.clone(),
            reason: "the descriptor's connection was lost and replaced; open the file again"
                .to_owned(),
        })
    }

    /// Returns what is remembered of the server's features.
    pub(crate) fn known_features(&self) -> &OnceCell<Option<Features>> {
        &self.shared.features
    }

    /// Sends a request that answers a number.
    pub(crate) async fn number(&self, request: &Request) -> Result<u64, Error> {
        self.number_with(request, Bytes::new()).await
    }

    /// Sends a request with a body that answers a number.
    pub(crate) async fn number_with(&self, request: &Request, body: Bytes) -> Result<u64, Error> {
        match self.call(request, body, Shape::Number).await?.0 {
            Reply::Data(number, _) => Ok(number),
            other => Err(self.unexpected(request, other)),
        }
    }

    /// Sends a request that answers a count and as many bytes, at most `limit`.
    pub(crate) async fn counted(&self, request: &Request, limit: u64) -> Result<Bytes, Error> {
        self.counted_with(request, Bytes::new(), limit).await
    }

    /// Sends a request with a body that answers a count and as many bytes, at most `limit`.
    pub(crate) async fn counted_with(
        &self,
        request: &Request,
        body: Bytes,
        limit: u64,
    ) -> Result<Bytes, Error> {
        let shape = Shape::Counted(limit);
        match self.call(request, body, shape).await?.0 {
            Reply::Data(_, data) => Ok(data),
            other => Err(self.unexpected(request, other)),
        }
    }

    /// Sends a request that answers a number and a line of numbers, which `parse` reads.
    pub(crate) async fn line<T>(
        &self,
        request: &Request,
        parse: fn(&[u8]) -> Option<T>,
    ) -> Result<(u64, T), Error> {
        let (number, value, _) = self.line_of_connection(request, parse).await?;
        Ok((number, value))
    }

    /// As [`Client::line`], with the number of the connection that answered.
    pub(crate) async fn line_of_connection<T>(
        &self,
        request: &Request,
        parse: fn(&[u8]) -> Option<T>,
    ) -> Result<(u64, T, u64), Error> {
        let (reply, live) = self.call(request, Bytes::new(), Shape::Line).await?;
        let (number, line) = match reply {
            Reply::Data(number, line) => (number, line),
            other => return Err(self.unexpected(request, other)),
        };
        let Some(value) = parse(&line) else {
            return Err(self.violation(format!(
                "{} answered {:?}, which is no such line",
                verb(request),
                line.get(..80).unwrap_or(&line).escape_ascii().to_string()
            )));
        };
        Ok((number, value, live.number))
    }

    /// Sends a request that answers several texts.
    pub(crate) async fn texts(
        &self,
        request: &Request,
        layout: Layout,
    ) -> Result<Vec<Bytes>, Error> {
        let shape = Shape::Texts(layout);
        match self.call(request, Bytes::new(), shape).await?.0 {
            Reply::Texts(texts) => Ok(texts),
            other => Err(self.unexpected(request, other)),
        }
    }

    /// Sends a request whose answer the caller reads, with the client returned.
    pub(crate) async fn lent(
        &self,
        request: &Request,
        rest: fn(u64) -> Rest,
    ) -> Result<(u64, ReaderLoan, Self), Error> {
        let shape = Shape::Lend(rest);
        match self.call(request, Bytes::new(), shape).await? {
            (Reply::Lent(number, loan), live) => Ok((number, loan, self.only(live))),
            (other, _) => Err(self.unexpected(request, other)),
        }
    }

    /// Sends a request that takes the connection for itself; the exchange goes on with the client
    /// returned.
    pub(crate) async fn exclusive(
        &self,
        request: &Request,
        body: Bytes,
    ) -> Result<(u64, Duplex, Self), Error> {
        match self.call(request, body, Shape::Exclusive).await? {
            (Reply::Exclusive(number, duplex), live) => Ok((number, duplex, self.only(live))),
            (other, _) => Err(self.unexpected(request, other)),
        }
    }

    /// Sends a request, on further connections too where that is safe, and returns the reply with the
    /// connection that it came on.
    async fn call(
        &self,
        request: &Request,
        body: Bytes,
        shape: Shape,
    ) -> Result<(Reply, Arc<Live>), Error> {
        let dialect = self.shared.dialect;
        let mut line = BytesMut::new();
        encode::request_in(dialect, request, &mut line);
        let end = |byte: &u8| matches!(byte, b' ' | b'\n');
        if !dialect.has(line[..].split(end).next().unwrap_or_default()) {
            return Err(self.not_spoken(request));
        }
        if line.len() > dialect.line_max() + 1 {
            return Err(Error::Argument {
                what: object(request),
                reason: "too long for a request line",
            });
        }
        let line = line.freeze();
        let mut backoff = None;
        let mut was_sent = false;
        loop {
            let live = self.live();
            let call = live.connection.call(line.clone(), body.clone(), shape);
            let Some(outcome) = self.in_time(&live, call).await else {
                return Err(self.timed_out(request, true));
            };
            let cut = match outcome {
                Ok(reply) => return Ok((reply, live)),
                Err(cut) => cut,
            };
            was_sent |= cut.sent;
            self.recover(request, &live, cut, was_sent, &mut backoff)
                .await?;
        }
    }

    /// Waits for a reply, which must come within the time limit unless bodies move before it.
    async fn in_time<T>(&self, live: &Live, call: impl Future<Output = T>) -> Option<T> {
        let mut call = pin!(call);
        loop {
            let before = live.connection.steps();
            match tokio::time::timeout(self.timeout, call.as_mut()).await {
                Ok(outcome) => return Some(outcome),
                Err(_) if live.connection.steps() == before => return None,
                Err(_) => {}
            }
        }
    }

    /// Sees to another connection after one was lost, if the request may be made once more.
    async fn recover(
        &self,
        request: &Request,
        lost: &Live,
        cut: Cut,
        was_sent: bool,
        backoff: &mut Option<Backoff>,
    ) -> Result<(), Error> {
        let failure = self.lost(request, cut.fault.clone(), was_sent);
        let may_repeat = !was_sent || repeat(request) != Repeat::Changes;
        let (Some(options), true) = (&self.shared.options, may_repeat) else {
            return Err(failure);
        };
        let (Some(limit), None) = (options.reconnect, &self.only) else {
            return Err(failure);
        };
        // A server that breaks the protocol does so again.
        if matches!(cut.fault, Fault::Protocol(_)) {
            return Err(failure);
        }
        let backoff = backoff.get_or_insert_with(|| Backoff::new(limit));
        let Some(turn) = self.shared.current.turn(lost).await else {
            return Ok(());
        };
        while backoff.pause().await {
            match self.open_again(options, backoff.left()).await {
                Ok(connection) => {
                    self.shared.current.replace(&turn, connection);
                    return Ok(());
                }
                Err(error) if error.is_passing() => {
                    tracing::debug!(%error, "not connected again yet");
                }
                Err(error) => return Err(error),
            }
        }
        Err(failure)
    }

    /// Connects and logs in as before.
    async fn open_again(
        &self,
        options: &ConnectOptions,
        left: Duration,
    ) -> Result<Connection, Error> {
        let mut options = options.clone();
        options.connect_timeout = options.connect_timeout.min(left);
        self.pin_method(&mut options);
        let opened = connect::open(&options).await?;
        if opened.subject == self.shared.subject {
            return Ok(opened.connection);
        }
        let (before, now) = (&self.shared.subject, &opened.subject);
        Err(Error::Login {
            host: self.shared.host.clone(),
            tried: format!("connecting again made us {now} who were {before}"),
        })
    }

    /// Leaves only the method that passed, so that all connections have the same rights.
    fn pin_method(&self, options: &mut ConnectOptions) {
        options.methods = vec![self.shared.method];
    }

    /// Waits for a step of a body, which must make progress within the time limit.
    pub(crate) async fn step<T>(
        &self,
        request: &Request,
        step: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(self.timeout, step).await {
            Ok(result) => result.map_err(|fault| self.lost(request, fault, true)),
            Err(_) => Err(self.given_up(request)),
        }
    }

    /// As [`Client::step`] for a step that was polled.
    pub(crate) fn polled<T>(
        &self,
        request: &Request,
        step: Result<Result<T, Fault>, Elapsed>,
    ) -> std::io::Result<T> {
        let error = match step {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(fault)) => self.lost(request, fault, true),
            Err(Elapsed) => self.given_up(request),
        };
        Err(std::io::Error::other(error))
    }

    fn given_up(&self, request: &Request) -> Error {
        self.live().connection.fail(Fault::Abandoned(
            "it was given up after nothing came in the middle of a body",
        ));
        self.timed_out(request, false)
    }

    fn timed_out(&self, request: &Request, usable: bool) -> Error {
        let object = object(request);
        let blank = if object.is_empty() { "" } else { " " };
        Error::Timeout {
            host: self.shared.host.clone(),
            what: format!("{}{blank}{object}", verb(request)),
            after: self.timeout,
            usable,
        }
    }

    /// Makes the error of a failure reply.
    pub(crate) fn refused(&self, request: &Request, status: Status) -> Error {
        match status {
            Status::Failure { code, message } => Error::Refused {
                host: self.shared.host.clone(),
                verb: verb(request),
                path: object(request),
                code,
                message,
            },
            Status::Success(number) => self.violation(format!(
                "{} answered {number}, which it never may",
                verb(request)
            )),
        }
    }

    /// Makes the error of a broken protocol and ends the connection.
    pub(crate) fn violation(&self, what: String) -> Error {
        let host = self.shared.host.clone();
        let fault = Fault::Protocol(what.clone());
        self.live().connection.fail(fault);
        Error::Protocol { host, what }
    }

    /// Makes the error of a request whose connection ended.
    pub(crate) fn lost(&self, request: &Request, fault: Fault, sent: bool) -> Error {
        let host = self.shared.host.clone();
        let reason = match fault {
            Fault::Protocol(what) => return Error::Protocol { host, what },
            other => other.to_string(),
        };
        if !sent || repeat(request) == Repeat::Looks {
            return Error::Lost { host, reason };
        }
        Error::Uncertain {
            host,
            verb: verb(request),
            path: object(request),
            reason,
        }
    }

    /// Makes the error of a request that the connection's dialect does not have, as the server would
    /// refuse it; what is sent behind such a request would be taken for others.
    fn not_spoken(&self, request: &Request) -> Error {
        let words = match self.shared.dialect {
            Dialect::Condor => "a login by cookie allows no such request; log in by another method",
            Dialect::Plain => "only a login by cookie allows this request",
        };
        Error::Refused {
            host: self.shared.host.clone(),
            verb: verb(request),
            path: object(request),
            code: Code::InvalidRequest,
            message: Some(words.to_owned()),
        }
    }

    /// Reports whether the connection speaks HTCondor's dialect.
    pub(crate) fn is_condor(&self) -> bool {
        self.shared.dialect == Dialect::Condor
    }

    fn unexpected(&self, request: &Request, reply: Reply) -> Error {
        match reply {
            Reply::Refused(status) => self.refused(request, status),
            // The connection answers in the shape it was asked for.
            _ => self.violation(format!("{} answered in a wrong shape", verb(request))),
        }
    }
}

/// Checks a word that the protocol cannot escape.
pub(crate) fn word(text: &[u8]) -> Result<Vec<u8>, Error> {
    if encode::is_word(text) {
        return Ok(text.to_vec());
    }
    Err(Error::Argument {
        what: printable(text),
        reason: "the protocol can only carry this as one word, without blanks or line ends",
    })
}
