//! One client: login, then requests in order, until either side ends it.
//!
//! What a waiting connection costs is this task and two buffers of at most `KEPT` bytes; a
//! transfer adds one buffer ([`crate::transfer::CHUNK`]). Answers to pipelined requests are
//! gathered and sent together.

mod aside;
mod exec;
mod job;
mod remote;
mod stream;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use chirp_proto::parse::{Decoder, Step};
use chirp_proto::{Code, Request, encode};
use exec_ext::stream::Reply;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::auth::{self, AuthError, Login};
use crate::catalog::Tally;
use crate::dispatch::{dispatch, refuse};
use crate::listener::Stop;
use crate::outcome::{Outcome, Receiver, Then};
use crate::server::Server;
use crate::session::Session;
use crate::socket::{Peer, Socket};
use crate::transfer::{self, Collect, Discard, Progress, Sink};

/// Bytes that are read at once while looking for requests.
const READ: usize = 8 * 1024;

/// Bytes of a buffer that a connection keeps while it waits.
const KEPT: usize = 8 * 1024;

/// How long a connection looks for the next request before it sleeps.
const LINGER: Duration = Duration::from_micros(50);

/// How long a client that is told why its connection ends has to read that.
const FAREWELL: Duration = Duration::from_secs(1);

/// Bytes that are read and dropped meanwhile.
const FAREWELL_BYTES: u64 = 4 * 1024 * 1024;

/// How long a request may wait for the groups that decide about it.
const GROUPS_MAX: Duration = Duration::from_secs(30);

/// Bytes of gathered answers after which they are sent.
const FLUSH_AT: usize = 64 * 1024;

/// Serves one connection to its end.
pub async fn serve(server: Arc<Server>, stream: Socket, peer: Peer, stop: Stop) {
    let abort = stop.abort.clone();
    let renewed = server.until_renewed();
    let work = serve_until_end(server, stream, peer, stop);
    tokio::select! {
        // First, so that nothing more is said to who talks to another time.
        biased;
        () = renewed.cancelled() => {
            tracing::debug!(target: "tcp", %peer, "connection closed with the run that it belonged to");
        }
        // A connection that ends in an error has nobody left to tell.
        result = work => match result {
            Ok(()) => tracing::debug!(target: "tcp", %peer, "connection ended"),
            Err(error) => tracing::debug!(target: "tcp", %peer, %error, "connection ended"),
        },
        () = abort.cancelled() => {
            tracing::warn!(%peer, "connection cut off by the server's end");
        }
    }
}

async fn serve_until_end(
    server: Arc<Server>,
    mut stream: Socket,
    peer: Peer,
    stop: Stop,
) -> io::Result<()> {
    stream.set_nodelay()?;
    let mut input = BytesMut::with_capacity(READ);
    let login = auth::login(&server.auth, peer.address(), &mut stream, &mut input);
    let Login { who, dialect } = tokio::select! {
        login = tokio::time::timeout(server.idle, login) => match login {
            Ok(Ok(login)) => login,
            Ok(Err(AuthError::Closed)) => return Ok(()),
            Ok(Err(error)) => return Err(io::Error::other(error)),
            Err(_) => return Err(io::Error::other("no login within the idle time")),
        },
        () = stop.drain.cancelled() => return Ok(()),
    };
    tracing::debug!(target: "auth", %peer, login = %who.login(), "logged in");
    let Some(_place) = server.places.take(who.subject()) else {
        tracing::warn!(%peer, subject = %who.subject(), "refused: this subject has all the connections it may have");
        return last_words(&mut stream, dialect.code(Code::TooManyOpen)).await;
    };
    let mut connection = Connection {
        idle_timer: Box::pin(tokio::time::sleep(server.idle)),
        idle_since: Instant::now(),
        drain: Box::pin(stop.drain.clone().cancelled_owned()),
        turn: 0,
        alone: true,
        ended: false,
        tally: server
            .clients
            .as_ref()
            .zip(peer.address())
            .map(|(clients, address)| clients.tally(address)),
        draining: stop.drain,
        session: Session::new(who).speaking(dialect),
        decoder: Decoder::new(dialect),
        input,
        output: BytesMut::new(),
        reply: Reply::default(),
        stream,
        server,
    };
    connection.requests().await
}

/// Says why the connection ends, and waits a moment for the client to have read that: closing at once
/// would take back what is still on its way, because the client has sent more than was read.
async fn last_words(stream: &mut Socket, code: Code) -> io::Result<()> {
    let farewell = async {
        let mut words = BytesMut::new();
        encode::failure(code, &mut words);
        stream.write_all(&words).await?;
        stream.shutdown().await?;
        let mut rest = stream.take(FAREWELL_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    match tokio::time::timeout(FAREWELL, farewell).await {
        Ok(result) => result.map(drop),
        Err(_) => Ok(()),
    }
}

struct Connection {
    server: Arc<Server>,
    stream: Socket,
    session: Session,
    decoder: Decoder,
    input: BytesMut,
    output: BytesMut,
    /// What goes before the streams of executions.
    reply: Reply,
    /// Fires at the earliest moment at which the idle time could be over; it is set again only
    /// then, so that a request costs no timer.
    idle_timer: Pin<Box<Sleep>>,
    idle_since: Instant,
    /// The count of all connections' reads after this one's last.
    turn: u64,
    /// No other connection read anything between this one's last two reads.
    alone: bool,
    /// The last answer ends the connection.
    ended: bool,
    /// Where the catalog is told what clients do.
    tally: Option<Tally>,
    drain: Pin<Box<WaitForCancellationFutureOwned>>,
    draining: CancellationToken,
}

impl Connection {
    async fn requests(&mut self) -> io::Result<()> {
        loop {
            // A client that never pauses would otherwise keep this thread to itself.
            tokio::task::coop::consume_budget().await;
            match self.decoder.step(&self.input) {
                Step::More => {
                    self.flush().await?;
                    if self.draining.is_cancelled() || !self.fill().await? {
                        return Ok(());
                    }
                    continue;
                }
                Step::End => return self.flush().await,
                Step::TooLong => {
                    self.flush().await?;
                    return last_words(&mut self.stream, Code::TooBig).await;
                }
                Step::Skip { used } => {
                    let line_ended = self.input.get(used.saturating_sub(1)) == Some(&b'\n');
                    self.input.advance(used);
                    if line_ended {
                        self.idle_since = Instant::now();
                    }
                    continue;
                }
                Step::Malformed { code, used, body } => {
                    tracing::debug!(target: "chirp", subject = %self.session.subject(), %code, "malformed request");
                    self.input.advance(used);
                    self.discard(body).await?;
                    self.fail(code);
                }
                Step::Request { request, used } => {
                    self.input.advance(used);
                    self.request(request).await?;
                    if self.ended {
                        return Ok(());
                    }
                }
            }
            self.idle_since = Instant::now();
            if self.output.len() >= FLUSH_AT {
                self.flush().await?;
            }
        }
    }

    async fn request(&mut self, request: Request) -> io::Result<()> {
        if let Some(tally) = &self.tally {
            tally.request();
            tally.written(request.body_length());
        }
        if let Some(latency) = self.server.latency {
            self.flush().await?;
            tokio::time::sleep(latency).await;
        }
        tracing::debug!(target: "chirp", subject = %self.session.subject(), ?request, "request");
        match request {
            Request::Features => {
                match self.server.features.text(self.server.identity.run()) {
                    Ok(text) => encode::counted(text.as_bytes(), &mut self.output),
                    Err(_) => self.fail(Code::Unknown),
                }
                Ok(())
            }
            // Apart, and boxed, so that the state of an execution's stream is not part of every
            // waiting connection.
            Request::JobCreate { .. }
            | Request::JobCommit { .. }
            | Request::JobKill { .. }
            | Request::JobReap { .. }
            | Request::JobStatus { .. }
            | Request::JobWait { .. } => Box::pin(self.job(request)).await,
            Request::Exec { .. }
            | Request::ExecAttach { .. }
            | Request::ExecStatus { .. }
            | Request::ExecWait { .. }
            | Request::ExecSignal { .. }
            | Request::ExecList
            | Request::ExecRemove { .. }
            | Request::ExecOutput { .. } => Box::pin(self.exec(request)).await,
            request => {
                let outcome = dispatch(&self.server.export, &mut self.session, &request);
                let outcome = match outcome {
                    Outcome::Group(group) => Box::pin(self.with_group(&request, group)).await?,
                    outcome => outcome,
                };
                self.answer(outcome).await
            }
        }
    }

    /// Dispatches a request again once the groups are known that decide about it. Only this client
    /// waits for them, and not for long.
    async fn with_group(&mut self, request: &Request, mut group: Arc<[u8]>) -> io::Result<Outcome> {
        self.flush().await?;
        let deadline = Instant::now() + GROUPS_MAX;
        while Instant::now() < deadline {
            self.server.export.groups().fetch(&group).await;
            match dispatch(&self.server.export, &mut self.session, request) {
                Outcome::Group(another) => group = another,
                outcome => return Ok(outcome),
            }
        }
        tracing::warn!(subject = %self.session.subject(), "a request names too many groups that cannot be had");
        Ok(refuse(request, Code::NotAuthorized))
    }

    async fn answer(&mut self, mut outcome: Outcome) -> io::Result<()> {
        loop {
            if let Outcome::Failed(code) = &mut outcome {
                *code = self.session.dialect().code(*code);
            }
            outcome.encode_head(&mut self.output);
            if let Some(tally) = &self.tally {
                tally.read(outcome.sent_length());
            }
            match outcome {
                Outcome::Failed(_)
                | Outcome::Number(_)
                | Outcome::Counted(_)
                | Outcome::Stat(..)
                | Outcome::StatFs(_)
                | Outcome::Text(_) => {}
                Outcome::Listing(mut listing) => {
                    while listing.fill(&mut self.output)? {
                        self.flush().await?;
                        tokio::task::yield_now().await;
                    }
                }
                Outcome::Gather(mut gather) => {
                    while gather.fill(&mut self.output)? {
                        self.flush().await?;
                        // Scattered pieces cost a system call each; others come first.
                        tokio::task::yield_now().await;
                    }
                }
                Outcome::SendFile {
                    file,
                    offset,
                    length,
                } => {
                    let (stream, more) = (&self.stream, length > 0);
                    let mut progress = Progress::new(self.server.stalled);
                    transfer::flush(stream, &mut self.output, more, &mut progress).await?;
                    transfer::send_file(stream, &file, offset, length, &mut progress).await?;
                }
                Outcome::Receive { length, sink } => {
                    let verdict = self.receive(length, sink).await?;
                    self.verdict(verdict);
                }
                Outcome::ReceiveAfterGo { length, sink } => {
                    self.flush().await?;
                    if self.alone && (self.input.len() as u64) < length {
                        self.linger().await;
                    }
                    let verdict = self.receive(length, sink).await?;
                    self.verdict(verdict);
                }
                Outcome::SendStream(file) => Box::pin(self.send_stream(&file)).await?,
                Outcome::ReceiveStream(sink) => Box::pin(self.receive_stream(sink)).await?,
                Outcome::Body {
                    length,
                    limit,
                    then,
                } => {
                    outcome = self.body(length, limit, then).await?;
                    continue;
                }
                // Only a request that was just dispatched needs one; it was asked for there.
                Outcome::Group(_) => encode::failure(Code::NotAuthorized, &mut self.output),
                Outcome::Whoareyou { address, limit } => {
                    outcome = Box::pin(self.whoareyou(address, limit)).await?;
                    continue;
                }
                Outcome::Thirdput { address, copying } => {
                    outcome = Box::pin(self.thirdput(address, copying)).await?;
                    continue;
                }
                Outcome::Steps(steps) => {
                    if let Some(answer) = Box::pin(self.steps(steps)).await? {
                        outcome = answer;
                        continue;
                    }
                }
                Outcome::Blocking { work, heavy: true } => {
                    self.flush().await?;
                    outcome = Box::pin(self.aside(work)).await?;
                    continue;
                }
                Outcome::Blocking { work, heavy: false } => {
                    // What was answered before does not wait for what takes long.
                    self.flush().await?;
                    let token = CancellationToken::new();
                    let _cancel = token.clone().drop_guard();
                    outcome = tokio::task::spawn_blocking(move || work(&token)).await?;
                    continue;
                }
            }
            return Ok(());
        }
    }

    fn verdict(&mut self, verdict: Result<u64, Code>) {
        match verdict {
            Ok(number) => encode::number(number, &mut self.output),
            Err(code) => self.fail(code),
        }
    }

    fn fail(&mut self, code: Code) {
        encode::failure(self.session.dialect().code(code), &mut self.output);
    }

    async fn receive(
        &mut self,
        length: u64,
        mut sink: Box<dyn Receiver>,
    ) -> io::Result<Result<u64, Code>> {
        let taken = self.take_body(length, &mut sink).await?;
        Ok(taken.and_then(|()| sink.finish()))
    }

    /// Takes a body that a request needs whole.
    async fn body(&mut self, length: u64, limit: u64, then: Then) -> io::Result<Outcome> {
        if length > limit {
            self.discard(length).await?;
            return Ok(Outcome::Failed(Code::NoMemory));
        }
        let mut body = Collect::default();
        Ok(match self.take_body(length, &mut body).await? {
            Ok(()) => then(body.0),
            Err(code) => Outcome::Failed(code),
        })
    }

    async fn discard(&mut self, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        // Nothing that drops bytes can fail.
        let _ = self.take_body(length, &mut Discard).await?;
        Ok(())
    }

    fn progress(&self) -> Progress {
        Progress::new(self.server.stalled)
    }

    /// Receives a body. What was answered is sent before the client is waited for: it may wait for
    /// that.
    async fn take_body(
        &mut self,
        length: u64,
        sink: &mut impl Sink,
    ) -> io::Result<Result<(), Code>> {
        if (self.input.len() as u64) < length {
            self.flush().await?;
        }
        let mut progress = self.progress();
        transfer::receive(&self.stream, &mut self.input, length, sink, &mut progress).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let mut progress = self.progress();
        transfer::flush(&self.stream, &mut self.output, false, &mut progress).await
    }

    /// Waits a moment for what a client sends right after an answer, without going to sleep: being
    /// woken up takes longer than most requests do. As soon as any other connection has something
    /// to do, the thread is for that.
    async fn linger(&self) {
        let turns = self.server.turns.load(Ordering::Relaxed);
        let begun = Instant::now();
        loop {
            tokio::task::yield_now().await;
            let look = |context: &mut Context<'_>| {
                Poll::Ready(self.stream.poll_read_ready(context).is_ready())
            };
            if std::future::poll_fn(look).await
                || self.server.turns.load(Ordering::Relaxed) != turns
                || begun.elapsed() > LINGER
            {
                return;
            }
        }
    }

    /// Reads more of the client's requests; false at the end of them.
    async fn fill(&mut self) -> io::Result<bool> {
        let mut lingered = false;
        loop {
            // Where nothing is buffered a buffer that grew is given back.
            if self.input.is_empty() && self.input.capacity() > KEPT {
                self.input = BytesMut::new();
            }
            if self.output.capacity() > KEPT {
                self.output = BytesMut::new();
            }
            self.input.reserve(READ / 2);
            match self.stream.try_read_buf(&mut self.input) {
                Ok(count) => {
                    let before = self.server.turns.fetch_add(1, Ordering::Relaxed);
                    self.alone = before == self.turn;
                    self.turn = before + 1;
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if self.alone && !lingered {
                lingered = true;
                self.linger().await;
                continue;
            }
            tokio::select! {
                biased;
                ready = self.stream.readable() => ready?,
                () = &mut self.idle_timer => self.check_idle()?,
                () = &mut self.drain => return Ok(false),
            }
        }
    }

    /// The timer fired: either the client was idle for the whole time, or the timer is set again.
    fn check_idle(&mut self) -> io::Result<()> {
        let deadline = self.idle_since + self.server.idle;
        if Instant::now() >= deadline {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no request within the idle time",
            ));
        }
        self.idle_timer.as_mut().reset(deadline);
        Ok(())
    }
}
