//! `host-agent serve`: the agent.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::agent::service;
use crate::api::socket;
use crate::config::Config;

/// Runs the agent: hears guests, and answers the other commands.
///
/// It runs until SIGTERM or SIGINT: an embedded STOMP broker that guests announce themselves to,
/// the registry of guests, and an HTTP API on a Unix socket for the other commands.
///
/// The log goes to standard error; HOST_AGENT_LOG=debug shows more. Each setting SECTION.KEY can also be
/// given as HOST_AGENT_SECTION_KEY in the environment, which overrides the file.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The settings, an INI file.
    #[arg(long, value_name = "FILE", env = "HOST_AGENT_CONFIG")]
    config: Option<PathBuf>,
    /// The API's socket; overrides Host.api_socket.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  host-agent serve
  host-agent serve --config host-agent.ini

  # host-agent.ini, for guests on a host-only network:
  [EmbeddedBroker]
  listen_addr = 192.168.56.1
  [Host]
  vm_gc_grace = 30

Exit codes: 0 stopped by a signal; 1 the agent cannot run; 2 the command line is wrong";

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = Config::load(arguments.config.as_deref())?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let socket = socket::path(arguments.socket.or_else(|| config.api_socket.clone()))?;
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = token.clone();
    let signals = tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    let served = service::serve(config, socket, token).await;
    signals.abort();
    served.map(|()| ExitCode::SUCCESS)
}
