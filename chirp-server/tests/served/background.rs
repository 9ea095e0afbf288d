//! In the background (`-b`, `-B`), and what a server keeps of the process that started it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal};

use crate::common::{PATIENCE, Peer, Place, Server, eventually};
use crate::exec::outside;

/// A server in the background, known by its process id file and ended when the test is over.
struct Daemon(PathBuf);

impl Daemon {
    /// Returns the process id, once the server has started.
    fn pid(&self) -> Pid {
        self.find().expect("a process id file")
    }

    fn find(&self) -> Option<Pid> {
        let text = fs::read_to_string(&self.0).ok()?;
        Pid::from_raw(text.trim_end().parse().ok()?)
    }

    fn proc(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.pid().as_raw_nonzero())
    }

    fn has_ended(&self) -> bool {
        gone(self.pid().as_raw_nonzero().get().into())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = self.find() {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// Runs a command to its end, which comes when nobody holds its output any more.
#[track_caller]
fn run(command: &mut Command) -> Output {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let output = receiver.recv_timeout(PATIENCE);
    output
        .expect("the command ends and lets go of its output")
        .unwrap()
}

fn port(place: &Place) -> u16 {
    let text = fs::read_to_string(place.base("port")).unwrap();
    text.trim_end().parse().unwrap()
}

#[test]
fn the_command_ends_when_the_server_listens() {
    let place = Place::new();
    let pid_file = place.base("pid");
    fs::write(&pid_file, "99999999 from a server before").unwrap();
    let daemon = Daemon(pid_file.clone());
    let mut command = Server::command(&place);
    command
        .arg("-b")
        .arg("-B")
        .arg(&pid_file)
        .arg("-o")
        .arg(place.base("log"));
    // Its output is a pipe here: that it ends shows that the server let go of it.
    let output = run(&mut command);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        (&output.stdout[..], &output.stderr[..]),
        (&b""[..], &b""[..])
    );
    let text = fs::read_to_string(&pid_file).unwrap();
    assert_eq!(
        text,
        daemon.pid().as_raw_nonzero().to_string(),
        "without an LF"
    );
    let mut peer = Peer::try_connect(port(&place), 1).unwrap();
    peer.login_address();
    for number in 0..3 {
        let target = fs::read_link(daemon.proc(&format!("fd/{number}"))).unwrap();
        assert_eq!(target, Path::new("/dev/null"), "{number}");
    }
    assert_eq!(fs::read_link(daemon.proc("cwd")).unwrap(), Path::new("/"));
    assert_eq!(
        fs::read_to_string(daemon.proc("comm")).unwrap(),
        "chirp-server\n"
    );
    // Its own, that is; the test's may be led from outside its PID namespace, and then has no id at all.
    let session = rustix::process::getsid(Some(daemon.pid())).unwrap();
    assert_eq!(session, daemon.pid());
    rustix::process::kill_process(daemon.pid(), Signal::TERM).unwrap();
    peer.read_end();
    eventually("the log tells the end", || {
        fs::read_to_string(place.base("log"))
            .unwrap()
            .contains("stopped")
    });
    assert_eq!(
        fs::read_to_string(&pid_file).unwrap(),
        text,
        "as the reference"
    );
}

#[test]
fn why_it_does_not_start_is_told_and_so_is_the_status() {
    let place = Place::new();
    let pid_file = place.base("pid");
    let mut command = Server::command(&place);
    command
        .args(["-b", "-A", "/nonexistent/acl"])
        .arg("-B")
        .arg(&pid_file);
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/nonexistent/acl"), "{said}");
    assert!(!pid_file.exists(), "no server, no process id");
    let mut command = Server::command(&place);
    command.args(["-b", "-B", "/nonexistent/pid"]);
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("/nonexistent/pid") && said.contains("-B"),
        "{said}"
    );
    assert!(!place.base("port").exists(), "nothing was started");
}

#[test]
fn a_log_that_nobody_would_read_is_refused() {
    let place = Place::new();
    let mut command = Server::command(&place);
    let output = run(command.args(["-b", "-o", ":stdout"]));
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("-o :stdout") && said.contains("-b"), "{said}");
    assert!(!place.base("port").exists(), "nothing was started");
}

#[test]
fn without_background_there_is_no_process_id_file() {
    let place = Place::new();
    let pid_file = place.base("pid");
    let _server = place.serve(&["-B", pid_file.to_str().unwrap()]);
    assert!(!pid_file.exists());
}

#[test]
fn no_program_outlives_the_server() {
    let place = Place::new();
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let pid_file = place.base("pid");
        let _ = fs::remove_file(place.base("port"));
        let daemon = Daemon(pid_file.clone());
        let mut command = Server::command(&place);
        command
            .args(["-b", "--exec", "--drain", "1", "-B"])
            .arg(&pid_file);
        let output = run(&mut command);
        assert!(output.status.success(), "{output:?}");
        let mut peer = Peer::try_connect(port(&place), 1).unwrap();
        peer.login_unix();
        // One in the program's group, and one that neither is in it nor heeds a polite request.
        let script =
            "sleep 1000 & echo $!; setsid sh -c 'trap \"\" TERM HUP; echo $$; sleep 1000'; true";
        let request = format!(
            r#"{{"cmd":"sh","args":["-c",{}]}}"#,
            serde_json::json!(script)
        );
        peer.send(format!("exec {}\n{request}", request.len()));
        let id: u64 = peer.line().parse().unwrap();
        assert!(id > 0);
        let mut programs = Vec::new();
        while programs.len() < 2 {
            let number = peer.line().parse().ok().filter(|&pid| pid > 1);
            let server = daemon.pid().as_raw_nonzero().get().unsigned_abs();
            programs.extend(number.map(|pid| outside(server, pid)));
        }
        rustix::process::kill_process(daemon.pid(), signal).unwrap();
        eventually("the server ends", || daemon.has_ended());
        for program in programs {
            eventually("the program ends", || gone(program));
        }
    }
}

/// Reports whether a process has ended. It may stay as a zombie of a process that reaps no others.
fn gone(pid: i64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn with_parent_death_the_server_ends_with_whoever_started_it() {
    let place = Place::new();
    let server = Server::command(&place);
    let pid_file = place.base("pid");
    // A shell that starts the server in the background, tells its process id, and waits.
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            r#"pid=$1; shift; "$@" & echo $! > "$pid"; read line"#,
            "sh",
        ])
        .arg(&pid_file)
        .arg(server.get_program())
        .args(server.get_args())
        .arg("-E")
        .stdin(Stdio::piped())
        .stderr(fs::File::create(place.base("log")).unwrap())
        .process_group(0);
    let mut shell: Child = shell.spawn().unwrap();
    eventually("the server listens", || place.base("port").exists());
    let daemon = Daemon(pid_file);
    let mut peer = Peer::try_connect(port(&place), 1).unwrap();
    peer.login_address();
    shell.kill().unwrap();
    shell.wait().unwrap();
    peer.read_end();
    eventually("the server ends", || daemon.has_ended());
    let log = fs::read_to_string(place.base("log")).unwrap();
    assert!(log.contains("-E"), "{log}");
}

#[test]
fn under_the_reference_s_name_it_ends_as_that_does() {
    let place = Place::new();
    let program = place.base("chirp_server");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_chirp-server"), &program).unwrap();
    let said = |args: &[&str]| {
        let output = run(Command::new(&program).args(args));
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), text)
    };
    let (status, [help, _]) = said(&["-h"]);
    assert_eq!(status, Some(1));
    assert!(help.contains("Usage: chirp_server [OPTIONS]"), "{help}");
    let (status, [version, _]) = said(&["-v"]);
    assert_eq!(status, Some(1));
    assert!(version.starts_with("chirp_server version "), "{version}");
    let (status, _) = said(&["--no-such-option"]);
    assert_eq!(status, Some(1));
    let mut command = Command::new(&program);
    command.args(Server::command(&place).get_args());
    let output = run(command.args(["-A", "/nonexistent/acl"]));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(143));
    assert!(
        error.contains("fatal: ") && error.contains("/nonexistent/acl"),
        "{error}"
    );
}
