use std::time::Duration;

use chirp_client::Client;
use clap::Args;
use serde::Serialize;

use super::Failure;
use crate::cli::RemotePath;
use crate::json::{Array, Json, Text};
use crate::output;
use crate::size;

/// The least time that is waited for an answer: it comes when the whole tree has been read.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Shows what each owner has on the server: files, directories and bytes. Needs the right to
/// administer the directory.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest audit
  chirp-client guest audit --json | jq 'max_by(.bytes).owner'")]
pub(crate) struct Audit {
    /// Print plain numbers and no heading.
    #[arg(short, long)]
    raw: bool,
    #[command(flatten)]
    json: Json,
    /// The directory.
    #[arg(value_parser = RemotePath::parser(), default_value = "/")]
    path: RemotePath,
}

#[derive(Serialize)]
struct Line<'a> {
    /// METHOD:NAME, or `unknown`.
    owner: Text<'a>,
    files: u64,
    directories: u64,
    /// Bytes of contents.
    bytes: u64,
}

impl Audit {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let patient = client.with_timeout(client.timeout().max(PATIENCE));
        let owners = patient.audit(&self.path.0).await?;
        if self.json.wanted {
            let mut array = Array::default();
            for usage in &owners {
                array.push(&Line {
                    owner: usage.owner[..].into(),
                    files: usage.files,
                    directories: usage.directories,
                    bytes: usage.bytes,
                })?;
            }
            return array.finish();
        }
        let mut text = Vec::new();
        if !self.raw {
            text.extend_from_slice(b"   FILES     DIRS      DATA OWNER\n");
        }
        for usage in &owners {
            let (files, directories) = (usage.files, usage.directories);
            let numbers = if self.raw {
                format!("{files} {directories} {} ", usage.bytes)
            } else {
                // The unit's B is a column of its own, as in the reference's table.
                let size = size::shown(usage.bytes as f64);
                format!("{files:8} {directories:8} {size:>9} ")
            };
            text.extend_from_slice(numbers.as_bytes());
            text.append(&mut output::name(&usage.owner));
            text.push(b'\n');
        }
        output::write(&text)
    }
}
