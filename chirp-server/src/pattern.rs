//! The shell patterns of `search` (`chirp-protocol.md`, part 11): `fnmatch` with `FNM_PATHNAME`, on a
//! path or any tail of it that starts after a slash. Bytes, no locale.

/// Patterns of which one is enough.
#[derive(Clone, Debug)]
pub struct Patterns(Vec<Atom>);

/// One pattern, by its components. A component never matches across a slash.
#[derive(Clone, Debug)]
struct Atom {
    components: Vec<Vec<u8>>,
    /// Begins with a slash: matches whole paths only.
    anchored: bool,
}

impl Patterns {
    /// Reads patterns separated by `|`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let atoms = text.split(|&byte| byte == b'|').map(|atom| {
            let (anchored, rest) = match atom.strip_prefix(b"/") {
                Some(rest) => (true, rest),
                None => (false, atom),
            };
            Atom {
                components: rest
                    .split(|&byte| byte == b'/')
                    .map(<[u8]>::to_vec)
                    .collect(),
                anchored,
            }
        });
        Self(atoms.collect())
    }

    /// Reports whether a path, which begins with a slash, or a tail of it matches.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        self.0.iter().any(|atom| {
            let mut names = path
                .rsplit(|&byte| byte == b'/')
                .filter(|name| !name.is_empty());
            let tail = atom
                .components
                .iter()
                .rev()
                .all(|pattern| names.next().is_some_and(|name| matches(pattern, name)));
            tail && !(atom.anchored && names.next().is_some())
        })
    }

    /// Reports whether something below this directory can match: not if every pattern is anchored and
    /// none has a leading part that matches the directory.
    #[must_use]
    pub fn reaches_below(&self, path: &[u8]) -> bool {
        self.0.iter().any(|atom| {
            if !atom.anchored {
                return true;
            }
            let mut patterns = atom.components.iter();
            let names = path
                .split(|&byte| byte == b'/')
                .filter(|name| !name.is_empty());
            let mut leads = names.map(|name| {
                patterns
                    .next()
                    .is_some_and(|pattern| matches(pattern, name))
            });
            leads.all(|fits| fits) && patterns.next().is_some()
        })
    }
}

/// Matches one name, which contains no slash.
///
/// `*` tries the shortest run first; only the last `*` needs to be taken back, so this takes at
/// most the product of the lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut rest, mut text) = (pattern, name);
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some(after) = rest.strip_prefix(b"*") {
            retry = Some((after, text));
            rest = after;
            continue;
        }
        let step = match text.split_first() {
            None if rest.is_empty() => return true,
            None => return false,
            Some((&byte, later)) => one(rest, byte).map(|after| (after, later)),
        };
        match step {
            Some(next) => (rest, text) = next,
            None => match retry {
                Some((after, [_, later @ ..])) => {
                    retry = Some((after, later));
                    (rest, text) = (after, later);
                }
                _ => return false,
            },
        }
    }
}

/// Matches one byte against the beginning of a pattern that is no `*`, and returns what follows.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'\\', escaped, rest @ ..] => (*escaped == byte).then_some(rest),
        // An escape of nothing matches nothing.
        [b'\\'] => None,
        [b'[', rest @ ..] => match set(rest, byte) {
            Some((true, after)) => Some(after),
            Some((false, _)) => None,
            // Without its end it is a plain bracket.
            None => (byte == b'[').then_some(rest),
        },
        [plain, rest @ ..] => (*plain == byte).then_some(rest),
    }
}

/// Reads a set behind its `[`. Returns whether it has the byte, and what follows its `]`; `None` if
/// it does not end.
fn set(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match pattern {
        [b'!' | b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    let mut first = true;
    loop {
        match rest {
            [b']', after @ ..] if !first => return Some((found != negated, after)),
            [b'[', b':', after @ ..] => {
                let end = memchr::memmem::find(after, b":]")?;
                let (name, after) = after.split_at(end);
                found |= in_class(name, byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                let (low, after) = element(rest)?;
                rest = after;
                let mut high = low;
                if let [b'-', end @ ..] = rest
                    && !end.starts_with(b"]")
                {
                    (high, rest) = element(end)?;
                }
                found |= (low..=high).contains(&byte);
            }
        }
        first = false;
    }
}

/// Reads one byte of a set, perhaps escaped.
fn element(pattern: &[u8]) -> Option<(u8, &[u8])> {
    match pattern {
        [b'\\', escaped, rest @ ..] => Some((*escaped, rest)),
        [plain, rest @ ..] => Some((*plain, rest)),
        [] => None,
    }
}

fn in_class(name: &[u8], byte: u8) -> bool {
    match name {
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"alpha" => byte.is_ascii_alphabetic(),
        b"blank" => matches!(byte, b' ' | b'\t'),
        b"cntrl" => byte.is_ascii_control(),
        b"digit" => byte.is_ascii_digit(),
        b"graph" => byte.is_ascii_graphic(),
        b"lower" => byte.is_ascii_lowercase(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => byte.is_ascii_whitespace() || byte == 0x0b,
        b"upper" => byte.is_ascii_uppercase(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, path: &str) -> bool {
        Patterns::parse(pattern.as_bytes()).matches(path.as_bytes())
    }

    #[test]
    fn names_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("foo", "foo", true),
            ("foo", "fo", false),
            ("*", ".hidden", true),
            ("f*o", "fo", true),
            ("f*o", "fxoyo", true),
            ("f*o", "foox", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("?", "", false),
            ("?", "x", true),
            ("??", "x", false),
            ("[a-c]x", "bx", true),
            ("[a-c]x", "dx", false),
            ("[!a-c]", "d", true),
            ("[^a-c]", "b", false),
            ("[]a]", "]", true),
            ("[!]a]", "]", false),
            ("[a-]", "-", true),
            ("[[:digit:]]", "7", true),
            ("[[:digit:]_]", "_", true),
            ("[[:digit:]]", "x", false),
            ("[[:nonsense:]]", "x", false),
            ("[", "[", true),
            ("[a", "[a", true),
            ("[a", "a", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("[\\]]", "]", true),
            ("a\\", "a", false),
            ("a\\", "a\\", false),
            ("*\u{e9}", "caf\u{e9}", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn tails_match_and_slashes_anchor() {
        for (pattern, path, expected) in [
            ("foo", "/foo", true),
            ("foo", "/a/b/foo", true),
            ("foo", "/foo/a", false),
            ("a/foo", "/a/foo", true),
            ("a/foo", "/b/a/foo", true),
            ("a/foo", "/aa/foo", false),
            ("a/foo", "/foo", false),
            ("/foo", "/foo", true),
            ("/foo", "/a/foo", false),
            ("/a/*", "/a/x", true),
            ("/a/*", "/a/x/y", false),
            ("/a/*/foo", "/a/b/foo", true),
            ("*", "/a/b", true),
            ("a*b", "/a/b", false),
            ("a?b", "/a/b", false),
            ("x|y", "/y", true),
            ("x|/y", "/a/y", false),
            ("", "/a", false),
            ("|", "/a", false),
            ("/", "/a", false),
            ("a/", "/a", false),
        ] {
            assert_eq!(fits(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn only_anchored_patterns_leave_directories_out() {
        for (pattern, path, expected) in [
            ("foo", "/x", true),
            ("/a/*/foo", "/a", true),
            ("/a/*/foo", "/a/b", true),
            ("/a/*/foo", "/b", false),
            ("/a/*/foo", "/a/b/c", false),
            ("/a", "/a", false),
            ("/a|/b/c", "/b", true),
            ("/a|foo", "/x/y", true),
        ] {
            let below = Patterns::parse(pattern.as_bytes()).reaches_below(path.as_bytes());
            assert_eq!(below, expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_hostile_pattern_is_answered_at_once() {
        let pattern = "a*".repeat(500) + "b";
        let name = "a".repeat(255);
        let begun = std::time::Instant::now();
        for _ in 0..100 {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()));
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    }

    /// What `*` and `?` mean, word by word.
    fn by_definition(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=name.len()).any(|run| by_definition(rest, &name[run..])),
            ([b'?', rest @ ..], [_, later @ ..]) => by_definition(rest, later),
            ([a, rest @ ..], [b, later @ ..]) => a == b && by_definition(rest, later),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn stars_and_marks_match_by_their_definition(pattern in "[ab*?]{0,8}", name in "[abc]{0,8}") {
            prop_assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                by_definition(pattern.as_bytes(), name.as_bytes())
            );
        }

        #[test]
        fn no_pattern_panics(pattern in prop::collection::vec(any::<u8>(), 0..40), path in prop::collection::vec(any::<u8>(), 0..40)) {
            let patterns = Patterns::parse(&pattern);
            let _ = patterns.matches(&path);
            let _ = patterns.reaches_below(&path);
        }

        #[test]
        fn what_matches_lies_below_directories_that_are_entered(
            pattern in "/?[ab*](/[ab*]){0,3}",
            path in "(/[ab]){1,4}",
        ) {
            let patterns = Patterns::parse(pattern.as_bytes());
            if patterns.matches(path.as_bytes()) {
                for (at, _) in path.match_indices('/').skip(1) {
                    prop_assert!(patterns.reaches_below(&path.as_bytes()[..at]));
                }
            }
        }
    }
}
