use std::time::Duration;

use chirp_client::{Client, Descriptor, OpenFlags};
use clap::Args;

use super::{Failure, range};
use crate::cli::RemotePath;
use crate::output;
use crate::size;

/// Bytes that are read at a time on the way back from the end.
const BLOCK: u64 = 64 * 1024;

/// How often a file is looked at that may grow.
const INTERVAL: Duration = Duration::from_millis(500);

/// Writes the end of a file of the server to standard output; with -f also what is added to it.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest tail /jobs/17/log
  chirp-client guest tail -n 100 -f /jobs/17/log
  chirp-client guest tail -c 4K /jobs/17/out")]
pub(crate) struct Tail {
    /// How many lines.
    #[arg(short = 'n', long, default_value_t = 10, conflicts_with = "bytes")]
    lines: u64,
    /// How many bytes, in place of lines; K, M, G, T and P are powers of 1024.
    #[arg(short = 'c', long, value_parser = size::parse)]
    bytes: Option<u64>,
    /// Go on with what is added to the file, until you end it. A file that became shorter is
    /// written from its beginning.
    #[arg(short, long)]
    follow: bool,
    /// The file.
    #[arg(value_parser = RemotePath::parser())]
    path: RemotePath,
}

impl Tail {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let path = &self.path.0;
        let (file, stat) = client.open(path, OpenFlags::parse(b"r"), 0).await?;
        let end = u64::try_from(stat.size).unwrap_or(0);
        let from = match self.bytes {
            Some(bytes) => end.saturating_sub(bytes),
            None => last_lines(client, file, end, self.lines).await?,
        };
        let mut at = range::to_stdout(client, file, from, u64::MAX).await?;
        if !self.follow {
            return Ok(client.close(file).await?);
        }
        loop {
            tokio::time::sleep(INTERVAL).await;
            let size = u64::try_from(client.fstat(file).await?.size).unwrap_or(0);
            if size < at {
                output::message(&format!("{}: {path} became shorter", client.host()));
                at = 0;
            }
            if size > at {
                at = range::to_stdout(client, file, at, u64::MAX).await?;
            }
        }
    }
}

/// Returns where the last `lines` lines begin of a file that ends at `end`.
async fn last_lines(
    client: &Client,
    file: Descriptor,
    end: u64,
    lines: u64,
) -> Result<u64, Failure> {
    if lines == 0 {
        return Ok(end);
    }
    let mut found = 0;
    let mut to = end;
    while to > 0 {
        let from = to.saturating_sub(BLOCK);
        let block = client.pread(file, to - from, from).await?;
        for (at, byte) in block.iter().enumerate().rev() {
            let behind = from + at as u64 + 1;
            // The LF that ends the file ends its last line and begins none.
            if *byte == b'\n' && behind < end {
                found += 1;
                if found == lines {
                    return Ok(behind);
                }
            }
        }
        to = from;
    }
    Ok(0)
}
