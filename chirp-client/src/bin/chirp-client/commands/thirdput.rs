use std::time::{Duration, Instant};

use chirp_client::Client;
use clap::Args;
use serde::Serialize;

use super::Failure;
use crate::cli::RemotePath;
use crate::json::{self, Json};
use crate::output;
use crate::size;

/// The least time that is waited for an answer: it comes at the end.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Makes the server copy a file or tree to another server, without a detour over this machine.
///
/// The server logs in there by itself: `whoareyou` tells as whom, and that subject needs the rights.
/// The answer comes at the end, so it is waited for at least an hour, or as long as -t says.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest1 thirdput /jobs/17 guest2:9094 /jobs/17")]
pub(crate) struct Thirdput {
    #[command(flatten)]
    json: Json,
    /// A file or directory of the server.
    #[arg(value_parser = RemotePath::parser())]
    path: RemotePath,
    /// The other server, as the server can reach it.
    #[arg(value_name = "HOST[:PORT]")]
    other: String,
    /// The name there.
    #[arg(value_parser = RemotePath::parser())]
    target: RemotePath,
}

#[derive(Serialize)]
struct Moved {
    /// Bytes of contents.
    bytes: u64,
    seconds: f64,
}

impl Thirdput {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let patient = client.with_timeout(client.timeout().max(PATIENCE));
        let started = Instant::now();
        let bytes = patient
            .thirdput(&self.path.0, &self.other, &self.target.0)
            .await?;
        let seconds = started.elapsed().as_secs_f64();
        if self.json.wanted {
            return json::print(&Moved { bytes, seconds });
        }
        let rate = size::shown(bytes as f64 / seconds.max(1e-6));
        output::message(&format!(
            "{bytes} bytes transferred in {seconds:.2} seconds ({rate}/s)"
        ));
        Ok(())
    }
}
