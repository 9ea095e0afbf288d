//! The registry's snapshot on disk: guests survive a restart of the agent.
//!
//! Written when the guests have changed, at most once a second, by a blocking task beside the agent; a new
//! file takes the old one's name only when it is whole and on the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use beacon::registry::Snapshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// The least time between two writings.
const EVERY: Duration = Duration::from_secs(1);

/// After a writing that failed, the next one comes no sooner.
const AGAIN: Duration = Duration::from_secs(10);

/// Bytes of a snapshot at most: 10,000 guests, each with the greatest announcement there can be, and room.
const FILE_MAX: u64 = 64 * 1024 * 1024;

/// Returns where the snapshot is unless the settings name a file: beside the API's socket, which only one
/// agent can have, in a directory that goes when the machine starts again and its guests with it.
pub(crate) fn beside(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".guests");
    name.into()
}

/// Reads a snapshot; `None` where there is none.
///
/// # Errors
///
/// It cannot be read, is not this user's own, or is no snapshot.
pub(crate) fn read(path: &Path) -> io::Result<Option<Snapshot>> {
    let open = OpenOptions::new()
        .read(true)
        .custom_flags(
            (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK)
                .bits()
                .cast_signed(),
        )
        .open(path);
    let file = match open {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let found = file.metadata()?;
    // The agent connects to whatever address stands there.
    if !found.is_file() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("is no file of this user"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::other(format!("longer than {FILE_MAX} bytes")));
    }
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(io::Error::other)
}

/// Puts a snapshot in the place of the one before, whole or not at all.
fn write(path: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    let mut file = tempfile::Builder::new()
        .prefix(".host-agent-")
        .tempfile_in(directory)?;
    let json = serde_json::to_vec(snapshot)?;
    file.write_all(&json)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

/// Writes snapshots down, one after another.
#[derive(Debug)]
pub(crate) struct Keeper {
    path: PathBuf,
    /// The registry's revision that was written last, or that is being written.
    kept: u64,
    writing: Option<JoinHandle<io::Result<()>>>,
    not_before: Instant,
    failed: bool,
}

impl Keeper {
    /// Returns a keeper for that file, which holds this revision of the registry.
    pub(crate) fn new(path: PathBuf, revision: u64) -> Self {
        Self {
            path,
            kept: revision,
            writing: None,
            not_before: Instant::now(),
            failed: false,
        }
    }

    /// Waits until a registry of that revision is to be written: for ever where it is written already.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn due(&mut self, revision: u64) {
        self.wait_written().await;
        if self.kept == revision {
            std::future::pending::<()>().await;
        }
        sleep_until(self.not_before).await;
    }

    /// Begins to write a snapshot of that revision, when [`Self::due`] has said so.
    pub(crate) fn start(&mut self, snapshot: Snapshot, revision: u64) {
        let path = self.path.clone();
        self.kept = revision;
        self.not_before = Instant::now() + EVERY;
        self.writing = Some(tokio::task::spawn_blocking(move || write(&path, &snapshot)));
    }

    /// Writes the last snapshot, if it tells more than the one that is written.
    pub(crate) async fn finish(mut self, snapshot: impl FnOnce() -> Snapshot, revision: u64) {
        self.wait_written().await;
        if self.kept != revision {
            self.start(snapshot(), revision);
            self.wait_written().await;
        }
    }

    /// Waits for the end of the writing that runs, and heeds what became of it.
    async fn wait_written(&mut self) {
        let Some(writing) = &mut self.writing else {
            return;
        };
        let written = writing.await;
        self.writing = None;
        match written {
            Ok(Ok(())) => self.failed = false,
            Ok(Err(error)) => self.heed_failure(&error),
            Err(error) => self.heed_failure(&io::Error::other(error)),
        }
    }

    fn heed_failure(&mut self, error: &io::Error) {
        // No revision of a registry: whatever it holds is to be written.
        self.kept = u64::MAX;
        self.not_before = Instant::now() + AGAIN;
        if !std::mem::replace(&mut self.failed, true) {
            tracing::warn!(
                event = "snapshot.failed", path = %self.path.display(), %error,
                "cannot write the guests down: after a restart they are known by their next beacons only; \
                 trying again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use beacon::{Registry, RegistryConfig};
    use std::time::SystemTime;

    /// Whole seconds: other times may change in their last digit when they are read again.
    fn snapshot(seconds: u64) -> Snapshot {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Registry::new(RegistryConfig::default()).snapshot(wall)
    }

    #[tokio::test]
    async fn what_is_written_is_read_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("guests");
        assert_eq!(read(&path).unwrap(), None);
        let (mut keeper, one) = (Keeper::new(path.clone(), 0), snapshot(1));
        keeper.due(1).await;
        keeper.start(one.clone(), 1);
        keeper.wait_written().await;
        assert_eq!(read(&path).unwrap(), Some(one));
        let two = snapshot(2);
        keeper.finish(|| two.clone(), 2).await;
        assert_eq!(read(&path).unwrap(), Some(two));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_registry_that_is_written_already_is_not_due() {
        let directory = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(directory.path().join("guests"), 7);
        tokio::select! {
            biased;
            () = keeper.due(7) => panic!("nothing changed"),
            () = std::future::ready(()) => {}
        }
        keeper.finish(|| panic!("nothing changed"), 7).await;
    }

    #[tokio::test]
    async fn a_failure_is_told_and_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing").join("guests");
        let mut keeper = Keeper::new(path.clone(), 0);
        keeper.start(snapshot(1), 1);
        keeper.wait_written().await;
        assert!(keeper.failed && keeper.not_before > Instant::now());
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        keeper.finish(|| snapshot(1), 1).await;
        assert!(read(&path).unwrap().is_some());
    }

    #[test]
    fn what_is_no_snapshot_of_ours_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("guests");
        for text in ["", "{}", "[1", "{\"v\":1,\"written\":0,\"guests\":[{}]}"] {
            std::fs::write(&path, text).unwrap();
            assert!(read(&path).is_err(), "{text}");
        }
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read(&link).is_err());
        assert!(read(directory.path()).is_err());
        File::create(&path).unwrap().set_len(FILE_MAX + 1).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("longer"));
    }
}
