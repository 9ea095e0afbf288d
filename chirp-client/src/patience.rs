//! A time limit on polled streams: so long without a byte, and it is over.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Counts the time since a stream last moved.
pub(crate) struct Patience {
    limit: Duration,
    clock: Option<Pin<Box<Sleep>>>,
    /// Whether the clock counts: only while somebody waits.
    runs: bool,
}

impl Patience {
    pub(crate) const fn new(limit: Duration) -> Self {
        Self {
            limit,
            clock: None,
            runs: false,
        }
    }

    /// Passes a step's outcome on; `Err` once the step has been pending for too long.
    pub(crate) fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        step: Poll<T>,
    ) -> Poll<Result<T, Elapsed>> {
        if let Poll::Ready(value) = step {
            self.runs = false;
            return Poll::Ready(Ok(value));
        }
        let limit = self.limit;
        let clock = self.clock.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.runs {
            clock.as_mut().reset(Instant::now() + limit);
            self.runs = true;
        }
        ready!(clock.as_mut().poll(context));
        self.runs = false;
        Poll::Ready(Err(Elapsed))
    }
}

/// The time is over.
pub(crate) struct Elapsed;
