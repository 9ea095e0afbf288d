//! Machines and guests: the task that tells the registry what the hypervisor knows, and the watchdog's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use beacon::mac::MacId;
use beacon::registry::{GuestRecord, GuestState};
use host_agent::hypervisor::{Machine, Machines, Operation};
use host_agent::watchdog::{Action, Decision, Seen, Sight, Watchdog, WatchdogConfig};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Handle, Power, Which, notice};
use crate::api::types::Notice;

/// The hypervisor is asked for unknown ids at most this often (`host-agent.md` part 3).
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Runs until the token is cancelled: lists machines when an unknown guest announces itself, and all the time
/// where there is a watchdog.
pub(crate) async fn watch(
    machines: Machines,
    agent: Handle,
    unknown: Arc<Notify>,
    watchdog: Option<WatchdogConfig>,
    token: CancellationToken,
) {
    let look_every = watchdog.map(|config| {
        let shortest = config.reboot_after.min(config.boot_timeout);
        (shortest / 4).clamp(Duration::from_millis(200), ASK_EVERY)
    });
    let mut watchdog = watchdog.map(Watchdog::new);
    let mut restarts: JoinSet<()> = JoinSet::new();
    let mut failing = false;
    let mut asked = tokio::time::Instant::now();
    loop {
        let wake = async {
            match look_every {
                Some(every) => tokio::time::sleep(every).await,
                None => {
                    unknown.notified().await;
                    // A notification that comes meanwhile is kept.
                    tokio::time::sleep_until(asked + ASK_EVERY).await;
                }
            }
        };
        tokio::select! {
            () = token.cancelled() => return,
            Some(_) = restarts.join_next() => continue,
            () = wake => {}
        }
        asked = tokio::time::Instant::now();
        let listed = match machines.list().await {
            Ok(listed) => listed,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the hypervisor does not tell its machines");
                }
                continue;
            }
        };
        failing = false;
        if agent.machines(listed.clone()).await.is_err() {
            return;
        }
        let Some(watchdog) = &mut watchdog else {
            continue;
        };
        let Ok(guests) = agent.guests(Which::All).await else {
            return;
        };
        let now = Instant::now();
        let keys: Vec<&str> = listed.iter().map(key).collect();
        let seen: Vec<Seen<'_>> = listed
            .iter()
            .zip(&keys)
            .map(|(machine, key)| Seen {
                machine: key,
                state: machine.state,
                guest: sight(machine, &guests, now),
                started: machines.started(machine),
            })
            .collect();
        for decision in watchdog.look(&seen, now) {
            let name = listed
                .iter()
                .find(|machine| key(machine) == decision.machine)
                .map_or_else(|| decision.machine.clone(), |machine| machine.name.clone());
            tracing::warn!(
                event = "watchdog.restart", machine = name, action = %decision.action, why = decision.why,
                "watchdog"
            );
            agent
                .tell(Notice::Watchdog {
                    time: notice::now(),
                    machine: name,
                    action: decision.action,
                    why: decision.why.clone(),
                })
                .await;
            let macs = listed
                .iter()
                .find(|machine| key(machine) == decision.machine)
                .map(|machine| machine.macs.clone())
                .unwrap_or_default();
            restarts.spawn(restart(machines.clone(), agent.clone(), macs, decision));
        }
    }
}

/// Does what the watchdog decided. Failures are logged by the operations; it will look again.
async fn restart(machines: Machines, agent: Handle, macs: Vec<MacId>, decision: Decision) {
    let machine = decision.machine.as_str();
    let done = match decision.action {
        Action::Reset => machines.operate(machine, Operation::Reset).await,
        Action::Start => machines.operate(machine, Operation::Start).await,
        Action::PowerCycle => {
            // It may be off by now.
            let _ = machines.operate(machine, Operation::PowerOff).await;
            machines.operate(machine, Operation::Start).await
        }
        Action::GiveUp => Ok(()),
    };
    if done.is_ok() && decision.action != Action::GiveUp {
        // An agent that stops need not know.
        let _ = agent
            .power(macs, Power::Ended("the watchdog restarted its machine"))
            .await;
    }
    if let Err(error) = done {
        tracing::warn!(machine, action = %decision.action, %error, "the watchdog's restart failed");
    }
}

fn key(machine: &Machine) -> &str {
    machine.uuid.as_deref().unwrap_or(&machine.name)
}

/// Returns what the registry knows of a machine's guest.
fn sight(machine: &Machine, guests: &[GuestRecord], now: Instant) -> Sight {
    let own = guests
        .iter()
        .filter(|guest| machine.macs.contains(&guest.id))
        .max_by(|a, b| a.last_beacon.total_cmp(&b.last_beacon));
    match own {
        None => Sight::Unheard,
        Some(guest) => match guest.state {
            GuestState::Joining | GuestState::Ready | GuestState::Late => Sight::Here,
            GuestState::Left => Sight::Left,
            GuestState::Gone => {
                let ago = (notice::now() - guest.since).max(0.0);
                let ago = Duration::try_from_secs_f64(ago).unwrap_or_default();
                Sight::Gone(now.checked_sub(ago).unwrap_or(now))
            }
        },
    }
}
