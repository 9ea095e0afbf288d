use chirp_client::{Client, OpenFlags, VirtualPath};
use clap::Args;

use super::{Failure, range};
use crate::cli::RemotePath;
use crate::size;

/// Writes files of the server to standard output, one after the other.
///
/// A file that cannot be read is named on stderr; the others follow, and the exit status is 1.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest cat /jobs/17/log /jobs/18/log | grep error
  chirp-client guest cat --offset 1M --length 4K /disk.img | xxd")]
pub(crate) struct Cat {
    /// Begin at this byte of each file, the first being 0; units as for --length.
    #[arg(long, value_name = "BYTES", value_parser = size::parse)]
    offset: Option<u64>,
    /// Write this many bytes of each file at most; K, M, G, T and P are powers of 1024.
    #[arg(long, value_name = "BYTES", value_parser = size::parse)]
    length: Option<u64>,
    /// The files.
    #[arg(value_parser = RemotePath::parser(), required = true)]
    files: Vec<RemotePath>,
}

impl Cat {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        super::each(client, &self.files, async |RemotePath(path, _)| {
            if self.offset.is_none() && self.length.is_none() {
                return to_stdout(client, path).await;
            }
            let (file, _) = client.open(path, OpenFlags::parse(b"r"), 0).await?;
            let from = self.offset.unwrap_or(0);
            let length = self.length.unwrap_or(u64::MAX);
            range::to_stdout(client, file, from, length).await?;
            Ok(client.close(file).await?)
        })
        .await
    }
}

/// Writes one file to standard output.
pub(super) async fn to_stdout(client: &Client, path: &VirtualPath) -> Result<(), Failure> {
    let body = client.getfile(path).await?;
    body.copy_to(&mut tokio::io::stdout()).await?;
    Ok(())
}
