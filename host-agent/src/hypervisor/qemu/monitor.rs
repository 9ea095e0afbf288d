//! A session with a machine's monitor. QEMU serves one at a time: who has the machine's lock has it.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde_json::Value;
use std::os::fd::AsRawFd as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use super::qmp::{Decoder, Event, Malformed, Message, Refusal, command};
use crate::hypervisor::Error;

/// How long QEMU may take for what it does at once: it does nothing else meanwhile.
pub(super) const AT_ONCE: Duration = Duration::from_secs(20);

/// Events that are remembered until somebody looks; older ones are forgotten.
const EVENTS_MAX: usize = 256;

/// The name of a machine's monitor socket, in its folder.
pub(super) const SOCKET: &str = "monitor.sock";

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Nobody listens, or the connection ended.
    #[error("its monitor cannot be reached: {0}")]
    Gone(#[from] std::io::Error),
    /// What was said is not understood.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// No answer in time.
    #[error("its monitor does not answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// QEMU would not or could not.
    #[error("{}", .0.description)]
    Refused(Refusal),
}

impl Trouble {
    /// Returns the driver's error for something that was tried.
    pub(super) fn of(self, what: String) -> Error {
        match self {
            Self::Silent(limit) => Error::TimedOut { what, limit },
            Self::Malformed(error) => Error::BadAnswer {
                what,
                reason: error.to_string(),
            },
            other => Error::Failed {
                what,
                said: other.to_string(),
            },
        }
    }
}

/// A session with a monitor.
#[derive(Debug)]
pub(super) struct Monitor {
    stream: UnixStream,
    decoder: Decoder,
    asked: u64,
    events: VecDeque<Event>,
}

impl Monitor {
    /// Opens a session with the machine in that folder.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or does not greet within `limit`.
    pub(super) async fn open(folder: &Path, limit: Duration) -> Result<Self, Trouble> {
        let deadline = Instant::now() + limit;
        // A socket's path is short; a folder's may be long.
        let folder = rustix::fs::open(
            folder,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(std::io::Error::from)?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
        let stream = timeout_at(deadline, UnixStream::connect(path))
            .await
            .map_err(|_| Trouble::Silent(limit))??;
        let mut monitor = Self {
            stream,
            decoder: Decoder::default(),
            asked: 0,
            events: VecDeque::new(),
        };
        loop {
            match monitor.heard(deadline, limit).await? {
                Message::Greeting => break,
                Message::Event(event) => monitor.remember(event),
                Message::Answer { .. } => {}
            }
        }
        monitor
            .ask("qmp_capabilities", Value::Null, limit)
            .await
            .map(|_| monitor)
    }

    /// Asks for something that QEMU does at once.
    ///
    /// # Errors
    ///
    /// See [`Trouble`]. After [`Trouble::Silent`] the session is of no use any more.
    pub(super) async fn execute(&mut self, name: &str, arguments: Value) -> Result<Value, Trouble> {
        self.ask(name, arguments, AT_ONCE).await
    }

    async fn ask(
        &mut self,
        name: &str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value, Trouble> {
        let deadline = Instant::now() + limit;
        self.asked += 1;
        let asked = self.asked;
        let bytes = command(name, arguments, asked);
        timeout_at(deadline, self.stream.write_all(&bytes))
            .await
            .map_err(|_| Trouble::Silent(limit))??;
        loop {
            match self.heard(deadline, limit).await? {
                Message::Answer { id, result } if id == asked => {
                    return result.map_err(Trouble::Refused);
                }
                Message::Event(event) => self.remember(event),
                // The answer to something that was given up.
                Message::Answer { .. } | Message::Greeting => {}
            }
        }
    }

    /// Returns the next event, of those that came already or comes until the deadline.
    ///
    /// # Errors
    ///
    /// See [`Trouble`].
    pub(super) async fn event(
        &mut self,
        deadline: Instant,
        limit: Duration,
    ) -> Result<Event, Trouble> {
        if let Some(event) = self.events.pop_front() {
            return Ok(event);
        }
        loop {
            if let Message::Event(event) = self.heard(deadline, limit).await? {
                return Ok(event);
            }
        }
    }

    fn remember(&mut self, event: Event) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    async fn heard(&mut self, deadline: Instant, limit: Duration) -> Result<Message, Trouble> {
        loop {
            if let Some(message) = self.decoder.next()? {
                return Ok(message);
            }
            let mut buffer = [0; 16 * 1024];
            let read = timeout_at(deadline, self.stream.read(&mut buffer))
                .await
                .map_err(|_| Trouble::Silent(limit))??;
            if read == 0 {
                return Err(Trouble::Gone(std::io::ErrorKind::UnexpectedEof.into()));
            }
            self.decoder.push(buffer.get(..read).unwrap_or_default());
        }
    }
}
