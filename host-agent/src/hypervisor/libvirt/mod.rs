//! The driver `libvirt`, through `virsh`: one call for each question, so that the daemon, and nobody here,
//! knows what is going on.
//!
//! Machines are addressed by uuid. libvirt's error numbers do not come through `virsh`, so its words tell;
//! they are English whatever the user's language ([`super::tool`]).

mod define;
mod parse;

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};

use super::machine::{self, find_snapshot};
use super::tool::{Output, Tool};
use super::{
    Answer, Blueprint, Console, Driver, Error, Finding, Machine, Operation, Performance, Snapshot,
    State,
};
use define::Definition;

/// How long a question may take; the first may start libvirt's daemon, which then looks at every QEMU.
const ASK_WITHIN: Duration = Duration::from_secs(60);

/// Machines that are asked about at once.
const ASKED_AT_ONCE: usize = 4;

/// Settings of the driver.
#[derive(Debug, Clone)]
pub struct LibvirtSettings {
    /// The directory with `virsh` and `qemu-img`; by `PATH` where there is none.
    pub helpers: Option<PathBuf>,
    /// libvirt's address of the hypervisor, such as `qemu:///session`.
    pub uri: String,
    /// The type of machines that are created: `qemu` emulates, `kvm` needs a processor that can.
    pub kind: String,
    /// The bridge of machines that are created; user-mode networking where there is none.
    pub bridge: Option<String>,
    /// The folder for disks and logs of machines that are created.
    pub folder: PathBuf,
}

/// libvirt.
#[derive(Debug, Clone)]
pub struct Libvirt {
    virsh: Tool,
    qemu_img: Tool,
    settings: LibvirtSettings,
}

impl Libvirt {
    /// Returns the driver. Nothing is run yet.
    #[must_use]
    pub fn new(settings: LibvirtSettings) -> Self {
        let helpers = settings.helpers.as_deref();
        Self {
            virsh: Tool::new(
                "virsh",
                helpers,
                "install libvirt's clients (Debian: libvirt-clients), or set Hypervisor.hypervisor_helpers_path to \
                 the directory with virsh",
            )
            .with(["--quiet", "--connect", &settings.uri]),
            qemu_img: Tool::new("qemu-img", helpers, "install it (Debian: qemu-utils)"),
            settings,
        }
    }

    /// Makes a call that must succeed.
    async fn ask(&self, arguments: &[&str]) -> Result<Output, Error> {
        let output = self.virsh.run(arguments, ASK_WITHIN).await?;
        if output.code == 0 {
            return Ok(output);
        }
        let what = format!("virsh {}", arguments.first().unwrap_or(&""));
        Err(self.connection(&output).unwrap_or_else(|| Error::Failed {
            what,
            said: complaint(&output),
        }))
    }

    /// Returns the error of a call that did not get through to libvirt at all.
    fn connection(&self, output: &Output) -> Option<Error> {
        let said = complaint(output);
        if !said.contains("failed to connect to the hypervisor") {
            return None;
        }
        let what = format!("the connection to {}", self.settings.uri);
        let denied = ["Permission denied", "authentication", "access denied"];
        Some(if denied.iter().any(|words| said.contains(words)) {
            Error::Rights {
                what,
                remedy: "add this user to the group libvirt, or use an address of its own such as qemu:///session"
                    .to_owned(),
            }
        } else {
            Error::Failed { what, said }
        })
    }

    async fn list(&self) -> Result<Vec<(String, String)>, Error> {
        let output = self.ask(&["list", "--all", "--uuid", "--name"]).await?;
        Ok(parse::machines(&output.out))
    }

    async fn about(&self, uuid: &str, name: &str) -> Result<Machine, Error> {
        // One string is several commands; only a uuid is put into it.
        let mark = parse::MARK;
        let questions = format!(
            "domstate {uuid} --reason; echo {mark}; dominfo {uuid}; echo {mark}; domiflist {uuid}"
        );
        let output = self.virsh.run([&questions], ASK_WITHIN).await?;
        if let Some(error) = self.connection(&output) {
            return Err(error);
        }
        if is_unknown(&output) {
            return Err(Error::NoSuchMachine {
                machine: name.to_owned(),
            });
        }
        let (state, macs) = parse::about(&output.out).ok_or_else(|| Error::BadAnswer {
            what: format!("the question about machine {name:?}"),
            reason: output.said(),
        })?;
        Ok(Machine {
            name: name.to_owned(),
            uuid: Some(uuid.to_owned()),
            state,
            macs,
            forwarded: None,
        })
    }

    /// Returns a machine's uuid and name, by either.
    async fn named(&self, machine: &str) -> Result<(String, String), Error> {
        let machines = self
            .list()
            .await?
            .into_iter()
            .map(|(uuid, name)| Machine {
                name,
                uuid: Some(uuid),
                state: State::Unknown,
                macs: Vec::new(),
                forwarded: None,
            })
            .collect();
        let found = machine::find(machines, machine)?;
        Ok((found.uuid.unwrap_or_default(), found.name))
    }

    async fn tree(&self, uuid: &str) -> Result<Vec<Snapshot>, Error> {
        let names = self.ask(&["snapshot-list", uuid, "--name"]).await?;
        let current = self
            .virsh
            .run(["snapshot-current", uuid, "--name"], ASK_WITHIN)
            .await?;
        let current = (current.code == 0).then(|| current.out.trim_end().to_owned());
        let names: Vec<String> = names
            .out
            .lines()
            .filter(|name| !name.is_empty())
            .map(|name| format!("--snapshotname={name}"))
            .collect();
        let found: Vec<_> = stream::iter(names)
            .map(|name| async move { self.ask(&["snapshot-dumpxml", uuid, &name]).await })
            .buffered(ASKED_AT_ONCE)
            .collect()
            .await;
        let mut snapshots = Vec::new();
        for output in found {
            let output = output?;
            let mut snapshot = parse::snapshot(&output.out).ok_or_else(|| Error::BadAnswer {
                what: "virsh snapshot-dumpxml".to_owned(),
                reason: "no snapshot's XML".to_owned(),
            })?;
            snapshot.current = current.as_ref() == Some(&snapshot.name);
            snapshots.push(snapshot);
        }
        Ok(parse::parents_first(snapshots))
    }

    async fn do_to(&self, machine: &str, operation: Operation) -> Result<(), Error> {
        operation.check(machine)?;
        if let Operation::Create(blueprint) = &operation {
            return self.create(machine, blueprint, operation.limit()).await;
        }
        let (uuid, name) = self.named(machine).await?;
        let uuid = uuid.as_str();
        let call = async |arguments: &[&str]| {
            let output = self.virsh.run(arguments, operation.limit()).await?;
            if output.code == 0 {
                return Ok(());
            }
            Err(self.refused(uuid, &name, &operation, &output).await)
        };
        match &operation {
            Operation::Start => call(&["start", uuid]).await,
            Operation::Shutdown => call(&["shutdown", uuid]).await,
            Operation::PowerOff => call(&["destroy", uuid]).await,
            Operation::Reset => call(&["reset", uuid]).await,
            Operation::Pause => call(&["suspend", uuid]).await,
            Operation::Resume => call(&["resume", uuid]).await,
            Operation::Save => call(&["managedsave", uuid]).await,
            Operation::Discard => {
                // virsh says yes where there is nothing to remove.
                self.require(uuid, &name, &operation, |state| state == State::Saved)
                    .await?;
                call(&["managedsave-remove", uuid]).await
            }
            Operation::TakeSnapshot {
                snapshot,
                description,
            } => {
                let (name, description) = (
                    format!("--name={snapshot}"),
                    format!("--description={description}"),
                );
                call(&["snapshot-create-as", uuid, &name, &description]).await
            }
            Operation::RestoreSnapshot { snapshot } => {
                let chosen = find_snapshot(machine, self.tree(uuid).await?, snapshot.as_deref())?;
                let chosen = format!("--snapshotname={}", chosen.id);
                call(&["snapshot-revert", uuid, &chosen]).await
            }
            Operation::DeleteSnapshot { snapshot } => {
                let chosen = find_snapshot(machine, self.tree(uuid).await?, Some(snapshot))?;
                let chosen = format!("--snapshotname={}", chosen.id);
                call(&["snapshot-delete", uuid, &chosen]).await
            }
            Operation::Create(_) => Ok(()),
            Operation::Remove => {
                // Without this a machine that runs would go on, and be forgotten once it is off.
                self.require(uuid, &name, &operation, State::is_off).await?;
                let disks = parse::disks(&self.ask(&["dumpxml", uuid]).await?.out);
                call(&["undefine", uuid, "--managed-save", "--snapshots-metadata"]).await?;
                self.clear(&name, &disks);
                Ok(())
            }
        }
    }

    async fn require(
        &self,
        uuid: &str,
        name: &str,
        operation: &Operation,
        fits: impl Fn(State) -> bool,
    ) -> Result<(), Error> {
        let state = self.about(uuid, name).await?.state;
        if fits(state) {
            return Ok(());
        }
        Err(Error::WrongState {
            machine: name.to_owned(),
            operation: operation.name().to_owned(),
            state,
        })
    }

    /// Makes an error of what virsh says about an operation.
    async fn refused(
        &self,
        uuid: &str,
        name: &str,
        operation: &Operation,
        output: &Output,
    ) -> Error {
        if let Some(error) = self.connection(output) {
            return error;
        }
        let said = complaint(output);
        let what = format!("{} of machine {name:?}", operation.name());
        if is_unknown(output) {
            return Error::NoSuchMachine {
                machine: name.to_owned(),
            };
        }
        if said.contains("not supported by the connection driver") {
            return Error::NotSupported {
                driver: self.name(),
                operation: format!("{} with {}", operation.name(), self.settings.uri),
            };
        }
        if said.contains("already exists") {
            return Error::Exists { what: said };
        }
        let state = [
            "not running",
            "already active",
            "not paused",
            "already running",
            "operation is not valid",
        ];
        if state.iter().any(|words| said.contains(words))
            && let Ok(machine) = self.about(uuid, name).await
        {
            return Error::WrongState {
                machine: name.to_owned(),
                operation: operation.name().to_owned(),
                state: machine.state,
            };
        }
        Error::Failed { what, said }
    }

    fn disk_of(&self, name: &str) -> PathBuf {
        self.settings.folder.join(format!("{name}.qcow2"))
    }

    fn log_of(&self, name: &str) -> PathBuf {
        self.settings.folder.join(format!("{name}.log"))
    }

    /// Removes the files that [`Self::create`] made for a machine, and no other.
    fn clear(&self, name: &str, disks: &[PathBuf]) {
        let own = self.disk_of(name);
        if disks.contains(&own) {
            for file in [own, self.log_of(name)] {
                if let Err(error) = std::fs::remove_file(&file)
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    tracing::warn!(file = %file.display(), %error, "a removed machine's file stays");
                }
            }
        }
    }

    async fn create(
        &self,
        name: &str,
        blueprint: &Blueprint,
        limit: Duration,
    ) -> Result<(), Error> {
        if let Ok((uuid, found)) = self.named(name).await {
            return Err(Error::Exists {
                what: format!("machine {found:?} ({uuid})"),
            });
        }
        let failed = |what: &Path, error: &std::io::Error| Error::BadArgument {
            what: what.display().to_string(),
            reason: error.to_string(),
        };
        std::fs::create_dir_all(&self.settings.folder)
            .map_err(|error| failed(&self.settings.folder, &error))?;
        let disk = match &blueprint.image {
            None => None,
            Some(image) => {
                let image = std::fs::canonicalize(image).map_err(|error| failed(image, &error))?;
                Some(self.overlay(name, &image, limit).await?)
            }
        };
        let log = self.log_of(name);
        let definition = Definition {
            name,
            kind: &self.settings.kind,
            blueprint,
            disk: disk.as_deref(),
            bridge: self.settings.bridge.as_deref(),
            log: Some(&log),
        };
        let file = self.settings.folder.join(format!("{name}.xml"));
        let written = definition
            .xml()
            .and_then(|xml| std::fs::write(&file, xml))
            .map_err(|error| failed(&file, &error));
        let defined = match (written, file.to_str()) {
            (Ok(()), Some(path)) => self.virsh.run(["define", path], limit).await,
            (Ok(()), None) => Err(failed(&file, &std::io::ErrorKind::InvalidFilename.into())),
            (Err(error), _) => Err(error),
        };
        // libvirt keeps what it needs.
        let _ = std::fs::remove_file(&file);
        let refused = match defined {
            Ok(output) if output.code == 0 => return Ok(()),
            Ok(output) => self.connection(&output).unwrap_or_else(|| Error::Failed {
                what: format!("create of machine {name:?}"),
                said: complaint(&output),
            }),
            Err(error) => error,
        };
        self.clear(name, disk.as_slice());
        Err(refused)
    }

    /// Makes a disk that holds only what differs from the image.
    async fn overlay(&self, name: &str, image: &Path, limit: Duration) -> Result<PathBuf, Error> {
        let disk = self.disk_of(name);
        if disk.exists() {
            return Err(Error::Exists {
                what: format!("the file {}", disk.display()),
            });
        }
        let what = format!("the disk of machine {name:?} from {}", image.display());
        let bad = |said: String| Error::Failed {
            what: what.clone(),
            said,
        };
        // Guessing the format of a disk that a guest wrote to would let the guest choose it.
        let format = match image.extension().and_then(|extension| extension.to_str()) {
            Some("qcow2") => "qcow2",
            Some("raw" | "img") => "raw",
            _ => {
                return Err(Error::BadArgument {
                    what: image.display().to_string(),
                    reason: "its name ends neither in .qcow2 nor in .raw or .img".to_owned(),
                });
            }
        };
        let (Some(image), Some(path)) = (image.to_str(), disk.to_str()) else {
            return Err(bad("a path is not UTF-8".to_owned()));
        };
        let arguments = [
            "create", "-q", "-f", "qcow2", "-b", image, "-F", format, path,
        ];
        let output = self.qemu_img.run(arguments, limit).await?;
        if output.code != 0 {
            return Err(bad(output.said()));
        }
        Ok(disk)
    }
}

/// Returns virsh's words about a failure without the prefix of each line.
fn complaint(output: &Output) -> String {
    let lines: Vec<&str> = output
        .err
        .lines()
        .map(|line| line.strip_prefix("error: ").unwrap_or(line).trim())
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        output.said()
    } else {
        lines.join("; ")
    }
}

fn is_unknown(output: &Output) -> bool {
    output.err.contains("failed to get domain") || output.err.contains("Domain not found")
}

impl Driver for Libvirt {
    fn name(&self) -> &'static str {
        "libvirt"
    }

    fn check(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(async move {
            let version = match self.virsh.run(["--version"], ASK_WITHIN).await {
                Ok(output) => output.out.trim().to_owned(),
                Err(Error::ToolMissing {
                    tool,
                    reason,
                    remedy,
                }) => return Ok(vec![Finding::bad(format!("{tool}: {reason}"), remedy)]),
                Err(error) => {
                    return Ok(vec![Finding::bad(
                        error.to_string(),
                        "look at what virsh says by hand",
                    )]);
                }
            };
            let mut findings = vec![Finding::good(format!("virsh {version}"))];
            findings.push(match self.list().await {
                Ok(machines) => Finding::good(format!(
                    "{} answers: {} machines",
                    self.settings.uri,
                    machines.len()
                )),
                Err(error) => Finding::bad(
                    error.to_string(),
                    "start libvirtd (Debian: libvirt-daemon-system), or set Hypervisor.libvirt_uri",
                ),
            });
            Ok(findings)
        })
    }

    fn machines(&self) -> Answer<'_, Vec<Machine>> {
        Box::pin(async move {
            let found: Vec<_> = stream::iter(self.list().await?)
                .map(|(uuid, name)| async move { self.about(&uuid, &name).await })
                .buffered(ASKED_AT_ONCE)
                .collect()
                .await;
            found
                .into_iter()
                // One that was removed in between is none.
                .filter(|machine| !matches!(machine, Err(Error::NoSuchMachine { .. })))
                .collect()
        })
    }

    fn machine<'a>(&'a self, machine: &'a str) -> Answer<'a, Machine> {
        Box::pin(async move {
            let (uuid, name) = self.named(machine).await?;
            self.about(&uuid, &name).await
        })
    }

    fn operate<'a>(&'a self, machine: &'a str, operation: Operation) -> Answer<'a, ()> {
        Box::pin(self.do_to(machine, operation))
    }

    fn snapshots<'a>(&'a self, machine: &'a str) -> Answer<'a, Vec<Snapshot>> {
        Box::pin(async move { self.tree(&self.named(machine).await?.0).await })
    }

    fn performance<'a>(&'a self, machine: &'a str) -> Answer<'a, Performance> {
        Box::pin(async move {
            let (uuid, _) = self.named(machine).await?;
            let output = self.ask(&["domstats", &uuid, "--raw"]).await?;
            Ok(parse::performance(&output.out))
        })
    }

    fn console<'a>(&'a self, machine: &'a str) -> Answer<'a, Console> {
        Box::pin(async move {
            let (uuid, _) = self.named(machine).await?;
            let xml = self.ask(&["dumpxml", &uuid]).await?.out;
            Ok(parse::console(&xml).unwrap_or_else(|| {
                let program = self.virsh.program().to_string_lossy().into_owned();
                let uri = self.settings.uri.clone();
                Console::Command(vec![
                    program,
                    "--connect".to_owned(),
                    uri,
                    "console".to_owned(),
                    uuid,
                ])
            }))
        })
    }
}
