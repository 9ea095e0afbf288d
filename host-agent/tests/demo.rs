//! The demo, on a small input.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod common;

use std::path::Path;
use std::process::Stdio;

use common::{Lines, Process, host_agent, is_root, processes_with, wait_for, words_below};
use rustix::process::Signal;
use serde_json::Value;

/// Some forty files in a few directories, with words that are easy to count.
fn input(directory: &Path) {
    words_below(directory, 40, 4, 20);
}

fn demo(input: &Path, workdir: &Path) -> std::process::Command {
    common::chirp_server();
    if is_root() {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(workdir, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut command = host_agent();
    command
        .args(["demo", "--json", "--input"])
        .arg(input)
        .arg("--workdir")
        .arg(workdir);
    command
}

#[test]
fn the_whole_job_survives_the_loss_of_a_guest() {
    let (from, workdir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    input(from.path());
    let output = demo(from.path(), workdir.path()).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], true, "{report}");
    assert_eq!(report["files"], 40);
    let killed = &report["killed"];
    assert!(killed["attempt"].as_u64().unwrap() >= 2, "{report}");
    assert_ne!(killed["guest"], killed["redone_by"]);
    assert!(!killed["why"].as_str().unwrap().is_empty());
    let guests = report["guests"].as_array().unwrap();
    assert_eq!(guests.len(), 3);
    assert_eq!(
        guests
            .iter()
            .filter(|guest| guest["exit"] == "SIGKILL")
            .count(),
        1,
        "{report}"
    );
    assert_eq!(
        guests
            .iter()
            .map(|guest| guest["files"].as_u64().unwrap())
            .sum::<u64>(),
        40
    );

    // 0 + 20 + … + 780 times "alpha" and "beta", and three words in the first line of each file.
    let result = std::fs::read_to_string(report["result"].as_str().unwrap()).unwrap();
    assert_eq!(result, "15600 alpha\n15600 beta\n80 common\n40 words\n");
    let word = err
        .lines()
        .find(|line| line.contains("the agent says of") && line.contains("gone"));
    assert!(
        word.is_some_and(|line| line.contains("does not answer")),
        "{err}"
    );

    let left: Vec<_> = std::fs::read_dir(workdir.path())
        .unwrap()
        .flatten()
        .collect();
    let [base] = left.as_slice() else {
        panic!("{left:?}")
    };
    let kept: Vec<_> = std::fs::read_dir(base.path())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(kept, ["word-counts.txt"]);
    let processes = processes_with(workdir.path().to_str().unwrap());
    assert!(processes.is_empty(), "{processes:?}");
}

#[test]
fn an_interrupted_demo_leaves_no_process_and_no_file() {
    for signal in [Signal::INT, Signal::TERM] {
        let (from, workdir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        input(from.path());
        let mut process = Process(
            demo(from.path(), workdir.path())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let lines = Lines::of(process.0.stderr.take().unwrap());
        lines.find("a shard at work", |line| line.contains("%"));
        process.signal(signal);
        assert_eq!(process.code(), Some(128 + signal.as_raw()));
        let path = workdir.path().to_str().unwrap();
        wait_for("the end of all processes", || {
            processes_with(path).is_empty().then_some(())
        });
        assert_eq!(std::fs::read_dir(workdir.path()).unwrap().count(), 0);
    }
}

#[test]
fn what_is_missing_is_told_with_the_remedy() {
    let workdir = tempfile::tempdir().unwrap();
    for (arguments, word) in [
        (
            &["--chirp-server", "/nonexistent"][..],
            "cargo build -p chirp-server",
        ),
        (&["--input", "/nonexistent"], "/nonexistent"),
    ] {
        let output = host_agent()
            .args(["demo", "--workdir"])
            .arg(workdir.path())
            .args(arguments)
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains(word), "{err}");
    }
}
