//! What the tests share: a host that listens, guests that announce themselves, raw connections.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test binary uses its own part of it; a test that fails this way has failed as it should"
)]

#[path = "../../../beacon/tests/support/mod.rs"]
pub mod wire;

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use beacon::registry::GuestState;
use beacon::subscriber::{Heard, SubscriberConfig, subscribe};
use beacon::{
    Announcer, AnnouncerConfig, Beacon, Credentials, HostPort, LinkConfig, MacId, Registry,
    RegistryConfig, Template,
};
use brokers::broker::{agent_account, guest_account};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn link(account: Credentials) -> LinkConfig {
    LinkConfig {
        credentials: Some(account),
        retry_first: Duration::from_millis(50),
        retry_most: Duration::from_millis(500),
        ..LinkConfig::default()
    }
}

pub fn host_port(address: SocketAddr) -> HostPort {
    HostPort::new(address.ip().to_string(), address.port())
}

/// A running announcer.
pub struct Guest {
    token: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Guest {
    pub fn start(broker: SocketAddr, name: &str) -> Self {
        let mut template = Template::new(9094, "test 1");
        template.name = Some(name.to_owned());
        let mut config = AnnouncerConfig::new(template);
        config.broker = Some(host_port(broker));
        config.interval = Duration::from_millis(200);
        config.link = link(guest_account());
        let token = CancellationToken::new();
        let task = tokio::spawn(Announcer::new(config).run(token.clone()));
        Self { token, task }
    }

    pub async fn stop(self) {
        self.token.cancel();
        timeout(PATIENCE, self.task)
            .await
            .expect("the announcer stops")
            .unwrap();
    }
}

/// A subscriber with the registry that it feeds.
pub struct Host {
    heard: mpsc::Receiver<Heard>,
    pub registry: Registry,
    token: CancellationToken,
    /// Every beacon heard, in its order.
    pub seen: Vec<Beacon>,
}

impl Host {
    /// Starts listening with the agent's account.
    pub fn start(broker: SocketAddr) -> Self {
        Self::start_with(broker, |_| {})
    }

    pub fn start_with(broker: SocketAddr, change: impl FnOnce(&mut SubscriberConfig)) -> Self {
        let mut config = SubscriberConfig::new(host_port(broker));
        config.link = link(agent_account());
        change(&mut config);
        let (sender, heard) = mpsc::channel(16);
        let token = CancellationToken::new();
        tokio::spawn(subscribe(config, sender, token.clone()));
        let registry = Registry::new(RegistryConfig {
            // Guests beat faster here than they may elsewhere.
            announcements_per_second: 100,
            ..RegistryConfig::default()
        });
        Self {
            heard,
            registry,
            token,
            seen: Vec::new(),
        }
    }

    pub async fn next(&mut self) -> Heard {
        let heard = timeout(PATIENCE, self.heard.recv())
            .await
            .expect("news in time")
            .expect("news");
        if let Heard::Beacon { beacon, peer } = &heard {
            self.seen.push(beacon.clone());
            self.registry
                .handle(beacon, *peer, Instant::now(), SystemTime::now());
        }
        heard
    }

    pub async fn up(&mut self) {
        while self.next().await != Heard::Up {}
    }

    pub async fn down(&mut self) -> String {
        loop {
            if let Heard::Down(why) = self.next().await {
                return why;
            }
        }
    }

    /// Feeds the registry until the guest of that name is in that state; returns its id.
    pub async fn until(&mut self, name: &str, state: GuestState) -> MacId {
        loop {
            let found = self
                .registry
                .all()
                .find(|guest| guest.name() == name && guest.state() == state);
            if let Some(guest) = found {
                return guest.id();
            }
            self.next().await;
        }
    }

    /// Feeds the registry until so many guests are in that state.
    pub async fn until_count(&mut self, count: usize, state: GuestState) {
        while self
            .registry
            .all()
            .filter(|guest| guest.state() == state)
            .count()
            < count
        {
            self.next().await;
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

/// The header lines of an account.
pub fn login(account: &Credentials) -> String {
    format!(
        "host:/\nlogin:{}\npasscode:{}\n",
        account.login, account.passcode
    )
}
