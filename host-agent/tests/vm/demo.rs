//! The demo on two machines, as an ordinary user.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{Lines, Process, processes_with, words_below};
use crate::harness::{Image, ordinary, wait_for};

/// Two dozen files in a few directories, with words that are easy to count.
fn input(directory: &Path) {
    words_below(directory, 24, 3, 10);
}

/// Returns the directory of an image, with which every process of the demo has to do.
fn directory(image: &Image) -> &Path {
    image.kernel.parent().unwrap()
}

fn demo(image: &Image, input: &Path, workdir: &Path) -> Command {
    let mut command = Command::new(&image.host_agent);
    command
        .args(["demo", "--json", "--input"])
        .arg(input)
        .arg("--workdir")
        .arg(workdir)
        .arg("--machines")
        .arg(directory(image))
        .stdin(Stdio::null());
    command
}

#[test]
#[ignore = "boots two machines: make test-vm"]
fn the_whole_job_survives_the_loss_of_a_machine() {
    let image = Image::copied();
    ordinary();
    let (from, workdir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    input(from.path());
    let output = demo(&image, from.path(), workdir.path()).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], true, "{report}");
    let killed = &report["killed"];
    assert!(killed["attempt"].as_u64().unwrap() >= 2, "{report}");
    assert_ne!(killed["guest"], killed["redone_by"]);
    let guests = report["guests"].as_array().unwrap();
    let exits: Vec<_> = guests.iter().map(|guest| &guest["exit"]).collect();
    assert_eq!(exits.len(), 2);
    assert!(
        exits.contains(&&Value::from("SIGKILL")) && exits.contains(&&Value::from("0")),
        "{report}"
    );
    // 0 + 10 + … + 230 times "alpha" and "beta", and three words in the first line of each file.
    let result = std::fs::read_to_string(report["result"].as_str().unwrap()).unwrap();
    assert_eq!(result, "2760 alpha\n2760 beta\n48 common\n24 words\n");

    let mut left: Vec<_> = std::fs::read_dir(workdir.path())
        .unwrap()
        .flatten()
        .collect();
    let base = left.pop().unwrap().path();
    assert!(left.is_empty(), "{left:?}");
    let kept: Vec<_> = std::fs::read_dir(base)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(kept, ["word-counts.txt"]);
    ended(&image);
}

#[test]
#[ignore = "boots two machines: make test-vm"]
fn an_interrupted_demo_leaves_no_machine_and_no_file() {
    let image = Image::copied();
    ordinary();
    let (from, workdir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    input(from.path());
    let mut command = demo(&image, from.path(), workdir.path());
    let mut process = Process(command.stderr(Stdio::piped()).spawn().unwrap());
    let lines = Lines::of(process.0.stderr.take().unwrap());
    // One runs, and the other is perhaps being started.
    lines.find("a machine that boots", |line| line.contains("boots"));
    process.signal(Signal::INT);
    assert_eq!(process.code(), Some(128 + Signal::INT.as_raw()));
    ended(&image);
    assert_eq!(std::fs::read_dir(workdir.path()).unwrap().count(), 0);
}

/// Waits until nothing runs any more that has to do with the image: QEMU, agent, and what carries connections.
#[track_caller]
fn ended(image: &Image) {
    let all = || processes_with(directory(image).to_str().unwrap());
    wait_for(&|| format!("the end of {:?}", all()), || {
        all().is_empty().then_some(())
    });
}
