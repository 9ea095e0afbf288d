//! Programs on our server under the user's terminal: keys, size, leaving, and the terminal afterwards.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "trees/ours.rs"]
mod ours;
mod support;

use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use ours::{Ours, eventually};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use support::terminal::Terminal;

/// Says that a program is ready to be typed to.
const READY: &str = "ready";

/// The client at a terminal, with somebody who types.
struct User {
    child: Child,
    terminal: Terminal,
}

/// The client's command line on a server.
fn command(server: &Ours, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chirp-client"));
    command
        .args(["-a", "address", "-t", "20", &server.address()])
        .args(arguments);
    command
}

impl User {
    fn start(server: &Ours, arguments: &[&str]) -> Self {
        let (terminal, slave) = Terminal::open();
        let mut command = command(server, arguments);
        command
            .env("TERM", "xterm")
            .stdin(Stdio::from(slave.try_clone().unwrap()))
            .stdout(Stdio::from(slave.try_clone().unwrap()))
            .stderr(Stdio::from(slave));
        let child = command.spawn().unwrap();
        // The child alone shall hold the other side.
        drop(command);
        Self { child, terminal }
    }

    /// Starts a shell's script, and waits until it is ready.
    fn run(server: &Ours, script: &str) -> Self {
        let mut user = Self::start(server, &["exec", "-t", "--", "sh", "-c", script]);
        user.terminal.wait_for(&[READY]);
        user
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Says whether keys are echoed and lines collected, as they were before.
    fn terminal_is_plain(&self) -> bool {
        let modes = tcgetattr(self.terminal.keys()).unwrap().local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    /// Waits for the end, after which the terminal must be what it was.
    fn end(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the client ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(self.terminal_is_plain(), "the terminal was left raw");
        status.unwrap()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Stands between a client and its server, and can cut them off.
struct Proxy {
    address: String,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let open = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&open);
        // It ends with the test.
        thread::spawn(move || {
            for near in listener.incoming() {
                let (near, far) = (near.unwrap(), TcpStream::connect(&server).unwrap());
                let handles = [near.try_clone().unwrap(), far.try_clone().unwrap()];
                kept.lock().unwrap().extend(handles);
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    thread::spawn(move || copy(&mut from, &mut to));
                }
            }
        });
        Self { address, open }
    }

    /// Ends every connection that there is.
    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ended = stream.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn every_key_is_for_the_program_and_the_terminal_is_as_it_was() {
    let server = Ours::start_with_exec();
    let script = "stty raw -echo; echo ready; head -c 3 | od -An -tx1; echo $TERM; exit 7";
    let mut user = User::run(&server, script);
    assert!(!user.terminal_is_plain());
    user.terminal.press("\u{3}\u{1a}\u{4}");
    user.terminal.wait_for(&["03 1a 04", "xterm"]);
    assert_eq!(user.end().code(), Some(7));
}

#[test]
fn the_program_has_the_terminals_size_and_hears_of_a_new_one() {
    let server = Ours::start_with_exec();
    let script =
        "trap 'stty size; exit' WINCH; stty size; echo ready; while :; do sleep 0.05; done";
    let mut user = User::run(&server, script);
    assert!(
        user.terminal.text().contains("24 120"),
        "{}",
        user.terminal.text()
    );
    let size = Winsize {
        ws_row: 50,
        ws_col: 90,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(user.terminal.keys(), size).unwrap();
    // The kernel tells those whom the terminal controls; this client was started by a test.
    user.signal(Signal::WINCH);
    user.terminal.wait_for(&["50 90"]);
    assert_eq!(user.end().code(), Some(0));
}

#[test]
fn a_signal_hangs_up_the_next_one_kills_and_the_terminal_is_as_it_was() {
    let server = Ours::start_with_exec();
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT] {
        let mut user = User::run(&server, "echo ready; exec cat");
        user.signal(signal);
        assert_eq!(user.end().code(), Some(128 + 1), "{signal:?}");
    }
    let script = "trap 'echo heard' HUP; echo ready; while :; do sleep 0.05; done";
    let mut user = User::run(&server, script);
    user.signal(Signal::TERM);
    user.terminal.wait_for(&["heard"]);
    user.signal(Signal::TERM);
    assert_eq!(user.end().code(), Some(128 + 9));
}

#[test]
fn a_stopped_client_gives_the_terminal_back_and_takes_it_again() {
    let server = Ours::start_with_exec();
    let mut user = User::run(&server, "echo ready; read line; echo got $line");
    user.signal(Signal::TSTP);
    eventually("the terminal is given back", || user.terminal_is_plain());
    user.signal(Signal::CONT);
    eventually("the terminal is raw", || !user.terminal_is_plain());
    user.terminal.press("word\r");
    user.terminal.wait_for(&["got word"]);
    assert_eq!(user.end().code(), Some(0));
}

#[test]
fn a_program_can_be_left_and_taken_up_again() {
    let server = Ours::start_with_exec();
    let script = "echo ready; read line; echo got $line; exit 5";
    let mut user = User::run(&server, script);
    user.terminal.press("wo\u{10}\u{11}");
    user.terminal.wait_for(&["left running; `attach 1`"]);
    assert_eq!(user.end().code(), Some(0));

    let mut user = User::start(&server, &["attach", "1"]);
    eventually("the terminal is raw", || !user.terminal_is_plain());
    user.terminal.press("rd\r");
    user.terminal.wait_for(&["got word"]);
    assert_eq!(user.end().code(), Some(5));
}

#[test]
fn a_terminal_that_was_detached_from_the_start_waits_for_somebody_who_types() {
    let server = Ours::start_with_exec();
    let script = "echo ready; read line; echo got $line";
    let started = command(&server, &["exec", "-dt", "--", "sh", "-c", script])
        .output()
        .unwrap();
    assert_eq!(started.stdout, b"1\n", "{started:?}");
    // Whoever looks on closes nothing.
    let mut user = User::start(&server, &["attach", "--no-stdin", "1"]);
    user.terminal.wait_for(&[READY]);
    let mut typing = User::start(&server, &["attach", "1"]);
    user.terminal
        .wait_for(&["another client took the program over"]);
    assert_eq!(user.end().code(), Some(125));
    eventually("the terminal is raw", || !typing.terminal_is_plain());
    typing.terminal.press("word\r");
    typing.terminal.wait_for(&["got word"]);
    assert_eq!(typing.end().code(), Some(0));
}

#[test]
fn without_a_terminal_here_one_there_needs_a_source_of_keys() {
    let server = Ours::start_with_exec();
    let mut refused = command(&server, &["exec", "-t", "--", "true"]);
    let refused = refused.stdin(Stdio::null()).output().unwrap();
    assert_eq!(refused.status.code(), Some(125));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(
        message.contains("no terminal") && message.contains("--stdin -"),
        "{message}"
    );

    let keys = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(keys.path(), "word").unwrap();
    let arguments = ["exec", "-t", "--stdin", keys.path().to_str().unwrap(), "--"];
    let program = ["sh", "-c", "test -t 0 && stty -echo size; cat"];
    let output = command(&server, &[&arguments[..], &program[..]].concat())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("24 80\r\n") && text.ends_with("word"),
        "{text:?}"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_terminal_outlives_a_lost_connection() {
    let server = Ours::start_with_exec();
    let proxy = Proxy::start(server.address());
    let (terminal, slave) = Terminal::open();
    let mut child = Command::new(env!("CARGO_BIN_EXE_chirp-client"));
    let script = "echo ready; read line; echo got $line; stty size";
    child
        .args([
            "-a",
            "address",
            "-t",
            "20",
            &proxy.address,
            "exec",
            "-t",
            "--",
            "sh",
            "-c",
            script,
        ])
        .stdin(Stdio::from(slave.try_clone().unwrap()))
        .stdout(Stdio::from(slave.try_clone().unwrap()))
        .stderr(Stdio::from(slave));
    let mut user = User {
        child: child.spawn().unwrap(),
        terminal,
    };
    drop(child);
    user.terminal.wait_for(&[READY]);
    proxy.cut();
    user.terminal.wait_for(&["connection lost; trying again"]);
    eventually("the terminal is raw again", || !user.terminal_is_plain());
    user.terminal.press("word\r");
    user.terminal.wait_for(&["got word", "24 120"]);
    assert_eq!(user.end().code(), Some(0));
}
