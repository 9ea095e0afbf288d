//! `host-agent push`: a file or directory into guests.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use chirp_client::transfer::{self, Summary, TransferOptions};
use clap::Args;
use tokio::task::JoinSet;

use super::AgentArguments;
use super::boot::BootArguments;
use crate::api::types::Target;
use crate::{guest, output};

/// Copies a file or directory from this host into guests, into all of them at once.
///
/// As `cp -r` has it: where DST is a directory in the guest, SRC's name is made in it; any other DST is the
/// new name itself; an SRC that ends in `/.` means its content. The agent only tells where the guests are:
/// the files go straight from this command to them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    agent: AgentArguments,
    #[command(flatten)]
    boot: BootArguments,
    /// Which guests: globs over name, id and address, separated by commas; `!` takes away.
    #[arg(long, value_name = "PATTERN")]
    to: String,
    /// What to copy, on this host.
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// Where to, in the guests' exported trees.
    #[arg(value_name = "DST")]
    target: OsString,
}

const EXAMPLES: &str = "\
Examples:
  host-agent push --to '*' ./job /
  host-agent push --to worker-1 data.csv /job/input.csv
  host-agent push --to 'worker-*' ./job/. /job

Exit codes:
  0  copied into every guest
  1  failed for at least one guest; each message says which and why
  2  the command line is wrong
  3  no guest matches, or one that does is not ready
  4  no agent is running";

/// How long connecting to a guest may take.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(15);

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (agent, pattern) = (arguments.agent.clone(), arguments.to.clone());
    let boot = arguments.boot.clone();
    boot.around(&agent, &pattern, work(arguments)).await
}

async fn work(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.agent.client()?;
    let target = guest::path(&arguments.target)?;
    let guests = super::ready(&client, &arguments.to).await?;
    let source: Arc<Path> = arguments.source.into();
    let mut copies = JoinSet::new();
    for guest in guests {
        let (source, target) = (Arc::clone(&source), target.clone());
        copies.spawn(async move {
            let copied = push(&guest, &source, &target).await;
            (guest, copied)
        });
    }
    let mut code = ExitCode::SUCCESS;
    while let Some(copied) = copies.join_next().await {
        match copied? {
            (guest, Ok(summary)) => output::note(&format!("{}: {}", guest.name, told(&summary))),
            (guest, Err(error)) => {
                output::note(&format!("host-agent: {}: {error}", guest.name));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

async fn push(
    guest: &Target,
    source: &Path,
    target: &chirp_client::VirtualPath,
) -> Result<Summary, guest::Missed> {
    let client = guest::meet_target(guest, CONNECT_WITHIN).await?;
    Ok(transfer::put(&client, source, target, &TransferOptions::default()).await?)
}

/// Returns what was copied, for people.
pub(super) fn told(summary: &Summary) -> String {
    format!("{} files, {}", summary.files, ByteSize(summary.bytes))
}
