//! Options of the reference that concern the server as a process: log, ports, names, pace.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Signal};

use crate::common::{Peer, Place, Server, eventually, make_challenge};

/// Returns the letters and words of the options in a help text of the reference's.
fn options_of(help: &str) -> Vec<(Option<char>, String, bool)> {
    let lines = help.lines().map(str::trim_start);
    lines
        .filter(|line| line.starts_with('-'))
        .map(|line| {
            let option = line.split_whitespace().next().unwrap();
            let (letter, long) = match option.split_once(',') {
                Some((letter, long)) => (letter.chars().nth(1), long),
                None => (None, option),
            };
            let (long, value) = match long.split_once('=') {
                Some((long, _)) => (long, true),
                None => (long, false),
            };
            (letter, long.trim_start_matches('-').to_owned(), value)
        })
        .collect()
}

#[test]
fn every_option_of_the_reference_is_one_of_ours() {
    let output = Command::new("chirp_server")
        .arg("--help")
        .output()
        .expect("cctools' chirp_server");
    let theirs = options_of(&String::from_utf8(output.stdout).unwrap());
    assert!(theirs.len() > 35, "{theirs:?}");
    let ours = <chirp_server::config::Args as clap::CommandFactory>::command();
    for (letter, long, value) in theirs {
        let found = ours
            .get_arguments()
            .find(|argument| argument.get_long() == Some(long.as_str()));
        // Help is clap's own.
        let Some(found) = found else {
            assert_eq!(long, "help");
            continue;
        };
        assert_eq!(found.get_short(), letter, "--{long}");
        // The reference's help leaves out that two of them take a value.
        let takes = found.get_action().takes_values();
        assert!(takes || !value, "--{long} takes a value");
    }
    // In its help they are missing; it takes them all the same.
    for letter in ['e', 'l'] {
        assert!(
            ours.get_arguments()
                .any(|argument| argument.get_short() == Some(letter))
        );
    }
}

#[test]
fn the_last_of_an_option_counts_and_long_ones_may_be_short() {
    let place = Place::new();
    place.write("f", "x");
    let server = place.serve(&[
        "-t", "1", "-t", "60", "--idle", "50", "--read", "stray", "-e", "5m",
    ]);
    server
        .owner()
        .expect("putfile /g 420 1\ngetfile /f\n", "-2\n1\nx");
    assert!(server.log().contains("stray"));
}

#[test]
fn help_and_version_are_asked_for_in_the_reference_s_letters() {
    for (option, words) in [
        ("-h", "--root"),
        ("--help", "--root"),
        ("-v", "version"),
        ("--version", "version"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_chirp-server"))
            .arg(option)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{option}");
        assert!(
            String::from_utf8(output.stdout).unwrap().contains(words),
            "{option}"
        );
    }
}

#[test]
fn a_full_log_is_renamed_and_a_moved_one_is_begun_anew_on_hangup() {
    let place = Place::new();
    let log = place.base("the-log");
    let server = place.serve(&["-d", "all", "-o", log.to_str().unwrap(), "-O", "8K"]);
    let mut peer = server.owner();
    let old = place.base("the-log.old");
    eventually("it was renamed", || {
        peer.answer("stat /\n".repeat(20));
        old.exists()
    });
    assert!(fs::metadata(&old).unwrap().len() <= 8 << 10);
    assert!(fs::metadata(&log).unwrap().len() <= 8 << 10);
    let moved = place.base("moved");
    fs::rename(&log, &moved).unwrap();
    server.signal(Signal::HUP);
    eventually("it was begun anew", || log.exists());
    peer.expect("whoami 4\n", "4\nunix");
    assert_eq!(
        fs::read(place.base("log")).unwrap(),
        b"",
        "nothing goes to standard error"
    );
}

#[test]
fn standard_output_can_be_the_log() {
    let place = Place::new();
    let mut command = Server::command(&place);
    let out = place.base("out");
    command
        .args(["-o", ":stdout"])
        .stdout(fs::File::create(&out).unwrap());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    eventually("it listens", || place.base("port").exists());
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    child.wait().unwrap();
    assert!(fs::read_to_string(out).unwrap().contains("serving"));
}

#[test]
fn flags_nobody_knows_are_told_and_the_others_do_what_they_say() {
    let place = Place::new();
    let server = place.serve(&[
        "-d",
        "all",
        "-d",
        "telepathy",
        "-d",
        "clear",
        "-d",
        "auth",
        "-d",
        "hdfs",
    ]);
    server.owner().expect("whoami 4\n", "4\nunix");
    let log = server.log();
    assert!(log.contains("telepathy"), "{log}");
    assert!(log.contains("logged in"), "{log}");
    assert!(!log.contains("Whoami"), "{log}");
}

#[test]
fn the_superuser_turns_on_details_while_the_server_runs() {
    let place = Place::new();
    let server = place.serve(&["-P", "address:127.0.0.2"]);
    let (mut owner, mut superuser) = (server.owner(), server.guest(2));
    owner.expect("debug all\ndebug\n", "-2\n-8\n");
    owner.expect("stat /before\n", "-3\n");
    superuser.expect("debug chirp\ndebug telepathy\n", "0\n0\n");
    owner.expect("stat /between\n", "-3\n");
    superuser.expect("debug clear\n", "0\n");
    owner.expect("stat /after\n", "-3\n");
    let log = server.log();
    assert!(
        log.contains("between") && log.contains("telepathy"),
        "{log}"
    );
    assert!(!log.contains("before") && !log.contains("after"), "{log}");
}

#[test]
fn hangup_does_not_end_the_server() {
    let place = Place::new();
    let mut server = place.serve(&[]);
    let mut peer = server.owner();
    for _ in 0..3 {
        server.signal(Signal::HUP);
        peer.expect("whoami 4\n", "4\nunix");
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_file_in_passwd_format_can_name_those_who_log_in() {
    let place = Place::new();
    let passwd = place.base("passwd");
    let uid = fs::metadata(place.base("challenge"))
        .map(|at| std::os::unix::fs::MetadataExt::uid(&at))
        .unwrap();
    fs::write(
        &passwd,
        format!("zoe:*:{}:0\nother name:*:{uid}:1:::\n", uid + 1),
    )
    .unwrap();
    place.give(&passwd);
    let server = place.serve(&["-W", passwd.to_str().unwrap()]);
    let mut peer = server.connect();
    peer.login_unix();
    // A blank in a name would make two words of it.
    assert_eq!(peer.subject(), "unix:other_name");
    // Who is not in the file has no name, whatever the system's database says.
    fs::write(&passwd, "zoe:*:12345:0\n").unwrap();
    let mut peer = server.connect();
    let challenge = peer.begin_unix();
    let file = make_challenge(&challenge);
    std::os::unix::fs::fchown(file, Some(uid), None).unwrap();
    peer.send("yes\n").read_exactly("no\n");
}

#[test]
fn a_missing_password_file_is_refused() {
    let place = Place::new();
    let mut command = Server::command(&place);
    command.args(["-W", "/nonexistent/passwd"]);
    let said = crate::common::refusal(command);
    assert!(
        said.contains("/nonexistent/passwd") && said.contains("-W"),
        "{said}"
    );
}

#[test]
fn each_request_waits_as_long_as_the_test_latency_says() {
    let place = Place::new();
    let server = place.serve(&["-l", "100000"]);
    let mut peer = server.owner();
    let begun = Instant::now();
    peer.expect("whoami 4\nwhoami 4\n", "4\nunix4\nunix");
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

#[test]
fn without_core_dumps_none_is_left_whatever_is_raised_later() {
    let place = Place::new();
    let server = place.serve(&["-C"]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let words: Vec<&str> = line.split_whitespace().skip(4).collect();
    assert_eq!(words[..2], ["0", "0"], "{line}");
}

#[test]
fn the_port_is_searched_where_the_environment_says() {
    let place = Place::new();
    // Taken as long as the test runs, so that the next one must be found.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let low = taken.local_addr().unwrap().port();
    let mut command = Server::command(&place);
    command
        .env("TCP_LOW_PORT", low.to_string())
        .env("TCP_HIGH_PORT", u16::MAX.to_string());
    let server = Server::spawn(&place, command);
    assert!(server.port > low);
    drop(server);
    let mut command = Server::command(&place);
    command
        .env("TCP_LOW_PORT", low.to_string())
        .env("TCP_HIGH_PORT", low.to_string());
    let said = crate::common::refusal(command);
    assert!(
        said.contains("TCP_HIGH_PORT") && said.contains(&low.to_string()),
        "{said}"
    );
}

#[test]
fn few_descriptors_are_told_at_the_start_and_running_out_of_them_is_survived() {
    let place = Place::new();
    place.write("f", "x");
    let mut command = Command::new("prlimit");
    let server = Server::command(&place);
    command
        .arg("--nofile=48")
        .arg("--")
        .arg(server.get_program())
        .args(server.get_args());
    let server = Server::spawn(&place, command);
    assert!(server.log().contains("ulimit -Hn"), "{}", server.log());
    let limit = rustix::process::getrlimit(Resource::Nofile);
    assert!(limit.current > Some(48), "this process has enough");
    let mut owner = server.owner();
    let mut opened = 0;
    let refused: i64 = loop {
        let answer = String::from_utf8(owner.answer("open /f r 0\n")).unwrap();
        match answer.lines().next().unwrap().parse().unwrap() {
            0.. => opened += 1,
            code => break code,
        }
        assert!(opened < 100);
    };
    assert_eq!(refused, -9, "too many open files");
    // Nobody else gets in, and nobody is turned away either.
    let mut waiting = Peer::try_connect(server.port, 1).unwrap();
    waiting.send("address\n");
    eventually("the log tells that clients wait", || {
        server.log().contains("clients wait")
    });
    // What needs one more says so; the connection stays in step.
    owner.expect("getfile /f\nwhoami 4\n", "-9\n4\nunix");
    for number in 0..opened {
        owner.expect(format!("close {number}\n"), "0\n");
    }
    waiting.read_exactly("yes\nyes\nyes\naddress\n127.0.0.1\n");
    assert!(owner.answer("open /f r 0\n").starts_with(b"0\n"));
    eventually("the log tells that it is over", || {
        server.log().contains("accepted again")
    });
}
