//! What a running transfer has done, and what it could not do.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Action, Event, Events, Failure, Incomplete, Summary, TransferOptions};
use crate::Error;

/// Failures that are kept with their reasons.
const FAILURES_KEPT: usize = 1000;

/// A number of [`Summary`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    Files,
    Directories,
    Links,
    Bytes,
    Skipped,
    Deleted,
    Direct,
    Unset,
    TotalFiles,
    TotalBytes,
}

/// Counters and failures of one transfer. Clones are the same one.
#[derive(Clone)]
pub(super) struct Tally(Arc<Inner>);

struct Inner {
    counts: [AtomicU64; 10],
    failed: AtomicU64,
    failures: Mutex<Vec<Failure>>,
    progress: Option<Arc<dyn Fn(Summary) + Send + Sync>>,
    events: Option<Events>,
}

impl Tally {
    pub(super) fn new(options: &TransferOptions) -> Self {
        Self(Arc::new(Inner {
            counts: Default::default(),
            failed: AtomicU64::new(0),
            failures: Mutex::new(Vec::new()),
            progress: options.progress.clone(),
            events: options.events.clone(),
        }))
    }

    /// Adds to a number.
    pub(super) fn add(&self, count: Count, amount: u64) {
        if let Some(counter) = self.0.counts.get(count as usize) {
            counter.fetch_add(amount, Relaxed);
        }
        if let Some(progress) = &self.0.progress {
            progress(self.summary());
        }
    }

    /// Adds one.
    pub(super) fn one(&self, count: Count) {
        self.add(count, 1);
    }

    /// Adds bytes of content.
    pub(super) fn bytes(&self, count: usize) {
        self.add(Count::Bytes, count as u64);
    }

    /// Says what is done; the path is only made where somebody listens.
    pub(super) fn event(&self, action: Action, bytes: u64, path: impl FnOnce() -> String) {
        if let Some(events) = &self.0.events {
            let path = &path();
            events(Event {
                action,
                path,
                bytes,
            });
        }
    }

    /// Notes what concerns one entry only; what ends the connection is handed back.
    pub(super) fn note(
        &self,
        path: impl FnOnce() -> String,
        result: Result<(), Error>,
    ) -> Result<(), Error> {
        match result {
            Ok(()) => Ok(()),
            Err(error) if error.is_fatal() => Err(error),
            Err(error) => {
                self.failure(path(), error);
                Ok(())
            }
        }
    }

    /// Notes an entry that could not be copied.
    pub(super) fn failure(&self, path: String, error: Error) {
        self.0.failed.fetch_add(1, Relaxed);
        // A panic elsewhere leaves the list as it was: usable.
        let mut failures = self
            .0
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if failures.len() < FAILURES_KEPT {
            failures.push(Failure { path, error });
        }
    }

    pub(super) fn summary(&self) -> Summary {
        let [
            files,
            directories,
            links,
            bytes,
            skipped,
            deleted,
            direct,
            unset,
            total_files,
            total_bytes,
        ] = self
            .0
            .counts
            .each_ref()
            .map(|counter| counter.load(Relaxed));
        Summary {
            files,
            directories,
            links,
            bytes,
            skipped,
            deleted,
            direct,
            unset,
            total_files,
            total_bytes,
        }
    }

    /// Ends the transfer: everything copied, or what was not.
    pub(super) fn finish(&self) -> Result<Summary, Error> {
        let copied = self.summary();
        let failed = self.0.failed.load(Relaxed);
        if failed == 0 {
            return Ok(copied);
        }
        let mut failures = self
            .0
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Err(Error::from(Box::new(Incomplete {
            copied,
            failures: std::mem::take(&mut *failures),
            failed,
        })))
    }
}
