//! What the generator makes and the reference cannot be asked.

use anyhow::Result;
use globset::{Glob, GlobMatcher};

/// Names of vectors, with stars, and why they are not recorded.
pub const LEFT_OUT: &[(&str, &str)] = &[
    (
        "{getfile,open,putfile,putstream,lsetxattr}.object.fifo",
        "The reference opens a named pipe and waits, deaf to everybody, for its other end.",
    ),
    (
        "thirdput.object.path=root",
        "A directory copied into itself goes on until paths become too long.",
    ),
    (
        "pwrite.number.length=overlong",
        "The length of a body saturates: the rest of it would be waited for.",
    ),
    (
        "whoami.number.length={2147483647,2147483648,4294967296,9223372036854775807,9223372036854775808,overlong}",
        "The reference allocates what the caller names: it ends, or answers what happens to be in memory.",
    ),
    (
        "whoami.words",
        "The reference answers as many bytes as it finds in memory that nothing was written to.",
    ),
    (
        "{rmall,resetacl,setacl}.object.{root,link-to-root}",
        "The root without its content, or with other rights, is no place for the vectors that follow on the \
         same server.",
    ),
];

/// Tells which vectors are left out, and remembers which lines of the list were of use.
#[derive(Debug)]
pub struct LeftOut {
    lines: Vec<(GlobMatcher, bool)>,
}

impl LeftOut {
    /// Reads [`LEFT_OUT`].
    ///
    /// # Errors
    ///
    /// Fails on a malformed pattern.
    pub fn new() -> Result<Self> {
        let lines: Result<Vec<_>> = LEFT_OUT
            .iter()
            .map(|(pattern, _)| Ok((Glob::new(pattern)?.compile_matcher(), false)))
            .collect();
        Ok(Self { lines: lines? })
    }

    /// Reports whether the list names a vector.
    pub fn names(&mut self, name: &str) -> bool {
        let mut found = false;
        for (pattern, used) in &mut self.lines {
            if pattern.is_match(name) {
                *used = true;
                found = true;
            }
        }
        found
    }

    /// Returns the lines that named nothing.
    #[must_use]
    pub fn idle(&self) -> Vec<&'static str> {
        let lines = self.lines.iter().zip(LEFT_OUT);
        lines
            .filter(|((_, used), _)| !used)
            .map(|(_, (pattern, _))| *pattern)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_leaves_something_out() {
        let mut left_out = LeftOut::new().unwrap();
        for vector in crate::record::all().into_iter().flatten() {
            left_out.names(&vector.name);
        }
        assert_eq!(left_out.idle(), Vec::<&str>::new());
    }
}
