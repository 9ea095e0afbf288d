use chirp_client::{Client, Code, Error};
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;
use crate::output;

/// Prints the SHA-256 of files, computed by the server, in the form of `sha256sum`.
///
/// Only chirp-server offers this; the reference's server has md5.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest sha256 /jobs/17/result.csv")]
pub(crate) struct Sha256 {
    /// The files.
    #[arg(value_parser = RemotePath::parser(), required = true)]
    paths: Vec<RemotePath>,
}

impl Sha256 {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        for RemotePath(path, _) in &self.paths {
            let digest = match client.sha256(path).await {
                // The reference says of an unknown verb what ours says of a bad path.
                Err(Error::Refused {
                    code: Code::InvalidRequest,
                    ..
                }) if client.features().await?.is_none() => {
                    let host = client.host().to_owned();
                    let feature = "sha256";
                    return Err(Error::Unsupported { host, feature }.into());
                }
                other => other?,
            };
            let mut line: Vec<u8> = Vec::new();
            for byte in digest {
                line.extend_from_slice(format!("{byte:02x}").as_bytes());
            }
            line.extend_from_slice(b"  ");
            line.extend_from_slice(&output::name(path.as_bytes()));
            line.push(b'\n');
            output::write(&line)?;
        }
        Ok(())
    }
}
