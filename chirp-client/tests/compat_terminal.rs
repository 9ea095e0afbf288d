//! `chirp` at a terminal: completion, history and how it ends.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use support::{LIMIT, Reference};

/// What the editor switches on before it takes keys: what is typed earlier may be lost.
const READY: &str = "\u{1b}[?2004h";

/// `chirp` with somebody who types.
struct Typist {
    child: Child,
    keys: File,
    shown: Receiver<Vec<u8>>,
    text: String,
}

impl Typist {
    fn start(server: &Reference, home: &Path) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chirp-client"));
        command
            .arg0("chirp")
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
        let keys = File::from(master);
        let mut screen = keys.try_clone().unwrap();
        let (sender, shown) = channel();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut chunk) {
                if sender.send(chunk.get(..count).unwrap().to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut typist = Self {
            child,
            keys,
            shown,
            text: String::new(),
        };
        typist.wait_for(READY);
        typist
    }

    fn press(&mut self, keys: &str) {
        self.text.clear();
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Reports whether the terminal shows a text within this time since the last key.
    fn shows(&mut self, text: &str, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while !self.text.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => return false,
            }
        }
        true
    }

    fn wait_for(&mut self, text: &str) {
        let came = self.shows(text, LIMIT);
        assert!(came, "{text:?} is not in {:?}", self.text);
    }

    /// Presses keys that end a line, and expects an answer before the next prompt.
    fn enter(&mut self, keys: &str, answer: &str) {
        self.press(keys);
        self.wait_for(READY);
        assert!(self.text.contains(answer), "{answer:?}: {:?}", self.text);
    }

    /// Presses Tab until the line is completed: a server that is slow to answer is asked again.
    fn complete(&mut self, keys: &str, text: &str) {
        self.press(keys);
        let deadline = Instant::now() + LIMIT;
        loop {
            self.keys.write_all(b"\t").unwrap();
            if self.shows(text, Duration::from_secs(6)) {
                return;
            }
            assert!(Instant::now() < deadline, "{text:?}: {:?}", self.text);
        }
    }

    /// Waits for the end and returns the exit code.
    fn end(mut self) -> Option<i32> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(
                Instant::now() < deadline,
                "it does not end: {:?}",
                self.text
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
fn lines_are_completed_and_remembered() {
    let server = Reference::start();
    let home = server.outside("home");
    fs::write(home.join("local-file"), "hello\n").unwrap();
    support::give_away(&home.join("local-file"));
    fs::write(server.root().join("data file"), "").unwrap();
    support::give_away(&server.root().join("data file"));

    let mut typist = Typist::start(&server, &home);
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
    let mut typist = Typist::start(&server, &home);
    typist.press("\u{1b}[A\u{1b}[A");
    typist.wait_for("stat /data\\ file");
    typist.press("\u{15}quit\n");
    assert_eq!(typist.end(), Some(0));
}
