//! The commands by name, with the words they take.

use super::commands::{
    directories, files, jobs, local, matrices, metadata, rights, search, servers, space, tickets,
};
use super::session::Session;
use crate::compat::trouble::Trouble;
use crate::output;

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It succeeded.
    Done,
    /// It did not, and that was said.
    Failed,
    /// The session is to end.
    Quit,
    /// Nobody reads stdout any more.
    PipeClosed,
}

/// A command as the help shows it.
pub(super) struct Entry {
    pub(super) name: &'static str,
    /// The fewest and the most words after the name.
    least: usize,
    most: usize,
    pub(super) usage: &'static str,
    /// Whether there must be a connection.
    connected: bool,
    pub(super) does: Does,
}

/// What a command does; each is explained where it is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    Audit,
    Cat,
    Cd,
    Chmod,
    Close,
    Debug,
    Df,
    Get,
    Getacl,
    Hash,
    Help,
    JobCommit,
    JobCreate,
    JobKill,
    JobReap,
    JobStatus,
    JobWait,
    Lcd,
    Ln,
    Localpath,
    Lpwd,
    Ls,
    Lsalloc,
    MatrixCreate,
    MatrixDelete,
    MatrixList,
    Md5,
    Mkalloc,
    Mkdir,
    Mv,
    Open,
    Put,
    Pwd,
    Quit,
    RemoteDebug,
    Resetacl,
    Rm,
    Rmdir,
    Search,
    Setacl,
    Setrep,
    Stat,
    Thirdput,
    TicketCreate,
    TicketDelete,
    TicketGet,
    TicketList,
    TicketModify,
    TicketRegister,
    Timeout,
    Whoami,
    Whoareyou,
    XattrGet,
    XattrList,
    XattrSet,
}

const ANY: usize = usize::MAX;

const fn entry(
    name: &'static str,
    least: usize,
    most: usize,
    usage: &'static str,
    does: Does,
) -> Entry {
    Entry {
        name,
        least,
        most,
        usage,
        connected: true,
        does,
    }
}

const fn offline(
    name: &'static str,
    least: usize,
    most: usize,
    usage: &'static str,
    does: Does,
) -> Entry {
    let mut entry = entry(name, least, most, usage, does);
    entry.connected = false;
    entry
}

/// All commands, in the order of the reference's help.
#[rustfmt::skip]
pub(super) const TABLE: &[Entry] = &[
    entry("audit", 0, 1, "[-r]", Does::Audit),
    entry("cat", 1, ANY, "<file> [file2] [file3] ...", Does::Cat),
    entry("cd", 1, 1, "<remotedir>", Does::Cd),
    entry("chmod", 2, 2, "<mode> <path>", Does::Chmod),
    entry("close", 0, 0, "", Does::Close),
    offline("debug", 0, 1, "[subsystem]", Does::Debug),
    entry("df", 0, 1, "[-k|-m|-g|-t]", Does::Df),
    offline("exit", 0, 0, "", Does::Quit),
    entry("get", 1, 2, "<remotefile> [localfile]", Does::Get),
    entry("getacl", 0, 1, "[remotepath]", Does::Getacl),
    offline("help", 0, 0, "", Does::Help),
    offline("lcd", 1, 1, "<localdir>", Does::Lcd),
    entry("listacl", 0, 1, "[remotepath]", Does::Getacl),
    entry("localpath", 0, 1, "[remotepath]", Does::Localpath),
    offline("lpwd", 0, 0, "", Does::Lpwd),
    entry("ln", 2, 3, "[-s] <path> <new path>", Does::Ln),
    entry("ls", 0, 2, "[-la] [remotepath]", Does::Ls),
    entry("lsalloc", 0, 1, "[path]", Does::Lsalloc),
    entry("matrix_create", 4, 4, "<path> <width> <height> <nhosts>", Does::MatrixCreate),
    entry("matrix_delete", 1, 1, "<path>", Does::MatrixDelete),
    entry("matrix_list", 1, 1, "<path>", Does::MatrixList),
    entry("hash", 2, 2, "<algorithm> <path>", Does::Hash),
    entry("md5", 1, 1, "<path>", Does::Md5),
    entry("mkalloc", 2, 2, "<path> <size>", Does::Mkalloc),
    entry("mkdir", 1, 2, "[-p] <dir>", Does::Mkdir),
    entry("mv", 2, 2, "<oldname> <newname>", Does::Mv),
    offline("open", 1, 1, "<host>", Does::Open),
    entry("put", 1, 2, "<localfile> [remotefile]", Does::Put),
    entry("pwd", 0, 0, "", Does::Pwd),
    offline("quit", 0, 0, "", Does::Quit),
    entry("remote_debug", 1, 1, "[subsystem]", Does::RemoteDebug),
    entry("resetacl", 2, 2, "<remotepath> <rwldax>", Does::Resetacl),
    entry("rm", 1, 1, "<file>", Does::Rm),
    entry("rmdir", 1, 1, "<dir>", Does::Rmdir),
    entry("search", 2, 3, "[-ims] <directory> <pattern>", Does::Search),
    entry("setacl", 3, 3, "<remotepath> <user> <rwldax>", Does::Setacl),
    entry("setrep", 2, 2, "<path> <nreps>", Does::Setrep),
    entry("stat", 1, 1, "<file>", Does::Stat),
    entry("thirdput", 3, 3, "<file> <3rdhost> <3rdfile>", Does::Thirdput),
    entry("ticket_create", 0, ANY, "[-o[utput] <ticket filename>] [-s[ubject] <subject/user>] [-d[uration] <duration>] [-b[its] <bits>] [[<directory> <acl>] ...]", Does::TicketCreate),
    entry("ticket_delete", 1, 1, "<name>", Does::TicketDelete),
    entry("ticket_get", 1, 1, "<name>", Does::TicketGet),
    entry("ticket_list", 0, 1, "<name>", Does::TicketList),
    entry("ticket_modify", 3, 3, "<name> <directory> <aclmask>", Does::TicketModify),
    entry("ticket_register", 2, 3, "<name> [<subject>] <duration>", Does::TicketRegister),
    offline("timeout", 1, 1, "<seconds>", Does::Timeout),
    entry("whoami", 0, 0, "", Does::Whoami),
    entry("whoareyou", 1, 1, "<hostname>", Does::Whoareyou),
    entry("xattr_get", 2, 2, "<file> <attribute>", Does::XattrGet),
    entry("xattr_list", 1, 1, "<file>", Does::XattrList),
    entry("xattr_set", 2, 3, "<file> <attribute> [value]", Does::XattrSet),
    entry("job_create", 1, 1, "<json>", Does::JobCreate),
    entry("job_commit", 1, 1, "<id>", Does::JobCommit),
    entry("job_kill", 1, 1, "<id>", Does::JobKill),
    entry("job_status", 1, 1, "<id>", Does::JobStatus),
    entry("job_wait", 1, 2, "<id> [timeout]", Does::JobWait),
    entry("job_reap", 1, 1, "<json>", Does::JobReap),
];

/// Carries out a command: a name and its words.
pub(super) async fn run(session: &mut Session, command: &[Vec<u8>]) -> Outcome {
    let Some((name, words)) = command.split_first() else {
        return Outcome::Done;
    };
    let Some(entry) = TABLE.iter().find(|entry| entry.name.as_bytes() == name) else {
        let name = String::from_utf8_lossy(name);
        return print_failed(&format!("unknown command: {name}  (try 'help')\n"));
    };
    if entry.connected && session.client().is_none() {
        return print_failed("not connected\n");
    }
    if !(entry.least..=entry.most).contains(&words.len()) {
        return print_failed(&usage(entry));
    }
    if entry.does == Does::Quit {
        return Outcome::Quit;
    }
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    match carry_out(session, entry.does, &words).await {
        Ok(()) => Outcome::Done,
        Err(Trouble::Usage) => print_failed(&usage(entry)),
        Err(Trouble::Told) => Outcome::Failed,
        Err(Trouble::PipeClosed) => Outcome::PipeClosed,
        Err(trouble) => {
            trouble.tell(&format!("couldn't {}", entry.name));
            Outcome::Failed
        }
    }
}

fn usage(entry: &Entry) -> String {
    format!("use: {} {}\n", entry.name, entry.usage)
}

/// Prints why a command was not even tried: on stdout, as the reference does.
fn print_failed(text: &str) -> Outcome {
    match output::write(text.as_bytes()) {
        Ok(()) => Outcome::Failed,
        Err(_) => Outcome::PipeClosed,
    }
}

async fn carry_out(session: &mut Session, does: Does, words: &[&[u8]]) -> Result<(), Trouble> {
    match does {
        Does::Close => local::close(session),
        Does::Debug => return local::debug(words),
        Does::Help => return local::help(),
        Does::Lcd => return local::lcd(words),
        Does::Lpwd => return local::lpwd(),
        Does::Open => return local::open(session, words).await,
        Does::Timeout => local::timeout(session, words)?,
        // Ends the session before it comes here.
        Does::Quit => {}
        connected => return talk(session, connected, words).await,
    }
    Ok(())
}

/// Carries out what needs a connection.
async fn talk(session: &mut Session, does: Does, words: &[&[u8]]) -> Result<(), Trouble> {
    let Some(client) = session.client().cloned() else {
        return Err(Trouble::Told);
    };
    let client = &client;
    match does {
        Does::Cd => directories::cd(session, client, words).await,
        Does::Pwd => directories::pwd(session),
        Does::Ls => directories::ls(session, client, words).await,
        Does::Mkdir => directories::mkdir(session, client, words).await,
        Does::Rmdir => directories::rmdir(session, client, words).await,
        Does::Rm => directories::rm(session, client, words).await,
        Does::Mv => directories::mv(session, client, words).await,
        Does::Ln => directories::ln(session, client, words).await,
        Does::Cat => files::cat(session, client, words).await,
        Does::Get => files::get(session, client, words).await,
        Does::Put => files::put(session, client, words).await,
        Does::Hash => files::hash(session, client, words).await,
        Does::Md5 => files::md5(session, client, words).await,
        Does::Stat => metadata::stat(session, client, words).await,
        Does::Chmod => metadata::chmod(session, client, words).await,
        Does::Setrep => metadata::setrep(session, client, words).await,
        Does::XattrGet => metadata::xattr_get(session, client, words).await,
        Does::XattrList => metadata::xattr_list(session, client, words).await,
        Does::XattrSet => metadata::xattr_set(session, client, words).await,
        Does::Getacl => rights::getacl(session, client, words).await,
        Does::Setacl => rights::setacl(session, client, words).await,
        Does::Resetacl => rights::resetacl(session, client, words).await,
        Does::Localpath => servers::localpath(session, client, words).await,
        Does::Whoami => servers::whoami(client).await,
        Does::Whoareyou => servers::whoareyou(client, words).await,
        Does::Thirdput => servers::thirdput(session, client, words).await,
        Does::RemoteDebug => servers::remote_debug(client, words).await,
        Does::Df => space::df(client, words).await,
        Does::Audit => space::audit(client, words).await,
        Does::Mkalloc => space::mkalloc(session, client, words).await,
        Does::Lsalloc => space::lsalloc(session, client, words).await,
        Does::Search => search::search(session, client, words).await,
        Does::TicketCreate => tickets::create(session, client, words).await,
        Does::TicketDelete => tickets::delete(client, words).await,
        Does::TicketGet => tickets::get(client, words).await,
        Does::TicketList => tickets::list(client, words).await,
        Does::TicketModify => tickets::modify(session, client, words).await,
        Does::TicketRegister => tickets::register(client, words).await,
        Does::MatrixCreate => matrices::create(session, client, words).await,
        Does::MatrixDelete => matrices::delete(session, client, words).await,
        Does::MatrixList => matrices::list(session, client, words).await,
        Does::JobCreate => jobs::create(client, words).await,
        Does::JobCommit => jobs::commit(client, words).await,
        Does::JobKill => jobs::kill(client, words).await,
        Does::JobStatus => jobs::status(client, words).await,
        Does::JobWait => jobs::wait(client, words).await,
        Does::JobReap => jobs::reap(client, words).await,
        Does::Close
        | Does::Debug
        | Does::Help
        | Does::Lcd
        | Does::Lpwd
        | Does::Open
        | Does::Quit
        | Does::Timeout => Err(Trouble::invalid()),
    }
}
