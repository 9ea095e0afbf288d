use chirp_client::Client;
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;
use crate::size;

/// Cuts files of the server to a size, or extends them to it with zeros.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest truncate -s 1M /jobs/17/log")]
pub(crate) struct Truncate {
    /// Bytes, or with a unit: K, M, G, T, P, powers of 1024.
    #[arg(short, long, value_parser = size::parse)]
    size: u64,
    /// The files.
    #[arg(value_parser = RemotePath::parser(), required = true)]
    paths: Vec<RemotePath>,
}

impl Truncate {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        super::each(client, &self.paths, async |path| {
            Ok(client.truncate(&path.0, self.size).await?)
        })
        .await
    }
}
