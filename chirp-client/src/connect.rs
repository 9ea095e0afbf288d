//! From an address to a logged-in connection.

mod race;

use std::net::SocketAddr;
use std::time::Duration;

use chirp_proto::dialect::Dialect;
use chirp_proto::{Method, Subject};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::auth::{self, Login, LoginError, Secrets};
use crate::connection::{self, Connection, Fault};
use crate::cookie::Cookie;
use crate::ticket::Offered;
use crate::{Address, Error};

/// Whom to call, as whom, and how long to wait.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The server.
    pub address: Address,
    /// Login methods in the order in which they are tried. Empty: `unix` where the server is on
    /// this machine (elsewhere its challenge would only cost its time-out of 5 s), `ticket` where
    /// there is one to offer, then `hostname` and `address` where there is a network; with a cookie,
    /// that alone.
    pub methods: Vec<Method>,
    /// The tickets that the `ticket` method offers.
    pub tickets: Offered,
    /// What the `cookie` method offers. Behind that login only HTCondor's requests can be made: see
    /// [`crate::cookie`].
    pub cookie: Option<Cookie>,
    /// The longest time that looking up the name, connecting and logging in may take together.
    pub connect_timeout: Duration,
    /// The default of [`crate::Client::with_timeout`].
    pub timeout: Duration,
    /// How long calls try to get another connection after theirs was lost; `None` reports the loss.
    /// Only what is safe to repeat is made again: see [`crate::Client`].
    pub reconnect: Option<Duration>,
}

/// The time for a connection to come about: room for one lost packet or two, and for the 5 s that
/// a server may wait for a `unix` challenge.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// The time without progress after which a call fails.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// What is tried where the server's challenge file would be on another machine.
const ACROSS_THE_NETWORK: &[Method] = &[Method::Ticket, Method::Hostname, Method::Address];

/// What is tried on a Unix socket, whose peers have no address.
const WITHOUT_NETWORK: &[Method] = &[Method::Unix, Method::Ticket];

/// What is tried where there is a cookie.
const BY_COOKIE: &[Method] = &[Method::Cookie];

impl ConnectOptions {
    /// Returns the defaults for a server.
    #[must_use]
    pub const fn new(address: Address) -> Self {
        Self {
            address,
            methods: Vec::new(),
            tickets: Offered::Found,
            cookie: None,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            timeout: DEFAULT_TIMEOUT,
            reconnect: None,
        }
    }
}

/// A logged-in connection and who the server takes us for.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    pub(crate) subject: Subject,
    /// How we logged in, so that further connections do likewise.
    pub(crate) method: Method,
    pub(crate) dialect: Dialect,
}

/// Connects and logs in.
pub(crate) async fn open(options: &ConnectOptions) -> Result<Opened, Error> {
    let host = options.address.to_string();
    let work = async {
        let secrets = Secrets {
            tickets: &options.tickets,
            cookie: options.cookie.as_ref(),
        };
        let methods = |usual: &'static [Method]| match &options.methods[..] {
            [] if options.cookie.is_some() => BY_COOKIE,
            [] => usual,
            chosen => chosen,
        };
        if let Some(path) = options.address.unix_path() {
            let stream = UnixStream::connect(path).await;
            let stream = stream.map_err(|source| Error::Connect {
                host: host.clone(),
                source,
            })?;
            return log_in(&host, stream, methods(WITHOUT_NETWORK), secrets).await;
        }
        let (stream, same_machine) = tcp(&options.address).await?;
        let usual = if same_machine {
            &Method::ALL
        } else {
            ACROSS_THE_NETWORK
        };
        log_in(&host, stream, methods(usual), secrets).await
    };
    let limit = options.connect_timeout;
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| Error::Timeout {
            host: host.clone(),
            what: "connecting and logging in".to_owned(),
            after: limit,
            usable: false,
        })?
}

/// Logs in on a transport that is there already.
pub(crate) async fn log_in(
    host: &str,
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    methods: &[Method],
    secrets: Secrets<'_>,
) -> Result<Opened, Error> {
    let (mut reader, mut writer) = connection::halves(stream);
    match auth::login(&mut reader, &mut writer, methods, secrets).await {
        Ok(Login {
            subject,
            method,
            dialect,
        }) => Ok(Opened {
            connection: Connection::start(reader, writer),
            subject,
            method,
            dialect,
        }),
        Err(LoginError::Refused(tried)) => Err(Error::Login {
            host: host.to_owned(),
            tried,
        }),
        Err(LoginError::Fault(Fault::Protocol(what))) => Err(Error::Protocol {
            host: host.to_owned(),
            what,
        }),
        Err(LoginError::Fault(fault)) => Err(Error::Lost {
            host: host.to_owned(),
            reason: format!("during login: {fault}"),
        }),
    }
}

/// Connects to the first address of the name that answers, and tells whether that is this machine.
async fn tcp(address: &Address) -> Result<(TcpStream, bool), Error> {
    let failed = |source| Error::Connect {
        host: address.to_string(),
        source,
    };
    let found = tokio::net::lookup_host((address.host(), address.port()))
        .await
        .map_err(failed)?;
    let stream = race::connect(found.collect()).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let same = is_same_machine(&stream);
    Ok((stream, same))
}

/// Reports whether both ends have the same address, or the peer's is a loopback address.
fn is_same_machine(stream: &TcpStream) -> bool {
    let ip = |address: std::io::Result<SocketAddr>| address.ok().map(|address| address.ip());
    match (ip(stream.local_addr()), ip(stream.peer_addr())) {
        (Some(local), Some(peer)) => local == peer || peer.to_canonical().is_loopback(),
        _ => false,
    }
}
