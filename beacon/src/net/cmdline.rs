//! The keys that a machine's owner may put on the kernel's command line.

use super::HostPort;
use std::net::IpAddr;

/// What the kernel's command line says about presence (`stomp-presence.md` part 3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelKeys {
    /// `chirp.broker=HOST[:PORT]`: where the broker is.
    pub broker: Option<HostPort>,
    /// `chirp.announce=ADDR[:PORT]`: what to announce instead of the detected address.
    pub announce: Option<HostPort>,
    /// `chirp.host=ADDR`: the address whose rights a fresh tree gets.
    pub host: Option<IpAddr>,
}

/// Reads the keys of the running kernel; nothing is set where it cannot be read.
#[must_use]
pub fn kernel_keys() -> KernelKeys {
    std::fs::read_to_string("/proc/cmdline")
        .map(|text| parse_cmdline(&text))
        .unwrap_or_default()
}

/// Reads the keys in a kernel command line. The last one of a name counts, as with the kernel's own; a
/// value that cannot be read is as if it were absent, and logged.
#[must_use]
pub fn parse_cmdline(text: &str) -> KernelKeys {
    let mut keys = KernelKeys::default();
    // What follows a bare `--` is for the first process, not for us.
    for word in text
        .split_ascii_whitespace()
        .take_while(|&word| word != "--")
    {
        let Some((name, value)) = word.split_once('=') else {
            continue;
        };
        let value = value.trim_matches('"');
        let good = match name {
            "chirp.broker" => value.parse().map(|value| keys.broker = Some(value)).is_ok(),
            "chirp.announce" => match value.parse::<HostPort>() {
                Ok(value) if value.ip().is_some() => {
                    keys.announce = Some(value);
                    true
                }
                _ => false,
            },
            "chirp.host" => value.parse().map(|value| keys.host = Some(value)).is_ok(),
            _ => true,
        };
        if !good {
            tracing::warn!(
                key = name,
                value,
                "kernel command line: value not usable, ignored"
            );
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_among_others() {
        let keys = parse_cmdline(
            "BOOT_IMAGE=/vmlinuz ro quiet chirp.broker=10.0.2.2:61700 chirp.announce=127.0.0.1:9100 \
             chirp.host=10.0.2.2 -- chirp.host=1.1.1.1\n",
        );
        assert_eq!(keys.broker, Some(HostPort::new("10.0.2.2", 61700)));
        assert_eq!(keys.announce, Some(HostPort::new("127.0.0.1", 9100)));
        assert_eq!(keys.host, Some("10.0.2.2".parse().unwrap()));
    }

    #[test]
    fn unusable_values_are_as_if_absent() {
        assert_eq!(
            parse_cmdline(
                "chirp.broker= chirp.announce=name:1 chirp.host=10.0.2 chirp.hosts=1.1.1.1"
            ),
            KernelKeys::default()
        );
        assert_eq!(parse_cmdline(""), KernelKeys::default());
    }
}
