//! Removal of whole trees with a bounded number of handles, whatever their depth.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir as Entries, Mode};
use rustix::io::Errno;

use super::temporary::Temporary;
use super::{ACL_NAME, Dir, Journal, Located, is_reserved, wire};
use crate::space::{STATE_NAME, Space};

/// Directories held open at once. What lies deeper is moved up into the tree's top and removed from
/// there.
const DEPTH_MAX: usize = 48;

/// How often a directory is gone through again because entries appear while it is emptied.
const PASSES_MAX: usize = 64;

/// Files of the server's in a directory, in the order in which they go when it is removed.
const OWN_FILES: [&[u8]; 2] = [STATE_NAME, ACL_NAME];

/// Removes an entry of a directory and, if it is a directory, everything below it. Links are
/// removed, not followed. What is removed is taken from the figures of `space`.
///
/// # Errors
///
/// The system's. What could be removed before the error is gone.
pub fn remove(dir: &Dir, name: &[u8], space: &Space) -> Result<(), Errno> {
    match space.unlink_entry(dir, name) {
        Err(Errno::ISDIR) => {}
        other => return other,
    }
    let top = dir.child(name)?;
    let mut shelf = 0u64;
    let mut passes = 0;
    while passes < PASSES_MAX {
        // A pass that moves something up makes the tree less deep, so those come to an end.
        if !empty(&top, &top, 0, &mut shelf, space)? {
            passes += 1;
        }
        match space.remove_directory(dir, name) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            other => return other,
        }
    }
    Err(Errno::NOTEMPTY)
}

/// Removes a directory that holds nothing but what the server put there.
///
/// The reference removes whatever is hidden (weakness W14). Here a hidden *directory* counts as
/// content: the server makes none that lasts.
///
/// # Errors
///
/// `NOTEMPTY` if a client sees something in it, `BUSY` for the root, or the system's.
pub(crate) fn remove_visibly_empty(target: &Located, journal: &Arc<Journal>) -> Result<(), Errno> {
    let dir = target.directory()?;
    let mut hidden: Vec<Vec<u8>> = Vec::new();
    let mut entries = Entries::new(dir.readable()?)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." || name == ACL_NAME {
            continue;
        }
        let is_file = || {
            dir.stat(name)
                .is_ok_and(|stat| !wire::stat(&stat).is_directory())
        };
        if !is_reserved(name) || !is_file() {
            return Err(Errno::NOTEMPTY);
        }
        hidden.push(name.to_vec());
    }
    if target.is_root() {
        return Err(Errno::BUSY);
    }
    for name in hidden {
        dir.unlink_if_there(&name)?;
    }
    // The list goes last, and it only steps aside: without it nobody could use the directory, should
    // somebody have put something there meanwhile.
    let aside = Temporary::new(journal, target.holder(), target.holder_path())?;
    match rustix::fs::renameat(dir, ACL_NAME, aside.dir(), aside.name()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    let removed = rustix::fs::unlinkat(target.holder(), target.name(), AtFlags::REMOVEDIR);
    if removed.is_err() {
        aside.move_to(dir, ACL_NAME)?;
    }
    removed
}

/// Removes the entries of `dir`, which is `depth` levels below `top`. Returns whether anything was
/// moved up.
///
/// What the server keeps in a directory goes last, and the list at the very end: a removal that is cut
/// off leaves no file that nobody may reach.
fn empty(
    top: &Dir,
    dir: &Dir,
    depth: usize,
    shelf: &mut u64,
    space: &Space,
) -> Result<bool, Errno> {
    let mut any_moved = false;
    make_passable(dir);
    let mut entries = Entries::new(dir.readable()?)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && !OWN_FILES.contains(&name) {
            any_moved |= empty_of(top, dir, name, depth, shelf, space)?;
        }
    }
    if depth == 0 && any_moved {
        // It has got new entries.
        return Ok(true);
    }
    for name in OWN_FILES {
        any_moved |= empty_of(top, dir, name, depth, shelf, space)?;
    }
    Ok(any_moved)
}

/// Removes an entry of `dir` with all that is below it. Returns whether anything was moved up.
fn empty_of(
    top: &Dir,
    dir: &Dir,
    name: &[u8],
    depth: usize,
    shelf: &mut u64,
    space: &Space,
) -> Result<bool, Errno> {
    match space.unlink_entry(dir, name) {
        Ok(()) | Err(Errno::NOENT) => return Ok(false),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(errno),
    }
    if depth >= DEPTH_MAX {
        if let Ok(child) = dir.child(name) {
            make_passable(&child);
        }
        *shelf += 1;
        let place = format!(".__rm.{shelf}");
        return match space.shelve(dir, name, top, place.as_bytes()) {
            // The place may be taken by a removal that was cut off; the next pass empties it.
            Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(true),
            Err(errno) => Err(errno),
        };
    }
    let child = match dir.child(name) {
        Ok(child) => child,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
        Err(errno) => return Err(errno),
    };
    let any_moved = empty(top, &child, depth + 1, shelf, space)?;
    match space.remove_directory(dir, name) {
        // Filled again by somebody, or taken away: the next pass sees it.
        Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::NOTDIR) => {
            Ok(any_moved)
        }
        Err(errno) => Err(errno),
    }
}

/// Gives the server's account all rights in a directory that a program of a client may have taken them
/// from. Where that fails, what is done in the directory fails too, and says why.
pub(crate) fn make_passable(dir: &Dir) {
    let Ok(stat) = rustix::fs::fstat(dir) else {
        return;
    };
    let mode = Mode::from_raw_mode(stat.st_mode);
    if !mode.contains(Mode::RWXU) {
        // The handle is good for names only; through /proc it stands for the directory itself.
        let itself = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
        let _ = rustix::fs::chmod(itself.as_str(), mode | Mode::RWXU);
    }
}
