//! Executions on file systems that are really full: that of the transient directory, and that of the tree.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::{Peer, Place, Server, eventually, require_root};
use crate::exec::{finish, frame, refused, run, shell, start, status};

/// A small file system in the place of one of a place's directories, in a mount namespace that lives as
/// long as this value.
struct Disk<'a> {
    place: &'a Place,
    holder: Child,
}

impl<'a> Disk<'a> {
    #[track_caller]
    fn mount(place: &'a Place, directory: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "sh", "-ec"]);
        command.arg(
            "mount -t tmpfs -o size=4m,uid=$(stat -c %u \"$0\"),gid=$(stat -c %g \"$0\"),mode=700 tmpfs \"$0\"
             echo mounted; exec cat",
        );
        command.arg(place.base(directory));
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("unshare of util-linux");
        let mut line = String::new();
        let mut told = BufReader::new(holder.stdout.take().unwrap());
        told.read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n", "this needs the right to mount");
        Self { place, holder }
    }

    /// Starts a server that has it.
    #[track_caller]
    fn serve(&self) -> Server<'a> {
        let server = Server::command(self.place);
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()));
        command.arg(server.get_program()).args(server.get_args());
        command.arg("--exec");
        Server::spawn(self.place, command)
    }

    /// Returns the names in one of its directories.
    #[track_caller]
    fn names(&self, directory: PathBuf) -> Vec<String> {
        let within = format!("/proc/{}/root{}", self.holder.id(), directory.display());
        let entries = std::fs::read_dir(within).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // It ends with its input in any case.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn with_input(mut request: Value) -> Value {
    request["stdin"] = json!("stream");
    request
}

/// Reads output up to these bytes.
#[track_caller]
fn read_to(peer: &mut Peer, end: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while !out.ends_with(end) {
        let (word, payload) = frame(peer);
        if word == "out" {
            out.extend(payload);
        }
    }
    out
}

/// Starts a program that fills what it can write to, and waits until that is full.
#[track_caller]
fn fill(server: &Server<'_>, file: &str) -> Peer {
    let mut peer = server.owner();
    let script = format!(
        "head -c 100000000 /dev/zero >{file} 2>/dev/null; until ! echo x >>{file}; do :; done 2>/dev/null
         echo full; read x; rm {file}"
    );
    start(&mut peer, &with_input(shell(&script)));
    assert_eq!(read_to(&mut peer, b"full\n"), b"full\n");
    peer
}

#[test]
fn a_full_transient_directory_refuses_what_is_new_and_loses_nothing_as_root() {
    require_root();
    let place = Place::new();
    let disk = Disk::mount(&place, "transient");
    let mut server = disk.serve();
    let kept = place.base("transient").join("exec");
    let mut owner = server.owner();
    // One has ended and waits to be fetched, one runs, and one that runs is captured.
    let mut ended = shell("head -c 100000 /dev/zero | tr '\\0' x; exit 3");
    ended["stdout"] = json!("capture");
    ended["cmd-id"] = json!("ended");
    ended["detach"] = json!(true);
    start(&mut owner, &ended);
    let mut waiting = server.owner();
    waiting.send("exec_wait @ended 30\n");
    waiting.counted().unwrap();
    let mut running = server.owner();
    let mut echo = with_input(json!({"cmd": "cat"}));
    echo["cmd-id"] = json!("running");
    start(&mut running, &echo);
    let mut captured = server.owner();
    let mut capturing = with_input(shell("read x; head -c 100000 /dev/zero; exit 4"));
    capturing["stdout"] = json!("capture");
    start(&mut captured, &capturing);
    let mut filling = fill(&server, "$TMPDIR/fill");
    let before = disk.names(kept.clone());

    for request in [shell("true"), ended_like(&ended)] {
        let words = refused(&mut owner, &request);
        assert!(words.starts_with("-6 cannot start: "), "{words}");
    }
    assert_eq!(disk.names(kept.clone()), before, "refusals leave nothing");
    // What runs goes on to its end, which is on disk; what could not be kept is counted.
    read_to_credit(&mut running);
    let input = vec![b'y'; 100_000];
    running.send(format!("in {}\n", input.len())).send(&input);
    running.send("eof\n");
    let echoed = finish(&mut running);
    assert_eq!((echoed.code(), echoed.out == input), (0, true));
    read_to_credit(&mut captured);
    captured.send("in 2\nx\neof\n");
    let cut = finish(&mut captured);
    let results = &cut.status["results"];
    assert_eq!((cut.code(), &results["out_bytes"]), (4, &json!(100_000)));
    assert!(results["out_dropped"].as_u64().unwrap() > 0, "{results}");
    let whole = |server: &Server<'_>| {
        let mut peer = server.owner();
        peer.send("exec_status @ended\n");
        let status: Value = serde_json::from_slice(&peer.counted().unwrap()).unwrap();
        assert_eq!(status["results"]["exitCodeOrSignal"], 3, "{status}");
        assert_eq!(status["results"]["out_dropped"], 0, "{status}");
        peer.send("exec_output @ended out 0 1000000\n");
        assert_eq!(peer.counted().unwrap(), vec![b'x'; 100_000]);
        peer.send("exec_status @running\n");
        let status: Value = serde_json::from_slice(&peer.counted().unwrap()).unwrap();
        assert_eq!(status["state"], "ended", "{status}");
        assert_eq!(status["results"]["exitCodeOrSignal"], 0, "{status}");
    };
    whole(&server);
    // The server serves: this is what files are for.
    assert_eq!(owner.putfile("/f", "content"), 7);
    assert_eq!(owner.getfile("/f"), Ok(b"content".to_vec()));
    // Killed while it is full, it leaves all of that to the next.
    server.signal(Signal::KILL);
    server.wait();
    filling.rest();
    drop(server);
    let server = disk.serve();
    whole(&server);
    // That one had the leftovers removed, and runs what comes.
    assert_eq!(run(&mut server.owner(), &shell("exit 5")).code(), 5);
}

/// The same under another id.
fn ended_like(request: &Value) -> Value {
    let mut another = request.clone();
    another["cmd-id"] = json!("another");
    another
}

/// Waits until input may be sent.
#[track_caller]
fn read_to_credit(peer: &mut Peer) {
    while !peer.line().starts_with("credit ") {}
}

#[test]
fn on_a_full_tree_programs_run_and_rights_hold_as_root() {
    require_root();
    let place = Place::new();
    let disk = Disk::mount(&place, "root");
    let server = disk.serve();
    let mut owner = server.owner();
    owner.expect("mkdir /w 448\nmkdir /w/in 448\n", "0\n0\n");
    assert_eq!(owner.putfile("/w/fill", vec![0; 100_000]), 100_000);
    let list = owner.answer("getacl /w/in\n");
    let mut running = server.owner();
    start(&mut running, &with_input(json!({"cmd": "cat"})));
    // This one takes away a list, and the room in which it could be written again.
    let mut evil = server.owner();
    let mut request = with_input(shell(
        "rm in/.__acl; head -c 100000000 /dev/zero >big 2>/dev/null
         until ! echo x >>big; do :; done 2>/dev/null; echo full; read x",
    ));
    request["path"] = json!("/w");
    let id = start(&mut evil, &request);
    read_to(&mut evil, b"full\n");
    assert_eq!(owner.putfile("/w/new", vec![0; 100_000]), -6);
    let writing =
        json!({"cmd": "head", "args": ["-c", "5000", "/dev/zero"], "stdout": {"file": "/out"}});
    let failed = run(&mut owner, &writing);
    assert_eq!(failed.code(), 1, "{}", failed.err.escape_ascii());
    read_to_credit(&mut running);
    running.send("in 5\nhello").send("eof\n");
    let echoed = finish(&mut running);
    assert_eq!((echoed.code(), echoed.out), (0, b"hello".to_vec()));
    // At its end the list is put right as far as that goes: it counts, wherever it is.
    evil.send("in 2\nx\n");
    assert_eq!(finish(&mut evil).code(), 0);
    assert_eq!(status(&mut owner, id)["state"], "ended");
    let holds = |server: &Server<'_>| {
        assert_eq!(server.owner().answer("getacl /w/in\n"), list);
        server.guest(2).expect("getdir /w/in\n", "-2\n");
    };
    holds(&server);
    eventually("the trouble is logged", || {
        server.log().contains("cannot put right")
    });
    assert!(
        !disk
            .names(place.host("w/in"))
            .contains(&".__acl".to_owned())
    );
    // With room again the next program's end does it.
    owner.expect("unlink /w/big\n", "0\n");
    let request = json!({"cmd": "true", "path": "/w"});
    assert_eq!(run(&mut owner, &request).code(), 0);
    holds(&server);
    assert!(
        disk.names(place.host("w/in"))
            .contains(&".__acl".to_owned())
    );
}
