//! `host-agent events`: what happens to guests, as it happens.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::Args;

use super::guests::table;
use super::{AgentArguments, Stopped};
use crate::api::client::ApiClient;
use crate::api::types::Notice;
use crate::output;
use crate::pattern::Pattern;

/// Prints what happens to guests, as it happens, until interrupted.
///
/// One line for each change: who, from which state into which, and why; the broker's loss and return; guests
/// that fail a check or that are under suspicion. With --json each line is an object whose `event` is
/// `guest.state`, `guest.note`, `broker`, `lagged` (this reader was too slow and missed some) or `snapshot`:
/// the guests as they are now, which is the first line and follows `lagged`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    agent: AgentArguments,
    /// Only of guests that match: globs over name, id and address, separated by commas; `!` takes away.
    #[arg(long, value_name = "PATTERN")]
    to: Option<String>,
    /// Print one JSON object on each line.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  host-agent events
  host-agent events --to 'name:worker-*'
  host-agent events --json | jq -r 'select(.to == \"gone\") | .guest.name + \": \" + .why'

Exit codes: 1 failure, 2 wrong command line, 4 no agent is running, or it has stopped";

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.agent.client()?;
    follow(&client, arguments.to.as_deref(), arguments.json, false).await
}

/// Prints what happens to the guests that a pattern takes, for people with the guests as they are now before
/// it if that is wanted.
pub(super) async fn follow(
    client: &ApiClient,
    to: Option<&str>,
    json: bool,
    with_snapshot: bool,
) -> anyhow::Result<ExitCode> {
    let pattern = to.map(Pattern::parse).transpose()?;
    let mut lines = client.events().await?;
    while let Some(notice) = lines.next::<Notice>().await.context(Stopped)? {
        let Some(notice) = only(notice, pattern.as_ref()) else {
            continue;
        };
        let text = if json {
            serde_json::to_string(&notice)?
        } else if with_snapshot || !matches!(notice, Notice::Snapshot { .. }) {
            readable(&notice)
        } else {
            continue;
        };
        output::result(&text)?;
    }
    Err(Stopped.into())
}

/// Returns what of a notice is about guests that a pattern takes.
fn only(notice: Notice, pattern: Option<&Pattern>) -> Option<Notice> {
    let Some(pattern) = pattern else {
        return Some(notice);
    };
    match notice {
        Notice::Snapshot { mut guests } => {
            guests.retain(|guest| pattern.takes(guest));
            Some(Notice::Snapshot { guests })
        }
        Notice::State { ref guest, .. } | Notice::Note { ref guest, .. } => {
            pattern.takes(guest).then_some(notice)
        }
        Notice::Broker { .. } | Notice::Watchdog { .. } | Notice::Lagged { .. } => Some(notice),
    }
}

fn readable(notice: &Notice) -> String {
    let at = |time: f64| humantime::format_rfc3339_seconds(wall(time));
    match notice {
        Notice::Snapshot { guests } => table(guests),
        Notice::State {
            time,
            from: Some(from),
            to,
            why,
            guest,
        } => {
            format!("{} {}: {from} -> {to}: {why}", at(*time), guest.name)
        }
        Notice::State {
            time,
            from: None,
            to,
            why,
            guest,
        } => {
            format!("{} {}: {to}: {why}", at(*time), guest.name)
        }
        Notice::Note {
            time,
            name,
            why,
            guest,
        } => format!("{} {}: {name}: {why}", at(*time), guest.name),
        Notice::Broker {
            time,
            up: true,
            why,
        } => format!("{} broker is up: {why}", at(*time)),
        Notice::Broker {
            time,
            up: false,
            why,
        } => format!("{} broker is down: {why}", at(*time)),
        Notice::Watchdog {
            time,
            machine,
            action,
            why,
        } => format!(
            "{} watchdog: {action} of machine {machine}: {why}",
            at(*time)
        ),
        Notice::Lagged { missed } => {
            format!("missed {missed} changes; the guests as they are now:")
        }
    }
}

/// Returns a time of the API as a wall time; one that cannot be is the epoch.
pub(super) fn wall(seconds: f64) -> SystemTime {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
        // humantime writes no year above 9999.
        .filter(|_| seconds < 253_402_300_800.0)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
