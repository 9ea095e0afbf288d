//! `host-agent`: finds guests by their beacons, pushes job files into them, runs programs there with their
//! output streamed back, and pulls the results.
//!
//! `serve` is the agent: an embedded STOMP broker, the registry of guests, and an HTTP API on a Unix
//! socket. The other commands talk to a running agent through that API.
//!
//! * `config`, `error`: settings and errors
//! * `agent`: the registry's owner, connect-back checks, programs run for callers
//! * `api`: both sides of the HTTP API
//! * `pattern`: which guests a command is for
//! * `guest`: Chirp sessions with guests
//! * `commands`: one file for each command; `demo`: the main job from end to end

mod agent;
mod api;
mod commands;
mod config;
mod demo;
mod error;
mod guest;
mod output;
mod pattern;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = commands::Cli::parse();
    start_log(cli.command.log_default());
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("host-agent: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(commands::run(cli.command));
    // A blocking call that still runs must not hold up the end.
    runtime.shutdown_background();
    code
}

/// Sends the log to standard error. `HOST_AGENT_LOG` sets levels, for example `info,beacon=debug`.
fn start_log(default: &str) {
    let filter =
        EnvFilter::try_from_env("HOST_AGENT_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}
