//! The main job from end to end, with guests on this machine: processes, or virtual machines.
//!
//! * `workspace`: the one temporary directory; `process`, `guests`: the agent and the guests as processes;
//!   `machines`: guests as virtual machines
//! * `input`, `words`: what is counted, by whom, and how tables are merged
//! * `schedule`, `job`: which guest counts which shard, and how one shard is counted
//! * `report`: what it ends with

mod guests;
mod input;
mod job;
mod machines;
mod process;
mod report;
mod schedule;
mod words;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use beacon::registry::GuestState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::api::types::Notice;
use crate::output;
use guests::{AgentProcess, DemoGuest, GuestSetup, Server};
use input::Stager;
use machines::{Fleet, Image};
use process::Crew;
use report::{GuestReport, Killed, Report};
use schedule::{Done, Schedule};
use words::Counts;
use workspace::{Keep, Workspace};

/// Shards for each guest: enough that the others can take on a dead one's work.
const SHARDS_PER_GUEST: usize = 4;

/// How long the guests have to say good-bye.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// The demo's settings.
#[derive(Debug)]
pub(crate) struct Options {
    /// Count the files of this directory instead of cargo's sources.
    pub(crate) input: Option<PathBuf>,
    /// Where the temporary directory is made.
    pub(crate) workdir: Option<PathBuf>,
    /// Whether all of it is kept.
    pub(crate) keep: bool,
    /// Whether the report is JSON.
    pub(crate) json: bool,
    /// The guests' server.
    pub(crate) chirp_server: Option<PathBuf>,
    /// The guests' user when this runs as root.
    pub(crate) guest_user: String,
    /// The directory of the image of guests that are virtual machines, where they are to be that.
    pub(crate) machines: Option<PathBuf>,
}

/// Runs the demo and prints its report.
///
/// # Errors
///
/// Whatever kept it from its end.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let setup = match &options.machines {
        Some(image) => GuestSetup::Machines(Image::find(image)?),
        None => GuestSetup::Processes(Server::find(
            options.chirp_server.clone(),
            &options.guest_user,
        )?),
    };
    let mut workspace = Workspace::create(options.workdir.as_deref(), setup.other_user())?;
    let (crew, stager) = (Crew::default(), Stager::default());
    let fleet = Fleet::new(&workspace);
    let stopped = tokio::select! {
        reported = demo(&options, &setup, &crew, &fleet, &stager, &workspace) => Ok(reported),
        _ = interrupt.recv() => Err(2),
        _ = terminate.recv() => Err(15),
        _ = hang_up.recv() => Err(1),
    };
    // Before the directory that they work in goes: whatever still runs, whichever way it ended.
    drop(crew);
    // Tasks that are being aborted may still hold it.
    fleet.end();
    stager.finish().await;
    let all_or = |keep| if options.keep { Keep::All } else { keep };
    match stopped {
        Ok(Ok(report)) => {
            workspace.keep(all_or(if report.ok { Keep::Result } else { Keep::All }));
            let text = if options.json {
                serde_json::to_string_pretty(&report)?
            } else {
                report.readable()
            };
            output::result(&text)?;
            Ok(if report.ok {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Ok(Err(error)) => match workspace.logs() {
            Some(logs) => {
                workspace.keep(all_or(Keep::Logs));
                Err(error.context(format!("the demo failed (logs in {})", logs.display())))
            }
            None => Err(error),
        },
        Err(signal) => {
            workspace.keep(all_or(Keep::Nothing));
            output::note("demo: interrupted; everything that it started is ended");
            Ok(ExitCode::from(128 + signal))
        }
    }
}

async fn demo(
    options: &Options,
    setup: &GuestSetup,
    crew: &Crew,
    fleet: &Arc<Fleet>,
    stager: &Stager,
    workspace: &Workspace,
) -> anyhow::Result<Report> {
    let began = Instant::now();
    let directory = options.input.clone();
    let shard_count = setup.guests() * SHARDS_PER_GUEST;
    let amount = match setup {
        GuestSetup::Processes(_) => input::FOR_PROCESSES,
        GuestSetup::Machines(_) => input::FOR_MACHINES,
    };
    let input = tokio::task::spawn_blocking(move || {
        input::choose(directory.as_deref(), amount, shard_count)
    })
    .await??;
    let bytes: u64 = input.files.iter().map(|file| file.size).sum();
    output::note(&format!(
        "demo: counting the words of {} ({})",
        input.description,
        bytesize::ByteSize(bytes)
    ));

    let agent = AgentProcess::start(crew, workspace, &setup.settings(fleet)).await?;
    output::note(&format!(
        "demo: the agent runs as process {}, its broker on {}",
        agent.info.pid, agent.broker
    ));
    let mut events = agent.client.events().await?;
    let guests = setup
        .start(crew, fleet, workspace, &agent, &mut events)
        .await?;
    let guests: Vec<Arc<DemoGuest>> = guests.into_iter().map(Arc::new).collect();

    // The host's own count, by other code, beside the guests' work.
    let files = input.files.clone();
    let own = tokio::task::spawn_blocking(move || Counts::of_files(&files));
    let shards = input::split(input.files.clone(), shard_count);
    let count = shards.len();
    let schedule = Schedule::new(
        agent.client.clone(),
        stager.clone(),
        workspace.path().to_owned(),
        guests.clone(),
        shards,
    );
    let done = schedule.run(&mut events).await?;
    let own = own.await??;

    let mut merged = Counts::default();
    for finished in &done.finished {
        merged.add_table(&finished.table)?;
    }
    let result = workspace.result();
    std::fs::write(&result, merged.table())
        .with_context(|| format!("cannot write {}", result.display()))?;
    let mut complaints = Vec::new();
    let written =
        std::fs::read(&result).with_context(|| format!("cannot read {}", result.display()))?;
    if written != own.table() {
        let host = workspace.path().join("word-counts-of-the-host.txt");
        std::fs::write(&host, own.table())?;
        complaints.push(format!(
            "the merged counts differ from the host's own, {}",
            host.display()
        ));
    }
    let killed = killed(&guests, &done);
    match &killed {
        None => complaints
            .push("no guest was killed with a shard in its hands, or none was redone".to_owned()),
        Some(killed) if killed.attempt < 2 || killed.redone_by == killed.guest => {
            complaints.push(format!("shard {} was not redone elsewhere", killed.shard));
        }
        Some(_) => {}
    }
    let seconds = began.elapsed().as_secs_f64();

    let reports = GuestReport::of_all(&guests, &done);
    stop(&guests, &mut events).await?;
    for guest in &guests {
        guest.remove().await?;
    }
    agent.stop().await;
    let (words, distinct) = merged.totals();
    Ok(Report {
        ok: complaints.is_empty(),
        complaints,
        result,
        input: input.description,
        files: input.files.len(),
        bytes,
        words,
        distinct,
        shards: count,
        seconds,
        killed,
        guests: reports,
    })
}

/// Returns what became of the guest that was killed and of its shard.
fn killed(guests: &[Arc<DemoGuest>], done: &Done) -> Option<Killed> {
    let (guest, tally) = guests
        .iter()
        .zip(&done.tallies)
        .find(|(_, tally)| tally.killed)?;
    let shard = done.lost_shard?;
    let finished = done
        .finished
        .iter()
        .find(|finished| finished.shard == shard)?;
    Some(Killed {
        guest: guest.name.clone(),
        why: tally.gone.clone()?,
        shard: shard + 1,
        redone_by: guests.get(finished.guest)?.name.clone(),
        attempt: finished.attempt,
    })
}

/// Stops the guests and waits until the agent has heard their good-byes.
async fn stop(
    guests: &[Arc<DemoGuest>],
    events: &mut crate::api::client::Lines,
) -> anyhow::Result<()> {
    let mut alive: Vec<_> = guests.iter().filter(|guest| !guest.is_dead()).collect();
    for guest in &alive {
        guest.stop().await;
    }
    let heard = async {
        while !alive.is_empty() {
            let Some(notice) = events.next::<Notice>().await? else {
                bail!("the agent has stopped");
            };
            if let Notice::State {
                to: GuestState::Left | GuestState::Gone,
                guest: record,
                ..
            } = notice
            {
                alive.retain(|guest| guest.id != record.id);
            }
        }
        Ok(())
    };
    // Good manners only: that a guest's BYE is lost is no failure of the job.
    let _ = tokio::time::timeout(STOP_WITHIN, heard).await;
    Ok(())
}
