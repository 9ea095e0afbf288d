//! `audit` (part 3.7).

use std::collections::HashMap;
use std::io::Write;

use bytes::{BufMut, BytesMut};
use chirp_proto::{Code, encode};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::authorize::{Failure, Granted};
use crate::export::Export;
use crate::heavy::Slice;
use crate::outcome::{Outcome, Steps, Turn};
use crate::vfs::walk::{Event, Walk};
use crate::vfs::{ACL_NAME, Dir};

/// Owners that are told apart: their names come from the lists in the tree. With names of at most
/// [`NAME_MAX`] bytes this bounds an audit's memory to some 8 MiB.
const OWNERS_MAX: usize = 4096;

/// Bytes of a list's first line that are looked at.
const NAME_MAX: usize = 1023;

/// Starts an audit of a directory.
pub(crate) fn audit(top: &Granted) -> Result<Outcome, Failure> {
    let dir = top.directory()?;
    let mut audit = Audit {
        owners: Vec::new(),
        numbers: HashMap::new(),
        walk: None,
    };
    let owner = audit.directory(dir)?;
    audit.walk = Some(Walk::new(dir, owner)?);
    Ok(Outcome::Steps(Box::new(audit)))
}

struct Audit {
    owners: Vec<(Vec<u8>, Sums)>,
    /// The places in `owners`.
    numbers: HashMap<Vec<u8>, usize>,
    /// Remembers of each directory whose it is.
    walk: Option<Walk<usize>>,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    files: u64,
    directories: u64,
    bytes: u64,
}

impl Steps for Audit {
    fn step(&mut self, _: &Export, out: &mut BytesMut, slice: &Slice) -> Turn {
        let Some(mut walk) = self.walk.take() else {
            return Turn::End;
        };
        while !slice.is_over() {
            match self.on(&mut walk) {
                Ok(true) => {}
                Ok(false) => {
                    self.report(out);
                    return Turn::End;
                }
                Err(errno) => {
                    let code = Code::from_errno(errno.raw_os_error());
                    return Turn::Answer(Outcome::Failed(code));
                }
            }
        }
        self.walk = Some(walk);
        Turn::More
    }
}

impl Audit {
    /// Counts the next entry; false at the end of the tree.
    fn on(&mut self, walk: &mut Walk<usize>) -> Result<bool, Errno> {
        match walk.advance() {
            None => return Ok(false),
            Some(Ok(Event::End)) => {
                walk.leave();
                return Ok(true);
            }
            Some(event) => event?,
        };
        let Some(dir) = walk.dir() else {
            return Ok(false);
        };
        if walk.file_type() == FileType::Directory {
            return self.enter(walk);
        }
        let stat = match dir.stat(walk.name()) {
            Ok(stat) => stat,
            // Removed meanwhile.
            Err(Errno::NOENT) => return Ok(true),
            Err(errno) => return Err(errno),
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return self.enter(walk);
        }
        let owner = walk.data().and_then(|&owner| self.owners.get_mut(owner));
        if let Some((_, sums)) = owner {
            sums.files += 1;
            let bytes = u64::try_from(stat.st_size).unwrap_or(0);
            sums.bytes = sums.bytes.saturating_add(bytes);
        }
        Ok(true)
    }

    fn enter(&mut self, walk: &mut Walk<usize>) -> Result<bool, Errno> {
        match walk.open() {
            Ok(dir) => {
                let owner = self.directory(&dir)?;
                walk.enter(dir, owner)?;
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(errno),
        }
        Ok(true)
    }

    /// Counts a directory, and returns whose it is.
    fn directory(&mut self, dir: &Dir) -> Result<usize, Errno> {
        let name = owner(dir)?;
        let number = match self.numbers.get(&name) {
            Some(&number) => number,
            None if self.owners.len() >= OWNERS_MAX => {
                tracing::warn!(
                    limit = OWNERS_MAX,
                    "an audit met more owners than it can tell apart"
                );
                return Err(Errno::NOMEM);
            }
            None => {
                self.owners.push((name.clone(), Sums::default()));
                self.numbers.insert(name, self.owners.len() - 1);
                self.owners.len() - 1
            }
        };
        if let Some((_, sums)) = self.owners.get_mut(number) {
            sums.directories += 1;
        }
        Ok(number)
    }

    fn report(&mut self, out: &mut BytesMut) {
        self.owners.sort_by(|(a, _), (b, _)| a.cmp(b));
        encode::number(self.owners.len() as u64, out);
        for (name, sums) in &self.owners {
            out.put_slice(name);
            // Writing to memory does not fail.
            let _ = writeln!(
                out.writer(),
                " {} {} {}",
                sums.files,
                sums.directories,
                sums.bytes
            );
        }
    }
}

/// Returns the first word of the first line of a directory's own list.
fn owner(dir: &Dir) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut line = [0; NAME_MAX];
    let read = rustix::fs::openat(dir, ACL_NAME, flags, Mode::empty())
        .and_then(|list| rustix::io::pread(list, &mut line, 0));
    let line = match read {
        Ok(count) => line.get(..count).unwrap_or_default(),
        // A lack of descriptors or memory says nothing about the owner.
        Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => return Err(errno),
        Err(_) => b"",
    };
    let word = line
        .split(|byte| matches!(byte, b' ' | b'\t' | b'\n'))
        .next()
        .filter(|word| !word.is_empty());
    Ok(word.unwrap_or(b"unknown").to_vec())
}
