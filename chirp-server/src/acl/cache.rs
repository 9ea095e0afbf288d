//! What was read from small files (access control lists, tickets), so that a check costs one look at
//! the file's status.
//!
//! An entry is keyed by the *file* and holds only as long as that file's status is the same to
//! the nanosecond. A file changed within the clock's granularity after it was read could look
//! unchanged, so its content is kept only if its last change lies far enough back when it is read.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rustix::fs::Stat;
use rustix::time::ClockId;

/// Files kept at most; when full the cache starts over. With the reference's short lists this is
/// well below a megabyte.
const ENTRIES_MAX: usize = 4096;

/// Bytes of a file above which it is not kept, so that the bound on entries bounds memory.
const SIZE_MAX: i64 = 16 * 1024;

/// How long ago the last change must be. Kernels tick every 1 to 10 milliseconds; network file
/// systems and clock corrections are slower.
const SETTLED_SECONDS: i64 = 2;

/// The cache.
#[derive(Debug)]
pub(crate) struct Cache<T> {
    entries: RwLock<HashMap<FileId, Kept<T>>>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self {
            entries: RwLock::default(),
        }
    }
}

/// Device and inode of a file.
type FileId = (u64, u64);

/// A content, and the stamp of the file it was read from.
type Kept<T> = (Stamp, Arc<T>);

/// What changes when a file's content does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    changed: (i64, u64),
    modified: (i64, u64),
    size: i64,
}

impl<T> Cache<T> {
    /// Returns the content of a file with this status.
    pub(crate) fn find(&self, stat: &Stat) -> Option<Arc<T>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let (stamp, content) = entries.get(&key(stat))?;
        (*stamp == Stamp::of(stat)).then(|| Arc::clone(content))
    }

    /// Keeps something about a file with this status, however young it is. Returns whether nothing was
    /// kept about this state of it.
    pub(crate) fn remark(&self, stat: &Stat, content: &Arc<T>) -> bool {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= ENTRIES_MAX {
            entries.clear();
        }
        let before = entries.insert(key(stat), (Stamp::of(stat), Arc::clone(content)));
        before.is_none_or(|(stamp, _)| stamp != Stamp::of(stat))
    }

    /// Keeps what was read from a file with this status.
    pub(crate) fn keep(&self, stat: &Stat, content: &Arc<T>) {
        let now = rustix::time::clock_gettime(ClockId::RealtimeCoarse).tv_sec;
        let settled = Stamp::of(stat).changed.0.saturating_add(SETTLED_SECONDS) < now;
        if !settled || stat.st_size > SIZE_MAX {
            return;
        }
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= ENTRIES_MAX {
            entries.clear();
        }
        entries.insert(key(stat), (Stamp::of(stat), Arc::clone(content)));
    }
}

impl Stamp {
    #[expect(
        clippy::useless_conversion,
        reason = "the widths of these fields differ between architectures"
    )]
    fn of(stat: &Stat) -> Self {
        Self {
            changed: (stat.st_ctime.into(), stat.st_ctime_nsec.into()),
            modified: (stat.st_mtime.into(), stat.st_mtime_nsec.into()),
            size: stat.st_size.into(),
        }
    }
}

#[expect(
    clippy::useless_conversion,
    reason = "the widths of these fields differ between architectures"
)]
fn key(stat: &Stat) -> FileId {
    (stat.st_dev.into(), stat.st_ino.into())
}
