//! What confined programs can and cannot do. What this kernel does not enforce is not claimed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use exec_ext::request::ExecRequest;
use exec_ext::runner::{Confinement, Reach};
use support::{World, sh, until};

const READ: [&str; 6] = ["/bin", "/etc", "/lib", "/lib64", "/proc", "/usr"];

fn confined(network: bool) -> (World, Arc<Confinement>) {
    let confinement = Arc::new(Confinement::new(Reach {
        read: READ.map(PathBuf::from).into(),
        write: vec!["/dev/null".into()],
        network,
    }));
    let world = World::with(|config| config.confinement = Some(Arc::clone(&confinement)));
    (world, confinement)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_can_be_written_in_two_places_and_read_in_the_named_ones() {
    let (world, confinement) = confined(true);
    let outside = world.directory.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    let script = format!(
        "echo in >here && echo in >$TMPDIR/there && mkdir sub && cat here $TMPDIR/there
         ls /usr >/dev/null && echo read
         cat {0}/secret; echo x >{0}/new; echo x >>{0}/secret; mv here {0}/; ln {0}/secret link
         rm {0}/secret; ls {0}; ls {0}/../transient; ls $TMPDIR/..; ln -s {0}/secret via; cat via
         cat /proc/{1}/root{0}/secret; cat /proc/{1}/environ
         echo $TMPDIR",
        outside.display(),
        std::process::id()
    );
    let outcome = world.sh(&script).await;
    let text = String::from_utf8(outcome.out).unwrap();
    if confinement.landlock() == 0 {
        assert!(confinement.missing()[0].starts_with("files"));
        return;
    }
    let lines: Vec<&str> = text.lines().collect();
    let errors = String::from_utf8(outcome.err).unwrap();
    assert_eq!(lines[..3], ["in", "in", "read"], "{text} {errors}");
    assert_eq!(lines.len(), 4, "{text} {errors}");
    assert!(!outside.join("new").exists() && !outside.join("here").exists());
    assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"secret");
    // Its directory went with it.
    assert!(!PathBuf::from(lines[3]).exists());
    let kept = world.directory.path().join("transient/exec");
    let names = std::fs::read_dir(kept).unwrap().flatten();
    let mut names = names.map(|entry| entry.file_name().into_string().unwrap());
    assert!(!names.any(|name| name.ends_with(".tmp")));
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_outside_the_named_places_cannot_be_run() {
    let (world, confinement) = confined(true);
    let tool = world.directory.path().join("tool");
    std::fs::copy("/bin/true", &tool).unwrap();
    let outcome = world.start(&ExecRequest::new(tool.as_os_str())).await;
    if confinement.landlock() == 0 {
        assert!(outcome.is_ok());
        return;
    }
    let refused = outcome.unwrap_err();
    assert_eq!(refused.code, chirp_proto::Code::NotAuthorized);
    assert!(refused.message.contains("sandbox"), "{refused}");
    let kept = world.directory.path().join("transient/exec");
    until("removal", || std::fs::read_dir(&kept).unwrap().count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_no_job_needs_fail() {
    let (world, confinement) = confined(true);
    assert!(confinement.seccomp());
    for command in [
        "unshare -U true",
        "unshare -n true",
        "mount -t tmpfs none .",
        "chroot . /bin/true",
    ] {
        let outcome = world.sh(command).await;
        let errors = String::from_utf8(outcome.err.clone()).unwrap();
        assert_ne!(outcome.code(), (true, 0), "{command}");
        assert!(
            ["not permitted", "denied", "superuser"]
                .iter()
                .any(|word| errors.contains(word)),
            "{command}: {errors}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_the_programs_own_processes_only() {
    let (world, confinement) = confined(true);
    let mut other = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let script = format!(
        "kill -0 {} && echo reached; sleep 9 & kill $! && echo own",
        other.id()
    );
    let outcome = world.sh(&script).await;
    other.kill().unwrap();
    other.wait().unwrap();
    let expected: &[u8] = if confinement.landlock() >= 6 {
        b"own\n"
    } else {
        b"reached\nown\n"
    };
    assert_eq!(outcome.out, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_without_network_leaves_none() {
    for (network, expected) in [(true, true), (false, false)] {
        let (world, confinement) = confined(network);
        assert!(confinement.seccomp());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut request = sh(&format!("exec 3<>/dev/tcp/127.0.0.1/{port}"));
        request.cmd = "/bin/bash".into();
        let outcome = world.run(&request, b"").await;
        assert_eq!(outcome.code() == (true, 0), expected, "network {network}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_told_while_the_program_runs() {
    use exec_ext::frame::ServerFrame;
    use tokio::io::AsyncReadExt as _;
    let world = World::new();
    let mut request = sh("i=0; while :; do i=$((i+1)); done");
    request.usage_ms = 1;
    let started = world.start(&request).await.unwrap();
    let mut client = support::serve(started, Default::default());
    let mut buffer = bytes::BytesMut::new();
    let told = async {
        let mut count = 0;
        loop {
            while let Some(frame) = exec_ext::frame::server_frame(&mut buffer).unwrap() {
                let ServerFrame::Usage(json) = frame else {
                    continue;
                };
                let usage: exec_ext::status::Usage = serde_json::from_slice(&json).unwrap();
                count += 1;
                if count > 2 && usage.resources.ru_utime > 0.0 {
                    assert!(usage.wall_s > 0.0 && usage.resources.ru_maxrss > 0);
                    return;
                }
            }
            assert!(client.reader.read_buf(&mut buffer).await.unwrap() > 0);
        }
    };
    support::within(told).await;
    client.execution.signal(9);
}
