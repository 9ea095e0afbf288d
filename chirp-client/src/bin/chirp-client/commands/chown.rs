use chirp_client::Client;
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;

/// Asks the server to give a file to another user and group, and tells whether it did.
///
/// Chirp servers answer yes and change nothing: all files belong to the server's account, and `getacl`
/// shows who may do what. So this fails on every server that is known.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest chown 1000:1000 /jobs/17/out")]
pub(crate) struct Chown {
    /// Change a symbolic link itself.
    #[arg(short = 'n', long)]
    no_dereference: bool,
    /// UID:GID, in numbers.
    #[arg(value_name = "UID:GID", value_parser = owner)]
    owner: (i64, i64),
    /// The file or directory.
    #[arg(value_parser = RemotePath::parser())]
    path: RemotePath,
}

impl Chown {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let (uid, gid) = self.owner;
        let path = &self.path.0;
        let stat = if self.no_dereference {
            client.lchown(path, uid, gid).await?;
            client.lstat(path).await?
        } else {
            client.chown(path, uid, gid).await?;
            client.stat(path).await?
        };
        if (stat.uid, stat.gid) == (uid, gid) {
            return Ok(());
        }
        let host = client.host();
        Err(Failure::Other(format!(
            "{host}: chown {path}: the server agreed and left the file to {}:{}; setacl gives rights",
            stat.uid, stat.gid
        )))
    }
}

fn owner(text: &str) -> Result<(i64, i64), String> {
    let numbers = text.split_once(':').and_then(|(uid, gid)| {
        let number = |text: &str| text.parse::<u32>().map(i64::from).ok();
        Some((number(uid)?, number(gid)?))
    });
    numbers.ok_or_else(|| "an owner is UID:GID, two numbers".to_owned())
}
