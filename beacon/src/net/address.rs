//! `HOST[:PORT]` as options and the kernel's command line have it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The port of a STOMP broker unless another is named.
pub const BROKER_PORT: u16 = 61613;

/// A host, by name or address, and perhaps a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// The port, where one is named.
    pub port: Option<u16>,
}

impl HostPort {
    /// Returns the host and port of an address.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port: Some(port),
        }
    }

    /// Returns the address where the host is one and no name.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// A text that is no `HOST[:PORT]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not HOST, HOST:PORT, an IPv6 address or [IPv6]:PORT with a port from 1 to 65535")]
pub struct NotAHostPort;

impl FromStr for HostPort {
    type Err = NotAHostPort;

    fn from_str(text: &str) -> Result<Self, NotAHostPort> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or(NotAHostPort)?;
            host.parse::<std::net::Ipv6Addr>()
                .map_err(|_| NotAHostPort)?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(NotAHostPort),
            }
        } else if text.parse::<std::net::Ipv6Addr>().is_ok() {
            (text, None)
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '[' | ']' | '/');
        if host.is_empty() || host.len() > 255 || host.contains(odd) {
            return Err(NotAHostPort);
        }
        let port = match port {
            None => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let port: std::num::NonZeroU16 = digits.parse().map_err(|_| NotAHostPort)?;
                Some(port.get())
            }
            Some(_) => return Err(NotAHostPort),
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.host.contains(':')) {
            (None, _) => f.write_str(&self.host),
            (Some(port), true) => write!(f, "[{}]:{port}", self.host),
            (Some(port), false) => write!(f, "{}:{port}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_port_are_read_and_shown() {
        for (text, host, port) in [
            ("10.0.2.2", "10.0.2.2", None),
            ("10.0.2.2:61613", "10.0.2.2", Some(61613)),
            ("host.example:1", "host.example", Some(1)),
            ("fe80::1", "fe80::1", None),
            ("[fe80::1]:61613", "fe80::1", Some(61613)),
        ] {
            let read: HostPort = text.parse().unwrap();
            assert_eq!((read.host.as_str(), read.port), (host, port));
            assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "", ":1", "h:", "h:0", "h:65536", "h:+1", "h:x", "[h]:1", "[::1", "[::1]1", "a b",
            "h:1:2",
        ] {
            assert_eq!(text.parse::<HostPort>(), Err(NotAHostPort), "{text}");
        }
    }
}
