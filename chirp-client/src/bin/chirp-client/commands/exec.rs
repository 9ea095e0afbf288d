use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chirp_client::exec::{
    CmdId, Control, Ending, ExecRequest, Execution, OnDisconnect, Status, StdinFrom,
};
use chirp_client::{Client, Code, Error};
use chirp_proto::request::ExecutionName;
use clap::Args;
use tokio::io::AsyncRead;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Failure;
use super::resume::{self, Counted, Replay};
use crate::cli::RemotePath;
use crate::{output, size, stdin};

/// The exit status where the client, and not the program, failed.
pub(crate) const CLIENT_FAILED: u8 = 125;

/// The exit status where the program may not be run.
const NOT_RUNNABLE: u8 = 126;

/// The exit status where there is no such program.
const NO_PROGRAM: u8 = 127;

/// The number of SIGKILL.
const KILL: u32 = 9;

/// Signals that are passed on before the client gives up by itself.
const SIGNALS_PASSED: usize = 3;

/// Runs a program on the server, its output coming as it is written.
///
/// PROGRAM is an absolute path there, a name found through the PATH there, or ./NAME in the
/// directory of --cwd. There is no shell unless you run one. Interrupts (Ctrl-C), SIGTERM and SIGHUP
/// are passed on to the program and its children; the fourth one kills it and ends the client. If the
/// connection is lost another one is made, for as long as -t allows, and the streams go on where they
/// were. If that fails the server ends the program after the same time, unless it has a --cmd-id: then
/// it goes on, and the same command with the same id joins it again.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest exec -- uname -a
  chirp-client guest exec --cwd /jobs/17 --env LC_ALL=C -- ./run --fast
  chirp-client guest exec --stdin words -- sort -u
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
    /// Otherwise that is empty.
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,
    /// A name for this run, unique for you: the same command with it is never run twice.
    #[arg(long, value_name = "ID", value_parser = cmd_id)]
    cmd_id: Option<CmdId>,
    /// End the program after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Limit what the program uses: cpu=SECONDS, memory=SIZE or file=SIZE of each process, files=NUMBER of
    /// open files; may be repeated.
    #[arg(long, value_name = "WHAT=VALUE", value_parser = limit)]
    limit: Vec<(Limited, u64)>,
    /// Let the program go on by itself, print its number, and end. `attach` joins it, `wait` waits
    /// for it, `ps` lists it.
    #[arg(short, long, conflicts_with = "stdin")]
    detach: bool,
    /// The program.
    pub(crate) program: OsString,
    /// Its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

impl Exec {
    pub(crate) async fn run(self, client: &Client) -> Result<ExitCode, Failure> {
        let input = match &self.stdin {
            Some(path) => Some(Replay::new(open_stdin(path)?)),
            None => None,
        };
        let request = self.request(client);
        if self.detach {
            return match client.exec_detached(&request).await {
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
        let name = request.cmd_id.as_ref();
        let name = name.map(|id| ExecutionName::CmdId(id.as_str().into()));
        match started {
            Ok(execution) => stream(client, execution, name, input).await,
            Err(error) => not_started(client, &self.cwd, error).await,
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
            // For coming back. What nobody comes back to ends.
            request.cmd_id = random_id();
            request.limits.orphan_s = Some(client.timeout().as_secs().max(1));
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
            };
            *limit = Some(*value);
        }
        if self.stdin.is_some() {
            request.stdin = StdinFrom::Stream;
        }
        request
    }
}

/// Shows a program's output until it ends, and passes input and signals on; on further connections
/// where one is lost and `name` tells how to find the program again.
pub(super) async fn stream(
    client: &Client,
    mut execution: Execution,
    name: Option<ExecutionName>,
    mut input: Option<Replay>,
) -> Result<ExitCode, Failure> {
    let (passed_on, mut control) = mpsc::channel(SIGNALS_PASSED);
    let impatience = pass_signals(passed_on)?;
    let mut out = Counted::new(tokio::io::stdout());
    let mut err = Counted::new(tokio::io::stderr());
    let begun = execution.begun();
    let known = name.as_ref();
    let session = async {
        loop {
            let ran = execution.run(input.as_mut(), &mut out, &mut err, &mut control);
            let (error, name, begun) = match (ran.await, known, begun.get()) {
                (Err(error), Some(name), Some(begun)) => (error, name, begun),
                (outcome, _, _) => return outcome.map_err(Failure::from),
            };
            let (out, err) = (begun.out + out.count, begun.err + err.count);
            let join = async |next: &Client| next.exec_attach(name, out, err).await;
            let (status, joined) = resume::again(client, error, join).await?;
            let received = status.stdin_received;
            let from = match &mut input {
                Some(input) => input.restart(received).ok_or_else(|| {
                    let reason =
                        "more standard input was lost with the connection than can be sent again";
                    Failure::Other(format!("{}: {reason}", client.host()))
                })?,
                None => received,
            };
            execution = joined.with_stdin_from(from);
        }
    };
    let ending = tokio::select! {
        ending = session => ending?,
        _ = impatience => {
            if let (Some(name), Some(Ok(next))) = (&name, client.connect_another().await) {
                // Else the server ends it, because nobody comes back.
                let _ = next.exec_signal(name, KILL).await;
            }
            let reason = "given up; the server ends the program";
            return Err(Failure::Other(format!("{}: {reason}", client.host())));
        }
    };
    match ending {
        Ending::Ended(status) => Ok(exit_code(client, &status)),
        Ending::Detached => {
            let reason = "another client took the program over";
            Err(Failure::Other(format!("{}: {reason}", client.host())))
        }
    }
}

fn open_stdin(path: &Path) -> Result<Box<dyn AsyncRead + Unpin>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(stdin::reading(std::io::stdin())));
    }
    let file = std::fs::File::open(path)
        .map_err(|error| Failure::Other(format!("failed to open {}: {error}", path.display())))?;
    Ok(Box::new(stdin::reading(file)))
}

/// Passes signals on; the result fires at the one after the last that is passed.
fn pass_signals(
    passed_on: mpsc::Sender<Control>,
) -> Result<tokio::sync::oneshot::Receiver<()>, Failure> {
    let failed = |error| Failure::Other(format!("failed to catch signals: {error}"));
    let mut interrupts = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangups = signal(SignalKind::hangup()).map_err(failed)?;
    let (give_up, given_up) = tokio::sync::oneshot::channel();
    // It ends with the runtime, and so with the command.
    tokio::spawn(async move {
        for _ in 0..SIGNALS_PASSED {
            let kind = tokio::select! {
                _ = interrupts.recv() => SignalKind::interrupt(),
                _ = terminations.recv() => SignalKind::terminate(),
                _ = hangups.recv() => SignalKind::hangup(),
            };
            let _ended = passed_on.send(Control::Signal(kind.as_raw_value())).await;
        }
        tokio::select! {
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
            _ = hangups.recv() => {}
        }
        let _ended = give_up.send(());
    });
    Ok(given_up)
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
}

fn limit(text: &str) -> Result<(Limited, u64), String> {
    let Some((what, value)) = text.split_once('=') else {
        return Err("a limit is WHAT=VALUE".to_owned());
    };
    let number = || value.parse().map_err(|_| "not a number".to_owned());
    match what {
        "cpu" => Ok((Limited::Cpu, number()?)),
        "files" => Ok((Limited::Files, number()?)),
        "memory" => Ok((Limited::Memory, size::parse(value)?)),
        "file" => Ok((Limited::File, size::parse(value)?)),
        _ => Err("limits are cpu, memory, file and files".to_owned()),
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
