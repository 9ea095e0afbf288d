//! `chirp`: one command from the arguments, or a session from standard input (part 12.3).

mod commands;
mod complete;
mod interactive;
mod line;
mod script;
mod session;
mod table;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::ffi::OsStringExt as _;

use chirp_client::Client;
use clap::Parser;

use super::access::{Access, Log, Logged};
use super::trouble::{Ending, say_fatal};
use session::Session;
use table::Outcome;

/// Works on the files of a Chirp server: one command, or those that standard input brings.
///
/// `help` shows the commands. At a terminal lines can be edited, remembered and completed.
#[derive(Parser)]
#[command(
    name = "chirp",
    version = super::VERSION,
    disable_version_flag = true,
    override_usage = "chirp [options] [hostname[:port]] [command]",
    max_term_width = 100,
    infer_long_args = true
)]
pub(super) struct Chirp {
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    log: Log,
    /// Accepted for old scripts: transfers are always reported.
    #[arg(short = 'l', long)]
    verbose: bool,
    /// Show the version.
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// The server, the command and its words.
    #[arg(
        value_name = "HOST[:PORT] COMMAND WORDS",
        hide = true,
        trailing_var_arg = true
    )]
    words: Vec<OsString>,
}

impl Logged for Chirp {
    fn log(&self) -> &Log {
        &self.log
    }
}

/// Does what the words say, or else what standard input says.
pub(super) async fn run(chirp: Chirp) -> Ending {
    if let Err(reason) = chirp.access.methods() {
        say_fatal(&reason);
        return Ending::Fatal;
    }
    let mut session = Session::new(chirp.access);
    let mut words = chirp.words.into_iter();
    if let Some(host) = words.next() {
        let host = host.to_string_lossy();
        if let Err(trouble) = session.open(&host).await {
            trouble.tell(&format!("couldn't open {host}"));
            return Ending::Failure;
        }
    }
    let words: Vec<Vec<u8>> = words.map(OsString::into_vec).collect();
    if words.is_empty() {
        return read(&mut session).await;
    }
    match table::run(&mut session, &words).await {
        Outcome::Done | Outcome::Quit => Ending::Success,
        Outcome::Failed => Ending::Failure,
        Outcome::PipeClosed => Ending::PipeClosed,
    }
}

/// Carries out what is typed on a connection that is there already, or what standard input brings.
pub(super) async fn session(access: Access, host: &str, client: Client) -> Ending {
    let mut session = Session::new(access);
    session.take(host, client);
    read(&mut session).await
}

async fn read(session: &mut Session) -> Ending {
    match std::io::stdin().is_terminal() {
        true => interactive::run(session).await,
        false => script::run(session).await,
    }
}
