//! Accepting connections, the limit on them, and the end of them all.

mod unix;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection;
use crate::server::Server;
use crate::socket::{Peer, Socket};

pub use unix::{SocketMode, UnixSocket};

/// Connections that the kernel keeps until they are accepted; it has a limit of its own.
const BACKLOG: i32 = 4096;

/// The range of ports to search where the environment gives one end of it.
const LOW_PORT: u16 = 1024;
const HIGH_PORT: u16 = 32767;

/// How long to wait before the next try when no descriptor is left to accept with.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// How long a port is waited for that is in use, and between two tries. The processes by which a server starts programs
/// have its socket, too, and end a moment after one that was killed.
const PORT_PATIENCE: Duration = Duration::from_millis(500);
const PORT_PAUSE: Duration = Duration::from_millis(10);

/// Binds the listening socket and lets the kernel queue connections.
///
/// With `search` (`-Z`, `-p 0`), the first free port of `TCP_LOW_PORT` (1024) to `TCP_HIGH_PORT` is taken
/// where the environment sets one of them, as the reference does, and any free one otherwise.
///
/// # Errors
///
/// The address cannot be bound; the message names it.
pub fn bind(interface: Option<IpAddr>, port: u16, search: bool) -> anyhow::Result<OwnedFd> {
    if !search {
        return bind_patiently(interface, port)
            .with_context(|| format!("cannot listen on port {port}{}", on(interface)));
    }
    let limit = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.trim().parse::<u16>().ok())
    };
    let (low, high) = match (limit("TCP_LOW_PORT"), limit("TCP_HIGH_PORT")) {
        (None, None) => {
            return bind_port(interface, 0)
                .with_context(|| format!("cannot listen on any port{}", on(interface)));
        }
        (low, high) => (low.unwrap_or(LOW_PORT), high.unwrap_or(HIGH_PORT)),
    };
    let mut refused = io::Error::from(io::ErrorKind::AddrInUse);
    for port in low..=high {
        match bind_port(interface, port) {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = error,
        }
    }
    Err(refused).with_context(|| {
        format!(
            "no free port between {low} and {high} (TCP_LOW_PORT, TCP_HIGH_PORT){}",
            on(interface)
        )
    })
}

fn on(interface: Option<IpAddr>) -> String {
    interface.map_or_else(String::new, |address| format!(" of {address}"))
}

/// Binds a port that is to be had within a moment.
fn bind_patiently(interface: Option<IpAddr>, port: u16) -> io::Result<OwnedFd> {
    let begun = Instant::now();
    loop {
        match bind_port(interface, port) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < PORT_PATIENCE =>
            {
                std::thread::sleep(PORT_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

fn bind_port(interface: Option<IpAddr>, port: u16) -> io::Result<OwnedFd> {
    if let Some(address) = interface {
        return listen((address, port).into());
    }
    // One socket for both families, where there is IPv6 at all.
    match listen((Ipv6Addr::UNSPECIFIED, port).into()) {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => listen((Ipv4Addr::UNSPECIFIED, port).into()),
    }
}

fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // Connections of a server before this one, which the kernel remembers for a while, are no obstacle.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
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

/// Where connections come from.
#[derive(Debug)]
pub struct Listeners {
    tcp: TcpListener,
    unix: Option<(UnixListener, UnixSocket)>,
}

impl Listeners {
    /// Begins to take connections from a TCP socket and, if there is one, a Unix socket.
    ///
    /// # Errors
    ///
    /// The runtime cannot watch the Unix socket.
    pub fn new(tcp: TcpListener, unix: Option<UnixSocket>) -> anyhow::Result<Self> {
        let mut unix = unix;
        let listener = unix.as_mut().and_then(UnixSocket::take);
        let listener = listener.map(|socket| UnixListener::from_std(socket.into()));
        let listener = listener
            .transpose()
            .context("cannot listen (--listen-unix)")?;
        Ok(Self {
            tcp,
            unix: listener.zip(unix),
        })
    }

    async fn accept(&self) -> io::Result<(Socket, Peer)> {
        let local = async {
            match &self.unix {
                Some((listener, _)) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.tcp.accept() => {
                accepted.map(|(stream, peer)| (Socket::Tcp(stream), Peer::Network(peer)))
            }
            accepted = local => accepted.map(|(stream, _)| (Socket::Unix(stream), Peer::Local)),
        }
    }
}

/// Accepts connections until told to drain, then waits for the running ones as long as
/// `drain_time` allows.
pub async fn run(
    listeners: Listeners,
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
            accepted = accept(&listeners) => accepted,
            () = stop.drain.cancelled() => break,
        };
        let task = connection::serve(Arc::clone(&server), stream, peer, stop.clone());
        connections.spawn(async move {
            task.await;
            drop(permit);
        });
    }
    drop(listeners);
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

async fn accept(listeners: &Listeners) -> (Socket, Peer) {
    let mut failing = false;
    loop {
        match listeners.accept().await {
            Ok(accepted) => {
                if failing {
                    tracing::info!("connections are accepted again");
                }
                return accepted;
            }
            // A peer that left again.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // No descriptor to be had: clients wait in the kernel's queue until there is one. It is
                // said once, not with each attempt.
                if !failing {
                    tracing::warn!(%error, "cannot accept connections; clients wait");
                }
                failing = true;
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}
