//! A client's connection to a broker: opening it, frames both ways, heart-beats.

use crate::broker::heart_beat;
use crate::encode::encode;
use crate::frame::{Frame, Limits, Version};
use crate::keepalive;
use crate::net::NoBroker;
use crate::parse::{Decoder, Malformed};
use bytes::BytesMut;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until, timeout};

/// Login and passcode for a broker.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The `login` header.
    pub login: String,
    /// The `passcode` header.
    pub passcode: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

/// How a client introduces itself to a broker.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// Login and passcode, where the broker wants them.
    pub credentials: Option<Credentials>,
    /// The `host` header; `/` where there is none.
    pub vhost: Option<String>,
    /// Heart-beats: how often we can send and how often we want to hear, zero for never.
    pub heart_beat: (Duration, Duration),
    /// The local address to connect from, where it matters.
    pub bind: Option<IpAddr>,
    /// How long connecting, CONNECTED and each write may take.
    pub answer: Duration,
    /// The wait before the first new attempt; each further one is twice as long.
    pub retry_first: Duration,
    /// The longest wait between attempts, and the one after a refused login.
    pub retry_most: Duration,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            credentials: None,
            vhost: None,
            heart_beat: (Duration::ZERO, Duration::ZERO),
            bind: None,
            answer: Duration::from_secs(10),
            retry_first: Duration::from_secs(1),
            retry_most: Duration::from_secs(30),
        }
    }
}

/// Why there is no connection to the broker (any more).
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error(transparent)]
    NoBroker(#[from] NoBroker),
    #[error("there is no address to announce; name one with --announce-as")]
    NoAddress,
    #[error("this machine has lost the address {0}, which it was connected from")]
    Moved(IpAddr),
    #[error("cannot connect to the broker at {0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("connection to the broker broken: {0}")]
    Broken(#[from] io::Error),
    #[error("the broker closed the connection")]
    Closed,
    #[error("the broker says: {0}")]
    Refused(String),
    #[error("the broker refused login or passcode: {0}")]
    Credentials(String),
    #[error("the broker sends what is not STOMP: {0}")]
    Malformed(#[from] Malformed),
    #[error("the broker sent {0} instead of CONNECTED")]
    Unexpected(String),
    #[error("no {0} from the broker in {1} s")]
    Silent(&'static str, u64),
}

/// An open connection to a broker, after CONNECTED.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    decoder: Decoder,
    input: BytesMut,
    version: Version,
    outgoing: Option<Duration>,
    incoming: Option<Duration>,
    sent: Instant,
    heard: Instant,
    answer: Duration,
}

impl Link {
    /// Connects; where the broker refuses or closes before CONNECTED, once more with STOMP 1.1 only.
    pub(crate) async fn open(address: SocketAddr, config: &LinkConfig) -> Result<Self, LinkError> {
        match Self::attempt(address, config, "1.1,1.2").await {
            Err(LinkError::Refused(_) | LinkError::Closed | LinkError::Broken(_)) => {
                Self::attempt(address, config, "1.1").await
            }
            other => other,
        }
    }

    async fn attempt(
        address: SocketAddr,
        config: &LinkConfig,
        versions: &str,
    ) -> Result<Self, LinkError> {
        let connect = async {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            if let Some(ip) = config.bind {
                socket.bind(SocketAddr::new(ip, 0))?;
            }
            socket.connect(address).await
        };
        let stream = match timeout(config.answer, connect).await {
            Ok(connected) => connected.map_err(|error| LinkError::Connect(address, error))?,
            Err(_) => {
                return Err(LinkError::Connect(address, io::ErrorKind::TimedOut.into()));
            }
        };
        keepalive::set(&stream);
        let mut link = Self {
            stream,
            decoder: Decoder::new(RECEIVE_LIMITS),
            input: BytesMut::new(),
            version: Version::V1_1,
            outgoing: None,
            incoming: None,
            sent: Instant::now(),
            heard: Instant::now(),
            answer: config.answer,
        };
        link.send(&hello(config, versions)).await?;
        let Ok(answer) = timeout(config.answer, link.next()).await else {
            return Err(LinkError::Silent("CONNECTED", config.answer.as_secs()));
        };
        let answer = match answer {
            Err(LinkError::Refused(why)) if is_about_login(&why) => {
                return Err(LinkError::Credentials(why));
            }
            other => other?,
        };
        if answer.command != "CONNECTED" {
            return Err(LinkError::Unexpected(answer.command));
        }
        link.agree(&answer, config);
        Ok(link)
    }

    fn agree(&mut self, connected: &Frame, config: &LinkConfig) {
        self.version = connected
            .header("version")
            .and_then(Version::from_wire)
            .unwrap_or(Version::V1_0);
        self.decoder.set_version(self.version);
        let (sends, wants) = config.heart_beat;
        let theirs = connected.header("heart-beat").and_then(heart_beat);
        let (their_sends, their_wants) = theirs.unwrap_or_default();
        let agree = |a: Duration, b: Duration| (!a.is_zero() && !b.is_zero()).then(|| a.max(b));
        self.incoming = agree(their_sends, wants);
        // CoilMQ ignores everything after a line end between frames.
        let server = connected.header("server").unwrap_or_default();
        if !server.to_ascii_lowercase().starts_with("coilmq") {
            self.outgoing = agree(sends, their_wants);
        }
    }

    /// Returns the local end's address.
    pub(crate) fn local_ip(&self) -> Option<IpAddr> {
        self.stream
            .local_addr()
            .ok()
            .map(|address| address.ip().to_canonical())
    }

    /// Sends one frame in one write where the socket takes it.
    ///
    /// Not cancel safe: after a frame that was cut off the connection is of no use.
    pub(crate) async fn send(&mut self, frame: &Frame) -> Result<(), LinkError> {
        let bytes = encode(frame, self.version);
        match timeout(self.answer, self.stream.write_all(&bytes)).await {
            Ok(written) => written?,
            Err(_) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
        self.sent = Instant::now();
        Ok(())
    }

    /// Returns the next frame that is no ERROR, keeping up heart-beats while it waits.
    ///
    /// Cancel safe: bytes read stay in the link.
    pub(crate) async fn next(&mut self) -> Result<Frame, LinkError> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.input)? {
                if frame.command == "ERROR" {
                    return Err(LinkError::Refused(reason(&frame)));
                }
                return Ok(frame);
            }
            let beat = self.outgoing.map(|every| self.sent + every * 3 / 4);
            let dead = self.incoming.map(|every| self.heard + every * 2 + SLACK);
            let due = [beat, dead].into_iter().flatten().min();
            self.input.reserve(READ_SPACE);
            tokio::select! {
                // Input first: what has arrived already is no silence, however late it is looked at.
                biased;
                read = self.stream.read_buf(&mut self.input) => {
                    if read? == 0 {
                        return Err(LinkError::Closed);
                    }
                    self.heard = Instant::now();
                }
                () = sleep_until(due.unwrap_or_else(|| Instant::now() + IDLE)) => {
                    let now = Instant::now();
                    if dead.is_some_and(|at| at <= now) {
                        let after = self.heard.elapsed().as_secs();
                        return Err(LinkError::Silent("heart-beat", after));
                    }
                    if beat.is_some_and(|at| at <= now) {
                        // One byte cannot be cut in two; where the socket is full it is no beat, and the
                        // peer will say so.
                        let _ = self.stream.try_write(b"\n");
                        self.sent = now;
                    }
                }
            }
        }
    }

    /// Waits for the receipt of that id and drops other frames.
    pub(crate) async fn receipt(&mut self, id: &str, within: Duration) -> Result<(), LinkError> {
        let wait = async {
            loop {
                let frame = self.next().await?;
                if frame.command == "RECEIPT" && frame.header("receipt-id") == Some(id) {
                    return Ok(());
                }
            }
        };
        timeout(within, wait)
            .await
            .unwrap_or(Err(LinkError::Silent("RECEIPT", within.as_secs())))
    }

    /// Says DISCONNECT, waits for its receipt for up to a second, and closes.
    pub(crate) async fn close(mut self) {
        let frame = Frame::new("DISCONNECT").with("receipt", "bye");
        if self.send(&frame).await.is_ok() {
            let _ = self.receipt("bye", Duration::from_secs(1)).await;
        }
        let _ = self.stream.shutdown().await;
    }
}

/// Growing waits between attempts, varied so that thousands of guests do not come back in one moment.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    first: Duration,
    most: Duration,
}

impl Backoff {
    pub(crate) fn new(config: &LinkConfig) -> Self {
        Self {
            next: config.retry_first,
            first: config.retry_first,
            most: config.retry_most,
        }
    }

    /// Starts again with the first wait, after a connection that worked.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// Returns how long to wait after this error.
    pub(crate) fn after(&mut self, error: &LinkError) -> Duration {
        if matches!(error, LinkError::Credentials(_)) {
            self.next = self.most;
        }
        let wait = self.next.min(self.most);
        self.next = wait.saturating_mul(2);
        jitter(wait, 0.2)
    }
}

/// Returns `about`, more or less by up to that fraction.
pub(crate) fn jitter(about: Duration, fraction: f64) -> Duration {
    // Without random numbers everything still works, only less evenly.
    let random = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
    about.mul_f64(1.0 + fraction * (2.0 * random - 1.0))
}

fn hello(config: &LinkConfig, versions: &str) -> Frame {
    let (sends, wants) = config.heart_beat;
    let mut frame = Frame::new("CONNECT")
        .with("accept-version", versions)
        .with("host", config.vhost.as_deref().unwrap_or("/"))
        .with(
            "heart-beat",
            format!("{},{}", sends.as_millis(), wants.as_millis()),
        );
    if let Some(credentials) = &config.credentials {
        frame = frame
            .with("login", credentials.login.as_str())
            .with("passcode", credentials.passcode.as_str());
    }
    frame
}

/// Returns the reason in an ERROR frame, short and safe for a log.
fn reason(frame: &Frame) -> String {
    let text = frame.header("message").unwrap_or("(no message)");
    text.chars()
        .take(200)
        .flat_map(char::escape_debug)
        .collect()
}

/// Returns whether an ERROR in answer to CONNECT is about login or passcode, as far as brokers' words tell.
fn is_about_login(why: &str) -> bool {
    let why = why.to_ascii_lowercase();
    [
        "bad connect",
        "access refused",
        "access_refused",
        "authent",
        "credential",
        "passcode",
        "password",
    ]
    .iter()
    .any(|words| why.contains(words))
}

/// A broker may pass on a sender's greatest frame with escapes and headers of its own, and must not be able
/// to end this connection with it.
const RECEIVE_LIMITS: Limits = Limits {
    headers: 256,
    line: 64 * 1024,
    head: 512 * 1024,
    body: 1024 * 1024,
};
/// A silent broker is dead after twice the interval and this.
const SLACK: Duration = Duration::from_secs(1);
/// Free space made before each read.
const READ_SPACE: usize = 4096;
/// Where nothing is due, look again after this.
const IDLE: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_limit_and_are_never_quite_the_same() {
        let config = LinkConfig::default();
        let waits = || {
            let mut backoff = Backoff::new(&config);
            (0..8)
                .map(|_| backoff.after(&LinkError::Closed).as_secs_f64())
                .collect::<Vec<_>>()
        };
        let (one, other) = (waits(), waits());
        let about = [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0];
        for wait in [&one, &other] {
            for (wait, about) in wait.iter().zip(about) {
                assert!(
                    (about * 0.799..about * 1.201).contains(wait),
                    "{wait}: {about}"
                );
            }
        }
        assert_ne!(one, other, "thousands must not come back in one moment");
    }

    #[test]
    fn a_refused_login_waits_longest_and_a_connection_that_worked_ends_the_waits() {
        let mut backoff = Backoff::new(&LinkConfig::default());
        let refused = LinkError::Credentials("Bad CONNECT".to_owned());
        assert!(backoff.after(&refused) >= Duration::from_secs(23));
        backoff.reset();
        assert!(backoff.after(&LinkError::Closed) <= Duration::from_millis(1201));
    }
}
