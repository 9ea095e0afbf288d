use chirp_client::{AccessMode, Client};
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;

/// Asks whether you may read, write or execute a file of the server; the exit status is the answer.
///
/// Both your rights there and the file's mode count. Without an option it is asked whether the file is
/// there and may be read.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest access -rw /jobs/17/out && chirp-client guest put out /jobs/17/out")]
pub(crate) struct Access {
    /// May it be read?
    #[arg(short, long)]
    read: bool,
    /// May it be written?
    #[arg(short, long)]
    write: bool,
    /// May it be executed, or the directory be entered?
    #[arg(short = 'x', long)]
    execute: bool,
    /// The file or directory.
    #[arg(value_parser = RemotePath::parser())]
    path: RemotePath,
}

impl Access {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let bits = [(self.read, 4), (self.write, 2), (self.execute, 1)];
        let bits = bits.into_iter().filter(|(asked, _)| *asked);
        let mode = AccessMode::new(bits.map(|(_, bit)| bit).sum());
        let mode = mode.ok_or_else(|| Failure::Other("no such kind of access".to_owned()))?;
        Ok(client.access(&self.path.0, mode).await?)
    }
}
