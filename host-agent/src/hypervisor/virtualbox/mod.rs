//! The driver `VirtualBox`, through `VBoxManage`.
//!
//! Machines and snapshots are addressed by uuid: names may be anything, and snapshots may share one. What went
//! wrong is told by the symbol in `Details: code`, because the prose changes between versions; progress on
//! standard error means nothing.

mod parse;

use std::path::{Path, PathBuf};
use std::time::Duration;

use beacon::MacId;
use futures_util::stream::{self, StreamExt as _};

use super::machine::{self, find_snapshot};
use super::tool::{Output, Tool};
use super::{
    Answer, Blueprint, Console, Driver, Error, Finding, Machine, Operation, Performance, Snapshot,
    State,
};
use parse::{Complaint, Info, Listed};

/// How long a question may take; each call starts a program, and the first one a service.
const ASK_WITHIN: Duration = Duration::from_secs(60);

/// Machines that are asked about at once.
const ASKED_AT_ONCE: usize = 4;

/// How often a call is made again that met a machine on its way from one state to another.
const TRIES: u32 = 20;

/// The time between two such calls.
const TRY_EVERY: Duration = Duration::from_millis(500);

/// Settings of the driver.
#[derive(Debug, Clone, Default)]
pub struct VirtualBoxSettings {
    /// The directory with `VBoxManage`; by `PATH` where there is none.
    pub helpers: Option<PathBuf>,
    /// The host-only interface of machines that are created; `vboxnet0` where there is none.
    pub interface: Option<String>,
}

/// VirtualBox.
#[derive(Debug, Clone)]
pub struct VirtualBox {
    tool: Tool,
    interface: String,
}

impl VirtualBox {
    /// Returns the driver. Nothing is run yet.
    #[must_use]
    pub fn new(settings: VirtualBoxSettings) -> Self {
        Self {
            tool: Tool::new(
                "VBoxManage",
                settings.helpers.as_deref(),
                "install VirtualBox, or set Hypervisor.hypervisor_helpers_path to the directory with VBoxManage",
            ),
            interface: settings.interface.unwrap_or_else(|| "vboxnet0".to_owned()),
        }
    }

    async fn ask(&self, arguments: &[&str], limit: Duration) -> Result<Output, Error> {
        self.tool.run(arguments, limit).await
    }

    /// Makes a call for a machine; makes it again while VirtualBox is still busy with the last one.
    async fn call(&self, call: Call<'_>, arguments: &[&str]) -> Result<Output, Error> {
        let mut tries = 0;
        loop {
            let output = self.ask(arguments, call.limit).await?;
            if output.code == 0 {
                return Ok(output);
            }
            let complaint = parse::complaint(&output.err);
            tries += 1;
            let passing =
                call.passing && complaint.code.as_deref() == Some("VBOX_E_INVALID_OBJECT_STATE");
            if !passing || tries >= TRIES {
                return Err(self.refused(call, &complaint, &output).await);
            }
            tokio::time::sleep(TRY_EVERY).await;
        }
    }

    /// Makes an error of a complaint.
    async fn refused(&self, call: Call<'_>, complaint: &Complaint, output: &Output) -> Error {
        let Call {
            machine, operation, ..
        } = call;
        let what = format!("{operation} of machine {machine:?}");
        let said = if complaint.said.is_empty() {
            output.said()
        } else {
            complaint.said.clone()
        };
        let not_running = said.contains("is not currently running");
        match complaint.code.as_deref() {
            Some("VBOX_E_OBJECT_NOT_FOUND") => Error::NoSuchMachine {
                machine: machine.to_owned(),
            },
            Some("VBOX_E_INVALID_VM_STATE" | "VBOX_E_INVALID_OBJECT_STATE") | None
                if complaint.code.is_some() || not_running =>
            {
                match self.info(call.uuid).await {
                    Ok(info) if !said.contains("session") || !info.state.is_off() => {
                        Error::WrongState {
                            machine: machine.to_owned(),
                            operation: operation.to_owned(),
                            state: info.state,
                        }
                    }
                    _ => Error::Failed { what, said },
                }
            }
            Some("E_ACCESSDENIED") => rights(what),
            _ if said.contains("VERR_VM_DRIVER_NOT_ACCESSIBLE")
                || said.contains("VERR_VM_DRIVER_NOT_INSTALLED") =>
            {
                rights(what)
            }
            Some("VBOX_E_FILE_ERROR") if said.contains("already exists") => {
                Error::Exists { what: said }
            }
            _ => Error::Failed { what, said },
        }
    }

    async fn list(&self) -> Result<Vec<Listed>, Error> {
        let output = self.ask(&["list", "vms"], ASK_WITHIN).await?;
        if output.code != 0 {
            let complaint = parse::complaint(&output.err);
            let what = "the list of machines".to_owned();
            return Err(match complaint.said {
                said if said.is_empty() => Error::Failed {
                    what,
                    said: output.said(),
                },
                said => Error::Failed { what, said },
            });
        }
        Ok(parse::machines(&output.out))
    }

    async fn info(&self, uuid: &str) -> Result<Info, Error> {
        let arguments = ["showvminfo", uuid, "--machinereadable"];
        let mut tries = 0;
        loop {
            let output = self.ask(&arguments, ASK_WITHIN).await?;
            if output.code == 0 {
                return Ok(parse::info(&output.out));
            }
            let complaint = parse::complaint(&output.err);
            tries += 1;
            match complaint.code.as_deref() {
                // Seen for a moment after the power button.
                Some("VBOX_E_INVALID_OBJECT_STATE") if tries < TRIES => {
                    tokio::time::sleep(TRY_EVERY).await;
                }
                Some("VBOX_E_OBJECT_NOT_FOUND") => {
                    return Err(Error::NoSuchMachine {
                        machine: uuid.to_owned(),
                    });
                }
                _ => {
                    return Err(Error::Failed {
                        what: format!("the question about machine {uuid}"),
                        said: if complaint.said.is_empty() {
                            output.said()
                        } else {
                            complaint.said
                        },
                    });
                }
            }
        }
    }

    /// Returns a machine's name and uuid, by either.
    async fn named(&self, machine: &str) -> Result<Listed, Error> {
        let machines = self
            .list()
            .await?
            .into_iter()
            .map(|listed| Machine {
                name: listed.name,
                uuid: Some(listed.uuid),
                state: State::Unknown,
                macs: Vec::new(),
                forwarded: None,
            })
            .collect();
        let found = machine::find(machines, machine)?;
        Ok(Listed {
            name: found.name,
            uuid: found.uuid.unwrap_or_default(),
        })
    }

    async fn tree(&self, listed: &Listed) -> Result<Vec<Snapshot>, Error> {
        let arguments = ["snapshot", &listed.uuid, "list", "--machinereadable"];
        let output = self.ask(&arguments, ASK_WITHIN).await?;
        // No snapshots is exit code 1, with the message on standard output.
        if output.code != 0 && !output.out.contains("does not have any snapshots") {
            let call = Call::of(listed, "snapshots", ASK_WITHIN);
            return Err(self
                .refused(call, &parse::complaint(&output.err), &output)
                .await);
        }
        Ok(parse::snapshots(&output.out))
    }

    async fn do_to(&self, machine: &str, operation: Operation) -> Result<(), Error> {
        operation.check(machine)?;
        if let Operation::Create(blueprint) = &operation {
            return self.create(machine, blueprint, operation.limit()).await;
        }
        let listed = self.named(machine).await?;
        let uuid = listed.uuid.as_str();
        let call = Call::of(&listed, operation.name(), operation.limit());
        let control = |verb: &'static str| async move {
            self.call(call, &["controlvm", uuid, verb]).await.map(drop)
        };
        match &operation {
            Operation::Start => self.start(call).await,
            Operation::Shutdown => control("acpipowerbutton").await,
            Operation::PowerOff => control("poweroff").await,
            Operation::Reset => control("reset").await,
            Operation::Pause => control("pause").await,
            Operation::Resume => control("resume").await,
            Operation::Save => control("savestate").await,
            Operation::Discard => self.call(call, &["discardstate", uuid]).await.map(drop),
            Operation::TakeSnapshot {
                snapshot,
                description,
            } => {
                let mut arguments = vec!["snapshot", uuid, "take", snapshot];
                if !description.is_empty() {
                    arguments.extend(["--description", description]);
                }
                self.call(call, &arguments).await.map(drop)
            }
            Operation::RestoreSnapshot { snapshot } => {
                let chosen =
                    find_snapshot(machine, self.tree(&listed).await?, snapshot.as_deref())?;
                self.restore(call, &chosen.id).await
            }
            Operation::DeleteSnapshot { snapshot } => {
                let chosen = find_snapshot(machine, self.tree(&listed).await?, Some(snapshot))?;
                let arguments = ["snapshot", uuid, "delete", &chosen.id];
                self.call(call, &arguments).await.map(drop)
            }
            Operation::Create(_) => Ok(()),
            Operation::Remove => {
                // Deleting takes every disk of the machine with it, also one that was never copied.
                let mut arguments = vec!["unregistervm", uuid];
                if self.info(uuid).await?.ours {
                    arguments.push("--delete");
                }
                self.call(call.passing(), &arguments).await.map(drop)
            }
        }
    }

    async fn start(&self, call: Call<'_>) -> Result<(), Error> {
        let arguments = ["startvm", call.uuid, "--type", "headless"];
        self.call(call, &arguments).await.map(drop)
    }

    /// Goes back to a snapshot. VirtualBox does that only with machines that are off, so one that runs is
    /// turned off first: its present state is given up either way.
    async fn restore(&self, call: Call<'_>, snapshot: &str) -> Result<(), Error> {
        let before = self.info(call.uuid).await?.state;
        if !before.is_off() {
            self.call(call, &["controlvm", call.uuid, "poweroff"])
                .await?;
        }
        let arguments = ["snapshot", call.uuid, "restore", snapshot];
        self.call(call.passing(), &arguments).await?;
        if before == State::Running {
            return self.start(call.passing()).await;
        }
        Ok(())
    }

    /// Makes a machine with a disk of its own: two machines cannot have one image, not even copies of it,
    /// because a copied disk has the same uuid.
    async fn create(
        &self,
        name: &str,
        blueprint: &Blueprint,
        limit: Duration,
    ) -> Result<(), Error> {
        if blueprint.kernel.is_some() || blueprint.initrd.is_some() || blueprint.append.is_some() {
            return Err(Error::NotSupported {
                driver: self.name(),
                operation: "create with a kernel (it boots disks only)".to_owned(),
            });
        }
        if let Ok(found) = self.named(name).await {
            return Err(Error::Exists {
                what: format!("machine {:?} ({})", found.name, found.uuid),
            });
        }
        let call = Call {
            machine: name,
            uuid: name,
            operation: "create",
            limit,
            passing: false,
        };
        let arguments = [
            "createvm",
            "--name",
            name,
            "--groups",
            parse::GROUP,
            "--ostype",
            "Linux_64",
            "--register",
        ];
        let output = self.call(call, &arguments).await?;
        let value = |key: &str| {
            output
                .out
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .map(|value| value.trim().trim_matches('\'').to_owned())
        };
        let (Some(uuid), Some(settings)) = (value("UUID:"), value("Settings file:")) else {
            return Err(Error::BadAnswer {
                what: "createvm".to_owned(),
                reason: output.said(),
            });
        };
        let call = Call {
            uuid: &uuid,
            ..call
        };
        let furnished = self.furnish(call, blueprint, Path::new(&settings)).await;
        if furnished.is_err() {
            // Half a machine is in the way of the next try.
            let _ = self
                .ask(&["unregistervm", &uuid, "--delete"], ASK_WITHIN)
                .await;
        }
        furnished
    }

    async fn furnish(
        &self,
        call: Call<'_>,
        blueprint: &Blueprint,
        settings: &Path,
    ) -> Result<(), Error> {
        let uuid = call.uuid;
        let memory = blueprint.memory_mib.unwrap_or(1024).to_string();
        let cpus = blueprint.cpus.unwrap_or(1).to_string();
        let mac = blueprint.mac.map_or_else(|| "auto".to_owned(), bare);
        let arguments = [
            "modifyvm",
            uuid,
            "--memory",
            &memory,
            "--cpus",
            &cpus,
            "--nic1",
            "nat",
            "--nic2",
            "hostonly",
            "--hostonlyadapter2",
            &self.interface,
            "--macaddress2",
            &mac,
        ];
        self.call(call, &arguments).await?;
        let Some(image) = &blueprint.image else {
            return Ok(());
        };
        let image = std::path::absolute(image).map_err(|error| Error::BadArgument {
            what: image.display().to_string(),
            reason: error.to_string(),
        })?;
        let disk = settings.with_extension("vdi");
        let (Some(image), Some(disk)) = (image.to_str(), disk.to_str()) else {
            return Err(Error::BadArgument {
                what: image.display().to_string(),
                reason: "not UTF-8".to_owned(),
            });
        };
        let arguments = ["clonemedium", "disk", image, disk, "--format", "VDI"];
        self.call(call, &arguments).await?;
        let arguments = [
            "storagectl",
            uuid,
            "--name",
            "SATA",
            "--add",
            "sata",
            "--controller",
            "IntelAhci",
            "--portcount",
            "2",
        ];
        self.call(call, &arguments).await?;
        let arguments = [
            "storageattach",
            uuid,
            "--storagectl",
            "SATA",
            "--port",
            "0",
            "--device",
            "0",
            "--type",
            "hdd",
            "--medium",
            disk,
        ];
        self.call(call, &arguments).await.map(drop)
    }
}

/// Returns a MAC address as `modifyvm` wants it: twelve digits and nothing between them.
fn bare(mac: MacId) -> String {
    mac.to_string().replace(':', "").to_uppercase()
}

fn rights(what: String) -> Error {
    Error::Rights {
        what,
        remedy: "load the module vboxdrv, and add this user to the group vboxusers (it counts from the next login)"
            .to_owned(),
    }
}

/// A call for a machine, for its errors.
#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    machine: &'a str,
    uuid: &'a str,
    operation: &'a str,
    limit: Duration,
    /// Whether a machine that is locked is worth waiting for.
    passing: bool,
}

impl<'a> Call<'a> {
    fn of(listed: &'a Listed, operation: &'a str, limit: Duration) -> Self {
        Self {
            machine: &listed.name,
            uuid: &listed.uuid,
            operation,
            limit,
            passing: false,
        }
    }

    fn passing(self) -> Self {
        Self {
            passing: true,
            ..self
        }
    }
}

impl Driver for VirtualBox {
    fn name(&self) -> &'static str {
        "VirtualBox"
    }

    fn check(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(async move {
            let version = match self.ask(&["--version"], ASK_WITHIN).await {
                Ok(output) => output,
                Err(Error::ToolMissing {
                    tool,
                    reason,
                    remedy,
                }) => return Ok(vec![Finding::bad(format!("{tool}: {reason}"), remedy)]),
                Err(error) => {
                    return Ok(vec![Finding::bad(
                        error.to_string(),
                        "look at what VBoxManage says by hand",
                    )]);
                }
            };
            // A missing module is a warning in front of the version.
            let number = version.out.lines().last().unwrap_or_default();
            let mut findings = vec![if version.code == 0 {
                Finding::good(format!("VBoxManage {number}"))
            } else {
                Finding::bad(
                    format!("VBoxManage --version: {}", version.said()),
                    "repair VirtualBox",
                )
            }];
            findings.push(driver_device(Path::new("/dev/vboxdrv")));
            findings.push(membership());
            findings.push(match self.list().await {
                Ok(machines) => Finding::good(format!("{} machines of this user", machines.len())),
                Err(error) => Finding::bad(
                    error.to_string(),
                    "run `VBoxManage list vms` as the agent's user",
                ),
            });
            let interfaces = self.ask(&["list", "hostonlyifs"], ASK_WITHIN).await?;
            let found = interfaces
                .out
                .lines()
                .filter_map(|line| line.strip_prefix("Name:"))
                .any(|name| name.trim() == self.interface);
            findings.push(if found {
                Finding::good(format!("host-only interface {}", self.interface))
            } else {
                Finding::bad(
                    format!("no host-only interface {}", self.interface),
                    "make one with `VBoxManage hostonlyif create`, or set Host.network_interface; only `vm create` needs it",
                )
            });
            Ok(findings)
        })
    }

    fn machines(&self) -> Answer<'_, Vec<Machine>> {
        Box::pin(async move {
            let infos: Vec<_> = stream::iter(self.list().await?)
                .map(|listed| async move {
                    let info = self.info(&listed.uuid).await;
                    (listed, info)
                })
                .buffered(ASKED_AT_ONCE)
                .collect()
                .await;
            infos
                .into_iter()
                .filter_map(|(listed, info)| match info {
                    // It was removed in between.
                    Err(Error::NoSuchMachine { .. }) => None,
                    Err(error) => Some(Err(error)),
                    Ok(info) => Some(Ok(with_info(listed, info))),
                })
                .collect()
        })
    }

    fn machine<'a>(&'a self, machine: &'a str) -> Answer<'a, Machine> {
        Box::pin(async move {
            let listed = self.named(machine).await?;
            let info = self.info(&listed.uuid).await?;
            Ok(with_info(listed, info))
        })
    }

    fn operate<'a>(&'a self, machine: &'a str, operation: Operation) -> Answer<'a, ()> {
        Box::pin(self.do_to(machine, operation))
    }

    fn snapshots<'a>(&'a self, machine: &'a str) -> Answer<'a, Vec<Snapshot>> {
        Box::pin(async move { self.tree(&self.named(machine).await?).await })
    }

    fn performance<'a>(&'a self, machine: &'a str) -> Answer<'a, Performance> {
        Box::pin(async move {
            Ok(self
                .info(&self.named(machine).await?.uuid)
                .await?
                .performance)
        })
    }

    fn console<'a>(&'a self, machine: &'a str) -> Answer<'a, Console> {
        Box::pin(async move {
            let listed = self.named(machine).await?;
            self.info(&listed.uuid)
                .await?
                .console
                .ok_or_else(|| Error::Failed {
                    what: format!("console of machine {:?}", listed.name),
                    said: "its serial ports lead nowhere; while it is off, give it one with `VBoxManage modifyvm \
                           NAME --uart1 0x3F8 4 --uartmode1 file PATH`"
                        .to_owned(),
                })
        })
    }
}

fn with_info(listed: Listed, info: Info) -> Machine {
    Machine {
        name: listed.name,
        uuid: Some(listed.uuid),
        state: info.state,
        macs: info.macs,
        forwarded: None,
    }
}

/// Looks at the device by which VirtualBox's programs reach its kernel module.
fn driver_device(device: &Path) -> Finding {
    let module = "load the kernel module: `modprobe vboxdrv` (Debian: package virtualbox-dkms)";
    match std::fs::metadata(device) {
        Ok(_) => Finding::good(format!("{} is there", device.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Finding::bad(
            format!("{} is missing: no machine can be started", device.display()),
            module,
        ),
        Err(error) => Finding::bad(format!("{}: {error}", device.display()), module),
    }
}

/// Looks whether this process is in the group whose members may use all of VirtualBox.
fn membership() -> Finding {
    const GROUP: &str = "vboxusers";
    if rustix::process::geteuid().is_root() {
        return Finding::good("root needs no group");
    }
    let Some(group) = uzers::get_group_by_name(GROUP) else {
        return Finding::bad(
            format!("there is no group {GROUP}"),
            "VirtualBox's installation makes it; install VirtualBox",
        );
    };
    let member = rustix::process::getegid().as_raw() == group.gid()
        || rustix::process::getgroups()
            .is_ok_and(|groups| groups.iter().any(|own| own.as_raw() == group.gid()));
    if member {
        Finding::good(format!("this process is in the group {GROUP}"))
    } else {
        Finding::bad(
            format!("this process is not in the group {GROUP}"),
            format!("run `usermod -aG {GROUP} USER` as root, and start the agent from a new login"),
        )
    }
}
