use chirp_client::{Client, Code};
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;

/// Removes files, links and whole directories from the server.
///
/// A directory goes with all that is in it, as with the reference's `chirp` and with `rm -r`. What
/// cannot be removed is named on stderr; the others go, and the exit status is 1. There is no question and
/// no way back.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest rm /jobs/17 /jobs/18")]
pub(crate) struct Rm {
    /// Directories go whole, as they do without this.
    #[arg(short, short_alias = 'R', long)]
    recursive: bool,
    /// What is not there need not be removed.
    #[arg(short, long)]
    force: bool,
    /// What goes.
    #[arg(value_parser = RemotePath::parser(), required = true)]
    paths: Vec<RemotePath>,
}

impl Rm {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        super::each(
            client,
            &self.paths,
            async |RemotePath(path, _)| match client.rmall(path).await {
                Err(error) if self.force && error.code() == Some(Code::DoesntExist) => Ok(()),
                other => Ok(other?),
            },
        )
        .await
    }
}
