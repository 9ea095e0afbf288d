//! Status records for cctools' catalog, so that `chirp_status` lists this server
//! (`chirp-protocol.md`, part 10). Off unless `-u` names a catalog.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio::net::UdpSocket;

/// The port of a catalog where none is named.
const DEFAULT_PORT: u16 = 9097;

/// The reference's interval.
const INTERVAL: Duration = Duration::from_secs(300);

/// What a record says that does not change.
#[derive(Clone, Debug)]
pub struct Advertiser {
    /// Catalogs, `HOST` or `HOST:PORT`.
    pub catalogs: Vec<String>,
    /// The exported directory.
    pub root: PathBuf,
    /// The server's port.
    pub port: u16,
    /// The name to appear under.
    pub name: String,
    /// The account that the server works as.
    pub owner: String,
}

impl Advertiser {
    /// Sends a record to each catalog now and every five minutes, until dropped.
    pub async fn run(self) {
        if self.catalogs.is_empty() {
            return;
        }
        let started = seconds_since_1970();
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            let record = self.record(started).to_string();
            for catalog in &self.catalogs {
                if let Err(error) = send(catalog, record.as_bytes()).await {
                    tracing::warn!(%catalog, %error, "cannot reach the catalog");
                }
            }
        }
    }

    fn record(&self, started: u64) -> serde_json::Value {
        let system = rustix::system::uname();
        let info = rustix::system::sysinfo();
        let lower = |text: &std::ffi::CStr| text.to_string_lossy().to_lowercase();
        let space = rustix::fs::statvfs(&self.root).ok();
        let bytes = |blocks: fn(&rustix::fs::StatVfs) -> u64| {
            space
                .as_ref()
                .map_or(0, |space| blocks(space).saturating_mul(space.f_frsize))
        };
        let unit = u64::from(info.mem_unit.max(1));
        let load = beacon::net::load_average().unwrap_or_default();
        json!({
            "type": "chirp",
            "name": self.name,
            "port": self.port,
            "owner": self.owner,
            "url": format!("chirp://{}:{}", self.name, self.port),
            "version": env!("CARGO_PKG_VERSION"),
            "starttime": started,
            "total": bytes(|space| space.f_blocks),
            "avail": bytes(|space| space.f_bavail),
            "minfree": 0,
            "cpu": lower(system.machine()),
            "opsys": lower(system.sysname()),
            "opsysversion": lower(system.release()),
            "load1": load,
            "memory_total": info.totalram.saturating_mul(unit),
            "memory_avail": info.freeram.saturating_mul(unit),
        })
    }
}

/// Sends one datagram; the catalog does not answer.
async fn send(catalog: &str, record: &[u8]) -> std::io::Result<()> {
    let default_port = std::env::var("CATALOG_PORT")
        .ok()
        .and_then(|port| port.parse().ok())
        .unwrap_or(DEFAULT_PORT);
    let address = match catalog.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => {
            let port = port.parse().unwrap_or(default_port);
            tokio::net::lookup_host((host, port)).await?.next()
        }
        _ => tokio::net::lookup_host((catalog, default_port))
            .await?
            .next(),
    };
    let address: SocketAddr =
        address.ok_or_else(|| std::io::Error::other("the name has no address"))?;
    let local: SocketAddr = if address.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(local).await?;
    socket.send_to(record, address).await.map(drop)
}

fn seconds_since_1970() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
