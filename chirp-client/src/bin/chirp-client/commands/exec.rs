use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chirp_client::exec::{CmdId, ExecRequest, OnDisconnect, OutputTo, Status, StdinFrom};
use chirp_client::{Client, Code, Error};
use chirp_proto::request::ExecutionName;
use clap::Args;
use tokio::io::AsyncRead;

use super::keyboard::{self, DetachKeys};
use super::session::{self, Input, Outcome};
use super::{Failure, by_job, resume};
use crate::cli::RemotePath;
use crate::{json, output, size, stdin};

/// The exit status where the client, and not the program, failed.
pub(crate) const CLIENT_FAILED: u8 = 125;

/// The exit status where the program may not be run.
const NOT_RUNNABLE: u8 = 126;

/// The exit status where there is no such program.
const NO_PROGRAM: u8 = 127;

/// Runs a program on the server, its output coming as it is written.
///
/// PROGRAM is an absolute path there, a name found through the PATH there, or ./NAME in the
/// directory of --cwd. There is no shell unless you run one. An interrupt (Ctrl-C), SIGTERM or SIGHUP
/// is passed on to the program and its children; the second one kills them, the third ends the client. If
/// the connection is lost another one is made, for as long as the client's -t allows, and the streams go
/// on where they were. If that fails the server ends the program after the same time, unless it has a
/// --cmd-id: then it goes on, and the same command with the same id joins it again.
///
/// On a server that offers no exec but jobs the program becomes a job: without input, limits or --cwd, and
/// with its output at the end.
///
/// With -t the program has a terminal, and yours is its keyboard and screen: Ctrl-C and all other keys are
/// for the program. Ctrl-P Ctrl-Q leaves it running. It is ended when nobody has been attached for an
/// hour, or as --limit orphan says.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest exec -- uname -a
  chirp-client guest exec --cwd /jobs/17 --env LC_ALL=C -- ./run --fast
  chirp-client guest exec --stdin words -- sort -u
  chirp-client guest exec -t -- bash
  tar c src | chirp-client guest exec -i --cwd /src -- tar x
  chirp-client guest exec --json -- nproc | jq -r .results.out
  chirp-client guest exec --timeout 60 --limit memory=1G -- ./solve
  chirp-client guest exec -- sh -c 'cat /proc/*/status | wc -l'

Exit status: the program's own, or 128 plus the number of the signal that ended it; 127 if there is
no such program, 126 if it may not be run, 125 if the client failed.")]
pub(crate) struct Exec {
    /// The working directory, a path of the exported tree.
    #[arg(long, value_name = "DIR", value_parser = RemotePath::parser(), default_value = "/")]
    cwd: RemotePath,
    /// Set a variable of the program's environment; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Send this file of this machine, or - for standard input, to the program's standard input.
    /// Otherwise that is empty, but with -t.
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,
    /// Send standard input: the same as --stdin -. With -t it is what -t does already.
    #[arg(short, long, conflicts_with = "stdin")]
    interactive: bool,
    /// Run the program under a terminal, with this one as its keyboard and screen. With --stdin no
    /// terminal is needed here: what comes from there is typed.
    #[arg(short, long)]
    tty: bool,
    /// The keys that leave a program of -t running: characters and ctrl-LETTERs with commas between, or
    /// nothing for none.
    #[arg(long, value_name = "KEYS", value_parser = DetachKeys::parse, default_value = DetachKeys::DEFAULT)]
    detach_keys: DetachKeys,
    /// A name for this run, unique for you: the same command with it is never run twice.
    #[arg(long, value_name = "ID", value_parser = cmd_id)]
    cmd_id: Option<CmdId>,
    /// End the program after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Limit what the program uses: cpu=SECONDS, memory=SIZE or file=SIZE of each process, files=NUMBER of
    /// open files, processes=NUMBER of processes and threads at once (needs namespaces there),
    /// orphan=SECONDS that it may go on with nobody attached to it, 0 for ever; may be repeated.
    #[arg(long, value_name = "WHAT=VALUE", value_parser = limit)]
    limit: Vec<(Limited, u64)>,
    /// Let the program go on by itself, print its number, and end. `attach` joins it, `wait` waits
    /// for it, `ps` lists it.
    #[arg(short, long, conflicts_with_all = ["stdin", "interactive"])]
    detach: bool,
    /// Show no output, and print at the end how the program ended, what it used, and what it wrote, as
    /// JSON: up to 256 KiB of each stream, `logs` has the rest. With --detach: what the server says of it.
    #[arg(long, conflicts_with = "tty")]
    json: bool,
    /// The program.
    pub(crate) program: OsString,
    /// Its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

impl Exec {
    pub(crate) async fn run(self, client: &Client) -> Result<ExitCode, Failure> {
        let input = self.input()?;
        let request = self.request(client);
        if self.detach {
            return match client.exec_detached(&request).await {
                Err(error @ Error::Unsupported { .. }) => by_job::run(client, &self, error).await,
                Ok(id) if self.json => {
                    let status = client.exec_status(&ExecutionName::Id(id)).await?;
                    json::print(&status).map(|()| ExitCode::SUCCESS)
                }
                Ok(id) => output::write(format!("{id}\n").as_bytes()).map(|()| ExitCode::SUCCESS),
                Err(error) => not_started(client, &self.cwd, error).await,
            };
        }
        let started = match (client.exec(&request).await, &request.cmd_id) {
            // The same request never runs twice.
            (Err(error), Some(_)) => {
                resume::again(client, error, async |next| next.exec(&request).await).await
            }
            (outcome, _) => outcome,
        };
        let execution = match started {
            Ok(execution) => execution,
            Err(error @ Error::Unsupported { .. }) => {
                return by_job::run(client, &self, error).await;
            }
            Err(error) => return not_started(client, &self.cwd, error).await,
        };
        let id = execution.id();
        let name = request.cmd_id.as_ref();
        let name = name.map(|id| ExecutionName::CmdId(id.as_str().into()));
        match session::run(client, execution, name, input, 0).await? {
            Outcome::Ended(status) => {
                if self.json {
                    json::print(&status)?;
                }
                Ok(exit_code(client, &status))
            }
            Outcome::Left => {
                session::tell_left(client, &id.to_string());
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    /// Names what was asked for and a job cannot have.
    pub(super) fn beyond_jobs(&self) -> Option<&'static str> {
        [
            (self.tty, "terminal (-t)"),
            (self.stdin.is_some() || self.interactive, "standard input"),
            (
                self.detach,
                "number for attach (--detach); `job create` starts one by itself",
            ),
            (self.json, "final status of this form (--json)"),
            (
                self.cmd_id.is_some(),
                "name that keeps it from running twice (--cmd-id)",
            ),
            (self.timeout.is_some() || !self.limit.is_empty(), "limits"),
            (
                !self.cwd.0.is_root(),
                "working directory of your choice (--cwd); `job create` binds files",
            ),
        ]
        .into_iter()
        .find_map(|(asked, what)| asked.then_some(what))
    }

    /// Opens what is to go to the program's standard input.
    fn input(&self) -> Result<Input, Failure> {
        let standard = self.interactive.then_some(Path::new("-"));
        match self.stdin.as_deref().or(standard) {
            // What runs by itself has nobody here who types.
            _ if self.detach => Ok(Input::Closed),
            Some(path) if self.stdin.is_some() || !self.tty => Ok(Input::From(open_stdin(path)?)),
            _ if self.tty && keyboard::is_there() => Ok(Input::Typed(self.detach_keys.clone())),
            _ if self.tty => {
                let reason = "standard input is no terminal, as -t needs; leave -t out, or let \
                              --stdin - type what comes from there";
                Err(Failure::Other(reason.to_owned()))
            }
            _ => Ok(Input::Closed),
        }
    }

    fn request(&self, client: &Client) -> ExecRequest {
        use std::os::unix::ffi::OsStringExt;
        let mut request = ExecRequest::new(self.program.clone());
        request.args.clone_from(&self.arguments);
        request.path = OsString::from_vec(self.cwd.0.as_bytes().to_vec());
        let variables = self.env.iter().cloned();
        request.env = variables
            .map(|(key, value)| (key, OsString::from(value)))
            .collect();
        request.cmd_id.clone_from(&self.cmd_id);
        if self.cmd_id.is_none() && !self.detach {
            // For coming back. What nobody comes back to ends, but what may be left on purpose later.
            request.cmd_id = random_id();
            if !self.tty {
                request.limits.orphan_s = Some(client.timeout().as_secs().max(1));
            }
            if request.cmd_id.is_none() {
                request.on_disconnect = OnDisconnect::Kill;
            }
        }
        request.limits.wall_s = self.timeout;
        for (limited, value) in &self.limit {
            let limit = match limited {
                Limited::Cpu => &mut request.limits.cpu_s,
                Limited::Memory => &mut request.limits.memory_bytes,
                Limited::File => &mut request.limits.file_bytes,
                Limited::Files => &mut request.limits.open_files,
                Limited::Processes => &mut request.limits.processes,
                Limited::Orphan => &mut request.limits.orphan_s,
            };
            *limit = Some(*value);
        }
        if self.stdin.is_some() || self.interactive || self.tty {
            request.stdin = StdinFrom::Stream;
        }
        if self.json && !self.detach {
            (request.stdout, request.stderr) = (OutputTo::Capture, OutputTo::Capture);
        }
        if self.tty {
            request.tty = Some(keyboard::size());
            // Without it programs take the terminal for the dullest there is.
            if let (Some(name), false) =
                (std::env::var_os("TERM"), request.env.contains_key("TERM"))
            {
                request.env.insert("TERM".to_owned(), name);
            }
        }
        request
    }
}

/// Opens a file of this machine, or standard input for `-`.
pub(super) fn open_stdin(path: &Path) -> Result<Box<dyn AsyncRead + Unpin>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(stdin::reading(std::io::stdin())));
    }
    let file = std::fs::File::open(path)
        .map_err(|error| Failure::Other(format!("failed to open {}: {error}", path.display())))?;
    Ok(Box::new(stdin::reading(file)))
}

/// Tells why the program did not start, in the exit status too.
async fn not_started(client: &Client, cwd: &RemotePath, error: Error) -> Result<ExitCode, Failure> {
    let code = match error.code() {
        // The same code tells of a missing program and of a missing directory.
        Some(Code::DoesntExist) => match client.stat(&cwd.0).await {
            Err(missing) if missing.code() == Some(Code::DoesntExist) => {
                return Err(missing.into());
            }
            _ => NO_PROGRAM,
        },
        // Out of what this client sends, only a file that is no program is invalid.
        Some(Code::NotAuthorized | Code::InvalidRequest | Code::Busy | Code::IsDirectory) => {
            NOT_RUNNABLE
        }
        _ => CLIENT_FAILED,
    };
    output::report_error(&error, Some(client.subject().as_str()));
    Ok(ExitCode::from(code))
}

pub(super) fn exit_code(client: &Client, status: &Status) -> ExitCode {
    let Some(results) = &status.results else {
        output::message(&format!("{}: the program ended unseen", client.host()));
        return ExitCode::from(CLIENT_FAILED);
    };
    if let Some(limit) = &results.limit {
        output::message(&format!("{}: ended by the limit {limit}", client.host()));
    }
    if !results.survivors.is_empty() {
        let left = &results.survivors;
        output::message(&format!("{}: still running: {left:?}", client.host()));
    }
    let base = if results.finished { 0 } else { 128 };
    let code = u8::try_from(base + results.exit_code_or_signal).unwrap_or(CLIENT_FAILED);
    ExitCode::from(code)
}

/// What a program's use of can be limited.
#[derive(Clone, Copy, Debug)]
enum Limited {
    Cpu,
    Memory,
    File,
    Files,
    Processes,
    Orphan,
}

fn limit(text: &str) -> Result<(Limited, u64), String> {
    let Some((what, value)) = text.split_once('=') else {
        return Err("a limit is WHAT=VALUE".to_owned());
    };
    let number = || value.parse().map_err(|_| "not a number".to_owned());
    match what {
        "cpu" => Ok((Limited::Cpu, number()?)),
        "files" => Ok((Limited::Files, number()?)),
        "processes" => Ok((Limited::Processes, number()?)),
        "orphan" => Ok((Limited::Orphan, number()?)),
        "memory" => Ok((Limited::Memory, size::parse(value)?)),
        "file" => Ok((Limited::File, size::parse(value)?)),
        _ => Err("limits are cpu, memory, file, files, processes and orphan".to_owned()),
    }
}

/// Makes an id that nobody else has; None where the system has no random numbers.
fn random_id() -> Option<CmdId> {
    let random = [getrandom::u64().ok()?, getrandom::u64().ok()?];
    CmdId::new(&format!("client.{:016x}{:016x}", random[0], random[1]))
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a variable is KEY=VALUE".to_owned()),
    }
}

fn cmd_id(text: &str) -> Result<CmdId, String> {
    CmdId::new(text).ok_or_else(|| "an id is 1 to 128 characters of A-Z a-z 0-9 . _ -".to_owned())
}
