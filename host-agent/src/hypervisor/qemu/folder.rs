//! The registry of machines: a folder with a folder for each, that outlives every agent.
//!
//! ```text
//! NAME/machine.json     what it is made of
//!      disk.qcow2       its disk, and its snapshots
//!      snapshots.json   what their maker wrote about them
//!      saved            the snapshot that the next start goes on from, where it is saved
//!      run.json         the QEMU that runs it, or did
//!      alive            locked for as long as QEMU lives: it has the file as its standard input
//!      lock             locked by who works on it; says what is being done
//!      monitor.sock     QEMU's monitor
//!      console.log      what its serial port said
//!      qemu.log         what QEMU said
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use beacon::MacId;
use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::hypervisor::{Error, Operation, State};

/// How long somebody waits for one who only looks at the machine.
const LOOK_WAIT: Duration = Duration::from_secs(10);

/// How often it is tried: a look takes milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Bytes of a file in a machine's folder at most, disks and logs apart.
const FILE_MAX: u64 = 1024 * 1024;

/// The name of a machine's disk.
pub(super) const DISK: &str = "disk.qcow2";
/// The name of what the serial port said.
pub(super) const CONSOLE: &str = "console.log";
/// The name of what QEMU said.
pub(super) const LOG: &str = "qemu.log";

/// What a machine is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Definition {
    /// The version of this form; 1.
    pub(super) version: u32,
    /// The id that QEMU gives the guest, too.
    pub(super) uuid: String,
    /// The address of its card.
    pub(super) mac: MacId,
    /// Memory in MiB.
    pub(super) memory_mib: u32,
    /// Processors.
    pub(super) cpus: u32,
    /// Whether its disk holds an image; else it is there for snapshots only.
    pub(super) boots_disk: bool,
    /// The kernel to boot without a boot loader.
    pub(super) kernel: Option<PathBuf>,
    /// Its initial file system.
    pub(super) initrd: Option<PathBuf>,
    /// Its command line, besides what the driver adds.
    pub(super) append: Option<String>,
    /// How it is connected.
    pub(super) link: Link,
}

/// How a machine is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Link {
    /// By QEMU's own network.
    User {
        /// The port of this host's loopback that leads to the guest's Chirp port.
        port: u16,
    },
    /// By a tap device on a bridge.
    Tap {
        /// The device.
        tap: String,
        /// The bridge.
        bridge: String,
    },
}

/// The QEMU that runs a machine, or did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// Its process.
    pub(super) pid: i32,
    /// When the kernel says it was started, in ticks since the host's boot: the pid may be another's by now.
    pub(super) started: u64,
}

/// The folder of one machine.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    /// The machine's name.
    pub(super) name: String,
    /// Where it is.
    pub(super) path: PathBuf,
}

/// The right to work on a machine, or to look at it. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file unlocks it.
        let _ = self.file.set_len(0);
    }
}

/// What another one who has the machine's lock does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Work {
    /// The operation's name.
    pub(super) operation: String,
    /// The state to show meanwhile.
    pub(super) state: Option<State>,
}

impl Folder {
    /// Returns the folder of an existing machine.
    pub(super) fn of(registry: &Path, name: &str) -> Result<Self, Error> {
        let folder = Self {
            name: name.to_owned(),
            path: registry.join(name),
        };
        if name.contains('/') || name.starts_with('.') || !folder.file("machine.json").is_file() {
            return Err(Error::NoSuchMachine {
                machine: name.to_owned(),
            });
        }
        Ok(folder)
    }

    /// Returns the folders of all machines in the order of their names.
    pub(super) fn all(registry: &Path) -> Result<Vec<Self>, Error> {
        let entries = match fs::read_dir(registry) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(registry, &error)),
        };
        let mut all: Vec<_> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter_map(|name| Self::of(registry, &name).ok())
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Makes a folder for a new machine; `fill` puts its disk there. Nothing is left of one that fails.
    pub(super) async fn make<F: AsyncFnOnce(&Self) -> Result<Definition, Error>>(
        registry: &Path,
        name: &str,
        fill: F,
    ) -> Result<(), Error> {
        let failed = |error: io::Error| unwritable(registry, &error);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(registry)
            .map_err(failed)?;
        let work = tempfile::Builder::new()
            .prefix(".new-")
            .tempdir_in(registry)
            .map_err(failed)?;
        let folder = Self {
            name: name.to_owned(),
            path: work.path().to_owned(),
        };
        let definition = fill(&folder).await?;
        for file in ["alive", "lock"] {
            private(&folder.file(file)).map_err(failed)?;
        }
        folder.write("machine.json", &definition)?;
        // A folder with something in it is not replaced.
        match fs::rename(work.path(), registry.join(name)) {
            Ok(()) => {
                let _ = work.keep();
                Ok(())
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) =>
            {
                Err(Error::Exists {
                    what: format!("machine {name:?}"),
                })
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Removes the folder and everything in it.
    pub(super) fn remove(&self) -> Result<(), Error> {
        let failed = |error: io::Error| unwritable(&self.path, &error);
        // At once out of the list, however long the rest takes.
        let parent = self.path.parent().unwrap_or(&self.path);
        let gone = parent.join(format!(".gone-{}", uuid::Uuid::new_v4()));
        fs::rename(&self.path, &gone).map_err(failed)?;
        fs::remove_dir_all(&gone).map_err(failed)
    }

    /// Returns the path of a file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads what the machine is made of.
    pub(super) fn definition(&self) -> Result<Definition, Error> {
        let definition: Definition =
            self.read("machine.json")?
                .ok_or_else(|| Error::NoSuchMachine {
                    machine: self.name.clone(),
                })?;
        if definition.version != 1 {
            return Err(Error::BadAnswer {
                what: format!("reading {}", self.file("machine.json").display()),
                reason: format!(
                    "it is of version {}, from a newer program",
                    definition.version
                ),
            });
        }
        Ok(definition)
    }

    /// Reads a file of the folder; nothing where there is none.
    pub(super) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let path = self.file(name);
        let mut text = String::new();
        match File::open(&path) {
            Ok(file) => file.take(FILE_MAX).read_to_string(&mut text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => Err(error),
        }
        .map_err(|error| unreadable(&path, &error))?;
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| Error::BadAnswer {
                what: format!("reading {}", path.display()),
                reason: error.to_string(),
            })
    }

    /// Writes a file of the folder, whole or not at all.
    pub(super) fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Error> {
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
            serde_json::to_writer_pretty(&mut file, value)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(self.file(name))?;
            Ok(())
        };
        write().map_err(|error| unwritable(&self.file(name), &error))
    }

    /// Removes a file of the folder, if it is there.
    pub(super) fn clear(&self, name: &str) -> Result<(), Error> {
        match fs::remove_file(self.file(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(unwritable(&self.file(name), &error))
            }
            _ => Ok(()),
        }
    }

    /// Takes the machine's lock for an operation.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] where another operation goes on.
    pub(super) async fn work(&self, operation: &Operation) -> Result<Lock, Error> {
        let work = Work {
            operation: operation.name().to_owned(),
            state: operation.meanwhile(),
        };
        match self.take().await? {
            Ok(mut lock) => {
                let mut write = || -> io::Result<()> {
                    lock.file.set_len(0)?;
                    lock.file.rewind()?;
                    serde_json::to_writer(&lock.file, &work)?;
                    Ok(())
                };
                // A machine must be turned off on a full disk, too: others are told less then.
                if let Err(error) = write() {
                    let error = unwritable(&self.file("lock"), &error);
                    tracing::warn!(machine = self.name, %error, "cannot say what is being done");
                }
                Ok(lock)
            }
            Err(other) => Err(Error::Busy {
                machine: self.name.clone(),
                operation: other.operation,
            }),
        }
    }

    /// Takes the machine's lock to look at it; else says what is being done to it.
    pub(super) async fn look(&self) -> Result<Result<Lock, Work>, Error> {
        self.take().await
    }

    async fn take(&self) -> Result<Result<Lock, Work>, Error> {
        let path = self.file("lock");
        let failed = |error: io::Error| unreadable(&path, &error);
        let mut file = private(&path).map_err(failed)?;
        let deadline = Instant::now() + LOOK_WAIT;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    // It may have been removed while we waited.
                    if !self.file("machine.json").is_file() {
                        return Err(Error::NoSuchMachine {
                            machine: self.name.clone(),
                        });
                    }
                    // What one who was killed left there.
                    file.set_len(0).map_err(failed)?;
                    return Ok(Ok(Lock { file }));
                }
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failed(error.into())),
            }
            let mut text = String::new();
            file.rewind().map_err(failed)?;
            (&file)
                .take(FILE_MAX)
                .read_to_string(&mut text)
                .map_err(failed)?;
            // One who only looks writes nothing, and is soon done.
            if let Ok(work) = serde_json::from_str(&text) {
                return Ok(Err(work));
            }
            if Instant::now() >= deadline {
                return Ok(Err(Work {
                    operation: "a look at it".to_owned(),
                    state: None,
                }));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Returns whether a QEMU of this machine lives.
    pub(super) fn is_alive(&self) -> Result<bool, Error> {
        let path = self.file("alive");
        let failed = |error: io::Error| unreadable(&path, &error);
        let file = File::open(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Returns the file that says that QEMU lives, locked, for QEMU to keep; nothing where one lives.
    pub(super) async fn life(&self) -> Result<Option<File>, Error> {
        let path = self.file("alive");
        let failed = |error: io::Error| unreadable(&path, &error);
        let file = private(&path).map_err(failed)?;
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(file)),
                // Perhaps only somebody who looks.
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR)
                    if Instant::now() < deadline =>
                {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(failed(error.into())),
            }
        }
    }
}

/// Opens a file for this user alone, and makes it where it is missing.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    touched("reading", path, error)
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    touched("writing", path, error)
}

fn touched(what: &str, path: &Path, error: &io::Error) -> Error {
    let what = format!("{what} {}", path.display());
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Error::Rights {
            what,
            remedy: "the machines belong to another user: name a folder of yours".to_owned(),
        };
    }
    Error::Failed {
        what,
        said: error.to_string(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A machine that boots from nothing.
    pub(in super::super) fn definition() -> Definition {
        Definition {
            version: 1,
            uuid: "u".to_owned(),
            mac: "02:00:00:00:00:01".parse().unwrap(),
            memory_mib: 128,
            cpus: 1,
            boots_disk: false,
            kernel: None,
            initrd: None,
            append: None,
            link: Link::User { port: 1 },
        }
    }

    async fn machine(registry: &Path, name: &str) -> Folder {
        Folder::make(registry, name, async |_: &Folder| Ok(definition()))
            .await
            .unwrap();
        Folder::of(registry, name).unwrap()
    }

    #[tokio::test]
    async fn a_machine_is_made_once_and_a_failed_one_leaves_nothing() {
        let registry = tempfile::tempdir().unwrap();
        let folder = machine(registry.path(), "a b").await;
        assert_eq!(folder.definition().unwrap(), definition());
        let again = Folder::make(registry.path(), "a b", async |_: &Folder| Ok(definition())).await;
        assert!(matches!(again, Err(Error::Exists { .. })), "{again:?}");
        let failed = Folder::make(registry.path(), "c", async |_: &Folder| {
            Err(Error::Exists {
                what: "x".to_owned(),
            })
        });
        failed.await.unwrap_err();
        let left: Vec<_> = fs::read_dir(registry.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        folder.remove().unwrap();
        assert!(Folder::all(registry.path()).unwrap().is_empty());
    }

    #[test]
    fn names_lead_nowhere_else() {
        let registry = tempfile::tempdir().unwrap();
        fs::write(registry.path().join("machine.json"), "{}").unwrap();
        let inner = registry.path().join("inner");
        fs::create_dir(&inner).unwrap();
        for name in ["..", ".", "", "../inner", "/"] {
            assert!(Folder::of(&inner, name).is_err(), "{name:?}");
        }
    }

    #[tokio::test]
    async fn one_works_on_a_machine_at_a_time_and_others_hear_what_is_done() {
        let registry = tempfile::tempdir().unwrap();
        let folder = machine(registry.path(), "m").await;
        let lock = folder.work(&Operation::Save).await.unwrap();
        let refused = folder.work(&Operation::Start).await.unwrap_err();
        assert!(refused.to_string().contains("save goes on"), "{refused}");
        let work = folder.look().await.unwrap().unwrap_err();
        assert_eq!(work.state, Some(State::Saving));
        drop(lock);
        drop(folder.look().await.unwrap().unwrap());
        // Whoever looks is waited for.
        let look = folder.look().await.unwrap().unwrap();
        let (later, ()) = tokio::join!(folder.work(&Operation::Start), async {
            tokio::task::yield_now().await;
            drop(look);
        });
        later.unwrap();
    }

    #[tokio::test]
    async fn a_life_is_seen_by_all_and_is_one() {
        let registry = tempfile::tempdir().unwrap();
        let folder = machine(registry.path(), "m").await;
        assert!(!folder.is_alive().unwrap());
        let life = folder.life().await.unwrap().unwrap();
        assert!(folder.is_alive().unwrap());
        assert!(folder.life().await.unwrap().is_none());
        drop(life);
        assert!(!folder.is_alive().unwrap());
    }

    #[tokio::test]
    async fn what_others_wrote_there_is_an_error_that_names_the_file() {
        let registry = tempfile::tempdir().unwrap();
        let folder = machine(registry.path(), "m").await;
        for bad in ["", "nonsense", "{\"version\": 1}"] {
            fs::write(folder.file("machine.json"), bad).unwrap();
            let error = folder.definition().unwrap_err().to_string();
            assert!(error.contains("machine.json"), "{error}");
        }
        let newer = Definition {
            version: 2,
            ..definition()
        };
        folder.write("machine.json", &newer).unwrap();
        let error = folder.definition().unwrap_err().to_string();
        assert!(error.contains("newer"), "{error}");
    }
}
