//! The local tree that is received into: handles to directories, and files that get their name when
//! they are whole. Names come from a server and are not trusted; no symbolic link is followed below
//! the directory that the user named.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};

use crate::Error;

/// A directory that is received into.
#[derive(Clone)]
pub(super) struct Directory {
    handle: Arc<OwnedFd>,
    /// Where it was found, for messages only.
    path: Arc<PathBuf>,
}

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

    /// Makes a directory in this one, or takes the one that is there, and opens it.
    pub(super) fn subdirectory(&self, name: &[u8], mode: u32) -> Result<Self, Error> {
        let path = self.path_of(name);
        let mode = Mode::from_raw_mode(mode & 0o777 | 0o700);
        match fs::mkdirat(&*self.handle, name, mode) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(local("create the directory", &path, error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = fs::openat(&*self.handle, name, flags, Mode::empty())
            .map_err(|error| local("use as a directory", &path, error))?;
        Ok(Self {
            handle: Arc::new(handle),
            path: Arc::new(path),
        })
    }

    /// Begins a file that will be called `name`.
    pub(super) fn begin(&self, name: &[u8], mode: u32) -> Result<Unfinished, Error> {
        self.check_replaceable(name)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // The process's umask takes from this what it takes from any new file.
        let mode = Mode::from_raw_mode(mode & 0o777 | 0o600);
        let temporary = self.temporary_name(name)?;
        let handle = fs::openat(&*self.handle, &temporary[..], flags, mode)
            .map_err(|error| local("create", &self.path_of(name), error))?;
        Ok(Unfinished {
            directory: self.clone(),
            name: name.to_vec(),
            temporary,
            file: Some(File::from(handle)),
        })
    }

    /// Makes a symbolic link, in place of a file or link that is there.
    pub(super) fn symlink(&self, text: &[u8], name: &[u8]) -> Result<(), Error> {
        self.check_replaceable(name)?;
        let path = self.path_of(name);
        let temporary = self.temporary_name(name)?;
        fs::symlinkat(text, &*self.handle, &temporary[..])
            .map_err(|error| local("create the link", &path, error))?;
        fs::renameat(&*self.handle, &temporary[..], &*self.handle, name).map_err(|error| {
            let _debris = fs::unlinkat(&*self.handle, &temporary[..], AtFlags::empty());
            local("create the link", &path, error)
        })
    }

    /// Refuses to put a file in place of what is no file: a directory, a device, a pipe.
    fn check_replaceable(&self, name: &[u8]) -> Result<(), Error> {
        match fs::statat(&*self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => match FileType::from_raw_mode(found.st_mode) {
                FileType::RegularFile | FileType::Symlink => Ok(()),
                FileType::Directory => Err(local(
                    "replace",
                    &self.path_of(name),
                    rustix::io::Errno::ISDIR,
                )),
                _ => Err(local(
                    "replace",
                    &self.path_of(name),
                    io::Error::other("it is neither file nor link"),
                )),
            },
            Err(rustix::io::Errno::NOENT) => Ok(()),
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

/// A file that is being received; dropped before [`Unfinished::finish`], it leaves nothing.
pub(super) struct Unfinished {
    directory: Directory,
    name: Vec<u8>,
    temporary: Vec<u8>,
    file: Option<File>,
}

impl Unfinished {
    /// Appends content. Blocks.
    pub(super) fn write(&self, content: &[u8]) -> Result<(), Error> {
        let mut file = self.file.as_ref();
        let file = file
            .as_mut()
            .ok_or_else(|| self.failed(io::ErrorKind::NotFound.into()))?;
        io::Write::write_all(file, content).map_err(|error| self.failed(error))
    }

    /// Gives the file its name, in place of what had it. Blocks.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        let handle = &*self.directory.handle;
        fs::renameat(handle, &self.temporary[..], handle, &self.name[..])
            .map_err(|error| self.failed(error.into()))?;
        self.file = None;
        Ok(())
    }

    fn failed(&self, error: io::Error) -> Error {
        local("write", &self.directory.path_of(&self.name), error)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.file.take().is_some() {
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
        let begun = directory.begin(b"f", 0o644).unwrap();
        begun.write(b"new").unwrap();
        assert_eq!(std::fs::read(root.path().join("f")).unwrap(), b"old");
        drop(begun);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
        let begun = directory.begin(b"f", 0o755).unwrap();
        begun.write(b"new").unwrap();
        begun.finish().unwrap();
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
        let begun = directory.begin(b"f", 0o644).unwrap();
        begun.write(b"new").unwrap();
        begun.finish().unwrap();
        assert_eq!(
            std::fs::read(outside.path().join("f")).unwrap(),
            b"precious"
        );
        assert_eq!(std::fs::read(root.path().join("f")).unwrap(), b"new");
        directory.symlink(b"/etc", b"f").unwrap();
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
        assert!(directory.symlink(b"x", b"d").is_err());
    }
}
