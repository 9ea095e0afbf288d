//! The reference's tools under their own names (`chirp-protocol.md`, part 12): a link to this program
//! that is called `chirp`, `chirp_get`, `chirp_put`, `chirp_status` or `chirp_stream_files` takes that
//! tool's options and words, prints what it prints and ends as it ends.
//!
//! What people read is ours where it helps them more: the help, the reasons behind a refusal (only on
//! a terminal), and word of what is being waited for.

mod access;
mod chirp;
mod connect;
mod get;
mod put;
mod status;
mod stream_files;
mod text;
mod trouble;
mod upload;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use chirp_client::{Client, Method};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use access::{Access, Logged};
use trouble::Ending;

/// A tool of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    Chirp,
    Get,
    Put,
    Status,
    StreamFiles,
}

impl Tool {
    /// Decides by the name that the program was started by, which may be a path.
    pub(crate) fn of(program: Option<&OsStr>) -> Option<Self> {
        let name = program.and_then(|program| Path::new(program).file_name())?;
        match name.to_str()? {
            "chirp" => Some(Self::Chirp),
            "chirp_get" => Some(Self::Get),
            "chirp_put" => Some(Self::Put),
            "chirp_status" => Some(Self::Status),
            "chirp_stream_files" => Some(Self::StreamFiles),
            _ => None,
        }
    }

    /// Does what the tool does.
    pub(crate) fn run(self, arguments: impl Iterator<Item = OsString>) -> ExitCode {
        match self {
            Self::Chirp => with(arguments, chirp::run),
            Self::Get => with(arguments, get::run),
            Self::Put => with(arguments, put::run),
            Self::Status => with(arguments, status::run),
            Self::StreamFiles => with(arguments, stream_files::run),
        }
    }
}

/// Carries out commands of the reference's `chirp` that come on standard input, as `chirp-client` does
/// where it is given none.
pub(crate) async fn session(
    methods: &[Method],
    tickets: Option<OsString>,
    client: Client,
) -> ExitCode {
    let access = Access::new(methods, tickets, client.timeout());
    let host = client.host().to_owned();
    let ending = unless_ended(chirp::session(access, &host, client)).await;
    ending.into()
}

/// Does the work until it is done or a signal ends it. Work that is dropped removes what it has not
/// finished here, which a process that the signal kills would not.
async fn unless_ended(work: impl Future<Output = Ending>) -> Ending {
    let signals = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ]
    .map(signal);
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = signals else {
        // Then they kill, as before.
        return work.await;
    };
    tokio::select! {
        ending = work => ending,
        _ = interrupt.recv() => Ending::Signal(2),
        _ = terminate.recv() => Ending::Signal(15),
        _ = hangup.recv() => Ending::Signal(1),
    }
}

/// What `-v` prints after the name. The reference's first line has this form.
const VERSION: &str = concat!(
    "version ",
    env!("CARGO_PKG_VERSION"),
    " (Chirp protocol 2, as cctools 8.0.0)"
);

/// Prints a tool's help.
fn help(mut command: clap::Command, ending: Ending) -> Ending {
    // Where there is nobody to tell there is nothing to do about it.
    let _nobody = command.print_help();
    ending
}

/// Reads the command line, and works on a runtime of one thread.
fn with<T: Parser + Logged>(
    arguments: impl Iterator<Item = OsString>,
    work: impl AsyncFnOnce(T) -> Ending,
) -> ExitCode {
    let options = match T::try_parse_from(arguments) {
        Ok(options) => options,
        Err(error) => {
            // Where there is nobody to tell there is nothing to do about it.
            let _nobody = error.print();
            return match error.exit_code() {
                0 => ExitCode::from(T::AFTER_HELP),
                _ => ExitCode::FAILURE,
            };
        }
    };
    if let Err(reason) = options.log().start() {
        return trouble::fatal(&reason);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let ending = runtime.block_on(crate::settled(unless_ended(work(options))));
            // A thread may still wait in a read of the terminal: nobody needs what it would bring.
            runtime.shutdown_background();
            ending.into()
        }
        Err(error) => trouble::fatal(&format!("could not start: {}", text::reason(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides() {
        let of = |name: &str| Tool::of(Some(OsStr::new(name)));
        assert_eq!(of("/usr/bin/chirp"), Some(Tool::Chirp));
        assert_eq!(of("chirp_get"), Some(Tool::Get));
        assert_eq!(of("./chirp_put"), Some(Tool::Put));
        for own in ["chirp-client", "chirp/other", "chirp_server", ""] {
            assert_eq!(of(own), None, "{own}");
        }
        assert_eq!(Tool::of(None), None);
    }
}
