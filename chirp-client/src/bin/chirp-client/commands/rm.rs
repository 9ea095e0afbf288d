use chirp_client::Client;
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;
use crate::output;

/// Removes files, links and whole directories from the server.
///
/// A directory goes with all that is in it, as with the reference's `chirp` and with `rm -r`. What
/// cannot be removed is named on stderr; the others go, and the exit status is 1.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest rm /jobs/17 /jobs/18")]
pub(crate) struct Rm {
    /// What goes.
    #[arg(value_parser = RemotePath::parser(), required = true)]
    paths: Vec<RemotePath>,
}

impl Rm {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut complete = true;
        for RemotePath(path, _) in &self.paths {
            match client.rmall(path).await {
                Err(error) if error.code().is_some() => {
                    output::report_error(&error, Some(client.subject().as_str()));
                    complete = false;
                }
                other => other?,
            }
        }
        if complete { Ok(()) } else { Err(Failure::Told) }
    }
}
