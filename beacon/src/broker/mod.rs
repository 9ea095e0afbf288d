//! The broker that the host embeds: enough of STOMP 1.0, 1.1 and 1.2 for presence.
//!
//! All destinations are topics, compared byte for byte, in memory only, nothing kept. One task a
//! connection reads and writes it; what is to be sent waits in that connection's bounded outbox, so a
//! slow subscriber costs its own queue and nobody else's time (`stomp-presence.md` part 6).

mod config;
mod connection;
mod files;
mod hub;
mod login;
mod outbox;
mod session;

pub(crate) use session::heart_beat;

pub use config::{BrokerConfig, BrokerLimits, Role, User};
pub use files::raise_open_files;

use crate::frame::{Frame, Version};
use crate::mac::MacId;
use crate::quiet::Quiet;
use hub::Hub;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A broker whose sockets are bound, ready to [`run`](Broker::run).
#[derive(Debug)]
pub struct Broker {
    listeners: Vec<TcpListener>,
    shared: Arc<Shared>,
    lost: Option<mpsc::Receiver<PublisherLost>>,
}

/// What the connections of one broker have in common.
#[derive(Debug)]
struct Shared {
    config: BrokerConfig,
    hub: Hub,
    /// Who was refused, for the log.
    refused: Mutex<Quiet>,
    lost: mpsc::Sender<PublisherLost>,
}

/// A connection that published presence messages and ended without BYE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherLost {
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// The id that its last announcement named.
    pub id: MacId,
    /// How the connection ended, in words.
    pub why: String,
}

impl Broker {
    /// Binds the broker's sockets.
    ///
    /// # Errors
    ///
    /// The system's error for the first address that cannot be bound, with the address in its text.
    pub async fn bind(config: BrokerConfig) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for address in &config.listen {
            let listener = TcpListener::bind(address).await.map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("broker cannot listen on {address}: {error}"),
                )
            })?;
            listeners.push(listener);
        }
        // As long as the longest list of connections that can end in one moment.
        let (sender, lost) = mpsc::channel(config.limits.connections.clamp(1, LOST_MAX));
        let shared = Shared {
            hub: Hub::default(),
            refused: Mutex::default(),
            config,
            lost: sender,
        };
        Ok(Self {
            listeners,
            shared: Arc::new(shared),
            lost: Some(lost),
        })
    }

    /// Returns the addresses that the broker is bound to, in the order of the configuration.
    ///
    /// # Errors
    ///
    /// The system's error where a socket has none.
    pub fn local_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(TcpListener::local_addr).collect()
    }

    /// Returns the receiver of connections that ended without BYE; nothing when it was taken already.
    ///
    /// News that nobody takes is dropped once the channel is full: deadlines find those guests too.
    pub fn publisher_lost(&mut self) -> Option<mpsc::Receiver<PublisherLost>> {
        self.lost.take()
    }

    /// Serves connections until the token is cancelled, then closes them and returns.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the sockets; connections end when they notice.
    pub async fn run(self, token: CancellationToken) {
        // Connections hear of a dropped future as well as of the caller's token.
        let connections = token.child_token();
        let _end = connections.clone().drop_guard();
        let tracker = TaskTracker::new();
        let places = Arc::new(Semaphore::new(self.shared.config.limits.connections));
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            accepting.spawn(accept(
                listener,
                self.shared.clone(),
                places.clone(),
                tracker.clone(),
                connections.clone(),
            ));
        }
        while accepting.join_next().await.is_some() {}
        token.cancelled().await;
        tracker.close();
        tracker.wait().await;
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    tracker: TaskTracker,
    token: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = token.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "broker cannot accept a connection");
                // Out of descriptors, most likely: the connection still waits, so trying at once spins.
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(%peer, "broker has its greatest number of connections; refused");
            refuse(stream).await;
            continue;
        };
        let (shared, token) = (shared.clone(), token.clone());
        tracker.spawn(async move {
            connection::serve(stream, peer, &shared, &token).await;
            drop(place);
        });
    }
}

/// Tells a peer why it is closed, if its socket takes that at once: nobody waits for it.
async fn refuse(mut stream: TcpStream) {
    let frame = Frame::new("ERROR").with(
        "message",
        "the broker has too many connections; try again later",
    );
    let bytes = crate::encode::encode(&frame, Version::V1_2);
    let _ = tokio::time::timeout(Duration::from_millis(50), stream.write_all(&bytes)).await;
}

/// Entries of the channel of lost publishers at most.
const LOST_MAX: usize = 65_536;
