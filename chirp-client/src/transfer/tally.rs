//! What a running transfer has done, and what it could not do.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Failure, Incomplete, Summary};
use crate::Error;

/// Failures that are kept with their reasons.
const FAILURES_KEPT: usize = 1000;

/// Counters and failures of one transfer.
pub(super) struct Tally {
    files: AtomicU64,
    directories: AtomicU64,
    links: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<Failure>>,
    progress: Option<Arc<dyn Fn(Summary) + Send + Sync>>,
}

impl Tally {
    pub(super) fn new(progress: Option<Arc<dyn Fn(Summary) + Send + Sync>>) -> Self {
        Self {
            files: AtomicU64::new(0),
            directories: AtomicU64::new(0),
            links: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            failures: Mutex::new(Vec::new()),
            progress,
        }
    }

    pub(super) fn file(&self) {
        self.add(&self.files, 1);
    }

    pub(super) fn directory(&self) {
        self.add(&self.directories, 1);
    }

    pub(super) fn link(&self) {
        self.add(&self.links, 1);
    }

    pub(super) fn bytes(&self, count: usize) {
        self.add(&self.bytes, count as u64);
    }

    fn add(&self, counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Relaxed);
        if let Some(progress) = &self.progress {
            progress(self.summary());
        }
    }

    /// Notes what concerns one entry only; what ends the connection is handed back.
    pub(super) fn note(&self, path: String, result: Result<(), Error>) -> Result<(), Error> {
        match result {
            Ok(()) => Ok(()),
            Err(error) if error.is_fatal() => Err(error),
            Err(error) => {
                self.failed.fetch_add(1, Relaxed);
                // A panic elsewhere leaves the list as it was: usable.
                let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                if failures.len() < FAILURES_KEPT {
                    failures.push(Failure { path, error });
                }
                Ok(())
            }
        }
    }

    fn summary(&self) -> Summary {
        Summary {
            files: self.files.load(Relaxed),
            directories: self.directories.load(Relaxed),
            links: self.links.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }

    /// Ends the transfer: everything copied, or what was not.
    pub(super) fn finish(&self) -> Result<Summary, Error> {
        let copied = self.summary();
        let failed = self.failed.load(Relaxed);
        if failed == 0 {
            return Ok(copied);
        }
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        Err(Error::from(Box::new(Incomplete {
            copied,
            failures: std::mem::take(&mut *failures),
            failed,
        })))
    }
}
