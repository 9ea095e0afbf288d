//! The connection that a client has at the moment: after a loss it may be another one.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};

use crate::connection::Connection;

/// The first pause between attempts to connect, after one without any; each is twice as long as
/// the one before, up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(10);

/// One connection.
pub(crate) struct Live {
    pub(crate) connection: Connection,
    /// How many came before it. Descriptors are of one connection, and remember which.
    pub(crate) number: u64,
}

/// The connection of the moment.
pub(crate) struct Current {
    live: RwLock<Arc<Live>>,
    turn: Mutex<()>,
}

impl Current {
    pub(crate) fn new(connection: Connection) -> Self {
        let number = 0;
        Self {
            live: RwLock::new(Arc::new(Live { connection, number })),
            turn: Mutex::new(()),
        }
    }

    /// Returns the connection of the moment.
    pub(crate) fn get(&self) -> Arc<Live> {
        // Only a whole value is ever stored.
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for the turn to replace `lost`: one connects, and whoever waited meanwhile finds the new
    /// connection. `None` if it was replaced already.
    pub(crate) async fn turn(&self, lost: &Live) -> Option<MutexGuard<'_, ()>> {
        let turn = self.turn.lock().await;
        (self.get().number == lost.number).then_some(turn)
    }

    /// Puts another connection in the place of the one of the moment.
    pub(crate) fn replace(&self, _turn: &MutexGuard<'_, ()>, connection: Connection) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        let number = live.number + 1;
        *live = Arc::new(Live { connection, number });
    }
}

/// The time that one call has left to come through, and the pauses within it.
pub(crate) struct Backoff {
    until: Instant,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            until: Instant::now() + limit,
            next: Duration::ZERO,
        }
    }

    /// Pauses before the next attempt; `false` if the time is over before that.
    pub(crate) async fn pause(&mut self) -> bool {
        let pause = self.next;
        if pause > self.left() {
            return false;
        }
        self.next = (pause * 2).clamp(PAUSE_FIRST, PAUSE_LAST);
        sleep(pause).await;
        true
    }

    /// Returns what is left of the time.
    pub(crate) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}
