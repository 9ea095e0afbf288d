//! A raw connection: login, sentinel, reading with deadlines.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::account::Account;

/// How long a connection or a login may take before it counts as failed. Generous: a loaded machine
/// is no difference between servers.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The requests whose answers mark the end of another's: they read and change nothing. Two, since the answer
/// to one alone may be what was waited for.
const SENTINEL: &[u8] = b"whoami 256\nwhoami 5\n";
/// How many bytes the second asks for; every identity has more.
const SHORT: usize = 5;

/// A connection to a server, at the level of bytes.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    identity: Option<String>,
}

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The condition asked for holds.
    Satisfied,
    /// The server closed or reset the connection.
    Closed,
    /// Nothing came for the time given.
    Silence,
}

impl Connection {
    /// Connects, without logging in.
    ///
    /// # Errors
    ///
    /// Fails if nobody listens there.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            identity: None,
        })
    }

    /// Logs in by the `address` method.
    ///
    /// # Errors
    ///
    /// Fails if the server refuses or does not answer.
    pub fn log_in_by_address(&mut self) -> Result<()> {
        self.send(b"address\n")?;
        self.accepted("address", 2)
    }

    /// Logs in by the `hostname` method.
    ///
    /// # Errors
    ///
    /// Fails if the server refuses or does not answer.
    pub fn log_in_by_hostname(&mut self) -> Result<()> {
        self.send(b"hostname\n")?;
        self.accepted("hostname", 2)
    }

    /// Tells the server that nothing more will come; what it says can still be read.
    ///
    /// # Errors
    ///
    /// Fails if the socket does.
    pub fn finish(&mut self) -> Result<()> {
        match self.stream.shutdown(std::net::Shutdown::Write) {
            Err(error) if error.kind() != ErrorKind::NotConnected => {
                Err(error).context("cannot end the connection")
            }
            _ => Ok(()),
        }
    }

    /// Logs in by the `unix` method, as the owner of the challenge file: `account`.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be made, or the server refuses or does not answer.
    pub fn log_in_by_unix(&mut self, account: &Account) -> Result<()> {
        self.send(b"unix\n")?;
        let lines = self.lines(2)?;
        let [verdict, path] = lines.as_slice() else {
            bail!("unix: two lines expected, came {lines:?}");
        };
        ensure!(verdict == "yes", "unix: the server answered {verdict:?}");
        let challenge = Challenge::create(Path::new(path), account)?;
        self.send(b"yes\n")?;
        let result = self.accepted("unix", 1);
        drop(challenge);
        result
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// Fails if the connection is closed, or takes nothing for ten seconds.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot send")
    }

    /// Appends what comes to `buffer` until `done` holds for it, the server closes, or nothing came
    /// for `silence`.
    ///
    /// # Errors
    ///
    /// Fails if the socket fails otherwise than by a reset, which counts as closed.
    pub fn read_until(
        &mut self,
        buffer: &mut Vec<u8>,
        silence: Duration,
        mut done: impl FnMut(&[u8]) -> bool,
    ) -> Result<Stop> {
        let mut chunk = [0; 16 * 1024];
        let mut deadline = Instant::now() + silence;
        while !done(buffer) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Stop::Silence);
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(Stop::Closed),
                Ok(count) => {
                    buffer.extend(chunk.iter().take(count));
                    deadline = Instant::now() + silence;
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Ok(Stop::Silence),
                    ErrorKind::ConnectionReset => return Ok(Stop::Closed),
                    ErrorKind::Interrupted => {}
                    _ => return Err(error).context("cannot receive"),
                },
            }
        }
        Ok(Stop::Satisfied)
    }

    /// Sends requests that change nothing, and reads up to their answers.
    ///
    /// What is in front of those answers belongs to earlier requests and is appended to `buffer`;
    /// the answers themselves are not. Only a connection that has logged in can do it.
    ///
    /// # Errors
    ///
    /// Fails if the socket fails, or before a login.
    pub fn settle(&mut self, buffer: &mut Vec<u8>) -> Result<Stop> {
        let identity = self.identity.as_ref().context("not logged in")?;
        let short: String = identity.chars().take(SHORT).collect();
        let answer = format!("{}\n{identity}{SHORT}\n{short}", identity.len()).into_bytes();
        // A server that has closed meanwhile shows in reading.
        let _ = self.stream.write_all(SENTINEL);
        let start = buffer.len();
        let stop = self.read_until(buffer, PATIENCE, |bytes| {
            bytes.get(start..).is_some_and(|new| new.ends_with(&answer))
        })?;
        if stop == Stop::Satisfied {
            buffer.truncate(buffer.len() - answer.len());
        }
        Ok(stop)
    }

    /// Returns whether this connection has logged in.
    #[must_use]
    pub fn logged_in(&self) -> bool {
        self.identity.is_some()
    }

    /// Reads the end of a successful login: `verdicts` times `yes`, the `yes` that ends every
    /// login, the method and the subject.
    fn accepted(&mut self, method: &str, verdicts: usize) -> Result<()> {
        let mut lines = Vec::new();
        for _ in 0..=verdicts {
            let line = self.lines(1)?.concat();
            ensure!(line == "yes", "{method}: the server answered {line:?}");
            lines.push(line);
        }
        let ends = self.lines(2)?;
        let [named, subject] = ends.as_slice() else {
            bail!("{method}: method and subject expected, came {ends:?}");
        };
        ensure!(named == method, "{method}: the server named {named:?}");
        self.identity = Some(format!("{method}:{subject}"));
        Ok(())
    }

    /// Reads lines one byte at a time, so that nothing behind them is taken.
    fn lines(&mut self, count: usize) -> Result<Vec<String>> {
        self.stream.set_read_timeout(Some(PATIENCE))?;
        let mut lines = Vec::new();
        let mut line = Vec::new();
        while lines.len() < count {
            let mut byte = [0];
            self.stream
                .read_exact(&mut byte)
                .with_context(|| format!("waiting for a line after {lines:?}"))?;
            match byte {
                [b'\n'] => lines.push(String::from_utf8(std::mem::take(&mut line))?),
                [other] => line.push(other),
            }
        }
        Ok(lines)
    }
}

/// The file by which a `unix` login proves who it is; removed when dropped.
struct Challenge<'a> {
    path: &'a Path,
}

impl<'a> Challenge<'a> {
    fn create(path: &'a Path, account: &Account) -> Result<Self> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("cannot create the challenge {}", path.display()))?;
        let this = Self { path };
        account.own(path)?;
        Ok(this)
    }
}

impl Drop for Challenge<'_> {
    fn drop(&mut self) {
        // The server may have removed it already.
        let _ = std::fs::remove_file(self.path);
    }
}
