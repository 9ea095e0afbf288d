use chirp_client::Client;
use clap::Args;
use serde::Serialize;

use super::Failure;
use crate::cli::RemotePath;
use crate::json::{Array, Json, Text};
use crate::output;

/// Prints who has which rights on a directory of the server: lines of subject and rights.
///
/// Rights: r read, w write, l list, d delete, p put new files, a administer, x execute, v make
/// directories of one's own.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest getacl /jobs
  chirp-client guest getacl --json /jobs | jq -r '.[] | select(.rights | contains(\"w\")) | .subject'")]
pub(crate) struct Getacl {
    #[command(flatten)]
    json: Json,
    /// The directory.
    #[arg(value_parser = RemotePath::parser(), default_value = "/")]
    path: RemotePath,
}

#[derive(Serialize)]
struct Line<'a> {
    /// METHOD:NAME, with at most one `*`.
    subject: Text<'a>,
    /// Letters.
    rights: Text<'a>,
}

impl Getacl {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let lines = client.getacl(&self.path.0).await?;
        if self.json.wanted {
            let mut array = Array::default();
            for line in &lines {
                let blank = line.iter().rposition(|&byte| byte == b' ');
                let (subject, rights) = line.split_at(blank.unwrap_or(line.len()));
                array.push(&Line {
                    subject: subject.into(),
                    rights: rights.trim_ascii_start().into(),
                })?;
            }
            return array.finish();
        }
        let mut text = Vec::new();
        for line in &lines {
            text.extend_from_slice(&output::name(line));
            text.push(b'\n');
        }
        output::write(&text)
    }
}
