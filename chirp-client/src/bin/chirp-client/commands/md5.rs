use chirp_client::{Client, HashAlgorithm};
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;
use crate::output;

/// Prints the MD5 of a file, computed by the server: upper-case digits, a tab and the path, as the
/// reference's `chirp` does.
///
/// MD5 finds accidents, not forgery; sha256 does both.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest md5 /jobs/17/result.csv")]
pub(crate) struct Md5 {
    /// The file.
    #[arg(value_parser = RemotePath::parser())]
    path: RemotePath,
}

impl Md5 {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let path = &self.path.0;
        let digest = client.hash(HashAlgorithm::Md5, path).await?;
        let mut line: Vec<u8> = Vec::new();
        for byte in digest {
            line.extend_from_slice(format!("{byte:02X}").as_bytes());
        }
        line.push(b'\t');
        line.extend_from_slice(&output::name(path.as_bytes()));
        line.push(b'\n');
        output::write(&line)
    }
}
