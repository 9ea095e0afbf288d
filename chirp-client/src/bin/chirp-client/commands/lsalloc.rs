use chirp_client::Client;
use clap::Args;
use serde::Serialize;

use super::Failure;
use crate::cli::RemotePath;
use crate::json::{self, Json, Text};
use crate::output;
use crate::size;

/// Shows the allocation that a path of the server lies in: its directory, its size and what is taken
/// of it. The server must have been started with a quota (-Q).
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest lsalloc /jobs/17")]
pub(crate) struct Lsalloc {
    #[command(flatten)]
    json: Json,
    /// The path.
    #[arg(value_parser = RemotePath::parser(), default_value = "/")]
    path: RemotePath,
}

#[derive(Serialize)]
struct Line<'a> {
    /// The allocation's directory.
    path: Text<'a>,
    /// Bytes that it may hold.
    total: u64,
    /// Bytes taken.
    used: u64,
}

impl Lsalloc {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let allocation = client.lsalloc(&self.path.0).await?;
        let (total, used) = (allocation.total, allocation.in_use);
        if self.json.wanted {
            let path = allocation.path[..].into();
            return json::print(&Line { path, total, used });
        }
        let mut text = output::name(&allocation.path);
        let (total, used) = (size::shown(total as f64), size::shown(used as f64));
        text.extend_from_slice(format!("\n{total} TOTAL\n{used} INUSE\n").as_bytes());
        output::write(&text)
    }
}
