//! `host-agent pull`: a file or directory out of a guest.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use chirp_client::transfer::{self, TransferOptions};
use clap::Args;

use super::AgentArguments;
use super::boot::BootArguments;
use super::push::{CONNECT_WITHIN, told};
use crate::{guest, output};

/// Copies a file or directory from a guest to this host.
///
/// As `cp -r` has it: where DST is a directory, SRC's name is made in it; any other DST is the new name
/// itself; an SRC that ends in `/.` means its content. A file appears under its name only when it is whole.
/// The agent only tells where the guest is: the files come straight from it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    agent: AgentArguments,
    #[command(flatten)]
    boot: BootArguments,
    /// Which guest: its name, id or address, or a pattern that takes only one.
    #[arg(long, value_name = "NAME")]
    from: String,
    /// What to copy, in the guest's exported tree.
    #[arg(value_name = "SRC")]
    source: OsString,
    /// Where to, on this host.
    #[arg(value_name = "DST")]
    target: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  host-agent pull --from worker-1 /job/result.csv .
  host-agent pull --from 192.168.56.101 /job/logs ./logs-of-101

Exit codes:
  0  copied
  1  failed
  2  the command line is wrong
  3  no guest matches, or it is not ready
  4  no agent is running";

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (agent, pattern) = (arguments.agent.clone(), arguments.from.clone());
    let boot = arguments.boot.clone();
    boot.around(&agent, &pattern, work(arguments)).await
}

async fn work(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.agent.client()?;
    let source = guest::path(&arguments.source)?;
    let guests = super::ready(&client, &arguments.from).await?;
    let [guest] = guests.as_slice() else {
        let names: Vec<_> = guests
            .iter()
            .map(|guest| format!("{} ({})", guest.name, guest.id))
            .collect();
        bail!(
            "--from {} takes {} guests, {}; name one",
            arguments.from,
            names.len(),
            names.join(", ")
        );
    };
    let session = guest::meet_target(guest, CONNECT_WITHIN).await?;
    let summary = transfer::get(
        &session,
        &source,
        &arguments.target,
        &TransferOptions::default(),
    )
    .await?;
    output::note(&format!("{}: {}", guest.name, told(&summary)));
    Ok(ExitCode::SUCCESS)
}
