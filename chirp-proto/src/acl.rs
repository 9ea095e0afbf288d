//! Rights and access control lists as text (`chirp-protocol.md`, part 6). Reading and writing the
//! files is the server's work.

use std::fmt;

/// Bytes of a line that count; the reference cuts longer ones.
const ACL_LINE_MAX: usize = 1023;

/// How a line begins that stands for the members of a group.
const GROUP: &[u8] = b"group:";

/// A set of rights, with what a new directory's owner gets by the `v` right.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Rights {
    own: u8,
    reserved: u8,
}

/// Letters in the order in which the server writes a line's rights, `v` apart.
const WRITE_ORDER: [(u8, Rights); 7] = [
    (b'r', Rights::READ),
    (b'w', Rights::WRITE),
    (b'l', Rights::LIST),
    (b'd', Rights::DELETE),
    (b'p', Rights::PUT),
    (b'a', Rights::ADMIN),
    (b'x', Rights::EXECUTE),
];

impl Rights {
    /// No rights.
    pub const NONE: Self = Self::own(0);
    /// `r`: read content, hash, read links.
    pub const READ: Self = Self::own(1);
    /// `w`: write, create, make directories and links.
    pub const WRITE: Self = Self::own(1 << 1);
    /// `l`: list and stat.
    pub const LIST: Self = Self::own(1 << 2);
    /// `d`: delete and rename away.
    pub const DELETE: Self = Self::own(1 << 3);
    /// `p`: create new files only.
    pub const PUT: Self = Self::own(1 << 4);
    /// `a`: change the ACL.
    pub const ADMIN: Self = Self::own(1 << 5);
    /// `x`: run programs.
    pub const EXECUTE: Self = Self::own(1 << 6);
    /// `v`: make directories of one's own.
    pub const RESERVE: Self = Self::own(1 << 7);

    const fn own(bits: u8) -> Self {
        Self {
            own: bits,
            reserved: 0,
        }
    }

    /// Returns the rights of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self {
            own: self.own | other.own,
            reserved: self.reserved | other.reserved,
        }
    }

    /// Returns the rights that are in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self {
            own: self.own & other.own,
            reserved: self.reserved & other.reserved,
        }
    }

    /// Returns these rights as they were asked for: W without the P that it implies when it is read.
    #[must_use]
    pub const fn without_implied(mut self) -> Self {
        if self.own & Self::WRITE.own != 0 {
            self.own &= !Self::PUT.own;
        }
        self
    }

    /// Returns what is left of these rights under a ticket's mask.
    ///
    /// A bare `v` reserves `rwlda` (part 6.5), so it is that of which the mask takes its part; the
    /// intersection of `v(r)` and `v(w)` is not a bare `v` again.
    #[must_use]
    pub const fn masked_by(self, mask: Self) -> Self {
        let mut left = self.own & mask.own;
        let reserved = self.reserves() & mask.reserves();
        if reserved == 0 {
            left &= !Self::RESERVE.own;
        }
        Self {
            own: left,
            reserved: if left & Self::RESERVE.own == 0 {
                0
            } else {
                reserved
            },
        }
    }

    /// Returns the bits that the `v` right gives the owner of a new directory.
    const fn reserves(self) -> u8 {
        if self.own & Self::RESERVE.own == 0 {
            0
        } else if self.reserved == 0 {
            Self::READ.own | Self::WRITE.own | Self::LIST.own | Self::DELETE.own | Self::ADMIN.own
        } else {
            self.reserved
        }
    }

    /// Reports whether every right of `needed` is in this set.
    #[must_use]
    pub const fn contains(self, needed: Self) -> bool {
        self.own & needed.own == needed.own && self.reserved & needed.reserved == needed.reserved
    }

    /// Reports whether a mask of these rights leaves all that the mask `other` leaves. A bare `v` is as
    /// in [`Rights::masked_by`].
    #[must_use]
    pub const fn leaves(self, other: Self) -> bool {
        let reserved = other.reserves();
        self.own & other.own == other.own
            && (other.own & Self::RESERVE.own == 0 || self.reserves() & reserved == reserved)
    }

    /// Reports whether there is no right at all.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.own == 0 && self.reserved == 0
    }

    /// Returns what a directory made by the `v` right gives its owner: the rights in `v(...)`, or
    /// `rwlda` where none are listed (part 6.5).
    #[must_use]
    pub const fn for_reserved_directory(self) -> Self {
        // Not what they imply: that is added whenever a list is read, and not written here.
        Self::own(self.reserves())
    }

    /// Reads rights from any text: letters that are not rights are ignored, `w` implies `p`, and
    /// what stands in parentheses belongs to `v`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut rights = Self::NONE;
        let mut in_reserve = false;
        for &letter in text {
            match letter {
                b'(' => in_reserve = rights.contains(Self::RESERVE),
                b')' => in_reserve = false,
                _ if in_reserve => rights.reserved |= bit(letter),
                _ => rights.own |= bit(letter),
            }
        }
        rights.with_implied()
    }

    const fn with_implied(mut self) -> Self {
        if self.own & Self::WRITE.own != 0 {
            self.own |= Self::PUT.own;
        }
        self
    }
}

impl fmt::Display for Rights {
    /// Writes `rwldpax` order, then `v(...)` with the inner order `rwldpvax`; `n` for nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("n");
        }
        for (letter, right) in WRITE_ORDER {
            if self.contains(right) {
                write!(f, "{}", char::from(letter))?;
            }
        }
        if self.contains(Self::RESERVE) {
            f.write_str("v(")?;
            for letter in *b"rwldpvax" {
                if self.reserved & bit(letter) != 0 {
                    write!(f, "{}", char::from(letter))?;
                }
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

/// Returns the bit of a right's letter; none for any other letter.
fn bit(letter: u8) -> u8 {
    if letter == b'v' {
        return Rights::RESERVE.own;
    }
    let known = WRITE_ORDER.iter().find(|(known, _)| *known == letter);
    known.map_or(0, |(_, right)| right.own)
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One line of an ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `METHOD:SUBJECT`, or a pattern with one `*`, exactly as it was set.
    pub subject: Vec<u8>,
    /// What it grants.
    pub rights: Rights,
}

/// The lines of one directory's ACL, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    entries: Vec<Entry>,
}

impl Acl {
    /// Makes a list of the given lines.
    #[must_use]
    pub const fn new(entries: Vec<Entry>) -> Self {
        Self { entries }
    }

    /// Reads the text of an ACL file. Lines that do not fit are skipped, as part 6.1 says.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let entries = text
            .split(|&byte| byte == b'\n')
            .filter_map(parse_line)
            .collect();
        Self { entries }
    }

    /// Returns the numbers of a file's lines, from 1, that say nothing: they are neither of a list nor
    /// empty, and `SUBJECT n` is of a list.
    pub fn misfits(text: &[u8]) -> impl Iterator<Item = usize> {
        let says_nothing = |line: &[u8]| {
            let without_right = line
                .strip_suffix(b" n")
                .is_some_and(|subject| !subject.is_empty());
            parse_line(line).is_none() && !line.is_empty() && !without_right
        };
        text.split(|&byte| byte == b'\n')
            .zip(1..)
            .filter(move |(line, _)| says_nothing(line))
            .map(|(_, number)| number)
    }

    /// Returns the lines.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the rights of all lines that match the subject, together. There is no deny. No group has
    /// any member here.
    #[must_use]
    pub fn rights_of(&self, subject: &str) -> Rights {
        let nobody = |_: &[u8]| Ok::<_, std::convert::Infallible>(false);
        match self.rights_with_groups(subject, nobody) {
            Ok(rights) => rights,
            Err(never) => match never {},
        }
    }

    /// Returns the rights of all lines that match the subject, together. `is_member` is asked for the
    /// lines `group:NAME` that would add to what the other lines give.
    ///
    /// # Errors
    ///
    /// The first of `is_member`.
    pub fn rights_with_groups<E>(
        &self,
        subject: &str,
        mut is_member: impl FnMut(&[u8]) -> Result<bool, E>,
    ) -> Result<Rights, E> {
        let mut rights = Rights::NONE;
        for entry in &self.entries {
            if !entry.subject.starts_with(GROUP) && matches(&entry.subject, subject.as_bytes()) {
                rights = rights.union(entry.rights);
            }
        }
        for entry in &self.entries {
            let Some(group) = entry.subject.strip_prefix(GROUP) else {
                continue;
            };
            if !rights.contains(entry.rights) && is_member(group)? {
                rights = rights.union(entry.rights);
            }
        }
        Ok(rights)
    }

    /// Replaces the rights of exactly this subject in place, drops its line if the new rights are
    /// empty, or appends a line where none matched (part 6.8).
    pub fn set(&mut self, subject: &[u8], rights: Rights) {
        // Lines without a right, as text in parentheses alone makes them, do not outlive a change.
        self.entries
            .retain(|entry| !entry.rights.is_empty() || entry.subject == subject);
        let mut found = false;
        for entry in &mut self.entries {
            if entry.subject == subject {
                entry.rights = rights;
                found = true;
            }
        }
        if !found {
            self.entries.push(Entry {
                subject: subject.to_vec(),
                rights,
            });
        } else if rights.is_empty() {
            self.entries.retain(|entry| entry.subject != subject);
        }
    }

    /// Returns the text of the file, in canonical spelling.
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for entry in &self.entries {
            text.extend_from_slice(&entry.subject);
            text.extend_from_slice(format!(" {}\n", entry.rights).as_bytes());
        }
        text
    }
}

fn parse_line(line: &[u8]) -> Option<Entry> {
    let line = line.get(..ACL_LINE_MAX).unwrap_or(line);
    let blank = memchr::memchr(b' ', line)?;
    let (subject, rest) = line.split_at(blank);
    let letters: &[u8] = rest.trim_ascii_start();
    let length = letters
        .iter()
        .position(|letter| !b"rwldpvax()".contains(letter))
        .unwrap_or(letters.len());
    let (letters, _) = letters.split_at(length);
    if subject.is_empty() || letters.is_empty() {
        return None;
    }
    Some(Entry {
        subject: subject.to_vec(),
        rights: Rights::parse(letters),
    })
}

/// Matches a pattern: exactly, or by what stands before and after the first `*` (part 6.3).
/// Patterns of the form `group:NAME` match nobody here: groups are looked up by the server.
fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    if pattern.starts_with(GROUP) {
        return false;
    }
    let Some(star) = memchr::memchr(b'*', pattern) else {
        return pattern == subject;
    };
    let (prefix, rest) = pattern.split_at(star);
    let suffix = rest.strip_prefix(b"*").unwrap_or(rest);
    subject.len() >= prefix.len() + suffix.len()
        && subject.starts_with(prefix)
        && subject.ends_with(suffix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_groups_that_would_add_rights_are_asked_for() {
        let acl = Acl::parse(b"group:a rl\ngroup:b rw\nunix:x rl\ngroup:c w\ngroup:d x\n");
        let mut asked = Vec::new();
        let rights = acl.rights_with_groups("unix:x", |group| {
            asked.push(String::from_utf8_lossy(group).into_owned());
            Ok::<_, ()>(group == b"b")
        });
        assert_eq!(
            rights.map(|rights| rights.to_string()),
            Ok("rwlp".to_owned())
        );
        assert_eq!(asked, ["b", "d"]);
    }

    #[test]
    fn rights_are_written_in_the_references_order() {
        for (raw, expected) in [
            ("xadplwrv(xavpdlwr)", "rwldpaxv(rwldpvax)"),
            ("rqZl", "rl"),
            ("w", "wp"),
            ("v", "v()"),
            ("v(v)", "v(v)"),
            ("v(w)", "v(w)"),
            ("v(p)", "v(p)"),
            ("n", "n"),
            ("", "n"),
            ("rwlda", "rwldpa"),
            ("(r)", "r"),
        ] {
            assert_eq!(Rights::parse(raw.as_bytes()).to_string(), expected, "{raw}");
        }
    }

    #[test]
    fn a_reserved_directory_gives_its_owner_what_the_parentheses_list() {
        for (parent, child) in [("v(rwl)", "rwl"), ("v", "rwlda"), ("rwlv(v)", "v()")] {
            let rights = Rights::parse(parent.as_bytes()).for_reserved_directory();
            assert_eq!(rights.to_string(), child, "{parent}");
        }
    }

    #[test]
    fn a_mask_widens_nothing() {
        for (rights, mask, left) in [
            ("rwlda", "rl", "rl"),
            ("rl", "rwldax", "rl"),
            ("w", "p", "p"),
            ("v", "v(rl)", "v(rl)"),
            ("v(rl)", "v", "v(rl)"),
            ("rv(r)", "rv(w)", "r"),
            ("v(r)", "r", "n"),
        ] {
            let [rights, mask] = [rights, mask].map(|text| Rights::parse(text.as_bytes()));
            assert_eq!(rights.masked_by(mask).to_string(), left, "{rights} {mask}");
        }
    }

    #[test]
    fn lines_that_do_not_fit_are_skipped() {
        let acl = Acl::parse(
            b"unix:alice rwlda\nunix:bob n\nnoblank\n rl\nunix:c  rl junk\naddress:* l\nx:y rq\n\n",
        );
        let text = String::from_utf8(acl.to_text()).unwrap();
        assert_eq!(text, "unix:alice rwldpa\nunix:c rl\naddress:* l\nx:y r\n");
    }

    #[test]
    fn matching_follows_part_6_3() {
        for (pattern, subject, expected) in [
            ("unix:alice", "unix:alice", true),
            ("unix:*", "unix:alice", true),
            ("*", "unix:alice", true),
            ("address:127.*", "address:127.0.0.1", true),
            ("unix:a*e", "unix:alice", true),
            ("unix:a*x", "unix:alice", false),
            ("a*a", "a", false),
            ("unix:*l*", "unix:al*", true),
            ("unix:*l*", "unix:alice", false),
            ("group:staff", "group:staff", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), subject.as_bytes()),
                expected,
                "{pattern} {subject}"
            );
        }
    }

    #[test]
    fn rights_of_all_matching_lines_add_up() {
        let acl = Acl::parse(b"unix:* r\nunix:alice l\nunix:alice d\n");
        assert_eq!(acl.rights_of("unix:alice").to_string(), "rld");
        assert_eq!(acl.rights_of("unix:bob").to_string(), "r");
        assert_eq!(acl.rights_of("address:1.2.3.4"), Rights::NONE);
    }

    #[test]
    fn set_replaces_drops_or_appends() {
        let mut acl = Acl::parse(b"unix:a rl\nunix:b w\n");
        acl.set(b"unix:a", Rights::parse(b"w"));
        acl.set(b"unix:b", Rights::NONE);
        acl.set(b"unix:c", Rights::NONE);
        assert_eq!(acl.to_text(), b"unix:a wp\nunix:c n\n");
        let mut acl = Acl::parse(b"unix:a rl\nunix:z (\n");
        acl.set(b"unix:b", Rights::READ);
        assert_eq!(acl.to_text(), b"unix:a rl\nunix:b r\n");
    }

    #[test]
    fn lines_that_say_nothing_are_counted() {
        let text = b"unix:alice rl\ngarbage\n\nunix:b n\n rl\nunix:c zz\n\0\n";
        assert_eq!(Acl::misfits(text).collect::<Vec<_>>(), [2, 5, 6, 7]);
    }

    proptest! {
        #[test]
        fn written_rights_read_back(text in "[rwldpvax()n ]{0,12}") {
            let rights = Rights::parse(text.as_bytes());
            prop_assert_eq!(Rights::parse(rights.to_string().as_bytes()), rights);
        }

        #[test]
        fn no_file_content_makes_reading_panic(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            let acl = Acl::parse(&text);
            let again = Acl::parse(&acl.to_text());
            prop_assert_eq!(again.rights_of("unix:a"), acl.rights_of("unix:a"));
        }
    }
}
