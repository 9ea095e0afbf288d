use chirp_client::Client;
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;

/// Removes empty directories from the server.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest rmdir /jobs/17")]
pub(crate) struct Rmdir {
    /// The directories.
    #[arg(value_parser = RemotePath::parser(), required = true)]
    paths: Vec<RemotePath>,
}

impl Rmdir {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        super::each(client, &self.paths, async |path| {
            Ok(client.rmdir(&path.0).await?)
        })
        .await
    }
}
