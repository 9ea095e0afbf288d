use std::path::PathBuf;
use std::process::ExitCode;

use chirp_client::exec::{State, Status};
use chirp_client::{Client, ExecutionName};
use clap::Args;
use rustix::process::Signal;

use super::keyboard::{self, DetachKeys};
use super::session::{self, Input, Outcome};
use super::stat::clock;
use super::{Failure, exec};
use crate::json::{self, Json};
use crate::output;

/// Seconds that the server is asked to wait at a time.
const WAIT_STEP: u64 = 30;

/// Joins a program that runs on the server: shows its output from the beginning, or as much of it as
/// the server still has, and ends as the program does.
///
/// Who was attached before is let go. Signals are passed on, as by exec. A program with a terminal
/// (`exec -t`) has this one for its keyboard and screen; the input of others stays as it is, unless
/// --stdin sends some.
#[derive(Args)]
#[command(after_help = "Examples:
  id=$(chirp-client guest exec --detach --cwd /jobs/17 -- ./run)
  chirp-client guest attach $id
  chirp-client guest attach --from-now backup")]
pub(crate) struct Attach {
    /// Leave out what the program has written so far.
    #[arg(long)]
    from_now: bool,
    /// Send this file of this machine, or - for standard input, to the program's standard input, and
    /// close that behind it.
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,
    /// Only look on: send nothing that is typed to a program with a terminal.
    #[arg(long, conflicts_with = "stdin")]
    no_stdin: bool,
    /// The keys that leave a program with a terminal running: characters and ctrl-LETTERs with commas
    /// between, or nothing for none.
    #[arg(long, value_name = "KEYS", value_parser = DetachKeys::parse, default_value = DetachKeys::DEFAULT)]
    detach_keys: DetachKeys,
    /// The server's number for it, or the --cmd-id it was given.
    #[arg(value_parser = name)]
    id: ExecutionName,
}

/// Lists the programs that were started with exec and are not forgotten: number, state, time of start,
/// exit status and what was run.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest ps
  chirp-client guest ps --json | jq '.[] | select(.state == \"running\") | .id'")]
pub(crate) struct Ps {
    #[command(flatten)]
    json: Json,
}

/// Sends a signal to a program on the server and to its children.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest kill 17
  chirp-client guest kill -s KILL backup")]
pub(crate) struct Kill {
    /// The signal: a name, as in TERM, or a number.
    #[arg(short, long, value_parser = signal, default_value = "TERM")]
    signal: u32,
    /// The server's number for it, or the --cmd-id it was given.
    #[arg(value_parser = name)]
    id: ExecutionName,
}

/// Waits until a program on the server has ended, describes how, as JSON, and ends as it did.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest wait 17 | jq .results.resources.ru_maxrss")]
pub(crate) struct Wait {
    /// The output is JSON either way.
    #[command(flatten)]
    _json: Json,
    /// The server's number for it, or the --cmd-id it was given.
    #[arg(value_parser = name)]
    id: ExecutionName,
}

/// Lets the server forget a program that has ended.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest forget 17")]
pub(crate) struct Forget {
    /// The server's number for it, or the --cmd-id it was given.
    #[arg(value_parser = name)]
    id: ExecutionName,
}

impl Attach {
    pub(crate) async fn run(self, client: &Client) -> Result<ExitCode, Failure> {
        let status = client.exec_status(&self.id).await?;
        let (out, err) = match self.from_now {
            true => (status.out_to, status.err_to),
            false => (status.out_from, status.err_from),
        };
        let missing = status.out_from + status.err_from;
        if missing > 0 && !self.from_now {
            output::message(&format!(
                "{}: the first {missing} bytes of the output are gone",
                client.host()
            ));
        }
        let input = match &self.stdin {
            Some(path) => Input::From(exec::open_stdin(path)?),
            None if self.no_stdin || !has_terminal(&status) || !keyboard::is_there() => {
                Input::Silent
            }
            None => Input::Typed(self.detach_keys),
        };
        let (status, execution) = client.exec_attach(&self.id, out, err).await?;
        let name = Some(self.id.clone());
        match session::run(client, execution, name, input, status.stdin_received).await? {
            Outcome::Ended(status) => Ok(exec::exit_code(client, &status)),
            Outcome::Left => {
                session::tell_left(client, &status.id.to_string());
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Says whether a program was given a terminal.
pub(super) fn has_terminal(status: &Status) -> bool {
    let request = status.request.as_ref();
    request
        .and_then(|sent| sent.get("tty"))
        .is_some_and(|tty| !tty.is_null())
}

impl Ps {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let list = client.exec_list().await?;
        if self.json.wanted {
            return json::print(&list);
        }
        let mut text = b"      ID STATE    STARTED          STATUS CMD-ID\n".to_vec();
        for status in &list {
            let state = match status.state {
                State::Running => "running",
                State::Ended => "ended",
                State::Lost => "lost",
            };
            let ended = match &status.results {
                Some(results) if results.finished => results.exit_code_or_signal.to_string(),
                Some(results) => format!("sig {}", results.exit_code_or_signal),
                None => "-".to_owned(),
            };
            let started = clock::format(status.started as i64, "%Y-%m-%d %H:%M");
            let line = format!("{:8} {state:8} {started:16} {ended:6} ", status.id);
            text.extend_from_slice(line.as_bytes());
            text.append(&mut output::name(status.cmd_id.as_bytes()));
            text.push(b'\n');
        }
        output::write(&text)
    }
}

impl Kill {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        Ok(client.exec_signal(&self.id, self.signal).await?)
    }
}

impl Wait {
    pub(crate) async fn run(self, client: &Client) -> Result<ExitCode, Failure> {
        loop {
            let status = client.exec_wait(&self.id, WAIT_STEP).await?;
            if status.state != State::Running {
                json::print(&status)?;
                return Ok(exec::exit_code(client, &status));
            }
        }
    }
}

impl Forget {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        Ok(client.exec_remove(&self.id).await?)
    }
}

/// Reads `17`, `backup` or `@backup`; the last also for a name of digits.
pub(super) fn name(text: &str) -> Result<ExecutionName, String> {
    ExecutionName::parse(text.as_bytes())
        .or_else(|| ExecutionName::parse(format!("@{text}").as_bytes()))
        .ok_or_else(|| {
            "a program is a number or a --cmd-id; @17 is a --cmd-id of digits".to_owned()
        })
}

/// Reads `TERM`, `SIGTERM`, `term` or `15`.
pub(super) fn signal(text: &str) -> Result<u32, String> {
    const NAMES: [(&str, Signal); 24] = [
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("KILL", Signal::KILL),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("TERM", Signal::TERM),
        ("CONT", Signal::CONT),
        ("STOP", Signal::STOP),
        ("TSTP", Signal::TSTP),
        ("WINCH", Signal::WINCH),
        ("ILL", Signal::ILL),
        ("TRAP", Signal::TRAP),
        ("ABRT", Signal::ABORT),
        ("BUS", Signal::BUS),
        ("FPE", Signal::FPE),
        ("SEGV", Signal::SEGV),
        ("PIPE", Signal::PIPE),
        ("ALRM", Signal::ALARM),
        ("XCPU", Signal::XCPU),
        ("XFSZ", Signal::XFSZ),
        ("TTIN", Signal::TTIN),
        ("TTOU", Signal::TTOU),
        ("SYS", Signal::SYS),
    ];
    if let Ok(number @ 1..=64) = text.parse() {
        return Ok(number);
    }
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known = NAMES.iter().find(|(name, _)| *name == short);
    known
        .and_then(|(_, signal)| u32::try_from(signal.as_raw()).ok())
        .ok_or_else(|| {
            "a signal is TERM, KILL, HUP, INT, USR1 or another, or its number".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_named_by_number_or_by_name() {
        assert_eq!(name("17"), Ok(ExecutionName::Id(17)));
        assert_eq!(name("@17"), Ok(ExecutionName::CmdId("17".to_owned())));
        assert_eq!(name("wu_4"), Ok(ExecutionName::CmdId("wu_4".to_owned())));
        for bad in ["", "@", "a b", "a/b"] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["TERM", "SIGTERM", "sigterm", "15"] {
            assert_eq!(signal(text), Ok(15), "{text}");
        }
        for bad in ["", "0", "65", "-9", "NONE"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
    }
}
