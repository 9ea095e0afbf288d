//! `host-agent carry`: one connection of a guest to the broker, for QEMU's own network.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

/// Carry bytes between the socket on standard input and output and a TCP address: what QEMU starts for each
/// connection of a guest to the broker, the only thing of the host that such a guest reaches.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  host-agent carry 127.0.0.1:61613")]
pub(crate) struct Arguments {
    /// Where to connect to.
    address: SocketAddr,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    let socket = UnixStream::from(socket);
    socket
        .set_nonblocking(true)
        .context("standard input is no socket: this is started by QEMU")?;
    let mut guest = tokio::net::UnixStream::from_std(socket)
        .context("standard input is no socket: this is started by QEMU")?;
    let mut broker = TcpStream::connect(arguments.address)
        .await
        .with_context(|| format!("cannot connect to the broker at {}", arguments.address))?;
    // Either end may break off; both are closed then.
    let _ = copy_bidirectional(&mut guest, &mut broker).await;
    Ok(ExitCode::SUCCESS)
}
