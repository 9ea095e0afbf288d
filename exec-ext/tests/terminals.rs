//! Programs under a terminal: what they see of it, how its input and output end, and what a lost
//! connection does to them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use exec_ext::StreamSettings;
use exec_ext::client::Control;
use exec_ext::request::{ExecRequest, OnDisconnect, OutputTo, StdinFrom, Terminal};
use exec_ext::runner::Execution;
use exec_ext::status::{EndedBy, State};
use support::{Outcome, World, runs, serve, sh, until, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// A script under a terminal, with somebody who may type.
fn at_terminal(script: &str) -> ExecRequest {
    let mut request = sh(script);
    request.tty = Some(Terminal { rows: 24, cols: 80 });
    request.stdin = StdinFrom::Stream;
    request
}

/// Runs a script that takes all that is typed, and returns what the terminal showed.
async fn typed(script: &str, keys: &[u8]) -> String {
    let world = World::new();
    let outcome = world.run(&at_terminal(script), keys).await;
    assert_eq!(outcome.code(), (true, 0), "{}", shown(&outcome));
    shown(&outcome)
}

/// Runs a script, presses keys once it has written so many bytes, its input staying open until it ends.
async fn pressed(script: &str, ready: u64, keys: &[u8]) -> Outcome {
    let world = World::new();
    let request = at_terminal(script);
    let client = serve(
        world.start(&request).await.unwrap(),
        StreamSettings::default(),
    );
    let execution = client.execution.clone();
    let (near, mut far) = tokio::io::duplex(64);
    let press = async {
        output_of(&execution, ready).await;
        far.write_all(keys).await.unwrap();
        // Dropped here it would be the end of the input.
        far
    };
    let collect = client.collect(&request, Some(near));
    let (_far, outcome) = within(async { tokio::join!(press, collect) }).await;
    outcome.unwrap()
}

fn shown(outcome: &Outcome) -> String {
    assert!(outcome.err.is_empty());
    String::from_utf8(outcome.out.clone()).unwrap()
}

/// Waits until so many bytes of output were read.
async fn output_of(execution: &Arc<Execution>, bytes: u64) {
    until("output", || execution.status().out_to >= bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_leads_a_session_whose_terminal_is_all_its_streams() {
    let script = "test -t 0 && test -t 1 && test -t 2 && echo terminal
        set -- $(cat /proc/$$/stat); test \"$6\" -eq $$ && test \"$8\" -eq $$ && echo leads
        stty size < /dev/tty; echo error >&2; tty";
    let text = typed(script, b"").await;
    let lines: Vec<_> = text.split("\r\n").collect();
    assert_eq!(
        lines[..4],
        ["terminal", "leads", "24 80", "error"],
        "{text:?}"
    );
    assert!(lines[4].starts_with("/dev/pts/"), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_is_seen_and_the_end_of_the_input_is_one_for_the_program() {
    for (keys, seen) in [
        (&b""[..], ""),
        (b"word\n", "word\n"),
        // A line that was begun takes a character more to be handed over.
        (b"word", "word"),
        (b"one\ntwo", "one\ntwo"),
        (b"one\rtwo\r", "one\ntwo\n"),
        (b"gone\x15", ""),
        ("ö\x7fü\n".as_bytes(), "ü\n"),
    ] {
        let script = "stty -echo; got=$(cat; echo .); printf '<%s>' \"$got\"";
        let text = typed(script, keys).await;
        let seen = format!("<{seen}.>").replace('\n', "\r\n");
        assert!(text.ends_with(&seen), "{text:?} does not end in {seen:?}");
    }
    let text = typed("cat", b"echo\n").await;
    assert_eq!(text, "echo\r\necho\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_may_take_keys_as_they_are_typed() {
    let script = "stty raw -echo; printf ready; head -c 4 | od -An -tx1; stty sane";
    let outcome = pressed(script, 5, b"\x03\x04\x1a\n").await;
    let text = shown(&outcome);
    assert!(text.contains("03 04 1a 0a"), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_mean_signals_reach_the_program_in_the_foreground() {
    let script = "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.05; done";
    let outcome = pressed(script, 7, b"\x03").await;
    assert_eq!(outcome.code(), (true, 3));
    assert_eq!(shown(&outcome), "ready\r\n^Ccaught\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_size_is_told_to_the_program() {
    let world = World::new();
    let request =
        at_terminal("trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done");
    let client = serve(
        world.start(&request).await.unwrap(),
        StreamSettings::default(),
    );
    let execution = client.execution.clone();
    let (sender, mut control) = mpsc::channel(1);
    let resize = async {
        output_of(&execution, 7).await;
        let size = Terminal {
            rows: 50,
            cols: 132,
        };
        sender.send(Control::Resize(size)).await.unwrap();
    };
    let (near, _keys) = tokio::io::duplex(64);
    let collect = client.collect_with(&request, Some(near), &mut control);
    let ((), outcome) = within(async { tokio::join!(resize, collect) }).await;
    assert_eq!(shown(&outcome.unwrap()), "ready\r\n50 132\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_is_lost_at_the_end_however_much_there_is() {
    let world = World::new();
    for size in [1, 4095, 4096, 4097, 70_000, 1_000_000] {
        for _ in 0..5 {
            let script = format!("stty -opost; head -c {size} /dev/zero | tr '\\0' x; printf end");
            let outcome = world.run(&at_terminal(&script), b"").await;
            let text = shown(&outcome);
            assert!(text.ends_with("xend"), "{size}: {}", text.len());
            assert_eq!(text.len(), size + 3);
            assert_eq!(outcome.results().out_bytes, size as u64 + 3);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_waits_in_the_window_of_a_terminal_too() {
    let world = World::with(|config| config.window_bytes = 10_000);
    let request = at_terminal("stty -opost; head -c 500000 /dev/zero | tr '\\0' x");
    let client = serve(
        world.start(&request).await.unwrap(),
        StreamSettings::default(),
    );
    let execution = client.execution.clone();
    output_of(&execution, 10_000).await;
    assert_eq!(execution.status().out_to, 10_000);
    let outcome = within(client.collect(&request, None::<&[u8]>))
        .await
        .unwrap();
    assert_eq!(outcome.out.len(), 500_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_goes_where_the_request_says() {
    let world = World::new();
    let script = "test -t 1 || exit 9; seq 1 3; echo error >&2";
    let whole = "1\r\n2\r\n3\r\nerror\r\n";

    let mut request = at_terminal(script);
    request.stdout = OutputTo::Capture;
    let outcome = world.run(&request, b"").await;
    assert_eq!(outcome.code(), (true, 0));
    assert_eq!(outcome.results().out.as_deref(), Some(whole));
    assert_eq!(outcome.results().out_bytes, whole.len() as u64);

    let path = world.work().join("transcript");
    request.stdout = OutputTo::File {
        path: path.clone().into(),
        append: false,
    };
    let outcome = world.run(&request, b"").await;
    assert_eq!((outcome.code(), outcome.out.len()), ((true, 0), 0));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);

    request.stdout = OutputTo::Discard;
    // More than a terminal holds: it is read all the same.
    request.args[1] = "test -t 1 || exit 9; seq 1 30000".into();
    let outcome = world.run(&request, b"").await;
    assert_eq!((outcome.code(), outcome.out.len()), ((true, 0), 0));
    assert_eq!(outcome.results().out_dropped, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_takes_no_more_is_reported_and_nothing_waits_for_it() {
    let world = World::new();
    let mut request = at_terminal("stty -opost; head -c 100000 /dev/zero | tr '\\0' x");
    let path = world.work().join("transcript");
    request.stdout = OutputTo::File {
        path: path.clone().into(),
        append: false,
    };
    request.limits.file_bytes = Some(50_000);
    let outcome = world.run(&request, b"").await;
    let kept = std::fs::metadata(&path).unwrap().len();
    assert!(kept <= 50_000);
    assert_eq!(outcome.results().out_dropped, 100_000 - kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_may_come_from_elsewhere() {
    let world = World::new();
    let mut request = at_terminal("cat; test -t 0 || test -t 1 && stty size < /dev/tty");
    request.stdin = StdinFrom::None;
    assert_eq!(shown(&world.run(&request, b"").await), "24 80\r\n");
    let path = world.work().join("input");
    std::fs::write(&path, "from a file\n").unwrap();
    request.stdin = StdinFrom::File(path.into());
    let text = shown(&world.run(&request, b"").await);
    assert_eq!(text, "from a file\r\n24 80\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_descendant_that_keeps_the_terminal_is_ended_and_what_it_wrote_is_there() {
    let world = World::new();
    let script = "setsid sh -c 'trap \"\" TERM HUP; echo child; sleep 300' & 
        while ! test -e ready; do sleep 0.02; done; echo parent";
    let mut request = at_terminal(script);
    request.args[1] = format!(
        "cd {}; {}",
        world.work().display(),
        script.replace("echo child;", "echo child; : > ready;")
    )
    .into();
    let outcome = world.run(&request, b"").await;
    assert_eq!(shown(&outcome), "child\r\nparent\r\n");
    assert_eq!(outcome.code(), (true, 0));
    assert!(outcome.results().survivors.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_hangs_up() {
    // Nobody is killed for being slow, but whoever does not heed it.
    let (patient, hasty) = (Duration::from_secs(50), Duration::from_millis(100));
    // The handler proves what ended it.
    let script = "trap 'echo hup > hup; exit 4' HUP; echo ready; while :; do sleep 0.05; done";
    for (script, code, grace) in [
        (script, (true, 4), patient),
        ("echo ready; exec sleep 300", (false, 1), patient),
        ("trap '' HUP; echo ready; exec sleep 300", (false, 9), hasty),
        // Nor does somebody who writes more than anybody takes.
        ("echo ready; exec yes", (false, 1), patient),
    ] {
        let world = World::with(|config| {
            config.term_grace = grace;
            config.window_bytes = 10_000;
        });
        let mut request = at_terminal(&format!("cd {}; {script}", world.work().display()));
        request.on_disconnect = OnDisconnect::Kill;
        let started = world.start(&request).await.unwrap();
        let execution = started.execution.clone();
        let full = script.ends_with("yes");
        output_of(&execution, if full { 10_000 } else { 7 }).await;
        drop(started);
        let status = within(execution.wait(Duration::from_secs(30))).await;
        let results = status.results.unwrap();
        let ended = (results.finished, results.exit_code_or_signal);
        assert_eq!(ended, code, "{script}");
        assert_eq!(
            (results.ended_by, results.limit),
            (EndedBy::Exit, None),
            "{script}"
        );
        assert!(status.pid.is_none() && results.survivors.is_empty());
        let told = std::fs::read_to_string(world.work().join("hup"));
        assert_eq!(told.is_ok(), code == (true, 4), "{script}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_goes_on_without_a_client_and_the_next_one_types() {
    let world = World::new();
    let mut request = at_terminal("echo ready; read line; echo got $line");
    request.on_disconnect = OnDisconnect::Keep;
    let started = world.start(&request).await.unwrap();
    let execution = started.execution.clone();
    drop(started);
    output_of(&execution, 7).await;
    let status = execution.status();
    assert_eq!((status.state, status.attached), (State::Running, false));
    let pid = i32::try_from(status.pid.unwrap()).unwrap();
    assert!(runs(pid));
    let (near, far) = tokio::io::duplex(64 * 1024);
    let ticket = execution.attach_at(0, 0).unwrap();
    let server = tokio::spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(far);
        let mut buffered = BytesMut::new();
        let settings = StreamSettings::default();
        exec_ext::stream::serve(
            ticket,
            &mut reader,
            &mut buffered,
            &mut exec_ext::stream::Reply::default(),
            &mut writer,
            settings,
        )
        .await
    });
    let (mut reader, mut writer) = tokio::io::split(near);
    writer.write_all(b"resize 30 100\n").await.unwrap();
    let mut seen = Vec::new();
    let typing = async {
        while !String::from_utf8_lossy(&seen).contains("credit") {
            reader.read_buf(&mut seen).await.unwrap();
        }
        writer.write_all(b"in 5\nword\n").await.unwrap();
        while !String::from_utf8_lossy(&seen).contains("end ") {
            reader.read_buf(&mut seen).await.unwrap();
        }
        writer.write_all(b"done\n").await.unwrap();
    };
    within(typing).await;
    within(server).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&seen);
    assert!(
        text.contains("ready") && text.contains("got word"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_a_new_size_breaks_the_protocol() {
    let world = World::new();
    let request = sh("exec sleep 300");
    let mut client = serve(
        world.start(&request).await.unwrap(),
        StreamSettings::default(),
    );
    client.writer.write_all(b"resize 24 80\n").await.unwrap();
    let mut seen = Vec::new();
    within(client.reader.read_to_end(&mut seen)).await.unwrap();
    let text = String::from_utf8_lossy(&seen);
    assert!(
        text.ends_with("-8 resize: the program has no terminal\n"),
        "{text}"
    );
    client.execution.signal(9);
    within(client.execution.wait(Duration::from_secs(30))).await;
}
