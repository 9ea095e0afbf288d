//! Where a server is: `HOST`, `HOST:PORT`, `[V6]:PORT` (`chirp-protocol.md`, part 12.1) or
//! `unix:/PATH`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use chirp_proto::limits::DEFAULT_PORT;

use crate::Error;

/// What the path of a socket begins with.
const UNIX_PREFIX: &str = "unix:";

/// Bytes of the longest path that the system takes for a socket.
const UNIX_PATH_MAX: usize = 107;

/// A host name or numeric address with a port, or a socket of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address(Place);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    Internet { host: String, port: u16 },
    Unix { path: String },
}

impl Address {
    /// Returns the host without brackets; of a Unix socket its path.
    #[must_use]
    pub fn host(&self) -> &str {
        match &self.0 {
            Place::Internet { host, .. } => host,
            Place::Unix { path } => path,
        }
    }

    /// Returns the port: 9094 where none was named, 0 for a Unix socket, which has none.
    #[must_use]
    pub const fn port(&self) -> u16 {
        match &self.0 {
            Place::Internet { port, .. } => *port,
            Place::Unix { .. } => 0,
        }
    }

    /// Returns the path of a Unix socket.
    #[must_use]
    pub fn unix_path(&self) -> Option<&Path> {
        match &self.0 {
            Place::Internet { .. } => None,
            Place::Unix { path } => Some(Path::new(path)),
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    /// Reads an address. A bare IPv6 address (more than one colon, no brackets) is taken whole, with
    /// the default port.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |reason| Error::Address {
            address: text.to_owned(),
            reason,
        };
        if let Some(path) = text.strip_prefix(UNIX_PREFIX)
            && path.starts_with('/')
        {
            if path.len() > UNIX_PATH_MAX {
                return Err(bad("the path of a Unix socket has at most 107 bytes"));
            }
            if path.contains(char::is_control) {
                return Err(bad("control characters in the path of a Unix socket"));
            }
            let path = path.to_owned();
            return Ok(Self(Place::Unix { path }));
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(|| bad("missing ]"))?;
                if host.parse::<std::net::Ipv6Addr>().is_err() {
                    return Err(bad("no IPv6 address between the brackets"));
                }
                match after.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if after.is_empty() => (host, None),
                    None => return Err(bad("only :PORT may follow ]")),
                }
            }
            None if text.matches(':').count() > 1 => (text, None),
            None => text
                .split_once(':')
                .map_or((text, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(bad("no host name"));
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(digits) => match digits.parse() {
                Ok(0) | Err(_) => return Err(bad("the port is a number from 1 to 65535")),
                Ok(port) => port,
            },
        };
        let host = host.to_owned();
        Ok(Self(Place::Internet { host, port }))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Unix { path } => write!(f, "{UNIX_PREFIX}{path}"),
            Place::Internet { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Place::Internet { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_and_writes() {
        for (text, expected) in [
            ("guest", "guest:9094"),
            ("guest:1", "guest:1"),
            ("10.0.0.1:65535", "10.0.0.1:65535"),
            ("[::1]", "[::1]:9094"),
            ("[::1]:7", "[::1]:7"),
            ("fe80::2", "[fe80::2]:9094"),
            ("unix:/run/a b.sock", "unix:/run/a b.sock"),
            ("unix:7", "unix:7"),
            ("unix", "unix:9094"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), expected);
            assert_eq!(expected.parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn a_socket_has_a_path_and_no_port() {
        let address: Address = "unix:/run/chirp".parse().unwrap();
        assert_eq!(address.unix_path(), Some(Path::new("/run/chirp")));
        assert_eq!((address.host(), address.port()), ("/run/chirp", 0));
        assert_eq!("unix:9094".parse::<Address>().unwrap().unix_path(), None);
    }

    #[test]
    fn what_is_no_address_is_named() {
        let long = format!("unix:/{}", "x".repeat(UNIX_PATH_MAX));
        assert!(long.parse::<Address>().is_err());
        for text in [
            "",
            ":9",
            "h:",
            "h:0",
            "h:65536",
            "h:x",
            "[::1",
            "[::1]x",
            "[h]:1",
            "a b",
            "h:-1",
            "unix:/a\nb",
            "unix:",
            "unix:a",
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
