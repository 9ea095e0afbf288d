//! What is done for allocations beside the requests: now and then their figures are brought to the
//! disk, and where programs ran, the tree is counted anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::jobs::Jobs;
use crate::server::Server;

/// How old the figures on the disk may be, and how long what programs wrote may go uncounted.
const EVERY: Duration = Duration::from_secs(30);

/// A count may take one part in so many of the time.
const SHARE: u32 = 10;

/// Looks after the allocations until it is aborted; ends at once where there are none.
pub async fn upkeep(server: Arc<Server>) {
    let mut pause = EVERY;
    while server.export.space().has_allocations() {
        tokio::time::sleep(pause).await;
        let programs = server.exec.as_ref().is_some_and(|exec| {
            let all = exec.executions.list("", true);
            all.iter().any(|execution| execution.ended.is_none())
        });
        let running = programs || server.jobs.as_ref().is_some_and(Jobs::is_working);
        let begun = Instant::now();
        let space = server.export.space().clone();
        let work = tokio::task::spawn_blocking(move || {
            if let Err(errno) = space.recount() {
                tracing::warn!(%errno, "cannot count what the tree takes");
            }
            // What still runs changes it again.
            if running {
                space.changed_outside();
            }
            space.save();
        });
        // It can only fail to be waited for when the server ends.
        let _ = work.await;
        pause = EVERY.max(begun.elapsed() * SHARE);
    }
}
