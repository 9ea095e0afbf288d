//! What executions may keep on disk, and what happens when that is full.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;

use chirp_proto::Code;
use chirp_proto::request::{ExecutionName, OutputStream};
use exec_ext::request::{ExecRequest, OutputTo};
use exec_ext::runner::{Confinement, Executions, ExecutionsConfig, Reach};
use exec_ext::status::State;
use support::{SUBJECT, World, prepared, serve, sh, until, with_id, with_stdin, within};

#[tokio::test(flavor = "multi_thread")]
async fn when_the_space_is_full_nothing_new_is_run_and_nothing_old_is_lost() {
    let space = 2 * 200_000;
    let world = World::with(|config| config.space_bytes = space);
    let echo = with_stdin(ExecRequest::new("cat"));
    let running = serve(world.start(&echo).await.unwrap(), Default::default());
    let mut capturing = with_id(sh("head -c 120000 /dev/urandom"), "kept");
    capturing.stdout = OutputTo::Capture;
    let ended = world.run(&capturing, b"").await;
    assert_eq!(ended.results().out_dropped, 0);
    // Records alone fill the rest.
    let mut refused = None;
    for _ in 0..100 {
        if let Err(error) = world.start(&sh("true")).await {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.expect("a refusal");
    assert_eq!(refused.code, Code::NoSpace, "{refused}");
    assert!(refused.message.contains("remove ended ones"), "{refused}");
    // What runs is not touched.
    let sent: Vec<u8> = (0..500_000_u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    let outcome = within(running.collect(&echo, Some(&sent[..]))).await;
    let outcome = outcome.unwrap();
    assert_eq!((outcome.code(), outcome.out == sent), ((true, 0), true));
    // Others have their half.
    let request = Arc::new(ExecRequest::parse(&sh("exit 5").to_json()).unwrap());
    let ready = prepared(&request, world.work());
    let other = world.executions.start("unix:other", request, || Ok(ready));
    let other = other.await.unwrap().execution;
    within(other.wait(support::PATIENCE)).await;
    assert!(other.has_ended());
    // What ended is all there, also for the next server, which is as full.
    let name = ExecutionName::CmdId("kept".into());
    until("every end", || {
        let all = world.executions.list(SUBJECT, false);
        all.iter().all(|status| status.state == State::Ended)
    })
    .await;
    let mut config = ExecutionsConfig::new(world.directory.path().join("transient"));
    config.space_bytes = space;
    let next = Executions::new(config).unwrap();
    let found = next.find(SUBJECT, &name, false).unwrap();
    let captured = found.captured(OutputStream::Out, 0, 1_000_000).unwrap();
    assert_eq!(captured.len(), 120_000);
    // Forgetting makes room.
    until("room", || {
        world
            .executions
            .remove(SUBJECT, &name, false)
            .unwrap_or(true)
    })
    .await;
    assert_eq!(world.sh("exit 6").await.code(), (true, 6));
}

fn confined(change: impl FnOnce(&mut ExecutionsConfig)) -> World {
    World::with(|config| {
        config.confinement = Some(Arc::new(Confinement::new(Reach {
            read: ["/bin", "/lib", "/lib64", "/usr"].map(Into::into).into(),
            write: vec!["/dev/null".into(), "/dev/zero".into()],
            network: true,
        })));
        change(config);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_directory_that_takes_too_much_ends_its_program_and_no_other() {
    let world = confined(|config| {
        config.space_bytes = 2 << 20;
        config.measured_every = std::time::Duration::from_millis(10);
    });
    let quiet = with_stdin(sh("echo x >$TMPDIR/small; cat"));
    let quiet_one = serve(world.start(&quiet).await.unwrap(), Default::default());
    let filling =
        sh("mkdir -p $TMPDIR/a/b; head -c 5000000 /dev/zero >$TMPDIR/a/b/big; exec sleep 600");
    let outcome = world.run(&filling, b"").await;
    assert_eq!(outcome.code(), (false, 15));
    assert_eq!(outcome.results().limit.as_deref(), Some("temporary_bytes"));
    // Its directory has gone, and with it what it took.
    assert_eq!(world.sh("exit 7").await.code(), (true, 7));
    let outcome = within(quiet_one.collect(&quiet, Some(&b"still here"[..]))).await;
    let outcome = outcome.unwrap();
    assert_eq!(
        (outcome.code(), outcome.out),
        ((true, 0), b"still here".to_vec())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_execution_has_its_room_on_disk_from_the_start() {
    let world = World::new();
    let kept = world.directory.path().join("transient/exec");
    let started = world.start(&sh("read x; exit 3")).await;
    drop(started);
    let started = world
        .start(&with_stdin(sh("read x; exit 3")))
        .await
        .unwrap();
    let reserved = kept.join(format!("{}.json", started.execution.id()));
    let bytes = || std::os::unix::fs::MetadataExt::blocks(&reserved.metadata().unwrap()) * 512;
    assert!(bytes() > 8192, "{}", bytes());
    let client = serve(started, Default::default());
    let request = with_stdin(sh("read x; exit 3"));
    let outcome = within(client.collect(&request, Some(&b"x\n"[..]))).await;
    assert_eq!(outcome.unwrap().code(), (true, 3));
    assert!(bytes() <= 8192, "{}", bytes());
}
