//! The server's side of stream mode.
//!
//! One future reads the client's frames and one writes the server's, so that neither waits for the
//! other. They share a few numbers and never hold a lock while they wait.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chirp_proto::Code;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use crate::frame::{ClientFrame, FrameError, ServerFrame, client_frame};
use crate::limits::FRAME_MAX;
use crate::pace::{PAYLOAD_MAX, READ_ROOM, StreamSettings, cut, silent, write_frame};
use crate::request::Terminal;
use crate::runner::{AttachTicket, Channel};
use crate::status::Status;

/// How a stream ended with the connection in request mode again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The execution ended and the client has all of it.
    Ended,
    /// The client detached, or another one took over; the program runs on.
    Detached,
}

/// Why the connection has to be closed. In each case the execution has been treated as one whose
/// connection was lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The connection failed, was closed, or was silent for too long.
    #[error("connection lost: {0}")]
    Lost(#[source] io::Error),
    /// The client broke the protocol; an error line has told it so.
    #[error("client broke the stream protocol: {0}")]
    Violation(String),
}

/// Serves the streams of an execution to the client that `ticket` stands for, from the `at` frame
/// until `done`.
///
/// `buffered` holds bytes that were read from `reader` and not used yet, before and after: a
/// request may follow `done` at once. `reply` is what the client is to get first; a connection has one for all its
/// streams.
///
/// # Errors
///
/// [`StreamError`]; the caller closes the connection.
///
/// # Cancel safety
///
/// Dropping the future counts as a lost connection.
pub async fn serve<R, W>(
    ticket: AttachTicket,
    reader: &mut R,
    buffered: &mut BytesMut,
    reply: &mut Reply,
    writer: &mut W,
    settings: StreamSettings,
) -> Result<StreamEnd, StreamError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let server = Server {
        ticket,
        settings,
        wake: Notify::new(),
        state: Mutex::default(),
    };
    let outcome = server.run(reader, buffered, reply, writer).await;
    let last = server.state().last;
    match (&outcome, last) {
        (Ok(StreamEnd::Ended), _) => server.ticket.complete(),
        // Whatever happens to the connection of a client that was told so, it has detached.
        (_, Some(StreamEnd::Detached)) => server.ticket.detach(),
        // The ticket's end does what the request says about lost connections.
        _ => drop(server.ticket),
    }
    outcome
}

/// What a client gets before the streams of an execution.
#[derive(Debug, Default)]
pub struct Reply {
    /// The answer to its request, to be set for each stream.
    pub bytes: BytesMut,
    /// Whether the program before, on this connection, was over in no time: so may be this one.
    follows_a_brief_one: bool,
}

/// What a program takes at most that counts as brief.
const BRIEF: Duration = Duration::from_millis(5);

/// For how long the reply waits for something to go with it where a brief program may end sooner: what that says, and its
/// end, reach the client with one waking-up then, instead of two or three, which cost each as much as it does.
const PATIENCE: Duration = Duration::from_millis(1);

struct Server {
    ticket: AttachTicket,
    settings: StreamSettings,
    /// Told by the reading half when the writing half has something to do.
    wake: Notify,
    state: Mutex<State>,
}

/// What the two halves share.
#[derive(Debug, Default)]
struct State {
    /// Offsets of output sent on this connection.
    sent_out: u64,
    sent_err: u64,
    /// Standard input that this connection may still send.
    credit: u64,
    detach_asked: bool,
    /// The final frame, once its sending has begun.
    last: Option<StreamEnd>,
    /// What the client did wrong.
    violation: Option<String>,
}

/// What the writing half does next.
enum Next {
    Frame(ServerFrame),
    Last(ServerFrame, StreamEnd),
    Violation(String),
    Wait,
}

impl Server {
    async fn run<R, W>(
        &self,
        reader: &mut R,
        buffered: &mut BytesMut,
        reply: &mut Reply,
        writer: &mut W,
    ) -> Result<StreamEnd, StreamError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let (outcome, wrote_last) = {
            let read = self.read(reader, buffered);
            let write = self.write(reply, writer);
            tokio::pin!(read, write);
            let mut written = false;
            let outcome = loop {
                tokio::select! {
                    outcome = &mut read => break outcome,
                    wrote = &mut write, if !written => {
                        wrote.map_err(StreamError::Lost)?;
                        written = true;
                    }
                }
            };
            if let Err(StreamError::Violation(message)) = &outcome {
                self.state().violation = Some(message.clone());
                self.wake.notify_one();
            }
            let finish = !written && !matches!(outcome, Err(StreamError::Lost(_)));
            if finish {
                // A frame that was begun is finished, so that what follows it is understood.
                let patience = self.settings.lost_after;
                match timeout(patience, write).await {
                    Ok(wrote) => wrote.map_err(StreamError::Lost)?,
                    Err(_) => return Err(StreamError::Lost(silent(patience))),
                }
            }
            (outcome, written)
        };
        if let (Err(StreamError::Violation(message)), true) = (&outcome, wrote_last) {
            // The writing half was through already.
            let frame = failure(message.clone());
            let mut header = BytesMut::new();
            frame.put_header(&mut header);
            let line = write_frame(writer, &mut header, None);
            // The connection ends in any case.
            let _ = timeout(self.settings.lost_after, line).await;
        }
        outcome
    }

    /// Reads the client's frames until `done`.
    async fn read<R: AsyncRead + Unpin>(
        &self,
        reader: &mut R,
        buffered: &mut BytesMut,
    ) -> Result<StreamEnd, StreamError> {
        loop {
            loop {
                let credit = self.state().credit;
                let frame = client_frame(buffered, credit);
                match frame
                    .map_err(|error: FrameError| StreamError::Violation(error.to_string()))?
                {
                    Some(frame) => {
                        if let Some(end) = self.take(frame).map_err(StreamError::Violation)? {
                            return Ok(end);
                        }
                    }
                    None => break,
                }
            }
            buffered.reserve(READ_ROOM);
            match timeout(self.settings.lost_after, reader.read_buf(buffered)).await {
                Ok(Ok(0)) => return Err(StreamError::Lost(cut())),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(StreamError::Lost(error)),
                Err(_) => return Err(StreamError::Lost(silent(self.settings.lost_after))),
            }
        }
    }

    /// Does what one frame asks for. After the final frame only acknowledgements count.
    fn take(&self, frame: ClientFrame) -> Result<Option<StreamEnd>, String> {
        let mut state = self.state();
        let live = state.last.is_none();
        match frame {
            ClientFrame::Done => {
                return match state.last {
                    Some(last) => Ok(Some(last)),
                    None => Err("done before end".to_owned()),
                };
            }
            ClientFrame::In(bytes) => {
                // The decoder has held it to the credit.
                state.credit = state.credit.saturating_sub(bytes.len() as u64);
                drop(state);
                if live && self.ticket.input(&bytes).is_err() {
                    return Err("stdin after eof".to_owned());
                }
            }
            ClientFrame::Ack { out, err } => {
                if out > state.sent_out || err > state.sent_err {
                    return Err(format!(
                        "ack {out} {err} is beyond what was sent, {} {}",
                        state.sent_out, state.sent_err
                    ));
                }
                drop(state);
                self.ticket.acknowledge(out, err);
            }
            ClientFrame::Eof if live => self.ticket.close_input(),
            ClientFrame::Signal(number) if live && self.ticket.is_current() => {
                self.ticket.execution().signal(number);
            }
            ClientFrame::Detach if live => {
                state.detach_asked = true;
                self.wake.notify_one();
            }
            ClientFrame::Resize { rows, cols } if live => {
                let execution = self.ticket.execution();
                if !execution.has_terminal() {
                    return Err("resize: the program has no terminal".to_owned());
                }
                if self.ticket.is_current() {
                    execution.resize(Terminal { rows, cols });
                }
            }
            // The rest came too late or means nothing.
            ClientFrame::Eof
            | ClientFrame::Signal(_)
            | ClientFrame::Detach
            | ClientFrame::Resize { .. }
            | ClientFrame::Alive => {}
        }
        Ok(None)
    }

    /// Writes the reply and `at`, then whatever is due, until the final frame or an error line is out.
    async fn write<W: AsyncWrite + Unpin>(
        &self,
        reply: &mut Reply,
        writer: &mut W,
    ) -> io::Result<()> {
        let begun = Instant::now();
        let mut header = std::mem::take(&mut reply.bytes);
        let patience = match std::mem::take(&mut reply.follows_a_brief_one) {
            true => PATIENCE,
            false => Duration::ZERO,
        };
        let mut err_first = false;
        let position = self.ticket.position();
        {
            let mut state = self.state();
            (state.sent_out, state.sent_err) = (position.out, position.err);
        }
        let usage_every = self.ticket.execution().usage_every();
        let mut usage_at = usage_every.map(|every| Instant::now() + every);
        ServerFrame::At(position).put_header(&mut header);
        loop {
            let alive_at = Instant::now() + self.settings.alive_every;
            err_first = !err_first;
            let frame = loop {
                let news = self.ticket.activity();
                if let Some(json) = self.usage(usage_every, &mut usage_at).await {
                    break ServerFrame::Usage(json);
                }
                match self.next(err_first) {
                    Next::Frame(frame) => break frame,
                    Next::Last(frame, end) => {
                        self.state().last = Some(end);
                        break frame;
                    }
                    Next::Violation(message) => break failure(message),
                    // The reply and `at`, with what was due at once.
                    Next::Wait if !header.is_empty() && begun.elapsed() >= patience => {
                        write_frame(writer, &mut header, None).await?;
                    }
                    Next::Wait => tokio::select! {
                        () = news => {}
                        () = self.wake.notified() => {}
                        () = at(usage_at) => {}
                        () = sleep_until(begun + patience), if !header.is_empty() => {}
                        () = sleep_until(alive_at) => break ServerFrame::Alive,
                    },
                }
            };
            frame.put_header(&mut header);
            write_frame(writer, &mut header, frame.payload()).await?;
            let last = self.state().last;
            if last == Some(StreamEnd::Ended) {
                reply.follows_a_brief_one = begun.elapsed() < BRIEF;
            }
            if last.is_some() || matches!(frame, ServerFrame::Failure { .. }) {
                return Ok(());
            }
        }
    }

    /// Returns what the execution has used, whenever it is time to tell.
    async fn usage(&self, every: Option<Duration>, due: &mut Option<Instant>) -> Option<Bytes> {
        let now = Instant::now();
        if due.is_none_or(|due| due > now) {
            return None;
        }
        let usage = self.ticket.execution().usage().await;
        // Nothing is to be told of a program that has ended.
        *due = usage.as_ref().and(every).map(|every| now + every);
        serde_json::to_vec(&usage?).ok().map(Bytes::from)
    }

    fn next(&self, err_first: bool) -> Next {
        let mut state = self.state();
        if let Some(message) = state.violation.take() {
            return Next::Violation(message);
        }
        if state.detach_asked || !self.ticket.is_current() {
            return Next::Last(ServerFrame::Detached, StreamEnd::Detached);
        }
        if let Some(bytes) = self.ticket.grant() {
            state.credit += bytes;
            return Next::Frame(ServerFrame::Credit(bytes));
        }
        // A stream that always has something must not silence the other one.
        let order = if err_first {
            [Channel::Err, Channel::Out]
        } else {
            [Channel::Out, Channel::Err]
        };
        for channel in order {
            if let Some(frame) = self.output(&mut state, channel) {
                return Next::Frame(frame);
            }
        }
        match self.ticket.end_at(state.sent_out, state.sent_err) {
            Some(status) => match end_json(status) {
                Ok(json) => Next::Last(ServerFrame::End(Bytes::from(json)), StreamEnd::Ended),
                Err(error) => Next::Violation(format!("cannot write the status: {error}")),
            },
            None => Next::Wait,
        }
    }

    fn output(&self, state: &mut State, channel: Channel) -> Option<ServerFrame> {
        let sent = match channel {
            Channel::Out => &mut state.sent_out,
            Channel::Err => &mut state.sent_err,
        };
        let bytes = self.ticket.output(channel, *sent, PAYLOAD_MAX)?;
        if bytes.is_empty() {
            return None;
        }
        *sent += bytes.len() as u64;
        Some(match channel {
            Channel::Out => ServerFrame::Out(bytes),
            Channel::Err => ServerFrame::Err(bytes),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the status for `end`; without the request where that makes it too long for a frame.
fn end_json(mut status: Status) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(&status)?;
    if json.len() <= FRAME_MAX {
        return Ok(json);
    }
    status.request = None;
    serde_json::to_vec(&status)
}

/// Sleeps until `deadline`; for ever where there is none.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn failure(message: String) -> ServerFrame {
    ServerFrame::Failure {
        code: Code::InvalidRequest,
        message,
    }
}
