//! What is on record, and for which subtrees.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use rustix::io::Errno;

use super::identity::{Id, Time};
use super::list::{List, Shared, Text};
use super::survey::Found;
use super::{DIRECTORIES_MAX, TEXTS_MAX, Unkept};
use crate::vfs::Dir;

/// Directories that are remembered at most while no program may change them, so that a subtree is gone
/// through quickly the next time.
const REMEMBERED_MAX: usize = 65_536;

/// Directories that may be moved out of one subtree while it is kept.
const TOPS_MAX: usize = 64;

/// The record, in memory.
#[derive(Debug, Default)]
pub(super) struct State {
    directories: HashMap<Id, Known>,
    /// How many of them are part of a subtree.
    kept: usize,
    subtrees: HashMap<u64, Subtree>,
    /// The subtrees that begin at a directory: the one that is named by it, and those of which it was
    /// moved out.
    tops: HashMap<Id, Vec<u64>>,
    /// The subtrees by the directories that they were asked for.
    named: HashMap<Id, u64>,
    next: u64,
    texts: HashSet<Shared>,
    texts_bytes: usize,
    /// Subtrees that are being looked at.
    looking: usize,
    /// What clients changed and moved since the first of those began to be.
    changed: HashMap<Id, List>,
    moved: Vec<Dir>,
}

/// What is known of one directory.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) list: List,
    /// What was seen when it was last gone through, if that is old enough to be told from what comes.
    pub(super) seen: Option<Seen>,
    /// How many subtrees it is part of; without any the tree counts.
    subtrees: u32,
    /// Whether the file says so.
    recorded: bool,
}

/// What holds for a directory as long as it has not changed since.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) changed: Time,
    /// The directories in it.
    pub(super) below: Arc<[Box<[u8]>]>,
    /// When its list last changed; none where that cannot be believed.
    pub(super) list_changed: Option<Time>,
}

#[derive(Debug)]
struct Subtree {
    name: Id,
    /// Programs, or other reasons, to keep it.
    uses: usize,
    /// Whoever is putting it right at the end of a use.
    menders: usize,
    phase: Phase,
    tops: Vec<Top>,
    members: HashSet<Id>,
    /// Members that the file does not know yet.
    fresh: Vec<Id>,
}

/// How far a subtree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It is being gone through.
    Looking,
    /// It is on record.
    Kept,
    /// All was put right: the tree counts, and the file says so.
    Ended,
}

/// A subtree is not on record yet.
#[derive(Debug)]
pub(super) struct Looking;

/// Where a subtree begins.
#[derive(Clone, Debug)]
pub(super) struct Top {
    pub(super) id: Id,
    pub(super) dir: Dir,
    /// Its path below the root when it was told, for logs and the next start.
    pub(super) path: Vec<u8>,
}

/// The life of a subtree.
impl State {
    /// Uses a subtree that is there: its number, unless it is still being looked at and not used.
    pub(super) fn use_top(&mut self, name: &Id) -> Option<Result<u64, Looking>> {
        let number = *self.named.get(name)?;
        let subtree = self.subtrees.get_mut(&number)?;
        if subtree.phase == Phase::Looking {
            return Some(Err(Looking));
        }
        subtree.uses += 1;
        Some(Ok(number))
    }

    /// Makes a subtree that is being looked at.
    pub(super) fn begin(&mut self, name: Id) -> u64 {
        self.next += 1;
        let subtree = Subtree {
            name,
            uses: 1,
            menders: 0,
            phase: Phase::Looking,
            tops: Vec::new(),
            members: HashSet::new(),
            fresh: Vec::new(),
        };
        self.subtrees.insert(self.next, subtree);
        self.named.insert(name, self.next);
        self.looking += 1;
        self.next
    }

    /// Makes a directory part of a subtree.
    pub(super) fn adopt(&mut self, number: u64, found: Found) -> Result<(), Unkept> {
        let Some(subtree) = self.subtrees.get_mut(&number) else {
            return Ok(());
        };
        let Found { id, list, seen } = found;
        if !subtree.members.insert(id) {
            return Ok(());
        }
        let known = self.directories.entry(id).or_insert_with(|| Known {
            list: list.clone(),
            seen: None,
            subtrees: 0,
            recorded: false,
        });
        if known.subtrees == 0 {
            // What a client did after it was looked at is newer.
            let list = self.changed.get(&id).cloned().unwrap_or(list);
            known.recorded &= known.list == list;
            known.list = list;
            known.seen = seen;
            self.kept += 1;
        }
        known.subtrees += 1;
        if !known.recorded {
            subtree.fresh.push(id);
        }
        if self.kept > DIRECTORIES_MAX {
            return Err(Unkept::Directories);
        }
        Ok(())
    }

    /// Returns what the file has to be told of a subtree.
    pub(super) fn fresh(&self, number: u64) -> impl Iterator<Item = (Id, List)> {
        let fresh = self.subtrees.get(&number).map(|subtree| &subtree.fresh);
        fresh
            .into_iter()
            .flatten()
            .filter_map(|id| Some((*id, self.directories.get(id)?.list.clone())))
    }

    /// Notes that the file was told.
    pub(super) fn recorded(&mut self, number: u64) {
        let Some(subtree) = self.subtrees.get_mut(&number) else {
            return;
        };
        for id in std::mem::take(&mut subtree.fresh) {
            if let Some(known) = self.directories.get_mut(&id) {
                known.recorded = true;
            }
        }
    }

    /// Lets the record count from now on.
    pub(super) fn activate(&mut self, number: u64, top: Top) {
        self.recorded(number);
        self.tops.entry(top.id).or_default().push(number);
        if let Some(subtree) = self.subtrees.get_mut(&number) {
            subtree.phase = Phase::Kept;
            subtree.tops.push(top);
        }
    }

    /// Takes over what a server before this one has left.
    pub(super) fn restore(&mut self, found: Vec<Found>, tops: Vec<Top>) -> Result<u64, Unkept> {
        let name = tops.first().map_or(
            Id {
                device: 0,
                inode: 0,
                born: (0, 0),
            },
            |top| top.id,
        );
        let number = self.begin(name);
        for directory in found {
            self.adopt(number, directory)?;
        }
        for top in tops {
            self.activate(number, top);
        }
        self.looked();
        Ok(number)
    }

    /// Adds where a subtree begins too.
    pub(super) fn add_top(&mut self, number: u64, top: &Top) -> Result<(), Errno> {
        let Some(subtree) = self.subtrees.get_mut(&number) else {
            return Ok(());
        };
        if subtree.tops.iter().any(|known| known.id == top.id) {
            return Ok(());
        }
        if subtree.tops.len() >= TOPS_MAX {
            return Err(Errno::BUSY);
        }
        subtree.tops.push(top.clone());
        self.tops.entry(top.id).or_default().push(number);
        Ok(())
    }

    /// Drops a subtree that could not be kept.
    pub(super) fn give_up(&mut self, number: u64) {
        if let Some(subtree) = self.subtrees.get(&number) {
            self.named.remove(&subtree.name);
        }
        while self.disown(number, usize::MAX) {}
    }

    /// Notes that a subtree is not being looked at any more.
    pub(super) fn looked(&mut self) {
        self.looking -= 1;
        if self.looking == 0 {
            self.changed.clear();
            self.moved.clear();
        }
    }

    /// Ends a use of a subtree; true for the last one, after which it is to be put right.
    pub(super) fn end_use(&mut self, number: u64) -> bool {
        let Some(subtree) = self.subtrees.get_mut(&number) else {
            return false;
        };
        subtree.uses -= 1;
        let last = subtree.uses == 0;
        subtree.menders += usize::from(last);
        last
    }

    /// Returns where a subtree begins.
    pub(super) fn tops_of(&self, number: u64) -> Vec<Top> {
        let subtree = self.subtrees.get(&number);
        subtree.map_or_else(Vec::new, |subtree| subtree.tops.clone())
    }

    /// Ends a subtree that was put right, or not, unless it is in use again or somebody else is at it.
    /// Returns whether it is at its end: then it is to be disowned.
    pub(super) fn may_end(&mut self, number: u64, right: bool) -> bool {
        let Some(subtree) = self.subtrees.get_mut(&number) else {
            return false;
        };
        subtree.menders -= 1;
        if subtree.uses > 0 || subtree.menders > 0 || !right {
            return false;
        }
        subtree.phase = Phase::Ended;
        self.named.remove(&subtree.name);
        for top in &subtree.tops {
            if let Some(numbers) = self.tops.get_mut(&top.id) {
                numbers.retain(|other| *other != number);
                if numbers.is_empty() {
                    self.tops.remove(&top.id);
                }
            }
        }
        true
    }

    /// Takes so many directories out of a subtree; with the last one it is gone. Returns whether there are
    /// more.
    pub(super) fn disown(&mut self, number: u64, count: usize) -> bool {
        let Some(subtree) = self.subtrees.get_mut(&number) else {
            return false;
        };
        let some: Vec<Id> = subtree.members.iter().copied().take(count).collect();
        let last = some.len() == subtree.members.len();
        for id in &some {
            subtree.members.remove(id);
        }
        if last {
            self.subtrees.remove(&number);
        }
        for id in some {
            let Some(known) = self.directories.get_mut(&id) else {
                continue;
            };
            known.subtrees -= 1;
            if known.subtrees > 0 {
                continue;
            }
            self.kept -= 1;
            if self.directories.len() > REMEMBERED_MAX {
                self.directories.remove(&id);
            }
        }
        !last
    }
}

/// What counts.
impl State {
    /// Returns the list of a directory that is on record.
    pub(super) fn list(&self, id: &Id) -> Option<List> {
        let known = self.directories.get(id)?;
        (known.subtrees > 0).then(|| known.list.clone())
    }

    /// Returns all that is known of a directory, and whether it is part of a subtree.
    pub(super) fn known(&self, id: &Id) -> Option<(Known, bool)> {
        let known = self.directories.get(id)?;
        Some((known.clone(), known.subtrees > 0))
    }

    /// Remembers what was seen of a directory.
    pub(super) fn remember(&mut self, id: &Id, seen: Option<Seen>) {
        if let Some(known) = self.directories.get_mut(id) {
            known.seen = seen;
        }
    }

    /// Reports whether a subtree begins at a directory.
    pub(super) fn is_top(&self, id: &Id) -> bool {
        self.tops.contains_key(id)
    }

    /// Returns the subtrees that begin at a directory.
    pub(super) fn beginning(&self, id: &Id) -> &[u64] {
        self.tops.get(id).map_or(&[], Vec::as_slice)
    }

    /// Reports whether programs may still run in one of these subtrees, so that what is not on record there is theirs.
    pub(super) fn any_counts(&self, numbers: &[u64]) -> bool {
        let phase = |number| self.subtrees.get(number).map(|subtree| subtree.phase);
        numbers
            .iter()
            .any(|number| phase(number) == Some(Phase::Kept))
    }

    /// Reports whether nothing is kept or looked at.
    pub(super) fn has_none(&self) -> bool {
        self.subtrees.is_empty()
    }

    /// Reports whether a subtree is being looked at.
    pub(super) const fn is_looking(&self) -> bool {
        self.looking > 0
    }

    /// Returns the subtrees that a directory with this lineage is in.
    pub(super) fn covering(&self, lineage: &[Id]) -> BTreeSet<u64> {
        let tops = lineage.iter().filter_map(|id| self.tops.get(id));
        tops.flatten().copied().collect()
    }

    /// Returns all that counts, for a file that will say nothing else.
    pub(super) fn all_kept(&mut self) -> Kept {
        for known in self.directories.values_mut() {
            known.recorded &= known.subtrees > 0;
        }
        let directories = self.directories.iter();
        Kept {
            directories: directories
                .filter(|(_, known)| known.subtrees > 0)
                .map(|(id, known)| (*id, known.list.clone()))
                .collect(),
            tops: self
                .subtrees
                .iter()
                .filter(|(_, subtree)| subtree.phase != Phase::Ended)
                .flat_map(|(number, subtree)| subtree.tops.iter().map(|top| (*number, top.clone())))
                .collect(),
        }
    }
}

/// All that counts.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) directories: Vec<(Id, List)>,
    pub(super) tops: Vec<(u64, Top)>,
}

/// What clients do.
impl State {
    /// Returns a text as a list, which is shared with all that have the same.
    ///
    /// # Errors
    ///
    /// `NOSPC` where there are too many.
    pub(super) fn text(&mut self, bytes: &[u8], mode: u32) -> Result<List, Unkept> {
        if let Some(Shared(text)) = self.texts.get(bytes) {
            return Ok(List::Text(Arc::clone(text), mode));
        }
        if self.texts_bytes + bytes.len() > TEXTS_MAX {
            self.directories.retain(|_, known| known.subtrees > 0);
            self.texts
                .retain(|Shared(text)| Arc::strong_count(text) > 1);
            self.texts_bytes = self.texts.iter().map(|text| text.0.bytes.len()).sum();
        }
        if self.texts_bytes + bytes.len() > TEXTS_MAX {
            return Err(Unkept::Texts);
        }
        self.texts_bytes += bytes.len();
        let text = Arc::new(Text::new(bytes));
        self.texts.insert(Shared(Arc::clone(&text)));
        Ok(List::Text(text, mode))
    }

    /// Reports whether a directory with this lineage is to be on record.
    ///
    /// # Errors
    ///
    /// `NOSPC` where it does not fit.
    pub(super) fn is_kept(&self, lineage: &[Id]) -> Result<bool, Errno> {
        let known = lineage.first().is_some_and(|id| self.list(id).is_some());
        let kept = known || lineage.iter().any(|id| self.tops.contains_key(id));
        if kept && !known && self.kept >= DIRECTORIES_MAX {
            return Err(Errno::NOSPC);
        }
        Ok(kept)
    }

    /// Notes the list that the server gives a directory, which the file was told.
    pub(super) fn note(&mut self, dir: &Dir, lineage: &[Id], list: List) {
        let Some(id) = lineage.first() else { return };
        for number in self.covering(lineage) {
            // There is room: that was asked before.
            let found = Found {
                id: *id,
                list: list.clone(),
                seen: None,
            };
            let _ = self.adopt(number, found);
            // Others that are new to the subtree are still to be told: somebody is moving them into it.
            if let Some(subtree) = self.subtrees.get_mut(&number) {
                subtree.fresh.pop_if(|last| last == id);
            }
        }
        if let Some(known) = self.directories.get_mut(id)
            && known.subtrees > 0
        {
            known.list = list.clone();
            known.recorded = true;
        }
        if self.looking > 0 {
            self.changed.insert(*id, list);
            self.moved.push(dir.clone());
        }
    }

    /// Takes a directory off the record that is no more.
    pub(super) fn forget(&mut self, id: &Id) {
        if self.tops.contains_key(id) || self.named.contains_key(id) {
            return;
        }
        for subtree in self.subtrees.values_mut() {
            subtree.members.remove(id);
        }
        if let Some(known) = self.directories.remove(id)
            && known.subtrees > 0
        {
            self.kept -= 1;
        }
    }

    /// Notes that a directory was moved, or will be, while subtrees are looked at.
    pub(super) fn was_moved(&mut self, dir: &Dir) {
        self.moved.push(dir.clone());
    }

    /// Returns how many were.
    pub(super) const fn moved(&self) -> usize {
        self.moved.len()
    }

    /// Returns those that were since there were so many, and how many there are.
    pub(super) fn moved_since(&self, cursor: usize) -> (Vec<Dir>, usize) {
        let moved = self.moved.get(cursor..).unwrap_or_default().to_vec();
        (moved, self.moved.len())
    }
}
