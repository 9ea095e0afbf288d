//! `chirp-client`: files and programs of a Chirp server from the command line.

mod cli;
mod colour;
mod commands;
mod compat;
mod generate;
mod json;
mod output;
mod size;
mod stdin;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::Cli;

fn main() -> ExitCode {
    // By a link of the reference's name it is that tool.
    if let Some(tool) = compat::Tool::of(std::env::args_os().next().as_deref()) {
        return tool.run(std::env::args_os());
    }
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if generate::is_asked(&arguments) {
        return match generate::run(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => output::report(&failure, false),
        };
    }
    let cli = Cli::parse_from(arguments);
    colour::choose(cli.color);
    let program = cli.command.as_ref().is_some_and(commands::runs_a_program);
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(shown(cli.debug.as_deref()))
        .init();
    // One thread carries the connections; files are read and written on others.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(settled(commands::run(cli)));
            // A thread may still wait in a read of the terminal: nobody needs what it would bring.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(commands::Failure::Other(format!(
            "failed to start the runtime: {error}"
        ))),
    };
    match result {
        Ok(code) => code,
        Err(error) => output::report(&error, program),
    }
}

/// Returns what is shown of what happens.
fn shown(wish: Option<&str>) -> EnvFilter {
    match wish {
        Some("all") => EnvFilter::new("debug"),
        Some(filter) => EnvFilter::new(filter),
        None => EnvFilter::from_env("CHIRP_CLIENT_LOG"),
    }
}

/// Does the work, and waits until what it began and did not finish on this machine is removed.
async fn settled<T>(work: impl Future<Output = T>) -> T {
    let result = work.await;
    let _in_time = tokio::time::timeout(CLEANING_MAX, chirp_client::transfer::settled()).await;
    result
}

/// The longest that the program waits at its end for files that are being written.
const CLEANING_MAX: Duration = Duration::from_secs(5);
