//! The commands, one file each: arguments, help and what they do.

mod access;
mod audit;
mod by_job;
mod cat;
mod chmod;
mod chown;
mod copying;
mod cp;
mod df;
mod digest;
mod du;
pub(crate) mod exec;
mod executions;
mod features;
mod get;
mod getacl;
mod job;
mod keyboard;
mod ln;
mod localpath;
mod logs;
pub(crate) mod ls;
mod lsalloc;
mod mkalloc;
mod mkdir;
mod mv;
mod put;
mod range;
mod readlink;
mod remote_debug;
mod resetacl;
mod resume;
mod rm;
mod rmdir;
mod search;
mod session;
pub(crate) mod setacl;
mod setrep;
pub(crate) mod stat;
mod streams;
mod sync;
mod tail;
mod thirdput;
mod ticket;
mod touch;
mod tree;
mod truncate;
mod walk;
mod whoami;
mod xattr;

use std::process::ExitCode;

use chirp_client::cookie::CookieFile;
use chirp_client::ticket::Offered;
use chirp_client::{Client, ConnectOptions, DEFAULT_CONNECT_TIMEOUT, Error, Method, VirtualPath};
use clap::Subcommand;

use crate::cli::Cli;
use crate::compat;
use crate::output;

/// What can be done.
#[derive(Subcommand)]
pub(crate) enum Command {
    Put(put::Put),
    Get(get::Get),
    Sync(sync::Sync),
    Ls(ls::Ls),
    Tree(tree::Tree),
    Cat(cat::Cat),
    Tail(tail::Tail),
    Getstream(streams::Getstream),
    Putstream(streams::Putstream),
    Stat(stat::Stat),
    Du(du::Du),
    Df(df::Df),
    Mkdir(mkdir::Mkdir),
    Rm(rm::Rm),
    Rmdir(rmdir::Rmdir),
    Mv(mv::Mv),
    Cp(cp::Cp),
    Ln(ln::Ln),
    Readlink(readlink::Readlink),
    Touch(touch::Touch),
    Truncate(truncate::Truncate),
    Access(access::Access),
    Chmod(chmod::Chmod),
    Chown(chown::Chown),
    Xattr(xattr::Xattr),
    Sha256(digest::Sha256),
    Md5(digest::Md5),
    Hash(digest::Hash),
    #[command(alias = "listacl")]
    Getacl(getacl::Getacl),
    Setacl(setacl::Setacl),
    Resetacl(resetacl::Resetacl),
    Whoami(whoami::Whoami),
    Whoareyou(whoami::Whoareyou),
    Localpath(localpath::Localpath),
    Thirdput(thirdput::Thirdput),
    Mkalloc(mkalloc::Mkalloc),
    Setrep(setrep::Setrep),
    #[command(name = "remote_debug")]
    RemoteDebug(remote_debug::RemoteDebug),
    Lsalloc(lsalloc::Lsalloc),
    Audit(audit::Audit),
    Search(search::Search),
    Features(features::Features),
    Exec(exec::Exec),
    Attach(executions::Attach),
    Logs(logs::Logs),
    Ps(executions::Ps),
    Kill(executions::Kill),
    Wait(executions::Wait),
    Forget(executions::Forget),
    Job(job::Job),
    Ticket(ticket::Ticket),
    #[command(name = "ticket_create", hide = true)]
    TicketCreate(ticket::Create),
    #[command(name = "ticket_register", hide = true)]
    TicketRegister(ticket::ReferenceRegister),
    #[command(name = "ticket_list", hide = true)]
    TicketList(ticket::List),
    #[command(name = "ticket_get", hide = true)]
    TicketGet(ticket::Get),
    #[command(name = "ticket_modify", hide = true)]
    TicketModify(ticket::Modify),
    #[command(name = "ticket_delete", hide = true)]
    TicketDelete(ticket::Delete),
    #[command(name = "job_create", hide = true)]
    JobCreate(job::Create),
    #[command(name = "job_commit", hide = true)]
    JobCommit(job::Commit),
    #[command(name = "job_status", hide = true)]
    JobStatus(job::Status),
    #[command(name = "job_wait", hide = true)]
    JobWait(job::ReferenceWait),
    #[command(name = "job_kill", hide = true)]
    JobKill(job::Kill),
    #[command(name = "job_reap", hide = true)]
    JobReap(job::Reap),
    #[command(name = "xattr_get", hide = true)]
    XattrGet(xattr::Get),
    #[command(name = "xattr_list", hide = true)]
    XattrList(xattr::List),
    #[command(name = "xattr_set", hide = true)]
    XattrSet(xattr::ReferenceSet),
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
    /// The signal of this number ended it; what was unfinished is removed.
    Signal(u8),
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

/// Returns whether the exit status belongs to a program, so that the client has one of its own.
pub(crate) const fn runs_a_program(command: &Command) -> bool {
    matches!(
        command,
        Command::Exec(_) | Command::Attach(_) | Command::Wait(_)
    )
}

/// Connects and runs the command, or a session of commands.
pub(crate) async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let mut options = ConnectOptions::new(cli.host);
    options.methods = cli.methods;
    options.timeout = cli.timeout;
    if let Some(tickets) = &cli.tickets {
        options.tickets = Offered::from_list(tickets);
    }
    let by_cookie = options.methods.contains(&Method::Cookie)
        || cli.cookie_file.is_some()
        || CookieFile::is_meant_by(&options.address);
    if by_cookie {
        CookieFile::apply(cli.cookie_file, &mut options)?;
    }
    options.connect_timeout = cli.timeout.min(DEFAULT_CONNECT_TIMEOUT);
    let Some(command) = cli.command else {
        // A session outlives the idle limit of its server.
        options.reconnect = Some(cli.timeout);
        let methods = options.methods.clone();
        let client = Client::connect(options).await?;
        return Ok(compat::session(&methods, cli.tickets, client).await);
    };
    let client = Client::connect(options).await?;
    let result = match command {
        Command::Put(command) => command.run(&client).await,
        Command::Get(command) => command.run(&client).await,
        Command::Sync(command) => command.run(&client).await,
        Command::Ls(command) => command.run(&client).await,
        Command::Tree(command) => command.run(&client).await,
        Command::Cat(command) => command.run(&client).await,
        Command::Tail(command) => command.run(&client).await,
        Command::Getstream(command) => command.run(&client).await,
        Command::Putstream(command) => command.run(&client).await,
        Command::Stat(command) => command.run(&client).await,
        Command::Du(command) => command.run(&client).await,
        Command::Df(command) => command.run(&client).await,
        Command::Mkdir(command) => command.run(&client).await,
        Command::Rm(command) => command.run(&client).await,
        Command::Rmdir(command) => command.run(&client).await,
        Command::Mv(command) => command.run(&client).await,
        Command::Cp(command) => command.run(&client).await,
        Command::Ln(command) => command.run(&client).await,
        Command::Readlink(command) => command.run(&client).await,
        Command::Touch(command) => command.run(&client).await,
        Command::Truncate(command) => command.run(&client).await,
        Command::Access(command) => command.run(&client).await,
        Command::Chmod(command) => command.run(&client).await,
        Command::Chown(command) => command.run(&client).await,
        Command::Xattr(command) => command.run(&client).await,
        Command::Sha256(command) => command.run(&client).await,
        Command::Md5(command) => command.run(&client).await,
        Command::Hash(command) => command.run(&client).await,
        Command::Getacl(command) => command.run(&client).await,
        Command::Setacl(command) => command.run(&client).await,
        Command::Resetacl(command) => command.run(&client).await,
        Command::Whoami(command) => command.run(&client).await,
        Command::Whoareyou(command) => command.run(&client).await,
        Command::Localpath(command) => command.run(&client).await,
        Command::Thirdput(command) => command.run(&client).await,
        Command::Mkalloc(command) => command.run(&client).await,
        Command::Setrep(command) => command.run(&client).await,
        Command::RemoteDebug(command) => command.run(&client).await,
        Command::Features(command) => command.run(&client).await,
        Command::Lsalloc(command) => command.run(&client).await,
        Command::Audit(command) => command.run(&client).await,
        Command::Search(command) => command.run(&client).await,
        Command::Exec(command) => return command.run(&client).await,
        Command::Attach(command) => return command.run(&client).await,
        Command::Logs(command) => command.run(&client).await,
        Command::Ps(command) => command.run(&client).await,
        Command::Kill(command) => command.run(&client).await,
        Command::Wait(command) => return command.run(&client).await,
        Command::Forget(command) => command.run(&client).await,
        Command::Job(command) => command.run(&client).await,
        Command::Ticket(command) => command.run(&client).await,
        Command::TicketCreate(command) => command.run(&client).await,
        Command::TicketRegister(command) => command.run(&client).await,
        Command::TicketList(command) => command.run(&client).await,
        Command::TicketGet(command) => command.run(&client).await,
        Command::TicketModify(command) => command.run(&client).await,
        Command::TicketDelete(command) => command.run(&client).await,
        Command::JobCreate(command) => command.run(&client).await,
        Command::JobCommit(command) => command.run(&client).await,
        Command::JobStatus(command) => command.run(&client).await,
        Command::JobWait(command) => command.run(&client).await,
        Command::JobKill(command) => command.run(&client).await,
        Command::JobReap(command) => command.run(&client).await,
        Command::XattrGet(command) => command.run(&client).await,
        Command::XattrList(command) => command.run(&client).await,
        Command::XattrSet(command) => command.run(&client).await,
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

/// Does something with each thing. What the server refuses is told, the others follow, and the whole
/// has failed.
async fn each<T>(
    client: &Client,
    things: &[T],
    mut step: impl AsyncFnMut(&T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut complete = true;
    for thing in things {
        if let Err(failure) = step(thing).await {
            told(client, failure)?;
            complete = false;
        }
    }
    if complete { Ok(()) } else { Err(Failure::Told) }
}

/// Tells of a refusal; anything else stays a failure.
fn told(client: &Client, failure: Failure) -> Result<(), Failure> {
    match failure {
        Failure::Client { error, .. } if error.code().is_some() => {
            output::report_error(&error, Some(client.subject().as_str()));
            Ok(())
        }
        other => Err(other),
    }
}

/// Makes a path of the server from what was typed.
fn remote(bytes: &[u8]) -> Result<VirtualPath, Failure> {
    VirtualPath::from_decoded(bytes)
        .map_err(|code| Failure::Other(format!("{}: {}", bytes.escape_ascii(), code.text())))
}

/// Returns `name` in the directory `above`.
fn inside(above: &VirtualPath, name: &[u8]) -> Result<VirtualPath, Failure> {
    above.join(name).map_err(|code| {
        let name = name.escape_ascii();
        Failure::Other(format!("{above}/{name}: {}", code.text()))
    })
}
