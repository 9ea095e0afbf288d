//! From an address to a logged-in connection.

use std::net::SocketAddr;
use std::time::Duration;

use chirp_proto::{Method, Subject};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::auth::{self, LoginError};
use crate::connection::{self, Connection, Fault};
use crate::ticket::Offered;
use crate::{Address, Error};

/// Whom to call, as whom, and how long to wait.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The server.
    pub address: Address,
    /// Login methods in the order in which they are tried. Empty: `unix` where the server is on
    /// this machine (elsewhere its challenge would only cost its time-out of 5 s), then `hostname`,
    /// then `address`; `ticket` before those two where there is one to offer.
    pub methods: Vec<Method>,
    /// The tickets that the `ticket` method offers.
    pub tickets: Offered,
    /// The longest time that looking up the name, connecting and logging in may take together.
    pub connect_timeout: Duration,
    /// The default of [`crate::Client::with_timeout`].
    pub timeout: Duration,
}

/// The time for a connection to come about: room for one lost packet or two, and for the 5 s that
/// a server may wait for a `unix` challenge.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// The time without progress after which a call fails.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

impl ConnectOptions {
    /// Returns the defaults for a server.
    #[must_use]
    pub const fn new(address: Address) -> Self {
        Self {
            address,
            methods: Vec::new(),
            tickets: Offered::Found,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            timeout: DEFAULT_TIMEOUT,
        }
    }
}

/// A logged-in connection and who the server takes us for.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    pub(crate) subject: Subject,
}

/// Connects and logs in.
pub(crate) async fn open(options: &ConnectOptions) -> Result<Opened, Error> {
    let host = options.address.to_string();
    let work = async {
        let (stream, same_machine) = tcp(&options.address).await?;
        let methods: &[Method] = match (options.methods.is_empty(), same_machine) {
            (false, _) => &options.methods,
            (true, true) => &Method::ALL,
            (true, false) => &[Method::Ticket, Method::Hostname, Method::Address],
        };
        log_in(&host, stream, methods, &options.tickets).await
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
    tickets: &Offered,
) -> Result<Opened, Error> {
    let (mut reader, mut writer) = connection::halves(stream);
    match auth::login(&mut reader, &mut writer, methods, tickets).await {
        Ok(subject) => Ok(Opened {
            connection: Connection::start(reader, writer),
            subject,
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
    let mut last = None;
    let found = tokio::net::lookup_host((address.host(), address.port()))
        .await
        .map_err(failed)?;
    for candidate in found {
        match TcpStream::connect(candidate).await {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(failed)?;
                let same = is_same_machine(&stream);
                return Ok((stream, same));
            }
            Err(error) => last = Some(error),
        }
    }
    Err(failed(last.unwrap_or_else(|| {
        std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address")
    })))
}

/// Reports whether both ends have the same address, or the peer's is a loopback address.
fn is_same_machine(stream: &TcpStream) -> bool {
    let ip = |address: std::io::Result<SocketAddr>| address.ok().map(|address| address.ip());
    match (ip(stream.local_addr()), ip(stream.peer_addr())) {
        (Some(local), Some(peer)) => local == peer || peer.to_canonical().is_loopback(),
        _ => false,
    }
}
