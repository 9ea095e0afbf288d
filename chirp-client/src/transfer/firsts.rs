//! Files with several names: the first is copied, the others become links to its copy.

use std::collections::HashMap;

use super::compare::Work;
use super::facts::Facts;

/// Where the first names of files go, by the files' identities at the source.
pub(super) struct Firsts<T>(HashMap<(u64, u64), First<T>>);

impl<T> Default for Firsts<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

struct First<T> {
    target: T,
    /// The identity of what is there under that name and stays.
    there: Option<(u64, u64)>,
}

/// What a name of a file is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Met<T> {
    /// The file's only one, or the first that was met: it is treated as any other file.
    First,
    /// A further one, and the target has it as one of the same file already.
    Joined,
    /// A further one, to be linked to the first, which went there.
    Further(T),
}

impl<T: Clone> Firsts<T> {
    /// Takes note of a name: of what file it is, what is to be done with it, what is there, and where
    /// it goes.
    pub(super) fn meet(
        &mut self,
        from: &Facts,
        work: Work,
        there: Option<&Facts>,
        target: impl FnOnce() -> T,
    ) -> Met<T> {
        let Some(identity) = from.shared else {
            return Met::First;
        };
        let stays = there.filter(|_| work == Work::Skip);
        let there = stays.and_then(|there| there.shared);
        match self.0.get(&identity) {
            Some(first) if there.is_some() && first.there == there => Met::Joined,
            Some(first) => Met::Further(first.target.clone()),
            None => {
                let target = target();
                self.0.insert(identity, First { target, there });
                Met::First
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Kind;
    use super::*;

    const fn file(shared: Option<(u64, u64)>) -> Facts {
        Facts {
            kind: Kind::File,
            size: 5,
            mode: 0o644,
            mtime: 100,
            allocated: 4096,
            shared,
            device: 1,
        }
    }

    #[test]
    fn further_names_are_linked_unless_they_are_already() {
        let (one, two) = (file(Some((1, 7))), file(Some((1, 8))));
        let (joined, alone) = (file(Some((9, 3))), file(None));
        let mut firsts = Firsts::default();
        let mut meet = |from, work, there| firsts.meet(from, work, there, || "here");
        assert_eq!(meet(&alone, Work::Copy, None), Met::First);
        assert_eq!(meet(&alone, Work::Copy, None), Met::First);

        assert_eq!(meet(&one, Work::Skip, Some(&joined)), Met::First);
        assert_eq!(meet(&one, Work::Skip, Some(&joined)), Met::Joined);
        assert_eq!(meet(&one, Work::Skip, Some(&alone)), Met::Further("here"));
        assert_eq!(meet(&one, Work::Copy, None), Met::Further("here"));

        // What replaces the first leaves the other name with the old file.
        assert_eq!(meet(&two, Work::Copy, Some(&joined)), Met::First);
        assert_eq!(meet(&two, Work::Skip, Some(&joined)), Met::Further("here"));
    }
}
