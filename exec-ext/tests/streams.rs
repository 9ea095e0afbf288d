//! Stream mode frame by frame, take-over, lost connections, and clients that break the protocol.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use chirp_proto::Code;
use chirp_proto::request::ExecutionName;
use exec_ext::StreamSettings;
use exec_ext::client::{Control, Ending, ExecStream, StreamError};
use exec_ext::frame::{Position, ServerFrame, server_frame};
use exec_ext::request::{ExecRequest, OnDisconnect};
use exec_ext::status::State;
use exec_ext::stream;
use support::{Client, SUBJECT, World, serve, sh, until, with_id, with_stdin, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// A client that speaks frames by hand.
struct Peer {
    client: Client,
    buffer: BytesMut,
}

impl Peer {
    fn new(client: Client) -> Self {
        Self {
            client,
            buffer: BytesMut::new(),
        }
    }

    async fn send(&mut self, bytes: &str) {
        let sent = self.client.writer.write_all(bytes.as_bytes());
        within(sent).await.unwrap();
    }

    /// The next frame that is not `alive`; None at the end of the connection.
    async fn next(&mut self) -> Option<ServerFrame> {
        loop {
            match server_frame(&mut self.buffer).unwrap() {
                Some(ServerFrame::Alive) => {}
                Some(frame) => return Some(frame),
                None => {
                    let read = self.client.reader.read_buf(&mut self.buffer);
                    if within(read).await.unwrap() == 0 {
                        return None;
                    }
                }
            }
        }
    }

    /// Expects that the server ends the connection with these words.
    async fn refused(mut self, words: &str) {
        loop {
            match self.next().await {
                Some(ServerFrame::Failure { code, message }) => {
                    assert_eq!(code, Code::InvalidRequest);
                    assert!(message.contains(words), "{message:?} lacks {words:?}");
                    break;
                }
                Some(_) => {}
                None => panic!("no error line about {words}"),
            }
        }
        let (end, _) = within(self.client.server).await.unwrap();
        assert!(matches!(end, Err(stream::StreamError::Violation(_))));
    }
}

async fn peer(world: &World, request: &ExecRequest) -> Peer {
    let started = world.start(request).await.unwrap();
    Peer::new(serve(started, StreamSettings::default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_reads_as_the_specification_writes_it() {
    let world = World::new();
    let mut peer = peer(&world, &with_stdin(sh("read line; echo got $line; exit 7"))).await;
    assert_eq!(
        peer.next().await,
        Some(ServerFrame::At(Position::default()))
    );
    assert_eq!(peer.next().await, Some(ServerFrame::Credit(256 * 1024)));
    peer.send("in 3\nabc").await;
    peer.send("alive\nin 1\n\n").await;
    let frame = peer.next().await;
    assert_eq!(frame, Some(ServerFrame::Out("got abc\n".into())));
    peer.send("ack 8 0\n").await;
    let Some(ServerFrame::End(json)) = peer.next().await else {
        panic!("no end")
    };
    let status: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(status["results"]["exitCodeOrSignal"], 7);
    assert_eq!(status["results"]["limit"], serde_json::Value::Null);
    assert_eq!(
        status["results"]["resources"].as_object().unwrap().len(),
        16
    );
    assert_eq!(status["request"]["cmd"], "/bin/sh");
    // What crossed the end is dropped, and a request may follow `done` at once.
    peer.send("in 2\nxyeof\nsignal 9\ndetach\ndone\nwhoami\n")
        .await;
    let (end, left) = within(peer.client.server).await.unwrap();
    assert_eq!(end.unwrap(), stream::StreamEnd::Ended);
    assert_eq!(&left[..], b"whoami\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn breaking_the_protocol_ends_the_connection_with_words() {
    let world = World::new();
    for (bytes, words) in [
        ("done\n", "done before end"),
        ("nonsense\n", "no such frame"),
        ("in 262145\n", "beyond the credit"),
        ("in 1048577\n", "above the limit"),
        ("in 260000\n", "beyond the credit"),
        ("eof\nin 1\nx", "after eof"),
        ("ack 1 0\n", "beyond what was sent"),
        ("signal 65\n", "no such frame"),
        (&"x".repeat(500), "header above"),
        ("\u{0}\u{1}\n", "no such frame"),
    ] {
        let mut request = with_stdin(sh("exec sleep 300"));
        request.on_disconnect = OnDisconnect::Kill;
        let mut peer = peer(&world, &request).await;
        let execution = peer.client.execution.clone();
        // Credit comes only once.
        while !matches!(peer.next().await, Some(ServerFrame::Credit(_))) {}
        if words == "beyond the credit" && bytes == "in 260000\n" {
            peer.send(&format!("in 100000\n{}", "x".repeat(100_000)))
                .await;
        }
        peer.send(bytes).await;
        peer.refused(words).await;
        let status = within(execution.wait(Duration::from_secs(30))).await;
        assert_eq!(status.state, State::Ended, "after {bytes:?}");
    }
    // Input for a program that has none.
    let mut peer = peer(&world, &sh("exec sleep 300")).await;
    peer.send("in 1\nx").await;
    peer.refused("beyond the credit").await;
    within(world.executions.shutdown(Duration::from_secs(20))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_waits_in_the_window_and_nothing_is_lost() {
    let world = World::with(|config| config.window_bytes = 64 * 1024);
    let request = sh("head -c 3000000 /dev/zero | tr '\\0' x");
    let mut peer = peer(&world, &request).await;
    assert!(matches!(peer.next().await, Some(ServerFrame::At(_))));
    let (mut got, mut acked) = (0, 0);
    loop {
        while got - acked < 64 * 1024 {
            match peer.next().await {
                Some(ServerFrame::Out(bytes)) => got += bytes.len(),
                Some(ServerFrame::End(_)) => {
                    assert_eq!(got, 3_000_000);
                    peer.send("done\n").await;
                    within(peer.client.server).await.unwrap().0.unwrap();
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
        let status = peer.client.execution.status();
        assert_eq!(status.out_to - status.out_from, 64 * 1024);
        assert_eq!(status.out_from, acked as u64);
        acked = got;
        peer.send(&format!("ack {got} 0\n")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_is_bounded_by_what_the_program_takes() {
    let world = World::new();
    let mut request = with_stdin(sh("exec sleep 300"));
    request.on_disconnect = OnDisconnect::Kill;
    let mut peer = peer(&world, &request).await;
    let execution = peer.client.execution.clone();
    let window = 256 * 1024;
    let (mut credit, mut sent) = (0, 0_u64);
    // The program takes nothing; its pipe holds 64 KiB.
    while sent < window {
        while credit < 4096 {
            match peer.next().await {
                Some(ServerFrame::Credit(bytes)) => credit += bytes,
                Some(ServerFrame::At(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        peer.send(&format!("in 4096\n{}", "x".repeat(4096))).await;
        (credit, sent) = (credit - 4096, sent + 4096);
    }
    until("all input", || execution.status().stdin_received == sent).await;
    // One more frame's reply comes behind every credit that was due.
    peer.send("detach\n").await;
    loop {
        match peer.next().await {
            Some(ServerFrame::Credit(bytes)) => credit += bytes,
            Some(ServerFrame::Detached) => break,
            other => panic!("{other:?}"),
        }
    }
    let allowed = sent + credit;
    assert!(allowed <= window + 64 * 1024, "{allowed} allowed");
    execution.signal(9);
    within(execution.wait(Duration::from_secs(30))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_windows_together_stay_within_the_budget_and_everybody_goes_on() {
    let world = World::with(|config| config.windows_total_bytes = 256 * 1024);
    let request = sh("head -c 300000 /dev/zero");
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(world.start(&request).await.unwrap());
    }
    let kept = || -> u64 {
        let all = world.executions.list(SUBJECT, false);
        all.iter().map(|s| s.out_to - s.out_from).sum()
    };
    // One subject gets half, and each stream 4 KiB besides.
    let most = 128 * 1024 + 8 * 4096;
    until("full windows", || kept() >= 128 * 1024).await;
    for started in waiting {
        assert!(kept() <= most, "{} kept", kept());
        let client = serve(started, StreamSettings::default());
        let outcome = within(client.collect(&request, None::<&[u8]>))
            .await
            .unwrap();
        assert_eq!(outcome.out.len(), 300_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_is_lost_and_the_request_says_what_then() {
    let settings = StreamSettings {
        lost_after: Duration::from_millis(300),
        alive_every: Duration::from_millis(50),
    };
    let world = World::new();
    for on_disconnect in [OnDisconnect::Keep, OnDisconnect::Kill] {
        let mut request = sh("sleep 1; echo late");
        request.on_disconnect = on_disconnect;
        let client = serve(world.start(&request).await.unwrap(), settings);
        let mut peer = Peer::new(client);
        assert!(matches!(peer.next().await, Some(ServerFrame::At(_))));
        let execution = peer.client.execution.clone();
        let (end, _) = within(peer.client.server).await.unwrap();
        assert!(matches!(end, Err(stream::StreamError::Lost(_))));
        let status = within(execution.wait(Duration::from_secs(30))).await;
        let results = status.results.unwrap();
        assert!(!status.attached);
        match on_disconnect {
            OnDisconnect::Keep => {
                assert_eq!((results.finished, results.out_bytes), (true, 5));
                assert_eq!((status.out_from, status.out_to), (0, 5));
            }
            OnDisconnect::Kill => {
                assert_eq!((results.finished, results.exit_code_or_signal), (false, 15));
                assert_eq!(results.limit, None);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_keep_a_quiet_stream_alive() {
    let settings = StreamSettings {
        lost_after: Duration::from_millis(400),
        alive_every: Duration::from_millis(50),
    };
    let world = World::new();
    let request = sh("sleep 2; echo awake");
    let client = serve(world.start(&request).await.unwrap(), settings);
    let stream = ExecStream::new(client.reader, client.writer, BytesMut::new(), &request)
        .with_settings(settings);
    let (sender, mut control) = mpsc::channel(1);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let run = stream.run(None::<&[u8]>, &mut out, &mut err, &mut control);
    within(run).await.unwrap();
    drop(sender);
    assert_eq!(out, b"awake\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_takes_over_from_the_first_unacknowledged_byte() {
    let world = World::new();
    let request = with_id(with_stdin(sh("echo $$; echo second; cat")), "wu_42-0");
    let mut first = peer(&world, &request).await;
    // The program's id, whatever its length, and then "second".
    let mut got = Vec::new();
    while !got.ends_with(b"second\n") {
        if let Some(ServerFrame::Out(bytes)) = first.next().await {
            got.extend_from_slice(&bytes);
        }
    }
    first.send("ack 3 0\nin 4\nabc\n").await;
    let execution = first.client.execution.clone();
    until("the first client's input", || {
        execution.status().stdin_received == 4
    })
    .await;

    let again = world.start(&request).await.unwrap();
    assert!(again.existing);
    assert_eq!(again.execution.id(), execution.id());
    let mut second = Peer::new(serve(again, StreamSettings::default()));
    let at = Position {
        out: 3,
        err: 0,
        stdin: 4,
        eof: false,
    };
    assert_eq!(second.next().await, Some(ServerFrame::At(at)));
    // The first one is told, and what it still sends has no effect.
    while first.next().await != Some(ServerFrame::Detached) {}
    // Even what it has had must not be taken from the second one, who still has to get it.
    let late = format!("in 4\nxxx\nsignal 9\nack {} 0\ndone\n", got.len());
    first.send(&late).await;
    let (end, _) = within(first.client.server).await.unwrap();
    assert_eq!(end.unwrap(), stream::StreamEnd::Detached);

    // A whole client, whose input begins where the first one's began.
    drop(second);
    let again = world.start(&request).await.unwrap();
    let client = serve(again, StreamSettings::default());
    let outcome = within(client.collect(&request, Some(&b"abc\ndef\n"[..])))
        .await
        .unwrap();
    let text = String::from_utf8(outcome.out.clone()).unwrap();
    assert!(text.ends_with("\nsecond\nabc\ndef\n"), "{text:?}");
    let pid = outcome.results().out_bytes - text.len() as u64;
    assert_eq!(pid, 3, "what was acknowledged is not sent again");

    // After the end the same request gives the same result, and nothing runs again.
    let again = world.start(&request).await.unwrap();
    let client = serve(again, StreamSettings::default());
    let outcome = within(client.collect(&request, Some(&b"abc\ndef\n"[..])))
        .await
        .unwrap();
    assert_eq!(outcome.code(), (true, 0));
    assert!(outcome.out.is_empty());
    assert_eq!(world.executions.list(SUBJECT, false).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cmd_id_means_one_request_of_one_subject() {
    let world = std::sync::Arc::new(World::new());
    let request = with_id(sh("echo ran >> runs"), "once");
    // At the same time from many connections: it runs once.
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (world, request) = (world.clone(), request.clone());
        tasks.spawn(async move { world.start(&request).await.unwrap().execution.id() });
    }
    let ids = within(tasks.join_all()).await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let name = ExecutionName::CmdId("once".into());
    let execution = world.executions.find(SUBJECT, &name, false).unwrap();
    within(execution.wait(Duration::from_secs(30))).await;
    let runs = std::fs::read_to_string(world.work().join("runs")).unwrap();
    assert_eq!(runs, "ran\n");

    let error = world
        .start(&with_id(sh("other"), "once"))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::AlreadyExists);
    // To others it does not exist.
    let id = ExecutionName::Id(execution.id());
    assert!(world.executions.find("unix:other", &name, false).is_none());
    assert!(world.executions.find("unix:other", &id, false).is_none());
    assert!(world.executions.find("unix:root", &id, true).is_some());
    assert!(world.executions.find("unix:root", &name, true).is_some());
    assert!(world.executions.list("unix:other", false).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_signals_and_detaches() {
    let world = World::new();
    let request = sh("trap 'echo caught; exit 5' USR1; echo ready; while :; do sleep 0.05; done");
    let client = serve(
        world.start(&request).await.unwrap(),
        StreamSettings::default(),
    );
    let execution = client.execution.clone();
    let (sender, mut control) = mpsc::channel(1);
    let signal = async {
        until("the program", || execution.status().out_to >= 6).await;
        sender.send(Control::Signal(10)).await.unwrap();
    };
    let collect = client.collect_with(&request, None::<&[u8]>, &mut control);
    let ((), outcome) = within(async { tokio::join!(signal, collect) }).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.out, b"ready\ncaught\n");
    assert_eq!(outcome.code(), (true, 5));

    let request = sh("echo ready; exec sleep 300");
    let client = serve(
        world.start(&request).await.unwrap(),
        StreamSettings::default(),
    );
    let execution = client.execution.clone();
    let (sender, mut control) = mpsc::channel(1);
    sender.send(Control::Detach).await.unwrap();
    let collect = client.collect_with(&request, None::<&[u8]>, &mut control);
    assert_eq!(within(collect).await.unwrap().ending, Ending::Detached);
    let status = execution.status();
    assert_eq!((status.state, status.attached), (State::Running, false));
    execution.signal(9);
    let status = within(execution.wait(Duration::from_secs(30))).await;
    assert_eq!(status.results.unwrap().exit_code_or_signal, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_connection_is_gone_is_treated_as_lost() {
    let world = World::new();
    let mut request = sh("exec sleep 300");
    request.on_disconnect = OnDisconnect::Kill;
    let started = world.start(&request).await.unwrap();
    let execution = started.execution.clone();
    drop(started);
    let status = within(execution.wait(Duration::from_secs(30))).await;
    assert_eq!(status.results.unwrap().exit_code_or_signal, 15);
}

/// Lets a client talk to a scripted server.
async fn against(script: &[u8]) -> Result<Ending, StreamError> {
    let request = with_stdin(ExecRequest::new("cat"));
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    far.write_all(script).await.unwrap();
    let (mut far_reader, far_writer) = tokio::io::split(far);
    let drain = tokio::spawn(async move {
        let mut seen = Vec::new();
        let _ = far_reader.read_to_end(&mut seen).await;
        drop(far_writer);
    });
    let (reader, writer) = tokio::io::split(near);
    let settings = StreamSettings {
        lost_after: Duration::from_millis(300),
        alive_every: Duration::from_millis(100),
    };
    let stream = ExecStream::new(reader, writer, BytesMut::new(), &request).with_settings(settings);
    let (_sender, mut control) = mpsc::channel(1);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let run = stream.run(Some(tokio::io::empty()), &mut out, &mut err, &mut control);
    let outcome = within(run).await.map(|finished| finished.ending);
    within(drain).await.unwrap();
    outcome
}

fn end(out_bytes: u64) -> Vec<u8> {
    let json = serde_json::json!({
        "id": 1, "cmd-id": "a", "subject": "unix:x", "state": "ended", "started": 1.0,
        "results": {
            "cmd-id": "a", "finished": true, "exitCodeOrSignal": 0, "resources": {},
            "wall_s": 0.5, "ended_by": "exit", "out_bytes": out_bytes, "err_bytes": 0
        }
    })
    .to_string();
    let mut frame = BytesMut::new();
    frame.put_slice(format!("end {}\n{json}", json.len()).as_bytes());
    frame.to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_never_takes_missing_output_or_garbage_for_success() {
    let whole = [b"at 0 0 0 0\nout 3\nabc", &end(3)[..]].concat();
    assert!(matches!(against(&whole).await, Ok(Ending::Ended(_))));
    let resumed = [b"at 7 0 0 0\nout 3\nabc", &end(10)[..]].concat();
    assert!(matches!(against(&resumed).await, Ok(Ending::Ended(_))));
    let short = [b"at 0 0 0 0\nout 3\nabc", &end(4)[..]].concat();
    assert!(matches!(
        against(&short).await,
        Err(StreamError::Incomplete {
            name: "stdout",
            received: 3,
            written: 4,
            ..
        })
    ));
    assert!(matches!(
        against(b"at 0 0 0 0\nout 3\nab").await,
        Err(StreamError::Lost(_))
    ));
    assert!(matches!(
        against(b"out 3\nabc").await,
        Err(StreamError::Protocol(_))
    ));
    assert!(matches!(
        against(b"at 0 0 0 0\nend 2\n{}").await,
        Err(StreamError::Protocol(_))
    ));
    assert!(matches!(
        against(b"at 0 0 0 0\nwhat\n").await,
        Err(StreamError::Protocol(_))
    ));
    assert!(matches!(
        against(b"at 0 0 0 0\n-8 stdin beyond the credit\n").await,
        Err(StreamError::Refused {
            code: Code::InvalidRequest,
            ..
        })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_server_is_noticed() {
    let world = World::new();
    let request = sh("echo a; exec sleep 300");
    let client = serve(
        world.start(&request).await.unwrap(),
        StreamSettings::default(),
    );
    let execution = client.execution.clone();
    let server = client.server.abort_handle();
    let stream = ExecStream::new(client.reader, client.writer, BytesMut::new(), &request);
    let (_sender, mut control) = mpsc::channel(1);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let cut = async {
        until("output", || execution.status().out_from == 2).await;
        server.abort();
    };
    let run = stream.run(None::<&[u8]>, &mut out, &mut err, &mut control);
    let ((), outcome) = within(async { tokio::join!(cut, run) }).await;
    assert!(matches!(outcome, Err(StreamError::Lost(_))));
    // The dropped service counts as a lost connection, and the program was to go on.
    until("the detachment", || !execution.status().attached).await;
    assert_eq!(execution.status().state, State::Running);
    within(world.executions.shutdown(Duration::from_secs(20))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_may_begin_behind_what_the_server_has_had() {
    // The server has had 5 bytes; the caller's input begins with the byte at 0, at 5, at 3.
    for (from, input) in [(0, "01234rest"), (5, "rest"), (3, "34rest")] {
        let request = with_stdin(ExecRequest::new("cat"));
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (reader, writer) = tokio::io::split(near);
        let stream =
            ExecStream::new(reader, writer, BytesMut::new(), &request).with_stdin_from(from);
        let (_sender, mut control) = mpsc::channel(1);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let run = async {
            let ran = stream.run(Some(input.as_bytes()), &mut out, &mut err, &mut control);
            // The connection ends with what is left of it here.
            ran.await.map(drop)
        };
        let script = async {
            let (mut far_reader, mut far_writer) = tokio::io::split(far);
            let begin = far_writer.write_all(b"at 0 0 5 0\ncredit 100\n");
            begin.await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"eof\n") {
                far_reader.read_buf(&mut seen).await.unwrap();
            }
            far_writer.write_all(&end(0)).await.unwrap();
            far_reader.read_to_end(&mut Vec::new()).await.unwrap();
            seen
        };
        let (outcome, seen) = within(async { tokio::join!(run, script) }).await;
        outcome.unwrap();
        assert_eq!(
            String::from_utf8(seen).unwrap(),
            "in 4\nresteof\n",
            "{from}"
        );
    }
}
