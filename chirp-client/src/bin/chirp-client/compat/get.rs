//! `chirp_get`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use chirp_client::VirtualPath;
use chirp_client::transfer;
use clap::{CommandFactory as _, Parser};

use super::access::{Access, Log, Logged};
use super::connect;
use super::trouble::{Ending, Trouble, say_fatal};
use super::upload;

/// Copies a file or a directory from a Chirp server.
///
/// A file appears under its name when it is whole. LOCAL - is standard output.
#[derive(Parser)]
#[command(
    name = "chirp_get",
    version = super::VERSION,
    disable_version_flag = true,
    override_usage = "chirp_get [options] <hostname[:port]> <remote-file> <local-file>",
    max_term_width = 100,
    infer_long_args = true
)]
pub(super) struct Get {
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    log: Log,
    /// Show the version.
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// The server, the file or directory there, and its new name here.
    #[arg(value_name = "HOST[:PORT] REMOTE LOCAL", hide = true)]
    words: Vec<OsString>,
}

impl Logged for Get {
    fn log(&self) -> &Log {
        &self.log
    }
}

/// Copies, and says in the reference's form what was not.
pub(super) async fn run(get: Get) -> Ending {
    let [host, remote, local, ..] = get.words.as_slice() else {
        // The reference takes this for a wish to be helped.
        return super::help(Get::command(), Ending::Success);
    };
    if let Err(reason) = get.access.methods() {
        say_fatal(&reason);
        return Ending::Fatal;
    }
    let host = host.to_string_lossy();
    match copy(&get.access, &host, remote.as_bytes(), Path::new(local)).await {
        Ok(()) => Ending::Success,
        Err(Trouble::PipeClosed) => Ending::PipeClosed,
        Err(trouble) => {
            trouble.tell(&format!("couldn't get {host}:{}", remote.display()));
            Ending::Failure
        }
    }
}

async fn copy(access: &Access, host: &str, remote: &[u8], local: &Path) -> Result<(), Trouble> {
    let client = connect::open(access, host).await?;
    let remote = VirtualPath::from_decoded(remote)?;
    if local == Path::new("-") {
        let body = client.getfile(&remote).await?;
        body.copy_to(&mut tokio::io::stdout()).await?;
        return Ok(());
    }
    transfer::get(&client, &remote, local, &upload::exactly()).await?;
    Ok(())
}
