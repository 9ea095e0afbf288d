//! The reference's server, to show that an attack is one.

use std::ops::Deref;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal};

use crate::common::{Peer, Place, Server, eventually};

/// A running `chirp_server`, ended with the processes it has for its connections.
pub(crate) struct Reference<'a>(Server<'a>);

impl<'a> Reference<'a> {
    /// Serves a place with the reference and waits until it answers.
    #[track_caller]
    pub(crate) fn serve(place: &'a Place, args: &[&str]) -> Self {
        let ours = Server::command(place);
        let mut command = Command::new("sh");
        command
            // The usual number of descriptors, which a connection's process has for itself.
            .args(["-c", "ulimit -n 1024 && exec chirp_server \"$@\"", "sh"])
            .args(ours.get_args())
            .args(args)
            .args(["-u", "-"])
            // It takes the first port that it finds free, as others do at the same time.
            .env(
                "TCP_LOW_PORT",
                (10_000 + std::process::id() % 2_000 * 10).to_string(),
            )
            // Some attacks make it end its whole process group.
            .process_group(0);
        let server = Self(Server::spawn(place, command));
        eventually("the reference takes connections", || {
            Peer::try_connect(server.port, 1).is_ok()
        });
        server
    }
}

impl<'a> Deref for Reference<'a> {
    type Target = Server<'a>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for Reference<'_> {
    fn drop(&mut self) {
        if let Some(group) = Pid::from_raw(self.pid().cast_signed()) {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}
