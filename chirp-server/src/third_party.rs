//! Which servers this one calls for its clients (`whoareyou`, `thirdput`).
//!
//! Such a call is made with this server's address and rights, so it lets a client reach what only
//! this machine can (W20). No call takes long to fail, none goes to a port of the system's services unless the
//! operator names it, and the operator can name the servers or forbid it all.

use std::str::FromStr;

use chirp_client::Address;

/// Ports below this belong to the system's services; no Chirp server is there by default.
const PORT_MIN: u16 = 1024;

/// What the operator lets the server do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThirdParty {
    /// Call any server, at ports from 1024 on.
    Allow,
    /// Call nobody.
    Deny,
    /// Call these only.
    Only(Vec<Named>),
}

/// A server that may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    host: String,
    /// Any port from 1024 on where none is named.
    port: Option<u16>,
}

impl ThirdParty {
    /// Reports whether a server may be called.
    #[must_use]
    pub fn permits(&self, address: &Address) -> bool {
        match self {
            Self::Allow => address.port() >= PORT_MIN,
            Self::Deny => false,
            Self::Only(named) => named.iter().any(|named| {
                named.host.eq_ignore_ascii_case(address.host())
                    && match named.port {
                        Some(port) => port == address.port(),
                        None => address.port() >= PORT_MIN,
                    }
            }),
        }
    }
}

impl FromStr for ThirdParty {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "allow" => return Ok(Self::Allow),
            "deny" => return Ok(Self::Deny),
            _ => {}
        }
        let named = text.split(',').map(|server| {
            let address: Address = server
                .parse()
                .map_err(|error| format!("{error}; give allow, deny, or HOST[:PORT],..."))?;
            if address.unix_path().is_some() {
                return Err(format!(
                    "{address} is a socket of this machine; give allow, deny, or HOST[:PORT],..."
                ));
            }
            // The default port is as good as none.
            let named = server.ends_with(&format!(":{}", address.port()));
            Ok(Named {
                host: address.host().to_owned(),
                port: named.then(|| address.port()),
            })
        });
        named.collect::<Result<_, String>>().map(Self::Only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(rule: &str, address: &str) -> bool {
        let rule: ThirdParty = rule.parse().unwrap();
        rule.permits(&address.parse().unwrap())
    }

    #[test]
    fn the_operator_decides() {
        for (rule, address, expected) in [
            ("allow", "a", true),
            ("allow", "a:1024", true),
            ("allow", "a:1023", false),
            ("allow", "127.0.0.1:25", false),
            ("deny", "a", false),
            ("a,b:25", "a", true),
            ("a,b:25", "A:2000", true),
            ("a,b:25", "a:80", false),
            ("a,b:25", "b:25", true),
            ("a,b:25", "b", false),
            ("a,b:25", "c", false),
            ("a:9094", "a", true),
            ("a:9094", "a:9095", false),
            ("[::1]:9094,::2", "[::1]", true),
            ("[::1]:9094,::2", "[::2]:5000", true),
        ] {
            assert_eq!(permits(rule, address), expected, "{rule} {address}");
        }
        for bad in ["", "a,,b", "a:0", "a:x", "allow,a b"] {
            assert!(bad.parse::<ThirdParty>().is_err(), "{bad}");
        }
    }
}
