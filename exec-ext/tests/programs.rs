//! Real programs, from the request to the final status, through both ends of a stream.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use chirp_proto::Code;
use chirp_proto::request::{ExecutionName, OutputStream};
use exec_ext::request::{ExecRequest, OutputTo, StdinFrom};
use exec_ext::status::{EndedBy, State};
use sha2::{Digest as _, Sha256};
use support::{SUBJECT, World, runs, serve, sh, until, with_stdin, within};

#[tokio::test(flavor = "multi_thread")]
async fn output_of_both_streams_arrives_apart_and_in_order() {
    let world = World::new();
    let outcome = world
        .sh("echo one; echo two >&2; echo three; printf four >&2; exit 3")
        .await;
    assert_eq!(outcome.out, b"one\nthree\n");
    assert_eq!(outcome.err, b"two\nfour");
    assert_eq!(outcome.code(), (true, 3));
    let status = outcome.status();
    assert_eq!(status.state, State::Ended);
    assert_eq!(outcome.results().out_bytes, 10);
    assert_eq!(outcome.results().ended_by, EndedBy::Exit);
    assert!(outcome.results().survivors.is_empty());
    assert!(status.ended.unwrap() >= status.started);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_exit_code_is_reported() {
    let world = World::new();
    for code in 0..=255 {
        let outcome = world.sh(&format!("exit {code}")).await;
        assert_eq!(outcome.code(), (true, code));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_deadly_signal_is_reported() {
    let world = World::new();
    for signal in [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 29, 31, 34, 64,
    ] {
        let outcome = world.sh(&format!("kill -{signal} $$; sleep 60")).await;
        assert_eq!(outcome.code(), (false, signal));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_of_every_size_around_powers_of_two_arrives_whole() {
    let world = World::new();
    for power in [0, 12, 16, 20] {
        for size in [(1_usize << power) - 1, 1 << power, (1 << power) + 1] {
            let script = format!("head -c {size} /dev/zero; head -c {size} /dev/zero >&2");
            let outcome = world.sh(&script).await;
            assert_eq!((outcome.out.len(), outcome.err.len()), (size, size));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_of_several_megabytes_comes_back_the_same() {
    let world = World::new();
    let sent: Vec<u8> = (0..7_000_003_u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    let outcome = world.run(&with_stdin(ExecRequest::new("cat")), &sent).await;
    assert_eq!(Sha256::digest(&outcome.out), Sha256::digest(&sent));
    assert_eq!(outcome.status().stdin_received, sent.len() as u64);
    assert!(outcome.status().stdin_eof);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ignores_its_input_does_not_stop_the_stream() {
    let world = World::new();
    let sent = vec![b'x'; 3_000_000];
    // It closes its input, then lives on while the client still sends.
    let outcome = world
        .run(&with_stdin(sh("exec <&-; sleep 0.3; echo over")), &sent)
        .await;
    assert_eq!(outcome.out, b"over\n");
    // It never reads and just ends.
    let outcome = world.run(&with_stdin(sh("sleep 0.2")), &sent).await;
    assert_eq!(outcome.code(), (true, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_starts_in_a_clean_state() {
    let world = World::new();
    // One that only the runner's own care keeps from the program: it is not marked close-on-exec.
    let (flags, mode) = (rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
    let _leak = rustix::fs::open("/dev/null", flags, mode).unwrap();
    let mut request = sh(
        "umask; pwd; env | sort; ls -l /proc/self/fd | grep -c -- '->'; \
         grep -E '^(NoNewPrivs|SigBlk|SigIgn):' /proc/self/status; \
         test $(ps -o sid= -p $$) -eq $$ && echo session; cat",
    );
    request.env.insert("OWN".into(), "v=w".into());
    let outcome = world.run(&request, b"").await;
    let text = String::from_utf8(outcome.out).unwrap();
    let work = world.work().canonicalize().unwrap();
    for expected in [
        "0077\n",
        &format!("{}\n", work.display()),
        "HOME=/\nLANG=C.UTF-8\nOWN=v=w\nPATH=/usr/local/sbin:",
        "USER=tester\n",
        // The three streams, and the directory that ls itself reads.
        "\n4\n",
        "NoNewPrivs:\t1\n",
        "SigBlk:\t0000000000000000\n",
        "SigIgn:\t0000000000000000\n",
        "session\n",
    ] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_take_the_place_of_streams() {
    let world = World::new();
    let (input, output) = (world.work().join("in"), world.work().join("out"));
    std::fs::write(&input, "from a file").unwrap();
    let mut request = sh("cat; echo error >&2");
    request.stdin = StdinFrom::File(input.into());
    request.stdout = OutputTo::File {
        path: output.clone().into(),
        append: false,
    };
    request.stderr = OutputTo::Stdout;
    let outcome = world.run(&request, b"").await;
    assert_eq!(outcome.code(), (true, 0));
    assert_eq!(std::fs::read(output).unwrap(), b"from a fileerror\n");
    let mut request = sh("echo out; echo error >&2");
    request.stderr = OutputTo::Stdout;
    assert_eq!(world.run(&request, b"").await.out, b"out\nerror\n");
    request.stderr = OutputTo::Discard;
    let outcome = world.run(&request, b"").await;
    assert_eq!((outcome.out, outcome.err), (b"out\n".to_vec(), Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_an_error_before_the_reply() {
    let world = World::new();
    let file = |name: &str, content: &[u8], mode| {
        let path = world.work().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let plain = file("plain", b"#!/bin/sh\n", 0o644);
    let garbage = file("garbage", b"echo never run by a shell\n", 0o755);
    let empty = file("empty", b"", 0o755);
    let orphan = file("orphan", b"#!/no/such/interpreter\n", 0o755);
    for (cmd, code, words) in [
        (
            "/no/such/program".into(),
            Code::DoesntExist,
            "no such program",
        ),
        ("nosuchprogram".into(), Code::DoesntExist, "PATH"),
        ("./nosuch".into(), Code::DoesntExist, "no such program"),
        (plain, Code::NotAuthorized, "may not be executed"),
        (world.work(), Code::NotAuthorized, "may not be executed"),
        (
            world.work().join("garbage/x"),
            Code::NotDirectory,
            "not a directory",
        ),
        (garbage, Code::InvalidRequest, "malformed"),
        (empty, Code::InvalidRequest, "malformed"),
        (orphan, Code::DoesntExist, "interpreter"),
    ] {
        let request = ExecRequest::new(&cmd);
        let error = world.start(&request).await.expect_err("started");
        assert_eq!(error.code, code, "{}: {error}", cmd.display());
        assert!(error.message.contains(words), "{error}");
    }
    assert!(world.executions.list(SUBJECT, false).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_being_written_is_busy_and_a_giant_environment_too_long() {
    let world = World::new();
    let program = world.work().join("program");
    std::fs::copy("/bin/true", &program).unwrap();
    let writer = std::fs::File::options()
        .append(true)
        .open(&program)
        .unwrap();
    let error = world.start(&ExecRequest::new(&program)).await.unwrap_err();
    assert_eq!(error.code, Code::Busy);
    drop(writer);
    assert_eq!(
        world.run(&ExecRequest::new("./program"), b"").await.code(),
        (true, 0)
    );

    let mut request = ExecRequest::new("true");
    // The kernel takes no single string above 128 KiB.
    request.env.insert("BIG".into(), "x".repeat(200_000).into());
    let error = world.start(&request).await.unwrap_err();
    assert_eq!(error.code, Code::TooBig);
}

#[tokio::test(flavor = "multi_thread")]
async fn children_in_the_background_die_with_the_program() {
    let world = World::new();
    let begun = Instant::now();
    // One that keeps the pipes, one that ignores TERM, one in a process group of its own.
    let outcome = world
        .sh("sleep 300 & echo $!
             (trap '' TERM; while :; do sleep 1; done) >/dev/null 2>&1 & echo $!
             set -m; sleep 300 >/dev/null 2>&1 & echo $!")
        .await;
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(outcome.code(), (true, 0));
    assert!(outcome.results().survivors.is_empty());
    let text = String::from_utf8(outcome.out).unwrap();
    let pids: Vec<i32> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(pids.len(), 3);
    for pid in pids {
        assert!(!runs(pid), "{pid} survived");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grandchild_in_another_session_cannot_hold_the_end_up() {
    // It does not react to TERM, and the pipe is closed before it is killed.
    let world = World::with(|config| {
        config.pipe_grace = Duration::from_millis(100);
        config.descendants_grace = Duration::from_secs(5);
    });
    let outcome = world
        .sh("mkfifo up
             setsid sh -c 'trap \"\" TERM; echo $$; echo >up; while :; do sleep 300; done' &
             read line <up; echo parent")
        .await;
    assert_eq!(outcome.results().ended_by, EndedBy::Grace);
    let text = String::from_utf8(outcome.out).unwrap();
    let pid = text.lines().next().unwrap().parse().unwrap();
    assert!(!runs(pid));
    assert!(text.contains("parent\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_escapes_the_end_of_its_program() {
    let world = World::new();
    // In a session of its own and an orphan; also without its environment; also with another mark.
    for escape in [
        "",
        "env -i ",
        "prlimit --locks=7 ",
        "prlimit --locks=7:7 setsid ",
    ] {
        let script = format!(
            "(setsid {escape}sh -c 'echo $$ >pid; mv pid ready; exec sleep 300' \
                 </dev/null >/dev/null 2>&1 &)
             while ! test -e ready; do sleep 0.01; done; cat ready; rm ready"
        );
        let outcome = world.sh(&script).await;
        let text = String::from_utf8(outcome.out.clone()).unwrap();
        let pid = text.trim().parse().unwrap();
        assert!(!runs(pid), "{escape}: {pid} survived");
        assert!(outcome.results().survivors.is_empty());
        assert_eq!(outcome.code(), (true, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_ends_what_left_the_session_too() {
    let world = World::new();
    let mut request = sh(
        "(setsid sh -c 'echo $$ >pid; mv pid ready; exec sleep 300' </dev/null >/dev/null 2>&1 &)
         while ! test -e ready; do sleep 0.01; done; cat ready; sleep 300",
    );
    request.limits.wall_s = Some(2);
    let outcome = world.run(&request, b"").await;
    assert_eq!(outcome.results().limit.as_deref(), Some("wall_s"));
    let text = String::from_utf8(outcome.out).unwrap();
    assert!(!runs(text.trim().parse().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_that_end_while_the_program_runs_are_reaped() {
    let world = World::new();
    let request = with_stdin(sh(
        "for n in 1 2 3 4 5; do (sh -c 'echo $$' &); done; read line",
    ));
    let started = world.start(&request).await.unwrap();
    let execution = started.execution.clone();
    let client = serve(started, Default::default());
    let (near, far) = tokio::io::duplex(10);
    let collected = tokio::spawn(async move { client.collect(&request, Some(far)).await });
    until("five orphans", || execution.status().out_to >= 10).await;
    // Zombies are children of this process, or of the program until that ends.
    let leader = execution.status().pid.unwrap() as i32;
    let own = std::process::id() as i32;
    until("an end without zombies", || {
        let mut all = children_of(own);
        all.retain(|&pid| pid != leader);
        all.is_empty() && children_of(leader).is_empty()
    })
    .await;
    drop(near);
    let outcome = within(collected).await.unwrap().unwrap();
    assert!(outcome.out.len() >= 10);
}

/// The children of a process, also those that have ended.
fn children_of(parent: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map(|(_, fields)| fields);
        fields.and_then(|fields| fields.split(' ').nth(1)) == Some(parent.to_string().as_str())
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tail_of_the_output_waits_for_a_slow_reader() {
    // The program has ended, and its last bytes are in the pipe, long before the client reads them.
    let world = World::with(|config| {
        config.window_bytes = 8192;
        config.pipe_grace = Duration::from_millis(50);
    });
    let request = sh("head -c 60000 /dev/zero");
    let started = world.start(&request).await.unwrap();
    let execution = started.execution.clone();
    let leader = execution.status().pid.unwrap() as i32;
    until("the program's exit", || !runs(leader)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let client = serve(started, Default::default());
    let outcome = within(client.collect(&request, Some(&b""[..])))
        .await
        .unwrap();
    assert_eq!(outcome.out.len(), 60000);
    assert_eq!(outcome.results().ended_by, EndedBy::Exit);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_end_programs_and_are_named() {
    let world = World::with(|config| config.term_grace = Duration::from_millis(200));
    let mut request = sh("trap '' TERM; echo deaf; while :; do sleep 0.1; done");
    request.limits.wall_s = Some(1);
    let outcome = world.run(&request, b"").await;
    assert_eq!(outcome.results().limit.as_deref(), Some("wall_s"));
    // On a machine so loaded that it did not come to that within the time, the program may have heard TERM.
    let signals: &[i32] = if outcome.out == b"deaf\n" {
        &[9]
    } else {
        &[9, 15]
    };
    let (exited, signal) = outcome.code();
    assert!(!exited && signals.contains(&signal), "{outcome:?}");

    let mut request = sh("while :; do :; done");
    request.limits.cpu_s = Some(1);
    let outcome = world.run(&request, b"").await;
    assert_eq!(outcome.results().limit.as_deref(), Some("cpu_s"));
    let resources = outcome.results().resources;
    // The kernel holds the limit against whole ticks of its clock, which it may count for a program that had
    // only a part of them, and tells what the program really had.
    let used = resources.ru_utime + resources.ru_stime;
    assert!((0.2..3.0).contains(&used), "{used}");

    let mut request = sh("exec head -c 100000 /dev/zero > big");
    request.limits.file_bytes = Some(5000);
    let outcome = world.run(&request, b"").await;
    assert_eq!(outcome.results().limit.as_deref(), Some("file_bytes"));
    assert_eq!(
        std::fs::metadata(world.work().join("big")).unwrap().len(),
        5000
    );

    let mut request = sh("ulimit -v; ulimit -n; ulimit -c");
    request.limits.memory_bytes = Some(1 << 30);
    request.limits.open_files = Some(77);
    let outcome = world.run(&request, b"").await;
    assert_eq!(outcome.out, b"1048576\n77\n0\n");

    let mut request = sh("sleep 300");
    request.limits.orphan_s = Some(1);
    request.detach = true;
    let started = world.start(&request).await.unwrap();
    let status = within(started.execution.wait(Duration::from_secs(30))).await;
    assert_eq!(status.results.unwrap().limit.as_deref(), Some("orphan_s"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once_end_with_their_own_numbers() {
    let world = std::sync::Arc::new(World::new());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200_i32 {
        let world = std::sync::Arc::clone(&world);
        tasks.spawn(async move {
            // Some burn processor time, most do not; each has an exit code of its own.
            let burns = number % 50 == 0;
            let work = if burns {
                "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done;"
            } else {
                ""
            };
            let outcome = world
                .sh(&format!("{work} echo {number}; exit {}", number % 256))
                .await;
            assert_eq!(outcome.out, format!("{number}\n").as_bytes());
            assert_eq!(outcome.code(), (true, number % 256));
            let resources = outcome.results().resources;
            (
                burns,
                resources.ru_utime + resources.ru_stime,
                resources.ru_maxrss,
            )
        });
    }
    let (mut busy, mut idle) = (Vec::new(), Vec::new());
    while let Some(done) = within(tasks.join_next()).await {
        let (burns, seconds, memory) = done.unwrap();
        assert!(memory > 100, "{memory} KiB");
        if burns {
            busy.push(seconds)
        } else {
            idle.push(seconds)
        }
    }
    let least_busy = busy.iter().copied().fold(f64::MAX, f64::min);
    idle.sort_by(f64::total_cmp);
    // The median: a loaded machine may charge a few with more.
    assert!(
        least_busy > 2.0 * idle[idle.len() / 2],
        "{least_busy} {idle:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_what_runs_and_refuses_what_comes() {
    let world = World::with(|config| config.term_grace = Duration::from_millis(200));
    let obedient = world.start(&sh("sleep 300")).await.unwrap();
    let stubborn = world
        .start(&sh("trap '' TERM; while :; do sleep 0.1; done"))
        .await
        .unwrap();
    let left = within(world.executions.shutdown(Duration::from_secs(20))).await;
    assert_eq!(left, 0);
    for started in [obedient, stubborn] {
        let results = started.execution.status().results.unwrap();
        assert_eq!(results.limit.as_deref(), Some("shutdown"));
        assert!(!results.finished);
    }
    let error = world.start(&sh("true")).await.unwrap_err();
    assert_eq!(error.code, Code::TryAgain);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_cannot_have_more_than_its_share() {
    let world = World::with(|config| config.max_running_per_subject = 2);
    let _first = world.start(&sh("sleep 300")).await.unwrap();
    let _second = world.start(&sh("sleep 300")).await.unwrap();
    let error = world.start(&sh("true")).await.unwrap_err();
    assert_eq!(error.code, Code::TooManyOpen);
    within(world.executions.shutdown(Duration::from_secs(20))).await;

    let world = World::with(|config| config.max_records_per_subject = 1);
    world.sh("true").await;
    let error = world.start(&sh("true")).await.unwrap_err();
    assert_eq!(error.code, Code::TooManyOpen);
    let world = World::with(|config| {
        config.max_records_per_subject = 1;
        config.kept = Duration::ZERO;
    });
    world.sh("true").await;
    assert_eq!(world.sh("exit 4").await.code(), (true, 4));
}

fn captured(script: &str) -> ExecRequest {
    let mut request = sh(script);
    request.stdout = OutputTo::Capture;
    request.stderr = OutputTo::Capture;
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn captured_output_is_in_the_status_and_the_rest_can_be_fetched() {
    let world = World::new();
    let outcome = world
        .run(&captured("echo yes; printf '\\377' >&2"), b"")
        .await;
    assert!(outcome.out.is_empty() && outcome.err.is_empty());
    let results = outcome.results();
    assert_eq!(results.out.as_deref(), Some("yes\n"));
    assert_eq!(
        (results.err.as_deref(), results.err_base64.as_deref()),
        (None, Some("/w=="))
    );
    assert_eq!((results.out_bytes, results.err_bytes), (4, 1));

    // A character lies across the end of what a status holds.
    let outcome = world
        .run(
            &captured("head -c 262143 /dev/zero | tr '\\0' x; printf 'äb'"),
            b"",
        )
        .await;
    let results = outcome.results();
    assert_eq!(results.out.as_ref().unwrap().len(), 262_143);
    assert_eq!((results.out_bytes, results.out_dropped), (262_146, 0));
    assert_eq!(results.err.as_deref(), Some(""));
    let name = ExecutionName::Id(outcome.status().id);
    let execution = world.executions.find(SUBJECT, &name, false).unwrap();
    let rest = execution.captured(OutputStream::Out, 262_140, 100).unwrap();
    assert_eq!(rest, "xxxäb".as_bytes());
    let behind = execution.captured(OutputStream::Out, 262_146, 100).unwrap();
    assert!(behind.is_empty());
    // A list is without output.
    let listed = world.executions.list(SUBJECT, false);
    assert!(listed.iter().all(|status| {
        let results = status.results.as_ref().unwrap();
        results.out.is_none() && results.err_base64.is_none()
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_fits_into_a_frame_whatever_it_holds() {
    let world = World::new();
    let mut request = captured("head -c 250000 /dev/zero; head -c 250000 /dev/zero >&2");
    request
        .args
        .extend((0..20).map(|_| "x".repeat(40_000).into()));
    let outcome = world.run(&request, b"").await;
    let results = outcome.results();
    assert_eq!((results.out_bytes, results.out_dropped), (250_000, 0));
    assert_eq!(results.out.as_ref().unwrap().len(), 384 * 1024 / 6);
    assert!(outcome.status().request.is_none());
    let name = ExecutionName::Id(outcome.status().id);
    let execution = world.executions.find(SUBJECT, &name, false).unwrap();
    let all = execution.captured(OutputStream::Err, 0, 1_000_000).unwrap();
    assert_eq!(all.len(), 250_000);
    // Elsewhere there is room for the request.
    assert!(execution.status().request.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_captured_output_above_the_limit_head_and_tail_are_kept() {
    let world = World::with(|config| config.capture_bytes = 1000);
    let outcome = world
        .run(
            &captured("echo begin; head -c 5000000 /dev/zero; echo end"),
            b"",
        )
        .await;
    let results = outcome.results();
    assert_eq!(results.out_bytes, 5_000_010);
    assert_eq!(results.out_dropped, 4_999_010);
    let text = results.out.as_ref().unwrap();
    assert!(text.starts_with("begin\n") && text.ends_with("end\n"));
    assert_eq!(text.len(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn captures_share_their_room_and_give_it_back_when_they_are_forgotten() {
    // A subject has half of it.
    let world = World::with(|config| config.space_bytes = 2 * 46_000);
    let request = captured("head -c 30000 /dev/zero");
    let outcome = world.run(&request, b"").await;
    assert_eq!(outcome.results().out_dropped, 0);
    let name = ExecutionName::Id(outcome.status().id);
    let refused = world.start(&captured("true")).await.unwrap_err();
    assert_eq!(refused.code, Code::NoSpace);
    let kept = world.directory.path().join("transient/exec");
    assert!(kept.join(format!("{}.out", outcome.status().id)).exists());
    let forget = || world.executions.remove(SUBJECT, &name, false);
    until("the end", || forget().is_ok_and(|removed| removed)).await;
    until("removal", || std::fs::read_dir(&kept).unwrap().count() == 0).await;
    let outcome = world.run(&captured("echo again"), b"").await;
    assert_eq!(outcome.results().out.as_deref(), Some("again\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_pipe_that_a_descendant_keeps_is_closed_after_the_grace_time() {
    let world = World::with(|config| config.pipe_grace = Duration::from_millis(100));
    let outcome = world
        .run(
            &captured("echo here; trap '' TERM; sleep 1000 & exit 0"),
            b"",
        )
        .await;
    let results = outcome.results();
    assert_eq!(results.out.as_deref(), Some("here\n"));
    assert_eq!(outcome.code(), (true, 0));
}
