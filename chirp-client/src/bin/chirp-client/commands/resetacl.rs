use chirp_client::Client;
use clap::Args;

use super::{Failure, setacl};
use crate::cli::RemotePath;

/// Makes you the only one with rights on a directory of the server: these, and the right to
/// administer.
///
/// RIGHTS are as for setacl.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest resetacl /jobs/17 write")]
pub(crate) struct Resetacl {
    /// The directory.
    #[arg(value_parser = RemotePath::parser())]
    path: RemotePath,
    /// Letters or a name for some.
    #[arg(value_parser = setacl::rights)]
    rights: String,
}

impl Resetacl {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        Ok(client.resetacl(&self.path.0, &self.rights).await?)
    }
}
