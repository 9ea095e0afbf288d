use chirp_client::{Client, Code, VirtualPath};
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;

/// The mode that is asked for; servers give 0700.
const MODE: u32 = 0o777;

/// Makes a directory on the server. One that exists already is fine.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest mkdir -p /jobs/17/input")]
pub(crate) struct Mkdir {
    /// Make the directories above it, too.
    #[arg(short, long)]
    parents: bool,
    /// The directory.
    #[arg(value_parser = RemotePath::parser())]
    path: RemotePath,
}

impl Mkdir {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let path = &self.path.0;
        if self.parents {
            let mut above = VirtualPath::root();
            let mut names: Vec<&[u8]> = path.components().collect();
            names.pop();
            for name in names {
                above = super::inside(&above, name)?;
                // What cannot be made because of rights may exist; the last one tells.
                match client.mkdir(&above, MODE).await {
                    Err(error) if error.code().is_none() => return Err(error.into()),
                    _ => {}
                }
            }
        }
        match client.mkdir(path, MODE).await {
            Err(error) if error.code() == Some(Code::AlreadyExists) => {
                if client.stat(path).await?.is_directory() {
                    Ok(())
                } else {
                    Err(error.into())
                }
            }
            other => Ok(other?),
        }
    }
}
