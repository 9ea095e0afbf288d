//! Parsed lists, so that a check costs one look at the file's status.
//!
//! An entry is keyed by the list *file* and holds only as long as that file's status is the same to
//! the nanosecond. A file changed within the clock's granularity after it was read could look
//! unchanged, so a list is kept only if its last change lies far enough back when it is read.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rustix::fs::Stat;
use rustix::time::ClockId;

use chirp_proto::acl::Acl;

/// Lists kept at most; when full the cache starts over. With the reference's short lists this is
/// well below a megabyte.
const ENTRIES_MAX: usize = 4096;

/// Bytes of a list's file above which it is not kept, so that the bound on entries bounds memory.
const SIZE_MAX: i64 = 16 * 1024;

/// How long ago the last change must be. Kernels tick every 1 to 10 milliseconds; network file
/// systems and clock corrections are slower.
const SETTLED_SECONDS: i64 = 2;

/// The cache.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: RwLock<HashMap<FileId, Kept>>,
}

/// Device and inode of a list's file.
type FileId = (u64, u64);

/// A list, and the stamp of the file it was read from.
type Kept = (Stamp, Arc<Acl>);

/// What changes when a file's content does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    changed: (i64, u64),
    modified: (i64, u64),
    size: i64,
}

impl Cache {
    /// Returns the list of a file with this status.
    pub(super) fn find(&self, stat: &Stat) -> Option<Arc<Acl>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let (stamp, acl) = entries.get(&key(stat))?;
        (*stamp == Stamp::of(stat)).then(|| Arc::clone(acl))
    }

    /// Keeps a list that was read from a file with this status.
    pub(super) fn keep(&self, stat: &Stat, acl: &Arc<Acl>) {
        let now = rustix::time::clock_gettime(ClockId::RealtimeCoarse).tv_sec;
        let settled = Stamp::of(stat).changed.0.saturating_add(SETTLED_SECONDS) < now;
        if !settled || stat.st_size > SIZE_MAX {
            return;
        }
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= ENTRIES_MAX {
            entries.clear();
        }
        entries.insert(key(stat), (Stamp::of(stat), Arc::clone(acl)));
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
