//! Login: the methods run on one connection, in the order the client names them, until one
//! succeeds (`chirp-protocol.md`, part 2).

pub mod cookie;
mod hostname;
mod passwd;
mod ticket;
mod unix;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use chirp_proto::limits::{AUTH_LINE_MAX, CONDOR_LINE_MAX, LINE_MAX};
use chirp_proto::parse::line;
use chirp_proto::request::TicketName;
use chirp_proto::{Dialect, Method, Subject};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::session::Principal;
use crate::tickets::Tickets;
use cookie::CookieLogin;

/// Bytes of a line that is too long for a method's name after which its sender is given up.
const SKIPPED_MAX: usize = 1024 * 1024;

/// What logins need to know.
#[derive(Debug)]
pub struct AuthConfig {
    /// The methods that are enabled, in no order.
    pub methods: Vec<Method>,
    /// Where unix logins make their file.
    pub challenge_dir: PathBuf,
    /// How long to wait for that file.
    pub unix_timeout: Duration,
    /// Where the names of the owners of those files are, in the format of passwd(5), if not in the
    /// system's database.
    pub passwd: Option<PathBuf>,
    /// The tickets that can be logged in with.
    pub tickets: Arc<Tickets>,
    /// How HTCondor's clients log in, if they may.
    pub cookie: Option<CookieLogin>,
}

/// What a login came to.
#[derive(Debug)]
pub struct Login {
    /// Who logged in.
    pub who: Principal,
    /// How the rest of the connection is spoken.
    pub dialect: Dialect,
}

/// Why a connection ends without a login.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The peer went away.
    #[error("the peer left before it logged in")]
    Closed,
    /// The peer sent an over-long line.
    #[error("login: {0}")]
    TooLong(#[from] line::TooLong),
    /// The connection failed.
    #[error("login: {0}")]
    Io(#[from] std::io::Error),
}

/// Runs methods until one succeeds. `peer` is none for who came through a Unix socket. There is no limit but the caller's deadline.
///
/// Bytes that were read but belong to the request phase stay in `buffer`.
///
/// # Errors
///
/// [`AuthError`] if the connection ended first. A method that fails is no error.
///
/// # Cancel safety
///
/// Not cancel safe: a connection whose login was cancelled is to be closed.
pub async fn login<S>(
    config: &AuthConfig,
    peer: Option<IpAddr>,
    stream: &mut S,
    buffer: &mut BytesMut,
) -> Result<Login, AuthError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut talk = Talk { stream, buffer };
    let longest = match &config.cookie {
        Some(_) => CONDOR_LINE_MAX,
        None => LINE_MAX,
    };
    loop {
        let line = match talk.line(longest).await {
            // Too long for a method's name. The reference closes without a word (W25).
            Err(AuthError::TooLong(_)) => talk.skip_line().await.map(|()| Vec::new())?,
            line => line?,
        };
        if let (Some(guess), Some(login)) = (cookie::guess(&line), &config.cookie) {
            if login.cookie.matches(guess) {
                talk.say("0\n").await?;
                return Ok(Login {
                    who: Principal::new(login.subject.clone()),
                    dialect: Dialect::Condor,
                });
            }
            tracing::info!(target: "auth", peer = ?peer, "wrong cookie");
            tokio::time::sleep(cookie::PAUSE).await;
            talk.say("-1\n").await?;
            continue;
        }
        let method = Method::from_name(&line).filter(|method| config.methods.contains(method));
        let attempt = method.and_then(|method| Attempt::new(method, peer));
        let Some(attempt) = attempt else {
            // Only the first word: behind it a cookie may stand.
            let method = line
                .split(u8::is_ascii_whitespace)
                .next()
                .unwrap_or_default();
            tracing::debug!(target: "auth", method = %method.escape_ascii(), "method refused");
            talk.say("no\n").await?;
            continue;
        };
        // `opening` is what was not said yet: each write is a segment and a wake-up of the peer.
        let method = attempt.method();
        let (opening, proof) = match attempt {
            Attempt::Address(peer) => ("yes\n", Proof::Given(peer.to_string().into_bytes())),
            Attempt::Hostname(peer) => ("yes\n", hostname::lookup(peer).await),
            Attempt::Unix => ("", unix::prove(config, &mut talk).await?),
            Attempt::Ticket => ("", ticket::prove(&config.tickets, &mut talk).await?),
        };
        match proof {
            Proof::Given(proven) => {
                let subject = Subject::new(method, &proven);
                let (method, name) = (subject.method(), subject.name());
                talk.say(&format!("{opening}yes\nyes\n{method}\n{name}\n"))
                    .await?;
                return Ok(Login {
                    who: Principal::new(subject),
                    dialect: Dialect::Plain,
                });
            }
            Proof::Ticket { name, owner } => {
                let digest = name.digits();
                talk.say(&format!("success\nyes\n{method}\n{digest}\n"))
                    .await?;
                return Ok(Login {
                    who: Principal::by_ticket(name, owner),
                    dialect: Dialect::Plain,
                });
            }
            Proof::Failed => talk.say(&format!("{opening}no\n")).await?,
            Proof::Declined => {}
        }
    }
}

/// A method with what it needs to know of the peer.
enum Attempt {
    Unix,
    Ticket,
    Hostname(IpAddr),
    Address(IpAddr),
}

impl Attempt {
    /// Returns none for a method that this peer cannot use: who came through a Unix socket has no
    /// address, and so neither that nor a name.
    fn new(method: Method, peer: Option<IpAddr>) -> Option<Self> {
        Some(match method {
            Method::Unix => Self::Unix,
            Method::Ticket => Self::Ticket,
            Method::Hostname => Self::Hostname(peer?),
            Method::Address => Self::Address(peer?),
            // Its line is not this one.
            Method::Cookie => return None,
        })
    }

    const fn method(&self) -> Method {
        match self {
            Self::Unix => Method::Unix,
            Self::Ticket => Method::Ticket,
            Self::Hostname(_) => Method::Hostname,
            Self::Address(_) => Method::Address,
        }
    }
}

/// How a method's exchange ended.
enum Proof {
    /// The peer is who these bytes say.
    Given(Vec<u8>),
    /// The peer has the key of this ticket, and acts for its owner.
    Ticket { name: TicketName, owner: Subject },
    /// It is not proved, and the peer is told so.
    Failed,
    /// The peer gave the method up, which is not answered.
    Declined,
}

/// The two ends of a login's exchange.
struct Talk<'a, S> {
    stream: &'a mut S,
    buffer: &'a mut BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<'_, S> {
    /// Reads one line; its LF and any CR are dropped.
    async fn line(&mut self, limit: usize) -> Result<Vec<u8>, AuthError> {
        loop {
            if let Some((line, used)) = line::split(self.buffer, limit)? {
                let line = line.into_owned();
                bytes::Buf::advance(self.buffer, used);
                return Ok(line);
            }
            // Bounded: `split` refuses what is longer than its limit.
            if self.stream.read_buf(self.buffer).await? == 0 {
                return Err(AuthError::Closed);
            }
        }
    }

    /// Drops a line that is too long.
    ///
    /// # Errors
    ///
    /// As [`Talk::line`]: even this has a limit, [`SKIPPED_MAX`].
    async fn skip_line(&mut self) -> Result<(), AuthError> {
        let mut skipped = 0;
        loop {
            let end = memchr::memchr(b'\n', self.buffer);
            let used = end.map_or(self.buffer.len(), |end| end + 1);
            bytes::Buf::advance(self.buffer, used);
            skipped += used;
            if end.is_some() {
                return Ok(());
            }
            if skipped > SKIPPED_MAX {
                return Err(line::TooLong(SKIPPED_MAX).into());
            }
            if self.stream.read_buf(self.buffer).await? == 0 {
                return Err(AuthError::Closed);
            }
        }
    }

    async fn say(&mut self, text: &str) -> Result<(), AuthError> {
        self.say_bytes(text.as_bytes()).await
    }

    async fn say_bytes(&mut self, bytes: &[u8]) -> Result<(), AuthError> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Reads this many bytes, which the caller has bounded.
    async fn take(&mut self, length: usize) -> Result<Vec<u8>, AuthError> {
        while self.buffer.len() < length {
            if self.stream.read_buf(self.buffer).await? == 0 {
                return Err(AuthError::Closed);
            }
        }
        Ok(self.buffer.split_to(length).to_vec())
    }

    /// Drops this many bytes.
    async fn skip(&mut self, mut length: u64) -> Result<(), AuthError> {
        while length > 0 {
            if self.buffer.is_empty() && self.stream.read_buf(self.buffer).await? == 0 {
                return Err(AuthError::Closed);
            }
            let used = usize::try_from(length)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len());
            bytes::Buf::advance(self.buffer, used);
            length -= used as u64;
        }
        Ok(())
    }

    /// Reads a line of a method's own exchange.
    async fn answer(&mut self) -> Result<Vec<u8>, AuthError> {
        self.line(AUTH_LINE_MAX).await
    }
}
