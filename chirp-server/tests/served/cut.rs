//! The client's `exec` over connections that are cut, stalled and delayed, and over the death of the
//! server: every byte arrives, the program runs once, and what was lost is not called a success.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::common::{Cutter, Peer, Place, Server, eventually};

const MIB: usize = 1 << 20;

/// The client's program, built beside the server's.
fn client() -> PathBuf {
    let server = Path::new(env!("CARGO_BIN_EXE_chirp-server"));
    let path = server.with_file_name("chirp-client");
    let built = path.is_file();
    assert!(built, "build the client first: cargo build -p chirp-client");
    path
}

/// A place where whoever comes from this machine may run programs.
fn place() -> Place {
    let place = Place::new();
    let list = format!("unix:{} rwldax\naddress:127.0.0.1 rwldax\n", place.user);
    place.write(".__acl", list);
    place
}

/// Runs a shell script by the client's `exec`, which may look for its way back for `seconds`.
fn exec(port: u16, seconds: u32, stdin: Option<&Path>, script: &str) -> Command {
    let mut command = Command::new(client());
    command
        .args(["-a", "address", "-t", &seconds.to_string()])
        .arg(format!("127.0.0.1:{port}"))
        .arg("exec");
    if let Some(path) = stdin {
        command.arg("--stdin").arg(path);
    }
    command.args(["--", "sh", "-c", script]);
    command.stdin(Stdio::null());
    command
}

/// Bytes that do not repeat at any distance that matters.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut content = Vec::with_capacity(length + 8);
    while content.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        content.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    content.truncate(length);
    content
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The client's exit code and words, and the cuts.
fn told(cutter: &Cutter, seed: u64, output: &Output) -> String {
    format!(
        "seed {seed}, {} cuts: {:?}: {}",
        cutter.made(),
        output.status.code(),
        String::from_utf8_lossy(&output.stderr.as_slice()[..output.stderr.len().min(2000)])
    )
}

/// Each line that a program has written to `log` is one run.
#[track_caller]
fn ran_once(place: &Place, about: &str) {
    let log = fs::read_to_string(place.host("log")).unwrap_or_default();
    assert_eq!(log, "run\n", "{about}");
}

/// Both outputs at once, of `size` bytes together.
#[track_caller]
fn outputs_survive(size: usize, cuts: u32, seed: u64) -> u32 {
    let place = place();
    let (out, err) = (noise(size * 3 / 4, seed), noise(size / 4, !seed));
    place.write("out", &out);
    place.write("err", &err);
    let server = place.serve(&["--exec"]);
    let cutter = Cutter::start(server.port, seed, cuts, (size / cuts as usize) as u64);
    let script = "echo run >>log; cat err >&2 & cat out; wait; exit 7";
    let output = exec(cutter.port(), 60, None, script).output().unwrap();
    let about = told(&cutter, seed, &output);
    // The digests first: the bytes themselves are nothing to print.
    assert_eq!(output.status.code(), Some(7), "{about}");
    assert_eq!(digest(&output.stdout), digest(&out), "{about}");
    assert_eq!(digest(&output.stderr), digest(&err));
    ran_once(&place, &about);
    cutter.made()
}

/// Standard input of `size` bytes, digested by the program.
#[track_caller]
fn input_survives(size: usize, cuts: u32, seed: u64) -> u32 {
    let place = place();
    let input = noise(size, seed);
    fs::write(place.base("input"), &input).unwrap();
    let server = place.serve(&["--exec"]);
    let cutter = Cutter::start(server.port, seed, cuts, (size / cuts as usize) as u64);
    let script = "echo run >>log; sha256sum";
    let path = place.base("input");
    let command = &mut exec(cutter.port(), 60, Some(&path), script);
    let output = command.output().unwrap();
    let about = told(&cutter, seed, &output);
    assert_eq!(output.status.code(), Some(0), "{about}");
    let expected = format!("{}  -\n", digest(&input));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{about}");
    ran_once(&place, &about);
    cutter.made()
}

/// What goes to the program comes back at the same time.
#[track_caller]
fn both_ways_survive(size: usize, cuts: u32, seed: u64) -> u32 {
    let place = place();
    let input = noise(size, seed);
    fs::write(place.base("input"), &input).unwrap();
    let server = place.serve(&["--exec"]);
    let cutter = Cutter::start(server.port, seed, cuts, (size / cuts as usize) as u64);
    let path = place.base("input");
    let script = "echo run >>log; cat";
    let command = &mut exec(cutter.port(), 60, Some(&path), script);
    let output = command.output().unwrap();
    let about = told(&cutter, seed, &output);
    assert_eq!(output.status.code(), Some(0), "{about}");
    assert_eq!(digest(&output.stdout), digest(&input), "{about}");
    ran_once(&place, &about);
    cutter.made()
}

/// So many cuts at least, or the test has shown less than it seems to.
#[track_caller]
fn made_enough(made: u32, least: u32) {
    assert!(made >= least, "only {made} cuts were made");
}

#[test]
fn output_survives_any_cut() {
    made_enough(outputs_survive(24 * MIB, 40, 1), 10);
}

#[test]
fn input_survives_any_cut() {
    made_enough(input_survives(32 * MIB, 30, 2), 8);
}

#[test]
fn both_ways_at_once_survive_any_cut() {
    made_enough(both_ways_survive(12 * MIB, 30, 3), 8);
}

#[test]
fn many_seeds_cut_where_a_stream_begins_and_ends() {
    let both = |seed| outputs_survive(20_000, 6, seed) + both_ways_survive(20_000, 6, seed);
    made_enough((100..106).map(both).sum(), 6);
}

#[test]
#[ignore = "takes minutes and 6 GiB of memory and disk; `make test-full` runs it"]
fn a_gibibyte_survives_hundreds_of_cuts_each_way() {
    made_enough(outputs_survive(1024 * MIB, 300, 11), 100);
    made_enough(input_survives(1024 * MIB, 300, 12), 100);
}

/// What the server that came after says of all executions.
fn list(peer: &mut Peer) -> Vec<Value> {
    peer.send("exec_list\n");
    serde_json::from_slice(&peer.counted().unwrap()).unwrap()
}

fn kill(mut server: Server<'_>) {
    server.signal(Signal::KILL);
    assert!(!server.wait().success());
}

#[test]
fn a_killed_server_is_no_success() {
    let place = place();
    let server = place.serve(&["--exec"]);
    let cutter = Cutter::start(server.port, 0, 0, 1);
    let script = "echo run >>log; echo begun; exec sleep 1000";
    let mut client = exec(cutter.port(), 60, None, script);
    let child = client.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = child.spawn().unwrap();
    eventually("the program runs", || place.host("log").exists());
    kill(server);
    let server = place.serve(&["--exec"]);
    cutter.lead_to(server.port);
    let output = child.wait_with_output().unwrap();
    let about = told(&cutter, 0, &output);
    assert_eq!(output.status.code(), Some(125), "{about}");
    assert!(!output.stderr.is_empty(), "the loss is told");
    ran_once(&place, &about);
    let all = list(&mut server.guest(1));
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0]["state"], "lost");
    assert_eq!(all[0]["results"], Value::Null);
}

#[test]
fn a_server_that_stays_away_is_no_success() {
    let place = place();
    let server = place.serve(&["--exec"]);
    let script = "echo run >>log; exec sleep 1000";
    let mut client = exec(server.port, 1, None, script);
    let child = client.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = child.spawn().unwrap();
    eventually("the program runs", || place.host("log").exists());
    kill(server);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(!output.stderr.is_empty(), "the loss is told");
    // Its program is ended by the next.
    drop(place.serve(&["--exec"]));
}

#[test]
fn a_server_killed_anywhere_never_runs_it_twice_nor_calls_a_loss_success() {
    let out = noise(300_000, 5);
    let (mut lost, mut whole) = (0, 0);
    for at in [1, 60, 150, 250, 400, 700, 50_000, 200_000, 300_000] {
        let place = place();
        place.write("out", &out);
        let server = place.serve(&["--exec"]);
        let cutter = Cutter::start(server.port, 0, 0, 1);
        let output_file = place.base("received");
        let script = "echo run >>log; cat out";
        let mut client = exec(cutter.port(), 60, None, script);
        let client = client.stdout(File::create(&output_file).unwrap());
        let mut child = client.stderr(Stdio::null()).spawn().unwrap();
        let mut ended = None;
        // A fast program may be over before.
        eventually("so much was sent", || {
            ended = child.try_wait().unwrap();
            cutter.passed() >= at || ended.is_some()
        });
        kill(server);
        let server = place.serve(&["--exec"]);
        cutter.lead_to(server.port);
        let status = ended.unwrap_or_else(|| child.wait().unwrap());
        let log = fs::read_to_string(place.host("log")).unwrap_or_default();
        let all = list(&mut server.guest(1));
        assert!(log.is_empty() || log == "run\n", "at {at}: {log}");
        assert!(all.len() <= 1, "at {at}: {all:?}");
        if at >= 50_000 {
            // So much only comes of the program's output.
            assert_eq!((all.len(), log.as_str()), (1, "run\n"), "at {at}: {all:?}");
        }
        if status.success() {
            whole += 1;
            let received = fs::read(&output_file).unwrap();
            assert_eq!(digest(&received), digest(&out), "at {at}");
            assert_eq!(log, "run\n", "at {at}");
            assert!(all.iter().all(|one| one["state"] == "ended"), "{all:?}");
        } else {
            lost += 1;
            // 3 where there was not yet a connection to lose.
            let code = status.code();
            assert!(matches!(code, Some(3 | 125)), "at {at}: {code:?}");
            let told_truly = |one: &Value| {
                one["state"] == "lost" && one["results"].is_null() || one["state"] == "ended"
            };
            assert!(all.iter().all(told_truly), "at {at}: {all:?}");
        }
    }
    println!("{lost} lost, {whole} whole");
}
