//! Programs that behave badly: each of them ends, is told of truly, and harms nobody but itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::os::unix::fs::PermissionsExt as _;

use chirp_proto::Code;
use exec_ext::request::{ExecRequest, OutputTo};
use exec_ext::status::EndedBy;
use support::{World, sh, with_stdin};

#[tokio::test(flavor = "multi_thread")]
async fn closed_outputs_are_not_the_end_of_the_program() {
    let world = World::new();
    let outcome = world
        .sh("echo out; exec >&-; echo err >&2; exec 2>&-; mkdir made && exit 9")
        .await;
    assert_eq!(
        (outcome.out.as_slice(), outcome.err.as_slice()),
        (&b"out\n"[..], &b"err\n"[..])
    );
    assert_eq!(outcome.code(), (true, 9));
    assert_eq!(outcome.results().ended_by, EndedBy::Exit);
    assert!(world.work().join("made").exists(), "it ran on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_without_any_stream_left_is_still_watched_and_limited() {
    let world = World::with(|config| config.term_grace = std::time::Duration::from_millis(100));
    let mut request = with_stdin(sh(
        "exec <&- >&- 2>&-; trap '' TERM; while :; do sleep 0.05; done",
    ));
    request.limits.wall_s = Some(3);
    let outcome = world.run(&request, b"nobody reads this").await;
    assert_eq!(outcome.results().limit.as_deref(), Some("wall_s"));
    assert_eq!(outcome.code(), (false, 9));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_after_the_end_of_input_arrives_whole() {
    let world = World::new();
    let request = with_stdin(sh(
        "wc -c; exec <&-; head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; echo last",
    ));
    let outcome = world.run(&request, &vec![b'i'; 200_000]).await;
    assert_eq!(outcome.code(), (true, 0));
    assert_eq!(outcome.out.len(), "200000\n".len() + 3_000_000 + 5);
    assert!(outcome.out.starts_with(b"200000\n") && outcome.out.ends_with(b"last\n"));
    assert_eq!(outcome.err.len(), 3_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_its_own_pipe_that_is_none_ends_at_the_limit() {
    let world = World::with(|config| config.term_grace = std::time::Duration::from_millis(100));
    // It fills a pipe whose reader, a child, never reads; both are gone afterwards.
    let mut request = sh("mkfifo pipe; sleep 300 <pipe & echo $!; head -c 1000000 /dev/zero >pipe");
    request.limits.wall_s = Some(3);
    let outcome = world.run(&request, b"").await;
    assert_eq!(outcome.results().limit.as_deref(), Some("wall_s"));
    assert!(outcome.results().survivors.is_empty());
    let text = String::from_utf8(outcome.out).unwrap();
    assert!(!support::runs(text.trim().parse().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_few_programs_know_are_told_like_all_others() {
    let world = World::new();
    // STKFLT and PWR; the rest are tried beside the ordinary ones.
    for signal in [16, 30] {
        let outcome = world.sh(&format!("kill -{signal} $$; sleep 60")).await;
        assert_eq!(outcome.code(), (false, signal));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_descriptors_run_out_for_the_program_only() {
    let world = World::new();
    // It keeps what it reads until the input ends, which is never.
    let mut request = sh("cat /dev/zero | tail -c 2000000000; echo $?");
    request.limits.memory_bytes = Some(64 << 20);
    let outcome = world.run(&request, b"").await;
    let text = String::from_utf8(outcome.out.clone()).unwrap();
    assert!(text.ends_with("1\n") && text.len() < 10, "{text}");
    assert!(outcome.results().resources.ru_maxrss < 64 << 10);
    assert_eq!(outcome.results().limit, None, "the allocation just failed");

    let mut request = ExecRequest::new("/bin/bash");
    request.args = vec![
        "-c".into(),
        "count=0; while { exec {fd}</dev/null; } 2>/dev/null; do count=$((count + 1)); done
         echo $count"
            .into(),
    ];
    request.limits.open_files = Some(50);
    let outcome = world.run(&request, b"").await;
    let count: u32 = String::from_utf8(outcome.out)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!((30..50).contains(&count), "{count}");
    // The next one has its own.
    assert_eq!(world.sh("ulimit -n").await.out, b"1024\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_the_programs_own_affair() {
    let world = World::new();
    let mut request = sh("head -c 100000 /dev/zero; echo $? >&2");
    request.stdout = OutputTo::File {
        path: "/dev/full".into(),
        append: false,
    };
    let outcome = world.run(&request, b"").await;
    let errors = String::from_utf8(outcome.err.clone()).unwrap();
    assert!(
        errors.contains("No space left") && errors.ends_with("1\n"),
        "{errors}"
    );
    assert_eq!(outcome.code(), (true, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_for_other_machines_are_refused_before_they_run() {
    let world = World::new();
    let mut elf = std::fs::read("/bin/true").unwrap();
    // The machine that the file is for: none that exists, so that no emulator takes it either.
    elf[18..20].copy_from_slice(&[0xed, 0xfe]);
    let alien = world.work().join("alien");
    std::fs::write(&alien, elf).unwrap();
    std::fs::set_permissions(&alien, std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = world.work().join("script");
    std::fs::write(&script, format!("#!{}\n", alien.display())).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    for program in [alien, script] {
        let refused = world.start(&ExecRequest::new(&program)).await.unwrap_err();
        assert_eq!(refused.code, Code::InvalidRequest, "{refused}");
    }
    assert!(world.executions.list(support::SUBJECT, false).is_empty());
}
