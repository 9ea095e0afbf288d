//! The command line is interrupted, and its surroundings fail: exit status and what is left.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};

use crate::ours::{Ours, eventually, names, noise};
use crate::support::{as_nobody, give_away};

fn command(address: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chirp-client"));
    command
        .args(["-a", "address", "-t", "20", address])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server that plays the first answers to each connection and then stays silent.
struct Silent {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Silent {
    fn start(answers: &'static [(&'static str, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let asking = Arc::clone(&asked);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, asking) = (stream.unwrap(), Arc::clone(&asking));
                std::thread::spawn(move || serve(stream, answers, &asking));
            }
        });
        Self { address, asked }
    }

    /// Reports whether a request that begins so has come.
    fn was_asked(&self, begin: &str) -> bool {
        let asked = self.asked.lock().unwrap();
        asked.iter().any(|line| line.starts_with(begin))
    }
}

fn serve(stream: TcpStream, answers: &[(&str, &str)], asked: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
        let answer = match line.trim_end() {
            "address" => Some("yes\nyes\nyes\naddress\n127.0.0.1\n"),
            request => answers
                .iter()
                .find(|(begin, _)| request.starts_with(begin))
                .map(|(_, answer)| *answer),
        };
        asked.lock().unwrap().push(line.trim_end().to_owned());
        if let Some(answer) = answer
            && lines.get_mut().write_all(answer.as_bytes()).is_err()
        {
            return;
        }
        line.clear();
    }
}

const FILE: &str = "0\n1 3 33152 1 0 0 0 4000000 4096 8000 0 0 0\n";

fn end(mut child: Child, signal: Signal) -> Output {
    let id = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    kill_process(id, signal).unwrap();
    eventually("the client ends", || child.try_wait().unwrap().is_some());
    child.wait_with_output().unwrap()
}

#[test]
fn a_get_that_is_interrupted_leaves_nothing() {
    let half = "4000000\nonly the beginning";
    let answers = Box::leak(Box::new([("stat", FILE), ("getfile", half)]));
    let server = Silent::start(answers);
    let tools = [
        ("chirp-client", &["get", "/f"][..]),
        ("chirp", &["get", "/f"][..]),
        ("chirp_get", &["/f"][..]),
    ];
    for (tool, words) in tools {
        for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
            let local = tempfile::tempdir().unwrap();
            let target = local.path().join("f");
            let child = command(&server.address, words)
                .arg0(tool)
                .arg(&target)
                .spawn()
                .unwrap();
            eventually("it is begun", || !names(local.path()).is_empty());
            let output = end(child, signal);
            assert_eq!(output.status.code(), Some(status), "{tool}: {output:?}");
            assert_eq!(names(local.path()), [""; 0], "{tool}");
        }
    }
}

#[test]
fn a_put_that_is_interrupted_leaves_the_old_file() {
    let server = Ours::start();
    fs::write(server.root().join("f"), "old").unwrap();
    give_away(&server.root().join("f"));
    let local = tempfile::tempdir().unwrap();
    let pipe = local.path().join("pipe");
    fs::write(&pipe, noise(64 << 20, 3)).unwrap();
    let child = command(&server.address(), &["put"])
        .arg(&pipe)
        .arg("/f")
        .spawn()
        .unwrap();
    let transient = || {
        let served = fs::read_dir(server.root()).unwrap();
        served.count() > 1
    };
    eventually("it is begun", || {
        transient() || fs::metadata(server.root().join("f")).unwrap().len() > 3
    });
    let output = end(child, Signal::INT);
    // On a fast machine it may have been done before the signal came.
    match output.status.code() {
        Some(130) => assert_eq!(fs::read(server.root().join("f")).unwrap(), b"old"),
        Some(0) => assert_eq!(
            fs::metadata(server.root().join("f")).unwrap().len(),
            64 << 20
        ),
        _ => panic!("{output:?}"),
    }
    eventually("nothing else is left", || !transient());
}

#[test]
fn a_put_to_another_server_that_is_interrupted_removes_what_it_began() {
    let server = Silent::start(&[
        ("stat ", "-3\n"),
        ("features", "-8\n"),
        ("statfs /f", "-3\n"),
        ("statfs /", "0\n61267 4096 1000 900 900 1000 1000\n"),
        ("getacl /", "0\naddress:127.0.0.1 rwlda\n\n"),
        // It takes the content and never says that it has it.
        ("putfile ", "0\n"),
        ("unlink ", "0\n"),
    ]);
    let local = tempfile::tempdir().unwrap();
    fs::write(local.path().join("f"), "content").unwrap();
    let child = command(&server.address, &["put"])
        .arg(local.path().join("f"))
        .arg("/f")
        .spawn()
        .unwrap();
    eventually("it is begun", || server.was_asked("putfile /.chirp-put."));
    let output = end(child, Signal::INT);
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    eventually("it is removed", || server.was_asked("unlink /.chirp-put."));
    assert!(!server.was_asked("rename"));
}

#[test]
fn what_may_not_be_written_is_named_and_a_read_only_file_is_replaced() {
    let server = Ours::start();
    fs::write(server.root().join("f"), "new").unwrap();
    give_away(&server.root().join("f"));
    let local = tempfile::tempdir().unwrap();
    give_away(local.path());
    let run = |words: &[&str], path: &Path, last: Option<&str>| {
        let mut command = command(&server.address(), words);
        command.arg(path).args(last);
        as_nobody(&mut command);
        command.output().unwrap()
    };
    let closed = local.path().join("closed");
    fs::create_dir(&closed).unwrap();
    give_away(&closed);
    fs::set_permissions(&closed, Permissions::from_mode(0o555)).unwrap();
    let output = run(&["get", "/f"], &closed, None);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stderr);
    assert!(
        said.contains("this machine") && said.contains("closed"),
        "{said}"
    );
    assert!(said.contains("denied"), "{said}");
    assert_eq!(names(&closed), [""; 0]);

    // As for every other program that renames, the directory's mode decides.
    let old = local.path().join("old");
    fs::write(&old, "old").unwrap();
    give_away(&old);
    fs::set_permissions(&old, Permissions::from_mode(0o444)).unwrap();
    let output = run(&["get", "/f"], &old, None);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read(&old).unwrap(), b"new");

    let there = server.root().join("there");
    fs::create_dir(&there).unwrap();
    fs::write(there.join(".__acl"), "address:127.0.0.1 rl\n").unwrap();
    give_away(&there.join(".__acl"));
    give_away(&there);
    let output = run(&["put"], &old, Some("/there/f"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stderr);
    assert!(
        said.contains(&server.address()) && said.contains("/there/f"),
        "{said}"
    );
    assert!(said.contains("permission denied"), "{said}");
    assert_eq!(names(&there), [""; 0]);
}

#[test]
fn a_silent_server_is_given_up_and_so_is_one_that_dies() {
    let server = Silent::start(&[("stat", FILE)]);
    let local = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_chirp-client"));
    let output = command
        .args(["-a", "address", "-t", "0.5", &server.address, "get", "/f"])
        .arg(local.path().join("f"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(text(&output.stderr).contains("getfile /f"), "{output:?}");
    assert_eq!(names(local.path()), [""; 0]);

    let mut server = Ours::start();
    let source = local.path().join("source");
    fs::create_dir(&source).unwrap();
    for file in 0..200 {
        fs::write(source.join(file.to_string()), noise(200_000, file)).unwrap();
    }
    let mut child = self::command(&server.address(), &["put"])
        .arg(&source)
        .arg("/t")
        .spawn()
        .unwrap();
    let begun = server.root().join("t");
    eventually("it is begun", || begun.exists());
    server.kill();
    eventually("the client ends", || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 3)), "{output:?}");
    if code == Some(3) {
        assert!(!output.stderr.is_empty());
    }
}

/// Runs the client where no file may grow beyond 100 KiB, as if the disk were full then.
fn on_a_full_disk(address: &str, arguments: &[&str], target: &Path) -> Output {
    let mut shell = Command::new("bash");
    shell
        .args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_chirp-client"))
        .args(["-a", "address", "-t", "20", address])
        .args(arguments)
        .arg(target)
        .stdin(Stdio::null());
    shell.output().unwrap()
}

#[test]
fn a_full_disk_is_named_leaves_nothing_half_and_the_rest_arrives() {
    let server = Ours::start();
    let served = server.root().join("d");
    fs::create_dir(&served).unwrap();
    for (name, length) in [("a", 5_000), ("b", 200_000), ("c", 5_000), ("e", 2_000_000)] {
        fs::write(served.join(name), noise(length, 1)).unwrap();
        give_away(&served.join(name));
    }
    give_away(&served);
    let local = tempfile::tempdir().unwrap();
    let target = local.path().join("d");
    let output = on_a_full_disk(&server.address(), &["get", "/d"], &target);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(names(&target), ["a", "c"]);
    let told = text(&output.stderr);
    for name in ["b", "e"] {
        let path = target.join(name);
        assert!(told.contains(path.to_str().unwrap()), "{told}");
    }
    assert!(told.contains("too large"), "{told}");
}

#[test]
fn names_like_options_and_strange_targets_are_what_they_are() {
    let server = Ours::start();
    let local = tempfile::tempdir().unwrap();
    fs::write(local.path().join("-n"), "dash").unwrap();
    let mut put = command(&server.address(), &["put", "--", "-n", "/--delete"]);
    let output = put.current_dir(local.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read(server.root().join("--delete")).unwrap(), b"dash");
    let get = |target: &Path| {
        let mut get = command(&server.address(), &["get", "--", "/--delete"]);
        get.arg(target).output().unwrap()
    };
    let directory = local.path().join("directory");
    fs::create_dir_all(directory.join("--delete")).unwrap();
    let output = get(&directory);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("irectory"), "{output:?}");
    let dangling = local.path().join("dangling");
    std::os::unix::fs::symlink(local.path().join("nothing"), &dangling).unwrap();
    let output = get(&dangling);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read(&dangling).unwrap(), b"dash");
    assert!(
        !local.path().join("nothing").exists(),
        "the link itself is replaced"
    );
    assert_eq!(names(local.path()), ["-n", "dangling", "directory"]);
}

#[test]
fn a_dry_run_prints_what_would_be_done_and_does_nothing() {
    let server = Ours::start();
    let local = tempfile::tempdir().unwrap();
    fs::write(local.path().join("f"), "12345").unwrap();
    let mut sync = command(&server.address(), &["sync", "--dry-run"]);
    let output = sync.arg(local.path()).arg("/there").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        text(&output.stdout),
        "mkdir /there\ncopy /there/f (5 bytes)\n"
    );
    assert!(!server.root().join("there").exists());
    let mut sync = command(&server.address(), &["sync"]);
    let output = sync.arg(local.path()).arg("/there").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read(server.root().join("there/f")).unwrap(), b"12345");
}
