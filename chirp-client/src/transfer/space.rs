//! Whether a tree fits, known before its first byte goes.

use std::collections::HashSet;
use std::path::Path;

use chirp_proto::{StatFs, VirtualPath};

use super::facts::{Facts, Kind};
use super::job::Job;
use super::tally::Count;
use crate::Error;
use crate::error::printable;

/// What a tree has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Regular files.
    pub(super) files: u64,
    /// Their bytes, as they are counted while they go.
    pub(super) bytes: u64,
    /// Bytes that the copy takes on disk.
    pub(super) need: u64,
}

impl Totals {
    /// Adds an entry; `known` has the files with several names that were counted.
    pub(super) fn add(&mut self, facts: &Facts, known: &mut HashSet<(u64, u64)>) {
        if facts.kind != Kind::File || facts.shared.is_some_and(|file| !known.insert(file)) {
            return;
        }
        self.files += 1;
        self.bytes = self.bytes.saturating_add(facts.size);
        self.need = self.need.saturating_add(facts.need());
    }

    /// Counts a local tree. What cannot be read counts for nothing: it fails when it is its turn.
    /// Blocks.
    pub(super) fn of_local_tree(root: &Path) -> Self {
        let (mut totals, mut known) = (Self::default(), HashSet::new());
        let entries = walkdir::WalkDir::new(root).min_depth(1);
        for entry in entries.into_iter().filter_map(Result::ok) {
            if entry.file_type().is_file()
                && let Ok(found) = entry.metadata()
            {
                totals.add(&Facts::metadata(&found), &mut known);
            }
        }
        totals
    }

    /// Tells the callers what is to come.
    pub(super) fn announce(&self, job: &Job<'_>) {
        job.tally.add(Count::TotalFiles, self.files);
        job.tally.add(Count::TotalBytes, self.bytes);
    }
}

/// Returns the bytes that may be written where `target` is or will be; `None` where the server does
/// not say.
pub(super) async fn remote(job: &Job<'_>, target: &VirtualPath) -> Result<Option<u64>, Error> {
    let mut place = target.clone();
    loop {
        match job.client.statfs(&place).await {
            Ok(found) => return Ok(Some(available(&found))),
            Err(Error::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        // A file, or not there yet: the directory that it lies in will say.
        let Some((parent, _)) = place.split_last() else {
            return Ok(None);
        };
        match VirtualPath::from_decoded(parent) {
            Ok(parent) => place = parent,
            Err(_) => return Ok(None),
        }
    }
}

fn available(found: &StatFs) -> u64 {
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    number(found.block_size).saturating_mul(number(found.blocks_available))
}

/// Returns the bytes that may be written below a local directory that is open. Blocks.
pub(super) fn local(directory: &super::local::Directory) -> Option<u64> {
    let found = directory.statvfs()?;
    Some(found.f_frsize.saturating_mul(found.f_bavail))
}

/// Refuses a copy that does not fit.
pub(super) fn check(
    job: &Job<'_>,
    place: impl FnOnce() -> String,
    needed: u64,
    available: Option<u64>,
) -> Result<(), Error> {
    match available {
        Some(available) if needed > available && !job.options.ignore_space => Err(Error::NoSpace {
            place: place(),
            needed,
            available,
        }),
        _ => Ok(()),
    }
}

/// Names a remote directory in messages.
pub(super) fn named(job: &Job<'_>, path: &VirtualPath) -> String {
    format!("{}:{}", job.client.host(), printable(path.as_bytes()))
}
