//! What `put`, `get` and `sync` have in common: their options, and how they end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chirp_client::Error;
use chirp_client::transfer::{Action, Event, Existing, Incomplete, Summary, TransferOptions};
use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use crate::json;
use crate::output::{self, Progress};

/// How long the end may take after a signal, for removing what is unfinished.
const END_MAX: Duration = Duration::from_secs(5);

/// Options of every copy.
#[derive(Args)]
pub(crate) struct Copying {
    /// Compare the SHA-256 (MD5 where the server has no more) of every file on both sides when it is
    /// copied, and of those that were there already.
    #[arg(long)]
    verify: bool,
    /// Copy even if there seems to be too little space: by default nothing is begun then.
    #[arg(long)]
    force: bool,
    /// Do not end before all files are on the disk of the side that they go to, those too that were
    /// there already: what was said to be copied survives a loss of power.
    #[arg(long)]
    fsync: bool,
    /// Change nothing, and print what would be done.
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Print what was done as JSON, one document on one line.
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) json: bool,
    /// Connections that move contents at once.
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u8).range(1..=64))]
    connections: u8,
}

impl Copying {
    /// Returns the options of a transfer.
    pub(crate) fn options(&self, progress: &Progress) -> TransferOptions {
        let events: Arc<dyn Fn(Event<'_>) + Send + Sync> = Arc::new(say);
        TransferOptions {
            connections: self.connections.into(),
            verify: self.verify,
            ignore_space: self.force,
            fsync: self.fsync,
            dry_run: self.dry_run,
            events: self.dry_run.then_some(events),
            progress: progress.callback(),
            ..TransferOptions::default()
        }
    }
}

/// The option of `put` and `get` to go on where an earlier attempt stopped.
#[derive(Args)]
pub(crate) struct Resuming {
    /// Leave what is there already: same size and time, or same size and SHA-256. Large files go on
    /// where an earlier copy with --resume was interrupted; until they are whole what came of them
    /// lies beside them under a name that begins with .chirp-part.
    #[arg(long)]
    resume: bool,
}

impl Resuming {
    /// Adds it to the options of a transfer.
    pub(crate) fn add_to(&self, options: &mut TransferOptions) {
        if self.resume {
            options.resume = true;
            options.existing = Existing::Update;
        }
    }
}

/// Prints what would be done, one line a change.
fn say(event: Event<'_>) {
    let Event {
        action,
        path,
        bytes,
    } = event;
    let word = match action {
        Action::Copy => return line(&format!("copy {path} ({bytes} bytes)")),
        Action::Compare => "compare",
        Action::Directory => "mkdir",
        Action::Symlink => "symlink",
        Action::Link => "link",
        Action::Attributes => "set mode and time of",
        Action::Delete => "delete",
        _ => "change",
    };
    line(&format!("{word} {path}"));
}

fn line(text: &str) {
    // Where stdout is gone the copy is none, and nobody misses the line.
    let _nobody = output::write(format!("{text}\n").as_bytes());
}

/// Runs a copy to its end, or to the signal that ends it: what is unfinished is removed first.
pub(crate) async fn run(
    options: &TransferOptions,
    copy: impl Future<Output = Result<Summary, Error>>,
    progress: &Progress,
    verb: &str,
    json: bool,
) -> Result<(), Failure> {
    let started = Instant::now();
    let failed = |error| Failure::Other(format!("failed to watch for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let mut copy = std::pin::pin!(copy);
    let number = tokio::select! {
        result = &mut copy => {
            let done = result.as_ref().ok().copied();
            progress.finish(done, verb);
            if json {
                print(&result, started.elapsed())?;
            }
            return result.map(|done| warn(&done)).map_err(Failure::from);
        }
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 15,
        _ = hangup.recv() => 1,
    };
    options.cancel.cancel();
    tokio::select! {
        _ = tokio::time::timeout(END_MAX, copy) => {}
        _ = interrupt.recv() => {}
    }
    progress.finish(None, verb);
    Err(Failure::Signal(number))
}

/// What a copy came to.
#[derive(Serialize)]
struct Copied {
    files: u64,
    directories: u64,
    links: u64,
    /// Bytes of contents that were moved.
    bytes: u64,
    /// Files and links that were there already.
    skipped: u64,
    deleted: u64,
    seconds: f64,
    /// Entries that were not copied.
    failed: u64,
    /// The first thousand of them.
    failures: Vec<NotCopied>,
}

/// An entry that was not copied, in the words of the messages.
#[derive(Serialize)]
struct NotCopied {
    path: String,
    error: String,
}

/// Prints what was done, also where some of it was not.
fn print(result: &Result<Summary, Error>, took: Duration) -> Result<(), Failure> {
    let (done, failed, failures) = match result {
        Ok(done) => (done, 0, &[][..]),
        Err(Error::Incomplete(incomplete)) => {
            let Incomplete {
                copied,
                failures,
                failed,
            } = &**incomplete;
            (copied, *failed, &failures[..])
        }
        Err(_) => return Ok(()),
    };
    json::print(&Copied {
        files: done.files,
        directories: done.directories,
        links: done.links,
        bytes: done.bytes,
        skipped: done.skipped,
        deleted: done.deleted,
        seconds: took.as_secs_f64(),
        failed,
        failures: failures
            .iter()
            .map(|failure| NotCopied {
                path: failure.path.clone(),
                error: failure.error.to_string(),
            })
            .collect(),
    })
}

/// Tells of what was done otherwise than people may think.
fn warn(done: &Summary) {
    if done.direct > 0 {
        output::message(&format!(
            "{} files stood under their names before they were whole: this server does not see to \
             that, and the rights there do not allow to rename",
            done.direct
        ));
    }
    if done.unset > 0 {
        output::message(&format!(
            "{} modes or times could not be set: the rights there do not allow it",
            done.unset
        ));
    }
}
