//! `chirp-client exec` against a scripted server: exit status, streams, standard input, signals.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// The server's end of one connection, logged in, in front of the first request.
struct Peer {
    lines: BufReader<TcpStream>,
}

impl Peer {
    fn expect(&mut self, line: &str) {
        let mut got = String::new();
        self.lines.read_line(&mut got).unwrap();
        assert_eq!(got.trim_end(), line);
    }

    fn send(&mut self, bytes: &str) {
        self.lines.get_mut().write_all(bytes.as_bytes()).unwrap();
    }

    fn read(&mut self, length: usize) -> String {
        let mut bytes = vec![0; length];
        self.lines.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Takes the request up to its body, which it returns.
    fn exec(&mut self) -> String {
        self.expect("features");
        let features = r#"{"server":"s","boot":"b","run":"r","features":{"exec":1}}"#;
        self.send(&format!("{}\n{features}", features.len()));
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        let length = line.trim_end().strip_prefix("exec ").unwrap();
        self.read(length.parse().unwrap())
    }

    /// Ends the execution and takes the answer.
    fn end(&mut self, finished: bool, code: i32, out: usize, err: usize) {
        let status = format!(
            r#"{{"id":7,"cmd-id":"c","subject":"address:127.0.0.1","state":"ended","started":1.0,
               "results":{{"cmd-id":"c","finished":{finished},"exitCodeOrSignal":{code},
               "resources":{{}},"wall_s":0.1,"ended_by":"exit","out_bytes":{out},"err_bytes":{err}}}}}"#
        );
        self.send(&format!("end {}\n{status}", status.len()));
        let mut line = String::new();
        while line.trim_end() != "done" {
            line.clear();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "no done came");
        }
    }
}

/// Starts a server that plays the script to one client; returns its address.
fn server(script: impl FnOnce(&mut Peer) + Send + 'static) -> (String, JoinHandle<()>) {
    server_of(vec![Box::new(script)])
}

type Script = Box<dyn FnOnce(&mut Peer) + Send>;

/// Starts a server that plays each script on a connection of its own.
fn server_of(scripts: Vec<Script>) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let playing = std::thread::spawn(move || {
        for script in scripts {
            let (stream, _) = listener.accept().unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            let mut peer = Peer {
                lines: BufReader::new(stream),
            };
            peer.expect("address");
            peer.send("yes\nyes\nyes\naddress\n127.0.0.1\n");
            script(&mut peer);
        }
    });
    (address, playing)
}

fn start(address: &str, arguments: &[&str]) -> Child {
    start_for("10", address, arguments)
}

fn start_for(seconds: &str, address: &str, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_chirp-client"))
        .args(["-a", "address", "-t", seconds, address, "exec"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn run(arguments: &[&str], script: impl FnOnce(&mut Peer) + Send + 'static) -> Output {
    let (address, playing) = server(script);
    let output = start(&address, arguments).wait_with_output().unwrap();
    playing.join().unwrap();
    output
}

#[test]
fn the_exit_status_is_the_programs() {
    for (finished, code, status) in [
        (true, 0, 0),
        (true, 7, 7),
        (true, 255, 255),
        (false, 9, 137),
        (false, 15, 143),
    ] {
        let output = run(&["--", "x"], move |peer| {
            peer.exec();
            peer.send("7\nat 0 0 0 0\n");
            peer.end(finished, code, 0, 0);
        });
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert!(output.stdout.is_empty() && output.stderr.is_empty());
    }
}

#[test]
fn a_program_that_does_not_start_is_told_by_the_exit_status() {
    for (answer, status) in [
        ("-2 may not be executed\n", 126),
        ("-8 not an executable\n", 126),
        ("-10 being written\n", 126),
        ("-9 too many executions\n", 125),
        ("-14 the directory is none\n", 125),
        ("yes\n", 125),
    ] {
        let output = run(&["--", "prog"], move |peer| {
            peer.exec();
            peer.send(answer);
        });
        assert_eq!(output.status.code(), Some(status), "{answer}: {output:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("127.0.0.1:"), "{message}");
        assert!(
            answer == "yes\n" || message.contains("exec prog: "),
            "{message}"
        );
    }
    // One code for two things: a look at the directory tells which.
    for (stat, status) in [("0\n1 2 16832 2 0 0 0 0 0 0 0 0 0\n", 127), ("-3\n", 125)] {
        let output = run(&["--cwd", "/w", "--", "prog"], move |peer| {
            peer.exec();
            peer.send("-3 no such thing\n");
            peer.expect("stat /w");
            peer.send(stat);
        });
        assert_eq!(output.status.code(), Some(status), "{output:?}");
    }
}

#[test]
fn what_is_asked_for_is_what_was_said() {
    let arguments = [
        "--cwd", "/w d", "--env", "A=1=2", "--cmd-id", "j_1", "--", "prog", "-x", "--", "",
    ];
    let output = run(&arguments, |peer| {
        let request = peer.exec();
        for part in [
            r#""cmd":"prog""#,
            r#""args":["-x","--",""]"#,
            r#""path":"/w d""#,
            r#""env":{"A":"1=2"}"#,
            r#""cmd-id":"j_1""#,
        ] {
            assert!(request.contains(part), "{part} is not in {request}");
        }
        assert!(!request.contains("kill"), "{request}");
        peer.send("7\nat 0 0 0 0\n");
        peer.end(true, 0, 0, 0);
    });
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn limits_are_asked_for_by_name() {
    let arguments = [
        "--timeout",
        "60",
        "--limit",
        "memory=1G",
        "--limit",
        "cpu=5",
        "--limit",
        "files=100",
        "--limit",
        "file=2K",
        "--limit",
        "processes=30",
        "--limit",
        "orphan=0",
        "--",
        "x",
    ];
    let output = run(&arguments, |peer| {
        let request: serde_json::Value = serde_json::from_str(&peer.exec()).unwrap();
        let limits = &request["limits"];
        let expected = [
            ("wall_s", 60),
            ("cpu_s", 5),
            ("memory_bytes", 1 << 30),
            ("file_bytes", 2048),
            ("open_files", 100),
            ("processes", 30),
            ("orphan_s", 0),
        ];
        for (name, value) in expected {
            assert_eq!(limits[name], value, "{request}");
        }
        peer.send("7\nat 0 0 0 0\n");
        peer.end(true, 0, 0, 0);
    });
    assert!(output.status.success(), "{output:?}");
    for wrong in ["memory", "memory=x", "color=1", "cpu=-1", "processes=1K"] {
        let output = start("127.0.0.1:1", &["--limit", wrong, "--", "x"]);
        let output = output.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong}: {output:?}");
    }
}

/// Takes a request to attach, and answers that the program runs.
fn attached(peer: &mut Peer, line: &str, received: usize) {
    peer.expect("features");
    let features = r#"{"server":"s","boot":"b","run":"r","features":{"exec":1}}"#;
    peer.send(&format!("{}\n{features}", features.len()));
    peer.expect(line);
    let status = format!(
        r#"{{"id":7,"cmd-id":"j_1","subject":"address:127.0.0.1","state":"running","started":1.0,
           "stdin_received":{received}}}"#
    );
    peer.send(&format!("{}\n{status}", status.len()));
}

#[test]
fn a_lost_connection_is_made_again_and_the_streams_go_on_where_they_were() {
    let (address, playing) = server_of(vec![
        // Lost before the answer: the same request once more.
        Box::new(|peer| drop(peer.exec())),
        Box::new(|peer| {
            assert!(!peer.exec().contains("on_disconnect"));
            peer.send("7\nat 100 5 0 0\ncredit 100\n");
            peer.expect("in 5");
            assert_eq!(peer.read(5), "input");
            peer.send("out 4\nhalfout 9\nq");
        }),
        Box::new(|peer| {
            attached(peer, "exec_attach @j_1 104 5", 3);
            peer.send("at 104 5 3 0\ncredit 100\n");
            peer.expect("in 2");
            assert_eq!(peer.read(2), "ut");
            peer.send("out 5\nwholeerr 1\n!");
        }),
        Box::new(|peer| {
            attached(peer, "exec_attach @j_1 109 6", 5);
            peer.send("at 109 6 5 0\n");
            peer.end(true, 3, 109, 6);
        }),
    ]);
    let mut child = start(&address, &["--cmd-id", "j_1", "--stdin", "-", "--", "prog"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"input").unwrap();
    let output = child.wait_with_output().unwrap();
    playing.join().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(
        (&*output.stdout, &*output.stderr),
        (&b"halfwhole"[..], &b"!"[..])
    );
    drop(stdin);
}

#[test]
fn a_program_that_nobody_comes_back_to_is_left_to_the_servers_limit() {
    let (address, playing) = server(|peer| {
        let request = peer.exec();
        assert!(request.contains(r#""orphan_s":3"#), "{request}");
        assert!(request.contains(r#""cmd-id":"client."#), "{request}");
        peer.send("7\nat 0 0 0 0\nout 4\nhalf");
    });
    let output = start_for("3", &address, &["--", "prog"])
        .wait_with_output()
        .unwrap();
    playing.join().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(output.stdout, b"half");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("connection lost"), "{message}");
}

#[test]
fn output_comes_while_the_program_runs_and_input_goes() {
    let (address, playing) = server(|peer| {
        assert!(peer.exec().contains(r#""stdin":"stream""#));
        peer.send("7\nat 0 0 0 0\ncredit 100\n");
        peer.expect("in 5");
        assert_eq!(peer.read(5), "first");
        peer.send("out 5\nFIRSTerr 2\nE!");
        // Only what was seen is acknowledged and answered.
        let mut line = String::new();
        while line.trim_end() != "in 6" {
            line.clear();
            assert!(peer.lines.read_line(&mut line).unwrap() > 0);
        }
        assert_eq!(peer.read(6), "second");
        peer.end(true, 0, 5, 2);
    });
    let mut child = start(&address, &["--stdin", "-", "--", "cat"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"first").unwrap();
    let mut seen = [0; 5];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"FIRST");
    stdin.write_all(b"second").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stderr, b"E!");
    playing.join().unwrap();
}

#[test]
fn signals_go_to_the_program() {
    let (address, playing) = server(|peer| {
        peer.exec();
        peer.send("7\nat 0 0 0 0\nout 1\n!");
        let mut line = String::new();
        while !line.starts_with("signal ") {
            line.clear();
            assert!(peer.lines.read_line(&mut line).unwrap() > 0);
        }
        assert_eq!(line, "signal 2\n");
        peer.end(false, 2, 1, 0);
    });
    let mut child = start(&address, &["--", "sleep", "1000"]);
    wait_ready(&mut child);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    playing.join().unwrap();
}

/// Waits for the program's first byte.
fn wait_ready(child: &mut Child) {
    let stdout = child.stdout.as_mut().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
}

#[test]
fn the_second_interrupt_kills_and_the_third_ends_the_client() {
    let next_signal = |peer: &mut Peer| {
        let mut line = String::new();
        while !line.starts_with("signal ") {
            line.clear();
            assert!(peer.lines.read_line(&mut line).unwrap() > 0);
        }
        line
    };
    let (address, playing) = server_of(vec![
        Box::new(move |peer| {
            peer.exec();
            peer.send("7\nat 0 0 0 0\nout 1\n!");
            assert_eq!(next_signal(peer), "signal 2\n");
            peer.send("out 1\n!");
            assert_eq!(next_signal(peer), "signal 9\n");
            peer.send("out 1\n!");
            // Nothing ends it. The client goes.
            let mut rest = Vec::new();
            peer.lines.read_to_end(&mut rest).unwrap();
        }),
        Box::new(|peer| {
            let mut line = String::new();
            peer.lines.read_line(&mut line).unwrap();
            assert!(line.starts_with("exec_signal @client."), "{line}");
            assert!(line.ends_with(" 9\n"), "{line}");
            peer.send("0\n");
        }),
    ]);
    let mut child = start(&address, &["--", "sleep", "1000"]);
    let pid = rustix::process::Pid::from_child(&child);
    for _ in 0..3 {
        wait_ready(&mut child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("given up")
    );
    playing.join().unwrap();
}

#[test]
fn the_final_status_comes_as_json() {
    let output = run(&["--json", "--", "x"], |peer| {
        let request: serde_json::Value = serde_json::from_str(&peer.exec()).unwrap();
        assert_eq!(
            (&request["stdout"], &request["stderr"]),
            (&"capture".into(), &"capture".into())
        );
        peer.send("7\nat 0 0 0 0\n");
        peer.end(true, 3, 10, 0);
    });
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["results"]["exitCodeOrSignal"], 3);
}
