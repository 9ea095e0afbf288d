use chirp_client::Client;
use clap::Args;

use super::Failure;

/// Makes the server log more: turns one of its debug categories on. For its superuser (-P).
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest remote_debug all")]
pub(crate) struct RemoteDebug {
    /// The category.
    flag: String,
}

impl RemoteDebug {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        Ok(client.debug(&self.flag).await?)
    }
}
