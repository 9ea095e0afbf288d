//! Tickets as text: the file that the server keeps of each (`chirp-protocol.md`, part 7.1). Reading
//! and writing the files is the server's work, and so is the key inside.

use std::fmt::Write as _;

use crate::Subject;
use crate::acl::Rights;

/// Bytes of the largest ticket file. A key of 16,384 bits takes three thousand; the rest is for masks.
pub const TICKET_MAX: usize = 256 * 1024;

/// What a ticket file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    owner: Subject,
    key: String,
    expires: i64,
    masks: Vec<Mask>,
}

/// What a ticket leaves of its owner's rights in one directory and those below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// The virtual path of the directory.
    pub path: Vec<u8>,
    /// The rights that are left.
    pub rights: Rights,
}

impl Mask {
    /// Reports whether this is of a directory below another one, by whole components.
    #[must_use]
    pub fn is_below(&self, dir: &[u8]) -> bool {
        covers(dir, &self.path) && components(&self.path).count() > components(dir).count()
    }
}

/// Why a text is no ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It is cut short, or there is something else in it.
    #[error("the text is no list of keywords and quoted values")]
    Syntax,
    /// A keyword that may stand once stands twice. The reference takes the last, which let anybody who
    /// could register a text become anyone (weakness W1).
    #[error("{0} stands twice")]
    Twice(&'static str),
    /// A keyword is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The owner is no `METHOD:NAME`, the time no number, or a key holds what no key can.
    #[error("the value of {0} cannot be one")]
    Value(&'static str),
    /// The text is longer than [`TICKET_MAX`].
    #[error("it is longer than {TICKET_MAX} bytes")]
    TooLong,
}

impl Ticket {
    /// Makes a new ticket, which gives no right anywhere yet. `expires` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// `Value` for a key text that [`is_storable`] refuses.
    pub fn new(owner: Subject, key: Vec<u8>, expires: i64) -> Result<Self, TicketError> {
        if !is_storable(&key) {
            return Err(TicketError::Value("ticket"));
        }
        Ok(Self {
            owner,
            key: String::from_utf8(key).map_err(|_| TicketError::Value("ticket"))?,
            expires,
            masks: vec![Mask {
                path: b"/".to_vec(),
                rights: Rights::NONE,
            }],
        })
    }

    /// Reads the text of a ticket file.
    ///
    /// # Errors
    ///
    /// [`TicketError`]: such a file is worth nothing.
    pub fn parse(text: &[u8]) -> Result<Self, TicketError> {
        if text.len() > TICKET_MAX {
            return Err(TicketError::TooLong);
        }
        let mut words = Words(text);
        let (mut owner, mut key, mut expires, mut masks) = (None, None, None, Vec::new());
        while let Some(keyword) = words.keyword() {
            let value = words.quoted().ok_or(TicketError::Syntax)?;
            match keyword {
                b"subject" => once(&mut owner, value, "subject")?,
                b"ticket" => once(&mut key, value, "ticket")?,
                b"expiration" => once(&mut expires, value, "expiration")?,
                b"rights" => masks.push(Mask {
                    path: value.to_vec(),
                    rights: Rights::parse(words.quoted().ok_or(TicketError::Syntax)?),
                }),
                _ => return Err(TicketError::Syntax),
            }
        }
        let owner = owner.ok_or(TicketError::Missing("subject"))?;
        let key = key.ok_or(TicketError::Missing("ticket"))?;
        let expires = expires.ok_or(TicketError::Missing("expiration"))?;
        if masks.is_empty() {
            return Err(TicketError::Missing("rights"));
        }
        let mut ticket = Self::new(
            Subject::parse(owner).ok_or(TicketError::Value("subject"))?,
            key.to_vec(),
            std::str::from_utf8(expires)
                .ok()
                .and_then(|number| number.parse().ok())
                .ok_or(TicketError::Value("expiration"))?,
        )?;
        ticket.masks = masks;
        Ok(ticket)
    }

    /// Returns the text of the file, as the reference writes it.
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let Self {
            owner,
            key,
            expires,
            masks,
        } = self;
        let mut text = format!("subject \"{owner}\"\nticket \"{key}\"\nexpiration \"{expires}\"\n")
            .into_bytes();
        for Mask { path, rights } in masks {
            text.extend_from_slice(b"rights \"");
            text.extend_from_slice(path);
            text.extend_from_slice(format!("\" \"{rights}\"\n").as_bytes());
        }
        text
    }

    /// Returns whom the ticket acts for.
    #[must_use]
    pub const fn owner(&self) -> &Subject {
        &self.owner
    }

    /// Returns the text that was registered. Only if that is a key can anybody log in with it.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns when the ticket ends, in seconds since 1970.
    #[must_use]
    pub const fn expires(&self) -> i64 {
        self.expires
    }

    /// Returns the masks in their order.
    #[must_use]
    pub fn masks(&self) -> &[Mask] {
        &self.masks
    }

    /// Returns what the ticket leaves of its owner's rights in a directory: the mask of the longest
    /// directory that is this one or above it, by whole components (part 7.4; W18). `dir` is the path
    /// below the root without slashes at its ends.
    #[must_use]
    pub fn mask(&self, dir: &[u8]) -> Rights {
        let matching = self.masks.iter().filter(|mask| covers(&mask.path, dir));
        let longest = matching
            .clone()
            .map(|mask| components(&mask.path).count())
            .max();
        // One directory may be named in several ways, as with a slash at the end: all count.
        matching
            .filter(|mask| Some(components(&mask.path).count()) == longest)
            .map(|mask| mask.rights)
            .reduce(Rights::masked_by)
            .unwrap_or(Rights::NONE)
    }

    /// Reports whether this ticket leaves all of these rights in a directory, named as in
    /// [`Ticket::mask`], and in every one below it.
    #[must_use]
    pub fn leaves(&self, dir: &[u8], rights: Rights) -> bool {
        let mut within = self.masks.iter().filter(|mask| mask.is_below(dir));
        self.mask(dir).leaves(rights) && within.all(|mask| mask.rights.leaves(rights))
    }

    /// Sets or replaces the mask of a directory, named as in [`Ticket::mask`].
    ///
    /// # Errors
    ///
    /// `Value` for a path that cannot stand between quotes, `TooLong` if the file would be.
    pub fn set_mask(&mut self, dir: &[u8], rights: Rights) -> Result<(), TicketError> {
        if dir
            .iter()
            .any(|&byte| byte == b'"' || byte.is_ascii_control())
        {
            return Err(TicketError::Value("rights"));
        }
        let same = |mask: &Mask| components(&mask.path).eq(components(dir));
        match self.masks.iter_mut().find(|mask| same(mask)) {
            Some(mask) => mask.rights = rights,
            None => self.masks.push(Mask {
                path: [b"/", dir].concat(),
                rights,
            }),
        }
        // Other spellings of the same directory do not outlive the change.
        let mut seen = false;
        self.masks
            .retain(|mask| !same(mask) || !std::mem::replace(&mut seen, true));
        if self.to_text().len() > TICKET_MAX {
            return Err(TicketError::TooLong);
        }
        Ok(())
    }

    /// Returns the answer to `ticket_get` after its status line (part 7.2). `now` is in seconds since
    /// 1970.
    #[must_use]
    pub fn describe(&self, now: i64) -> Vec<u8> {
        let (owner, key) = (self.owner.as_str(), &self.key);
        let left = self.expires.saturating_sub(now);
        let mut text = String::new();
        // Writing into a string cannot fail. No LF stands after the two counted texts.
        let _ = writeln!(text, "{}\n{owner}{}\n{key}{left}", owner.len(), key.len());
        let mut text = text.into_bytes();
        for Mask { path, rights } in &self.masks {
            text.extend_from_slice(path);
            text.extend_from_slice(format!(" {rights}\n").as_bytes());
        }
        text.extend_from_slice(b"0\n");
        text
    }
}

/// Reports whether a text can be kept between the quotes of a ticket file without being mistaken for
/// anything else: printable ASCII, blanks and LF, and no quote (W1). A PEM key is such a text.
#[must_use]
pub fn is_storable(key: &[u8]) -> bool {
    key.iter()
        .all(|byte| matches!(byte, b'\n' | b' '..=b'~') && *byte != b'"')
}

fn once<'a>(
    place: &mut Option<&'a [u8]>,
    value: &'a [u8],
    keyword: &'static str,
) -> Result<(), TicketError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(TicketError::Twice(keyword)),
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty())
}

/// Reports whether `mask` is `dir` or above it.
fn covers(mask: &[u8], dir: &[u8]) -> bool {
    let mut dir = components(dir);
    components(mask).all(|name| dir.next() == Some(name))
}

/// What is left of a ticket file.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    /// Takes a word, if there is one left.
    fn keyword(&mut self) -> Option<&'a [u8]> {
        let text = self.0.trim_ascii_start();
        let end = text
            .iter()
            .position(|byte| !byte.is_ascii_lowercase())
            .unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.0 = rest;
        (!text.is_empty()).then_some(word)
    }

    /// Takes a quoted text.
    fn quoted(&mut self) -> Option<&'a [u8]> {
        let text = self.0.trim_ascii_start().strip_prefix(b"\"")?;
        let (value, rest) = text.split_at(memchr::memchr(b'"', text)?);
        self.0 = rest.get(1..)?;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "subject \"unix:alice\"\nticket \"-----BEGIN PUBLIC KEY-----\nMIGf\n-----END PUBLIC KEY-----\n\"\nexpiration \"1795253370\"\nrights \"/\" \"n\"\nrights \"/data\" \"rwlp\"\n";

    #[test]
    fn the_references_file_is_read_and_written_byte_for_byte() {
        let ticket = Ticket::parse(TEXT.as_bytes()).unwrap();
        assert_eq!(ticket.owner().as_str(), "unix:alice");
        assert!(ticket.key().ends_with("KEY-----\n"));
        assert_eq!(ticket.expires(), 1_795_253_370);
        assert_eq!(String::from_utf8(ticket.to_text()).unwrap(), TEXT);
        let loose = TEXT
            .replace('\n', "\n  ")
            .replace("expiration ", "expiration");
        assert!(Ticket::parse(loose.as_bytes()).is_ok());
    }

    #[test]
    fn a_text_that_is_cut_short_or_says_a_thing_twice_is_no_ticket() {
        // Cut within the last line's value or before it nothing is lost without notice.
        let last_quote = TEXT.rfind('"').unwrap();
        let whole_masks = [TEXT.find("rights \"/data").unwrap()];
        for end in (0..=last_quote).filter(|end| !whole_masks.contains(end)) {
            let cut = TEXT.get(..end).unwrap();
            let read = Ticket::parse(cut.as_bytes());
            assert!(
                read.is_err() || TEXT[end..].trim_start().starts_with("rights \"/data"),
                "{cut}"
            );
        }
        for (keyword, error) in [
            ("subject \"unix:root\"\n", TicketError::Twice("subject")),
            ("ticket \"abc\"\n", TicketError::Twice("ticket")),
            (
                "expiration \"9999999999\"\n",
                TicketError::Twice("expiration"),
            ),
            ("subject\n", TicketError::Syntax),
            ("owner \"unix:root\"\n", TicketError::Syntax),
            ("\0", TicketError::Syntax),
        ] {
            let text = format!("{TEXT}{keyword}");
            assert_eq!(Ticket::parse(text.as_bytes()), Err(error), "{keyword}");
        }
        for (from, to) in [
            ("unix:alice", "ali ce"),
            ("1795253370", "soon"),
            ("MIGf", "\u{7f}"),
        ] {
            assert!(matches!(
                Ticket::parse(TEXT.replace(from, to).as_bytes()),
                Err(TicketError::Value(_))
            ));
        }
    }

    #[test]
    fn the_longest_directory_counts_by_whole_components() {
        let mut ticket = Ticket::new(Subject::parse(b"unix:a").unwrap(), b"k".to_vec(), 0).unwrap();
        assert_eq!(ticket.mask(b""), Rights::NONE);
        for (dir, rights) in [("s", "rl"), ("s/deep", "r"), ("", "l")] {
            ticket
                .set_mask(dir.as_bytes(), Rights::parse(rights.as_bytes()))
                .unwrap();
        }
        for (dir, rights) in [
            ("", "l"),
            ("s", "rl"),
            ("s/x/y", "rl"),
            ("s/deep", "r"),
            ("s/deeper", "rl"),
            ("secret", "l"),
        ] {
            assert_eq!(ticket.mask(dir.as_bytes()).to_string(), rights, "{dir}");
        }
        assert_eq!(ticket.masks().len(), 3, "the mask of / was replaced");
        let spelled = TEXT
            .replace("/data", "/data/")
            .replace("rights \"/\" \"n\"", "rights \"/data\" \"rwl\"");
        let mut ticket = Ticket::parse(spelled.as_bytes()).unwrap();
        assert_eq!(ticket.mask(b"data").to_string(), "rwlp");
        assert_eq!(ticket.mask(b""), Rights::NONE, "nothing covers it");
        ticket.set_mask(b"data", Rights::LIST).unwrap();
        assert_eq!(ticket.mask(b"data/x").to_string(), "l");
        assert_eq!(ticket.masks().len(), 1);
    }

    #[test]
    fn nothing_that_is_stored_can_be_taken_for_syntax() {
        let owner = || Subject::parse(b"unix:a").unwrap();
        for key in [
            "a\"",
            "a\"\nsubject \"unix:root\"\n",
            "a\0",
            "a\r",
            "\u{e9}",
        ] {
            assert!(
                Ticket::new(owner(), key.as_bytes().to_vec(), 0).is_err(),
                "{key:?}"
            );
        }
        let mut ticket = Ticket::new(owner(), b"abc".to_vec(), 0).unwrap();
        assert!(
            ticket
                .set_mask(b"a\" \"rwl\"\nrights \"/", Rights::READ)
                .is_err()
        );
        let long = vec![b'x'; 1000];
        let mut full = Ok(());
        for number in 0..400 {
            full = ticket.set_mask(
                &[format!("{number}/").as_bytes(), &long].concat(),
                Rights::READ,
            );
        }
        assert_eq!(full, Err(TicketError::TooLong));
    }

    proptest! {
        #[test]
        fn no_file_content_makes_reading_panic(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Ticket::parse(&text);
        }

        #[test]
        fn what_is_written_reads_back(
            key in "[ -~\n]{0,40}", expires: i64, masks in proptest::collection::vec(("[a-z/ .]{0,9}", "[rwldpax]{0,4}"), 0..5)
        ) {
            let key = key.replace('"', "'");
            let mut ticket = Ticket::new(Subject::parse(b"unix:a").unwrap(), key.into_bytes(), expires).unwrap();
            for (dir, rights) in masks {
                ticket.set_mask(dir.as_bytes(), Rights::parse(rights.as_bytes())).unwrap();
            }
            prop_assert_eq!(Ticket::parse(&ticket.to_text()), Ok(ticket));
        }
    }
}
