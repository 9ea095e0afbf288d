//! `host-agent guests`: who is there.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use beacon::registry::GuestRecord;
use bytesize::ByteSize;
use clap::Args;

use super::{AgentArguments, boot, events, watch};
use crate::output;

/// Lists the guests.
///
/// Of each: name, id, state, address, since when, and why. A guest is `joining` until a Chirp session and a
/// no-op program have proved it usable, then `ready`; `late` when its beacons stay away. Those that are gone
/// or have left are listed with --all, for ten minutes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    agent: AgentArguments,
    /// Only guests that match: globs over name, id and address, separated by commas; `!` takes away.
    #[arg(long, value_name = "PATTERN")]
    to: Option<String>,
    /// Those that are gone or have left, too.
    #[arg(long, conflicts_with = "watch")]
    all: bool,
    /// Print JSON: one array with all that is known of each guest, or with --watch one object on each line.
    #[arg(long)]
    json: bool,
    /// Go on until interrupted: at a terminal the list is kept as it is, elsewhere every change is a line.
    #[arg(long)]
    watch: bool,
}

const EXAMPLES: &str = "\
Examples:
  host-agent guests
  host-agent guests --json | jq -r '.[] | select(.state == \"ready\") | .name'
  host-agent guests --to 'worker-*,!worker-3'
  host-agent guests --watch

Exit codes: 0 listed, 1 failure, 2 wrong command line, 3 no guest matches --to, 4 no agent is running";

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.agent.client()?;
    // A list that is drawn over itself is for people at a terminal; programs and files get lines.
    let terminal = std::io::stdout().is_terminal()
        && std::env::var_os("TERM").is_some_and(|kind| kind != "dumb");
    if arguments.watch && terminal && !arguments.json {
        return watch::draw(&client, arguments.to.as_deref()).await;
    }
    if arguments.watch {
        return events::follow(&client, arguments.to.as_deref(), arguments.json, true).await;
    }
    let list = client
        .guests(arguments.to.as_deref(), arguments.all)
        .await?;
    if arguments.json {
        output::result(&serde_json::to_string_pretty(&list.guests)?)?;
    } else {
        output::result(&table(&list.guests))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the guests as a table for people.
pub(super) fn table(guests: &[GuestRecord]) -> String {
    if guests.is_empty() {
        return "no guests".to_owned();
    }
    let heading = [
        "NAME", "ID", "STATE", "ADDRESS", "SINCE", "LOAD", "FREE", "WHY",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(guests.iter().map(|guest| {
        let mut state = boot::state_of(guest);
        if let Some(peer) = guest.peer.filter(|_| guest.elsewhere) {
            // As behind address translation, and worth a look elsewhere.
            state.push_str(&format!(", from {peer}"));
        }
        vec![
            guest.name.clone(),
            guest.id.to_string(),
            state,
            std::net::SocketAddr::new(guest.address, guest.port).to_string(),
            format!("{} ago", age(guest.since)),
            guest
                .load
                .map_or_else(|| "-".to_owned(), |load| format!("{load:.2}")),
            guest
                .free
                .map_or_else(|| "-".to_owned(), |free| ByteSize(free).to_string()),
            guest.why.clone(),
        ]
    }));
    output::table(&rows)
}

/// Returns how long ago a time was, in whole seconds.
fn age(seconds: f64) -> humantime::FormattedDuration {
    let age = SystemTime::now()
        .duration_since(events::wall(seconds))
        .unwrap_or_default();
    humantime::format_duration(Duration::from_secs(age.as_secs()))
}
