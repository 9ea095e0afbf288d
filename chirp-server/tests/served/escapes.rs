//! What confined programs try against the server, other users and one another, through the real server.
//! What this kernel does not enforce is not claimed, and `features` says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::exec::{printed_pid, refused, run, sandbox, shell, start, status};
use crate::common::{Place, Server, eventually};

/// A place with a directory to work in and one where others work.
fn place() -> Place {
    let place = Place::new();
    for name in ["work", "other"] {
        place.directory(name, &format!("unix:{} rwldax\n", place.user));
    }
    place.write("other/file", "other");
    // Somebody else's, outside of the tree, that anybody on this machine may read and change.
    let foreign = place.base("foreign");
    fs::write(&foreign, "foreign").unwrap();
    fs::set_permissions(&foreign, fs::Permissions::from_mode(0o666)).unwrap();
    place.give_to(&foreign, 12345, 12345);
    place
}

/// A script to run in `/work`.
fn working(script: &str) -> Value {
    let mut request = shell(script);
    request["path"] = json!("/work");
    request
}

/// The version of Landlock's rules that is enforced here.
fn landlock(server: &Server<'_>) -> u64 {
    sandbox(server)["landlock"].as_u64().unwrap()
}

/// Runs each attempt by itself, and expects none to succeed or to show anything.
#[track_caller]
fn all_fail(server: &Server<'_>, attempts: &[String]) {
    let mut owner = server.owner();
    for attempt in attempts {
        let ended = run(&mut owner, &working(attempt));
        let errors = String::from_utf8_lossy(&ended.err);
        assert_ne!(ended.code(), 0, "{attempt} succeeded: {errors}");
        assert_eq!(
            String::from_utf8_lossy(&ended.out),
            "",
            "{attempt}: {errors}"
        );
        assert!(!errors.contains("not found"), "{attempt}: {errors}");
    }
}

#[test]
fn files_outside_are_neither_read_nor_changed() {
    let place = place();
    let server = place.serve(&["--exec"]);
    if landlock(&server) == 0 {
        assert!(server.log().contains("gaps"), "the log says so");
        return;
    }
    let base = place.base("").display().to_string();
    let attempts = [
        "cat /etc/shadow",
        "cat {}/foreign",
        "echo x >>{}/foreign",
        "echo x >{}/new",
        "ln {}/foreign hard && cat hard",
        "ln -s {}/foreign soft && cat soft",
        "mv {}/foreign .",
        "rm {}/foreign",
        "ls {}",
        "ls {}/transient",
        "ls {}/transient/exec",
        "cat {}/transient/exec/*",
        "echo x >{}/transient/new",
        "mkdir {}/transient/exec/99.tmp",
        "head -c 1000 /dev/zero >{}/transient/exec/$$",
        "ls $TMPDIR/..",
        "echo x >$TMPDIR/../x",
        "ls {}/challenge",
        "echo x >/tmp/chirp-escape",
        "echo x >/var/tmp/chirp-escape",
        "echo x >/dev/shm/chirp-escape",
        "echo x >/etc/chirp-escape",
        "echo x >{}/root/other/file",
        "echo x >{}/root/other/new",
        "truncate -s 0 {}/root/other/file",
        "rm -r {}/root/other",
        "mv {}/root/other/file mine",
        "ln {}/root/other/file mine && echo x >mine",
        "echo x >../other/new",
        "cd ../other && echo x >new",
    ]
    .map(|attempt| attempt.replace("{}", base.trim_end_matches('/')));
    all_fail(&server, &attempts);
    assert_eq!(fs::read(place.base("foreign")).unwrap(), b"foreign");
    assert_eq!(fs::read(place.host("other/file")).unwrap(), b"other");
    assert!(!place.host("other/new").exists());
    assert!(!place.base("new").exists());
    assert!(!place.base("transient").join("new").exists());
    // What it may do it can do: the rest is not refused for want of a shell.
    let mut owner = server.owner();
    let script = "echo own >own && cat own && echo t >$TMPDIR/t && cat $TMPDIR/t ../other/file";
    assert_eq!(run(&mut owner, &working(script)).out, b"own\nt\nother");
}

#[test]
fn the_server_is_neither_looked_into_nor_signalled_nor_limited() {
    let place = place();
    let server = place.serve(&["--exec"]);
    let landlock = landlock(&server);
    let files_before = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let mut attempts = vec![
        "cat /proc/{}/root/{b}/foreign",
        "ls /proc/{}/root/",
        "ls /proc/{}/cwd/",
        "ls -l /proc/{}/fd | grep socket",
        "cat /proc/{}/environ",
        "cat /proc/{}/maps",
        // Opened under the same rule as ptrace.
        "head -c 1 /proc/{}/mem",
        "exec 3<>/proc/{}/mem",
        "echo 1000 >/proc/{}/oom_score_adj",
        // A server without descriptors or time would serve nobody.
        "prlimit --pid {} --nofile=3:3",
        "prlimit --pid {} --cpu=1:1",
        "prlimit --pid {} --core=unlimited:unlimited",
    ];
    if landlock >= 6 {
        attempts.extend([
            "kill -0 {}",
            "kill -TERM {}",
            "kill -KILL {}",
            "kill -STOP {}",
            "kill -KILL -{}",
        ]);
    }
    if landlock == 0 {
        assert!(server.log().contains("gaps"), "the log says so");
        return;
    }
    let (pid, base) = (server.pid().to_string(), place.base(""));
    let base = base.display().to_string();
    let attempts: Vec<String> = attempts
        .iter()
        .map(|attempt| attempt.replace("{}", &pid).replace("{b}", &base))
        .collect();
    all_fail(&server, &attempts);
    let files = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    assert_eq!(files, files_before);
    // It serves as before.
    let mut owner = server.owner();
    assert_eq!(run(&mut owner, &shell("exit 4")).code(), 4);
    // Its own limits a program may lower, and those of its children.
    let own = "prlimit --nofile=50:50 sh -c 'ulimit -n'; ulimit -n 40; ulimit -n";
    assert_eq!(run(&mut owner, &working(own)).out, b"50\n40\n");
}

#[test]
fn programs_do_not_reach_one_another() {
    let place = place();
    let server = place.serve(&["--exec"]);
    let landlock = landlock(&server);
    if landlock == 0 {
        assert!(server.log().contains("gaps"), "the log says so");
        return;
    }
    let mut victim = server.owner();
    let mut request = shell("echo secret >$TMPDIR/secret; echo $$; exec sleep 1000");
    request["path"] = json!("/other");
    request["env"] = json!({"PASSWORD": "hidden"});
    let id = start(&mut victim, &request);
    printed_pid(&mut victim);
    let pid = status(&mut server.owner(), id)["pid"].as_i64().unwrap();
    let temporary = place.base("transient").join(format!("exec/{id}.tmp"));
    assert!(temporary.join("secret").exists(), "the test looks there");
    let mut attempts = vec![
        format!("cat {}/secret", temporary.display()),
        format!("echo x >{}/secret", temporary.display()),
        format!("cat /proc/{pid}/environ"),
        format!("readlink /proc/{pid}/fd/1"),
        format!("cat /proc/{pid}/fd/0"),
        format!("readlink /proc/{pid}/cwd"),
        format!("head -c 1 /proc/{pid}/mem"),
        format!("prlimit --pid {pid} --cpu=1:1"),
    ];
    if landlock >= 6 {
        attempts.push(format!("kill -KILL {pid}"));
        attempts.push(format!("kill -KILL -{pid}"));
    }
    all_fail(&server, &attempts);
    assert_eq!(fs::read(temporary.join("secret")).unwrap(), b"secret\n");
    victim.send("signal 10\n");
    let ended = super::exec::finish(&mut victim);
    assert_eq!(ended.code(), -10, "it ran until here");
    eventually("its directory went with it", || !temporary.exists());
}

#[test]
fn links_and_pipes_planted_in_the_tree_lead_the_server_nowhere() {
    let place = place();
    let server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    let base = place.base("").display().to_string();
    let base = base.trim_end_matches('/');
    let script = format!(
        "ln -s {base}/foreign absolute; ln -s ../../foreign up; ln -s ../../../../../../etc/passwd far
         ln -s /proc/self/root/etc/passwd proc; ln -s {base} dir; ln -s .. parent
         ln -s loop loop; mkfifo pipe; ln -s pipe topipe; echo own >own; chmod 777 ."
    );
    assert_eq!(run(&mut owner, &working(&script)).code(), 0);
    for name in ["absolute", "up", "far", "proc", "loop", "dir/foreign"] {
        let path = format!("/work/{name}");
        for verb in [
            "getfile {}",
            "stat {}",
            "open {} r 0",
            "open {} w 0",
            "md5 {}",
            "sha256 {}",
            "truncate {} 0",
            "chmod {} 511",
            "access {} 4",
        ] {
            let answer = owner.answer(format!("{}\n", verb.replace("{}", &path)));
            assert!(
                answer.starts_with(b"-"),
                "{verb} {path}: {}",
                answer.escape_ascii()
            );
        }
        for request in [
            json!({"cmd": "cat", "stdin": {"file": &path}}),
            json!({"cmd": "true", "path": &path}),
            json!({"cmd": "./own", "path": &path}),
        ] {
            let said = refused(&mut owner, &request);
            assert!(said.starts_with('-'), "{request}: {said}");
        }
    }
    // Through a link that leads to nothing a file is made inside the tree, if at all.
    for name in ["absolute", "up", "far", "proc"] {
        let to_file = json!({"cmd": "echo", "stdout": {"file": format!("/work/{name}")}});
        let body = to_file.to_string();
        owner.send(format!("exec {}\n{body}", body.len()));
        if !owner.line().starts_with('-') {
            super::exec::finish(&mut owner);
        }
        owner.putfile(&format!("/work/{name}"), "x");
    }
    assert_eq!(fs::read(place.base("foreign")).unwrap(), b"foreign");
    // `..` of a planted link is the tree's.
    assert_eq!(
        owner.getfile("/work/parent/other/file"),
        Ok(b"other".to_vec())
    );
    // A pipe holds nobody up, neither at once nor later.
    for name in ["pipe", "topipe"] {
        for verb in ["getfile {}", "open {} r 0", "open {} w 0", "md5 {}"] {
            let answer = owner.answer(format!(
                "{} \n",
                verb.replace("{}", &format!("/work/{name}"))
            ));
            assert!(
                answer.starts_with(b"-"),
                "{verb}: {}",
                answer.escape_ascii()
            );
        }
        for request in [
            json!({"cmd": "cat", "stdin": {"file": format!("/work/{name}")}}),
            json!({"cmd": "echo", "stdout": {"file": format!("/work/{name}")}}),
        ] {
            let said = refused(&mut owner, &request);
            assert!(said.starts_with('-'), "{request}: {said}");
        }
    }
}

#[test]
fn what_fills_its_own_directories_takes_no_room_for_long() {
    let place = place();
    let server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    // More files and bytes than any bookkeeping of one execution.
    let mut request = working(
        "i=0; while [ $i -lt 2000 ]; do : >$TMPDIR/$i; i=$((i+1)); done
         mkdir -p $TMPDIR/a/b/c && head -c 5000000 /dev/zero >$TMPDIR/a/b/c/big
         chmod 0 $TMPDIR/a/b; chmod 0 $TMPDIR; echo filled",
    );
    request["limits"] = json!({"file_bytes": 6_000_000});
    let ended = run(&mut owner, &request);
    assert_eq!(String::from_utf8_lossy(&ended.out), "filled\n");
    let id = ended.status["id"].as_u64().unwrap();
    let temporary = place.base("transient").join(format!("exec/{id}.tmp"));
    assert!(!temporary.exists(), "it is gone before the end is told");
}
