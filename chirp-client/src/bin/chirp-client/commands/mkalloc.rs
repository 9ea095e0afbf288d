use chirp_client::Client;
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;
use crate::size;

/// The mode that is asked for, as the reference's client does.
const MODE: u32 = 0o700;

/// Makes a directory with a limit of its own: what is in it takes SIZE at most, and that is taken
/// from the directory above at once. The server must have been started with a quota (-Q).
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest mkalloc /jobs/17 10G")]
pub(crate) struct Mkalloc {
    /// The directory.
    #[arg(value_parser = RemotePath::parser())]
    path: RemotePath,
    /// Bytes, or with a unit: K, M, G, T, P, powers of 1024.
    #[arg(value_parser = size::parse)]
    size: u64,
}

impl Mkalloc {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        Ok(client.mkalloc(&self.path.0, self.size, MODE).await?)
    }
}
