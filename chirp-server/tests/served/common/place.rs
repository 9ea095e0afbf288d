//! Where a server lives: the exported tree and the directories around it. It outlives servers.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Server, is_root, leftovers};

/// The account that servers work as when the tests run as root.
const ORDINARY: &str = "nobody";

/// A temporary directory with `root`, `transient` and `challenge` in it, all the server's own.
pub(crate) struct Place {
    base: TempDir,
    /// The account that the server works as.
    pub(crate) user: String,
    uid: u32,
    gid: u32,
}

impl Place {
    pub(crate) fn new() -> Self {
        let account = if is_root() {
            uzers::get_user_by_name(ORDINARY)
        } else {
            uzers::get_user_by_uid(rustix::process::getuid().as_raw())
        };
        let account = account.expect("an account for the server");
        let place = Self {
            base: tempfile::tempdir().unwrap(),
            user: account.name().to_str().unwrap().to_owned(),
            uid: account.uid(),
            gid: account.primary_group_id(),
        };
        place.give(place.base.path());
        for name in ["root", "transient", "challenge"] {
            place.make_dir(&place.base(name));
        }
        place
    }

    /// Starts a server of this tree and waits until it listens.
    #[track_caller]
    pub(crate) fn serve(&self, args: &[&str]) -> Server<'_> {
        Server::start(self, args)
    }

    /// Returns something beside the tree.
    pub(crate) fn base(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    /// Returns the host path of something in the tree.
    pub(crate) fn host(&self, path: impl AsRef<OsStr>) -> PathBuf {
        self.base("root").join(Path::new(path.as_ref()))
    }

    /// Makes a file of the server's in the tree, past the server.
    pub(crate) fn write(&self, path: impl AsRef<OsStr>, content: impl AsRef<[u8]>) {
        let path = self.host(path);
        fs::write(&path, content).unwrap();
        self.give(&path);
    }

    /// Makes a directory with this list, past the server.
    pub(crate) fn directory(&self, path: &str, acl: &str) {
        self.make_dir(&self.host(path));
        self.write(format!("{path}/.__acl"), acl);
    }

    /// Makes a link in the tree, past the server.
    pub(crate) fn link(&self, target: &str, path: &str) {
        std::os::unix::fs::symlink(target, self.host(path)).unwrap();
    }

    /// Makes the server the owner of something.
    pub(crate) fn give(&self, path: &Path) {
        self.give_to(path, self.uid, self.gid);
    }

    /// Makes somebody the owner of something, where that is possible.
    pub(crate) fn give_to(&self, path: &Path, uid: u32, gid: u32) {
        if is_root() {
            std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
        }
    }

    /// Returns all names below the tree that clients do not see, except lists and the files of
    /// allocations.
    pub(crate) fn debris(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut pending = vec![self.base("root")];
        while let Some(dir) = pending.pop() {
            // One that goes away meanwhile has nothing to show.
            let Ok(entries) = fs::read_dir(dir) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let lasting = name == ".__acl" || name == ".__alloc";
                if name.to_string_lossy().starts_with(".__") && !lasting {
                    found.push(entry.path());
                } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    pending.push(entry.path());
                }
            }
        }
        found
    }

    fn make_dir(&self, path: &Path) {
        fs::DirBuilder::new().mode(0o700).create(path).unwrap();
        self.give(path);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        leftovers::end_in(self.base.path());
    }
}
