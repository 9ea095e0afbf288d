use chirp_client::{Client, Error};
use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Failure;
use crate::cli::RemotePath;
use crate::{output, stdin};

/// Bytes that are read at a time.
const PIECE: usize = 64 * 1024;

/// Writes a file of the server to standard output, to the end that it has when that is reached.
///
/// Nobody can tell an end from a lost connection: cat can, and is what to use where the file does not
/// grow meanwhile.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest getstream /jobs/17/log")]
pub(crate) struct Getstream {
    /// The file.
    #[arg(value_parser = RemotePath::parser())]
    path: RemotePath,
}

/// Writes what comes on standard input to a file of the server, as it comes.
///
/// The file is there at once and grows; an old one is emptied first. The protocol does not tell
/// whether all of it was written: use `put -` where that matters.
#[derive(Args)]
#[command(after_help = "Example:
  ./simulate | chirp-client guest putstream /jobs/17/log")]
pub(crate) struct Putstream {
    /// The file.
    #[arg(value_parser = RemotePath::parser())]
    path: RemotePath,
}

impl Getstream {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut source = client.getstream(&self.path.0).await?;
        let mut piece = Vec::with_capacity(PIECE);
        loop {
            piece.clear();
            match source.read_buf(&mut piece).await.map_err(failed)? {
                0 => return Ok(()),
                _ => output::write(&piece)?,
            }
        }
    }
}

impl Putstream {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut target = client.putstream(&self.path.0).await?;
        let mut source = stdin::reading(std::io::stdin());
        let mut piece = Vec::with_capacity(PIECE);
        loop {
            piece.clear();
            let read = source.read_buf(&mut piece).await;
            let read =
                read.map_err(|error| Failure::Other(format!("failed to read stdin: {error}")))?;
            if read == 0 {
                return Ok(target.finish().await?);
            }
            target.write_all(&piece).await.map_err(failed)?;
            target.flush().await.map_err(failed)?;
        }
    }
}

/// Takes the library's error out of one of a stream's.
fn failed(error: std::io::Error) -> Failure {
    match error.downcast::<Error>() {
        Ok(error) => error.into(),
        Err(error) => Failure::Other(error.to_string()),
    }
}
