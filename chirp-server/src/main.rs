//! The `chirp-server` program: reads the command line and hands over to the library.

use std::process::ExitCode;

use chirp_server::config::Args;
use chirp_server::manner::Manner;
use chirp_server::{daemon, server};
use clap::Parser;
use clap::error::ErrorKind;

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the version is asked for, and the log may not have started"
)]
fn main() -> ExitCode {
    let manner = Manner::of(std::env::args_os().next().as_deref());
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            match error.kind() {
                ErrorKind::DisplayVersion => print!("{}", manner.version()),
                _ => drop(error.print()),
            }
            // Whatever is wrong with the command line, the reference ends with 1.
            return match error.use_stderr() {
                true => ExitCode::FAILURE,
                false => manner.after_help(),
            };
        }
    };
    let ended = if args.background && !args.detached {
        daemon::start(manner, args.pid_file.as_deref(), args.log.as_deref())
    } else {
        server::run(args, manner).map(|()| ExitCode::SUCCESS)
    };
    ended.unwrap_or_else(|error| {
        eprintln!("{}", manner.fatal(&error));
        manner.after_fatal()
    })
}
