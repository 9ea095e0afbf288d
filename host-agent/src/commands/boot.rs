//! Machines brought up for a command: `vm start --wait`, and `--start` and `--stop-after` of `exec`, `push`
//! and `pull`.

use std::time::Duration;

use anyhow::{Context as _, bail};
use beacon::mac::MacId;
use beacon::registry::GuestRecord;
use clap::Args;
use host_agent::hypervisor::{Machine, Operation, State};
use tokio::time::{Instant, sleep, timeout};

use super::{AgentArguments, Stopped};
use crate::api::client::ApiClient;
use crate::api::types::{MachineInfo, Notice, usable};
use crate::output;
use crate::pattern::Pattern;

/// How often the hypervisor is asked whether a machine is still there; guests are heard at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a command waits for machines that it starts.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// Which machines a command brings up first, and what becomes of them.
#[derive(Debug, Clone, Args)]
pub(crate) struct BootArguments {
    /// First start the machines that are meant and do not run, and wait until their guests are ready.
    #[arg(long)]
    start: bool,
    /// Afterwards press the power button of those that --start has started.
    #[arg(long, requires = "start")]
    stop_after: bool,
}

/// Machines that a command has started.
#[derive(Debug, Default)]
struct Started {
    names: Vec<String>,
    stop: bool,
}

impl BootArguments {
    /// Does `work` with the machines that the pattern takes, which are brought up first and stopped afterwards
    /// where that was wanted, also when the work failed.
    ///
    /// # Errors
    ///
    /// Those of the work; before it, a machine cannot be started or its guest is not ready in time; after it, one that was
    /// started cannot be stopped.
    pub(crate) async fn around<T>(
        &self,
        agent: &AgentArguments,
        pattern: &str,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let started = self.boot(agent, pattern).await?;
        let done = work.await;
        let ended = started.end(agent).await;
        let done = done?;
        ended.map(|()| done)
    }

    /// Starts the machines that the pattern takes, by name or id, and waits for their guests.
    ///
    /// # Errors
    ///
    /// A machine cannot be started, or its guest is not ready in time. Those that were started run on.
    async fn boot(&self, agent: &AgentArguments, pattern: &str) -> anyhow::Result<Started> {
        let mut started = Started {
            names: Vec::new(),
            stop: self.stop_after,
        };
        if !self.start {
            return Ok(started);
        }
        let client = agent.client()?;
        let compiled = Pattern::parse(pattern)?;
        let list = client.machines().await?;
        let mut boots = Vec::new();
        for info in list.machines {
            let MachineInfo { machine, guests } = info;
            if !compiled.takes_machine(&machine.name, &machine.macs) {
                continue;
            }
            let ready = machine.state == State::Running && guests.iter().any(usable);
            if ready {
                continue;
            }
            if machine.state.is_off() {
                started.names.push(key(&machine).to_owned());
            }
            boots.push(start(&client, key(&machine)).await?);
        }
        match until_ready(&client, &boots, READY_WITHIN).await? {
            Boot::Ready => Ok(started),
            Boot::Stuck(why) => bail!("{why}"),
        }
    }
}

impl Started {
    /// Presses the power buttons, where that was wanted.
    async fn end(self, agent: &AgentArguments) -> anyhow::Result<()> {
        if !self.stop || self.names.is_empty() {
            return Ok(());
        }
        let client = agent.client()?;
        for name in &self.names {
            client
                .operate(name, Operation::Shutdown)
                .await
                .with_context(|| format!("machine {name} was started and cannot be stopped"))?;
        }
        Ok(())
    }
}

fn key(machine: &Machine) -> &str {
    machine.uuid.as_deref().unwrap_or(&machine.name)
}

/// How a wait for guests ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Boot {
    /// All are ready.
    Ready,
    /// One is not, and this is the step that it is stuck at.
    Stuck(String),
}

/// Brings a machine up: starts one that is off, resumes one that is paused, leaves one that runs.
///
/// # Errors
///
/// The hypervisor's, or the machine has no MAC address to know its guest by.
pub(crate) async fn start(client: &ApiClient, name: &str) -> anyhow::Result<Machine> {
    let found: MachineInfo = client.machine(name, "machine").await?;
    let machine = found.machine;
    if machine.macs.is_empty() {
        bail!(
            "machine {} has no network card, so its guest cannot be known",
            machine.name
        );
    }
    let operation = match machine.state {
        State::Running | State::Starting | State::Restoring => return Ok(machine),
        State::Paused => Operation::Resume,
        _ => Operation::Start,
    };
    client.operate(key(&machine), operation).await?;
    Ok(machine)
}

/// Waits until the guests of all these machines are ready.
///
/// # Errors
///
/// The agent is gone, or a machine has turned off.
pub(crate) async fn until_ready(
    client: &ApiClient,
    machines: &[Machine],
    within: Duration,
) -> anyhow::Result<Boot> {
    let deadline = Instant::now() + within;
    for machine in machines {
        match timeout(
            deadline.saturating_duration_since(Instant::now()),
            one_ready(client, machine),
        )
        .await
        {
            Ok(done) => done?,
            Err(_) => {
                let stuck = stuck(client, machine).await;
                return Ok(Boot::Stuck(format!(
                    "machine {} is not ready after {} s: {stuck}",
                    machine.name,
                    within.as_secs_f64()
                )));
            }
        }
        output::note(&format!("{}: ready", machine.name));
    }
    Ok(Boot::Ready)
}

async fn one_ready(client: &ApiClient, machine: &Machine) -> anyhow::Result<()> {
    let mut lines = client.events().await?;
    let own = |guest: &GuestRecord| machine.macs.contains(&guest.id) && usable(guest);
    loop {
        tokio::select! {
            notice = lines.next::<Notice>() => {
                let ready = match notice.context(Stopped)?.ok_or(Stopped)? {
                    Notice::Snapshot { guests } => guests.iter().any(own),
                    Notice::State { guest, .. } | Notice::Note { guest, .. } => own(&guest),
                    _ => false,
                };
                if ready {
                    return Ok(());
                }
            }
            () = sleep(LOOK_EVERY) => {
                let now: MachineInfo = client.machine(key(machine), "machine").await?;
                if now.machine.state.is_off() {
                    bail!(
                        "machine {} is {} before its guest was ready; `host-agent vm console` may say why",
                        machine.name, now.machine.state
                    );
                }
            }
        }
    }
}

/// Says at which step a machine is stuck on its way to a ready guest.
async fn stuck(client: &ApiClient, machine: &Machine) -> String {
    let info: MachineInfo = match client.machine(key(machine), "machine").await {
        Ok(info) => info,
        Err(error) => return format!("the hypervisor does not answer: {error:#}"),
    };
    if info.machine.state != State::Running {
        return format!("the machine is {}", info.machine.state);
    }
    match info.guests.first() {
        None => {
            let macs: Vec<String> = machine.macs.iter().map(MacId::to_string).collect();
            format!(
                "the machine runs, and no beacon of {} was heard; look at `host-agent vm console {}`, at the guest's \
                 network and at its server's --announce",
                macs.join(" or "),
                machine.name
            )
        }
        Some(guest) => format!("its guest is {}: {}", state_of(guest), guest.why),
    }
}

/// Returns a guest's state with what is odd about it.
pub(super) fn state_of(guest: &GuestRecord) -> String {
    if guest.paused {
        format!("{}, paused", guest.state)
    } else if guest.suspect {
        format!("{}, suspect", guest.state)
    } else {
        guest.state.to_string()
    }
}
