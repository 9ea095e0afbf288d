//! The client's side of stream mode: an execution as three streams and a final status.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chirp_proto::Code;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use crate::frame::{ClientFrame, FrameError, Position, ServerFrame, server_frame};
use crate::limits::WINDOW_DEFAULT;
use crate::pace::{PAYLOAD_MAX, READ_ROOM, StreamSettings, cut, silent, write_frame};
use crate::request::{ExecRequest, OutputTo, Terminal};
use crate::status::{self, Status};

/// How long received bytes may stay unacknowledged. A server whose window is smaller than this
/// client assumes, because many streams share its memory, waits no longer than this for room.
const ACK_DELAY: Duration = Duration::from_millis(2);

/// How long to read on when nothing can be written any more: the server may have said why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A connection in stream mode: the reply to `exec` was an id and nothing behind it has been read,
/// except into `buffered`.
#[derive(Debug)]
pub struct ExecStream<R, W> {
    reader: R,
    writer: W,
    buffered: BytesMut,
    settings: StreamSettings,
    ack_every: u64,
    out_streamed: bool,
    err_streamed: bool,
    begun: Arc<OnceLock<Position>>,
    stdin_from: u64,
    look: Option<(u64, u64)>,
}

/// What a caller may ask for while the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Send this signal, 1 to 64, to the program's process group.
    Signal(i32),
    /// Give the program's terminal another size. Only for a program that has one: the server ends the
    /// connection otherwise.
    Resize(Terminal),
    /// Stop streaming and leave the program running.
    Detach,
}

/// A stream that came to its end, with the connection back in request mode.
#[derive(Debug)]
pub struct Finished<R, W> {
    /// How it ended.
    pub ending: Ending,
    /// Where the streams stood when this client was attached: all zero unless it took over.
    pub position: Position,
    /// The connection's reading half.
    pub reader: R,
    /// The connection's writing half.
    pub writer: W,
    /// Bytes read behind the stream's last frame; empty unless the server errs.
    pub buffered: BytesMut,
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// The execution ended; every byte it wrote to a streamed output has been handed over.
    Ended(Box<Status>),
    /// This client detached or was replaced by another; the program runs on.
    Detached,
}

/// Why a stream came to no end. The connection is of no further use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The connection failed, was closed, or was silent for too long. What the program does then,
    /// the request said.
    #[error("connection lost: {0}")]
    Lost(#[source] io::Error),
    /// The server ended the stream with an error line.
    #[error("server ended the stream: {code}: {message}")]
    Refused {
        /// The code.
        code: Code,
        /// The words after it.
        message: String,
    },
    /// The server sent what the protocol does not allow.
    #[error("server broke the stream protocol: {0}")]
    Protocol(String),
    /// The server was killed while the program ran.
    #[error("the server was killed while the program ran: nobody knows how it ended")]
    Killed,
    /// The program wrote another number of bytes than arrived. The output must not be used.
    #[error("{name} is incomplete: {received} bytes received of {written} written")]
    Incomplete {
        /// `stdout` or `stderr`.
        name: &'static str,
        /// Bytes received, from the start of the stream.
        received: u64,
        /// Bytes that the program wrote.
        written: u64,
        /// The final status.
        status: Box<Status>,
    },
    /// Output could not be handed on.
    #[error("cannot write {name}: {error}")]
    Sink {
        /// `stdout` or `stderr`.
        name: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Standard input could not be read.
    #[error("cannot read the program's stdin: {0}")]
    Stdin(#[source] io::Error),
}

impl<R, W> ExecStream<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Takes over a connection whose `exec` was answered with an id. `buffered` holds what was
    /// read behind the reply.
    #[must_use]
    pub fn new(reader: R, writer: W, buffered: BytesMut, request: &ExecRequest) -> Self {
        Self {
            reader,
            writer,
            buffered,
            settings: StreamSettings::default(),
            ack_every: WINDOW_DEFAULT as u64 / 4,
            out_streamed: request.stdout == OutputTo::Stream,
            err_streamed: request.stderr == OutputTo::Stream,
            begun: Arc::default(),
            stdin_from: 0,
            look: None,
        }
    }

    /// Takes `stdin` for what lies behind so many bytes of it, which the server has had.
    #[must_use]
    pub fn with_stdin_from(mut self, offset: u64) -> Self {
        self.stdin_from = offset;
        self
    }

    /// Only looks: acknowledges nothing, so that the server keeps what there is, and leaves the program
    /// once the streams have come up to these offsets. Where it has ended the connection is of no further
    /// use.
    #[must_use]
    pub fn looking_up_to(mut self, out: u64, err: u64) -> Self {
        self.look = Some((out, err));
        self
    }

    /// Notes where the streams stood when this client was attached, for whoever has to go on after the
    /// connection was lost.
    #[must_use]
    pub fn noting(mut self, begun: Arc<OnceLock<Position>>) -> Self {
        self.begun = begun;
        self
    }

    /// Uses other times.
    #[must_use]
    pub fn with_settings(mut self, settings: StreamSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Takes the server's window into account, which `features` tells: output is acknowledged four
    /// times a window.
    #[must_use]
    pub fn with_window(mut self, bytes: u64) -> Self {
        self.ack_every = (bytes / 4).max(1);
        self
    }

    /// Streams until the execution ends or is left.
    ///
    /// `stdin` is sent as the server allows and closed at its end; None closes it at once. Where
    /// this client takes over, the part of `stdin` that the server has had is read and dropped.
    /// Output goes to `out` and `err` as it comes and is acknowledged when they have it. `control`
    /// may be closed by dropping its sender.
    ///
    /// # Errors
    ///
    /// [`StreamError`]. Missing output is always an error, never success.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection.
    pub async fn run<I, O, E>(
        self,
        stdin: Option<I>,
        out: &mut O,
        err: &mut E,
        control: &mut mpsc::Receiver<Control>,
    ) -> Result<Finished<R, W>, StreamError>
    where
        I: AsyncRead + Unpin,
        O: AsyncWrite + Unpin,
        E: AsyncWrite + Unpin,
    {
        let Self {
            mut reader,
            mut writer,
            mut buffered,
            settings,
            ack_every,
            out_streamed,
            err_streamed,
            begun,
            stdin_from,
            look,
        } = self;
        let client = Client {
            settings,
            ack_every,
            out_streamed,
            err_streamed,
            begun,
            stdin_from,
            look,
            wake: Notify::new(),
            state: Mutex::default(),
        };
        let ending = client
            .exchange(
                &mut reader,
                &mut buffered,
                &mut writer,
                stdin,
                (out, err),
                control,
            )
            .await?;
        let position = client.state().position.unwrap_or_default();
        Ok(Finished {
            ending,
            position,
            reader,
            writer,
            buffered,
        })
    }
}

struct Client {
    settings: StreamSettings,
    ack_every: u64,
    out_streamed: bool,
    err_streamed: bool,
    begun: Arc<OnceLock<Position>>,
    /// The offset of the first byte of the input that it was given.
    stdin_from: u64,
    /// Where somebody who only looks leaves.
    look: Option<(u64, u64)>,
    /// Told by the reading half when the writing half has something to do.
    wake: Notify,
    state: Mutex<State>,
}

/// What the two halves share.
#[derive(Debug, Default)]
struct State {
    /// The first frame, once it is here.
    position: Option<Position>,
    /// Standard input that may still be sent.
    credit: u64,
    /// Offsets up to which the sinks have the output.
    taken: (u64, u64),
    /// Since when something in `taken` is unacknowledged.
    unacked_since: Option<Instant>,
    /// Whether all that was to be looked at is here.
    seen: bool,
    /// Whether the final frame is here.
    finished: bool,
}

impl Client {
    async fn exchange<R, W, I, O, E>(
        &self,
        reader: &mut R,
        buffered: &mut BytesMut,
        writer: &mut W,
        stdin: Option<I>,
        sinks: (&mut O, &mut E),
        control: &mut mpsc::Receiver<Control>,
    ) -> Result<Ending, StreamError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
        I: AsyncRead + Unpin,
        O: AsyncWrite + Unpin,
        E: AsyncWrite + Unpin,
    {
        let read = self.read(reader, buffered, sinks);
        let write = self.write(writer, stdin, control);
        tokio::pin!(read, write);
        let ending = tokio::select! {
            // The end of the stream is worth more than a failure to send what it made useless.
            biased;
            ending = &mut read => ending?,
            wrote = &mut write => {
                let Err(error) = wrote else {
                    return Err(StreamError::Protocol("the stream has no end".to_owned()));
                };
                if !matches!(error, StreamError::Lost(_)) {
                    return Err(error);
                }
                // A server that closed the connection said why before.
                return match timeout(LAST_WORDS, read).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(error),
                };
            }
        };
        if self.look.is_some() && matches!(ending, Ending::Ended(_)) {
            // To say that it is done would acknowledge everything.
            return Ok(ending);
        }
        self.state().finished = true;
        self.wake.notify_one();
        match timeout(self.settings.lost_after, write).await {
            Ok(wrote) => wrote?,
            Err(_) => return Err(StreamError::Lost(silent(self.settings.lost_after))),
        }
        Ok(ending)
    }

    /// Reads the server's frames until the final one.
    async fn read<R, O, E>(
        &self,
        reader: &mut R,
        buffered: &mut BytesMut,
        (out, err): (&mut O, &mut E),
    ) -> Result<Ending, StreamError>
    where
        R: AsyncRead + Unpin,
        O: AsyncWrite + Unpin,
        E: AsyncWrite + Unpin,
    {
        let sink = |name| move |error| StreamError::Sink { name, error };
        let mut taken = (0, 0);
        loop {
            let mut last = None;
            while last.is_none() {
                let frame = server_frame(buffered);
                let frame = frame.map_err(|e: FrameError| StreamError::Protocol(e.to_string()))?;
                let Some(frame) = frame else { break };
                match self.note(frame)? {
                    Noted::Nothing => {}
                    Noted::At(position) => taken = (position.out, position.err),
                    Noted::Out(bytes) => {
                        out.write_all(&bytes).await.map_err(sink("stdout"))?;
                        taken.0 += bytes.len() as u64;
                    }
                    Noted::Err(bytes) => {
                        err.write_all(&bytes).await.map_err(sink("stderr"))?;
                        taken.1 += bytes.len() as u64;
                    }
                    Noted::Last(ending) => last = Some(ending),
                }
            }
            self.hand_over(taken, out, err).await?;
            if self
                .look
                .is_some_and(|(out, err)| taken.0 >= out && taken.1 >= err)
            {
                self.state().seen = true;
                self.wake.notify_one();
            }
            if let Some(ending) = last {
                self.check(&ending, taken)?;
                return Ok(ending);
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

    /// Flushes the sinks if they got anything, so that it may be acknowledged.
    async fn hand_over<O, E>(
        &self,
        taken: (u64, u64),
        out: &mut O,
        err: &mut E,
    ) -> Result<(), StreamError>
    where
        O: AsyncWrite + Unpin,
        E: AsyncWrite + Unpin,
    {
        let before = self.state().taken;
        if taken.0 != before.0 {
            let flushed = out.flush().await;
            flushed.map_err(|error| StreamError::Sink {
                name: "stdout",
                error,
            })?;
        }
        if taken.1 != before.1 {
            let flushed = err.flush().await;
            flushed.map_err(|error| StreamError::Sink {
                name: "stderr",
                error,
            })?;
        }
        if taken != before {
            let mut state = self.state();
            state.taken = taken;
            state.unacked_since.get_or_insert_with(Instant::now);
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Takes one frame's meaning into the state, or hands its content on.
    fn note(&self, frame: ServerFrame) -> Result<Noted, StreamError> {
        let mut state = self.state();
        let first = state.position.is_none();
        Ok(match frame {
            ServerFrame::At(position) if first => {
                state.position = Some(position);
                // One that is noted already stays: it is that of the first stream.
                let _ = self.begun.set(position);
                state.taken = (position.out, position.err);
                self.wake.notify_one();
                Noted::At(position)
            }
            ServerFrame::Failure { code, message } => {
                return Err(StreamError::Refused { code, message });
            }
            ServerFrame::At(_) => {
                return Err(StreamError::Protocol("a second at frame".to_owned()));
            }
            _ if first => {
                return Err(StreamError::Protocol("no at frame first".to_owned()));
            }
            ServerFrame::Out(bytes) => Noted::Out(bytes),
            ServerFrame::Err(bytes) => Noted::Err(bytes),
            ServerFrame::Credit(bytes) => {
                state.credit = state.credit.saturating_add(bytes);
                self.wake.notify_one();
                Noted::Nothing
            }
            // Not asked for, so a later version's server has reasons that do not matter here.
            ServerFrame::Usage(_) | ServerFrame::Alive => Noted::Nothing,
            ServerFrame::End(json) => {
                let status = serde_json::from_slice(&json);
                let status: Status = status.map_err(|error| {
                    StreamError::Protocol(format!("the end's status cannot be read: {error}"))
                })?;
                Noted::Last(Ending::Ended(Box::new(status)))
            }
            ServerFrame::Detached => Noted::Last(Ending::Detached),
        })
    }

    /// Compares what arrived with what the program wrote.
    fn check(&self, ending: &Ending, taken: (u64, u64)) -> Result<(), StreamError> {
        let Ending::Ended(status) = ending else {
            return Ok(());
        };
        let Some(results) = &status.results else {
            return Err(match status.state {
                status::State::Lost => StreamError::Killed,
                _ => StreamError::Protocol("an end without results".to_owned()),
            });
        };
        let streams = [
            ("stdout", self.out_streamed, taken.0, results.out_bytes),
            ("stderr", self.err_streamed, taken.1, results.err_bytes),
        ];
        for (name, streamed, received, written) in streams {
            if streamed && received != written {
                return Err(StreamError::Incomplete {
                    name,
                    received,
                    written,
                    status: status.clone(),
                });
            }
        }
        Ok(())
    }

    /// Writes frames as they are due, until the final one has been answered with `done`.
    async fn write<W, I>(
        &self,
        writer: &mut W,
        mut stdin: Option<I>,
        control: &mut mpsc::Receiver<Control>,
    ) -> Result<(), StreamError>
    where
        W: AsyncWrite + Unpin,
        I: AsyncRead + Unpin,
    {
        let mut header = BytesMut::new();
        let mut buffer = BytesMut::new();
        let mut acked = (0, 0);
        // Bytes of `stdin` that the server has had from another client.
        let mut skip = None;
        let mut closed = false;
        let mut left = false;
        let mut control_open = true;
        let mut alive_at = Instant::now() + self.settings.alive_every;
        loop {
            let (position, credit, taken, unacked_since, seen, finished) = {
                let state = self.state();
                let State {
                    position,
                    credit,
                    taken,
                    unacked_since,
                    seen,
                    finished,
                } = *state;
                (position, credit, taken, unacked_since, seen, finished)
            };
            let unacked_since = unacked_since.filter(|_| self.look.is_none());
            let ack_due = unacked_since.map(|since| since + ACK_DELAY);
            let skipping = match position {
                Some(position) => {
                    *skip.get_or_insert_with(|| position.stdin.saturating_sub(self.stdin_from))
                }
                None => 0,
            };
            closed |= position.is_some_and(|position| position.eof);
            let acked_from = if self.look.is_some() { taken } else { acked };
            let unacked =
                (taken.0 - acked_from.0.min(taken.0)) + (taken.1 - acked_from.1.min(taken.1));
            let frame = if finished {
                Some(ClientFrame::Done)
            } else if seen && position.is_some() && !left {
                left = true;
                Some(ClientFrame::Detach)
            } else if unacked >= self.ack_every || ack_due.is_some_and(|due| due <= Instant::now())
            {
                acked = taken;
                self.state().unacked_since = None;
                let (out, err) = taken;
                Some(ClientFrame::Ack { out, err })
            } else if position.is_some() && !closed && stdin.is_none() {
                closed = true;
                Some(ClientFrame::Eof)
            } else {
                let ready = position.is_some() && !closed && (skipping > 0 || credit > 0);
                let room = if skipping > 0 { skipping } else { credit };
                let room = room.min(PAYLOAD_MAX as u64);
                tokio::select! {
                    () = self.wake.notified() => None,
                    asked = control.recv(), if control_open => match asked {
                        Some(Control::Signal(number)) => Some(ClientFrame::Signal(number)),
                        Some(Control::Resize(Terminal { rows, cols })) => {
                            Some(ClientFrame::Resize { rows, cols })
                        }
                        Some(Control::Detach) => Some(ClientFrame::Detach),
                        None => {
                            control_open = false;
                            None
                        }
                    },
                    read = read_some(&mut stdin, room, &mut buffer), if ready => {
                        match read.map_err(StreamError::Stdin)? {
                            0 => {
                                closed = true;
                                Some(ClientFrame::Eof)
                            }
                            count if skipping > 0 => {
                                skip = Some(skipping - (count as u64).min(skipping));
                                buffer.clear();
                                None
                            }
                            count => {
                                self.state().credit -= (count as u64).min(credit);
                                Some(ClientFrame::In(buffer.split().freeze()))
                            }
                        }
                    },
                    () = sleep_until(ack_due.map_or(alive_at, |due| due.min(alive_at))) => {
                        (alive_at <= Instant::now()).then_some(ClientFrame::Alive)
                    }
                }
            };
            if let Some(frame) = frame {
                frame.put_header(&mut header);
                let written = write_frame(writer, &mut header, frame.payload()).await;
                written.map_err(StreamError::Lost)?;
                if frame == ClientFrame::Done {
                    return Ok(());
                }
                alive_at = Instant::now() + self.settings.alive_every;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a frame means to the reading half.
enum Noted {
    Nothing,
    At(Position),
    Out(Bytes),
    Err(Bytes),
    Last(Ending),
}

/// Reads up to `room` bytes of standard input. Cancelling loses nothing.
async fn read_some<I: AsyncRead + Unpin>(
    stdin: &mut Option<I>,
    room: u64,
    buffer: &mut BytesMut,
) -> io::Result<usize> {
    let Some(stdin) = stdin else {
        return std::future::pending().await;
    };
    buffer.reserve(PAYLOAD_MAX);
    stdin.take(room).read_buf(buffer).await
}
