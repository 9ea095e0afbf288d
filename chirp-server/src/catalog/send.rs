//! Carrying a record to one catalog (part 10.2). Nothing is answered.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};

/// The port of a catalog where none is named.
const DEFAULT_PORT: u16 = 9097;

/// How long one update may take, as the reference has it.
const SEND_MAX: Duration = Duration::from_secs(15);

/// How records travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram to the catalog's port.
    Udp,
    /// A connection to the port after it.
    Tcp,
}

impl Transport {
    /// Reads `CATALOG_UPDATE_PROTOCOL`: `tcp`, or anything else for UDP.
    #[must_use]
    pub fn from_environment() -> Self {
        match std::env::var("CATALOG_UPDATE_PROTOCOL") {
            Ok(name) if name.eq_ignore_ascii_case("tcp") => Self::Tcp,
            _ => Self::Udp,
        }
    }
}

/// One catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Catalog {
    host: String,
    port: u16,
}

impl Catalog {
    /// Reads `HOST`, `HOST:PORT`, an IPv6 address or `[ADDRESS]:PORT`. Without a port it is that of
    /// `CATALOG_PORT`.
    pub(super) fn named(name: &str) -> Self {
        let port = std::env::var("CATALOG_PORT")
            .ok()
            .and_then(|port| port.trim().parse().ok());
        Self::parse(name, port.unwrap_or(DEFAULT_PORT))
    }

    fn parse(name: &str, default_port: u16) -> Self {
        let split = name.rsplit_once(':').and_then(|(host, port)| {
            // An IPv6 address has colons of its own; with a port it stands in brackets.
            let host = match host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'))
            {
                Some(host) => host,
                None if host.contains(':') => return None,
                None => host,
            };
            Some((host, port.parse().ok()?))
        });
        let (host, port) = split.unwrap_or((name, default_port));
        Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
        }
    }

    /// Sends a record within a bounded time and returns where it went.
    pub(super) async fn send(&self, transport: Transport, record: &[u8]) -> io::Result<SocketAddr> {
        let sent = tokio::time::timeout(SEND_MAX, async {
            match transport {
                Transport::Udp => self.datagram(record).await,
                Transport::Tcp => self.stream(record).await,
            }
        });
        let too_long = |_| io::Error::from(io::ErrorKind::TimedOut);
        sent.await.map_err(too_long)?
    }

    async fn datagram(&self, record: &[u8]) -> io::Result<SocketAddr> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        let mut last = no_address();
        for address in found {
            match datagram(address, record).await {
                Ok(()) => return Ok(address),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn stream(&self, record: &[u8]) -> io::Result<SocketAddr> {
        let port = self.port.checked_add(1).ok_or_else(no_address)?;
        let mut stream = TcpStream::connect((self.host.as_str(), port)).await?;
        let to = stream.peer_addr()?;
        stream.write_all(record).await?;
        // A catalog that has read enough may have closed it already.
        let _ = stream.shutdown().await;
        Ok(to)
    }
}

impl fmt::Display for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

async fn datagram(address: SocketAddr, record: &[u8]) -> io::Result<()> {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.send_to(record, address).await.map(drop)
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_and_without_a_port() {
        for (name, host, port) in [
            ("catalog", "catalog", 7),
            ("catalog:9", "catalog", 9),
            ("10.0.0.1:9", "10.0.0.1", 9),
            ("::1", "::1", 7),
            ("[::1]", "::1", 7),
            ("[::1]:9", "::1", 9),
            // Not a port: it fails as a name, in words that show it.
            ("catalog:x", "catalog:x", 7),
        ] {
            let host = host.to_owned();
            assert_eq!(Catalog::parse(name, 7), Catalog { host, port }, "{name}");
        }
    }
}
