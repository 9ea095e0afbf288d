use chirp_client::Client;
use clap::Args;

use super::Failure;
use crate::json::{self, Json};
use crate::output;

/// Prints what the server offers beyond the protocol, as JSON.
///
/// A server that knows no extension, such as the reference's, has none: `null`, and the exit status
/// is 1.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest features | jq .exec")]
pub(crate) struct Features {
    /// The output is JSON either way.
    #[command(flatten)]
    _json: Json,
}

impl Features {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let features = client.features().await?;
        json::print(&features)?;
        if features.is_some() {
            return Ok(());
        }
        output::message(&format!(
            "{}: the server knows no extension of the protocol",
            client.host()
        ));
        Err(Failure::Told)
    }
}
