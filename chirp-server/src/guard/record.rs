//! The record on disk, kept where programs cannot reach it, from which the server after one that was
//! killed puts right what its programs did.
//!
//! It is a text file in the transient directory, one line a fact, each ended by a full stop:
//!
//! ```text
//! lists 1 2 1795248684.5 .           of the tree whose directory is inode 2 and was born then
//! t 1 756e69783a2a20726c0a .         text 1, in hexadecimal
//! d - 17 1795248684.7 1 600 .        a directory of the same device has text 1 with this mode;
//! d - 18 1795248684.8 - 0 .          this one has no list, and a number after `!` says why one is none
//! + 5 - 17 1795248684.7 6a6f62 .     subtree 5 begins at this directory, last seen at this path
//! - 5 .                              no program runs in it any more
//! ```
//!
//! A later line about a directory replaces an earlier one. What belongs to one step is one `write`, so a
//! killed server leaves at most one torn step, at the end, and what it announced was not done. Nothing is
//! flushed to the disk: the loss of power is not what this is for.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::identity::Id;
use super::list::{List, Shared, Text};
use super::state::{Kept, Top};

/// The file.
const NAME: &str = "lists.record";

/// Bytes after which what counts no more is dropped.
const LONG: u64 = 1024 * 1024;

/// The open file.
#[derive(Debug)]
pub(super) struct Record {
    file: File,
    path: PathBuf,
    root: Id,
    length: u64,
    /// The length from which it is too long.
    long: u64,
    /// The texts that it has.
    texts: HashMap<Shared, u64>,
}

/// What a server that was killed has left.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Where subtrees begin in which programs ran, with their paths.
    pub(super) tops: Vec<(Id, Vec<u8>)>,
    /// The lists of directories.
    pub(super) lists: HashMap<Id, List>,
}

impl Record {
    /// Opens the record of the tree whose directory this is, and returns what is left in it.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn open(transient: &Path, root: &Id) -> io::Result<(Self, Left)> {
        let path = transient.join(NAME);
        let mut file = open_private(&path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let left = match parse(&text, root) {
            Some(left) => left,
            None => {
                tracing::warn!(
                    target: "exec",
                    path = %path.display(),
                    "the record of access control lists is about another directory; it is dropped"
                );
                Left::default()
            }
        };
        let record = Self {
            file,
            path,
            root: *root,
            length: text.len() as u64,
            long: LONG,
            texts: HashMap::new(),
        };
        Ok((record, left))
    }

    /// Writes down that a subtree begins, and what was not known of its directories.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn begin(
        &mut self,
        number: u64,
        top: &Top,
        fresh: impl IntoIterator<Item = (Id, List)>,
    ) -> Result<(), Errno> {
        let mut lines = self.lines(fresh);
        self.top_line(number, top, &mut lines);
        self.append(lines)
    }

    /// Writes down lists.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn add(&mut self, lists: impl IntoIterator<Item = (Id, List)>) -> Result<(), Errno> {
        let lines = self.lines(lists);
        self.append(lines)
    }

    /// Writes down where a subtree begins too.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn top(&mut self, number: u64, top: &Top) -> Result<(), Errno> {
        let mut lines = Lines::default();
        self.top_line(number, top, &mut lines);
        self.append(lines)
    }

    /// Writes down that no program runs in a subtree any more. If that cannot be written, the next start
    /// looks for what is right already.
    pub(super) fn end(&mut self, number: u64) {
        let mut lines = Lines::default();
        // Writing to memory does not fail.
        let _ = writeln!(lines.text, "- {number} .");
        if let Err(error) = self.append(lines) {
            tracing::warn!(target: "exec", %error, path = %self.path.display(), "cannot write to the record of access control lists");
        }
    }

    /// Reports whether there is much in it that may not count any more.
    pub(super) const fn is_long(&self) -> bool {
        self.length >= self.long
    }

    /// Drops all that counts no more.
    ///
    /// # Errors
    ///
    /// The system's; then it is as it was.
    pub(super) fn rewrite(&mut self, kept: Kept) -> io::Result<()> {
        let before = std::mem::take(&mut self.texts);
        let written = self.write_anew(kept);
        if written.is_err() {
            self.texts = before;
        }
        written
    }

    fn write_anew(&mut self, kept: Kept) -> io::Result<()> {
        let mut lines = self.lines(kept.directories);
        for (number, top) in &kept.tops {
            self.top_line(*number, top, &mut lines);
        }
        let (seconds, nanoseconds) = self.root.born;
        let header = format!("lists 1 {} {seconds}.{nanoseconds} .\n", self.root.inode);
        let text = [header.as_bytes(), lines.text.as_bytes()].concat();
        let fresh = self.path.with_extension("new");
        let mut file = open_private(&fresh)?;
        file.set_len(0)?;
        file.write_all(&text)?;
        std::fs::rename(&fresh, &self.path)?;
        self.file = file;
        self.length = text.len() as u64;
        self.long = LONG.max(self.length * 2);
        self.texts.extend(lines.texts);
        Ok(())
    }

    fn append(&mut self, lines: Lines) -> Result<(), Errno> {
        let mut left = lines.text.as_bytes();
        while !left.is_empty() {
            match rustix::io::write(&self.file, left) {
                Ok(written) => {
                    self.length += written as u64;
                    left = left.get(written..).unwrap_or_default();
                }
                Err(Errno::INTR) => {}
                Err(errno) => {
                    // What is torn is closed, so that the next line is whole.
                    let _ = rustix::io::write(&self.file, b"\n");
                    return Err(errno);
                }
            }
        }
        self.texts.extend(lines.texts);
        Ok(())
    }

    fn lines(&self, lists: impl IntoIterator<Item = (Id, List)>) -> Lines {
        let mut lines = Lines::default();
        for (id, list) in lists {
            let (what, mode) = match list {
                List::Absent => ("-".to_owned(), 0),
                List::Broken(errno) => (format!("!{}", errno.raw_os_error()), 0),
                List::Text(text, mode) => (self.number(text, &mut lines).to_string(), mode),
            };
            let _ = writeln!(lines.text, "d {} {what} {mode:o} .", self.words(&id));
        }
        lines
    }

    /// Returns the number of a text, which gets one with a line of its own if it has none.
    fn number(&self, text: Arc<Text>, lines: &mut Lines) -> u64 {
        let text = Shared(text);
        if let Some(number) = self.texts.get(&text).or_else(|| lines.texts.get(&text)) {
            return *number;
        }
        let number = (self.texts.len() + lines.texts.len()) as u64 + 1;
        let _ = write!(lines.text, "t {number} ");
        hex(&text.0.bytes, &mut lines.text);
        lines.text.push_str(" .\n");
        lines.texts.insert(text, number);
        number
    }

    fn top_line(&self, number: u64, top: &Top, lines: &mut Lines) {
        let _ = write!(lines.text, "+ {number} {} ", self.words(&top.id));
        hex(&top.path, &mut lines.text);
        lines.text.push_str(" .\n");
    }

    /// Returns the words for a directory. The device of the tree may have another number after the
    /// machine was started anew, so it has none here.
    fn words(&self, id: &Id) -> String {
        let (seconds, nanoseconds) = id.born;
        let device = match id.device == self.root.device {
            true => "-".to_owned(),
            false => id.device.to_string(),
        };
        format!("{device} {} {seconds}.{nanoseconds}", id.inode)
    }
}

/// Lines to write, and the texts that they tell.
#[derive(Debug, Default)]
struct Lines {
    text: String,
    texts: HashMap<Shared, u64>,
}

/// Reads a record; `None` if it is about another tree and not empty.
fn parse(text: &[u8], root: &Id) -> Option<Left> {
    let mut left = Left::default();
    let mut texts: HashMap<u64, Arc<Text>> = HashMap::new();
    let mut tops: Vec<(u64, Id, Vec<u8>)> = Vec::new();
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let Some(line) = line.strip_suffix(b" .") else {
            continue;
        };
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        let words: Vec<&str> = line.split(' ').collect();
        match (at, words.as_slice()) {
            (0, ["lists", "1", inode, born]) if id(&["-", inode, born], root) != Some(*root) => {
                return None;
            }
            (_, ["t", number, hex]) => {
                if let (Ok(number), Some(bytes)) = (number.parse(), unhex(hex)) {
                    texts.insert(number, Arc::new(Text::new(&bytes)));
                }
            }
            (_, ["d", device, inode, born, what, mode]) => {
                let list = list(what, mode, &texts);
                if let (Some(id), Some(list)) = (id(&[device, inode, born], root), list) {
                    left.lists.insert(id, list);
                }
            }
            (_, ["+", number, device, inode, born, path]) => {
                let id = id(&[device, inode, born], root);
                if let (Ok(number), Some(id), Some(path)) = (number.parse(), id, unhex(path)) {
                    tops.push((number, id, path));
                }
            }
            (_, ["-", number]) => {
                if let Ok(number) = number.parse::<u64>() {
                    tops.retain(|(other, ..)| *other != number);
                }
            }
            _ => {}
        }
    }
    left.tops = tops.into_iter().map(|(_, id, path)| (id, path)).collect();
    Some(left)
}

fn list(what: &str, mode: &str, texts: &HashMap<u64, Arc<Text>>) -> Option<List> {
    if what == "-" {
        return Some(List::Absent);
    }
    if let Some(errno) = what.strip_prefix('!') {
        let errno = errno.parse().ok()?;
        return Some(List::Broken(Errno::from_raw_os_error(errno)));
    }
    let text = texts.get(&what.parse().ok()?)?;
    let mode = u32::from_str_radix(mode, 8).ok()?;
    Some(List::Text(Arc::clone(text), mode & 0o777))
}

fn id(words: &[&str; 3], root: &Id) -> Option<Id> {
    let [device, inode, born] = words;
    let (seconds, nanoseconds) = born.split_once('.')?;
    Some(Id {
        device: match *device {
            "-" => root.device,
            other => other.parse().ok()?,
        },
        inode: inode.parse().ok()?,
        born: (seconds.parse().ok()?, nanoseconds.parse().ok()?),
    })
}

fn hex(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let pairs = digits.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(value(*high)? * 16 + value(*low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

/// Opens or makes a file that only this account may read, for appending.
fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Id = Id {
        device: 7,
        inode: 2,
        born: (100, 5),
    };

    fn directory(inode: u64) -> Id {
        Id { inode, ..ROOT }
    }

    fn text(bytes: &[u8]) -> List {
        List::Text(Arc::new(Text::new(bytes)), 0o640)
    }

    fn top(inode: u64, path: &[u8]) -> Top {
        let here = tempfile::tempdir().unwrap();
        let root = crate::vfs::Root::open(here.path()).unwrap();
        Top {
            id: directory(inode),
            dir: root.dir().clone(),
            path: path.to_vec(),
        }
    }

    #[test]
    fn what_was_written_is_read_again_and_what_ended_is_not() {
        let transient = tempfile::tempdir().unwrap();
        let (mut record, left) = Record::open(transient.path(), &ROOT).unwrap();
        assert!(left.tops.is_empty());
        record.rewrite(Kept::default()).unwrap();
        let elsewhere = Id {
            device: 9,
            inode: 17,
            born: (0, 0),
        };
        let lists = [
            (directory(17), text(b"unix:* rl\n")),
            (directory(18), text(b"unix:* rl\n")),
            (directory(19), List::Absent),
            (elsewhere, List::Broken(Errno::INVAL)),
        ];
        record
            .begin(1, &top(17, b"a b/\xff"), lists.clone())
            .unwrap();
        record.begin(2, &top(2, b""), []).unwrap();
        record.add([(directory(18), text(b""))]).unwrap();
        record.begin(3, &top(19, b"c"), []).unwrap();
        record.end(3);
        // A line that was torn counts for nothing, nor does anything else.
        record
            .file
            .write_all(b"d - 17 100.5 - 0\nx\n\xff .\n+ 9 - 1")
            .unwrap();
        let (mut again, left) = Record::open(transient.path(), &ROOT).unwrap();
        let expected = vec![
            (directory(17), b"a b/\xff".to_vec()),
            (directory(2), Vec::new()),
        ];
        assert_eq!(left.tops, expected);
        assert_eq!(left.lists.len(), 4);
        assert_eq!(left.lists[&directory(17)], text(b"unix:* rl\n"));
        assert_eq!(left.lists[&directory(18)], text(b""));
        assert_eq!(left.lists[&directory(19)], List::Absent);
        assert_eq!(left.lists[&elsewhere], List::Broken(Errno::INVAL));
        again.rewrite(Kept::default()).unwrap();
        let (_, left) = Record::open(transient.path(), &ROOT).unwrap();
        assert!(left.tops.is_empty() && left.lists.is_empty());
    }

    #[test]
    fn a_rewritten_record_says_the_same() {
        let transient = tempfile::tempdir().unwrap();
        let (mut record, _) = Record::open(transient.path(), &ROOT).unwrap();
        let kept = Kept {
            directories: vec![(directory(17), text(b"x")), (directory(18), text(b"y"))],
            tops: vec![(4, top(17, b"d"))],
        };
        record.rewrite(kept).unwrap();
        record.add([(directory(20), text(b"y"))]).unwrap();
        let (_, left) = Record::open(transient.path(), &ROOT).unwrap();
        assert_eq!(left.tops, [(directory(17), b"d".to_vec())]);
        for (inode, bytes) in [(17, b"x"), (18, b"y"), (20, b"y")] {
            assert_eq!(left.lists[&directory(inode)], text(bytes));
        }
    }

    #[test]
    fn a_record_of_another_tree_is_dropped() {
        let transient = tempfile::tempdir().unwrap();
        let (mut record, _) = Record::open(transient.path(), &ROOT).unwrap();
        record.rewrite(Kept::default()).unwrap();
        record.begin(1, &top(17, b"d"), []).unwrap();
        let (_, left) = Record::open(transient.path(), &directory(3)).unwrap();
        assert!(left.tops.is_empty());
        // The number of the device may be another one after a new start of the machine.
        let moved = Id { device: 8, ..ROOT };
        let (_, left) = Record::open(transient.path(), &moved).unwrap();
        assert_eq!(left.tops.len(), 1);
    }
}
