//! The program of an execution as a process: the leader of its session, and its end.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::time::Instant;

use super::group::{self, Patience};
use super::kin::Kin;
use super::sys::{self, Exit, ExitWatch};

/// How long killed descendants may take to disappear before they are reported as survivors.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// A started program. It stays unreaped until [`Leader::reap`], so that its id stays its own.
pub(super) struct Leader {
    pid: Pid,
    exit: ExitWatch,
    kin: Arc<Kin>,
    term_grace: Duration,
    descendants_grace: Duration,
}

impl Leader {
    /// Takes over a started program. `term_grace` is from TERM to KILL, `descendants_grace` likewise
    /// for what it leaves behind.
    pub(super) fn new(
        pid: Pid,
        exit: ExitWatch,
        kin: Arc<Kin>,
        term_grace: Duration,
        descendants_grace: Duration,
    ) -> Self {
        Self {
            pid,
            exit,
            kin,
            term_grace,
            descendants_grace,
        }
    }

    /// Returns once the program has ended.
    pub(super) async fn exited(&self) {
        if self.exit.exited().await.is_err() {
            // The runtime is going away; nobody is left to serve.
            let _ = sys::signal_group(self.pid, libc::SIGKILL);
        }
    }

    /// Asks the program and its descendants to end.
    pub(super) async fn terminate(&self) {
        self.signal_all(Signal::TERM).await;
        self.signal_all(Signal::CONT).await;
    }

    /// Kills the program and its descendants.
    pub(super) async fn kill(&self) {
        self.signal_all(Signal::KILL).await;
    }

    /// Returns when a program that was asked to end now has had enough time.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.term_grace
    }

    /// Ends what the ended program left running. Returns the ids of those that could not be ended.
    pub(super) async fn end_descendants(&self) -> Vec<u32> {
        let (pid, kin) = (self.pid, Arc::clone(&self.kin));
        let patience = Patience {
            term: self.descendants_grace,
            kill: KILL_PATIENCE,
        };
        let search = move || group::end(pid, &kin, patience);
        let survivors = tokio::task::spawn_blocking(search)
            .await
            .unwrap_or_default();
        if !survivors.is_empty() {
            tracing::warn!(?survivors, leader = ?pid, "descendants could not be ended");
        }
        survivors
    }

    /// Reaps the ended program.
    pub(super) fn reap(&self) -> Exit {
        match sys::reap(self.pid) {
            Ok(Some(exit)) => exit,
            // Only this reaps our children; if somebody else did, nothing is known of the end.
            Ok(None) | Err(_) => Exit {
                exited: false,
                code: libc::SIGKILL,
                resources: crate::status::Resources::default(),
            },
        }
    }

    async fn signal_all(&self, signal: Signal) {
        let (pid, kin) = (self.pid, Arc::clone(&self.kin));
        // The group at once, whatever the search for the others meets.
        let _ = sys::signal_group(pid, signal.as_raw());
        let search = move || group::signal_descendants(pid, &kin, signal);
        // It can only fail with the runtime.
        let _ = tokio::task::spawn_blocking(search).await;
    }
}
