//! Chirp sessions with guests, of the agent and of the commands alike.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use anyhow::anyhow;
use chirp_client::{Client, ConnectOptions, Error, Method, VirtualPath};

use crate::api::types::Target;

/// How the host logs in, in this order. A guest that was given nothing to configure grants its rights to the
/// host's address, so that comes first; a guest that grants them by name or to a user of this machine
/// leaves `address` out of its methods.
const METHODS: [Method; 3] = [Method::Address, Method::Hostname, Method::Unix];

/// Connects to a guest and logs in.
///
/// # Errors
///
/// Connection or login failed, or took longer than `within`.
async fn connect(address: SocketAddr, within: Duration) -> Result<Client, Error> {
    let mut options = ConnectOptions::new(address.to_string().parse()?);
    options.methods = METHODS.to_vec();
    options.connect_timeout = within;
    Client::connect(options).await
}

/// Why nobody was met at a guest's address, or not the guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Missed {
    /// No session came about, or it ended.
    #[error(transparent)]
    Failed(#[from] Error),
    /// Another server answers: the address is another guest's by now, or the server has been started again.
    #[error("{0}")]
    Other(String),
    /// It cannot be told which server answers.
    #[error("{0}")]
    Unprovable(&'static str),
}

/// Connects, logs in, and compares who answers with the server of that boot and run. Returns the session, and
/// whether the server runs programs.
///
/// # Errors
///
/// See [`Missed`].
pub(crate) async fn meet(
    address: SocketAddr,
    (boot, run): (&str, &str),
    within: Duration,
) -> Result<(Client, bool), Missed> {
    let client = connect(address, within).await?;
    if boot.is_empty() || run.is_empty() {
        return Err(Missed::Unprovable(
            "announces no boot and run ids, as guests of the original system do, so nobody can tell that it is \
             the one who answers",
        ));
    }
    let Ok(features) = tokio::time::timeout(within, client.features()).await else {
        return Err(Missed::Unprovable("its server does not say who it is"));
    };
    let Some(features) = features? else {
        return Err(Missed::Unprovable(
            "its server tells no features, so it cannot be told from another",
        ));
    };
    if features.boot != boot || features.run != run {
        return Err(Missed::Other(format!(
            "another server answers at {address}: boot {} run {} instead of boot {} run {}",
            shown(&features.boot),
            shown(&features.run),
            shown(boot),
            shown(run)
        )));
    }
    let runs_programs = features.features.contains_key("exec");
    Ok((client, runs_programs))
}

/// Connects to a guest that is to be given work: what answers at its address may be another one by now.
///
/// # Errors
///
/// See [`Missed`].
pub(crate) async fn meet_target(target: &Target, within: Duration) -> Result<Client, Missed> {
    let (client, _) = meet(target.address, (&target.boot, &target.run), within).await?;
    Ok(client)
}

/// Returns an id that a peer named, fit for a log line.
fn shown(id: &str) -> String {
    if id.is_empty() {
        return "(none)".to_owned();
    }
    id.chars().take(64).flat_map(char::escape_debug).collect()
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
