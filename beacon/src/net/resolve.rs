//! Where the broker is, and so where the host is (`stomp-presence.md` part 3, rule 1).

use super::{HostPort, default_gateway, kernel_keys};
use std::net::{IpAddr, SocketAddr};

/// Why there is no broker address to connect to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoBroker {
    /// Neither an option nor the kernel's command line names one, and there is no default route.
    #[error(
        "no broker is named and there is no default route; name one with --announce=BROKER or Broker.host"
    )]
    NoGateway,
    /// The broker's name does not resolve.
    #[error("cannot resolve the broker's name {name}: {source}")]
    Name {
        /// The name.
        name: String,
        /// The resolver's error.
        source: std::io::Error,
    },
}

/// Returns the broker's name or address by the rules: `explicit`, else the kernel's command line, else the
/// default gateway.
///
/// # Errors
///
/// [`NoBroker::NoGateway`] when none of them names one.
pub fn broker_name(explicit: Option<&HostPort>) -> Result<HostPort, NoBroker> {
    if let Some(named) = explicit.cloned().or_else(|| kernel_keys().broker) {
        return Ok(named);
    }
    let gateway = default_gateway().ok_or(NoBroker::NoGateway)?;
    Ok(HostPort {
        host: gateway.to_string(),
        port: None,
    })
}

/// Returns the broker's address by the rules of [`broker_name`], with that port where none is named. Looks
/// everything up anew at each call.
///
/// # Errors
///
/// [`NoBroker`] when none is named or its name does not resolve.
///
/// # Cancel safety
///
/// Nothing is lost by dropping the future.
pub async fn resolve_broker(
    explicit: Option<&HostPort>,
    port: u16,
) -> Result<SocketAddr, NoBroker> {
    let named = broker_name(explicit)?;
    let port = named.port.unwrap_or(port);
    if let Some(ip) = named.ip() {
        return Ok(SocketAddr::new(ip, port));
    }
    let failed = |source| NoBroker::Name {
        name: named.host.clone(),
        source,
    };
    let mut found = tokio::net::lookup_host((named.host.as_str(), port))
        .await
        .map_err(failed)?
        .collect::<Vec<_>>();
    // Our own broker listens on IPv4 unless told otherwise, and `localhost` often names both.
    found.sort_by_key(SocketAddr::is_ipv6);
    found
        .first()
        .copied()
        .ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))
}

/// Returns the host's address, whose rights a fresh tree gets: `chirp.host` of the kernel's command line,
/// else the broker's address (with that port where none is named); nothing where neither is known now.
///
/// # Cancel safety
///
/// Nothing is lost by dropping the future.
pub async fn host_address(explicit: Option<&HostPort>, port: u16) -> Option<IpAddr> {
    if let Some(host) = kernel_keys().host {
        return Some(host);
    }
    match resolve_broker(explicit, port).await {
        Ok(address) => Some(address.ip().to_canonical()),
        Err(error) => {
            tracing::warn!(%error, "cannot tell the host's address");
            None
        }
    }
}
