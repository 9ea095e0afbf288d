//! A server process.

use std::fs::{self, File};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal};

use super::{Peer, Place, eventually, is_root};

/// A running server, killed by its process id when the test is over.
pub(crate) struct Server<'a> {
    place: &'a Place,
    pub(crate) port: u16,
    child: Child,
}

impl<'a> Server<'a> {
    #[track_caller]
    pub(super) fn start(place: &'a Place, args: &[&str]) -> Self {
        let mut command = Self::command(place);
        command.args(args);
        Self::spawn(place, command)
    }

    /// Returns the command that serves the place, for tests that add to it or wrap it.
    pub(crate) fn command(place: &Place) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chirp-server"));
        command
            .arg("-r")
            .arg(place.base("root"))
            .arg("-y")
            .arg(place.base("transient"))
            .arg("-c")
            .arg(place.base("challenge"))
            .arg("-Z")
            .arg(place.base("port"))
            .args(["-I", "127.0.0.1"]);
        if is_root() {
            command.args(["-i", &place.user]);
        }
        command
    }

    /// Runs a command that becomes a server of the place and waits until it listens.
    #[track_caller]
    pub(crate) fn spawn(place: &'a Place, mut command: Command) -> Self {
        let port_file = place.base("port");
        let _ = fs::remove_file(&port_file);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(place.base("log")).unwrap())
            .spawn()
            .unwrap();
        let mut server = Self {
            place,
            port: 0,
            child,
        };
        eventually("the server listens", || {
            let ended = server.child.try_wait().unwrap();
            assert_eq!(ended, None, "the server ended:\n{}", server.log());
            let port = fs::read_to_string(&port_file).unwrap_or_default();
            // Without its LF it is being written.
            server.port = port
                .strip_suffix('\n')
                .map_or(0, |port| port.parse().unwrap());
            server.port != 0
        });
        server
    }

    /// Returns what the server has logged.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.place.base("log")).unwrap()).into_owned()
    }

    /// A peer that has not logged in.
    #[track_caller]
    pub(crate) fn connect(&self) -> Peer {
        Peer::connect(self.port, 1)
    }

    /// A peer that has all rights: it logs in as the server's own user.
    #[track_caller]
    pub(crate) fn owner(&self) -> Peer {
        let mut peer = self.connect();
        peer.login_unix();
        peer
    }

    /// A peer that is `address:127.0.0.N`.
    #[track_caller]
    pub(crate) fn guest(&self, number: u8) -> Peer {
        let mut peer = Peer::connect(self.port, number);
        peer.login_address();
        peer
    }

    /// A peer that has all rights and speaks HTCondor's dialect: it logs in by this cookie.
    #[track_caller]
    pub(crate) fn condor(&self, cookie: &str) -> Peer {
        let mut peer = self.connect();
        peer.login_cookie(cookie, &self.place.user);
        peer
    }

    /// Returns the server's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the server to end by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the server ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Returns a figure in KiB of the server's `/proc/PID/status`.
    pub(crate) fn memory_kib(&self, figure: &str) -> u64 {
        self.figure(figure)
    }

    /// Returns a number of the server's `/proc/PID/status`.
    pub(crate) fn figure(&self, figure: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with(figure))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

/// Runs a server that shall refuse to start, and returns what it says about that.
#[track_caller]
pub(crate) fn refusal(mut command: Command) -> String {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut status = None;
    eventually("the server refuses to start", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(status.unwrap().code(), Some(1), "{words}");
    words
}
