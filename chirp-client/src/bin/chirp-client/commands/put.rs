use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use chirp_client::transfer::{self, TransferOptions};
use chirp_client::{Client, VirtualPath};
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;
use crate::output::Progress;

/// Copies a file or a whole directory to the server.
///
/// As with `cp -r`: if REMOTE is an existing directory, LOCAL arrives in it under its own name;
/// otherwise REMOTE is the new name. LOCAL/. means the content of LOCAL. Symbolic links in a
/// directory stay links, the execute bit is kept, dot files and empty directories come along; an
/// existing file keeps its mode. A link named as LOCAL is followed. LOCAL - is standard input.
///
/// If some entries cannot be copied the rest is; each is named on stderr and the exit status is 1.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest put data.csv /jobs/17/        into the directory /jobs/17
  chirp-client guest put input /jobs               the directory arrives as /jobs/input
  chirp-client guest put input/. /jobs/17          what is in input arrives in /jobs/17
  tar c . | chirp-client guest put - /backup.tar")]
pub(crate) struct Put {
    /// A file or directory of this machine, or - for standard input.
    local: PathBuf,
    /// Where it goes.
    #[arg(value_parser = RemotePath::parser(), default_value = "/")]
    remote: RemotePath,
}

impl Put {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let progress = Progress::start();
        let options = TransferOptions {
            progress: progress.callback(),
            ..TransferOptions::default()
        };
        let result = if self.local == Path::new("-") {
            if self.remote.0 == VirtualPath::root() {
                let reason = "name the file that standard input becomes";
                return Err(Failure::Other(reason.to_owned()));
            }
            let stdin = std::io::stdin().as_fd().try_clone_to_owned();
            let stdin =
                stdin.map_err(|error| Failure::Other(format!("failed to use stdin: {error}")))?;
            transfer::put_file(client, stdin.into(), &self.remote.0, &options).await
        } else {
            transfer::put(client, &self.local, &self.remote.0, &options).await
        };
        progress.finish(result.as_ref().ok().copied(), "written");
        Ok(result.map(drop)?)
    }
}
