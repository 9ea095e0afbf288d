//! The broker of the `beacon` crate, in a process of its own.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use beacon::BrokerConfig;
use beacon::broker::{Role, User};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::broker::{Processes, agent_account, guest_account, log};
use crate::process::Process;

/// The program that [`run`]s the broker, and the argument that makes it.
pub const PROGRAM: &str = "presence-bench";
/// See [`PROGRAM`].
pub const COMMAND: &str = "embedded-broker";

pub(crate) fn start(directory: &Path, address: SocketAddr) -> Result<Processes> {
    let mut command = Command::new(program()?);
    command
        .args([COMMAND, &address.to_string()])
        .stdout(log(directory)?)
        .stderr(log(directory)?);
    Ok(Processes {
        main: Process::start(&mut command)?,
        helper: None,
    })
}

/// Returns the program: this one, or the one that cargo puts beside a test.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let directory = own.parent().context("this program has no directory")?;
    let directory = match directory.file_name() {
        Some(name) if name == OsStr::new("deps") => directory.parent().unwrap_or(directory),
        _ => directory,
    };
    let program = directory.join(PROGRAM);
    anyhow::ensure!(
        program.is_file(),
        "{} is missing: run `cargo build -p brokers` with the same profile",
        program.display()
    );
    Ok(program)
}

/// Runs the broker with both accounts until SIGTERM.
///
/// # Errors
///
/// The address cannot be listened on.
pub async fn run(address: SocketAddr) -> Result<()> {
    let user = |account: beacon::Credentials, role| User {
        name: account.login,
        passcode: account.passcode,
        role,
    };
    let config = BrokerConfig {
        listen: vec![address],
        users: vec![
            user(agent_account(), Role::Agent),
            user(guest_account(), Role::Guest),
        ],
        ..BrokerConfig::default()
    };
    beacon::broker::raise_open_files();
    let broker = beacon::Broker::bind(config).await?;
    let mut end = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let stop = token.clone();
    let waiting = tokio::spawn(async move {
        end.recv().await;
        stop.cancel();
    });
    broker.run(token).await;
    waiting.await?;
    Ok(())
}
