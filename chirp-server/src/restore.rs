//! Notices that the machine was restored from a snapshot, or may have been.
//!
//! What such a machine holds of the world is old: its peers have gone on without it. Its server takes a new
//! run id and closes its connections, while its programs go on (`exec-extension.md`, "What the server
//! guarantees"). Three things tell: a step of the clock of more than ten seconds against the one that only goes
//! forward, as setting a restored machine's clock right makes; the kernel's news of a new generation id; and
//! SIGUSR1, for who restores machines and can run a command in them.

mod clock;
mod generation;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::Context;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::server::Server;
use clock::{Steps, SystemClock};
use generation::Generations;

/// What told that the machine may have been restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// The clock was set by so many seconds, forwards where positive.
    ClockStep(i64),
    /// The hypervisor has given the machine a new generation id.
    Generation,
    /// SIGUSR1.
    Told,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClockStep(seconds) => write!(f, "the clock was set by {seconds:+} s"),
            Self::Generation => f.write_str("the machine has a new generation id"),
            Self::Told => f.write_str("SIGUSR1 says so"),
        }
    }
}

/// What is looked at for signs.
#[derive(Debug)]
pub struct Watch {
    steps: Steps<SystemClock>,
    generations: Option<Generations>,
    told: Signal,
}

impl Watch {
    /// Begins to look; from here on SIGUSR1 does not end the process.
    ///
    /// # Errors
    ///
    /// The runtime cannot wait for signals.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            steps: Steps::new(SystemClock::new()),
            generations: Generations::open(),
            told: signal(SignalKind::user_defined1()).context("cannot wait for signals")?,
        })
    }

    /// Renews the server's run at each sign, for ever.
    pub async fn run(mut self, server: Arc<Server>) {
        loop {
            let sign = self.sign().await;
            let before = server.identity.run();
            let detached = server.renew();
            tracing::warn!(
                %sign, before, run = server.identity.run(), detached,
                "this machine may have been restored from a snapshot: a new run begins, all connections are \
                 closed, programs go on"
            );
        }
    }

    async fn sign(&mut self) -> Sign {
        let generation = async {
            match &self.generations {
                Some(generations) => generations.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            seconds = self.steps.next() => Sign::ClockStep(seconds),
            () = generation => Sign::Generation,
            Some(()) = self.told.recv() => Sign::Told,
        }
    }
}

/// Lets the runtime tell when there is something to read.
fn watched(handle: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        deprecated,
        reason = "what replaces it is unsafe, because of handles that are closed behind its back: not an owned one"
    )]
    AsyncFd::with_interest(handle, Interest::READABLE)
}
