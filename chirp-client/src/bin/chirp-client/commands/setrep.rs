use chirp_client::Client;
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;

/// Sets how many copies of a file the server keeps. Servers with one disk refuse.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest setrep /jobs/17/out 3")]
pub(crate) struct Setrep {
    /// The file.
    #[arg(value_parser = RemotePath::parser())]
    path: RemotePath,
    /// How many.
    count: u64,
}

impl Setrep {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        Ok(client.setrep(&self.path.0, self.count).await?)
    }
}
