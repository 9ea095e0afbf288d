//! What a person sees at a terminal, a real one, and that nobody else sees it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use support::terminal::Terminal;
use support::{LIMIT, Reference};

/// The content that is copied.
const SIZE: usize = 3_000_000;

/// What the relay lets through before it stops: the login, and some of the content.
const PASSED: usize = 1_500_000;

/// A relay to a server that lets so much through from there and no more until it is opened.
struct Relay {
    address: String,
    gate: Arc<Gate>,
}

/// How many bytes may still pass; none are held back once it is open.
#[derive(Default)]
struct Gate {
    passed: Mutex<(usize, bool)>,
    opened: Condvar,
}

impl Gate {
    /// Waits until `count` bytes may pass.
    fn pass(&self, count: usize) {
        let mut passed = self.passed.lock().unwrap();
        passed.0 += count;
        while passed.0 > PASSED && !passed.1 {
            passed = self.opened.wait(passed).unwrap();
        }
    }

    fn open(&self) {
        self.passed.lock().unwrap().1 = true;
        self.opened.notify_all();
    }
}

impl Relay {
    fn start(server: &Reference) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let gate = Arc::new(Gate::default());
        let (there, held) = (server.address(), Arc::clone(&gate));
        // It ends with the test.
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let server = TcpStream::connect(&there).unwrap();
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || carry(from, to, None));
                let held = Arc::clone(&held);
                thread::spawn(move || carry(server, client, Some(&held)));
            }
        });
        Self { address, gate }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, gate: Option<&Gate>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if let Some(gate) = gate {
            gate.pass(count);
        }
        if to.write_all(buffer.get(..count).unwrap()).is_err() {
            break;
        }
    }
    let _gone = to.shutdown(Shutdown::Both);
}

/// Waits for the beginning of what the terminal shows.
fn starts_with(terminal: &mut Terminal, words: &str) {
    terminal.shows(|text| text.len() >= words.len(), LIMIT);
    assert!(terminal.text().starts_with(words), "{:?}", terminal.text());
}

/// Gets the file while stdout is nobody's and stderr is given.
fn get(address: &str, to: &str, stderr: impl Into<Stdio>) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chirp-client"));
    command
        .args(["-a", "address", "-t", "60", address, "get", "/f", to])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr);
    support::as_nobody(&mut command);
    command.spawn().unwrap()
}

fn served() -> Reference {
    let server = Reference::start();
    std::fs::write(server.root().join("f"), vec![b'x'; SIZE]).unwrap();
    support::give_away(&server.root().join("f"));
    server
}

#[test]
fn a_terminal_shows_how_far_it_is_and_then_what_was_done() {
    let server = served();
    let relay = Relay::start(&server);
    let (mut terminal, stderr) = Terminal::open();
    let target = server.outside("here").join("f");
    let mut child = get(&relay.address, target.to_str().unwrap(), stderr);
    // Part of the content is here and the rest is held back, so this is the line of a copy that goes on.
    terminal.wait_for(&["% 1.", "MiB of 2.86 MiB", "/s", "0 of 1 file", " left"]);
    terminal.clear();
    relay.gate.open();
    terminal.wait_for(&["1 file", "read in", "/s)"]);
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read(target).unwrap().len(), SIZE);
}

#[test]
fn whoever_is_no_terminal_is_shown_nothing() {
    let server = served();
    let target = server.outside("here").join("f");
    let child = get(&server.address(), target.to_str().unwrap(), Stdio::piped());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn messages_have_colours_at_a_terminal_unless_they_are_not_wanted() {
    let server = Reference::start();
    for (variables, option, coloured) in [
        (&[][..], None, true),
        (&[("NO_COLOR", "1")][..], None, false),
        (&[("CLICOLOR", "0")][..], None, false),
        (&[("TERM", "dumb")][..], None, false),
        (&[][..], Some("never"), false),
        (&[("NO_COLOR", "1")][..], Some("always"), true),
    ] {
        let (mut terminal, stderr) = Terminal::open();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chirp-client"));
        if let Some(when) = option {
            command.args(["--color", when]);
        }
        command
            .args([
                "-a",
                "address",
                "-t",
                "60",
                &server.address(),
                "stat",
                "/none",
            ])
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR")
            .env_remove("CLICOLOR_FORCE")
            // A terminal of a CI system has colours whatever TERM says of it.
            .env_remove("CI")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        support::as_nobody(&mut command);
        let mut child = command.spawn().unwrap();
        drop(command);
        assert_eq!(child.wait().unwrap().code(), Some(1));
        let prefix = match coloured {
            true => "\x1b[1;31mchirp-client:\x1b[0m ",
            false => "chirp-client: ",
        };
        starts_with(&mut terminal, prefix);
    }
}

#[test]
fn listings_have_colours_only_at_a_terminal() {
    let server = Reference::start();
    std::fs::create_dir(server.root().join("d")).unwrap();
    let run = |option: &[&str], variables: &[(&str, &str)], stdout: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chirp-client"));
        command
            .args(option)
            .args(["-a", "address", "-t", "60", &server.address(), "ls", "/"])
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(stdout);
        support::as_nobody(&mut command);
        command.spawn().unwrap().wait_with_output().unwrap().stdout
    };
    let plain = run(&[], &[], Stdio::piped());
    assert_eq!(String::from_utf8_lossy(&plain), "d\n");
    let forced = run(&[], &[("CLICOLOR_FORCE", "1")], Stdio::piped());
    assert_eq!(String::from_utf8_lossy(&forced), "\x1b[1;34md\x1b[0m\n");
    let asked = run(&["--color", "always"], &[], Stdio::piped());
    assert_eq!(asked, forced);
    let (mut terminal, stdout) = Terminal::open();
    run(&[], &[], stdout.into());
    starts_with(&mut terminal, "\x1b[1;34md\x1b[0m");
}
