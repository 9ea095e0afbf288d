//! `host-agent demo`: the main job from end to end.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::demo;

/// Shows the main job from end to end, with three guests on this machine, or two virtual machines.
///
/// Starts an agent and three guests as processes of their own, known to the agent by their beacons only, and counts the words of thousands of text files in them.
///
/// The files are split into shards. Each is pushed into a guest, counted there by a shell pipeline whose
/// progress streams back, and its table is pulled and checked by SHA-256. In the middle of it one guest is
/// killed with SIGKILL; the agent sees it go and its shard is given to another. The merged counts must equal
/// those that the host computes by itself.
///
/// Needs no root (started as root, the guests work as an ordinary user), no network but loopback, no fixed
/// port, and writes only below one temporary directory. Progress goes to standard error.
///
/// With --machines the guests are two virtual machines that are booted for it, without KVM, and removed at the end.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Count every file below this directory [default: a part of the sources that cargo has on this
    /// machine, the same each time]
    #[arg(long, value_name = "DIR")]
    input: Option<PathBuf>,
    /// Make the temporary directory in this one [default: the system's].
    #[arg(long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Keep the whole temporary directory: guests, shards, logs. Without it only the result is kept.
    #[arg(long)]
    keep: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// Have virtual machines for guests, which boot the kernel and file system in DIR; `make guest-image` makes
    /// them in target/guest/guest.
    #[arg(long, value_name = "DIR", conflicts_with = "chirp_server")]
    machines: Option<PathBuf>,
    /// The guests' server [default: chirp-server beside this program].
    #[arg(long, value_name = "FILE", env = "CHIRP_SERVER")]
    chirp_server: Option<PathBuf>,
    /// The user that the guests work as when this is started as root.
    #[arg(long, value_name = "USER", default_value = "nobody")]
    guest_user: String,
}

const EXAMPLES: &str = "\
Examples:
  host-agent demo
  host-agent demo --input ~/src --keep
  host-agent demo --machines target/guest/guest
  host-agent demo --json 2>/dev/null | jq .guests

Exit codes:
  0    the merged result equals the host's, and the killed guest's shard was redone elsewhere
  1    it does not, or something failed
  2    the command line is wrong
  130  interrupted";

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    demo::run(demo::Options {
        input: arguments.input,
        workdir: arguments.workdir,
        keep: arguments.keep,
        json: arguments.json,
        chirp_server: arguments.chirp_server,
        guest_user: arguments.guest_user,
        machines: arguments.machines,
    })
    .await
}
