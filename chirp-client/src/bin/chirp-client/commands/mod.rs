//! The commands, one file each: arguments, help and what they do.

mod cat;
mod exec;
mod get;
mod getacl;
pub(crate) mod ls;
mod md5;
mod mkdir;
mod mv;
mod put;
mod rm;
pub(crate) mod setacl;
mod sha256;
pub(crate) mod stat;
mod whoami;

use std::process::ExitCode;

use chirp_client::{Client, ConnectOptions, DEFAULT_CONNECT_TIMEOUT, Error};
use clap::Subcommand;

use crate::cli::Cli;

/// What can be done.
#[derive(Subcommand)]
pub(crate) enum Command {
    Put(put::Put),
    Get(get::Get),
    Ls(ls::Ls),
    Cat(cat::Cat),
    Stat(stat::Stat),
    Mkdir(mkdir::Mkdir),
    Rm(rm::Rm),
    Mv(mv::Mv),
    Md5(md5::Md5),
    Sha256(sha256::Sha256),
    Whoami(whoami::Whoami),
    Getacl(getacl::Getacl),
    Setacl(setacl::Setacl),
    Exec(exec::Exec),
}

/// Why a command fails.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library says it all.
    Client {
        error: Box<Error>,
        /// Who we are to the server, where that is known.
        subject: Option<String>,
    },
    /// Nobody reads stdout any more.
    PipeClosed,
    /// It was said already.
    Told,
    /// In words.
    Other(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client {
            error: Box::new(error),
            subject: None,
        }
    }
}

/// The exit status where the client itself fails.
pub(crate) const fn failure_code(command: &Command) -> u8 {
    match command {
        Command::Exec(_) => exec::CLIENT_FAILED,
        _ => 1,
    }
}

/// Connects and runs the command.
pub(crate) async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let mut options = ConnectOptions::new(cli.host);
    options.methods = cli.methods;
    options.timeout = cli.timeout;
    options.connect_timeout = cli.timeout.min(DEFAULT_CONNECT_TIMEOUT);
    let client = Client::connect(options).await?;
    let result = match cli.command {
        Command::Put(command) => command.run(&client).await,
        Command::Get(command) => command.run(&client).await,
        Command::Ls(command) => command.run(&client).await,
        Command::Cat(command) => command.run(&client).await,
        Command::Stat(command) => command.run(&client).await,
        Command::Mkdir(command) => command.run(&client).await,
        Command::Rm(command) => command.run(&client).await,
        Command::Mv(command) => command.run(&client).await,
        Command::Md5(command) => command.run(&client).await,
        Command::Sha256(command) => command.run(&client).await,
        Command::Whoami(command) => command.run(&client).await,
        Command::Getacl(command) => command.run(&client).await,
        Command::Setacl(command) => command.run(&client).await,
        Command::Exec(command) => return command.run(&client).await,
    };
    match result {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Failure::Client { error, .. }) => Err(Failure::Client {
            error,
            subject: Some(client.subject().to_string()),
        }),
        Err(other) => Err(other),
    }
}
