//! Whether an entry that is there already is the one that would be copied.

use super::Existing;
use super::facts::{Facts, Kind};

/// What is to be done for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Copy it.
    Copy,
    /// Copy it if the digests differ; else give it mode and time.
    Compare,
    /// Only give it mode and time.
    Attributes,
    /// Nothing.
    Skip,
}

/// Decides by what listings say; `mode` is the one that the copy shall have.
pub(super) fn decide(existing: Existing, from: &Facts, there: Option<&Facts>, mode: u32) -> Work {
    let Some(there) = there.filter(|there| there.kind == Kind::File) else {
        return Work::Copy;
    };
    // Sizes of pseudo files are not those of their contents.
    if existing == Existing::Replace || from.size != there.size {
        return Work::Copy;
    }
    if existing == Existing::Compare || from.mtime != there.mtime {
        return Work::Compare;
    }
    if there.mode != mode {
        return Work::Attributes;
    }
    Work::Skip
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Facts = Facts {
        kind: Kind::File,
        size: 5,
        mode: 0o644,
        mtime: 100,
        allocated: 4096,
        shared: None,
        device: 1,
    };

    #[test]
    fn what_is_there_is_left_only_if_size_time_and_mode_are_the_same() {
        let decide = |existing, there: Facts| decide(existing, &FILE, Some(&there), 0o644);
        let (longer, later) = (Facts { size: 6, ..FILE }, Facts { mtime: 101, ..FILE });
        let (link, secret) = (
            Facts {
                kind: Kind::Link,
                ..FILE
            },
            Facts {
                mode: 0o600,
                ..FILE
            },
        );
        assert_eq!(decide(Existing::Update, FILE), Work::Skip);
        assert_eq!(decide(Existing::Update, longer), Work::Copy);
        assert_eq!(decide(Existing::Update, later), Work::Compare);
        assert_eq!(decide(Existing::Update, secret), Work::Attributes);
        assert_eq!(decide(Existing::Update, link), Work::Copy);
        assert_eq!(decide(Existing::Compare, FILE), Work::Compare);
        assert_eq!(decide(Existing::Replace, FILE), Work::Copy);
        assert_eq!(
            super::decide(Existing::Update, &FILE, None, 0o644),
            Work::Copy
        );
    }
}
