//! Counting the tree anew while it is served, for what others do to it than this server: the programs
//! of `exec` and of jobs above all, which write as they like.
//!
//! The tree is gone through without the lock. If nothing was charged or moved meanwhile, the result
//! is the truth. Otherwise it may have missed or doubled what moved, and only what is more than the
//! figures say is believed: nobody gets space that is not there. The next count may be luckier.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use super::book::{Book, Id};
use super::count::{Counted, count};
use super::{Space, lock};

/// Counts until one is undisturbed.
const ATTEMPTS_MAX: usize = 3;

impl Space {
    /// Notes that others than this server may have changed the tree.
    pub fn changed_outside(&self) {
        if let Some((limits, _)) = self.limited() {
            limits.changed_outside.store(true, Ordering::Release);
        }
    }

    /// Counts the tree anew if others may have changed it.
    ///
    /// # Errors
    ///
    /// The system's; the tree is counted the next time then.
    pub fn recount(&self) -> Result<(), Errno> {
        let Some((limits, book)) = self.limited() else {
            return Ok(());
        };
        let changed = limits.changed_outside.swap(false, Ordering::AcqRel);
        let doubtful = std::mem::take(&mut lock(book).doubtful);
        if !changed && !doubtful {
            return Ok(());
        }
        for _ in 0..ATTEMPTS_MAX {
            match self.recount_once() {
                Ok(true) => return Ok(()),
                // Disturbed.
                Ok(false) | Err(Errno::STALE) => {}
                Err(errno) => {
                    self.changed_outside();
                    return Err(errno);
                }
            }
        }
        self.changed_outside();
        Ok(())
    }

    /// Counts once. Returns whether it was undisturbed.
    fn recount_once(&self) -> Result<bool, Errno> {
        let Some((limits, book)) = self.limited() else {
            return Ok(true);
        };
        let (before, size, open) = {
            let book = lock(book);
            let size = book.allocations.get(&book.top).map_or(0, |it| it.size);
            let open: HashSet<Id> = book.files.keys().copied().collect();
            (book.quiet(), size, open)
        };
        let counted = count(&limits.root, size, open)?;
        let mut book = lock(book);
        let quiet = before.is_some() && before == book.quiet();
        if quiet {
            book.adopt(counted);
        } else {
            book.raise(&counted);
        }
        Ok(quiet)
    }
}

impl Book {
    /// Returns the number of changes so far; none while something is under way.
    fn quiet(&self) -> Option<u64> {
        let writing = |open: &super::book::OpenFile| !open.ends.is_empty() || open.appends > 0;
        let busy = self.uploads > 0 || !self.shelved.is_empty() || self.files.values().any(writing);
        (!busy).then_some(self.changes)
    }

    /// Takes over what was counted while nothing happened.
    fn adopt(&mut self, counted: Counted) {
        let Counted {
            allocations,
            open_found,
            open,
            ..
        } = counted;
        self.allocations = allocations;
        let mut nameless: HashMap<Id, u64> = HashMap::new();
        for (id, file) in &mut self.files {
            if let Some((home, charged)) = open_found.get(id) {
                (file.home, file.charged) = (*home, *charged);
            } else if open.contains(id) {
                // Somebody removed it: its space comes back when it is closed.
                file.unlinked = true;
            }
            if !self.allocations.contains_key(&file.home) {
                file.home = self.top;
            }
            if file.unlinked {
                let sum = nameless.entry(file.home).or_default();
                *sum = sum.saturating_add(file.charged);
            }
        }
        for (home, amount) in nameless {
            self.debit(home, amount);
        }
    }

    /// Takes over what is more than was known.
    fn raise(&mut self, counted: &Counted) {
        for (id, found) in &counted.allocations {
            let known = self.allocations.get(id).map_or(found.used, |it| it.used);
            self.debit(*id, found.used.saturating_sub(known));
        }
    }
}
