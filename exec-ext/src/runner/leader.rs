//! The program of an execution as a process: the leader of its session, and its end.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::time::Instant;

use super::enclosure::Enclosure;
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
    enclosure: Option<Arc<Enclosure>>,
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
        enclosure: Option<Enclosure>,
        term_grace: Duration,
        descendants_grace: Duration,
    ) -> Self {
        Self {
            pid,
            exit,
            kin,
            enclosure: enclosure.map(Arc::new),
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
        if let Some(enclosure) = &self.enclosure {
            enclosure.kill();
        }
        self.signal_all(Signal::KILL).await;
    }

    /// Returns when a program that was asked to end now has had enough time.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.term_grace
    }

    /// Ends what the ended program left running, reaps it, and returns how it ended with the ids of those that
    /// could not be ended. `before_reaping` is called while the program's id is still its own. The last call of all.
    pub(super) async fn end(&self, before_reaping: impl FnOnce()) -> (Exit, Vec<u32>) {
        let enclosure = self.enclosure.as_ref();
        let is_empty = enclosure.is_some_and(|it| it.is_empty());
        let mut survivors = Vec::new();
        if !is_empty {
            survivors = self.end_descendants().await;
        }
        before_reaping();
        let exit = self.reap();
        match enclosure {
            None => {}
            // The usual case.
            Some(enclosure) if is_empty && enclosure.is_reusable() => enclosure.give_back(),
            Some(enclosure) => {
                enclosure.kill();
                survivors = self.see_enclosure_end(enclosure).await;
            }
        }
        if !survivors.is_empty() {
            tracing::warn!(?survivors, leader = ?self.pid, "descendants could not be ended");
        }
        (exit, survivors)
    }

    /// Ends descendants by TERM and then by KILL, and returns the ids of those that are left.
    async fn end_descendants(&self) -> Vec<u32> {
        let (pid, kin) = (self.pid, Arc::clone(&self.kin));
        let enclosure = self.enclosure.clone();
        let patience = Patience {
            term: self.descendants_grace,
            kill: KILL_PATIENCE,
        };
        let search = move || match enclosure {
            Some(enclosure) => {
                group::terminate(pid, &kin, patience.term, || enclosure.is_empty());
                Vec::new()
            }
            None => group::end(pid, &kin, patience),
        };
        tokio::task::spawn_blocking(search)
            .await
            .unwrap_or_default()
    }

    /// Waits for the end of the enclosure, and so of everything in it, and returns the ids of those that
    /// are left if it takes too long.
    async fn see_enclosure_end(&self, enclosure: &Arc<Enclosure>) -> Vec<u32> {
        if enclosure.ended(Duration::ZERO) {
            return Vec::new();
        }
        let (enclosure, kin) = (Arc::clone(enclosure), Arc::clone(&self.kin));
        let wait = move || match enclosure.ended(KILL_PATIENCE) {
            true => Vec::new(),
            false => group::kin_left(&kin),
        };
        tokio::task::spawn_blocking(wait).await.unwrap_or_default()
    }

    /// Reaps the ended program.
    fn reap(&self) -> Exit {
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
