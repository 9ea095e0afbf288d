//! `host-agent wait`: until guests can take work.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use beacon::mac::MacId;
use beacon::registry::GuestRecord;
use clap::Args;
use tokio::time::{Instant, timeout_at};

use super::{AgentArguments, Stopped};
use crate::api::client::Lines;
use crate::api::types::{Notice, usable};
use crate::output;
use crate::pattern::Pattern;

/// Guests named in the message when the time is over; the rest are counted.
const NAMED_MAX: usize = 10;

/// Waits until guests are ready, and prints their names.
///
/// Ready is proved, not guessed: the guest has announced itself, a Chirp session with the server that it
/// announced has come about, and a no-op program has ended well there. When the time is over, says of the
/// guests that match what each of them is waiting for.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    agent: AgentArguments,
    /// Which guests: globs over name, id and address, separated by commas; `!` takes away; `*` any.
    #[arg(long, value_name = "PATTERN")]
    ready: String,
    /// How many of them are enough.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// Seconds to wait at most.
    #[arg(long, value_name = "S", default_value = "300", value_parser = parse_seconds)]
    timeout: Duration,
    /// Print a JSON array with all that is known of the guests, instead of their names.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  host-agent wait --ready worker-7                     that guest, for five minutes at most
  host-agent wait --ready '*' --count 3 --timeout 60   any three
  host-agent wait --ready 'rack1-*,!rack1-9' && host-agent exec --to 'rack1-*,!rack1-9' -- ./go

Exit codes: 0 they are ready, 1 failure, 2 wrong command line, 4 no agent is running, or it has stopped,
5 the time is over";

pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds: &f64| (0.0..=31_536_000.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "not a number of seconds from 0 to 31536000, a year".to_owned())
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.agent.client()?;
    let pattern = Pattern::parse(&arguments.ready)?;
    let deadline = Instant::now() + arguments.timeout;
    let mut waiting = Waiting {
        pattern,
        count: usize::try_from(arguments.count)?,
        guests: BTreeMap::new(),
        broker_down: None,
    };
    // An agent that does not even answer is one that the guests were not seen by in time.
    let over = |waiting: &Waiting| {
        output::note(&format!(
            "host-agent: not ready after {} s: {}",
            arguments.timeout.as_secs_f64(),
            waiting.missing(&arguments.ready)
        ));
        ExitCode::from(5)
    };
    // With no time at all the guests as they are now count.
    let first = deadline.max(Instant::now() + FIRST_WITHIN);
    let opened = async {
        if !client.agent().await?.broker_up {
            waiting.broker_down = Some("see its log".to_owned());
        }
        client.events().await
    };
    let mut lines = match timeout_at(first, opened).await {
        Ok(lines) => lines?,
        Err(_) => return Ok(over(&waiting)),
    };
    waiting.take(match timeout_at(first, next(&mut lines)).await {
        Ok(notice) => notice?,
        Err(_) => return Ok(over(&waiting)),
    });
    loop {
        if let Some(ready) = waiting.enough() {
            let text = if arguments.json {
                serde_json::to_string_pretty(&ready)?
            } else {
                let names: Vec<_> = ready.iter().map(|guest| guest.name.as_str()).collect();
                names.join("\n")
            };
            output::result(&text)?;
            return Ok(ExitCode::SUCCESS);
        }
        match timeout_at(deadline, next(&mut lines)).await {
            Ok(notice) => waiting.take(notice?),
            Err(_) => return Ok(over(&waiting)),
        }
    }
}

/// How long the agent may take to tell who is there, however short the time to wait is.
const FIRST_WITHIN: Duration = Duration::from_secs(10);

async fn next(lines: &mut Lines) -> anyhow::Result<Notice> {
    // However the stream ends, it is the agent that has.
    Ok(lines.next().await.context(Stopped)?.ok_or(Stopped)?)
}

/// What is known while waiting.
struct Waiting {
    pattern: Pattern,
    count: usize,
    guests: BTreeMap<MacId, GuestRecord>,
    /// Why the agent does not hear its broker.
    broker_down: Option<String>,
}

impl Waiting {
    fn take(&mut self, notice: Notice) {
        match notice {
            Notice::Snapshot { guests } => {
                self.guests = guests.into_iter().map(|guest| (guest.id, guest)).collect();
            }
            Notice::State { guest, .. } | Notice::Note { guest, .. } => {
                if guest.state.is_registered() {
                    self.guests.insert(guest.id, *guest);
                } else {
                    self.guests.remove(&guest.id);
                }
            }
            Notice::Broker { up, why, .. } => self.broker_down = (!up).then_some(why),
            // A snapshot follows.
            Notice::Watchdog { .. } | Notice::Lagged { .. } => {}
        }
    }

    /// Returns the guests that are ready, if they are enough.
    fn enough(&self) -> Option<Vec<&GuestRecord>> {
        let mut ready: Vec<_> = self
            .guests
            .values()
            .filter(|guest| usable(guest) && self.pattern.takes(guest))
            .collect();
        ready.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        (ready.len() >= self.count).then_some(ready)
    }

    /// Says what is waited for.
    fn missing(&self, pattern: &str) -> String {
        // What `*` takes is ready by definition; what it waits for is anybody.
        let waiting: Vec<_> = self
            .guests
            .values()
            .filter(|guest| !usable(guest) && self.pattern.would_take(guest))
            .collect();
        let ready = self
            .guests
            .values()
            .filter(|guest| usable(guest) && self.pattern.takes(guest))
            .count();
        let mut texts = vec![format!("{ready} of {} guests", self.count)];
        texts.extend(waiting.iter().take(NAMED_MAX).map(|guest| {
            let suspect = if guest.suspect { ", suspect" } else { "" };
            format!("{} is {}{suspect}: {}", guest.name, guest.state, guest.why)
        }));
        if waiting.len() > NAMED_MAX {
            texts.push(format!("{} more", waiting.len() - NAMED_MAX));
        }
        if waiting.is_empty() && ready == 0 {
            texts.push(format!("no guest matches {pattern:?}"));
        }
        if let Some(why) = &self.broker_down {
            texts.push(format!("the agent does not hear its broker: {why}"));
        }
        texts.join("; ")
    }
}
