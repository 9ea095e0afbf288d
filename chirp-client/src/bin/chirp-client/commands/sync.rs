use std::path::PathBuf;

use chirp_client::Client;
use chirp_client::transfer::{self, Existing, Placement};
use clap::Args;

use super::Failure;
use super::copying::{self, Copying};
use crate::cli::RemotePath;
use crate::output::Progress;

/// Makes a directory of the server like one of this machine, or with --pull the reverse.
///
/// Copies what changed: files whose size or time differs, unless only the time does and SHA-256 says
/// that they are the same. What is in LOCAL arrives in REMOTE itself, whether that exists or not.
/// Nothing is removed without --delete. Interrupted copies of large files go on where they stopped.
///
/// If some entries cannot be copied the rest is; each is named on stderr and the exit status is 1.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest sync src /jobs/17/src
  chirp-client guest sync --delete --dry-run src /jobs/17/src
  chirp-client guest sync --pull --delete results /jobs/17/results")]
pub(crate) struct Sync {
    #[command(flatten)]
    copying: Copying,
    /// Copy from the server.
    #[arg(long)]
    pull: bool,
    /// Remove what the other side does not have, at the end, and replace entries of another type.
    #[arg(long)]
    delete: bool,
    /// Compare contents (SHA-256) and not times.
    #[arg(long)]
    checksum: bool,
    /// A file or directory of this machine.
    local: PathBuf,
    /// Its counterpart on the server.
    #[arg(value_parser = RemotePath::parser())]
    remote: RemotePath,
}

impl Sync {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let progress = Progress::start();
        let mut options = self.copying.options(&progress);
        options.placement = Placement::Exact;
        options.delete = self.delete;
        options.resume = true;
        options.existing = match self.checksum {
            true => Existing::Compare,
            false => Existing::Update,
        };
        if self.pull {
            let copy = transfer::get(client, &self.remote.0, &self.local, &options);
            return copying::run(&options, copy, &progress, "read", self.copying.json).await;
        }
        let copy = transfer::put(client, &self.local, &self.remote.0, &options);
        copying::run(&options, copy, &progress, "written", self.copying.json).await
    }
}
