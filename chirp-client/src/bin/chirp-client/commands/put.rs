use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use chirp_client::transfer;
use chirp_client::{Client, VirtualPath};
use clap::Args;

use super::Failure;
use super::copying::{self, Copying, Resuming};
use crate::cli::RemotePath;
use crate::output::Progress;

/// Copies a file or a whole directory to the server.
///
/// As with `cp -r`: if REMOTE is an existing directory, LOCAL arrives in it under its own name;
/// otherwise REMOTE is the new name. LOCAL/. means the content of LOCAL. Modes, times, symbolic
/// links, hard links, holes, dot files and empty directories come along. A link named as LOCAL is
/// followed. A file appears under its name when it is whole. LOCAL - is standard input.
///
/// Nothing is begun if the server has too little free space for all of it.
///
/// If some entries cannot be copied the rest is; each is named on stderr and the exit status is 1.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest put data.csv /jobs/17/        into the directory /jobs/17
  chirp-client guest put input /jobs               the directory arrives as /jobs/input
  chirp-client guest put input/. /jobs/17          what is in input arrives in /jobs/17
  tar c . | chirp-client guest put - /backup.tar")]
pub(crate) struct Put {
    #[command(flatten)]
    copying: Copying,
    #[command(flatten)]
    resuming: Resuming,
    /// A file or directory of this machine, or - for standard input.
    local: PathBuf,
    /// Where it goes.
    #[arg(value_parser = RemotePath::parser(), default_value = "/")]
    remote: RemotePath,
}

impl Put {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let progress = Progress::start();
        let mut options = self.copying.options(&progress);
        self.resuming.add_to(&mut options);
        if self.local == Path::new("-") {
            if self.remote.0 == VirtualPath::root() {
                let reason = "name the file that standard input becomes";
                return Err(Failure::Other(reason.to_owned()));
            }
            let stdin = std::io::stdin().as_fd().try_clone_to_owned();
            let stdin =
                stdin.map_err(|error| Failure::Other(format!("failed to use stdin: {error}")))?;
            let copy = transfer::put_file(client, stdin.into(), &self.remote.0, &options);
            return copying::run(&options, copy, &progress, "written", self.copying.json).await;
        }
        let copy = transfer::put(client, &self.local, &self.remote.0, &options);
        copying::run(&options, copy, &progress, "written", self.copying.json).await
    }
}
