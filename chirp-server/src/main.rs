//! The `chirp-server` program: reads the command line and hands over to the library.

use std::process::ExitCode;

use chirp_server::config::Args;
use chirp_server::server;
use clap::Parser;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are asked for; everything else is a failure to start, which the
            // reference ends with 1.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    match server::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the log may not have started")]
            {
                eprintln!("chirp-server: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}
