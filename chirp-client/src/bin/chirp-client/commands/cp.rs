use std::io;

use chirp_client::{Body, Client, VirtualPath};
use clap::Args;
use futures_util::stream::try_unfold;
use tokio_util::io::StreamReader;

use super::Failure;
use crate::cli::RemotePath;

/// Copies files of the server to other names there.
///
/// The protocol has no such request: the contents pass through this machine, on two connections and
/// without a file here. If TO is an existing directory, the files arrive in it under their own names.
/// For a whole directory use get and put, or exec.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest cp /jobs/17/out /published/out
  chirp-client guest cp /jobs/17/a /jobs/17/b /published")]
pub(crate) struct Cp {
    /// The files.
    #[arg(value_parser = RemotePath::parser(), required = true)]
    from: Vec<RemotePath>,
    /// The new name, or a directory.
    #[arg(value_parser = RemotePath::parser())]
    to: RemotePath,
}

impl Cp {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let to = &self.to.0;
        let directory = match client.stat(to).await {
            Ok(stat) => stat.is_directory(),
            Err(error) if error.code().is_some() => false,
            Err(error) => return Err(error.into()),
        };
        if !directory && self.from.len() > 1 {
            let host = client.host();
            let reason = "several files need a directory to go to";
            return Err(Failure::Other(format!("{host}: {to}: {reason}")));
        }
        // A body that is being read holds back the answers to all else on its connection.
        let Some(writer) = client.connect_another().await else {
            return Err(Failure::Other(
                "no second connection is to be had".to_owned(),
            ));
        };
        let writer = writer?;
        super::each(client, &self.from, async |RemotePath(from, _)| {
            match (directory, from.split_last()) {
                (true, Some((_, name))) => {
                    copy(client, from, &writer, &super::inside(to, name)?).await
                }
                _ => copy(client, from, &writer, to).await,
            }
        })
        .await
    }
}

async fn copy(
    client: &Client,
    from: &VirtualPath,
    writer: &Client,
    to: &VirtualPath,
) -> Result<(), Failure> {
    let stat = client.stat(from).await?;
    // A server that opens the new file before it has read the old one would leave nothing of both.
    if let Ok(there) = writer.stat(to).await
        && (there.device, there.inode) == (stat.device, stat.inode)
    {
        let host = client.host();
        return Err(Failure::Other(format!(
            "{host}: {from} and {to} are the same file"
        )));
    }
    let body = client.getfile(from).await?;
    let length = body.length();
    let mut chunks = std::pin::pin!(try_unfold(body, |mut body: Body| async {
        let chunk = body.chunk().await.map_err(io::Error::other)?;
        Ok::<_, io::Error>(chunk.map(|chunk| (chunk, body)))
    }));
    let mut content = StreamReader::new(chunks.as_mut());
    let mode = stat.mode & 0o777;
    Ok(writer.putfile(to, mode, length, &mut content).await?)
}
