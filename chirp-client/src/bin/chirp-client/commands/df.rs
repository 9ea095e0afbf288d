use chirp_client::{Client, StatFs};
use clap::Args;
use serde::Serialize;

use super::Failure;
use crate::cli::RemotePath;
use crate::json::{self, Json, Text};
use crate::output;
use crate::size;

/// Shows the space of the server's file system, as the reference's `chirp` does: what there is and
/// what is taken.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest df
  chirp-client guest df --json | jq .available")]
pub(crate) struct Df {
    /// Count in KiB.
    #[arg(short, conflicts_with_all = ["mega", "giga", "tera"])]
    kilo: bool,
    /// Count in MiB.
    #[arg(short, conflicts_with_all = ["giga", "tera"])]
    mega: bool,
    /// Count in GiB.
    #[arg(short, conflicts_with = "tera")]
    giga: bool,
    /// Count in TiB.
    #[arg(short)]
    tera: bool,
    #[command(flatten)]
    json: Json,
    /// A directory of the file system.
    #[arg(value_parser = RemotePath::parser(), default_value = "/")]
    path: RemotePath,
}

#[derive(Serialize)]
struct Space<'a> {
    path: Text<'a>,
    /// Bytes there are.
    total: u64,
    /// Bytes taken.
    used: u64,
    /// Bytes that are free.
    free: u64,
    /// Bytes that are free for the server's account.
    available: u64,
    block_size: u64,
    /// Inodes there are.
    files: u64,
    /// Inodes that are free.
    files_free: u64,
}

impl Df {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let path = &self.path.0;
        let stat = client.statfs(path).await?;
        let space = measure(path.into(), &stat);
        if self.json.wanted {
            return json::print(&space);
        }
        let mut text = output::name(path.as_bytes());
        let (total, used) = (self.size(space.total), self.size(space.used));
        text.extend_from_slice(format!("\n{total} TOTAL\n{used} INUSE\n").as_bytes());
        output::write(&text)
    }

    fn size(&self, bytes: u64) -> String {
        let (power, unit) = match () {
            () if self.kilo => (1, "KB"),
            () if self.mega => (2, "MB"),
            () if self.giga => (3, "GB"),
            () if self.tera => (4, "TB"),
            () => return size::shown(bytes as f64),
        };
        format!("{:.1} {unit}", bytes as f64 / 1024_f64.powi(power))
    }
}

fn measure<'a>(path: Text<'a>, stat: &StatFs) -> Space<'a> {
    let positive = |number: i64| u64::try_from(number).unwrap_or(0);
    let block_size = positive(stat.block_size);
    let bytes = |blocks| positive(blocks).saturating_mul(block_size);
    let (total, free) = (bytes(stat.blocks), bytes(stat.blocks_free));
    Space {
        path,
        total,
        used: total.saturating_sub(free),
        free,
        available: bytes(stat.blocks_available),
        block_size,
        files: positive(stat.files),
        files_free: positive(stat.files_free),
    }
}
