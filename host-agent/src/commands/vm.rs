//! `host-agent vm`: virtual machines.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use beacon::mac::MacId;
use clap::{Args, Subcommand};
use host_agent::hypervisor::{
    self, Blueprint, Console, Finding, Machine, Machines, Operation, Performance, Snapshot,
};

use super::boot::{self, Boot};
use super::{AgentArguments, EXIT_CODES, wait};
use crate::api::client::ApiClient;
use crate::api::types::{MachineInfo, MachineList};
use crate::config::Config;
use crate::output;

/// Works with virtual machines: lists, starts, stops, pauses, saves, snapshots and makes them.
///
/// A machine is named as its hypervisor names it, or by its uuid. Which hypervisor is the agent's affair
/// (Hypervisor.hypervisor in its settings); with --driver this command drives one itself, without an agent,
/// which then does not know of pauses and restarts until it sees them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = long_help())]
pub(crate) struct Arguments {
    #[command(flatten)]
    agent: AgentArguments,
    /// Drive this hypervisor from here, without an agent: libvirt, qemu, VirtualBox, command or none.
    #[arg(long, value_name = "DRIVER", global = true)]
    driver: Option<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

const EXAMPLES: &str = "\
Examples:
  host-agent vm list
  host-agent vm start worker-1 --wait
  host-agent vm snapshot worker-1 clean && host-agent vm restore worker-1 clean
  host-agent vm list --driver libvirt --json | jq -r '.[].machine.name'
  host-agent vm check --driver VirtualBox";

fn long_help() -> String {
    format!("{EXAMPLES}\n\n{EXIT_CODES}")
}

/// What to do. The help of each is the documentation of its arguments.
#[derive(Debug, Subcommand)]
enum Action {
    /// Lists the machines with their states and guests.
    List,
    /// Starts a machine: from its saved state where it has one, else from the beginning.
    Start {
        /// The machine.
        name: String,
        /// Return when its guest is ready: heard, connected to, a no-op program run. One that runs already is
        /// waited for as well.
        #[arg(long)]
        wait: bool,
        /// With --wait: seconds to wait at most.
        #[arg(long, value_name = "S", default_value = "300", value_parser = wait::parse_seconds, requires = "wait")]
        timeout: Duration,
    },
    /// Presses the power button: the guest shuts itself down, if it listens.
    Stop {
        /// The machine.
        name: String,
    },
    /// Cuts the power.
    Kill {
        /// The machine.
        name: String,
    },
    /// Stops its processors; its guest is not taken for lost meanwhile.
    Pause {
        /// The machine.
        name: String,
    },
    /// Lets a paused machine go on.
    Resume {
        /// The machine.
        name: String,
    },
    /// Presses the reset button.
    Reset {
        /// The machine.
        name: String,
    },
    /// Keeps its memory on disk and turns it off; `start` goes on from there.
    Save {
        /// The machine.
        name: String,
        /// Throw the saved state of a saved machine away instead.
        #[arg(long)]
        discard: bool,
    },
    /// Takes a snapshot, of a machine that runs with its memory.
    Snapshot {
        /// The machine.
        name: String,
        /// The snapshot's name.
        snapshot: String,
        /// A word about it.
        #[arg(long, default_value = "", hide_default_value = true)]
        description: String,
    },
    /// Goes back to a snapshot, the latest where none is named.
    Restore {
        /// The machine.
        name: String,
        /// The snapshot's name or id.
        snapshot: Option<String>,
    },
    /// Lists the snapshots of a machine, or deletes one.
    Snapshots {
        /// The machine.
        name: String,
        /// Delete this one, by name or id.
        #[arg(long, value_name = "SNAPSHOT")]
        delete: Option<String>,
    },
    /// Makes a machine, with a disk of its own from an image that stays as it is.
    Create {
        /// The machine's name.
        name: String,
        /// A disk image on this host.
        #[arg(long, value_name = "FILE")]
        image: Option<PathBuf>,
        /// A kernel to boot without a boot loader.
        #[arg(long, value_name = "FILE")]
        kernel: Option<PathBuf>,
        /// The kernel's initial file system.
        #[arg(long, value_name = "FILE", requires = "kernel")]
        initrd: Option<PathBuf>,
        /// The kernel's command line.
        #[arg(long, value_name = "TEXT", requires = "kernel")]
        append: Option<String>,
        /// Memory in MiB.
        #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(4..=16_777_216))]
        memory: Option<u32>,
        /// Processors.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
        cpus: Option<u32>,
        /// The MAC address that its guest announces.
        #[arg(long, value_name = "MAC")]
        mac: Option<MacId>,
    },
    /// Removes a machine that is off, with the disks that `create` made for it.
    Remove {
        /// The machine.
        name: String,
    },
    /// Shows what its serial console has said, or how to get at it.
    Console {
        /// The machine.
        name: String,
    },
    /// Tells all that is known of a machine: state, guest, snapshots, figures.
    Info {
        /// The machine.
        name: String,
    },
    /// Looks whether the driver can work here, and says what is missing.
    Check,
}

/// Whoever drives the machines.
#[derive(Debug)]
enum Reach {
    Agent(ApiClient),
    Here(Machines),
}

impl Reach {
    async fn list(&self) -> anyhow::Result<MachineList> {
        match self {
            Self::Agent(client) => client.machines().await,
            Self::Here(machines) => Ok(MachineList {
                driver: machines.driver().name().to_owned(),
                machines: machines
                    .list()
                    .await?
                    .into_iter()
                    .map(|machine| MachineInfo::new(machine, &[]))
                    .collect(),
            }),
        }
    }

    async fn machine(&self, name: &str) -> anyhow::Result<MachineInfo> {
        match self {
            Self::Agent(client) => client.machine(name, "machine").await,
            Self::Here(machines) => Ok(MachineInfo::new(machines.machine(name).await?, &[])),
        }
    }

    async fn operate(&self, name: &str, operation: Operation) -> anyhow::Result<()> {
        match self {
            Self::Agent(client) => client.operate(name, operation).await.map(drop),
            Self::Here(machines) => Ok(machines.operate(name, operation).await?),
        }
    }

    async fn snapshots(&self, name: &str) -> anyhow::Result<Vec<Snapshot>> {
        match self {
            Self::Agent(client) => client.machine(name, "snapshots").await,
            Self::Here(machines) => Ok(machines.driver().snapshots(name).await?),
        }
    }

    async fn performance(&self, name: &str) -> anyhow::Result<Performance> {
        match self {
            Self::Agent(client) => client.machine(name, "performance").await,
            Self::Here(machines) => Ok(machines.driver().performance(name).await?),
        }
    }

    async fn console(&self, name: &str) -> anyhow::Result<Console> {
        match self {
            Self::Agent(client) => client.machine(name, "console").await,
            Self::Here(machines) => Ok(machines.driver().console(name).await?),
        }
    }

    async fn check(&self) -> anyhow::Result<Vec<Finding>> {
        match self {
            Self::Agent(client) => client.machines_check().await,
            Self::Here(machines) => Ok(hypervisor::check(machines.driver()).await?),
        }
    }
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let reach = match &arguments.driver {
        Some(driver) => {
            let config = Config::load(arguments.agent.config.as_deref())?;
            Reach::Here(Machines::new(
                config
                    .hypervisor
                    .driver(Some(driver), config.embedded.as_slice())?,
            ))
        }
        None => Reach::Agent(arguments.agent.client()?),
    };
    let json = arguments.json;
    let (name, operation) = match arguments.action {
        Action::List => return list(&reach, json).await,
        Action::Info { name } => return info(&reach, &name, json).await,
        Action::Check => return check(&reach, json).await,
        Action::Console { name } => return console(&reach, &name, json).await,
        Action::Snapshots { name, delete: None } => return snapshots(&reach, &name, json).await,
        Action::Start {
            name,
            wait: true,
            timeout,
        } => {
            let client = arguments.agent.client()?;
            let Reach::Agent(_) = reach else {
                anyhow::bail!(
                    "--wait needs the agent, which hears the guest: leave --driver out, or use `host-agent wait`"
                );
            };
            let boot = boot::start(&client, &name).await?;
            return Ok(match boot::until_ready(&client, &[boot], timeout).await? {
                Boot::Ready => ExitCode::SUCCESS,
                Boot::Stuck(why) => {
                    output::note(&format!("host-agent: {why}"));
                    ExitCode::from(5)
                }
            });
        }
        Action::Start { name, .. } => (name, Operation::Start),
        Action::Stop { name } => (name, Operation::Shutdown),
        Action::Kill { name } => (name, Operation::PowerOff),
        Action::Pause { name } => (name, Operation::Pause),
        Action::Resume { name } => (name, Operation::Resume),
        Action::Reset { name } => (name, Operation::Reset),
        Action::Save {
            name,
            discard: false,
        } => (name, Operation::Save),
        Action::Save { name, .. } => (name, Operation::Discard),
        Action::Snapshot {
            name,
            snapshot,
            description,
        } => (
            name,
            Operation::TakeSnapshot {
                snapshot,
                description,
            },
        ),
        Action::Restore { name, snapshot } => (name, Operation::RestoreSnapshot { snapshot }),
        Action::Snapshots {
            name,
            delete: Some(snapshot),
        } => (name, Operation::DeleteSnapshot { snapshot }),
        Action::Remove { name } => (name, Operation::Remove),
        Action::Create {
            name,
            image,
            kernel,
            initrd,
            append,
            memory,
            cpus,
            mac,
        } => {
            // The agent may run elsewhere in the tree of folders.
            let absolute = |path: Option<PathBuf>| path.map(std::path::absolute).transpose();
            let blueprint = Blueprint {
                image: absolute(image)?,
                kernel: absolute(kernel)?,
                initrd: absolute(initrd)?,
                append,
                memory_mib: memory,
                cpus,
                mac,
            };
            (name, Operation::Create(blueprint))
        }
    };
    let removed = matches!(operation, Operation::Remove);
    reach.operate(&name, operation).await?;
    if !removed {
        let machine = reach.machine(&name).await?.machine;
        if json {
            output::result(&serde_json::to_string_pretty(&machine)?)?;
        } else {
            output::note(&format!("{}: {}", machine.name, machine.state));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(reach: &Reach, json: bool) -> anyhow::Result<ExitCode> {
    let list = reach.list().await?;
    if json {
        output::result(&serde_json::to_string_pretty(&list.machines)?)?;
    } else if list.machines.is_empty() {
        output::result(&format!("no machines (driver {})", list.driver))?;
    } else {
        let heading = ["NAME", "STATE", "GUEST", "ADDRESS", "MAC", "UUID"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        rows.extend(list.machines.iter().map(|info| {
            let guest = info.guests.first();
            let none = || "-".to_owned();
            vec![
                info.machine.name.clone(),
                info.machine.state.to_string(),
                guest.map_or_else(none, boot::state_of),
                guest.map_or_else(none, |guest| {
                    std::net::SocketAddr::new(guest.address, guest.port).to_string()
                }),
                macs(&info.machine),
                info.machine.uuid.clone().unwrap_or_else(none),
            ]
        }));
        output::result(&output::table(&rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn macs(machine: &Machine) -> String {
    let macs: Vec<String> = machine.macs.iter().map(MacId::to_string).collect();
    if macs.is_empty() {
        "-".to_owned()
    } else {
        macs.join(",")
    }
}

async fn info(reach: &Reach, name: &str, json: bool) -> anyhow::Result<ExitCode> {
    let info = reach.machine(name).await?;
    // What a driver cannot tell is no reason to hide the rest.
    let snapshots = reach.snapshots(name).await;
    let performance = reach.performance(name).await;
    if json {
        let all = serde_json::json!({
            "machine": info.machine,
            "guests": info.guests,
            "snapshots": snapshots.as_ref().ok(),
            "performance": performance.as_ref().ok(),
        });
        output::result(&serde_json::to_string_pretty(&all)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![
        vec!["name".to_owned(), info.machine.name.clone()],
        vec!["state".to_owned(), info.machine.state.to_string()],
        vec!["mac".to_owned(), macs(&info.machine)],
    ];
    if let Some(uuid) = &info.machine.uuid {
        rows.push(vec!["uuid".to_owned(), uuid.clone()]);
    }
    for guest in &info.guests {
        let address = std::net::SocketAddr::new(guest.address, guest.port);
        let text = format!("{} at {address}: {}", boot::state_of(guest), guest.why);
        rows.push(vec!["guest".to_owned(), text]);
    }
    match &snapshots {
        Ok(snapshots) => rows.extend(snapshots.iter().map(|snapshot| {
            let current = if snapshot.current { " (now)" } else { "" };
            vec!["snapshot".to_owned(), format!("{}{current}", snapshot.name)]
        })),
        Err(error) => rows.push(vec!["snapshots".to_owned(), error.to_string()]),
    }
    match &performance {
        Ok(figures) => rows.extend(
            figures
                .iter()
                .map(|(name, value)| vec![name.clone(), value.to_string()]),
        ),
        Err(error) => rows.push(vec!["figures".to_owned(), error.to_string()]),
    }
    output::result(&output::table(&rows))?;
    Ok(ExitCode::SUCCESS)
}

async fn snapshots(reach: &Reach, name: &str, json: bool) -> anyhow::Result<ExitCode> {
    let snapshots = reach.snapshots(name).await?;
    if json {
        output::result(&serde_json::to_string_pretty(&snapshots)?)?;
    } else if snapshots.is_empty() {
        output::result("no snapshots")?;
    } else {
        let mut rows = vec![
            ["NAME", "ID", "PARENT", "NOW", "DESCRIPTION"]
                .map(str::to_owned)
                .to_vec(),
        ];
        rows.extend(snapshots.iter().map(|snapshot| {
            vec![
                snapshot.name.clone(),
                snapshot.id.clone(),
                snapshot.parent.clone().unwrap_or_else(|| "-".to_owned()),
                if snapshot.current { "*" } else { "" }.to_owned(),
                snapshot.description.replace('\n', " "),
            ]
        }));
        output::result(&output::table(&rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn console(reach: &Reach, name: &str, json: bool) -> anyhow::Result<ExitCode> {
    let console = reach.console(name).await?;
    if json {
        output::result(&serde_json::to_string_pretty(&console)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    match console {
        Console::Log(path) => {
            let file = std::fs::File::open(&path)
                .with_context(|| format!("cannot read the console's log {}", path.display()))?;
            copy(file)?;
        }
        Console::Socket(path) => output::result(&format!(
            "the console is the Unix socket {}; for example: socat -,raw,echo=0,escape=0x1d UNIX-CONNECT:{}",
            path.display(),
            path.display()
        ))?,
        Console::Command(words) => {
            output::result(&format!("the console is shown by: {}", words.join(" ")))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Copies a file to standard output as it is.
fn copy(mut file: impl std::io::Read) -> anyhow::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        output::write(output::Stream::Out, buffer.get(..n).unwrap_or_default())?;
    }
}

async fn check(reach: &Reach, json: bool) -> anyhow::Result<ExitCode> {
    let findings = reach.check().await?;
    if json {
        output::result(&serde_json::to_string_pretty(&findings)?)?;
    } else if findings.is_empty() {
        output::result("nothing to check: the driver needs nothing")?;
    } else {
        for finding in &findings {
            let line = if finding.ok {
                format!("ok       {}", finding.what)
            } else {
                format!("missing  {}\n         {}", finding.what, finding.remedy)
            };
            output::result(&line)?;
        }
    }
    Ok(if findings.iter().all(|finding| finding.ok) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
