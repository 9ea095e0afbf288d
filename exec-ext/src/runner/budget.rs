//! The bytes that all windows together may keep in memory, and all executions on disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Shared room for kept output. A subject can take at most half of it, so that one subject's
/// unread output does not slow down another's programs.
#[derive(Debug)]
pub(super) struct Budget {
    total: usize,
    used: Mutex<Used>,
    /// Told whenever room was given back.
    pub(super) room: Notify,
}

#[derive(Debug, Default)]
struct Used {
    all: usize,
    by_subject: HashMap<String, usize>,
}

impl Budget {
    /// Makes a budget of `total` bytes.
    pub(super) fn new(total: usize) -> Self {
        Self {
            total,
            used: Mutex::default(),
            room: Notify::new(),
        }
    }

    /// Takes up to `wanted` bytes for `subject` and returns how many it got.
    pub(super) fn take(&self, subject: &str, wanted: usize) -> usize {
        if wanted == 0 {
            return 0;
        }
        let mut used = self.lock();
        let own = used.by_subject.get(subject).copied().unwrap_or(0);
        let free = self.total.saturating_sub(used.all);
        let granted = wanted.min(free).min((self.total / 2).saturating_sub(own));
        if granted > 0 {
            used.all += granted;
            *used.by_subject.entry(subject.to_owned()).or_default() += granted;
        }
        granted
    }

    /// Takes `bytes` whatever the bounds say, because they are in use already.
    fn force(&self, subject: &str, bytes: usize) {
        if bytes > 0 {
            let mut used = self.lock();
            used.all = used.all.saturating_add(bytes);
            let own = used.by_subject.entry(subject.to_owned()).or_default();
            *own = own.saturating_add(bytes);
        }
    }

    /// Says whether `subject` has more than its half.
    pub(super) fn is_exceeded(&self, subject: &str) -> bool {
        let used = self.lock();
        let own = used.by_subject.get(subject).copied().unwrap_or(0);
        own > self.total / 2
    }

    /// Says whether `subject` would get nothing.
    pub(super) fn is_full(&self, subject: &str) -> bool {
        let used = self.lock();
        let own = used.by_subject.get(subject).copied().unwrap_or(0);
        used.all >= self.total || own >= self.total / 2
    }

    /// Gives `bytes` of `subject` back.
    pub(super) fn give(&self, subject: &str, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut used = self.lock();
        used.all = used.all.saturating_sub(bytes);
        if let Some(own) = used.by_subject.get_mut(subject) {
            *own = own.saturating_sub(bytes);
            if *own == 0 {
                used.by_subject.remove(subject);
            }
        }
        drop(used);
        self.room.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a budget, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    subject: String,
    /// None once it was given back for good.
    bytes: Mutex<Option<usize>>,
}

impl Share {
    /// Takes `bytes` for `subject`, all or nothing.
    pub(super) fn take(budget: &Arc<Budget>, subject: &str, bytes: usize) -> Option<Self> {
        let granted = budget.take(subject, bytes);
        let share = Self::of(budget, subject, granted);
        (granted == bytes).then_some(share)
    }

    /// Makes a share of what is in use already.
    pub(super) fn forced(budget: &Arc<Budget>, subject: &str, bytes: usize) -> Self {
        budget.force(subject, bytes);
        Self::of(budget, subject, bytes)
    }

    /// Changes it to what is in use now.
    pub(super) fn set(&self, bytes: usize) {
        self.change(|held| *held = Some(bytes));
    }

    /// Gives it back for good, whatever is said of it later.
    pub(super) fn close(&self) {
        self.change(|held| *held = None);
    }

    fn change(&self, change: impl FnOnce(&mut Option<usize>)) {
        let mut held = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = *held else { return };
        change(&mut held);
        let after = held.unwrap_or(0);
        self.budget
            .force(&self.subject, after.saturating_sub(before));
        self.budget
            .give(&self.subject, before.saturating_sub(after));
    }

    fn of(budget: &Arc<Budget>, subject: &str, bytes: usize) -> Self {
        Self {
            budget: Arc::clone(budget),
            subject: subject.to_owned(),
            bytes: Mutex::new(Some(bytes)),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_given_back_and_may_grow_beyond_what_it_should() {
        let budget = Arc::new(Budget::new(100));
        let share = Share::take(&budget, "a", 40).unwrap();
        assert!(Share::take(&budget, "a", 20).is_none());
        assert!(!budget.is_full("a") && !budget.is_exceeded("a"));
        share.set(90);
        assert!(budget.is_full("a") && budget.is_exceeded("a"));
        assert_eq!(budget.take("b", 40), 10);
        share.set(30);
        assert_eq!(budget.take("b", 40), 40);
        share.close();
        share.set(20);
        assert_eq!(budget.take("a", 80), 50);
    }

    #[test]
    fn no_subject_gets_more_than_half_and_all_not_more_than_the_total() {
        let budget = Budget::new(100);
        assert_eq!(budget.take("a", 80), 50);
        assert_eq!(budget.take("a", 1), 0);
        assert_eq!(budget.take("b", 40), 40);
        assert_eq!(budget.take("c", 40), 10);
        budget.give("a", 50);
        assert_eq!(budget.take("c", 60), 40);
    }
}
