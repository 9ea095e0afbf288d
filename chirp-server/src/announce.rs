//! Presence: tells the host by STOMP that this server takes requests, and when it leaves
//! (`stomp-presence.md`).

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use beacon::announcer::FreeSpace;
use beacon::{Announcer, AnnouncerConfig, Template};
use rustix::fs::{Mode, OFlags};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Args;
use crate::features::Identity;
use crate::settings::Settings;

/// Returns the address of the host whose rights a fresh tree gets, where it is known.
pub async fn host(settings: &Settings) -> Option<IpAddr> {
    let presence = settings.presence.as_ref()?;
    beacon::net::host_address(presence.broker.as_ref(), presence.broker_port).await
}

/// An announcer at work, or none.
#[derive(Debug)]
pub struct Announcing(Option<(CancellationToken, JoinHandle<()>)>);

/// Starts announcing in the background, if asked to. The server must take requests by then.
///
/// # Errors
///
/// The exported directory cannot be opened to measure its free space.
pub fn start(
    args: &Args,
    settings: &Settings,
    identity: &Identity,
    address: SocketAddr,
) -> anyhow::Result<Announcing> {
    let Some(presence) = &settings.presence else {
        return Ok(Announcing(None));
    };
    let template = Template {
        name: settings.name.clone(),
        ip: args.interface,
        announce_as: presence.announce_as.clone(),
        interface: presence.interface.clone(),
        boot: identity.boot.clone(),
        run: identity.run(),
        caps: identity.capabilities(args.exec),
        ..Template::new(address.port(), Identity::PROGRAM)
    };
    let config = AnnouncerConfig {
        broker: presence.broker.clone(),
        broker_port: presence.broker_port,
        destination: presence.destination.clone(),
        link: presence.link.clone(),
        interval: presence.interval,
        runs: Some(identity.runs()),
        free: Some(free_space(&settings.root)?),
        ..AnnouncerConfig::new(template)
    };
    let token = CancellationToken::new();
    let task = tokio::spawn(Announcer::new(config).run(token.clone()));
    Ok(Announcing(Some((token, task))))
}

impl Announcing {
    /// Says that the server leaves, and waits a bounded time until that was heard.
    pub async fn stop(self) {
        let Some((token, task)) = self.0 else { return };
        token.cancel();
        if let Err(error) = task.await {
            tracing::warn!(%error, "the announcer failed");
        }
    }
}

fn free_space(root: &Path) -> anyhow::Result<FreeSpace> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::open(root, flags, Mode::empty())
        .with_context(|| format!("cannot open {}", root.display()))?;
    Ok(Arc::new(move || {
        let space = rustix::fs::fstatvfs(&handle).ok()?;
        space.f_bavail.checked_mul(space.f_frsize)
    }))
}
