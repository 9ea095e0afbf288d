//! Why a command fails, and how a tool ends.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use chirp_client::transfer::Incomplete;
use chirp_client::{Code, Error};
use jiff::Zoned;

use super::text;
use crate::commands::Failure;

/// Why a command fails.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The library says it.
    Client(Box<Error>),
    /// This machine's reason.
    Local(io::Error),
    /// In words that stand after `couldn't COMMAND: `.
    Words(String),
    /// It takes other words than these.
    Usage,
    /// It was said already.
    Told,
    /// Nobody reads stdout any more.
    PipeClosed,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            Error::Local { source, doing, .. }
                if source.kind() == io::ErrorKind::BrokenPipe && doing == "write" =>
            {
                Self::PipeClosed
            }
            error => Self::Client(Box::new(error)),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Local(error)
    }
}

impl From<Code> for Trouble {
    fn from(code: Code) -> Self {
        Self::Words(text::errno(code.errno()))
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Client { error, .. } => (*error).into(),
            Failure::PipeClosed => Self::PipeClosed,
            // The reference leaves no word of a signal either.
            Failure::Told | Failure::Signal(_) => Self::Told,
            Failure::Other(words) => Self::Words(words),
        }
    }
}

impl Trouble {
    /// The system's words for an argument that makes no sense.
    pub(super) fn invalid() -> Self {
        Code::InvalidRequest.into()
    }

    /// Returns the reason in the reference's words where it has some.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Client(error) => reason(error),
            Self::Local(error) => text::reason(error),
            Self::Words(words) => words.clone(),
            Self::Usage | Self::Told | Self::PipeClosed => String::new(),
        }
    }

    /// Says on stderr why `what` failed; on a terminal also why a login failed.
    pub(super) fn tell(&self, what: &str) {
        if let Self::Client(error) = self
            && let Error::Incomplete(incomplete) = &**error
        {
            tell_all(incomplete);
        }
        say(&format!("{what}: {}", self.reason()));
        if let Self::Client(error) = self
            && matches!(**error, Error::Login { .. })
            && io::stderr().is_terminal()
        {
            say(&format!("({error})"));
        }
    }
}

/// Names each entry that was not copied, where it was more than one.
fn tell_all(incomplete: &Incomplete) {
    if incomplete.failed < 2 {
        return;
    }
    for failure in &incomplete.failures {
        say(&format!("{}: {}", failure.path, reason(&failure.error)));
    }
    let kept = incomplete.failures.len() as u64;
    if incomplete.failed > kept {
        say(&format!("and {} more", incomplete.failed - kept));
    }
}

fn reason(error: &Error) -> String {
    match error {
        Error::Refused { code, message, .. } => {
            let words = text::errno(code.errno());
            match message {
                Some(message) => format!("{words} ({message})"),
                None => words,
            }
        }
        Error::Login { .. } => text::errno(Code::NotAuthorized.errno()),
        Error::Connect { source, .. } | Error::Local { source, .. } => text::reason(source),
        Error::Incomplete(incomplete) => match incomplete.failures.first() {
            Some(first) => reason(&first.error),
            None => incomplete.to_string(),
        },
        other => other.to_string(),
    }
}

/// Writes a line to stderr.
pub(super) fn say(line: &str) {
    // Where stderr is gone there is nobody to tell.
    let _nobody = writeln!(io::stderr().lock(), "{line}");
}

/// How a tool ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// All went well.
    Success,
    /// Something was refused, and said.
    Failure,
    /// Nobody reads stdout any more.
    PipeClosed,
    /// The options make no sense; said in the form of the reference.
    Fatal,
    /// A signal of this number ended it.
    Signal(u8),
}

/// The status of a process that SIGPIPE ended, as a shell tells it.
const PIPE_CLOSED: u8 = 128 + 13;

/// The status of a process that SIGTERM ended: how the reference leaves when its options are wrong.
const TERMINATED: u8 = 128 + 15;

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Success => Self::SUCCESS,
            Ending::Failure => Self::FAILURE,
            Ending::PipeClosed => Self::from(PIPE_CLOSED),
            Ending::Fatal => Self::from(TERMINATED),
            Ending::Signal(number) => Self::from(128 + number),
        }
    }
}

/// Ends a tool whose options make no sense, with a line in the reference's form.
pub(super) fn fatal(reason: &str) -> ExitCode {
    say_fatal(reason);
    Ending::Fatal.into()
}

/// Writes the line of [`fatal`].
pub(super) fn say_fatal(reason: &str) {
    let now = Zoned::now();
    let (date, hundredths) = (now.strftime("%Y/%m/%d %H:%M:%S"), now.millisecond() / 10);
    let program = std::env::args_os().next().unwrap_or_default();
    let program = std::path::Path::new(&program)
        .file_name()
        .unwrap_or_default();
    let (program, pid) = (program.display(), std::process::id());
    say(&format!(
        "{date}.{hundredths:02} {program}[{pid}] fatal: {reason}"
    ));
}
