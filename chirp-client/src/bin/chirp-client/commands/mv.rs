use chirp_client::Client;
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;

/// Gives a file or directory of the server another name.
///
/// If TO is an existing directory, FROM moves into it; an existing file is replaced.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest mv /jobs/17/out.tmp /jobs/17/out")]
pub(crate) struct Mv {
    /// The old name.
    #[arg(value_parser = RemotePath::parser())]
    from: RemotePath,
    /// The new name, or the directory to move into.
    #[arg(value_parser = RemotePath::parser())]
    to: RemotePath,
}

impl Mv {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let (from, mut to) = (self.from.0, self.to.0);
        let directory = match client.stat(&to).await {
            Ok(stat) => stat.is_directory(),
            Err(error) if error.code().is_some() => false,
            Err(error) => return Err(error.into()),
        };
        if let (true, Some((_, name))) = (directory, from.split_last()) {
            to = super::inside(&to, name)?;
        }
        Ok(client.rename(&from, &to).await?)
    }
}
