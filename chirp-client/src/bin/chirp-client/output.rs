//! All that is printed: data to stdout, messages and progress to stderr.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use chirp_client::transfer::Summary;
use chirp_client::{Code, Error};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::colour;
use crate::commands::{Failure, exec};

/// The status of a program that a closed pipe ended: as shells have it for SIGPIPE.
const PIPE_CLOSED: u8 = 128 + 13;

/// The exit status where the server refused something, or some of it was not done.
const FAILED: u8 = 1;

/// The exit status where there is no connection, so that it may be tried again later.
const NO_CONNECTION: u8 = 3;

/// Bytes of output that wait to be written together.
const PIECE: usize = 64 * 1024;

/// Output that comes in small parts and is written in large ones.
#[derive(Default)]
pub(crate) struct Pieces(Vec<u8>);

impl Pieces {
    /// Adds a part.
    pub(crate) fn push(&mut self, part: &[u8]) -> Result<(), Failure> {
        self.0.extend_from_slice(part);
        if self.0.len() > PIECE {
            write(&std::mem::take(&mut self.0))?;
        }
        Ok(())
    }

    /// Writes what is left.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        write(&self.0)
    }
}

/// Writes to stdout at once; a closed pipe is a failure that ends the program quietly.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::PipeClosed,
            _ => Failure::Other(format!("failed to write to stdout: {error}")),
        })
}

/// Returns a name as it may be printed: on a terminal without the control characters that a
/// stranger put into it, elsewhere byte for byte.
pub(crate) fn name(bytes: &[u8]) -> Vec<u8> {
    if io::stdout().is_terminal() {
        printable(bytes)
    } else {
        bytes.to_vec()
    }
}

/// Returns a name without the control characters that a stranger put into it.
pub(crate) fn printable(bytes: &[u8]) -> Vec<u8> {
    let shown = String::from_utf8_lossy(bytes);
    let shown: String = shown
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    shown.into_bytes()
}

/// Writes a message to stderr.
pub(crate) fn message(text: &str) {
    // Where stderr is gone there is nobody to tell.
    let _nobody = writeln!(io::stderr().lock(), "{} {text}", colour::program());
}

/// Tells why the client fails and returns its exit status; `program`: where a program's exit status
/// is expected.
pub(crate) fn report(failure: &Failure, program: bool) -> ExitCode {
    let code = match failure {
        Failure::PipeClosed => return ExitCode::from(PIPE_CLOSED),
        Failure::Signal(number) => return ExitCode::from(128 + number),
        Failure::Told => FAILED,
        Failure::Other(text) => {
            message(text);
            FAILED
        }
        Failure::Client { error, subject } => {
            if let Error::Local { source, doing, .. } = &**error
                && source.kind() == io::ErrorKind::BrokenPipe
                && *doing == "write"
            {
                return ExitCode::from(PIPE_CLOSED);
            }
            report_error(error, subject.as_deref());
            match **error {
                Error::Connect { .. }
                | Error::Login { .. }
                | Error::Lost { .. }
                | Error::Uncertain { .. }
                | Error::Timeout { .. } => NO_CONNECTION,
                _ => FAILED,
            }
        }
    };
    ExitCode::from(if program { exec::CLIENT_FAILED } else { code })
}

/// Tells of an error, and of what may help.
pub(crate) fn report_error(error: &Error, subject: Option<&str>) {
    if let Error::Incomplete(incomplete) = error {
        for failure in &incomplete.failures {
            message(&format!("{}: {}", failure.path, told(&failure.error)));
        }
        let kept = incomplete.failures.len() as u64;
        if incomplete.failed > kept {
            message(&format!("and {} more", incomplete.failed - kept));
        }
        let files = incomplete.copied.files;
        message(&format!(
            "{} entries were not copied; {files} files were",
            incomplete.failed
        ));
        return;
    }
    message(&told(error));
    if let Some(remedy) = remedy(error, subject) {
        message(&remedy);
    }
}

/// Puts an error into words that say on which side it is: the server's name, or this machine.
fn told(error: &Error) -> String {
    match error {
        Error::Local { .. } => format!("this machine: {error}"),
        other => other.to_string(),
    }
}

/// Says what may help.
fn remedy(error: &Error, subject: Option<&str>) -> Option<String> {
    let words = match error {
        Error::Connect { source, .. } => match source.kind() {
            io::ErrorKind::ConnectionRefused => {
                "nothing listens there: start a server, or name its port as HOST:PORT"
            }
            io::ErrorKind::PermissionDenied => {
                "the socket's file does not let you in: ask who runs the server"
            }
            io::ErrorKind::NotFound => "there is no such socket: is the server started?",
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                "there is no way to that address: is the guest up, and its network?"
            }
            io::ErrorKind::TimedOut => "nobody answered: is the guest up, or a firewall between?",
            _ => return None,
        },
        Error::Login { .. } => "name the methods to try with -a, or a ticket with -i",
        Error::Refused {
            code: Code::NotAuthorized,
            message: None,
            ..
        } => {
            return subject.map(|subject| {
                format!(
                    "you are {subject} there; `getacl` of the directory shows who has which rights"
                )
            });
        }
        Error::Refused { code, .. } => match code {
            Code::NoSpace => "`df` and `lsalloc` show the space there, `du` what takes it",
            Code::NotEmpty => "`rm` removes a directory with all that is in it",
            _ => return None,
        },
        Error::Uncertain { .. } => "look before you do it again",
        Error::Timeout { .. } => "-t allows more time",
        Error::Local { source, .. } => match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room on this machine, or name another place there"
            }
            _ => return None,
        },
        _ => return None,
    };
    Some(words.to_owned())
}

/// The line of a copy of which nobody knows how much is left.
const UNDER_WAY: &str = "{spinner} {binary_bytes} {binary_bytes_per_sec} {msg} {elapsed}";

/// The line of a copy of which it is known how much it will be.
const COUNTED: &str = "{bar:20} {percent}% {binary_bytes} of {binary_total_bytes} {binary_bytes_per_sec} {msg}, {eta} left";

fn files(count: u64) -> String {
    format!("{count} {}", if count == 1 { "file" } else { "files" })
}

/// Progress on stderr where that is a terminal.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// Begins to show a transfer.
    pub(crate) fn start() -> Self {
        if !io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template(UNDER_WAY) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(Some(bar))
    }

    /// Returns what a transfer calls after every step.
    pub(crate) fn callback(&self) -> Option<std::sync::Arc<dyn Fn(Summary) + Send + Sync>> {
        let bar = self.0.clone()?;
        Some(std::sync::Arc::new(move |done: Summary| {
            if done.total_files > 0 && bar.length() != Some(done.total_bytes) {
                if let Ok(style) = ProgressStyle::with_template(COUNTED) {
                    bar.set_style(style);
                }
                bar.set_length(done.total_bytes);
            }
            bar.set_position(done.bytes);
            bar.set_message(match done.total_files {
                0 => files(done.files),
                total => format!("{} of {}", done.files + done.skipped, files(total)),
            });
        }))
    }

    /// Takes the line away again and says in its place what was done.
    pub(crate) fn finish(&self, done: Option<Summary>, verb: &str) {
        let Some(bar) = &self.0 else { return };
        let elapsed = bar.elapsed();
        bar.finish_and_clear();
        if let Some(done) = done {
            let rate = done.bytes as f64 / elapsed.as_secs_f64().max(1e-6);
            message(&format!(
                "{}, {} {verb} in {:.2}s ({}/s)",
                files(done.files),
                bytesize::ByteSize(done.bytes),
                elapsed.as_secs_f64(),
                bytesize::ByteSize(rate as u64),
            ));
        }
    }
}
