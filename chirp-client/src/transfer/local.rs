//! The local tree that is received into: handles to directories, and files that get their name when
//! they are whole. Names come from a server and are not trusted; no symbolic link is followed below
//! the directory that the user named.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{
    self, AtFlags, FileType, FlockOperation, Mode, OFlags, ResolveFlags, StatVfs, Timespec,
    Timestamps,
};
use rustix::io::Errno;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::facts::Facts;
use super::threads::busy;
use crate::Error;

/// Zeros of this length, at a multiple of it, are a hole where the original has holes.
const HOLE: usize = 4096;

static ZEROS: [u8; HOLE] = [0; HOLE];

/// A directory that is received into.
#[derive(Clone)]
pub(super) struct Directory {
    handle: Arc<OwnedFd>,
    /// Where it was found, for messages only.
    path: Arc<PathBuf>,
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

impl Directory {
    /// Opens the directory that the user named, links followed.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = fs::open(path, flags, Mode::empty())
            .map_err(|error| local("open the directory", path, error))?;
        Ok(Self {
            handle: Arc::new(handle),
            path: Arc::new(path.to_owned()),
        })
    }

    /// Returns an entry's path, for messages.
    pub(super) fn path_of(&self, name: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(name))
    }

    /// Opens a directory below this one, no link followed on the way; empty is this one.
    pub(super) fn beneath(&self, relative: &[u8]) -> Result<Self, Error> {
        if relative.is_empty() {
            return Ok(self.clone());
        }
        let path = self.path_of(relative);
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let handle = loop {
            match fs::openat2(&*self.handle, relative, DIRECTORY, Mode::empty(), resolve) {
                // Something was renamed meanwhile.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => break other,
            }
        };
        let handle = handle.map_err(|error| local("use as a directory", &path, error))?;
        Ok(Self {
            handle: Arc::new(handle),
            path: Arc::new(path),
        })
    }

    /// Makes a directory in this one, or takes the one that is there, and opens it; tells whether it
    /// was there.
    pub(super) fn subdirectory(&self, name: &[u8], mode: u32) -> Result<(Self, bool), Error> {
        let path = self.path_of(name);
        let mode = Mode::from_raw_mode(mode & 0o777 | 0o700);
        let there = match fs::mkdirat(&*self.handle, name, mode) {
            Ok(()) => false,
            Err(Errno::EXIST) => true,
            Err(error) => return Err(local("create the directory", &path, error)),
        };
        let handle = fs::openat(&*self.handle, name, DIRECTORY, Mode::empty())
            .map_err(|error| local("use as a directory", &path, error))?;
        let made = Self {
            handle: Arc::new(handle),
            path: Arc::new(path),
        };
        Ok((made, there))
    }

    /// Returns what the file system has free.
    pub(super) fn statvfs(&self) -> Option<StatVfs> {
        fs::fstatvfs(&*self.handle).ok()
    }

    /// Returns what is here.
    pub(super) fn entries(&self) -> Result<HashMap<Bytes, Facts>, Error> {
        let failed = |error: Errno| local("list", &self.path, error);
        let mut entries = HashMap::new();
        for entry in fs::Dir::read_from(&*self.handle).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..")
                && let Some(facts) = self.facts(name)?
            {
                entries.insert(Bytes::copy_from_slice(name), facts);
            }
        }
        Ok(entries)
    }

    /// Describes an entry; `None` if there is none.
    pub(super) fn facts(&self, name: &[u8]) -> Result<Option<Facts>, Error> {
        match fs::statat(&*self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(Facts::local(&found))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(local("look at", &self.path_of(name), error)),
        }
    }

    /// Opens a file for reading, unless it is a link by now.
    pub(super) fn read(&self, name: &[u8]) -> Result<File, Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        fs::openat(&*self.handle, name, flags, Mode::empty())
            .map(File::from)
            .map_err(|error| local("open", &self.path_of(name), error))
    }

    /// Begins a file that will be called `name`; the umask takes from `mode` what it takes from any.
    pub(super) fn begin(&self, name: &[u8], mode: u32) -> Result<Unfinished, Error> {
        self.check_replaceable(name)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let temporary = self.temporary_name(name)?;
        let mode = Mode::from_raw_mode(mode & 0o777 | 0o600);
        let handle = fs::openat(&*self.handle, &temporary[..], flags, mode)
            .map_err(|error| local("create", &self.path_of(name), error))?;
        Ok(Unfinished {
            directory: self.clone(),
            name: name.to_vec(),
            temporary,
            file: Some(File::from(handle)),
            length: 0,
            holes: false,
            keep: false,
            _busy: busy(),
        })
    }

    /// Begins or continues a file under a name at which it is found again, `part`. It stays there if
    /// it is not finished. Somebody else who is at it gets it, and we begin anew.
    pub(super) fn resume(&self, name: &[u8], part: &[u8], most: u64) -> Result<Unfinished, Error> {
        self.check_replaceable(name)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let failed = |error: io::Error| local("continue", &self.path_of(part), error);
        let handle = fs::openat(&*self.handle, part, flags, OWNERS_ONLY)
            .map_err(|error| failed(error.into()))?;
        let found = fs::fstat(&handle).map_err(|error| failed(error.into()))?;
        let length = u64::try_from(found.st_size).unwrap_or(u64::MAX);
        let usable = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
            && found.st_nlink == 1
            && length <= most
            && fs::flock(&handle, FlockOperation::NonBlockingLockExclusive).is_ok();
        if !usable {
            return self.begin(name, 0o600);
        }
        Ok(Unfinished {
            directory: self.clone(),
            name: name.to_vec(),
            temporary: part.to_vec(),
            file: Some(File::from(handle)),
            length,
            holes: false,
            keep: true,
            _busy: busy(),
        })
    }

    /// Makes a symbolic link, in place of a file or link that is there.
    pub(super) fn symlink(&self, text: &[u8], name: &[u8], mtime: i64) -> Result<(), Error> {
        self.check_replaceable(name)?;
        let path = self.path_of(name);
        let temporary = self.temporary_name(name)?;
        fs::symlinkat(text, &*self.handle, &temporary[..])
            .map_err(|error| local("create the link", &path, error))?;
        // A link's time is a nicety.
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let _unset = fs::utimensat(&*self.handle, &temporary[..], &times(mtime), flags);
        self.install(&temporary, name)
            .map_err(|error| local("create the link", &path, error))
    }

    /// Returns the text of a symbolic link.
    pub(super) fn readlink(&self, name: &[u8]) -> Result<Vec<u8>, Error> {
        fs::readlinkat(&*self.handle, name, Vec::new())
            .map(std::ffi::CString::into_bytes)
            .map_err(|error| local("read the link", &self.path_of(name), error))
    }

    /// Gives a file a further name, in place of a file or link that has it.
    pub(super) fn link(&self, name: &[u8], of: &Self, first: &[u8]) -> Result<(), Error> {
        self.check_replaceable(name)?;
        let path = self.path_of(name);
        let temporary = self.temporary_name(name)?;
        fs::linkat(
            &*of.handle,
            first,
            &*self.handle,
            &temporary[..],
            AtFlags::empty(),
        )
        .map_err(|error| local("link", &path, error))?;
        let linked = self.install(&temporary, name);
        // Where both are the same file already, renaming does nothing.
        let _gone = fs::unlinkat(&*self.handle, &temporary[..], AtFlags::empty());
        linked.map_err(|error| local("link", &path, error))
    }

    fn install(&self, temporary: &[u8], name: &[u8]) -> Result<(), Errno> {
        fs::renameat(&*self.handle, temporary, &*self.handle, name).inspect_err(|_| {
            let _debris = fs::unlinkat(&*self.handle, temporary, AtFlags::empty());
        })
    }

    /// Gives a file mode and time.
    pub(super) fn describe(&self, name: &[u8], from: &Facts) -> Result<(), Error> {
        let file = self.read(name)?;
        describe(&file, from).map_err(|error| local("change", &self.path_of(name), error))
    }

    /// Gives this directory mode and time.
    pub(super) fn describe_self(&self, from: &Facts) -> Result<(), Error> {
        describe(&*self.handle, from).map_err(|error| local("change", &self.path, error))
    }

    /// Makes sure that the names in this directory are on disk.
    pub(super) fn sync(&self) -> Result<(), Error> {
        fs::fsync(&*self.handle).map_err(|error| local("write", &self.path, error))
    }

    /// Removes an entry with all it holds. No link is followed.
    pub(super) fn remove(&self, name: &[u8]) -> Result<(), Error> {
        let failed = |error: Errno| local("remove", &self.path_of(name), error);
        match fs::unlinkat(&*self.handle, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(error) => return Err(failed(error)),
        }
        let (below, _) = self.subdirectory(name, 0o700)?;
        for inner in below.entries()?.into_keys() {
            below.remove(&inner)?;
        }
        fs::unlinkat(&*self.handle, name, AtFlags::REMOVEDIR).map_err(failed)
    }

    /// Refuses to put a file in place of what is no file: a directory, a device, a pipe.
    fn check_replaceable(&self, name: &[u8]) -> Result<(), Error> {
        match fs::statat(&*self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => match FileType::from_raw_mode(found.st_mode) {
                FileType::RegularFile | FileType::Symlink => Ok(()),
                FileType::Directory => Err(local("replace", &self.path_of(name), Errno::ISDIR)),
                _ => Err(local(
                    "replace",
                    &self.path_of(name),
                    io::Error::other("it is neither file nor link"),
                )),
            },
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(local("look at", &self.path_of(name), error)),
        }
    }

    /// Returns a name beside `name` that nobody else uses.
    fn temporary_name(&self, name: &[u8]) -> Result<Vec<u8>, Error> {
        let random = getrandom::u64()
            .map_err(|error| local("create", &self.path_of(name), io::Error::other(error)))?;
        Ok(format!(".chirp-get.{random:016x}").into_bytes())
    }
}

/// The mode of a file that is not whole yet.
const OWNERS_ONLY: Mode = Mode::RUSR.union(Mode::WUSR);

fn times(mtime: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn describe(file: impl std::os::fd::AsFd, from: &Facts) -> Result<(), Errno> {
    fs::fchmod(&file, Mode::from_raw_mode(from.mode & 0o777))?;
    fs::futimens(&file, &times(from.mtime))
}

/// A file that is being received; dropped before [`Unfinished::finish`], it leaves nothing, or what
/// came of it if it was begun by [`Directory::resume`].
pub(super) struct Unfinished {
    directory: Directory,
    name: Vec<u8>,
    temporary: Vec<u8>,
    file: Option<File>,
    /// Where the next content goes.
    length: u64,
    /// Whether zeros are left out.
    holes: bool,
    keep: bool,
    /// Until it has its name or is removed.
    _busy: TaskTrackerToken,
}

impl Unfinished {
    /// Leaves zeros out where they fill blocks: the original has holes.
    pub(super) const fn with_holes(mut self, holes: bool) -> Self {
        self.holes = holes;
        self
    }

    /// Returns how many bytes are there.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Appends content. Blocks.
    pub(super) fn write(&mut self, pieces: &[Bytes]) -> Result<(), Error> {
        for piece in pieces {
            self.append(piece).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    fn append(&mut self, content: &[u8]) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        if !self.holes {
            file.write_all_at(content, self.length)?;
            self.length += content.len() as u64;
            return Ok(());
        }
        let mut rest = content;
        while !rest.is_empty() {
            let into = usize::try_from(self.length % HOLE as u64).unwrap_or(0);
            let (block, after) = rest.split_at(rest.len().min(HOLE - into));
            if ZEROS.get(..block.len()) != Some(block) {
                file.write_all_at(block, self.length)?;
            }
            self.length += block.len() as u64;
            rest = after;
        }
        Ok(())
    }

    /// Begins anew: what is there is something else. Blocks.
    pub(super) fn restart(&mut self) -> Result<(), Error> {
        let file = self.file.as_ref();
        let cut = file.map_or(Ok(()), |file| file.set_len(0));
        cut.map_err(|error| self.failed(error))?;
        self.length = 0;
        Ok(())
    }

    /// Returns a handle to read it from its beginning. Blocks.
    pub(super) fn content(&self) -> Result<File, Error> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound);
        let reopened = file.map_err(io::Error::from).and_then(|file| {
            let mut file = file.try_clone()?;
            io::Seek::rewind(&mut file)?;
            Ok(file)
        });
        reopened.map_err(|error| self.failed(error))
    }

    /// Gives the file its mode, its time and its name, in place of what had it. Blocks.
    pub(super) fn finish(mut self, from: Option<&Facts>, fsync: bool) -> Result<(), Error> {
        self.prepare(from, fsync)
            .map_err(|error| self.failed(error))?;
        let handle = &*self.directory.handle;
        fs::renameat(handle, &self.temporary[..], handle, &self.name[..])
            .map_err(|error| self.failed(error.into()))?;
        self.file = None;
        Ok(())
    }

    fn prepare(&self, from: Option<&Facts>, fsync: bool) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        if self.holes {
            // It may end in a hole.
            file.set_len(self.length)?;
        }
        if let Some(from) = from {
            describe(file, from)?;
        }
        if fsync {
            file.sync_all()?;
        }
        Ok(())
    }

    fn failed(&self, error: io::Error) -> Error {
        local("write", &self.directory.path_of(&self.name), error)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.file.take().is_some() && !(self.keep && self.length > 0) {
            let handle = &*self.directory.handle;
            let _gone = fs::unlinkat(handle, &self.temporary[..], AtFlags::empty());
        }
    }
}

pub(super) fn local(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> Error {
    Error::Local {
        doing,
        path: path.to_owned(),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path()).unwrap();
        std::fs::write(root.path().join("f"), "old").unwrap();
        let mut begun = directory.begin(b"f", 0o644).unwrap();
        begun.write(&[Bytes::from_static(b"new")]).unwrap();
        assert_eq!(std::fs::read(root.path().join("f")).unwrap(), b"old");
        drop(begun);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
        let mut begun = directory.begin(b"f", 0o644).unwrap();
        begun.write(&[Bytes::from_static(b"new")]).unwrap();
        begun.finish(None, false).unwrap();
        assert_eq!(std::fs::read(root.path().join("f")).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_in_the_target_are_replaced_and_never_followed() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("d")).unwrap();
        std::fs::write(outside.path().join("f"), "precious").unwrap();
        std::os::unix::fs::symlink(outside.path().join("f"), root.path().join("f")).unwrap();
        let directory = Directory::open(root.path()).unwrap();
        assert!(directory.subdirectory(b"d", 0o755).is_err());
        let mut begun = directory.begin(b"f", 0o644).unwrap();
        begun.write(&[Bytes::from_static(b"new")]).unwrap();
        begun.finish(None, false).unwrap();
        assert_eq!(
            std::fs::read(outside.path().join("f")).unwrap(),
            b"precious"
        );
        assert_eq!(std::fs::read(root.path().join("f")).unwrap(), b"new");
        directory.symlink(b"/etc", b"f", 0).unwrap();
        assert_eq!(
            std::fs::read_link(root.path().join("f")).unwrap(),
            Path::new("/etc")
        );
    }

    #[test]
    fn directories_and_devices_are_not_replaced_by_files() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("d")).unwrap();
        let directory = Directory::open(root.path()).unwrap();
        assert!(directory.begin(b"d", 0o644).is_err());
        assert!(directory.symlink(b"x", b"d", 0).is_err());
    }
}
