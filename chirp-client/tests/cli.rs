//! The binary against the reference's server: output, exit status and messages.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use std::process::{Command, Output, Stdio};

use support::Reference;

/// Runs the client as an ordinary user, logged in by address.
fn run(server: &Reference, arguments: &[&str]) -> Output {
    command(server, arguments).output().unwrap()
}

fn command(server: &Reference, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chirp-client"));
    command
        .args(["-a", "address", "-t", "10", &server.address()])
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null());
    support::as_nobody(&mut command);
    command
}

/// Runs the reference's tool likewise.
fn reference(server: &Reference, arguments: &[&str]) -> Output {
    let mut command = Command::new("chirp");
    command
        .args(["-a", "address", "-t", "10", &server.address()])
        .args(arguments)
        .stdin(Stdio::null());
    support::as_nobody(&mut command);
    command
        .output()
        .expect("chirp: apt-get install coop-computing-tools")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeed(server: &Reference, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    assert_eq!(text(&output.stderr), "", "{arguments:?}");
    text(&output.stdout)
}

fn fail(server: &Reference, arguments: &[&str]) -> (i32, String) {
    let output = run(server, arguments);
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    (output.status.code().unwrap(), text(&output.stderr))
}

#[test]
fn a_session_by_hand() {
    let server = Reference::start();
    let local = server.outside("local");
    std::fs::write(local.join("f"), "hello\n").unwrap();
    support::give_away(&local.join("f"));
    let file = local.join("f");
    let file = file.to_str().unwrap();

    assert_eq!(succeed(&server, &["whoami"]), "address:127.0.0.1\n");
    succeed(&server, &["mkdir", "-p", "/a/b/c"]);
    succeed(&server, &["mkdir", "/a"]);
    succeed(&server, &["put", file, "/a/b"]);
    assert_eq!(
        succeed(&server, &["cat", "/a/b/f", "/a/b/f"]),
        "hello\nhello\n"
    );
    assert_eq!(succeed(&server, &["ls", "/a/b"]), "c\nf\n");
    assert_eq!(succeed(&server, &["ls", "-a", "/a/b"]), ".\n..\nc\nf\n");
    succeed(&server, &["mv", "/a/b/f", "/a/b/c"]);
    succeed(&server, &["mv", "/a/b/c/f", "/a/g"]);
    succeed(
        &server,
        &["get", "/a/g", local.join("back").to_str().unwrap()],
    );
    assert_eq!(std::fs::read(local.join("back")).unwrap(), b"hello\n");
    assert_eq!(succeed(&server, &["get", "/a/g", "-"]), "hello\n");
    succeed(&server, &["get", "/a/.", local.to_str().unwrap()]);
    assert_eq!(std::fs::read(local.join("g")).unwrap(), b"hello\n");
    succeed(&server, &["get", "/a", local.to_str().unwrap()]);
    assert_eq!(std::fs::read(local.join("a/g")).unwrap(), b"hello\n");
    succeed(&server, &["setacl", "/a", "unix:bob", "read"]);
    assert!(succeed(&server, &["getacl", "/a"]).ends_with("unix:bob rl\n"));
    succeed(&server, &["rm", "/a"]);
    assert!(!server.root().join("a").exists());
}

#[test]
fn output_is_that_of_the_references_tool() {
    let server = Reference::start();
    std::fs::write(server.root().join("f"), "x").unwrap();
    support::give_away(&server.root().join("f"));
    for arguments in [
        &["stat", "/f"][..],
        &["md5", "/f"],
        &["getacl", "/"],
        &["whoami"],
    ] {
        let (ours, theirs) = (run(&server, arguments), reference(&server, arguments));
        assert_eq!(text(&ours.stdout), text(&theirs.stdout), "{arguments:?}");
        assert!(ours.status.success() && theirs.status.success());
    }
    // Ours is sorted; the reference's order is the disk's.
    let sorted = |output: Output| {
        let mut lines: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    for arguments in [&["ls", "-la", "/"][..], &["ls", "/"], &["ls", "-l", "/"]] {
        let (ours, theirs) = (run(&server, arguments), reference(&server, arguments));
        assert_eq!(sorted(ours), sorted(theirs), "{arguments:?}");
    }
}

#[test]
fn failures_name_host_path_and_reason() {
    let server = Reference::start();
    let host = server.address();
    for (arguments, words) in [
        (
            &["cat", "/none"][..],
            "getfile /none: no such file or directory",
        ),
        (
            &["ls", "/none"],
            "getlongdir /none: no such file or directory",
        ),
        (&["rm", "/none"], "rmall /none: no such file or directory"),
        (&["mv", "/none", "/x"], "rename /none to /x: no such file"),
        (&["get", "/none", "/tmp/x"], "stat /none: no such file"),
        (
            &["put", "/none", "/x"],
            "failed to read /none: No such file",
        ),
        (
            &["setacl", "/none", "unix:a", "rl"],
            "setacl /none: no such file",
        ),
        (&["sha256", "/x"], "does not offer sha256; md5"),
    ] {
        let (code, message) = fail(&server, arguments);
        assert_eq!(code, 1, "{arguments:?}");
        assert!(message.contains(words), "{message}");
        assert!(
            message.contains(&host) || arguments[0] == "put",
            "{message}"
        );
    }
    let (code, message) = fail(&server, &["exec", "--", "true"]);
    assert_eq!(code, 125);
    assert!(
        message.contains("chirp-server started with --exec"),
        "{message}"
    );
}

#[test]
fn a_missing_right_tells_who_one_is() {
    let server = Reference::start();
    std::fs::write(server.root().join(".__acl"), "unix:somebody rwlda\n").unwrap();
    let (code, message) = fail(&server, &["ls", "/"]);
    assert_eq!(code, 1);
    assert!(message.contains("permission denied"), "{message}");
    assert!(
        message.contains("you are address:127.0.0.1 there"),
        "{message}"
    );
}

#[test]
fn a_server_that_is_not_there_is_told_with_a_remedy() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chirp-client"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let output = command.args([&address, "ls"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let message = text(&output.stderr);
    assert!(
        message.contains(&address) && message.contains("refused"),
        "{message}"
    );
    assert!(message.contains("start a server"), "{message}");
    let session = Command::new(env!("CARGO_BIN_EXE_chirp-client"))
        .arg(&address)
        .output();
    assert_eq!(session.unwrap().status.code(), Some(3));
    let output = Command::new(env!("CARGO_BIN_EXE_chirp-client"))
        .args([&address, "exec", "--", "true"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn a_server_that_says_nothing_is_given_up_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_chirp-client"))
        .args(["-t", "0.3", &address, "ls"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let message = text(&output.stderr);
    assert!(message.contains("nothing came for 0.3s"), "{message}");
}

#[test]
fn a_closed_pipe_ends_cat_quietly() {
    let server = Reference::start();
    std::fs::write(server.root().join("f"), vec![b'x'; 3_000_000]).unwrap();
    support::give_away(&server.root().join("f"));
    let mut child = command(&server, &["cat", "/f"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(128 + 13));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn standard_input_can_be_put() {
    let server = Reference::start();
    let mut child = command(&server, &["put", "-", "/in"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    use std::io::Write;
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&[b'x'; 400_000]).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(
        std::fs::read(server.root().join("in")).unwrap().len(),
        400_000
    );
}

#[test]
fn a_copy_says_in_json_what_it_came_to() {
    let server = Reference::start();
    let local = server.outside("local");
    std::fs::write(local.join("f"), "12345").unwrap();
    std::os::unix::fs::symlink("/none", local.join("l")).unwrap();
    for name in ["f", "l"] {
        support::give_away(&local.join(name));
    }
    let local = local.to_str().unwrap();
    let put = succeed(&server, &["put", "--json", local, "/"]);
    let put: serde_json::Value = serde_json::from_str(&put).unwrap();
    assert_eq!(
        (&put["files"], &put["links"], &put["bytes"]),
        (&1.into(), &1.into(), &5.into())
    );
    assert_eq!(put["failed"], 0);
    // A directory stands where a file should come: the rest comes, and the document says so as well as the status.
    let bad = server.outside("bad");
    std::fs::create_dir(bad.join("f")).unwrap();
    support::give_away(&bad.join("f"));
    let bad = bad.to_str().unwrap();
    let output = run(&server, &["get", "--json", "/local/.", bad]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let got: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(got["failed"], 1, "{got}");
    let failures = got["failures"][0]["error"].as_str().unwrap();
    assert!(!failures.is_empty(), "{got}");
    assert!(
        text(&output.stderr).contains("1 entries were not copied"),
        "{output:?}"
    );
}

#[test]
fn rights_are_asked_for_and_streams_go_both_ways() {
    use std::io::Write;
    let server = Reference::start();
    std::fs::write(server.root().join("f"), "hello\n").unwrap();
    support::give_away(&server.root().join("f"));
    succeed(&server, &["access", "/f"]);
    succeed(&server, &["access", "-rw", "/f"]);
    let (code, message) = fail(&server, &["access", "-x", "/f"]);
    assert_eq!(code, 1);
    assert!(
        message.contains("access /f: permission denied"),
        "{message}"
    );

    assert_eq!(succeed(&server, &["getstream", "/f"]), "hello\n");
    let (code, message) = fail(&server, &["getstream", "/none"]);
    assert_eq!(code, 1);
    assert!(message.contains("getstream /none"), "{message}");

    let mut child = command(&server, &["putstream", "/f"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"first\nsecond\n").unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    let there = std::fs::read_to_string(server.root().join("f")).unwrap();
    assert_eq!(there, "first\nsecond\n");
}

#[test]
fn without_a_command_those_of_standard_input_are_carried_out() {
    use std::io::Write;
    let server = Reference::start();
    for (script, code, shown) in [
        ("mkdir /d\ncd d\npwd\nls /\n", 0, "/d\nd\n"),
        ("ls /none\npwd\n", 1, ""),
    ] {
        let mut child = command(&server, &[])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(script.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert_eq!(text(&output.stdout), shown);
    }
}
