//! The process that started the server (`-E`).
//!
//! The kernel's signal on a parent's death comes when the *thread* that started the server ends, and is
//! lost at a change of identity; so the parent is watched by handle.

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, getppid, pidfd_open};
use tokio::sync::oneshot;

/// Returns what is ready when the parent has ended, which it may have already.
///
/// # Errors
///
/// The parent cannot be watched.
pub fn ended() -> anyhow::Result<oneshot::Receiver<()>> {
    let (sender, receiver) = oneshot::channel();
    let Some(parent) = getppid() else {
        return Ok(receiver);
    };
    let handle = match pidfd_open(parent, PidfdFlags::empty()) {
        // Another process could have got the number if the parent had ended.
        Ok(handle) if getppid() == Some(parent) => handle,
        Ok(_) | Err(rustix::io::Errno::SRCH) => return Ok(receiver),
        Err(error) => return Err(error).context("cannot watch the parent process (-E)"),
    };
    // It waits for as long as the server lives, and ends with it.
    std::thread::Builder::new()
        .name("parent".to_owned())
        .spawn(move || {
            let mut watched = [PollFd::new(&handle, PollFlags::IN)];
            while poll(&mut watched, None) == Err(rustix::io::Errno::INTR) {}
            drop(sender);
        })
        .context("cannot watch the parent process (-E)")?;
    Ok(receiver)
}
