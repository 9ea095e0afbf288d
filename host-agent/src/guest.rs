//! Chirp sessions with guests, of the agent and of the commands alike.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use anyhow::anyhow;
use chirp_client::{Client, ConnectOptions, Error, Method, VirtualPath};

/// How the host logs in, in this order. A guest that was given nothing to configure grants its rights to the
/// host's address, so that comes first; a guest that grants them by name or to a user of this machine
/// leaves `address` out of its methods.
const METHODS: [Method; 3] = [Method::Address, Method::Hostname, Method::Unix];

/// Connects to a guest and logs in.
///
/// # Errors
///
/// Connection or login failed, or took longer than `within`.
pub(crate) async fn connect(address: SocketAddr, within: Duration) -> Result<Client, Error> {
    let mut options = ConnectOptions::new(address.to_string().parse()?);
    options.methods = METHODS.to_vec();
    options.connect_timeout = within;
    Client::connect(options).await
}

/// Returns a path in a guest as the protocol has it.
///
/// # Errors
///
/// The path is too long or holds NUL.
pub(crate) fn path(text: &OsStr) -> anyhow::Result<VirtualPath> {
    VirtualPath::from_decoded(text.as_bytes())
        .map_err(|code| anyhow!("{}: no path in a guest: {}", text.display(), code.text()))
}
