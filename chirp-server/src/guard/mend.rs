//! Making a subtree say what the record says, once its programs have ended.

use std::fs::File;
use std::io::Read;

use exec_ext::runner::is_open_for_writing;
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::Guard;
use super::identity::{Id, Look};
use super::list::{List, MODE};
use super::record::Left;
use super::state::{Seen, Top};
use super::survey::{Found, Tour};
use crate::acl::file;
use crate::space::Space;
use crate::vfs::temporary::{Replace, Temporary};
use crate::vfs::{ACL_NAME, Dir, small, tree};

/// Lines that the log has of one subtree, so that a program cannot fill it.
const LINES_MAX: u32 = 100;

/// Bytes of what a program wrote that the log shows.
const SHOWN_MAX: usize = 160;

/// Rewritten lists of one subtree.
#[derive(Default)]
struct Tally {
    changed: u32,
    failed: u32,
}

/// Why a list is to be written again.
enum Wrong {
    /// A program did this to it.
    Changed(String),
    /// It is right, but it cannot be known whether anybody can still change it.
    Unsure,
}

impl Guard {
    /// Puts right what begins at a directory. Returns whether all of it is; what is not is logged.
    pub(super) fn mend(&self, top: &Top) -> bool {
        let mut tally = Tally::default();
        let result = self.mend_all(top, &mut tally);
        if let Err(errno) = result {
            tally.failed += 1;
            tracing::error!(target: "exec", directory = %shown(&top.path), %errno, "cannot look for access control lists that programs changed");
        }
        if tally.changed > LINES_MAX {
            tracing::warn!(target: "exec", directory = %shown(&top.path), count = tally.changed, "programs changed access control lists below; all were put right");
        }
        tally.failed == 0
    }

    fn mend_all(&self, top: &Top, tally: &mut Tally) -> Result<(), Errno> {
        let mut tour = Tour::new(&top.path);
        let mut dir = top.dir.clone();
        // The top is on record, so nothing above it is asked for.
        let mut above = List::Absent;
        loop {
            let look = self.look(&dir)?;
            let known = self.state().known(&look.id);
            let known = known.filter(|(_, kept)| *kept).map(|(known, _)| known);
            let (below, settled) = self.below(&dir, &look, known.as_ref())?;
            if let Some(known) = &known {
                let list_changed = known.seen.as_ref().and_then(|seen| seen.list_changed);
                let seen = settled.then(|| Seen {
                    changed: look.changed,
                    below: below.clone(),
                    list_changed,
                });
                self.state().remember(&look.id, seen);
            }
            let list = self.put_right(&dir, &look, &above, tour.path(), tally);
            tour.enter(dir, below, list);
            dir = match tour.next() {
                None => return Ok(()),
                Some(opened) => opened?,
            };
            above = tour.data().cloned().unwrap_or(List::Absent);
        }
    }

    /// Puts one directory right. Returns the list that it has.
    fn put_right(
        &self,
        dir: &Dir,
        look: &Look,
        above: &List,
        path: &[u8],
        tally: &mut Tally,
    ) -> List {
        let mut list = above.clone();
        // No change by a client comes between the look at the record and the writing.
        let result = self.locks.held(dir, || {
            let kept = self.state().list(&look.id);
            let made = kept.is_none();
            if let Some(kept) = kept {
                list = kept;
            }
            let Some(wrong) = wrong(dir, &list, made)? else {
                return Ok(None);
            };
            self.write(dir, path, &list)?;
            Ok(Some(wrong))
        });
        match result {
            Ok(Some(Wrong::Changed(found))) if !found.is_empty() => {
                tally.changed += 1;
                if tally.changed <= LINES_MAX {
                    tracing::warn!(
                        target: "exec",
                        directory = %shown(path),
                        found,
                        "a program changed the access control list of a directory; it was put right"
                    );
                }
            }
            Ok(_) => {}
            // It was removed meanwhile.
            Err(Errno::NOENT) if look.links == 0 => {}
            Err(errno) => {
                let gone = self.identities.of(dir).is_ok_and(|look| look.links == 0);
                if !gone {
                    tally.failed += 1;
                    tracing::error!(
                        target: "exec",
                        directory = %shown(path),
                        %errno,
                        "cannot put right the access control list of a directory; the one on record counts while this server runs"
                    );
                }
            }
        }
        list
    }

    /// Makes a directory have a list, whatever has the name.
    fn write(&self, dir: &Dir, path: &[u8], list: &List) -> Result<(), Errno> {
        let (text, mode): (&[u8], u32) = match list {
            List::Absent => {
                remove_directory(dir)?;
                return dir.unlink_if_there(ACL_NAME);
            }
            List::Text(text, mode) => (&text.bytes, *mode),
            // It gave nobody anything, and so does this.
            List::Broken(_) => (b"", MODE),
        };
        let temporary = Temporary::new(&self.journal, dir, path)?;
        file::write_new(dir, temporary.name(), text)?;
        if mode != MODE {
            let mode = Mode::from_raw_mode(mode);
            rustix::fs::chmodat(dir, temporary.name(), mode, AtFlags::empty())?;
        }
        remove_directory(dir)?;
        temporary.install(ACL_NAME, Replace::Yes)
    }

    /// Puts right what was left by a server that was killed.
    ///
    /// # Errors
    ///
    /// The tree cannot be looked at.
    pub(super) fn recover(&self, left: Left) -> std::io::Result<()> {
        let tops = self.find_tops(&left)?;
        let mut found = Vec::new();
        for top in &tops {
            self.each_below(&top.dir, |id, _, _| {
                // All others were made by programs.
                if let Some(list) = left.lists.get(&id) {
                    let (list, seen) = (list.clone(), None);
                    found.push(Found { id, list, seen });
                }
            })?;
        }
        tracing::warn!(
            target: "exec",
            directories = found.len(),
            "a server before this one was killed while programs ran; putting their access control lists right"
        );
        let number = self.state().restore(found, tops);
        let number = number.map_err(std::io::Error::other)?;
        self.active
            .fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        self.release(number);
        Ok(())
    }

    /// Finds where the subtrees of a killed server begin: at their paths, or else wherever they are.
    fn find_tops(&self, left: &Left) -> std::io::Result<Vec<Top>> {
        let mut tops = Vec::new();
        let mut missing = Vec::new();
        for (id, path) in &left.tops {
            match self.root.descend(path)? {
                Some(dir) if self.identities.of(&dir)?.id == *id => tops.push(Top {
                    id: *id,
                    dir,
                    path: path.clone(),
                }),
                _ => missing.push(*id),
            }
        }
        if missing.is_empty() {
            return Ok(tops);
        }
        self.each_below(self.root.dir(), |id, dir, path| {
            if missing.contains(&id) {
                let (dir, path) = (dir.clone(), path.to_vec());
                tops.push(Top { id, dir, path });
            }
        })?;
        Ok(tops)
    }

    /// Goes through a directory and all below it.
    pub(super) fn each_below(
        &self,
        top: &Dir,
        mut see: impl FnMut(Id, &Dir, &[u8]),
    ) -> Result<(), Errno> {
        let mut tour = Tour::new(b"");
        let mut dir = top.clone();
        loop {
            let look = self.look(&dir)?;
            see(look.id, &dir, tour.path());
            let (below, _) = self.below(&dir, &look, None)?;
            tour.enter(dir, below, ());
            dir = match tour.next() {
                None => return Ok(()),
                Some(opened) => opened?,
            };
        }
    }
}

/// Says what is wrong with the list of a directory; `None` if nothing is. Of one that a program `made`
/// nothing is said where it has none.
fn wrong(dir: &Dir, list: &List, made: bool) -> Result<Option<Wrong>, Errno> {
    let changed = |words: &str| Ok(Some(Wrong::Changed(words.to_owned())));
    let (text, mode) = match list {
        List::Text(text, mode) => (text, *mode),
        List::Absent => {
            return Ok(describe(dir)?.map(Wrong::Changed));
        }
        List::Broken(_) => {
            let there = describe(dir)?;
            // What cannot be read as a list gives nobody anything, whatever it is by now.
            let broken = file::open_in(dir).and_then(file::read).is_err();
            if there.is_some() && broken {
                return Ok(None);
            }
            return changed(there.as_deref().unwrap_or("nothing"));
        }
    };
    let file = match small::open(dir, ACL_NAME) {
        Ok(file) => file,
        Err(Errno::NOENT) if made => return changed(""),
        Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => return Err(errno),
        Err(_) => {
            let there = describe(dir)?;
            return changed(there.as_deref().unwrap_or("nothing"));
        }
    };
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return changed(kind(stat.st_mode));
    }
    let mut content = Vec::new();
    let limit = text.bytes.len() as u64 + 1;
    let read = (&file).take(limit).read_to_end(&mut content);
    read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    if *content != *text.bytes {
        let start = content.get(..SHOWN_MAX).unwrap_or(&content);
        return changed(&format!("{:?}", String::from_utf8_lossy(start)));
    }
    if stat.st_nlink != 1 {
        return changed("a file with another name, too");
    }
    let permissions = stat.st_mode & 0o777;
    if permissions & 0o022 & !mode != 0 {
        return changed(&format!(
            "a file that others may write, of mode {permissions:o}"
        ));
    }
    // Where it is somebody else's, only its permissions could let a program open it for writing.
    let own = stat.st_uid == rustix::process::geteuid().as_raw();
    if !own && mode & 0o022 == 0 {
        return Ok(None);
    }
    still_open(&file)
}

/// Says whether somebody still has a file open to write to it: a program may have handed that to somebody.
fn still_open(file: &File) -> Result<Option<Wrong>, Errno> {
    match is_open_for_writing(file) {
        Ok(false) => Ok(None),
        Ok(true) => Ok(Some(Wrong::Changed(
            "a file that is open for writing".to_owned(),
        ))),
        // The file system cannot tell.
        Err(_) => Ok(Some(Wrong::Unsure)),
    }
}

/// Describes what has the name of a list; `None` if nothing has.
fn describe(dir: &Dir) -> Result<Option<String>, Errno> {
    let stat = match dir.stat(ACL_NAME) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let mut words = kind(stat.st_mode).to_owned();
    if let Ok(mut text) = file::open_in(dir).and_then(file::read_text) {
        text.truncate(SHOWN_MAX);
        words = format!("{:?}", String::from_utf8_lossy(&text));
    }
    Ok(Some(words))
}

fn kind(mode: u32) -> &'static str {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => "a file that cannot be read",
        FileType::Directory => "a directory",
        FileType::Symlink => "a link",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        _ => "a device",
    }
}

/// Removes what has the name of a list if it is a directory, which no file can replace.
///
/// # Errors
///
/// The system's.
pub(super) fn remove_directory(dir: &Dir) -> Result<(), Errno> {
    let is_directory = |mode| FileType::from_raw_mode(mode) == FileType::Directory;
    match dir.stat(ACL_NAME) {
        Ok(stat) if is_directory(stat.st_mode) => tree::remove(dir, ACL_NAME, &Space::default()),
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// A path for the log: a name may hold anything, and a line of the log is one line.
fn shown(path: &[u8]) -> String {
    format!("/{}", path.escape_ascii())
}
