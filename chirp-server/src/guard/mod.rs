//! Keeps access control lists from the programs that clients run.
//!
//! Programs run as the server's user, so below the directory that one may write in, its *subtree*, they
//! can do to `.__acl` files whatever they like; no kernel forbids that for one name in a directory. So
//! before a program starts the lists of its subtree are recorded, in memory and in a file outside the
//! tree, and while it runs rights come from the record alone:
//!
//! * a directory on record has the list that is on record for it, by device, inode and time of birth,
//!   wherever it was moved and whatever stands in its `.__acl`;
//! * any other directory of the subtree was made by a program, and has the list of the one above it;
//! * what the server itself does to lists and directories for clients goes on record as it is done.
//!
//! When the last program of a subtree has ended, the tree is made to say what the record says, and the
//! record is dropped: from then on the tree counts, and an edit by hand with it. A server that was killed
//! left the file, and the next one does the same before it answers anybody.
//!
//! | module | content |
//! |---|---|
//! | `identity` | which directory is which |
//! | `list` | one list on record |
//! | `state` | what is on record, and for which subtrees |
//! | `survey` | going through a subtree, quickly where it was seen before |
//! | `mend` | making a subtree say what the record says |
//! | `record` | the file |

mod identity;
mod list;
mod mend;
mod record;
mod state;
mod survey;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use exec_ext::runner::patiently;
use rustix::io::Errno;

use crate::acl::{Locks, file};
use crate::vfs::{Dir, Journal, Root};

use identity::{Id, Identities};
pub(crate) use list::List;
use record::Record;
use state::{Looking, State, Top};
use survey::Found;

/// Directories that may be on record at once.
const DIRECTORIES_MAX: usize = 200_000;

/// Bytes of lists that may be on record at once; equal ones count once.
const TEXTS_MAX: usize = 16 * 1024 * 1024;

/// How often a subtree in which directories are being moved is looked at anew before it is given up.
const ROUNDS_MAX: usize = 64;

/// Why a subtree cannot be kept, so that no program may run in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unkept {
    /// There are more directories than may be on record.
    #[error(
        "more than {DIRECTORIES_MAX} directories lie below the paths of running programs; their access \
         control lists could not be kept from programs: choose a path with fewer"
    )]
    Directories,
    /// The lists are longer than may be on record.
    #[error(
        "the access control lists below the paths of running programs have more than {TEXTS_MAX} bytes"
    )]
    Texts,
    /// Clients move directories about all the time.
    #[error("directories below the path are being moved; try again")]
    Moving,
    /// The system's.
    #[error("access control lists below the path cannot be recorded: {0}")]
    System(#[from] Errno),
}

impl From<Unkept> for Errno {
    fn from(unkept: Unkept) -> Self {
        match unkept {
            Unkept::Directories | Unkept::Texts => Self::NOSPC,
            Unkept::Moving => Self::AGAIN,
            Unkept::System(errno) => errno,
        }
    }
}

/// The lists that are kept from programs.
#[derive(Debug)]
pub(crate) struct Guard {
    root: Root,
    root_id: Id,
    identities: Identities,
    locks: Arc<Locks>,
    journal: Arc<Journal>,
    state: Mutex<State>,
    /// Told when a subtree is on record, or could not be.
    recorded: Condvar,
    record: Mutex<Record>,
    /// Subtrees in which programs may run.
    active: AtomicUsize,
    /// Counts those that have begun to be kept.
    begun: AtomicU64,
    /// Held shared by whoever changes lists or moves directories for a client, and alone when a subtree
    /// begins to be looked at and when it goes from that to being kept. So a change is done before the
    /// looking, or it is told to those that look; and what is under way at its end is on record or not done.
    changes: RwLock<()>,
}

/// Says whether a directory can be gone through in no time: it has no others below it and a short list of entries.
fn is_small(dir: &Dir) -> bool {
    const LIST_MAX: i64 = 64 * 1024;
    // Its name and its own `.`; where others are not counted so it is taken for a large one.
    rustix::fs::fstat(dir).is_ok_and(|stat| stat.st_nlink == 2 && stat.st_size <= LIST_MAX)
}

/// Keeps the lists of one subtree for as long as a program may run in it. Dropping it waits until all is
/// put right.
#[derive(Debug)]
pub(crate) struct Watch {
    guard: Arc<Guard>,
    number: u64,
}

/// Directories that a client is about to remove.
#[derive(Debug)]
pub(crate) struct ToRemove(Vec<Id>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.guard.release(self.number);
    }
}

impl Guard {
    /// Opens the record in the transient directory, which belongs to this server alone, and puts right what
    /// programs did that ran when a server before this one was killed. They must have been ended.
    ///
    /// # Errors
    ///
    /// The record or the exported directory cannot be read. What cannot be put right is logged, and stays
    /// on record: those lists count, whatever the tree says.
    pub(crate) fn open(
        root: &Root,
        transient: &Path,
        locks: Arc<Locks>,
        journal: Arc<Journal>,
    ) -> std::io::Result<Arc<Self>> {
        let (identities, root_id) = Identities::new(root.dir())?;
        let (record, left) = Record::open(transient, &root_id)?;
        let guard = Arc::new(Self {
            root: root.clone(),
            root_id,
            identities,
            locks,
            journal,
            state: Mutex::new(State::default()),
            recorded: Condvar::new(),
            record: Mutex::new(record),
            active: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            changes: RwLock::new(()),
        });
        if !left.tops.is_empty() {
            guard.recover(left)?;
        }
        // Numbers of subtrees begin anew, so nothing of the old ones may stay.
        let kept = guard.state().all_kept();
        guard.record().rewrite(kept)?;
        Ok(guard)
    }

    /// Keeps the lists of a directory and of all below it, from when this returns. `path` is its link-free
    /// path below the root. Blocks for as long as it takes to go through the subtree's directories.
    ///
    /// # Errors
    ///
    /// [`Unkept`]; then no program may run there.
    pub(crate) fn watch(self: &Arc<Self>, dir: &Dir, path: &[u8]) -> Result<Watch, Unkept> {
        let id = self.identities.of(dir)?.id;
        let mut alone = None;
        let mut state = self.state();
        let number = loop {
            match state.use_top(&id) {
                // Taken before the state, and then looked again.
                None if alone.is_none() => {
                    drop(state);
                    alone = Some(self.alone());
                    state = self.state();
                }
                None => break state.begin(id),
                Some(Ok(number)) => {
                    return Ok(Watch {
                        guard: Arc::clone(self),
                        number,
                    });
                }
                Some(Err(Looking)) => {
                    alone = None;
                    let waited = patiently(|| self.recorded.wait(state));
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        let cursor = state.moved();
        drop(state);
        drop(alone);
        let top = Top {
            id,
            dir: dir.clone(),
            path: path.to_vec(),
        };
        let outcome = match is_small(dir) {
            true => self.keep(number, top, cursor),
            false => patiently(|| self.keep(number, top, cursor)),
        };
        let mut state = self.state();
        if outcome.is_err() {
            state.give_up(number);
        }
        state.looked();
        drop(state);
        self.recorded.notify_all();
        outcome.map(|()| Watch {
            guard: Arc::clone(self),
            number,
        })
    }

    fn keep(&self, number: u64, top: Top, mut cursor: usize) -> Result<(), Unkept> {
        let found = self.survey(&top.dir)?;
        self.adopt(number, found)?;
        for _ in 0..ROUNDS_MAX {
            let alone = self.alone();
            let (moved, end) = self.state().moved_since(cursor);
            cursor = end;
            if moved.is_empty() {
                let mut record = self.record();
                let mut state = self.state();
                record.begin(number, &top, state.fresh(number))?;
                state.activate(number, top);
                self.active.fetch_add(1, Ordering::AcqRel);
                self.begun.fetch_add(1, Ordering::AcqRel);
                return Ok(());
            }
            drop(alone);
            for dir in moved {
                // One that is gone has no list.
                if self.lineage(&dir).is_ok_and(|ids| ids.contains(&top.id)) {
                    let found = self.survey(&dir)?;
                    self.adopt(number, found)?;
                }
            }
        }
        Err(Unkept::Moving)
    }

    /// Makes directories that were found part of a subtree.
    fn adopt(&self, number: u64, found: Vec<Found>) -> Result<(), Unkept> {
        let mut found = found.into_iter().peekable();
        while found.peek().is_some() {
            // In portions: nobody who asks for rights waits for all of a large subtree.
            let mut state = self.state();
            for directory in found.by_ref().take(1000) {
                state.adopt(number, directory)?;
            }
        }
        Ok(())
    }

    /// Ends one use of a subtree; with the last one what it says is put right.
    fn release(&self, number: u64) {
        if !self.state().end_use(number) {
            return;
        }
        let tops = self.state().tops_of(number);
        match tops.iter().all(|top| is_small(&top.dir)) {
            true => self.settle(number, &tops),
            false => patiently(|| self.settle(number, &tops)),
        }
    }

    /// Puts right what is below these directories, and forgets the subtree where that is all of it.
    fn settle(&self, number: u64, tops: &[Top]) {
        let mut right = true;
        for top in tops {
            right &= self.mend(top);
        }
        let mut record = self.record();
        if !self.state().may_end(number, right) {
            return;
        }
        // Before the lists are let go: what clients change from then on is not written to the record any more, and
        // would be undone by the next start after a kill.
        record.end(number);
        drop(record);
        while self.state().disown(number, 1000) {}
        self.active.fetch_sub(1, Ordering::AcqRel);
        let mut record = self.record();
        if record.is_long() {
            // With the record held nothing is added to it meanwhile.
            let kept = self.state().all_kept();
            if let Err(error) = record.rewrite(kept) {
                tracing::warn!(target: "exec", %error, "the record of access control lists cannot be shortened");
            }
        }
    }

    /// Returns a number that is another one whenever a subtree has begun to be kept. What was read of the
    /// tree between two equal ones, after [`Guard::kept`] said that the tree counts, was so.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// Returns the list that counts for a directory, whatever the tree says; `None` where the tree counts.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(crate) fn kept(&self, dir: &Dir) -> Result<Option<List>, Errno> {
        if self.active.load(Ordering::Acquire) == 0 {
            return Ok(None);
        }
        let mut here = self.identities.of(dir)?.id;
        let mut nearest = self.state().list(&here);
        if nearest.is_some() {
            return Ok(nearest);
        }
        let mut at = dir.clone();
        // Made by a program, if it lies in a subtree: then the first one above it that is on record counts.
        while here != self.root_id {
            at = at.parent()?;
            let above = self.identities.of(&at)?.id;
            if above == here {
                break;
            }
            here = above;
            let state = self.state();
            nearest = nearest.or_else(|| state.list(&here));
            if state.is_top(&here) {
                return Ok(nearest);
            }
        }
        Ok(None)
    }

    /// Holds off the beginning of further subtrees, for a change of lists or a move of a directory that is
    /// then told by [`Guard::note`] or [`Guard::moving`].
    pub(crate) fn changing(&self) -> RwLockReadGuard<'_, ()> {
        self.changes.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the list of a directory by `write`, on a client's behalf, so that it is on record as well.
    ///
    /// # Errors
    ///
    /// Those of `write`; before it, if the list or the directory does not fit on the record, or the system's.
    /// The list that was on record stays then.
    pub(crate) fn writing<T>(
        &self,
        dir: &Dir,
        text: &[u8],
        write: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let _changing = self.changing();
        let before = self.kept(dir)?;
        self.note(dir, text)?;
        write().inspect_err(|_| {
            if let Some(before) = before
                && let Err(error) = self.note_list(dir, before)
            {
                tracing::error!(target: "exec", %error, "an access control list that was not written stays on record");
            }
        })
    }

    /// Puts on record the list of a directory that the server is about to give its name, on a client's
    /// behalf. Call it with [`Guard::changing`] held, until the directory has its name.
    ///
    /// # Errors
    ///
    /// The list or the directory does not fit on the record, or the system's; then it must not be made.
    pub(crate) fn note(&self, dir: &Dir, text: &[u8]) -> Result<(), Errno> {
        if self.state().has_none() {
            return Ok(());
        }
        let list = match text.len() as u64 <= file::SIZE_MAX {
            true => self.state().text(text, list::MODE)?,
            // It is written, and is none.
            false => List::Broken(Errno::FBIG),
        };
        self.note_list(dir, list)
    }

    fn note_list(&self, dir: &Dir, list: List) -> Result<(), Errno> {
        let lineage = self.lineage(dir)?;
        let mut record = self.record();
        let mut state = self.state();
        if state.is_kept(&lineage)? {
            let id = lineage.first().copied().unwrap_or(self.root_id);
            record.add([(id, list.clone())])?;
        }
        state.note(dir, &lineage, list);
        Ok(())
    }

    /// Takes away what stands in the way of a list that is about to be written, if a program put it there.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(crate) fn clear_way(&self, dir: &Dir) -> Result<(), Errno> {
        if self.kept(dir)?.is_some() {
            mend::remove_directory(dir)?;
        }
        Ok(())
    }

    /// Puts on record that a directory is about to be moved into another one, on a client's behalf, to a
    /// path below the root. Call it with [`Guard::changing`] held, until it is done.
    ///
    /// # Errors
    ///
    /// As [`Guard::note`]; `BUSY` where too many were moved out of the subtree of one program.
    pub(crate) fn moving(&self, dir: &Dir, from: &Dir, to: &Dir, path: &[u8]) -> Result<(), Errno> {
        if self.state().has_none() {
            return Ok(());
        }
        let (from, to) = (self.lineage(from)?, self.lineage(to)?);
        let (from, to, looking) = {
            let state = self.state();
            (
                state.covering(&from),
                state.covering(&to),
                state.is_looking(),
            )
        };
        if from != to {
            let entering: Vec<u64> = to.difference(&from).copied().collect();
            if !entering.is_empty() {
                let found = self.survey(dir)?;
                for number in entering {
                    self.adopt(number, found.clone())?;
                    let mut record = self.record();
                    let mut state = self.state();
                    record.add(state.fresh(number))?;
                    state.recorded(number);
                }
            }
            // A program may still have its hands in what leaves its subtree.
            let top = Top {
                id: self.identities.of(dir)?.id,
                dir: dir.clone(),
                path: path.to_vec(),
            };
            for number in from.difference(&to) {
                let mut record = self.record();
                self.state().add_top(*number, &top)?;
                record.top(*number, &top)?;
            }
        }
        if looking {
            self.state().was_moved(dir);
        }
        Ok(())
    }

    /// Returns a directory and, where asked for, all below it, for [`Guard::removed`].
    pub(crate) fn to_remove(&self, dir: &Dir, all: bool) -> ToRemove {
        let mut ids = Vec::new();
        if self.state().has_none() {
            return ToRemove(ids);
        }
        let looked = match all {
            true => self.each_below(dir, |id, _, _| ids.push(id)),
            false => self.identities.of(dir).map(|look| ids.push(look.id)),
        };
        // What is not named here stays on record until programs end.
        let _ = looked;
        ToRemove(ids)
    }

    /// Takes directories off the record that a client has removed.
    pub(crate) fn removed(&self, ToRemove(ids): ToRemove) {
        for id in ids {
            self.state().forget(&id);
        }
    }

    /// Returns the directory and all above it, up to the exported one.
    fn lineage(&self, dir: &Dir) -> Result<Vec<Id>, Errno> {
        let mut at = dir.clone();
        let mut ids = vec![self.identities.of(&at)?.id];
        while ids.last() != Some(&self.root_id) {
            at = at.parent()?;
            let above = self.identities.of(&at)?.id;
            if ids.last() == Some(&above) {
                break;
            }
            ids.push(above);
        }
        Ok(ids)
    }

    fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.changes.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locked before the state, where both are.
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
