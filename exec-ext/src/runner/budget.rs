//! The bytes that all windows together may keep in memory, and all captures on disk.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

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

#[cfg(test)]
mod tests {
    use super::Budget;

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
