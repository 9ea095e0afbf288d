//! How many connections one subject has, so that none can take them all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chirp_proto::Subject;

/// The connections of every subject. Clones count together.
#[derive(Clone, Debug)]
pub struct Places {
    /// Connections of one subject; None for any number.
    limit: Option<usize>,
    taken: Arc<Mutex<HashMap<Subject, usize>>>,
}

/// The place of one connection, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    subject: Subject,
}

impl Places {
    /// Makes places of which a subject may take `limit`; None for any number.
    #[must_use]
    pub fn new(limit: Option<usize>) -> Self {
        Self {
            limit,
            taken: Arc::default(),
        }
    }

    /// Takes a place for a connection of `subject`; None where it has as many as it may have.
    #[must_use]
    pub fn take(&self, subject: &Subject) -> Option<Place> {
        let mut taken = self.lock();
        let count = taken.get(subject).copied().unwrap_or(0);
        if self.limit.is_some_and(|limit| count >= limit) {
            return None;
        }
        taken.insert(subject.clone(), count + 1);
        drop(taken);
        Some(Place {
            places: self.clone(),
            subject: subject.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Subject, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(count) = taken.get_mut(&self.subject) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chirp_proto::Method;

    use super::*;

    #[test]
    fn a_subject_has_its_places_and_leaves_others_theirs() {
        let places = Places::new(Some(2));
        let alice = Subject::new(Method::Unix, b"alice");
        let first = places.take(&alice).unwrap();
        let _second = places.take(&alice).unwrap();
        assert!(places.take(&alice).is_none());
        let bob = places.take(&Subject::new(Method::Unix, b"bob"));
        assert!(bob.is_some());
        drop(first);
        let again = places.take(&alice);
        assert!(again.is_some() && places.take(&alice).is_none());
        drop((again, bob));
        assert_eq!(places.lock().len(), 1);
        let endless = Places::new(None);
        let all: Vec<_> = (0..1000).map(|_| endless.take(&alice)).collect();
        assert!(all.iter().all(Option::is_some));
    }
}
