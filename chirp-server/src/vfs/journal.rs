//! The list of files under construction, kept where clients cannot reach it, so that a start after
//! a crash removes what was left without looking through the tree.
//!
//! The journal is a text file in the transient directory, one line a record:
//!
//! ```text
//! +17 64656570 .__put.0f…     temporary 17 may be in the directory of this (hexadecimal) path
//! -17                         temporary 17 is gone, or has its final name
//! ```
//!
//! A record is one `write`, so a killed server leaves at most one torn line, at the end, and what
//! it announced was not made yet. Records are not flushed to the disk: the loss of power is not
//! what the journal is for.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::{Dir, Root, temporary};

/// The file with the records.
const JOURNAL_NAME: &str = "unfinished.journal";

/// Bytes after which finished records are dropped.
const COMPACT_AT: u64 = 256 * 1024;

/// The open journal of one server.
#[derive(Debug)]
pub struct Journal {
    state: Mutex<State>,
    path: PathBuf,
}

/// One announced temporary; give it back with [`Journal::end`].
#[derive(Debug)]
pub struct Entry(u64);

#[derive(Debug)]
struct State {
    file: File,
    length: u64,
    next: u64,
    active: HashMap<u64, Unfinished>,
}

#[derive(Clone, Debug)]
struct Unfinished {
    dir_path: Vec<u8>,
    name: Vec<u8>,
}

/// The journal cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the journal {}", path.display())]
pub struct JournalError {
    path: PathBuf,
    source: std::io::Error,
}

impl Journal {
    /// Opens the journal in the transient directory, which belongs to this server alone, and
    /// removes what the server before left unfinished below `root`. Returns the journal and how
    /// many temporaries there were.
    ///
    /// # Errors
    ///
    /// [`JournalError`]. Temporaries that cannot be removed are no error: they stay on record.
    pub fn open(transient: &Path, root: &Root) -> Result<(Self, usize), JournalError> {
        let path = transient.join(JOURNAL_NAME);
        let failed = |source| JournalError {
            path: path.clone(),
            source,
        };
        let mut file = open_private(&path).map_err(failed)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed)?;
        let places = unfinished_places(&text);
        let found = places.len();
        let mut state = State {
            file,
            length: 0,
            next: 0,
            active: HashMap::new(),
        };
        for place in places {
            if let Err(errno) = place.remove(root) {
                tracing::warn!(
                    directory = %place.dir_path.escape_ascii(),
                    name = %place.name.escape_ascii(),
                    %errno,
                    "cannot remove what was left unfinished"
                );
                state.next += 1;
                state.active.insert(state.next, place);
            }
        }
        state.rewrite(&path).map_err(failed)?;
        let journal = Self {
            state: Mutex::new(state),
            path,
        };
        Ok((journal, found))
    }

    /// Records a temporary that will be made in a directory, named by its link-free path below the
    /// root.
    ///
    /// # Errors
    ///
    /// The system's, if the record cannot be written; then nothing may be made.
    pub fn begin(&self, dir_path: &[u8], name: &[u8]) -> Result<Entry, Errno> {
        let mut state = self.lock();
        state.next += 1;
        let id = state.next;
        let unfinished = Unfinished {
            dir_path: dir_path.to_vec(),
            name: name.to_vec(),
        };
        state.append(&unfinished.record(id))?;
        state.active.insert(id, unfinished);
        Ok(Entry(id))
    }

    /// Records that a temporary is gone, or is temporary no more.
    pub fn end(&self, entry: Entry) {
        let Entry(id) = entry;
        let mut state = self.lock();
        state.active.remove(&id);
        // A record that cannot be written costs a look at the next start, nothing more.
        let written = state.append(format!("-{id}\n").as_bytes()).is_ok();
        let compacted = state.length < COMPACT_AT || state.rewrite(&self.path).is_ok();
        if !(written && compacted) {
            tracing::warn!(path = %self.path.display(), "cannot write to the journal");
        }
    }

    /// Records where temporaries will be once a directory is renamed; call it before that. Old
    /// places stay on record, for the rename may fail.
    ///
    /// # Errors
    ///
    /// The system's, if the record cannot be written.
    pub fn moving(&self, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        let mut state = self.lock();
        let moved: Vec<(u64, Unfinished)> = state
            .active
            .iter()
            .filter_map(|(id, unfinished)| {
                let below = unfinished.dir_path.strip_prefix(from)?;
                if !below.is_empty() && !below.starts_with(b"/") {
                    return None;
                }
                let dir_path = [to, below].concat();
                let name = unfinished.name.clone();
                Some((*id, Unfinished { dir_path, name }))
            })
            .collect();
        for (id, unfinished) in &moved {
            state.append(&unfinished.record(*id))?;
        }
        state.active.extend(moved);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn append(&mut self, record: &[u8]) -> Result<(), Errno> {
        let written = rustix::io::write(&self.file, record)?;
        self.length += written as u64;
        if written == record.len() {
            Ok(())
        } else {
            // The disk is full in the middle of a line: close the line, so that the next is whole.
            let _ = rustix::io::write(&self.file, b"\n");
            Err(Errno::NOSPC)
        }
    }

    /// Replaces the file by one with the active records only.
    fn rewrite(&mut self, path: &Path) -> std::io::Result<()> {
        let fresh = path.with_extension("new");
        let mut text = Vec::new();
        for (id, unfinished) in &self.active {
            text.extend_from_slice(&unfinished.record(*id));
        }
        let mut file = open_private(&fresh)?;
        file.set_len(0)?;
        file.write_all(&text)?;
        std::fs::rename(&fresh, path)?;
        self.file = file;
        self.length = text.len() as u64;
        Ok(())
    }
}

impl Unfinished {
    fn record(&self, id: u64) -> Vec<u8> {
        let mut line = format!("+{id} ").into_bytes();
        for byte in &self.dir_path {
            line.extend_from_slice(format!("{byte:02x}").as_bytes());
        }
        line.push(b' ');
        line.extend_from_slice(&self.name);
        line.push(b'\n');
        line
    }

    /// Reads what follows the `+` of a record.
    fn parse(record: &[u8]) -> Option<(u64, Self)> {
        let mut words = record.split(|&byte| byte == b' ');
        let id = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        let dir_path = unhex(words.next()?)?;
        let mut components = dir_path.split(|&byte| byte == b'/');
        if components.any(|name| name == b"." || name == b"..") {
            return None;
        }
        let name = words.next()?.to_vec();
        let safe = temporary::is_temporary(&name) && !name.contains(&b'/');
        (safe && words.next().is_none()).then_some((id, Self { dir_path, name }))
    }

    /// Removes the temporary, if it and its directory are there.
    fn remove(&self, root: &Root) -> Result<(), Errno> {
        let mut dir: Dir = root.dir().clone();
        let components = self.dir_path.split(|&byte| byte == b'/');
        for component in components.filter(|name| !name.is_empty()) {
            dir = match dir.child(component) {
                Ok(child) => child,
                // No such directory any more, or a link in its place: not ours.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
                Err(errno) => return Err(errno),
            };
        }
        temporary::remove(&dir, &self.name)
    }
}

/// Returns the places where something unfinished may be, in the order of their records. Lines that
/// do not fit are skipped, and so is a last line without its end.
fn unfinished_places(text: &[u8]) -> Vec<Unfinished> {
    let mut places: Vec<(u64, Unfinished)> = Vec::new();
    let whole = memchr::memrchr(b'\n', text).unwrap_or(0);
    for line in text
        .get(..whole)
        .unwrap_or_default()
        .split(|&byte| byte == b'\n')
    {
        match line.split_first() {
            Some((b'+', record)) => places.extend(Unfinished::parse(record)),
            Some((b'-', record)) => {
                let ended = std::str::from_utf8(record)
                    .ok()
                    .and_then(|id| id.parse().ok());
                places.retain(|(id, _)| Some(*id) != ended);
            }
            _ => {}
        }
    }
    places.into_iter().map(|(_, place)| place).collect()
}

/// Returns where a start looks for what is unfinished according to a journal with this content: the path of
/// each directory below the root, and the name in it. It removes nothing else.
#[must_use]
pub fn places(content: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let places = unfinished_places(content).into_iter();
    places.map(|place| (place.dir_path, place.name)).collect()
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let value = |digit: &u8| char::from(*digit).to_digit(16);
    digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(value(high)? * 16 + value(low)?).ok(),
            _ => None,
        })
        .collect()
}

/// Opens or makes a file that only this account may read, for appending.
fn open_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}
