//! Guest ids: MAC addresses, real or made up.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A guest's id: a MAC address. Shown in upper case with colons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacId([u8; 6]);

impl MacId {
    /// Returns the id of these six bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// Returns the six bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// Returns a locally administered id made from the SHA-256 of host id, address and port.
    ///
    /// For servers on an interface without a MAC address: several on one machine differ, and each keeps
    /// its id over restarts (`stomp-presence.md` part 4).
    #[must_use]
    pub fn derived(host_id: &str, address: IpAddr, port: u16) -> Self {
        let digest = Sha256::digest(format!("{host_id}\n{address}\n{port}\n"));
        let mut bytes = [0; 6];
        for (byte, from) in bytes.iter_mut().zip(digest) {
            *byte = from;
        }
        if let Some(first) = bytes.first_mut() {
            // Unicast and locally administered: the second digit becomes 2, 6, A or E.
            *first = (*first & 0b1111_1100) | 0b10;
        }
        Self(bytes)
    }

    /// Returns the canonical form: lower case with colons.
    #[must_use]
    pub fn canonical(self) -> String {
        self.to_string().to_ascii_lowercase()
    }

    /// Returns whether this is the address of no card: all zeros, as loopback has it.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0 == [0; 6]
    }
}

impl fmt::Display for MacId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02X}:{b:02X}:{c:02X}:{d:02X}:{e:02X}:{g:02X}")
    }
}

impl fmt::Debug for MacId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address: twelve hexadecimal digits, in pairs joined by one of : - . or nothing")]
pub struct NotAMac;

impl FromStr for MacId {
    type Err = NotAMac;

    /// Reads any form of `host-agent.md` part 3: either case; `:`, `-`, `.` or nothing between the
    /// pairs; a dot also between groups of four digits.
    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let separator = text.chars().find(|c| !c.is_ascii_hexdigit());
        let groups: Vec<&str> = match separator {
            None => vec![text],
            Some(separator @ (':' | '-' | '.')) => text.split(separator).collect(),
            Some(_) => return Err(NotAMac),
        };
        let width = match (groups.len(), separator) {
            (6, _) => 2,
            (3, Some('.')) => 4,
            (1, _) => 12,
            _ => return Err(NotAMac),
        };
        if groups.iter().any(|group| group.len() != width) {
            return Err(NotAMac);
        }
        let mut digits = groups.iter().flat_map(|group| group.chars());
        let mut bytes = [0; 6];
        for byte in &mut bytes {
            let mut digit = || digits.next().and_then(|c| c.to_digit(16)).ok_or(NotAMac);
            let value = digit()? * 16 + digit()?;
            *byte = u8::try_from(value).map_err(|_| NotAMac)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for MacId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_specification_is_read() {
        let want = MacId::new([0x08, 0x00, 0x27, 0xe0, 0xad, 0xb2]);
        for text in [
            "08:00:27:E0:AD:B2",
            "08:00:27:e0:ad:b2",
            "08-00-27-E0-AD-B2",
            "08.00.27.e0.ad.b2",
            "0800.27e0.adb2",
            "080027E0ADB2",
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
        assert_eq!(want.to_string(), "08:00:27:E0:AD:B2");
        assert_eq!(want.canonical(), "08:00:27:e0:ad:b2");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            ":",
            "08:00:27:E0:AD",
            "08:00:27:E0:AD:B2:00",
            "08:00-27:E0:AD:B2",
            "0800:27e0:adb2",
            "8:0:27:E0:AD:B2",
            "08:00:27:E0:AD:BG",
            "080027E0ADB",
            "worker-7",
            "٠٨:00:27:E0:AD:B2",
            "+8:00:27:E0:AD:B2",
        ] {
            assert_eq!(text.parse::<MacId>(), Err(NotAMac), "{text}");
        }
    }

    #[test]
    fn derived_ids_are_local_stable_and_different() {
        let here: IpAddr = "127.0.0.2".parse().unwrap();
        let one = MacId::derived("host", here, 9094);
        assert_eq!(one, MacId::derived("host", here, 9094));
        assert_ne!(one, MacId::derived("host", here, 9095));
        assert_ne!(one, MacId::derived("other", here, 9094));
        assert_ne!(
            one,
            MacId::derived("host", "127.0.0.3".parse().unwrap(), 9094)
        );
        for port in 1..500 {
            let id = MacId::derived("host", here, port).to_string();
            assert!(
                matches!(id.as_bytes()[1], b'2' | b'6' | b'A' | b'E'),
                "{id}"
            );
        }
    }
}
