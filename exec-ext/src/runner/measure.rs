//! How much of the transient directory the temporary directories of running programs take up.
//!
//! Nothing tells of that without privileges, so it is looked at now and then. What counts are files that
//! have names: a program can hide others from this by unlinking what it has open, as it can anywhere. That is why the end of
//! an execution has its room on disk from the start.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::execution::{Execution, Stop};
use super::{DIRECTORY, Shared, temporary};

/// Looking takes at most one part in so many of a processor's time.
const RARER: u32 = 10;

/// Looks at the temporary directories of a table for as long as programs run.
pub(super) async fn watch(table: Weak<Shared>) {
    let mut pause = Duration::ZERO;
    loop {
        let Some(shared) = table.upgrade() else {
            return;
        };
        let every = shared.config.measured_every;
        drop(shared);
        tokio::time::sleep(every.max(pause)).await;
        let Some(shared) = table.upgrade() else {
            return;
        };
        let running = running(&shared);
        if running.is_empty() {
            return;
        }
        let directory = shared.config.transient.join(DIRECTORY);
        let space = Arc::clone(&shared.room.space);
        drop(shared);
        let begun = Instant::now();
        let look = tokio::task::spawn_blocking(move || look(&directory, &running, &space));
        if look.await.is_err() {
            return;
        }
        pause = begun.elapsed() * RARER;
    }
}

/// Returns what runs; where that is nothing, notes that nobody looks any more.
fn running(shared: &Shared) -> Vec<Arc<Execution>> {
    let mut table = shared.table();
    let all = table.by_id.values();
    let running = all.filter(|execution| !execution.has_ended());
    let running: Vec<_> = running.cloned().collect();
    table.measured = !running.is_empty();
    running
}

/// Charges what the directories take up, and ends the largest one's program of each subject that has
/// more than its part.
fn look(directory: &Path, running: &[Arc<Execution>], space: &Budget) {
    let mut largest: HashMap<&str, (usize, &Arc<Execution>)> = HashMap::new();
    for execution in running {
        let Some(share) = execution.temporary() else {
            continue;
        };
        let path = directory.join(format!("{}.tmp", execution.id()));
        let bytes = temporary::size(&path);
        share.set(bytes);
        let subject = largest.entry(execution.subject());
        let known = subject.or_insert((bytes, execution));
        if bytes > known.0 {
            *known = (bytes, execution);
        }
    }
    for (subject, (bytes, execution)) in largest {
        if bytes > 0 && space.is_exceeded(subject) {
            let id = execution.id();
            tracing::warn!(
                id,
                subject,
                bytes,
                "a program is ended: its temporary directory takes too much of the transient directory"
            );
            execution.stop(Stop::Temporary);
        }
    }
}
