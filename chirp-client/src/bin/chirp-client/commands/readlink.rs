use chirp_client::Client;
use clap::Args;
use serde::Serialize;

use super::Failure;
use crate::cli::RemotePath;
use crate::json::{self, Json, Text};
use crate::output;

/// Prints the text of a symbolic link of the server.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest readlink /jobs/latest")]
pub(crate) struct Readlink {
    #[command(flatten)]
    json: Json,
    /// The link.
    #[arg(value_parser = RemotePath::parser())]
    path: RemotePath,
}

#[derive(Serialize)]
struct Link<'a> {
    path: Text<'a>,
    target: Text<'a>,
}

impl Readlink {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let target = client.readlink(&self.path.0).await?;
        if self.json.wanted {
            return json::print(&Link {
                path: (&self.path.0).into(),
                target: target[..].into(),
            });
        }
        output::write(&[&output::name(&target)[..], b"\n"].concat())
    }
}
