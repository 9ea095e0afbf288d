//! stomp.py, the client that the original system used, against the embedded broker in every version, with
//! and without heart-beats. What it does is in `stomp_client.py`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that fails this way has failed as it should"
)]

use std::path::Path;
use std::process::{Command, Stdio};

use brokers::broker::agent_account;
use brokers::{Broker, Kind, coilmq};

#[test]
fn it_speaks_1_0() {
    visit("1.0", 0);
}

#[test]
fn it_speaks_1_1() {
    visit("1.1", 0);
}

#[test]
fn it_speaks_1_1_with_heart_beats() {
    visit("1.1", 2000);
}

#[test]
fn it_speaks_1_2() {
    visit("1.2", 0);
}

#[test]
fn it_speaks_1_2_with_heart_beats() {
    visit("1.2", 2000);
}

#[track_caller]
fn visit(version: &str, beat: u32) {
    let packages = coilmq::packages().unwrap();
    assert!(
        packages.join("stomp").is_dir(),
        "stomp.py is not in {}; scripts/install-missing installs it",
        packages.display()
    );
    let broker = Broker::start(Kind::Embedded).unwrap();
    let account = agent_account();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stomp_client.py");
    // Every wait in it has an end.
    let ran = Command::new("python3")
        .arg("-B")
        .arg(script)
        .args([
            &broker.address().port().to_string(),
            version,
            &beat.to_string(),
        ])
        .args([&account.login, &account.passcode])
        .env("PYTHONPATH", packages)
        .env("PYTHONUTF8", "1")
        .stdin(Stdio::null())
        .output()
        .expect("python3 runs; scripts/install-missing installs it");
    let said = String::from_utf8_lossy(&ran.stdout);
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(
        ran.status.success() && said.contains("good"),
        "{said}{errors}"
    );
}
