//! Going through the directories of a subtree. What was gone through before and has not changed since is
//! not read again: that takes a few system calls a directory, however many files are in it.

use std::mem::MaybeUninit;
use std::sync::Arc;

use rustix::fs::{FileType, RawDir, Stat};
use rustix::io::Errno;
use rustix::time::ClockId;

use super::identity::{Id, Look, Time};
use super::list::List;
use super::state::{Known, Seen};
use super::{DIRECTORIES_MAX, Guard, Unkept};
use crate::acl::file;
use crate::vfs::walk::DEPTH_MAX;
use crate::vfs::{ACL_NAME, Dir, is_reserved, tree};

/// How long ago a change must be for a later one to have another time. Kernels tick every 1 to 10
/// milliseconds; network file systems and clock corrections are slower.
const SETTLED_SECONDS: i64 = 2;

/// Bytes of entries that are read at once.
const BATCH: usize = 16 * 1024;

/// The names of the directories in one.
pub(super) type Names = Arc<[Box<[u8]>]>;

/// A directory that was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) id: Id,
    pub(super) list: List,
    pub(super) seen: Option<Seen>,
}

/// What counts for a directory that a program made.
#[derive(Clone, Debug)]
pub(super) struct Above {
    /// The list of the directory that it is in.
    pub(super) list: List,
    /// The subtrees that it is part of, for as long as they are kept.
    pub(super) subtrees: Vec<u64>,
}

/// A way through a tree, by handles: directories only, links not followed, those of the server left out.
/// `T` is what is remembered of each directory on the way.
#[derive(Debug)]
pub(super) struct Tour<T> {
    levels: Vec<Level<T>>,
    path: Vec<u8>,
}

#[derive(Debug)]
struct Level<T> {
    dir: Dir,
    names: Names,
    next: usize,
    data: T,
    /// Bytes of the path that are its own and those of the levels above.
    path: usize,
}

impl<T> Tour<T> {
    /// Starts at a directory with this path.
    pub(super) fn new(path: &[u8]) -> Self {
        Self {
            levels: Vec::new(),
            path: path.to_vec(),
        }
    }

    /// Goes into the directory that was just opened, or the first one.
    pub(super) fn enter(&mut self, dir: Dir, names: Names, data: T) {
        if self.levels.len() >= DEPTH_MAX && !names.is_empty() {
            // No path of the protocol's leads there.
            tracing::warn!(target: "exec", directory = %self.path.escape_ascii(), "directories so deep that no client reaches them are left as they are");
            return;
        }
        self.levels.push(Level {
            dir,
            names,
            next: 0,
            data,
            path: self.path.len(),
        });
    }

    /// Opens the next directory; what is gone or none any more is passed over.
    pub(super) fn next(&mut self) -> Option<Result<Dir, Errno>> {
        loop {
            let level = self.levels.last_mut()?;
            self.path.truncate(level.path);
            let Some(name) = level.names.get(level.next) else {
                self.levels.pop();
                continue;
            };
            level.next += 1;
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            match level.dir.child(name) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                other => return Some(other),
            }
        }
    }

    /// Returns what is remembered of the directory that the last opened one is in.
    pub(super) fn data(&self) -> Option<&T> {
        self.levels.last().map(|level| &level.data)
    }

    /// Returns the path of the last opened directory.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }
}

impl Guard {
    /// Finds a directory and all below it that clients may reach, with their lists.
    ///
    /// # Errors
    ///
    /// [`Unkept`].
    pub(super) fn survey(&self, top: &Dir) -> Result<Vec<Found>, Unkept> {
        let mut all = Vec::new();
        let mut tour = Tour::new(b"");
        let mut dir = top.clone();
        let mut above = self.above(top)?;
        loop {
            let (found, below) = self.find(&dir, above.as_ref())?;
            let mut subtrees = above.take().map_or_else(Vec::new, |above| above.subtrees);
            subtrees.extend(self.state().beginning(&found.id));
            let governing = (!subtrees.is_empty()).then(|| Above {
                list: found.list.clone(),
                subtrees,
            });
            all.push(found);
            if all.len() > DIRECTORIES_MAX {
                return Err(Unkept::Directories);
            }
            tour.enter(dir, below, governing);
            dir = match tour.next() {
                None => return Ok(all),
                Some(opened) => opened?,
            };
            above = tour.data().cloned().flatten();
        }
    }

    /// Returns what counts for a directory that is not on record; none where the tree does.
    fn above(&self, dir: &Dir) -> Result<Option<Above>, Errno> {
        let lineage = self.lineage(dir)?;
        let subtrees: Vec<u64> = self.state().covering(&lineage).into_iter().collect();
        if subtrees.is_empty() {
            return Ok(None);
        }
        let list = self.kept(dir)?;
        Ok(list.map(|list| Above { list, subtrees }))
    }

    /// Looks at one directory, of which `above` says what counts if it is not on record.
    pub(super) fn find(&self, dir: &Dir, above: Option<&Above>) -> Result<(Found, Names), Unkept> {
        let look = self.look(dir)?;
        // Asked in one moment: where the last program ended just before, the tree was put right and counts.
        let (known, above) = {
            let state = self.state();
            let above = above.filter(|above| state.any_counts(&above.subtrees));
            (state.known(&look.id), above)
        };
        let (list, list_changed) = match (&known, above) {
            (Some((known, true)), _) => (known.list.clone(), None),
            (_, Some(above)) => (above.list.clone(), None),
            (known, None) => self.read(dir, known.as_ref().map(|(known, _)| known))?,
        };
        let (below, settled) = self.below(dir, &look, known.as_ref().map(|(known, _)| known))?;
        let seen = settled.then(|| Seen {
            changed: look.changed,
            below: Arc::clone(&below),
            list_changed,
        });
        let id = look.id;
        Ok((Found { id, list, seen }, below))
    }

    /// Looks at a directory, which the server's account gets all rights in that is its own.
    pub(super) fn look(&self, dir: &Dir) -> Result<Look, Errno> {
        let look = self.identities.of(dir)?;
        let own = look.owner == rustix::process::geteuid().as_raw();
        if look.mode & 0o700 == 0o700 || !own {
            return Ok(look);
        }
        tree::make_passable(dir);
        self.identities.of(dir)
    }

    /// Returns the directories in a directory that was looked at before, and whether that can be
    /// remembered.
    pub(super) fn below(
        &self,
        dir: &Dir,
        look: &Look,
        known: Option<&Known>,
    ) -> Result<(Names, bool), Errno> {
        let seen = known.and_then(|known| known.seen.as_ref());
        if let Some(seen) = seen.filter(|seen| seen.changed == look.changed) {
            return Ok((Arc::clone(&seen.below), true));
        }
        match directories_in(dir) {
            Ok(names) => Ok((names.into(), is_settled(look.changed))),
            // What the server's account cannot read no program can.
            Err(Errno::ACCESS) => Ok((Arc::default(), false)),
            Err(errno) => Err(errno),
        }
    }

    /// Reads the list of a directory, with the time of its last change if that can be remembered.
    fn read(&self, dir: &Dir, known: Option<&Known>) -> Result<(List, Option<Time>), Unkept> {
        let stat = match dir.stat(ACL_NAME) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok((List::Absent, None)),
            Err(errno @ Errno::ACCESS) => return Ok((List::Broken(errno), None)),
            Err(errno) => return Err(errno.into()),
        };
        let changed = changed(&stat);
        if let Some(known) = known
            && let Some(seen) = &known.seen
            && seen.list_changed == Some(changed)
        {
            return Ok((known.list.clone(), Some(changed)));
        }
        let read = || {
            let file = file::open_in(dir)?;
            let stat = rustix::fs::fstat(&file)?;
            Ok((stat, file::read_text(file)?))
        };
        match read() {
            Ok((stat, text)) => {
                let list = self.state().text(&text, stat.st_mode & 0o777)?;
                let changed = self::changed(&stat);
                Ok((list, is_settled(changed).then_some(changed)))
            }
            Err(Errno::NOENT) => Ok((List::Absent, None)),
            Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO)) => {
                Err(errno.into())
            }
            Err(errno) => Ok((List::Broken(errno), None)),
        }
    }
}

/// Returns the names of the directories in a directory, without those of the server.
fn directories_in(dir: &Dir) -> Result<Vec<Box<[u8]>>, Errno> {
    let fd = dir.readable()?;
    let mut buffer = [MaybeUninit::uninit(); BATCH];
    let mut entries = RawDir::new(&fd, &mut buffer);
    let mut names: Vec<Box<[u8]>> = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        // Not every file system says what an entry is; opening it as a directory does.
        if !matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
            continue;
        }
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && !is_reserved(name) {
            names.push(name.into());
        }
        if names.len() > DIRECTORIES_MAX {
            return Err(Errno::NOSPC);
        }
    }
    Ok(names)
}

/// Reports whether a change lies far enough back for another one to be told from it.
fn is_settled(changed: Time) -> bool {
    let now = rustix::time::clock_gettime(ClockId::RealtimeCoarse).tv_sec;
    changed.0.saturating_add(SETTLED_SECONDS) < now
}

/// Returns when a file last changed.
#[expect(
    clippy::useless_conversion,
    reason = "the widths of these fields differ between architectures"
)]
fn changed(stat: &Stat) -> Time {
    let nanoseconds = u32::try_from(stat.st_ctime_nsec).unwrap_or(0);
    (stat.st_ctime.into(), nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_remembered_when_a_later_one_has_another_time_for_certain() {
        let now = rustix::time::clock_gettime(ClockId::Realtime).tv_sec;
        assert!(!is_settled((now, 0)) && !is_settled((now - 1, 0)));
        assert!(is_settled((now - 60, 999_999_999)) && !is_settled((i64::MAX, 0)));
    }
}
