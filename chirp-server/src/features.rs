//! What this server can do besides plain Chirp, as `features` and the beacons tell it.

use std::collections::BTreeMap;

use exec_ext::status::{FeatureLimits, Features, SandboxFeatures};

/// The ids that tell one start of machine and server from another. `features` and the beacons carry
/// the same ones, so that nobody can announce an address where somebody else answers.
#[derive(Clone, Debug)]
pub struct Identity {
    /// This start of the machine.
    pub boot: String,
    /// This start of the server.
    pub run: String,
}

impl Identity {
    /// The program and its version.
    pub const PROGRAM: &'static str = concat!("chirp-server ", env!("CARGO_PKG_VERSION"));

    /// Finds out the machine's id and makes one for this start.
    #[must_use]
    pub fn new() -> Self {
        Self {
            boot: beacon::net::boot_id().unwrap_or_else(beacon::net::new_id),
            run: beacon::net::new_id(),
        }
    }

    /// Returns the capabilities that beacons announce: those of `features`.
    #[must_use]
    pub fn capabilities(&self, exec: bool) -> BTreeMap<String, i64> {
        let always = ["sha256", "store"].map(|name| (name.to_owned(), 1));
        let exec = exec.then(|| ("exec".to_owned(), 1));
        exec.into_iter().chain(always).collect()
    }

    /// Returns the answer to `features`.
    ///
    /// # Errors
    ///
    /// None that is known: the value is plain data.
    pub fn features(
        &self,
        exec: bool,
        sandbox: SandboxFeatures,
        limits: FeatureLimits,
    ) -> serde_json::Result<String> {
        serde_json::to_string(&Features {
            server: Self::PROGRAM.to_owned(),
            boot: self.boot.clone(),
            run: self.run.clone(),
            features: self
                .capabilities(exec)
                .into_iter()
                .map(|(name, version)| (name, version.unsigned_abs()))
                .collect(),
            sandbox,
            limits,
        })
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::new()
    }
}
