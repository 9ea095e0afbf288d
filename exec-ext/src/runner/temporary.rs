//! The temporary directory that one program has for itself.

use std::ffi::CString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::blocking::patiently;

/// Entries taken from a directory at once: a program may have made any number of them.
const BATCH: usize = 1024;

/// Entries of a directory and those below it whose size is looked at.
const ENTRIES_MAX: usize = 200_000;

/// How deep that goes, with a descriptor for each level.
const DEPTH_MAX: usize = 32;

/// A directory that is removed with all that is in it when this is dropped, which takes its time.
#[derive(Debug)]
pub(super) struct Temporary(PathBuf);

impl Temporary {
    /// Makes the directory, for the server's account only.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn make(path: PathBuf) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Returns its path.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Opens it, to make rules for what lies below.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::open(&self.0, flags, Mode::empty())?)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a program's temporary directory could not be removed");
        }
    }
}

/// Returns how many bytes on disk a directory takes up with what is in it, as far as that can be looked
/// at: of [`ENTRIES_MAX`] entries, [`DEPTH_MAX`] levels deep, where the program lets it be read.
pub(super) fn size(path: &Path) -> usize {
    let mut size = Size {
        bytes: 0,
        entries: ENTRIES_MAX,
    };
    if let Ok(top) = directory(CWD, path) {
        size.add(&top, DEPTH_MAX);
    }
    usize::try_from(size.bytes).unwrap_or(usize::MAX)
}

struct Size {
    bytes: u64,
    /// How many more are looked at.
    entries: usize,
}

impl Size {
    fn add(&mut self, parent: &OwnedFd, depth: usize) {
        let Ok(entries) = Dir::read_from(parent) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if self.entries == 0 {
                return;
            }
            self.entries -= 1;
            let Ok(stat) = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            // In units of 512 bytes, whatever the file system's own are.
            let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
            self.bytes = self.bytes.saturating_add(blocks.saturating_mul(512));
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if is_directory
                && depth > 0
                && let Ok(below) = directory(parent, name)
            {
                self.add(&below, depth - 1);
            }
        }
    }
}

/// Removes a file, or a directory with all that is in it, whatever modes and depths a program gave it.
/// Nothing is held open but two directories and nothing is walked by path: what lies deep is moved up.
///
/// # Errors
///
/// The system's; then something is left.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    // Most programs leave nothing.
    if fs::remove_dir(path).is_ok() {
        return Ok(());
    }
    patiently(|| remove_all(path))
}

fn remove_all(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    let _ = rustix::fs::chmod(path, Mode::RWXU);
    let top = directory(CWD, path)?;
    let mut moved = 0;
    loop {
        let names = names(&top)?;
        if names.is_empty() {
            return fs::remove_dir(path);
        }
        for name in names {
            if unlink(&top, &name)? {
                continue;
            }
            let below = directory(&top, name.as_c_str())?;
            for inner in self::names(&below)? {
                if !unlink(&below, &inner)? {
                    move_up(&below, &inner, &top, &mut moved)?;
                }
            }
        }
    }
}

/// Removes a file or an empty directory. Returns false for a directory with something in it, which can
/// be opened and moved afterwards.
fn unlink(parent: &OwnedFd, name: &CString) -> io::Result<bool> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            Ok(false)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Moves a directory from `below` to `top`, under a name that is free there.
fn move_up(below: &OwnedFd, name: &CString, top: &OwnedFd, moved: &mut u64) -> io::Result<()> {
    loop {
        *moved += 1;
        let free = format!(".moved.{moved}");
        match rustix::fs::renameat(below, name, top, free.as_str()) {
            Ok(()) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn directory<P: rustix::path::Arg>(
    parent: impl std::os::fd::AsFd,
    name: P,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn names(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_owned());
        }
        if names.len() >= BATCH {
            break;
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn whatever_a_program_left_is_removed_and_links_lead_nowhere() {
        let base = tempfile::tempdir().unwrap();
        let kept = base.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "").unwrap();
        let path = base.path().join("tmp");
        let temporary = Temporary::make(path.clone()).unwrap();
        // Deeper than any path can be.
        let mut deep = directory(CWD, &path).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&deep, "dd", Mode::RWXU).unwrap();
            deep = directory(&deep, "dd").unwrap();
        }
        for number in 0..2500 {
            fs::write(path.join(format!("f{number}")), "").unwrap();
        }
        symlink(&kept, path.join("link")).unwrap();
        symlink("/none", path.join("dangling")).unwrap();
        fs::create_dir_all(path.join("locked/inner/more")).unwrap();
        fs::write(path.join(".moved.1"), "in the way").unwrap();
        fs::create_dir_all(path.join(".moved.2/too")).unwrap();
        for locked in ["locked/inner", "locked"] {
            fs::set_permissions(path.join(locked), fs::Permissions::from_mode(0o000)).unwrap();
        }
        drop(temporary);
        assert!(!path.exists());
        assert!(kept.join("file").exists());
    }
}
