//! Measures presence: how many messages the brokers carry, and how soon the host knows what is so.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures the embedded broker against others, with one load program, on loopback.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the embedded broker alone, as the measurements and tests do
    #[command(name = brokers::embedded::COMMAND)]
    Embedded {
        /// Where to listen
        address: SocketAddr,
    },
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Some(Command::Embedded { address }) => brokers::embedded::run(address).await?,
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}
