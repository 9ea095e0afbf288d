//! What this server can do besides plain Chirp, as `features` and the beacons tell it.

use std::collections::BTreeMap;

use exec_ext::status::{FeatureLimits, Features, SandboxFeatures};
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

/// The ids that tell one start of machine and server from another. `features` and the beacons carry
/// the same ones, so that nobody can announce an address where somebody else answers.
#[derive(Debug)]
pub struct Identity {
    /// This start of the machine.
    pub boot: String,
    /// This start of the server, or the time since its machine was restored.
    run: watch::Sender<String>,
}

impl Identity {
    /// The program and its version.
    pub const PROGRAM: &'static str = concat!("chirp-server ", env!("CARGO_PKG_VERSION"));

    /// Finds out the machine's id and makes one for this start.
    #[must_use]
    pub fn new() -> Self {
        Self {
            boot: beacon::net::boot_id().unwrap_or_else(beacon::net::new_id),
            run: watch::Sender::new(beacon::net::new_id()),
        }
    }

    /// Returns the id of the present run.
    #[must_use]
    pub fn run(&self) -> String {
        self.run.borrow().clone()
    }

    /// Returns the id of the present run, and of each that follows.
    #[must_use]
    pub fn runs(&self) -> watch::Receiver<String> {
        self.run.subscribe()
    }

    /// Begins another run.
    pub fn renew(&self) {
        self.run.send_replace(id_after_restore());
    }

    /// Returns the capabilities that beacons announce: those of `features`.
    #[must_use]
    pub fn capabilities(&self, exec: bool) -> BTreeMap<String, i64> {
        let always = ["sha256", "store"].map(|name| (name.to_owned(), 1));
        let exec = exec.then(|| ("exec".to_owned(), 1));
        exec.into_iter().chain(always).collect()
    }
}

/// Returns an id that no other life of this machine gets. Two restores of one snapshot go on with the same random
/// numbers until the kernel has gathered others; what differs is the time.
fn id_after_restore() -> String {
    let clocks = [ClockId::Realtime, ClockId::Boottime, ClockId::MonotonicRaw].map(clock_gettime);
    let battery = std::fs::read("/sys/class/rtc/rtc0/since_epoch").unwrap_or_default();
    let mut hash = Sha256::new();
    hash.update(beacon::net::new_id());
    hash.update(format!("{clocks:?}"));
    hash.update(battery);
    let mut bytes = [0; 16];
    for (byte, hashed) in bytes.iter_mut().zip(hash.finalize()) {
        *byte = hashed;
    }
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}

impl Default for Identity {
    fn default() -> Self {
        Self::new()
    }
}

/// The answer to `features`.
#[derive(Debug)]
pub struct Answer(Features);

impl Answer {
    /// Returns the answer of a server that runs programs or does not.
    #[must_use]
    pub fn new(
        identity: &Identity,
        exec: bool,
        sandbox: SandboxFeatures,
        limits: FeatureLimits,
    ) -> Self {
        Self(Features {
            server: Identity::PROGRAM.to_owned(),
            boot: identity.boot.clone(),
            run: String::new(),
            features: identity
                .capabilities(exec)
                .into_iter()
                .map(|(name, version)| (name, version.unsigned_abs()))
                .collect(),
            sandbox,
            limits,
        })
    }

    /// Returns its text in that run.
    ///
    /// # Errors
    ///
    /// None that is known: the value is plain data.
    pub fn text(&self, run: String) -> serde_json::Result<String> {
        let mut features = self.0.clone();
        features.run = run;
        serde_json::to_string(&features)
    }
}
