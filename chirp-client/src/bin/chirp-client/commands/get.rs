use std::path::{Path, PathBuf};

use chirp_client::Client;
use chirp_client::transfer::{self, Placement};
use clap::Args;

use super::copying::{self, Copying, Resuming};
use super::{Failure, cat};
use crate::cli::RemotePath;
use crate::output::Progress;

/// Copies a file or a whole directory from the server.
///
/// As with `cp -r`: if LOCAL is an existing directory, REMOTE arrives in it under its own name;
/// otherwise LOCAL is the new name. REMOTE/. means the content of REMOTE. Modes, times, symbolic
/// links (never followed), hard links, holes, dot files and empty directories come along. A file
/// appears under its name when it is whole, and replaces an older one only then. LOCAL - is standard
/// output.
///
/// Nothing is begun if there is too little free space here for all of it.
///
/// If some entries cannot be copied the rest is; each is named on stderr and the exit status is 1.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest get /jobs/17/result.csv       into the current directory
  chirp-client guest get /jobs/17 results          as the directory results, or in it if it exists
  chirp-client guest get /jobs/17/. .              what is in /jobs/17, here
  chirp-client guest get /backup.tar - | tar x")]
pub(crate) struct Get {
    #[command(flatten)]
    copying: Copying,
    #[command(flatten)]
    resuming: Resuming,
    /// A file or directory of the server.
    #[arg(value_parser = RemotePath::parser())]
    remote: RemotePath,
    /// Where it goes, or - for standard output.
    #[arg(default_value = ".")]
    local: PathBuf,
}

impl Get {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        if self.local == Path::new("-") {
            return cat::to_stdout(client, &self.remote.0).await;
        }
        let progress = Progress::start();
        let mut options = self.copying.options(&progress);
        self.resuming.add_to(&mut options);
        options.placement = match self.remote.1 {
            true => Placement::Exact,
            false => Placement::Cp,
        };
        let copy = transfer::get(client, &self.remote.0, &self.local, &options);
        copying::run(&options, copy, &progress, "read", self.copying.json).await
    }
}
