//! `chirp-client`: files and programs of a Chirp server from the command line.

mod cli;
mod commands;
mod compat;
mod output;
mod stdin;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

fn main() -> ExitCode {
    // By a link of the reference's name it is that tool.
    if let Some(tool) = compat::Tool::of(std::env::args_os().next().as_deref()) {
        return tool.run(std::env::args_os());
    }
    let cli = Cli::parse();
    let failure = commands::failure_code(&cli.command);
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("CHIRP_CLIENT_LOG"))
        .init();
    // One thread carries the connections; files are read and written on others.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(commands::run(cli));
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
        Err(error) => output::report(&error, failure),
    }
}
