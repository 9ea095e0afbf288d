use chirp_client::Client;
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;

/// Gives a file of the server a second name, or makes a symbolic link.
///
/// The text of a symbolic link is stored as it stands; servers resolve it as if their exported tree
/// were the whole file system.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest ln /jobs/17/out /published/out
  chirp-client guest ln -s ../17/out /jobs/latest")]
pub(crate) struct Ln {
    /// Make a symbolic link with TARGET as its text.
    #[arg(short, long)]
    symbolic: bool,
    /// The file that there is, or the text of the symbolic link.
    target: std::ffi::OsString,
    /// The new name.
    #[arg(value_parser = RemotePath::parser())]
    path: RemotePath,
}

impl Ln {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        use std::os::unix::ffi::OsStrExt;
        let path = &self.path.0;
        let target = self.target.as_bytes();
        if self.symbolic {
            return Ok(client.symlink(target, path).await?);
        }
        let target = super::remote(target)?;
        Ok(client.link(&target, path).await?)
    }
}
