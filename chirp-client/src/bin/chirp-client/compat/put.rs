//! `chirp_put`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use chirp_client::VirtualPath;
use clap::{CommandFactory as _, Parser};

use super::access::{Access, Log, Logged};
use super::connect;
use super::text;
use super::trouble::{Ending, Trouble, say, say_fatal};
use super::upload;

/// Copies a file or a directory to a Chirp server.
///
/// LOCAL - is standard input.
#[derive(Parser)]
#[command(
    name = "chirp_put",
    version = super::VERSION,
    disable_version_flag = true,
    override_usage = "chirp_put [options] <local-file> <hostname[:port]> <remote-file>",
    max_term_width = 100,
    infer_long_args = true
)]
pub(super) struct Put {
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    log: Log,
    /// Accepted for old scripts: how much is sent at a time is found out.
    #[arg(short, long, value_name = "SIZE")]
    block_size: Option<String>,
    /// Follow the file as `tail -f` does: send what is added to it, for ever.
    #[arg(short, long)]
    follow: bool,
    /// Show the version.
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// The file or directory here, the server, and its new name there.
    #[arg(value_name = "LOCAL HOST[:PORT] REMOTE", hide = true)]
    words: Vec<OsString>,
}

impl Logged for Put {
    fn log(&self) -> &Log {
        &self.log
    }
}

/// Copies, and says in the reference's form what was not.
pub(super) async fn run(put: Put) -> Ending {
    let [local, host, remote, ..] = put.words.as_slice() else {
        // The reference takes this for a wish to be helped.
        return super::help(Put::command(), Ending::Success);
    };
    if let Err(reason) = put.access.methods() {
        say_fatal(&reason);
        return Ending::Fatal;
    }
    let host = host.to_string_lossy();
    let local = Path::new(local);
    if local != Path::new("-")
        && let Err(error) = std::fs::metadata(local)
    {
        let reason = text::reason(&error);
        say(&format!(
            "chirp_put: couldn't open {}: {reason}",
            local.display()
        ));
        return Ending::Failure;
    }
    match copy(&put, local, &host, remote.as_bytes()).await {
        Ok(()) => Ending::Success,
        Err(trouble) => {
            let local = local.display();
            trouble.tell(&format!("chirp_put: couldn't put {local} to host {host}"));
            Ending::Failure
        }
    }
}

async fn copy(put: &Put, local: &Path, host: &str, remote: &[u8]) -> Result<(), Trouble> {
    let client = connect::open(&put.access, host).await?;
    let remote = VirtualPath::from_decoded(remote)?;
    if put.follow {
        return upload::follow(&client, local, &remote).await;
    }
    if local == Path::new("-") {
        let stdin = std::fs::File::from(upload::stdin()?);
        let stdin = crate::stdin::reading(stdin);
        return upload::stream(&client, stdin, &remote).await.map(drop);
    }
    upload::path(&client, local, &remote).await.map(drop)
}
