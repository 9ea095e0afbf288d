//! `chirp`, and the client without a command, at a terminal: completion, history and how it ends.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, tcgetattr};
use support::terminal::Terminal;
use support::{LIMIT, Reference};

/// What the editor switches on before it takes keys: what is typed earlier may be lost.
const READY: &str = "\u{1b}[?2004h";

/// A session with somebody who types.
struct Typist {
    child: Child,
    terminal: Terminal,
}

impl Typist {
    fn start(tool: &str, server: &Reference, home: &Path) -> Self {
        let (terminal, slave) = Terminal::open();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chirp-client"));
        command
            .arg0(tool)
            .args(["-a", "address", &server.address()])
            .current_dir(home)
            .env("HOME", home)
            .env("TERM", "xterm")
            .stdin(Stdio::from(slave.try_clone().unwrap()))
            .stdout(Stdio::from(slave.try_clone().unwrap()))
            .stderr(Stdio::from(slave));
        support::as_nobody(&mut command);
        let child = command.spawn().unwrap();
        // The child alone shall hold the other side.
        drop(command);
        let mut typist = Self { child, terminal };
        typist.wait_for(READY);
        typist
    }

    fn press(&mut self, keys: &str) {
        self.terminal.press(keys);
    }

    fn wait_for(&mut self, text: &str) {
        self.terminal.wait_for(&[text]);
    }

    /// Presses keys that end a line, and expects an answer before the next prompt.
    fn enter(&mut self, keys: &str, answer: &str) {
        self.press(keys);
        self.wait_for(READY);
        let text = self.terminal.text();
        assert!(text.contains(answer), "{answer:?}: {text:?}");
    }

    /// Presses Tab until the line is completed: a server that is slow to answer is asked again.
    fn complete(&mut self, keys: &str, text: &str) {
        self.press(keys);
        let deadline = Instant::now() + LIMIT;
        loop {
            self.terminal.press_also("\t");
            let there = |shown: &str| shown.contains(text);
            if self.terminal.shows(there, Duration::from_secs(6)) {
                return;
            }
            let shown = self.terminal.text();
            assert!(Instant::now() < deadline, "{text:?}: {shown:?}");
        }
    }

    /// Waits for the end and returns the exit code.
    fn end(mut self) -> Option<i32> {
        self.wait()
    }

    fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(
                Instant::now() < deadline,
                "it does not end: {:?}",
                self.terminal.text()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

#[test]
fn a_signal_at_the_prompt_leaves_the_terminal_as_it_was() {
    let server = Reference::start();
    let home = server.outside("home");
    for tool in ["chirp", "chirp-client"] {
        let mut typist = Typist::start(tool, &server, &home);
        let echo = |typist: &Typist| {
            let settings = tcgetattr(typist.terminal.keys()).unwrap();
            settings
                .local_modes
                .contains(LocalModes::ECHO | LocalModes::ICANON)
        };
        assert!(!echo(&typist), "the editor takes keys one by one");
        let pid = Pid::from_child(&typist.child);
        kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(typist.wait(), Some(143));
        assert!(echo(&typist));
    }
}

#[test]
fn lines_are_completed_and_remembered() {
    let server = Reference::start();
    let home = server.outside("home");
    fs::write(home.join("local-file"), "hello\n").unwrap();
    support::give_away(&home.join("local-file"));
    fs::write(server.root().join("data file"), "").unwrap();
    support::give_away(&server.root().join("data file"));

    let mut typist = Typist::start("chirp", &server, &home);
    typist.complete("xattr_l", "xattr_list");
    // Ctrl-U takes the line away.
    typist.press("\u{15}");
    typist.complete("put loc", "local-file");
    typist.enter("/up\n", "written");
    typist.complete("stat /da", "/data\\ file");
    typist.enter("\n", "inode:");
    // Ctrl-C takes a line away, too.
    typist.enter("nonsense\u{3}", "nonsense");
    typist.enter("ls /none\n", "couldn't ls: No such file or directory");
    // The end has the status of the last command.
    typist.press("\u{4}");
    assert_eq!(typist.end(), Some(1));
    assert_eq!(fs::read(server.root().join("up")).unwrap(), b"hello\n");

    let history = home.join(".chirp_history");
    let mode = fs::metadata(&history).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The client under its own name goes on with the same history.
    let mut typist = Typist::start("chirp-client", &server, &home);
    typist.press("\u{1b}[A\u{1b}[A");
    typist.wait_for("stat /data\\ file");
    typist.press("\u{15}quit\n");
    assert_eq!(typist.end(), Some(0));
}
