use chirp_client::Client;
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;
use crate::output;

/// Prints who has which rights on a directory of the server: lines of subject and rights.
///
/// Rights: r read, w write, l list, d delete, p put new files, a administer, x execute, v make
/// directories of one's own.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest getacl /jobs")]
pub(crate) struct Getacl {
    /// The directory.
    #[arg(value_parser = RemotePath::parser(), default_value = "/")]
    path: RemotePath,
}

impl Getacl {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut text = Vec::new();
        for line in client.getacl(&self.path.0).await? {
            text.extend_from_slice(&output::name(&line));
            text.push(b'\n');
        }
        output::write(&text)
    }
}
