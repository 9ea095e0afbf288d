//! Settings of the driver.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What runs a machine's processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Accel {
    /// QEMU itself, everywhere and slowly.
    #[default]
    Tcg,
    /// The kernel. Only where the driver's check has seen a guest work with it: that `/dev/kvm` is there proves
    /// nothing.
    Kvm,
}

impl Accel {
    /// Returns the name that QEMU has for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }
}

impl FromStr for Accel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tcg" => Ok(Self::Tcg),
            "kvm" => Ok(Self::Kvm),
            _ => Err(format!("{text:?} is neither tcg nor kvm")),
        }
    }
}

/// How a machine is reached and what it reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Network {
    /// By QEMU itself, which needs no rights: the guest reaches the broker and nothing else, and its Chirp port
    /// is reached at a port of this host's loopback.
    #[default]
    User,
    /// A card on this bridge of the host, by a tap device with the name `vm-` and the last three bytes of the
    /// card's address. QEMU makes it where this process may change the network; else it must be there, made for
    /// this user.
    Bridge(String),
}

impl FromStr for Network {
    type Err = String;

    /// Reads `user` or `bridge:NAME`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "user" {
            return Ok(Self::User);
        }
        match text.strip_prefix("bridge:") {
            // Names of interfaces have 15 bytes at most.
            Some(name) if (1..=15).contains(&name.len()) && is_plain(name) => {
                Ok(Self::Bridge(name.to_owned()))
            }
            _ => Err(format!(
                "{text:?} is neither user nor bridge: with the name of a bridge"
            )),
        }
    }
}

/// Returns whether a text is of letters, digits, `-`, `_` and `.` only, so that it means itself everywhere.
pub(super) fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Settings of the driver.
#[derive(Debug, Clone)]
pub struct QemuConfig {
    /// The folder of the machines, each in a folder of its own. Made when it is missing, for this user alone.
    pub folder: PathBuf,
    /// The directory of QEMU's programs; by `PATH` where there is none.
    pub helpers: Option<PathBuf>,
    /// What runs the processors.
    pub accel: Accel,
    /// The network of machines that are made from now on.
    pub network: Network,
    /// Where the broker listens that guests announce themselves to, as this host reaches it. Without one they
    /// reach nobody.
    pub broker: Option<SocketAddr>,
    /// Where guests on a bridge reach that broker; without it they look for it at their default gateway.
    pub bridge_broker: Option<SocketAddr>,
    /// The program that carries a guest's connection to the broker, called as `PROGRAM carry ADDRESS:PORT` with
    /// a socket as standard input and output: `host-agent` itself.
    pub carrier: PathBuf,
    /// Memory of machines that do not say how much they want, in MiB.
    pub memory_mib: u32,
}

impl QemuConfig {
    /// Returns the settings for machines in that folder, with everything else as it is by default.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, carrier: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            helpers: None,
            accel: Accel::default(),
            network: Network::default(),
            broker: None,
            bridge_broker: None,
            carrier: carrier.into(),
            memory_mib: 256,
        }
    }

    /// Returns where machines are when no folder is set: below `$XDG_STATE_HOME`, else `~/.local/state`.
    #[must_use]
    pub fn default_folder() -> Option<PathBuf> {
        let set = |name| std::env::var_os(name).filter(|value| Path::new(value).is_absolute());
        let state = set("XDG_STATE_HOME").map(PathBuf::from);
        let home = || set("HOME").map(|home| Path::new(&home).join(".local/state"));
        Some(state.or_else(home)?.join("host-agent/machines"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_nothing_else() {
        assert_eq!("user".parse(), Ok(Network::User));
        assert_eq!("bridge:br0".parse(), Ok(Network::Bridge("br0".to_owned())));
        for bad in [
            "",
            "tap",
            "bridge:",
            "bridge:a,b",
            "bridge:longer-than-fifteen",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
