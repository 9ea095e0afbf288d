//! Accepting connections, the limit on them, and the end of them all.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection;
use crate::server::Server;

/// How long to wait before the next try when no descriptor is left to accept with.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Binds the listening socket.
///
/// With `search` (`-Z`), the first free port of `TCP_LOW_PORT` to `TCP_HIGH_PORT` is taken where the
/// environment sets them, as the reference does, and any free one otherwise.
///
/// # Errors
///
/// The address cannot be bound; the message names it.
pub async fn bind(
    interface: Option<IpAddr>,
    port: u16,
    search: bool,
) -> anyhow::Result<TcpListener> {
    if !search {
        return bind_port(interface, port)
            .await
            .with_context(|| format!("cannot listen on port {port}"));
    }
    let limit = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u16>().ok())
    };
    let Some(low) = limit("TCP_LOW_PORT") else {
        return bind_port(interface, 0)
            .await
            .context("cannot listen on any port");
    };
    let high = limit("TCP_HIGH_PORT").unwrap_or(u16::MAX);
    for port in low..=high {
        if let Ok(listener) = bind_port(interface, port).await {
            return Ok(listener);
        }
    }
    anyhow::bail!("no free port between {low} and {high} (TCP_LOW_PORT, TCP_HIGH_PORT)")
}

async fn bind_port(interface: Option<IpAddr>, port: u16) -> io::Result<TcpListener> {
    if let Some(address) = interface {
        return TcpListener::bind(SocketAddr::new(address, port)).await;
    }
    // One socket for both families, where there is IPv6 at all.
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
    }
}

/// Writes the port and an LF to the file of `-Z`, which is never seen half written.
///
/// # Errors
///
/// The file cannot be written.
pub fn write_port_file(path: &Path, port: u16) -> anyhow::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, format!("{port}\n"))
        .and_then(|()| std::fs::rename(&new, path))
        .with_context(|| format!("port file {} (-Z)", path.display()))
}

/// How the server's end is told to connections.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Finish what is running, take no new requests.
    pub drain: CancellationToken,
    /// End now.
    pub abort: CancellationToken,
}

/// Accepts connections until told to drain, then waits for the running ones as long as
/// `drain_time` allows.
pub async fn run(
    listener: TcpListener,
    server: Arc<Server>,
    max_clients: usize,
    drain_time: Duration,
    stop: Stop,
) {
    let clients = Arc::new(Semaphore::new(match max_clients {
        0 => Semaphore::MAX_PERMITS,
        limit => limit.min(Semaphore::MAX_PERMITS),
    }));
    let connections = TaskTracker::new();
    loop {
        // Beyond the limit, connections wait in the kernel's queue, unaccepted.
        let permit = tokio::select! {
            permit = Arc::clone(&clients).acquire_owned() => permit,
            () = stop.drain.cancelled() => break,
        };
        let Ok(permit) = permit else { break };
        let (stream, peer) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = stop.drain.cancelled() => break,
        };
        let task = connection::serve(Arc::clone(&server), stream, peer, stop.clone());
        connections.spawn(async move {
            task.await;
            drop(permit);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(drain_time, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            left = connections.len(),
            "ending connections that are still at work"
        );
    }
    stop.abort.cancel();
    connections.wait().await;
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                // A peer that left again, or no descriptor to be had: neither ends the server.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}
