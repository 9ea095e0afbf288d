use chirp_client::{Client, VirtualPath};
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;
use crate::output;

/// Writes files of the server to standard output, one after the other.
///
/// A file that cannot be read is named on stderr; the others follow, and the exit status is 1.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest cat /jobs/17/log /jobs/18/log | grep error")]
pub(crate) struct Cat {
    /// The files.
    #[arg(value_parser = RemotePath::parser(), required = true)]
    files: Vec<RemotePath>,
}

impl Cat {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut complete = true;
        for RemotePath(path, _) in &self.files {
            match to_stdout(client, path).await {
                Err(Failure::Client { error, .. }) if error.code().is_some() => {
                    output::report_error(&error, Some(client.subject().as_str()));
                    complete = false;
                }
                other => other?,
            }
        }
        if complete { Ok(()) } else { Err(Failure::Told) }
    }
}

/// Writes one file to standard output.
pub(super) async fn to_stdout(client: &Client, path: &VirtualPath) -> Result<(), Failure> {
    let body = client.getfile(path).await?;
    body.copy_to(&mut tokio::io::stdout()).await?;
    Ok(())
}
