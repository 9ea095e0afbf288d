use chirp_client::Client;
use clap::Args;
use serde::Serialize;

use super::Failure;
use crate::cli::RemotePath;
use crate::json::{self, Json, Text};
use crate::output;

/// Prints what the server calls a path: the same without dots and doubled slashes. The path must
/// exist.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest localpath /jobs/../jobs/17")]
pub(crate) struct Localpath {
    #[command(flatten)]
    json: Json,
    /// The path.
    #[arg(value_parser = RemotePath::parser(), default_value = "/")]
    path: RemotePath,
}

#[derive(Serialize)]
struct Line<'a> {
    path: Text<'a>,
}

impl Localpath {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let path = client.localpath(&self.path.0).await?;
        if self.json.wanted {
            let path = path[..].into();
            return json::print(&Line { path });
        }
        output::write(&[&output::name(&path)[..], b"\n"].concat())
    }
}
