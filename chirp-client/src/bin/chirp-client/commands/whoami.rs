use chirp_client::Client;
use clap::Args;

use super::Failure;
use crate::output;

/// Prints who the server takes this client for: the subject that rights are given to.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client -a address guest whoami")]
pub(crate) struct Whoami {}

impl Whoami {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let subject = client.whoami().await?;
        output::write(&[&output::name(&subject)[..], b"\n"].concat())
    }
}
