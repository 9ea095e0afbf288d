//! What survives the server: ended executions, and the truth about those that were running.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;

use chirp_proto::request::{ExecutionName, OutputStream};
use exec_ext::client::StreamError;
use exec_ext::request::{ExecRequest, OutputTo};
use exec_ext::runner::{Execution, Executions, ExecutionsConfig, Started};
use exec_ext::status::State;
use support::{SUBJECT, World, runs, serve, sh, until, with_id, with_stdin, within};

/// A table as a server would make it that starts after this one.
fn restarted(world: &World) -> Executions {
    let transient = world.directory.path().join("transient");
    Executions::new(ExecutionsConfig::new(transient)).unwrap()
}

/// Attaches to an execution as a client that has had none of its streams, and returns what it fails with.
async fn come_back(execution: Arc<Execution>, request: &ExecRequest) -> StreamError {
    let attach = execution.attach_at(0, 0).unwrap();
    let started = Started {
        execution,
        attach: Some(attach),
        existing: true,
    };
    let client = serve(started, Default::default());
    within(client.collect(request, Some(&b""[..])))
        .await
        .unwrap_err()
}

fn named(cmd_id: &str) -> ExecutionName {
    ExecutionName::CmdId(cmd_id.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_execution_survives_with_its_status_and_captured_output() {
    let world = World::new();
    let mut request = with_id(
        sh("head -c 300000 /dev/zero | tr '\\0' x; echo bad >&2; exit 3"),
        "kept",
    );
    request.stdout = OutputTo::Capture;
    request.env.insert("PASSWORD".into(), "hidden-value".into());
    let before = world.run(&request, b"").await;
    assert_eq!(before.err, b"bad\n");
    let name = named("kept");
    // The client's `done` has been written down, too: nothing of the output is missing.
    let file = world.directory.path().join("transient/exec/1.json");
    let at_rest = || {
        std::fs::read_to_string(&file)
            .unwrap()
            .contains("\"err_from\":4")
    };
    until("the record", at_rest).await;

    let executions = restarted(&world);
    let execution = executions.find(SUBJECT, &name, false).unwrap();
    let mut status = execution.status();
    let mut expected = before.status().clone();
    assert_eq!((status.err_from, status.err_to), (4, 4));
    for status in [&mut status, &mut expected] {
        (status.err_from, status.attached, status.ended) = (0, false, None);
    }
    assert_eq!(status, expected);
    assert_eq!(
        status.results.as_ref().unwrap().out.as_ref().unwrap().len(),
        262_144
    );
    let rest = execution
        .captured(OutputStream::Out, 262_144, 100_000)
        .unwrap();
    assert_eq!(rest.len(), 300_000 - 262_144);
    assert!(executions.find("unix:other", &name, false).is_none());
    // It is the same execution, and not run again.
    let received = Arc::new(ExecRequest::parse(&request.to_json()).unwrap());
    let again = executions
        .start(SUBJECT, received, || panic!("started again"))
        .await
        .unwrap();
    assert!(again.existing && again.execution.id() == status.id);
    drop(again);
    until("rest", || {
        executions
            .remove(SUBJECT, &name, false)
            .is_ok_and(|found| found)
    })
    .await;
    drop(execution);
    let kept = world.directory.path().join("transient/exec");
    until("removal", || std::fs::read_dir(&kept).unwrap().count() == 0).await;
    assert!(restarted(&world).list(SUBJECT, false).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_values_of_variables_are_on_disk_and_nobody_else_reads_records() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let mut request = with_id(sh("true"), "secret");
    request.env.insert("PASSWORD".into(), "hidden-value".into());
    world.run(&request, b"").await;
    let kept = world.directory.path().join("transient/exec");
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&kept), 0o700);
    for entry in std::fs::read_dir(&kept).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("PASSWORD") && !text.contains("hidden-value"));
        assert_eq!(mode(&path), 0o600);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_nobody_had_is_missing_after_a_restart_and_said_to_be() {
    let world = World::new();
    let mut request = with_id(sh("echo lost"), "unread");
    request.detach = true;
    let started = world.start(&request).await.unwrap();
    within(started.execution.wait(support::PATIENCE)).await;
    let executions = restarted(&world);
    let execution = executions.find(SUBJECT, &named("unread"), false).unwrap();
    let status = execution.status();
    assert_eq!(status.state, State::Ended);
    assert_eq!((status.out_from, status.out_to), (0, 0));
    assert_eq!(status.results.unwrap().out_bytes, 5);
    request.detach = false;
    let error = come_back(execution, &request).await;
    assert!(
        matches!(
            error,
            StreamError::Incomplete {
                received: 0,
                written: 5,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_when_the_server_died_is_lost_and_ended_wherever_it_hides() {
    let world = World::new();
    let request = with_id(
        with_stdin(sh(
            "(setsid env -i sleep 300 </dev/null >/dev/null 2>&1 & echo $!); echo $$; read line",
        )),
        "running",
    );
    let started = world.start(&request).await.unwrap();
    let execution = started.execution.clone();
    until("two pids", || execution.status().out_to >= 4).await;
    let client = serve(started, Default::default());
    let (near, far) = tokio::io::duplex(10);
    let leader = execution.status().pid.unwrap() as i32;
    // Another server takes the directory over, as if this one had been killed.
    let executions = tokio::task::block_in_place(|| restarted(&world));
    until("the program's end", || !runs(leader)).await;
    let lost = executions.find(SUBJECT, &named("running"), false).unwrap();
    let status = lost.status();
    assert_eq!((status.state, status.results), (State::Lost, None));
    assert!(status.ended.is_some() && status.pid.is_none());
    // The old table sees a program killed by somebody.
    drop(near);
    let outcome = within(client.collect(&request, Some(far))).await.unwrap();
    assert_eq!(outcome.code(), (false, 9));
    let text = String::from_utf8(outcome.out).unwrap();
    for pid in text.lines() {
        assert!(!runs(pid.parse().unwrap()), "{pid} survived");
    }
    // A client that comes back learns that nobody knows.
    let error = come_back(lost, &request).await;
    assert!(matches!(error, StreamError::Killed), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_a_loss_is_that_of_the_first_server_that_found_it() {
    let world = World::new();
    let mut request = with_id(sh("true"), "lost");
    request.detach = true;
    let started = world.start(&request).await.unwrap();
    within(started.execution.wait(support::PATIENCE)).await;
    let file = world.directory.path().join("transient/exec/1.json");
    let text = std::fs::read_to_string(&file).unwrap();
    // As if the server had been killed while it wrote the end.
    let (record, end) = text.split_once('\n').unwrap();
    std::fs::write(&file, format!("{record}\n{}", &end[..end.len() / 2])).unwrap();
    let ended = || {
        let list = restarted(&world).list(SUBJECT, false);
        assert_eq!((list.len(), list[0].state), (1, State::Lost));
        list[0].ended
    };
    let first = ended();
    assert!(first.is_some());
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    assert_eq!(ended(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_are_removed_and_damaged_records_kept() {
    let world = World::new();
    let kept = world.directory.path().join("transient/exec");
    std::fs::write(kept.join("5.json"), "{damaged").unwrap();
    std::fs::write(kept.join("5.out"), "output").unwrap();
    std::fs::write(kept.join("6.out"), "of nobody").unwrap();
    std::fs::write(kept.join("7.new"), "half").unwrap();
    std::fs::create_dir_all(kept.join("8.tmp/deep")).unwrap();
    assert!(restarted(&world).list(SUBJECT, true).is_empty());
    let mut left: Vec<_> = std::fs::read_dir(&kept)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["5.json", "5.out"]);
}
