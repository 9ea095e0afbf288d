//! Programs over raw frames: what a client that knows only the specification sees.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

use crate::common::{Peer, Place, Server, eventually};

/// What came of an execution.
pub(crate) struct Ended {
    pub(crate) out: Vec<u8>,
    pub(crate) err: Vec<u8>,
    pub(crate) status: Value,
}

impl Ended {
    /// The exit code, or the negative number of the signal.
    pub(crate) fn code(&self) -> i64 {
        let results = &self.status["results"];
        let number = results["exitCodeOrSignal"].as_i64().unwrap();
        if results["finished"].as_bool().unwrap() {
            number
        } else {
            -number
        }
    }
}

/// Sends a request for an execution.
pub(crate) fn ask(peer: &mut Peer, request: &Value) {
    let body = request.to_string();
    peer.send(format!("exec {}\n{body}", body.len()));
}

/// Starts an execution and returns its id.
#[track_caller]
pub(crate) fn start(peer: &mut Peer, request: &Value) -> u64 {
    ask(peer, request);
    let line = peer.line();
    line.parse().unwrap_or_else(|_| panic!("refused: {line}"))
}

/// Reads the next frame that is not `alive` or `credit`: its header's words and its payload.
#[track_caller]
pub(crate) fn frame(peer: &mut Peer) -> (String, Vec<u8>) {
    loop {
        let header = peer.line();
        let word = header.split(' ').next().unwrap();
        match word {
            "alive" | "credit" => {}
            "out" | "err" | "end" | "usage" => {
                let length = header.split(' ').nth(1).unwrap().parse().unwrap();
                return (word.to_owned(), peer.take(length));
            }
            _ => return (header, Vec::new()),
        }
    }
}

/// Reads frames to the end, and leaves stream mode.
#[track_caller]
pub(crate) fn finish(peer: &mut Peer) -> Ended {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        let (word, payload) = frame(peer);
        match word.as_str() {
            "out" => out.extend(payload),
            "err" => err.extend(payload),
            "end" => {
                peer.send("done\n");
                let status = serde_json::from_slice(&payload).unwrap();
                return Ended { out, err, status };
            }
            _ if word.starts_with("at ") => {}
            _ => panic!("unexpected: {word}"),
        }
        if !out.is_empty() || !err.is_empty() {
            peer.send(format!("ack {} {}\n", out.len(), err.len()));
        }
    }
}

/// Runs a program to its end.
#[track_caller]
pub(crate) fn run(peer: &mut Peer, request: &Value) -> Ended {
    start(peer, request);
    finish(peer)
}

/// A request to run a shell script.
pub(crate) fn shell(script: &str) -> Value {
    json!({"cmd": "sh", "args": ["-c", script]})
}

/// The code and words of a refusal, after which the connection is in step.
#[track_caller]
pub(crate) fn refused(peer: &mut Peer, request: &Value) -> String {
    let body = request.to_string();
    let answer = String::from_utf8(peer.answer(format!("exec {}\n{body}", body.len()))).unwrap();
    assert_eq!(answer.matches('\n').count(), 1, "{answer}");
    answer
}

pub(crate) fn alive(pid: i64) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat"));
    status.is_ok_and(|text| !text.rsplit(')').next().unwrap().starts_with(" Z"))
}

/// The pid that a program has printed as the first line of its output.
#[track_caller]
pub(crate) fn printed_pid(peer: &mut Peer) -> i64 {
    let mut text = String::new();
    while !text.ends_with('\n') {
        let (word, payload) = frame(peer);
        if word == "out" {
            text.push_str(std::str::from_utf8(&payload).unwrap());
        }
    }
    text.trim().parse().unwrap()
}

/// Reads the number that a program prints of itself, and returns the one that it has outside of its namespaces.
pub(crate) fn printed_outside(server: &Server<'_>, peer: &mut Peer) -> i64 {
    outside(server.pid(), printed_pid(peer))
}

/// Returns the number outside of a program's namespaces for the one inside, of a descendant of the server.
pub(crate) fn outside(server: u32, inside: i64) -> i64 {
    let status = |pid: i64| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let last = |pid: i64, name: &str| -> Option<i64> {
        let text = status(pid);
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().last()?.parse().ok()
    };
    let below_server = |pid: i64| {
        let mut above = std::iter::successors(Some(pid), |&pid| last(pid, "PPid:"));
        above.any(|pid| pid == i64::from(server))
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let mut all = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let found = all.find(|&pid| last(pid, "NSpid:") == Some(inside) && below_server(pid));
    found.expect("a process of the server with this number")
}

#[test]
fn features_tell_what_is_served_and_stay_the_same_for_one_run() {
    let place = Place::new();
    let features = |server: &Server<'_>| -> Value {
        let mut owner = server.owner();
        owner.send("features\n");
        let json = owner.counted().unwrap();
        owner.expect("whoami 4\n", "4\nunix");
        serde_json::from_slice(&json).unwrap()
    };
    let server = place.serve(&["--exec"]);
    let first = features(&server);
    assert_eq!(first, features(&server));
    assert_eq!(
        first["features"],
        json!({"exec": 1, "sha256": 1, "store": 1})
    );
    assert_eq!(first["limits"]["exec_request_bytes"], 1_048_576);
    drop(server);
    let second = features(&place.serve(&[]));
    assert_eq!(second["features"], json!({"sha256": 1, "store": 1}));
    assert_eq!(first["boot"], second["boot"]);
    assert_ne!(first["run"], second["run"]);
}

#[test]
fn output_comes_while_the_program_runs_and_request_mode_comes_back() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    let mut request = shell("echo one; read line; echo two >&2; echo got $line; exit 7");
    request["stdin"] = json!("stream");
    let id = start(&mut owner, &request);
    assert_eq!(frame(&mut owner).0, "at 0 0 0 0");
    // The program waits for its input, and its output is here.
    assert_eq!(frame(&mut owner), ("out".to_owned(), b"one\n".to_vec()));
    owner.send("in 5\nword\neof\n");
    let ended = finish(&mut owner);
    assert_eq!(
        (ended.out, ended.err),
        (b"got word\n".to_vec(), b"two\n".to_vec())
    );
    let results = &ended.status["results"];
    assert_eq!(
        (
            results["finished"].as_bool(),
            results["exitCodeOrSignal"].as_i64()
        ),
        (Some(true), Some(7))
    );
    assert_eq!(results["out_bytes"], 13);
    assert_eq!(ended.status["id"], id);
    assert_eq!(ended.status["subject"], owner.subject());
    let names = [
        "ru_utime",
        "ru_stime",
        "ru_maxrss",
        "ru_ixrss",
        "ru_idrss",
        "ru_isrss",
        "ru_minflt",
        "ru_majflt",
        "ru_nswap",
        "ru_inblock",
        "ru_oublock",
        "ru_msgsnd",
        "ru_msgrcv",
        "ru_nsignals",
        "ru_nvcsw",
        "ru_nivcsw",
    ];
    let resources = results["resources"].as_object().unwrap();
    assert_eq!(resources.len(), names.len());
    assert!(
        names.iter().all(|name| resources[*name].is_number()),
        "{resources:?}"
    );
    assert!(resources["ru_maxrss"].as_i64().unwrap() > 100);
    owner.expect("whoami 4\n", "4\nunix");
    // The same is told afterwards.
    owner.send(format!("exec_status {id}\n"));
    let status: Value = serde_json::from_slice(&owner.counted().unwrap()).unwrap();
    assert_eq!(status["results"], *results);
    // A request may follow `done` in the same write, and two programs may follow one another.
    start(&mut owner, &shell("true"));
    while frame(&mut owner).0 != "end" {}
    owner.send("done\nwhoami 4\n").read_exactly("4\nunix");
    assert_eq!(run(&mut owner, &shell("kill -TERM $$")).code(), -15);
}

#[test]
fn a_confined_program_has_a_terminal_of_its_own() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    // By the name of the controlling terminal it can be opened, written, changed and read.
    let script = "exec < /dev/tty > /dev/tty; stty -echo; stty size; echo error >&2; echo ready
        read line; stty size; echo got $line";
    let mut request = shell(script);
    request["tty"] = json!({"rows": 24, "cols": 80});
    start(&mut owner, &request);
    assert_eq!(frame(&mut owner).0, "at 0 0 0 0");
    let mut out = Vec::new();
    while !out.ends_with(b"ready\r\n") {
        let (word, payload) = frame(&mut owner);
        assert_eq!(word, "out", "{}", payload.escape_ascii());
        out.extend(payload);
    }
    assert_eq!(
        out.escape_ascii().to_string(),
        "24 80\\r\\nerror\\r\\nready\\r\\n"
    );
    owner.send("resize 50 132\nin 5\nword\n");
    let ended = finish(&mut owner);
    assert_eq!(ended.code(), 0);
    assert_eq!(ended.out, b"50 132\r\ngot word\r\n");
    assert_eq!(
        ended.status["results"]["out_bytes"],
        out.len() + ended.out.len()
    );
    // A new size means nothing to a program without a terminal.
    start(&mut owner, &shell("exec sleep 300"));
    assert_eq!(frame(&mut owner).0, "at 0 0 0 1");
    owner.send("resize 24 80\n");
    assert_eq!(
        frame(&mut owner).0,
        "-8 resize: the program has no terminal"
    );
}

#[test]
fn three_megabytes_of_input_come_back_within_the_credit() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    let input: Vec<u8> = (0..3 << 20)
        .map(|number: u32| (number / 7).to_le_bytes()[0])
        .collect();
    start(&mut owner, &json!({"cmd": "cat", "stdin": "stream"}));
    let (mut sent, mut credit, mut out, mut eof) = (0, 0, Vec::new(), false);
    loop {
        let header = owner.line();
        let mut words = header.split(' ');
        let word = words.next().unwrap();
        let number: usize = words.next().map_or(0, |number| number.parse().unwrap());
        match word {
            "credit" => credit += number,
            "out" => {
                out.extend(owner.take(number));
                owner.send(format!("ack {} 0\n", out.len()));
            }
            "end" => {
                owner.take(number);
                break;
            }
            "at" | "alive" => {}
            _ => panic!("{header}"),
        }
        let count = credit.min(input.len() - sent).min(100_000);
        if count > 0 {
            owner
                .send(format!("in {count}\n"))
                .send(&input[sent..sent + count]);
            sent += count;
            credit -= count;
        }
        if sent == input.len() && !eof {
            owner.send("eof\n");
            eof = true;
        }
    }
    owner.send("done\n").expect("whoami 4\n", "4\nunix");
    assert!(out == input, "{} bytes of {}", out.len(), input.len());
}

#[test]
fn every_reason_not_to_start_is_told_before_the_program_runs() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    owner.putfile("/f", "not a program");
    owner.putfile("/garbage", "\x7fELF garbage");
    owner.expect("chmod /garbage 448\n", "0\n");
    place.link("/etc", "out");
    for (request, code) in [
        (json!({"cmd": "no-such-program"}), "-3"),
        (json!({"cmd": "/no/such/program"}), "-3"),
        (json!({"cmd": "true", "path": "/none"}), "-3"),
        (json!({"cmd": "true", "path": "/out"}), "-3"),
        (json!({"cmd": "true", "path": "/../../out"}), "-3"),
        (json!({"cmd": "true", "path": "/f"}), "-14"),
        (json!({"cmd": "/etc/passwd"}), "-2"),
        (json!({"cmd": "/etc"}), "-2"),
        (json!({"cmd": "./f"}), "-2"),
        (json!({"cmd": "./garbage"}), "-8"),
        (json!({"cmd": "true", "stdin": {"file": "/none"}}), "-3"),
        (json!({"cmd": "true", "stdout": {"file": "/"}}), "-13"),
        (json!({"cmd": "true", "args": ["x".repeat(200_000)]}), "-5"),
        (json!({"cmd": "true", "tty": {"rows": 24}}), "-8 tty.cols"),
        (
            json!({"cmd": "true", "cmdd": 1}),
            "-8 unknown field \"cmdd\"",
        ),
        (json!({"cmd": "true", "args": "x"}), "-8"),
        (json!({"cmd": 5}), "-8"),
        (json!({}), "-8"),
        (json!([]), "-8"),
        (json!({"cmd": "true\u{0}"}), "-8"),
        (json!({"cmd": ""}), "-8"),
        (json!({"cmd": "true", "cmd-id": "a/b"}), "-8"),
        (json!({"cmd": "true", "usage_ms": -1}), "-8"),
        (
            json!({"cmd": "true", "usage_ms": 9_007_199_254_740_993u64}),
            "-8",
        ),
    ] {
        let said = refused(&mut owner, &request);
        assert!(said.starts_with(code), "{request:.200}: {said}");
        assert!(said.trim_end().len() > 4, "words follow: {said}");
    }
    for body in [
        "",
        "{",
        "nonsense",
        "{\"cmd\":\"true\",\"cmd\":\"false\"}",
        "\u{0}",
        "{}{}",
        "{\"cmd\":\"a\nb\"}",
    ] {
        let answer = owner.answer(format!("exec {}\n{body}", body.len()));
        assert!(
            answer.starts_with(b"-8 "),
            "{body}: {}",
            answer.escape_ascii()
        );
    }
    let deep = "[".repeat(1 << 20);
    assert!(
        owner
            .answer(format!("exec {}\n{deep}", deep.len()))
            .starts_with(b"-8")
    );
    owner.expect("exec x\nexec -1\n", "-8\n-8\n");
    assert_eq!(run(&mut owner, &shell("exit 3")).code(), 3);
}

#[test]
fn bodies_beyond_the_limit_are_dropped_and_beyond_16_mib_end_the_connection() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    let mib = 1 << 20;
    owner
        .send(format!("exec {}\n", mib + 1))
        .send(vec![b'{'; mib + 1]);
    let answer = owner.answer("");
    assert!(answer.starts_with(b"-5 "), "{}", answer.escape_ascii());
    owner
        .send(format!("exec {}\n", 16 * mib))
        .send(vec![b'\n'; 16 * mib]);
    assert!(owner.answer("").starts_with(b"-5 "));
    owner.send(format!("exec {}\n", 16 * mib + 1));
    assert!(owner.line().starts_with("-5 "));
    owner.read_end();
}

#[test]
fn without_the_right_or_the_option_nothing_runs() {
    let place = Place::new();
    place.write(
        ".__acl",
        format!(
            "unix:{} rwldax\naddress:127.0.0.2 rwlda\naddress:127.0.0.3 x\n",
            place.user
        ),
    );
    place.directory(
        "tools",
        &format!("unix:{} rwldax\naddress:127.0.0.3 rl\n", place.user),
    );
    place.write("tools/t", "#!/bin/sh\necho tool\n");
    fs::set_permissions(place.host("tools/t"), fs::Permissions::from_mode(0o700)).unwrap();
    place.write("secret", "secret");
    let server = place.serve(&["--exec"]);
    assert!(refused(&mut server.guest(2), &shell("true")).starts_with("-2"));
    assert!(refused(&mut server.guest(4), &shell("true")).starts_with("-2"));
    let mut runner = server.guest(3);
    assert_eq!(run(&mut runner, &shell("exit 4")).code(), 4);
    // x is no right on files: stdin needs r, output w, a program in the tree x where it lies.
    let tool = place.host("tools/t");
    for request in [
        json!({"cmd": "cat", "stdin": {"file": "/secret"}}),
        json!({"cmd": "true", "stdout": {"file": "/new"}}),
        json!({"cmd": "true", "stderr": {"file": "/secret", "append": true}}),
        json!({"cmd": "true", "path": "/tools"}),
        json!({"cmd": tool.to_str().unwrap()}),
        json!({"cmd": "true", "stdout": {"file": "/.__acl"}}),
    ] {
        let said = refused(&mut runner, &request);
        assert!(said.starts_with("-2"), "{request}: {said}");
    }
    assert_eq!(fs::read(place.host("secret")).unwrap(), b"secret");
    let mut owner = server.owner();
    assert_eq!(
        run(&mut owner, &json!({"cmd": "./t", "path": "/tools"})).out,
        b"tool\n"
    );
    assert_eq!(
        run(&mut owner, &json!({"cmd": tool.to_str().unwrap()})).out,
        b"tool\n"
    );
    let files = json!({"cmd": "cat", "stdin": {"file": "/secret"}, "stdout": {"file": "/copy"}});
    assert_eq!(run(&mut owner, &files).code(), 0);
    assert_eq!(owner.getfile("/copy"), Ok(b"secret".to_vec()));
    // Nobody else's executions exist.
    let id = start(&mut owner, &json!({"cmd": "true", "detach": true}));
    runner.send(format!("exec_status {id}\nexec_signal {id} 9\n"));
    assert!(runner.line().starts_with("-21") && runner.line().starts_with("-21"));
    drop(server);

    let server = place.serve(&[]);
    let mut owner = server.owner();
    assert!(refused(&mut owner, &shell("true")).starts_with("-23"));
    drop(server);
}

/// What `features` says of the sandbox.
pub(crate) fn sandbox(server: &Server<'_>) -> Value {
    let mut owner = server.owner();
    owner.send("features\n");
    let features: Value = serde_json::from_slice(&owner.counted().unwrap()).unwrap();
    features["sandbox"].clone()
}

#[test]
fn programs_write_below_their_path_only_and_features_say_what_is_enforced() {
    let place = Place::new();
    place.directory("other", &format!("unix:{} rwldax\n", place.user));
    place.write("other/file", "other");
    place.directory("work", &format!("unix:{} rwldax\n", place.user));
    let server = place.serve(&["--exec"]);
    let enforced = sandbox(&server);
    let mut owner = server.owner();
    let mut request = shell(&format!(
        "cat {0}/other/file; echo own >own && echo t >$TMPDIR/t && cat own; \
         echo bad >{0}/other/file; echo bad >{0}/other/new; echo bad >/tmp/$$ && rm /tmp/$$ && echo bad",
        place.host("").display()
    ));
    request["path"] = json!("/work");
    let ended = run(&mut owner, &request);
    if enforced["landlock"].as_u64().unwrap() > 0 {
        assert_eq!(String::from_utf8_lossy(&ended.out), "otherown\n");
        assert_eq!(fs::read(place.host("other/file")).unwrap(), b"other");
        assert!(!place.host("other/new").exists());
    } else {
        assert!(server.log().contains("gaps"), "the log says so");
    }
    drop(server);
    // What the kernel lacks is not run without, if so required.
    let server = place.serve(&["--exec", "--sandbox=require"]);
    let whole = enforced["landlock"].as_u64().unwrap() >= 6 && enforced["seccomp"] == true;
    let mut owner = server.owner();
    if whole {
        assert_eq!(run(&mut owner, &shell("echo ran")).out, b"ran\n");
    } else {
        assert!(refused(&mut owner, &shell("echo ran")).starts_with("-23"));
    }
    drop(server);
    let server = place.serve(&["--exec", "--sandbox=off"]);
    let none = json!({"landlock": 0, "seccomp": false, "namespaces": false, "cgroup": false});
    assert_eq!(sandbox(&server), none);
    let mut request = shell(&format!("echo x >{}/other/new", place.host("").display()));
    request["path"] = json!("/work");
    assert_eq!(run(&mut server.owner(), &request).code(), 0);
    assert_eq!(fs::read(place.host("other/new")).unwrap(), b"x\n");
}

#[test]
fn a_policy_and_a_list_of_programs_narrow_what_may_run_and_each_run_is_logged() {
    let place = Place::new();
    let list = tempfile::NamedTempFile::new().unwrap();
    let entry = format!("\"unix:{}\" = [\"/bin/sh\"]\n", place.user);
    fs::write(list.path(), entry).unwrap();
    fs::set_permissions(list.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let allow = format!("--exec-allow={}", list.path().display());
    let server = place.serve(&["--exec", &allow, "--executions=1"]);
    let mut owner = server.owner();
    let mut request = shell("exit 7");
    request["env"] = json!({"PASSWORD": "hidden-value"});
    assert_eq!(run(&mut owner, &request).code(), 7);
    let said = refused(&mut owner, &json!({"cmd": "env"}));
    assert!(
        said.starts_with("-2 ") && said.contains("--exec-allow"),
        "{said}"
    );
    eventually("the log's line", || {
        let log = server.log();
        let mut lines = log.lines();
        lines.any(|line| line.contains("execution ended") && line.contains("code=7"))
    });
    assert!(!server.log().contains("hidden-value"));
    let mut waiting = shell("read line");
    waiting["stdin"] = json!("stream");
    start(&mut owner, &waiting);
    let said = refused(&mut server.owner(), &shell("true"));
    assert!(said.starts_with("-9 "), "{said}");
}

#[test]
fn the_program_runs_where_and_as_whom_it_should() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    owner.expect("mkdir /work 448\n", "0\n");
    let script = "id -un; pwd -P; umask; env | sort | tr '\\n' ' '; ls -l /proc/self/fd | wc -l; cat /proc/self/status | grep -E '^(NoNewPrivs|CapEff)'";
    let mut request = shell(script);
    request["path"] = json!("/work");
    request["env"] = json!({"MINE": "yes"});
    let ended = run(&mut owner, &request);
    let out = String::from_utf8(ended.out).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], place.user);
    assert_eq!(
        lines[1],
        place.host("work").canonicalize().unwrap().to_str().unwrap()
    );
    assert_eq!(lines[2], "0077");
    assert!(
        lines[3].contains("MINE=yes") && !lines[3].contains("CARGO"),
        "{out}"
    );
    assert!(out.contains("NoNewPrivs:\t1"), "{out}");
    assert_eq!(ended.err, b"");
    // What it makes can be fetched and removed.
    let mut request = shell("echo made > file");
    request["path"] = json!("/work");
    run(&mut owner, &request);
    assert_eq!(owner.getfile("/work/file"), Ok(b"made\n".to_vec()));
}

#[test]
fn a_cmd_id_is_one_execution() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    let request =
        json!({"cmd": "sh", "args": ["-c", "echo run >> log"], "cmd-id": "once", "detach": true});
    let id = start(&mut owner, &request);
    let mut second = server.owner();
    assert_eq!(start(&mut second, &request), id);
    owner.send(format!("exec_wait {id} 30\n"));
    let status: Value = serde_json::from_slice(&owner.counted().unwrap()).unwrap();
    assert_eq!(status["state"], "ended");
    assert_eq!(start(&mut second, &request), id);
    assert_eq!(second.getfile("/log"), Ok(b"run\n".to_vec()));
    let other =
        json!({"cmd": "sh", "args": ["-c", "echo other >> log"], "cmd-id": "once", "detach": true});
    assert!(refused(&mut second, &other).starts_with("-4"));
    owner.send("exec_status @once\n");
    assert!(owner.counted().is_ok());
    owner.send("exec_status @never\nexec_status 99999999\n");
    assert!(owner.line().starts_with("-21") && owner.line().starts_with("-21"));
}

/// Asks for a status.
pub(crate) fn status(peer: &mut Peer, id: u64) -> Value {
    peer.send(format!("exec_status {id}\n"));
    serde_json::from_slice(&peer.counted().unwrap()).unwrap()
}

#[test]
fn a_client_comes_back_where_it_was_and_the_former_one_is_sent_away() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    let mut first = server.owner();
    let script = "printf 0123456789; read x; printf \"$x\"; exec sleep 0";
    let request = json!({"cmd": "sh", "args": ["-c", script], "stdin": "stream"});
    let id = start(&mut first, &request);
    assert_eq!(frame(&mut first).0, "at 0 0 0 0");
    let mut seen = Vec::new();
    while seen.len() < 10 {
        seen.extend(frame(&mut first).1);
    }
    first.send("ack 4 0\n");
    let mut second = server.owner();
    eventually("the acknowledgement was taken", || {
        status(&mut second, id)["out_from"] == 4
    });
    for (out, err) in [(11, 0), (3, 0), (10, 1)] {
        second.send(format!("exec_attach {id} {out} {err}\n"));
        assert!(second.line().starts_with("-8 "), "{out} {err}");
    }
    second.send(format!("exec_remove {id}\nexec_remove 99999999\n"));
    assert!(second.line().starts_with("-10 "), "it runs");
    assert!(second.line().starts_with("-21 "));
    second.send(format!("exec_attach {id} 6 0\n"));
    let told: Value = serde_json::from_slice(&second.counted().unwrap()).unwrap();
    assert_eq!(told["state"], "running");
    assert_eq!(told["attached"], true);
    assert_eq!(frame(&mut second).0, "at 6 0 0 0");
    // The rest of the output and the credit of the new stream mode, in either order.
    let (mut rest, mut credit) = (Vec::new(), false);
    while rest != b"6789" || !credit {
        let header = second.line();
        match header.split_once(' ') {
            Some(("out", length)) => rest.extend(second.take(length.parse().unwrap())),
            Some(("credit", _)) => credit = true,
            _ => assert_eq!(header, "alive"),
        }
    }
    assert_eq!(frame(&mut first).0, "detached");
    first.send("done\n");
    assert_eq!(
        status(&mut first, id)["out_from"],
        4,
        "attaching acknowledges nothing"
    );
    second.send("in 3\nab\n");
    let ended = finish(&mut second);
    assert_eq!((&ended.out[..], ended.code()), (&b"ab"[..], 0));
    // What is left of an ended one is nothing.
    second.send(format!("exec_attach {id} 12 0\n"));
    assert!(second.counted().is_ok());
    let again = finish(&mut second);
    assert_eq!((&again.out[..], again.code()), (&b""[..], 0));
    second.send(format!("exec_remove {id}\nexec_status {id}\n"));
    assert_eq!(second.line(), "0");
    assert!(second.line().starts_with("-21 "));
    second.send(format!("exec_attach {id} 0 0\n"));
    assert!(second.line().starts_with("-21 "));
}

#[test]
fn a_cmd_id_sent_by_many_at_once_runs_once() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    let request =
        json!({"cmd": "sh", "args": ["-c", "echo run >> log"], "cmd-id": "race", "detach": true});
    let ids: Vec<u64> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..8)
            .map(|_| {
                let mut peer = server.owner();
                let request = &request;
                scope.spawn(move || start(&mut peer, request))
            })
            .collect();
        starting
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let mut owner = server.owner();
    owner.send("exec_wait @race 30\n");
    assert!(owner.counted().is_ok());
    assert_eq!(owner.getfile("/log"), Ok(b"run\n".to_vec()));
}

#[test]
fn a_lost_connection_kills_the_whole_group_or_keeps_it_as_asked() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    let script = "sleep 1000 & sh -c 'trap \"\" TERM; sleep 1000' & echo $$; wait";
    let mut request = shell(script);
    request["on_disconnect"] = json!("kill");
    let mut peer = server.owner();
    start(&mut peer, &request);
    let leader = printed_outside(&server, &mut peer);
    let group = |leader: i64| {
        fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter(|entry| {
                let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
                let mut fields = stat
                    .rsplit(')')
                    .next()
                    .unwrap_or_default()
                    .split_whitespace();
                let dead = fields.next() == Some("Z");
                !dead && fields.nth(1).and_then(|group| group.parse().ok()) == Some(leader)
            })
            .count()
    };
    eventually("all of it runs", || group(leader) >= 4);
    drop(peer);
    eventually("nothing of it runs", || group(leader) == 0);
    // `keep` is the default; the program's end ends its background children.
    let mut peer = server.owner();
    let id = start(&mut peer, &shell("sleep 1000 & echo $$; sleep 0.3; exit 5"));
    let leader = printed_outside(&server, &mut peer);
    drop(peer);
    let mut owner = server.owner();
    owner.send(format!("exec_wait {id} 30\n"));
    let status: Value = serde_json::from_slice(&owner.counted().unwrap()).unwrap();
    assert_eq!(status["results"]["exitCodeOrSignal"], 5);
    eventually("its child is gone", || group(leader) == 0);
}

#[test]
fn breaking_the_protocol_ends_the_connection_with_words() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    for wrong in [
        "nonsense\n",
        "in 9999999999\n",
        "done\n",
        "ack 5 5\n",
        "signal 0\n",
        "signal x\n",
        "whoami 4\n",
        "in -1\n",
    ] {
        let mut peer = server.owner();
        let mut request = shell("echo $$; sleep 1000");
        request["on_disconnect"] = json!("kill");
        start(&mut peer, &request);
        let pid = printed_outside(&server, &mut peer);
        peer.send(wrong);
        let said = String::from_utf8(peer.rest()).unwrap();
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("-8 ") && last.len() > 4, "{wrong}: {said}");
        eventually("it is treated as a lost connection", || !alive(pid));
    }
}

#[test]
fn a_program_that_floods_an_absent_reader_delays_nobody_and_is_held_up() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    let mut flooded = Vec::new();
    for _ in 0..4 {
        let mut peer = server.owner();
        // Nothing of it is read or acknowledged.
        let id = start(&mut peer, &json!({"cmd": "yes", "on_disconnect": "kill"}));
        flooded.push((peer, id));
    }
    let mut owner = server.owner();
    owner.putfile("/f", "x");
    for _ in 0..2000 {
        assert!(owner.answer("stat /f\n").starts_with(b"0\n"));
    }
    let mut before = 0;
    eventually("the programs are held up by full windows", || {
        let mut written = 0;
        for (_, id) in &flooded {
            owner.send(format!("exec_status {id}\n"));
            let status: Value = serde_json::from_slice(&owner.counted().unwrap()).unwrap();
            assert_eq!(status["state"], "running");
            written += status["out_to"].as_u64().unwrap();
        }
        let stands = written == before && written >= 4 << 20;
        before = written;
        stands
    });
    assert!(
        before <= 4 * (1 << 20) + 4 * (64 << 10),
        "{before} bytes are kept"
    );
    assert!(server.memory_kib("VmRSS") < 96 * 1024);
}

#[test]
fn signals_reach_the_group_and_the_end_says_so() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    start(&mut owner, &shell("echo $$; sleep 1000; echo not reached"));
    printed_pid(&mut owner);
    owner.send("signal 10\n");
    let ended = finish(&mut owner);
    assert_eq!((ended.code(), ended.out), (-10, Vec::new()));
    // From another connection.
    let id = start(&mut owner, &shell("echo $$; sleep 1000"));
    printed_pid(&mut owner);
    let mut second = server.owner();
    second.expect(format!("exec_signal {id} 9\n"), "0\n");
    assert_eq!(finish(&mut owner).code(), -9);
    let said = second.answer(format!(
        "exec_signal {id} 0\nexec_signal {id} 65\nexec_signal {id} -1\n"
    ));
    assert_eq!(said.escape_ascii().to_string().matches("-8").count(), 3);
}

#[test]
fn the_end_of_the_server_ends_its_programs_and_tells_their_clients() {
    let place = Place::new();
    let mut server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    start(&mut owner, &shell("echo $$; sleep 1000"));
    let pid = printed_outside(&server, &mut owner);
    let mut stubborn = server.owner();
    start(
        &mut stubborn,
        &shell("trap '' TERM; echo $$; while :; do sleep 1000; done"),
    );
    let stubborn_pid = printed_outside(&server, &mut stubborn);
    server.signal(Signal::TERM);
    let ended = finish(&mut owner);
    assert_eq!(ended.status["results"]["limit"], "shutdown");
    let ended = finish(&mut stubborn);
    assert_eq!(ended.status["results"]["limit"], "shutdown");
    assert_eq!(ended.code(), -9);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!alive(pid) && !alive(stubborn_pid));
}

#[test]
fn programs_of_a_killed_server_are_not_told_as_running_by_the_next() {
    let place = Place::new();
    let mut server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    let id = start(&mut owner, &shell("echo $$; sleep 1000"));
    let pid = printed_outside(&server, &mut owner);
    server.signal(Signal::KILL);
    server.wait();
    drop(server);
    let server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    // Ids are never used again.
    let next = start(&mut owner, &json!({"cmd": "true", "detach": true}));
    assert!(next > id, "{next} after {id}");
    if let Some(pid) = Pid::from_raw(i32::try_from(pid).unwrap()) {
        // Ours: started by the server of this test.
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}

#[test]
fn captured_output_is_in_the_status_and_can_be_read_in_parts_by_its_owner() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    let mut request = shell("echo one; echo two >&2");
    request["stdout"] = json!("capture");
    request["stderr"] = json!("capture");
    request["cmd-id"] = json!("captured");
    let ended = run(&mut owner, &request);
    assert!(ended.out.is_empty() && ended.err.is_empty());
    let results = &ended.status["results"];
    assert_eq!(
        (&results["out"], &results["err"]),
        (&json!("one\n"), &json!("two\n"))
    );
    owner.expect("exec_output @captured out 1 100\n", "3\nne\n");
    owner.expect("exec_output @captured err 0 2\n", "2\ntw");
    owner.expect("exec_output @captured out 4 100\n", "0\n");
    owner.expect("exec_output @captured out 99999 1\n", "0\n");
    let id = ended.status["id"].as_u64().unwrap();
    server.guest(3).expect(
        format!("exec_output {id} out 0 9\n"),
        "-21 no such execution\n",
    );
    let streamed = run(&mut owner, &shell("echo"));
    let id = streamed.status["id"].as_u64().unwrap();
    owner.expect(
        format!("exec_output {id} out 0 9\n"),
        "-8 out is not captured\n",
    );
    owner.expect("exec_remove @captured\n", "0\n");
    owner.expect("exec_output @captured out 0 9\n", "-21 no such execution\n");
}

#[test]
fn a_killed_server_remembers_what_ended_and_says_what_was_lost() {
    let place = Place::new();
    let mut server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    let mut kept = shell("echo kept; exit 3");
    kept["cmd-id"] = json!("kept");
    kept["stdout"] = json!("capture");
    assert_eq!(run(&mut owner, &kept).code(), 3);
    let mut lost = shell(
        "(setsid env -i sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >&2); echo $$; sleep 1000",
    );
    lost["cmd-id"] = json!("lost");
    let id = start(&mut owner, &lost);
    let leader = printed_outside(&server, &mut owner);
    server.signal(Signal::KILL);
    assert!(!server.wait().success());

    let server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    eventually("the program's end", || !alive(leader));
    let mut status = |name: &str| -> Value {
        owner.send(format!("exec_status {name}\n"));
        serde_json::from_slice(&owner.counted().unwrap()).unwrap()
    };
    let ended = status("@kept");
    assert_eq!(
        (&ended["state"], &ended["results"]["out"]),
        (&json!("ended"), &json!("kept\n"))
    );
    let status = status("@lost");
    assert_eq!(
        (&status["state"], &status["results"], &status["id"]),
        (&json!("lost"), &Value::Null, &json!(id))
    );
    // The same requests run nothing again.
    let mut owner = server.owner();
    kept["detach"] = json!(false);
    ask(&mut owner, &kept);
    assert!(owner.line().starts_with("-4"), "another digest");
    let mut owner = server.owner();
    start(&mut owner, &lost);
    let again = finish(&mut owner);
    assert_eq!(again.status["state"], "lost");
    assert_eq!(again.status["id"], json!(id));
    let mut fresh = shell("true");
    fresh["detach"] = json!(true);
    assert!(start(&mut owner, &fresh) > id, "ids are not used again");
}
