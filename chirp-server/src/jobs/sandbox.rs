//! The directory that one job's program works in, `ROOT/.__job.ID.RANDOM`: made for it, and removed
//! after it, by the next server if this one is killed.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use chirp_proto::Code;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::text::Text;
use crate::export::Export;
use crate::vfs::temporary::{JOB_PREFIX, Temporary};
use crate::vfs::{Dir, is_reserved};

/// A job's directory. Dropping it removes it with all that is in it, which takes its time.
#[derive(Debug)]
pub(super) struct Sandbox {
    temporary: Temporary,
    dir: Dir,
    name: String,
    host: PathBuf,
}

/// A path in a sandbox: names only, none of which leads up or belongs to the server.
#[derive(Clone, Debug)]
pub(super) struct TaskPath {
    parents: Vec<Vec<u8>>,
    name: Vec<u8>,
}

impl TaskPath {
    /// Reads the task path of a binding.
    ///
    /// # Errors
    ///
    /// -8 for one that is empty, absolute, or has `..` or a name of the server's in it (weakness W6).
    pub(super) fn parse(path: &Text) -> Result<Self, Code> {
        let path = path.as_bytes();
        if path.starts_with(b"/") {
            return Err(Code::InvalidRequest);
        }
        let mut parents: Vec<Vec<u8>> = path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty() && *name != b".")
            .map(<[u8]>::to_vec)
            .collect();
        if parents
            .iter()
            .any(|name| name == b".." || is_reserved(name))
        {
            return Err(Code::InvalidRequest);
        }
        let name = parents.pop().ok_or(Code::InvalidRequest)?;
        Ok(Self { parents, name })
    }
}

impl Sandbox {
    /// Makes the directory of a job in the tree, which programs see at the path `root`.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn make(export: &Export, root: &Path, id: u64) -> Result<Self, Errno> {
        let random = crate::random::hex::<5>().map_err(|_| Errno::IO)?;
        let prefix = String::from_utf8_lossy(JOB_PREFIX);
        let name = format!("{prefix}{id}.{random}");
        let top = export.root.dir();
        let temporary = Temporary::named(&export.journal, top, b"", name.clone().into_bytes())?;
        rustix::fs::mkdirat(top, name.as_str(), Mode::RWXU)?;
        let dir = temporary.open_directory()?;
        Ok(Self {
            dir,
            host: root.join(&name),
            name,
            temporary,
        })
    }

    /// Returns its name in the root.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns its path as programs see it.
    pub(super) fn host(&self) -> &Path {
        &self.host
    }

    /// Returns a handle for a program to work in.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn handle(&self) -> Result<OwnedFd, Errno> {
        self.temporary.open_directory()?.readable()
    }

    /// Returns the directory of a task path, which is made with all above it where it is missing.
    ///
    /// # Errors
    ///
    /// The system's; `NOTDIR` where a link or a file stands in the way.
    pub(super) fn make_parent<'a>(&self, path: &'a TaskPath) -> Result<(Dir, &'a [u8]), Errno> {
        let mut dir = self.dir.clone();
        for name in &path.parents {
            match rustix::fs::mkdirat(&dir, name.as_slice(), Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            dir = dir.child(name)?;
        }
        Ok((dir, &path.name))
    }

    /// Returns the directory of a task path. The program may have left anything: no link is
    /// followed.
    ///
    /// # Errors
    ///
    /// The system's; `NOTDIR` where a link or a file stands in the way.
    pub(super) fn find_parent<'a>(&self, path: &'a TaskPath) -> Result<(Dir, &'a [u8]), Errno> {
        let mut dir = self.dir.clone();
        for name in &path.parents {
            dir = dir.child(name)?;
        }
        Ok((dir, &path.name))
    }

    /// Makes a file in it for the server to write to; None if the name is taken.
    pub(super) fn log(&self, name: &str) -> Option<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat(&self.dir, name, flags, mode).ok()?;
        Some(File::from(fd))
    }
}
