//! The directory for the server's own state: the journal of unfinished uploads and what executions
//! leave behind. It belongs to one running server at a time.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::fs::{FlockOperation, Mode, OFlags};
use sha2::{Digest, Sha256};

use crate::privileges::Account;

/// The file whose lock says that a server uses the directory. The kernel drops the lock with the
/// process, however that ends.
const LOCK: &str = ".chirp-server.lock";

/// How long a lock is waited for. The processes by which a server starts programs have it, too, and end a moment after
/// one that was killed.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// Servers of one tree that may share the default place, each with a directory of its own.
const DEFAULT_SLOTS: u32 = 64;

/// An open, locked transient directory.
#[derive(Debug)]
pub struct Transient {
    path: PathBuf,
    _lock: File,
}

impl Transient {
    /// Opens `chosen`, or a default place for the tree at `root` (an absolute path without links).
    ///
    /// # Errors
    ///
    /// The directory cannot be made or written, another server uses it, or with `outside` it lies
    /// inside the tree.
    pub fn open(
        chosen: Option<&Path>,
        root: &Path,
        account: &Account,
        outside: bool,
    ) -> anyhow::Result<Self> {
        let Some(path) = chosen else {
            return Self::open_default(root, account);
        };
        let named = || format!("transient directory {} (-y)", path.display());
        make(path).with_context(named)?;
        let path = path.canonicalize().with_context(named)?;
        if path.starts_with(root) {
            if outside {
                bail!(
                    "{} lies inside the exported tree, where programs could reach it; \
                     with --exec name one outside with -y",
                    named()
                );
            }
            tracing::warn!(path = %path.display(), "the transient directory lies inside the exported tree, where clients may reach it");
        }
        Self::lock(&path).with_context(named)?.with_context(|| {
            format!(
                "{} is in use by another server; name another with -y",
                named()
            )
        })
    }

    fn open_default(root: &Path, account: &Account) -> anyhow::Result<Self> {
        let digest = Sha256::digest(root.as_os_str().as_bytes());
        let tree: String = digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut reasons = Vec::new();
        for base in default_bases(account) {
            if base.starts_with(root) {
                continue;
            }
            match Self::open_slot(&base, &tree) {
                Ok(transient) => return Ok(transient),
                Err(error) => reasons.push(format!("{}: {error:#}", base.display())),
            }
        }
        bail!(
            "no place for the transient directory ({}); name one with -y",
            reasons.join("; ")
        )
    }

    fn open_slot(base: &Path, tree: &str) -> anyhow::Result<Self> {
        for slot in 0..DEFAULT_SLOTS {
            let path = base.join(format!("{tree}.{slot}"));
            make(&path)?;
            let owner = path.symlink_metadata()?;
            ensure!(
                owner.is_dir() && owner.uid() == rustix::process::geteuid().as_raw(),
                "{} belongs to somebody else",
                path.display()
            );
            if let Some(transient) = Self::lock(&path)? {
                return Ok(transient);
            }
        }
        bail!("{DEFAULT_SLOTS} servers of this tree are running")
    }

    /// Locks the directory; `None` if another server has it.
    fn lock(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::open(path.join(LOCK), flags, Mode::from_raw_mode(0o600))?;
        let begun = Instant::now();
        loop {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    return Ok(Some(Self {
                        path: path.to_owned(),
                        _lock: lock.into(),
                    }));
                }
                Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the directory's absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Places for state without configuration, best first.
fn default_bases(account: &Account) -> Vec<PathBuf> {
    let state_home = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home = account
        .home
        .as_ref()
        .filter(|home| home.is_dir())
        .map(|home| home.join(".local/state"));
    let uid = rustix::process::geteuid().as_raw();
    let shared = ["/var/tmp", "/tmp"]
        .map(|directory| PathBuf::from(format!("{directory}/chirp-server-{uid}")));
    state_home
        .into_iter()
        .chain(home)
        .map(|state| state.join("chirp-server"))
        .chain(shared)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(home: &Path) -> Account {
        Account {
            name: "nobody".to_owned(),
            home: Some(home.to_owned()),
        }
    }

    #[test]
    fn a_directory_belongs_to_one_server() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("new/transient");
        let root = base.path().join("root");
        let first = Transient::open(Some(&path), &root, &account(base.path()), true).unwrap();
        let error = Transient::open(Some(&path), &root, &account(base.path()), true).unwrap_err();
        assert!(format!("{error:#}").contains("in use"), "{error:#}");
        drop(first);
        assert!(Transient::open(Some(&path), &root, &account(base.path()), true).is_ok());
    }

    #[test]
    fn with_exec_it_may_not_lie_inside_the_tree() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().canonicalize().unwrap();
        let inside = root.join("state");
        assert!(Transient::open(Some(&inside), &root, &account(&root), true).is_err());
        assert!(Transient::open(Some(&inside), &root, &account(&root), false).is_ok());
    }

    #[test]
    fn two_servers_of_one_tree_get_a_default_place_each() {
        let base = tempfile::tempdir().unwrap();
        let first = Transient::open_slot(base.path(), "abc").unwrap();
        let second = Transient::open_slot(base.path(), "abc").unwrap();
        assert_ne!(first.path(), second.path());
        let place = first.path().to_owned();
        drop(first);
        let third = Transient::open_slot(base.path(), "abc").unwrap();
        assert_eq!(
            third.path(),
            place,
            "the next server finds what the first left"
        );
    }
}
