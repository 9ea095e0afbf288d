//! Notices that the machine was restored from a snapshot, or may have been.
//!
//! What such a machine holds of the world is old: its peers have gone on without it. Its server takes a new
//! run id and closes its connections, while its programs go on (`exec-extension.md`, "What the server
//! guarantees"). These tell:
//!
//! * the hypervisor's news of a new generation id, which is the surest: under QEMU with its device `vmgenid`, on any
//!   kernel with ACPI, a second after the restore at most; from Linux 6.10 on under others with such a device;
//! * a step of the clock of more than ten seconds against the one that only goes forward, as setting a restored
//!   machine's clock right makes;
//! * where there is no generation id, the same of the machine's own battery clock, which goes on with the host's
//!   time whatever becomes of the machine. A machine that was paused for as long cannot be told from a restored one;
//! * SIGUSR1, for who restores machines and can run a command in them.

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
use clock::{BatteryClock, Steps, SystemClock};
use generation::{Generations, Notifications};

/// What told that the machine may have been restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// The clock was set by so many seconds, forwards where positive.
    ClockStep(i64),
    /// The battery's clock went on by so many seconds while the machine stood still, or was set.
    BatteryStep(i64),
    /// The hypervisor has given the machine a new generation id.
    Generation,
    /// SIGUSR1.
    Told,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClockStep(seconds) => write!(f, "the clock was set by {seconds:+} s"),
            Self::BatteryStep(seconds) => {
                write!(
                    f,
                    "the battery's clock went {seconds:+} s without the machine"
                )
            }
            Self::Generation => f.write_str("the machine has a new generation id"),
            Self::Told => f.write_str("SIGUSR1 says so"),
        }
    }
}

/// How the generation of the machine is known, by the best way there is.
#[derive(Debug)]
enum Generation {
    /// The hypervisor's notifications are counted.
    Counted(Notifications),
    /// The kernel tells, if it can, and the battery's clock is looked at, if there is one.
    Guessed(Option<Generations>, Option<Steps<BatteryClock>>),
}

/// What is looked at for signs.
#[derive(Debug)]
pub struct Watch {
    steps: Steps<SystemClock>,
    generation: Generation,
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
            generation: match Notifications::open() {
                Some(notifications) => Generation::Counted(notifications),
                None => {
                    Generation::Guessed(Generations::open(), BatteryClock::open().map(Steps::new))
                }
            },
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
        tokio::select! {
            seconds = self.steps.next() => Sign::ClockStep(seconds),
            sign = self.generation.next() => sign,
            Some(()) = self.told.recv() => Sign::Told,
        }
    }
}

impl Generation {
    /// Waits for another generation.
    ///
    /// Cancel safe.
    async fn next(&mut self) -> Sign {
        match self {
            Self::Counted(notifications) => {
                notifications.next().await;
                Sign::Generation
            }
            Self::Guessed(generations, battery) => {
                let told = async {
                    match generations {
                        Some(generations) => generations.next().await,
                        None => std::future::pending().await,
                    }
                };
                let stepped = async {
                    match battery {
                        Some(battery) => battery.next().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = told => Sign::Generation,
                    seconds = stepped => Sign::BatteryStep(seconds),
                }
            }
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
