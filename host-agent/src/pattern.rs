//! The one language for "which guests" (`host-agent.md` part 5).
//!
//! Items are separated by commas. An item is a glob (`*`, `?`, `[…]`) matched against name, id and
//! addresses, or against one of them with the prefix `name:`, `id:` or `ip:`; a leading `!` takes matches
//! away again. `*` alone means every ready guest. A pattern whose items all begin with `!` starts from
//! every ready guest.

use beacon::mac::MacId;
use beacon::registry::GuestRecord;
use globset::{GlobBuilder, GlobMatcher};

use crate::api::types::usable;

/// Bytes of a pattern at most.
const PATTERN_MAX: usize = 4096;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    items: Vec<Item>,
}

/// What a pattern looks at in a guest.
#[derive(Debug, Clone, Copy)]
struct Subject<'a> {
    /// The guest's name.
    name: &'a str,
    /// Its id in any form.
    id: &'a str,
    /// Its addresses, without ports.
    addresses: &'a [String],
    /// Whether it can be given work.
    ready: bool,
}

/// A pattern that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pattern {pattern:?}: {reason}")]
pub(crate) struct BadPattern {
    /// The pattern, cut to a readable length.
    pub(crate) pattern: String,
    /// What is wrong with it.
    pub(crate) reason: String,
}

#[derive(Debug, Clone)]
struct Item {
    take_away: bool,
    field: Field,
    test: Test,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Any,
    Name,
    Id,
    Address,
}

#[derive(Debug, Clone)]
enum Test {
    /// `*` without a prefix.
    Ready,
    /// A MAC address written out, in whichever form.
    Mac(MacId),
    /// A glob over text; ids are compared in lower case.
    Glob {
        exact: GlobMatcher,
        folded: GlobMatcher,
    },
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    ///
    /// It is empty or too long, an item is empty, or a glob is malformed.
    pub(crate) fn parse(text: &str) -> Result<Self, BadPattern> {
        let bad = |reason: &str| BadPattern {
            pattern: text.chars().take(80).collect(),
            reason: reason.to_owned(),
        };
        if text.len() > PATTERN_MAX {
            return Err(bad(&format!("longer than {PATTERN_MAX} bytes")));
        }
        let items = split_items(text)
            .map(|item| Item::parse(item).map_err(|reason| bad(&reason)))
            .collect::<Result<_, _>>()?;
        Ok(Self { items })
    }

    /// Returns whether the pattern takes that guest: the last item that matches it decides.
    pub(crate) fn takes(&self, guest: &GuestRecord) -> bool {
        self.takes_if(guest, usable(guest))
    }

    /// Returns whether the pattern would take that guest if it were ready.
    pub(crate) fn would_take(&self, guest: &GuestRecord) -> bool {
        self.takes_if(guest, true)
    }

    /// Returns whether the pattern would take the guest of that machine if it were ready.
    pub(crate) fn takes_machine(&self, name: &str, ids: &[MacId]) -> bool {
        let none = String::new();
        let ids: Vec<String> = ids.iter().map(MacId::to_string).collect();
        let mut ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        if ids.is_empty() {
            ids.push(&none);
        }
        ids.into_iter().any(|id| {
            self.matches(Subject {
                name,
                id,
                addresses: &[],
                ready: true,
            })
        })
    }

    fn takes_if(&self, guest: &GuestRecord, ready: bool) -> bool {
        let others = guest.addresses.iter().map(|address| address.ip.to_string());
        let addresses: Vec<_> = std::iter::once(guest.address.to_string())
            .chain(others)
            .collect();
        self.matches(Subject {
            name: &guest.name,
            id: &guest.id.to_string(),
            addresses: &addresses,
            ready,
        })
    }

    fn matches(&self, guest: Subject<'_>) -> bool {
        let all_take_away = self.items.iter().all(|item| item.take_away);
        let start = all_take_away && guest.ready;
        self.items.iter().fold(start, |taken, item| {
            if item.matches(guest) {
                !item.take_away
            } else {
                taken
            }
        })
    }
}

/// Splits at commas, but not at those inside `[…]`.
fn split_items(text: &str) -> impl Iterator<Item = &str> {
    let mut in_class = false;
    text.split(move |c| {
        match c {
            '[' => in_class = true,
            ']' => in_class = false,
            _ => {}
        }
        c == ',' && !in_class
    })
}

impl Item {
    fn parse(item: &str) -> Result<Self, String> {
        let item = item.trim();
        let (take_away, rest) = match item.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, item),
        };
        let (field, glob) = [
            ("name:", Field::Name),
            ("id:", Field::Id),
            ("ip:", Field::Address),
        ]
        .into_iter()
        .find_map(|(prefix, field)| Some((field, rest.strip_prefix(prefix)?)))
        .unwrap_or((Field::Any, rest));
        if glob.is_empty() {
            return Err("an item is empty".to_owned());
        }
        let test = if field == Field::Any && glob == "*" {
            Test::Ready
        } else if let (Field::Any | Field::Id, Ok(mac)) = (field, glob.parse()) {
            Test::Mac(mac)
        } else {
            Test::Glob {
                exact: compile(glob)?,
                folded: compile(&glob.to_lowercase())?,
            }
        };
        Ok(Self {
            take_away,
            field,
            test,
        })
    }

    fn matches(&self, guest: Subject<'_>) -> bool {
        match &self.test {
            Test::Ready => guest.ready,
            Test::Mac(mac) => {
                guest.id.parse() == Ok(*mac)
                    // A name that looks like a MAC address is still a name.
                    || (self.field == Field::Any && guest.name.parse() == Ok(*mac))
            }
            Test::Glob { exact, folded } => {
                let name = || exact.is_match(guest.name);
                let id = || folded.is_match(guest.id.to_lowercase());
                let address = || {
                    guest
                        .addresses
                        .iter()
                        .any(|address| folded.is_match(address))
                };
                match self.field {
                    Field::Any => name() || id() || address(),
                    Field::Name => name(),
                    Field::Id => id(),
                    Field::Address => address(),
                }
            }
        }
    }
}

/// Compiles one glob. A `/` is a letter like any other, braces too; a backslash takes the next one's meaning.
fn compile(glob: &str) -> Result<GlobMatcher, String> {
    // globset has alternatives in braces, the language here has not.
    let mut escaped = String::with_capacity(glob.len());
    let (mut in_class, mut after_backslash) = (false, false);
    for c in glob.chars() {
        if matches!(c, '{' | '}') && !in_class && !after_backslash {
            escaped.push('\\');
        }
        match c {
            '[' if !after_backslash => in_class = true,
            ']' => in_class = false,
            _ => {}
        }
        after_backslash = c == '\\' && !after_backslash && !in_class;
        escaped.push(c);
    }
    GlobBuilder::new(&escaped)
        .literal_separator(false)
        .backslash_escape(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| error.kind().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(pattern: &str) -> Vec<&'static str> {
        let pattern = Pattern::parse(pattern).unwrap();
        let guests = [
            ("worker-1", "08:00:27:E0:AD:01", "192.168.56.101", true),
            ("worker-2", "08:00:27:E0:AD:02", "192.168.56.102", true),
            ("Build", "52:54:00:00:00:03", "fe80::3", true),
            ("old", "52:54:00:00:00:04", "10.0.0.4", false),
        ];
        guests
            .into_iter()
            .filter(|(name, id, address, ready)| {
                let addresses = [(*address).to_owned()];
                pattern.matches(Subject {
                    name,
                    id,
                    addresses: &addresses,
                    ready: *ready,
                })
            })
            .map(|(name, ..)| name)
            .collect()
    }

    #[test]
    fn the_language() {
        for (pattern, want) in [
            ("*", &["worker-1", "worker-2", "Build"][..]),
            ("name:*", &["worker-1", "worker-2", "Build", "old"]),
            ("worker-1", &["worker-1"]),
            ("worker-?", &["worker-1", "worker-2"]),
            ("worker-[2-9]", &["worker-2"]),
            ("worker-[1,2]", &["worker-1", "worker-2"]),
            ("worker-[!1]", &["worker-2"]),
            ("build", &[]),
            ("Build,old", &["Build", "old"]),
            (" Build , old ", &["Build", "old"]),
            ("*,!worker-1", &["worker-2", "Build"]),
            ("!worker-*", &["Build"]),
            ("!worker-*,worker-1", &["worker-1"]),
            ("worker-*,!worker-*,worker-2", &["worker-2"]),
            ("08-00-27-e0-ad-02", &["worker-2"]),
            ("id:080027E0AD02", &["worker-2"]),
            ("id:08:00:27:e0:*", &["worker-1", "worker-2"]),
            ("08:00:27:E0:AD:0?", &["worker-1", "worker-2"]),
            ("ip:192.168.56.*", &["worker-1", "worker-2"]),
            ("ip:FE80::3", &["Build"]),
            ("name:192.168.56.*", &[]),
            ("ip:worker-1", &[]),
            ("{worker-1,old}", &[]),
            ("work{e}r-1", &[]),
            ("work[{e]r-1", &["worker-1"]),
            ("work\\er-1", &["worker-1"]),
            ("worker\\*", &[]),
        ] {
            assert_eq!(taken(pattern), want, "{pattern}");
        }
    }

    #[test]
    fn patterns_that_say_nothing_are_refused() {
        for bad in [
            "",
            ",",
            "a,",
            "!",
            "name:",
            "[",
            "a[",
            "!id:",
            &"x".repeat(5000),
        ] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    /// Returns whether a glob of `*`, `?` and letters matches, as slowly and plainly as can be.
    fn plain(glob: &[char], text: &[char]) -> bool {
        match (glob, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => (0..=text.len()).any(|at| plain(rest, &text[at..])),
            (['?', rest @ ..], [_, text @ ..]) => plain(rest, text),
            ([letter, rest @ ..], [first, text @ ..]) => letter == first && plain(rest, text),
            _ => false,
        }
    }

    fn one(pattern: &str, name: &str, ready: bool) -> bool {
        Pattern::parse(pattern).unwrap().matches(Subject {
            name,
            id: "52:54:00:00:00:09",
            addresses: &["10.0.0.9".to_owned()],
            ready,
        })
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,64}", name in ".{0,16}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                let addresses = ["10.0.0.9".to_owned()];
                pattern.matches(Subject { name: &name, id: "", addresses: &addresses, ready: true });
            }
        }

        #[test]
        fn globs_mean_what_they_mean_everywhere(glob in "[ab*?]{1,8}", name in "[ab/.]{0,8}", ready: bool) {
            let (letters, text): (Vec<_>, Vec<_>) = (glob.chars().collect(), name.chars().collect());
            prop_assert_eq!(one(&format!("name:{glob}"), &name, ready), plain(&letters, &text));
        }

        #[test]
        fn the_order_of_what_is_added_does_not_matter(
            mut items in proptest::collection::vec("name:[ab*?]{1,4}", 1..5), name in "[ab]{0,4}",
        ) {
            let forth = one(&items.join(","), &name, true);
            items.reverse();
            prop_assert_eq!(one(&items.join(" , "), &name, true), forth);
        }

        #[test]
        fn what_is_taken_away_last_is_not_taken(
            items in proptest::collection::vec("!?name:[ab*?]{1,4}", 1..5), away in "[ab]{1,4}", ready: bool,
        ) {
            let pattern = format!("{},!name:{away}", items.join(","));
            prop_assert!(!one(&pattern, &away, ready));
        }

        #[test]
        fn only_taking_away_starts_from_the_ready_ones(away in "[ab*?]{1,4}", name in "[ab]{0,4}", ready: bool) {
            let taken = one(&format!("!name:{away}"), &name, ready);
            prop_assert_eq!(taken, ready && !one(&format!("name:{away}"), &name, ready));
            prop_assert_eq!(one("*", &name, ready), ready);
        }
    }
}
