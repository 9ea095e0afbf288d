//! Programs on real servers: what they wrote, looked up later; jobs in their place on the reference's
//! server; and the library's events and halves.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "trees/ours.rs"]
mod ours;
mod support;

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use chirp_client::Client;
use chirp_client::ExecutionName;
use chirp_client::exec::{Control, Ending, Event, ExecRequest, OutputTo, State, StdinFrom};
use ours::Ours;
use rustix::process::{Pid, Signal, kill_process};
use support::{LIMIT, Reference};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn command(address: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chirp-client"));
    command
        .args(["-a", "address", "-t", "20", address])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

fn run(address: &str, arguments: &[&str]) -> Output {
    command(address, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A request for a shell's script.
fn shell(script: &str) -> ExecRequest {
    let mut request = ExecRequest::new("sh");
    request.args = vec!["-c".into(), script.into()];
    request
}

/// Starts a script that nobody is attached to, and waits until it has written so much.
async fn detached(client: &Client, request: &ExecRequest, out: u64) -> String {
    let id = client.exec_detached(request).await.unwrap();
    written(client, &ExecutionName::Id(id), out).await;
    id.to_string()
}

/// Waits until a program has written so much to its standard output.
async fn written(client: &Client, name: &ExecutionName, out: u64) {
    let begun = std::time::Instant::now();
    while client.exec_status(name).await.unwrap().out_to < out {
        assert!(begun.elapsed() < LIMIT, "nothing is written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn ended(client: &Client, id: &str) {
    let name = ExecutionName::Id(id.parse().unwrap());
    let status = client.exec_wait(&name, 20).await.unwrap();
    assert_eq!(status.state, State::Ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_at_streamed_output_leaves_it_there() {
    let server = Ours::start_with_exec();
    let client = server.client().await;
    // More than a client takes without acknowledging, if it takes any.
    let script = "echo error >&2; head -c 600000 /dev/zero | tr '\\0' x; trap 'exit 3' USR1
        while :; do sleep 0.05; done";
    let whole = "x".repeat(600_000);
    let id = detached(&client, &shell(script), 600_000).await;
    for _ in 0..2 {
        let logs = run(&server.address(), &["logs", &id]);
        assert!(logs.status.success(), "{logs:?}");
        assert!((text(&logs.stdout), text(&logs.stderr)) == (whole.clone(), "error\n".into()));
    }
    let logs = run(&server.address(), &["logs", "--stderr", &id]);
    assert_eq!(
        (text(&logs.stdout), text(&logs.stderr)),
        (String::new(), "error\n".into())
    );
    assert!(
        run(&server.address(), &["kill", "-s", "USR1", &id])
            .status
            .success()
    );
    ended(&client, &id).await;
    // The same once it has ended, and then somebody takes it.
    for _ in 0..2 {
        let logs = run(&server.address(), &["logs", "--stdout", &id]);
        assert!((text(&logs.stdout), text(&logs.stderr)) == (whole.clone(), String::new()));
    }
    let attached = run(&server.address(), &["attach", &id]);
    assert_eq!(attached.status.code(), Some(3), "{attached:?}");
    assert!(text(&attached.stdout) == whole);
    let logs = run(&server.address(), &["logs", &id]);
    assert_eq!(text(&logs.stdout), "");
    assert!(
        text(&logs.stderr).contains("bytes were taken by a client"),
        "{logs:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ends_with_its_connection_survives_a_look() {
    let server = Ours::start_with_exec();
    let client = server.client().await;
    let script = "trap 'echo alive' USR1; echo out; while :; do sleep 0.05; done";
    let mut request = shell(script);
    request.on_disconnect = chirp_client::exec::OnDisconnect::Kill;
    let id = detached(&client, &request, 4).await;
    assert_eq!(run(&server.address(), &["logs", &id]).stdout, b"out\n");
    // Following it and being interrupted likewise.
    let mut following = command(&server.address(), &["logs", "-f", &id]);
    let mut following = following.stdout(Stdio::piped()).spawn().unwrap();
    let mut seen = [0; 4];
    std::io::Read::read_exact(following.stdout.as_mut().unwrap(), &mut seen).unwrap();
    kill_process(Pid::from_child(&following), Signal::INT).unwrap();
    let left = following.wait_with_output().unwrap();
    assert_eq!(left.status.code(), Some(0));
    let name = ExecutionName::Id(id.parse().unwrap());
    let status = client.exec_status(&name).await.unwrap();
    assert_eq!((status.state, status.attached), (State::Running, false));
    client.exec_signal(&name, 10).await.unwrap();
    written(&client, &name, 10).await;
    client.exec_signal(&name, 9).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn captured_output_is_shown_and_followed() {
    let server = Ours::start_with_exec();
    let client = server.client().await;
    let mut request = shell("echo out; trap 'echo more; exit' USR1; while :; do sleep 0.05; done");
    request.stdout = OutputTo::Capture;
    request.stderr = OutputTo::Discard;
    let id = client.exec_detached(&request).await.unwrap().to_string();
    let mut following = command(&server.address(), &["logs", "-f", &id]);
    let following = following
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut following = following.unwrap();
    let mut seen = [0; 4];
    std::io::Read::read_exact(following.stdout.as_mut().unwrap(), &mut seen).unwrap();
    assert_eq!(&seen, b"out\n");
    assert_eq!(run(&server.address(), &["logs", &id]).stdout, b"out\n");
    assert!(
        run(&server.address(), &["kill", "-s", "USR1", &id])
            .status
            .success()
    );
    let followed = following.wait_with_output().unwrap();
    assert!(followed.status.success(), "{followed:?}");
    assert_eq!(followed.stdout, b"more\n");
    assert!(
        text(&followed.stderr).contains("stderr is discarded"),
        "{followed:?}"
    );
}

#[test]
fn what_a_program_came_to_is_one_object() {
    let server = Ours::start_with_exec();
    let script = "echo out; echo error >&2; exit 4";
    let output = run(
        &server.address(),
        &["exec", "--json", "--", "sh", "-c", script],
    );
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let results = &status["results"];
    assert_eq!(
        (&results["out"], &results["err"]),
        (&"out\n".into(), &"error\n".into())
    );
    assert_eq!(results["exitCodeOrSignal"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_has_as_many_processes_as_it_is_allowed() {
    let server = Ours::start_with_exec();
    let client = server.client().await;
    let features = client.features().await.unwrap().unwrap();
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 300 & echo $i; done";
    let limited = ["exec", "--limit", "processes=5", "--", "sh", "-c", script];
    let output = run(&server.address(), &limited);
    let told = text(&output.stderr);
    if features.sandbox.namespaces {
        let begun = text(&output.stdout).lines().count();
        // The shell is the first; one more may slip in while it is being started.
        assert!((4..=5).contains(&begun), "{output:?}");
        assert!(!output.status.success() && !told.is_empty(), "{output:?}");
    } else {
        // Nothing else counts those of one program.
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        assert!(told.contains("limits.processes"), "{told}");
    }
}

#[test]
fn on_the_references_server_a_program_is_a_job() {
    let server = Reference::start_with(&["--jobs"]);
    let address = server.address();
    let program = [
        "sh",
        "-c",
        "echo \"$1 $A\"; echo error >&2; exit 7",
        "x",
        "a  b",
    ];
    let arguments = [&["exec", "--env", "A=é", "--"], &program[..]].concat();
    let output = run(&address, &arguments);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(text(&output.stdout), "a  b é\n");
    let told = text(&output.stderr);
    assert!(
        told.ends_with("error\n") && told.contains("this is job 1"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 2, "{told}");
    // Nothing is left in the tree but what the server keeps for itself.
    let names = std::fs::read_dir(server.root()).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name());
    assert!(names.all(|name| name.as_encoded_bytes().starts_with(b".__")));

    for (program, code) in [
        (&["no-such-program"][..], 127),
        (&["sh", "-c", "kill -SEGV $$"], 128 + 11),
    ] {
        let output = run(&address, &[&["exec", "--"], program].concat());
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
    for refused in [
        &["-i"][..],
        &["--stdin", "-"],
        &["--cwd", "/x"],
        &["--timeout", "5"],
        &["--limit", "cpu=5"],
        &["--cmd-id", "a"],
        &["--json"],
        &["-d"],
    ] {
        let output = run(&address, &[&["exec"], refused, &["--", "true"]].concat());
        assert_eq!(output.status.code(), Some(125), "{refused:?}: {output:?}");
        let told = text(&output.stderr);
        assert!(told.contains("A job in its place would have no "), "{told}");
    }
}

#[test]
fn an_interrupt_kills_a_job() {
    let server = Reference::start_with(&["--jobs"]);
    let marker = server.root().join("started");
    let script = format!("touch {}; exec sleep 300", marker.display());
    let mut client = command(&server.address(), &["exec", "--", "sh", "-c", &script]);
    let client = client.stderr(Stdio::piped()).spawn().unwrap();
    ours::eventually("the job has started", || marker.exists());
    kill_process(Pid::from_child(&client), Signal::INT).unwrap();
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(128 + 9), "{output:?}");
}

#[test]
fn a_server_without_either_is_named() {
    let server = Reference::start();
    let output = run(&server.address(), &["exec", "--", "true"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(
        text(&output.stderr).contains("does not offer exec"),
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_a_stream_of_events() {
    let server = Ours::start_with_exec();
    let client = server.client().await;
    let mut request = shell("echo error >&2; cat; exit 3");
    request.stdin = StdinFrom::Stream;
    let input = vec![b'x'; 3_000_000];
    let execution = client.exec(&request).await.unwrap();
    let mut events = execution.events(Some(std::io::Cursor::new(input)));
    let (mut out, mut err, mut code) = (0, Vec::new(), None);
    while let Some(event) = events.next().await {
        match event.unwrap() {
            Event::Out(bytes) => out += bytes.len(),
            Event::Err(bytes) => err.extend(bytes),
            Event::End(Ending::Ended(status)) => {
                code = Some(status.results.unwrap().exit_code_or_signal);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((out, &err[..], code), (3_000_000, &b"error\n"[..], Some(3)));
    // The connection takes requests again.
    client.whoami().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_halves_to_write_and_read() {
    let server = Ours::start_with_exec();
    let client = server.client().await;
    let mut request = shell("while read line; do echo got $line; done; echo end >&2");
    request.stdin = StdinFrom::Stream;
    let mut program = client.exec(&request).await.unwrap().halves();
    for word in ["a", "b"] {
        program
            .stdin
            .write_all(format!("{word}\n").as_bytes())
            .await
            .unwrap();
        let mut answer = [0; 6];
        program.stdout.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer.as_slice(), format!("got {word}\n").as_bytes());
    }
    drop(program.stdin);
    let mut rest = String::new();
    program.stdout.read_to_string(&mut rest).await.unwrap();
    program.stderr.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "end\n");
    let ending = program.running.wait().await.unwrap();
    assert!(matches!(ending, Ending::Ended(_)));

    let program = client
        .exec(&shell("exec sleep 300"))
        .await
        .unwrap()
        .halves();
    program.running.tell(Control::Signal(15)).await.unwrap();
    let mut running = program.running;
    let Ending::Ended(status) = running.wait().await.unwrap() else {
        panic!("it was left");
    };
    assert_eq!(status.results.unwrap().exit_code_or_signal, 15);
    assert!(running.tell(Control::Signal(15)).await.is_err());
    assert!(running.wait().await.is_err(), "there is one end");
}
