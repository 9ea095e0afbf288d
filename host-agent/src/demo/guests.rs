//! The demo's agent and guests: started, waited for, killed, stopped.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use beacon::mac::MacId;
use beacon::registry::GuestState;
use tokio::time::Instant;

use super::machines::{self, DemoMachine, Fleet, Image, MACHINES};
use super::process::{Crew, Process};
use super::workspace::Workspace;
use crate::api::client::{ApiClient, Lines, no_agent};
use crate::api::types::{AgentInfo, Notice, Target};
use crate::output;

/// The guests' addresses: loopback has the whole of 127.0.0.0/8.
const ADDRESSES: [Ipv4Addr; 3] = [
    Ipv4Addr::new(127, 0, 0, 11),
    Ipv4Addr::new(127, 0, 0, 12),
    Ipv4Addr::new(127, 0, 0, 13),
];

/// How long agent and guests that are processes have to be ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The agent's settings: nothing fixed, and guests that are missed within seconds.
fn settings(grace: u32, more: &str) -> String {
    format!(
        "[EmbeddedBroker]\nlisten_addr = 127.0.0.1\nlisten_port = 0\n[Host]\nvm_gc_grace = {grace}\n{more}"
    )
}

/// The agent, as a process of its own.
#[derive(Debug)]
pub(super) struct AgentProcess {
    process: Process,
    /// What it says of itself.
    pub(super) info: AgentInfo,
    /// Where its broker is.
    pub(super) broker: SocketAddr,
    /// Its API.
    pub(super) client: ApiClient,
}

impl AgentProcess {
    /// Starts `host-agent serve` and waits until its API answers.
    ///
    /// # Errors
    ///
    /// It cannot be started, or ends, or does not answer in time.
    pub(super) async fn start(
        crew: &Crew,
        workspace: &Workspace,
        settings: &str,
    ) -> anyhow::Result<Self> {
        let file = workspace.path().join("agent.ini");
        fs::write(&file, settings)?;
        let socket = workspace.path().join("agent.sock");
        let arguments: [OsString; 5] = [
            "serve".into(),
            "--config".into(),
            file.into(),
            "--socket".into(),
            socket.clone().into(),
        ];
        let log = workspace.log("agent");
        let program = std::env::current_exe().context("cannot find this program")?;
        let process = crew.start(&program, arguments, &log)?;
        let client = ApiClient::new(socket);
        let deadline = Instant::now() + READY_WITHIN;
        let info = loop {
            match client.agent().await {
                Ok(info) => break info,
                Err(error) if !no_agent(&error) => return Err(error),
                Err(_) if process.ended().is_some() => {
                    bail!("the agent has ended:\n{}", tail(&log))
                }
                Err(_) if Instant::now() >= deadline => {
                    bail!("the agent does not answer:\n{}", tail(&log))
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        let broker = *info
            .broker_addresses
            .first()
            .context("the agent has no embedded broker")?;
        Ok(Self {
            process,
            info,
            broker,
            client,
        })
    }

    /// Stops the agent.
    pub(super) async fn stop(self) {
        self.process.terminate().await;
    }
}

/// One guest of the demo.
#[derive(Debug)]
pub(super) struct DemoGuest {
    /// Its name.
    pub(super) name: String,
    /// Its id, from its beacons.
    pub(super) id: MacId,
    /// Where and which its server is, from its beacons.
    pub(super) target: Target,
    /// What it is.
    body: Body,
}

/// What a guest of the demo is.
#[derive(Debug)]
enum Body {
    /// A server on this host.
    Process(Process),
    /// A virtual machine.
    Machine(DemoMachine),
}

impl DemoGuest {
    /// Kills the guest with SIGKILL, with everything that runs in it. Returns the process that it was.
    ///
    /// # Errors
    ///
    /// It cannot be signalled.
    pub(super) fn kill(&self) -> anyhow::Result<u32> {
        match &self.body {
            Body::Process(process) => process.kill().map(|_| process.id()),
            Body::Machine(machine) => machine.kill(),
        }
    }

    /// Returns whether the guest was killed or stopped.
    pub(super) fn is_dead(&self) -> bool {
        match &self.body {
            Body::Process(process) => process.ended().is_some(),
            Body::Machine(machine) => machine.is_dead(),
        }
    }

    /// Stops the guest, if it still lives. A machine is told to turn itself off, and not waited for.
    pub(super) async fn stop(&self) {
        match &self.body {
            Body::Process(process) => process.terminate().await,
            Body::Machine(machine) => machine.press().await,
        }
    }

    /// Removes what is left of it outside the demo's directory's files: a machine, by its driver.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub(super) async fn remove(&self) -> anyhow::Result<()> {
        match &self.body {
            Body::Process(_) => Ok(()),
            Body::Machine(machine) => machine.remove().await,
        }
    }
}

/// How guests are started.
#[derive(Debug)]
pub(super) enum GuestSetup {
    /// As processes of this host.
    Processes(Server),
    /// As virtual machines.
    Machines(Image),
}

/// The guests' server where they are processes.
#[derive(Debug)]
pub(super) struct Server {
    program: PathBuf,
    /// Name, uid and gid of the user that they work as when this runs as root.
    user: Option<(String, u32, u32)>,
}

impl GuestSetup {
    /// Returns how many guests there are.
    pub(super) fn guests(&self) -> usize {
        match self {
            Self::Processes(_) => ADDRESSES.len(),
            Self::Machines(_) => MACHINES,
        }
    }

    /// Returns whether the guests work as another user than this program, in directories of this host.
    pub(super) fn other_user(&self) -> bool {
        matches!(self, Self::Processes(server) if server.user.is_some())
    }

    /// Returns the agent's settings for such guests.
    pub(super) fn settings(&self, fleet: &Fleet) -> String {
        match self {
            Self::Processes(_) => settings(5, ""),
            // Without KVM, and with two processors for all, a guest may be silent for a while.
            Self::Machines(_) => settings(30, &fleet.settings()),
        }
    }

    /// Starts the guests and waits until the agent has heard them, reached them, and found them ready.
    ///
    /// # Errors
    ///
    /// One cannot be started, ends, or is not ready in time.
    pub(super) async fn start(
        &self,
        crew: &Crew,
        fleet: &Arc<Fleet>,
        workspace: &Workspace,
        agent: &AgentProcess,
        events: &mut Lines,
    ) -> anyhow::Result<Vec<DemoGuest>> {
        let mut started = Vec::new();
        let (within, log): (_, &dyn Fn(&str) -> PathBuf) = match self {
            Self::Processes(server) => {
                for (number, address) in (1..).zip(ADDRESSES) {
                    let name = format!("worker-{number}");
                    let process =
                        server.start_one(crew, workspace, agent.broker, &name, address)?;
                    started.push((name, Body::Process(process)));
                }
                (READY_WITHIN, &|name| workspace.log(name))
            }
            Self::Machines(image) => {
                for number in 1..=MACHINES {
                    let name = format!("worker-{number}");
                    let machine = fleet.boot(&agent.client, image, &name).await?;
                    started.push((name, Body::Machine(machine)));
                }
                (machines::READY_WITHIN, &|name| fleet.console(name))
            }
        };
        let deadline = Instant::now() + within;
        let mut ready = Vec::new();
        let mut look = tokio::time::interval(Duration::from_millis(100));
        while !started.is_empty() {
            let notice = tokio::select! {
                notice = events.next::<Notice>() => notice?.context("the agent has stopped")?,
                () = tokio::time::sleep_until(deadline) => {
                    let names: Vec<_> = started.iter().map(|(name, _)| name.as_str()).collect();
                    let logs: Vec<_> = names.iter().map(|name| tail(&log(name))).collect();
                    bail!(
                        "not ready within {} s: {}\n{}\nthe agent's log ends with:\n{}",
                        within.as_secs(), names.join(", "), logs.join("\n"),
                        tail(&workspace.log("agent"))
                    );
                }
                _ = look.tick() => {
                    if let Some((name, _)) = started.iter().find(|(_, body)| matches!(body, Body::Process(process) if process.ended().is_some())) {
                        bail!("{name} has ended:\n{}", tail(&log(name)));
                    }
                    continue;
                }
            };
            let Notice::State {
                to: GuestState::Ready,
                why,
                guest,
                ..
            } = notice
            else {
                continue;
            };
            if let Some(at) = started.iter().position(|(name, _)| *name == guest.name) {
                let (name, body) = started.swap_remove(at);
                let target = Target::from(&*guest);
                output::note(&format!(
                    "demo: {name} is ready at {} as {}: {why}",
                    target.address, guest.id
                ));
                ready.push(DemoGuest {
                    name,
                    id: guest.id,
                    target,
                    body,
                });
            }
        }
        ready.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ready)
    }
}

impl Server {
    /// Finds the guests' server and user.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(super) fn find(program: Option<PathBuf>, user: &str) -> anyhow::Result<Self> {
        let program = match program {
            Some(program) => program,
            None => std::env::current_exe()
                .context("cannot find this program")?
                .with_file_name("chirp-server"),
        };
        if !program.is_file() {
            bail!(
                "there is no chirp-server at {}; build it with `cargo build -p chirp-server`, or name it with \
                 --chirp-server or CHIRP_SERVER",
                program.display()
            );
        }
        if !rustix::process::geteuid().is_root() {
            return Ok(Self {
                program,
                user: None,
            });
        }
        let found = uzers::get_user_by_name(user).with_context(|| {
            format!("there is no user {user} to run guests as; name one with --guest-user")
        })?;
        if found.uid() == 0 {
            bail!("guests do not run as root; name an ordinary user with --guest-user");
        }
        let user = Some((user.to_owned(), found.uid(), found.primary_group_id()));
        Ok(Self { program, user })
    }

    fn start_one(
        &self,
        crew: &Crew,
        workspace: &Workspace,
        broker: SocketAddr,
        name: &str,
        address: Ipv4Addr,
    ) -> anyhow::Result<Process> {
        let home = workspace.path().join("guests").join(name);
        let (root, transient) = (home.join("root"), home.join("transient"));
        for directory in [&home, &root, &transient] {
            fs::DirBuilder::new().mode(0o700).create(directory)?;
            if let Some((_, uid, gid)) = self.user {
                std::os::unix::fs::chown(directory, Some(uid), Some(gid))?;
            }
        }
        let mut arguments: Vec<OsString> = vec![
            "-r".into(),
            root.into(),
            "-y".into(),
            transient.into(),
            "-I".into(),
            address.to_string().into(),
            "-p".into(),
            "0".into(),
            "--exec".into(),
            format!("--announce={broker}").into(),
            "--name".into(),
            name.into(),
            "--beacon-interval".into(),
            "1".into(),
        ];
        if let Some((user, _, _)) = &self.user {
            arguments.extend(["-i".into(), user.into()]);
        }
        crew.start(&self.program, arguments, &workspace.log(name))
    }
}

/// Returns the last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    const LINES: usize = 12;
    let text = fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines
        .get(lines.len().saturating_sub(LINES)..)
        .unwrap_or_default()
        .join("\n")
}
