//! One connection: bytes and time around a [`Session`].

use super::outbox::{Outbox, Taken};
use super::session::{Refusal, Session, Step, refusal};
use super::{PublisherLost, Shared};
use crate::keepalive;
use crate::parse::Decoder;
use bytes::{Bytes, BytesMut};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Serves one connection to its end.
pub(super) async fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    shared: &Shared,
    token: &CancellationToken,
) {
    keepalive::set(&stream);
    let limits = &shared.config.limits;
    let outbox = Arc::new(Outbox::new(limits.unsent, limits.unsent_conflated));
    let mut connection = Connection {
        session: Session::new(shared, peer, outbox.clone()),
        decoder: Decoder::new(limits.frame),
        outbox,
        input: BytesMut::new(),
        output: Bytes::new(),
        incoming: None,
        outgoing: None,
        opened: Instant::now(),
        heard: Instant::now(),
        sent: Instant::now(),
        closing: None,
    };
    let why = tokio::select! {
        () = token.cancelled() => return,
        why = connection.run(&mut stream, shared) => why,
    };
    tracing::debug!(%peer, why, "broker connection ended");
    if let Some(id) = connection.session.announced() {
        let why = why.clone();
        // A full channel means that its reader is far behind; deadlines find this guest as well.
        if shared
            .lost
            .try_send(PublisherLost { peer, id, why })
            .is_err()
        {
            tracing::debug!(%peer, %id, "nobody was told of a lost publisher");
        }
    }
    drop(connection);
    linger(stream).await;
}

struct Connection<'a> {
    session: Session<'a>,
    decoder: Decoder,
    outbox: Arc<Outbox>,
    input: BytesMut,
    output: Bytes,
    incoming: Option<Duration>,
    outgoing: Option<Duration>,
    opened: Instant,
    heard: Instant,
    /// When the last write made progress.
    sent: Instant,
    /// Why the connection closes once everything is sent, and when it closes anyhow.
    closing: Option<(String, Instant)>,
}

impl Connection<'_> {
    /// Runs until nothing more is to be sent or received; returns why.
    async fn run(&mut self, stream: &mut TcpStream, shared: &Shared) -> String {
        let (mut reader, mut writer) = stream.split();
        loop {
            let due = self.due(shared);
            if self.closing.is_none() {
                self.input.reserve(READ_SPACE);
            }
            tokio::select! {
                read = reader.read_buf(&mut self.input), if self.closing.is_none() => match read {
                    Ok(0) => return self.ended_by_peer(),
                    Ok(_) => self.understand(),
                    Err(error) => return broken(&error),
                },
                taken = self.outbox.take(), if self.output.is_empty() => {
                    self.sent = Instant::now();
                    match taken {
                        Taken::Bytes(bytes) => self.output = bytes,
                        Taken::Slow => self.too_slow(),
                        Taken::Closed => return self.closing.take().map_or_else(String::new, |(why, _)| why),
                    }
                },
                wrote = writer.write_buf(&mut self.output), if !self.output.is_empty() => match wrote {
                    Ok(0) => return "the peer takes no more bytes".to_owned(),
                    Ok(_) => self.sent = Instant::now(),
                    Err(error) => return broken(&error),
                },
                () = sleep_until(due.unwrap_or_else(|| Instant::now() + IDLE)) => {
                    if let Some(why) = self.time_passed(shared) {
                        return why;
                    }
                },
            }
        }
    }

    /// Takes all whole frames that have come.
    fn understand(&mut self) {
        self.heard = Instant::now();
        while self.closing.is_none() {
            let frame = match self.decoder.decode(&mut self.input) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    self.session.refuse(&refusal(error.to_string()), None);
                    self.close(error.to_string());
                    break;
                }
            };
            match self.session.handle(&frame) {
                Ok(Step::Go) => {}
                Ok(Step::Connected {
                    version,
                    incoming,
                    outgoing,
                }) => {
                    self.decoder.set_version(version);
                    self.incoming = incoming;
                    self.outgoing = outgoing;
                }
                Ok(Step::End) => {
                    self.outbox.close(None);
                    self.close("DISCONNECT".to_owned());
                }
                Err(error) => {
                    self.session.refuse(&error, Some(&frame));
                    self.close(format!("{error:?}"));
                }
            }
        }
        if self.input.is_empty() {
            // Thousands of idle connections must not each keep the space of their largest frame.
            self.input = BytesMut::new();
        }
    }

    fn close(&mut self, why: String) {
        self.closing = Some((why, Instant::now() + CLOSE_WITHIN));
    }

    fn too_slow(&mut self) {
        let error = refusal("slow subscriber: too much unsent data");
        self.end_now(&error, "too slow a subscriber");
    }

    /// Sends an ERROR past a queue that takes nothing more.
    fn end_now(&mut self, error: &Refusal, why: &str) {
        self.outbox.reopen();
        self.session.refuse(error, None);
        self.close(why.to_owned());
    }

    fn ended_by_peer(&self) -> String {
        if self.decoder.is_inside_frame() {
            "closed by the peer inside a frame".to_owned()
        } else {
            "closed by the peer".to_owned()
        }
    }

    /// Returns the next moment at which time alone changes something.
    fn due(&self, shared: &Shared) -> Option<Instant> {
        let limits = &shared.config.limits;
        if let Some((_, at)) = &self.closing {
            return Some(*at);
        }
        let connect = (!self.session.is_connected()).then(|| self.opened + limits.connect);
        let silent = self
            .incoming
            .map(|every| self.heard + every * 2 + HEART_BEAT_SLACK);
        let write = if self.output.is_empty() {
            self.outgoing.map(|every| self.sent + every * 3 / 4)
        } else {
            Some(self.sent + limits.stuck)
        };
        [connect, silent, write].into_iter().flatten().min()
    }

    /// Does what is due; returns why the connection ends here, if it does.
    fn time_passed(&mut self, shared: &Shared) -> Option<String> {
        let (now, limits) = (Instant::now(), &shared.config.limits);
        if let Some((why, at)) = &self.closing {
            return (*at <= now).then(|| format!("{why}; the peer takes no more bytes"));
        }
        if !self.session.is_connected() && self.opened + limits.connect <= now {
            let why = format!("no CONNECT within {} s", limits.connect.as_secs());
            self.end_now(&refusal(why.as_str()), &why);
        } else if let Some(every) = self.incoming
            && self.heard + every * 2 + HEART_BEAT_SLACK <= now
        {
            let why = "no heart-beat and no frame in twice the agreed interval and 1 s";
            self.end_now(&refusal(why), why);
        } else if !self.output.is_empty() {
            return (self.sent + limits.stuck <= now).then(|| "the peer takes no bytes".to_owned());
        } else if let Some(every) = self.outgoing
            && self.sent + every * 3 / 4 <= now
        {
            self.output = Bytes::from_static(b"\n");
            self.sent = now;
        }
        None
    }
}

fn broken(error: &io::Error) -> String {
    format!("connection broken: {error}")
}

/// Closes so that the last frame arrives: a socket closed with unread input resets the connection, and
/// with it what the peer has not read yet.
async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut scrap = vec![0; 4096];
    let drain = async {
        let mut left = LINGER_BYTES;
        while let Ok(count @ 1..) = stream.read(&mut scrap).await {
            left = left.saturating_sub(count);
            if left == 0 {
                break;
            }
        }
    };
    let _ = timeout(LINGER, drain).await;
}

/// Free space made before each read.
const READ_SPACE: usize = 2048;
/// A silent peer is dead after twice the interval and this.
const HEART_BEAT_SLACK: Duration = Duration::from_secs(1);
/// How long the last frames of a closing connection may take to be sent.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How long, and how much, input is read and dropped after the last frame.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 << 20;
/// Where nothing is due, look again after this.
const IDLE: Duration = Duration::from_secs(3600);
