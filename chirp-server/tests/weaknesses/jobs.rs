//! Weaknesses of jobs, and of programs that are run for others.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal};

use crate::common::{Peer, Place, Server, eventually};
use crate::reference::Reference;

/// Creates a job; returns its id, or why not.
#[track_caller]
fn create(peer: &mut Peer, json: &str) -> i64 {
    peer.number(format!("job_create {}\n{json}", json.len()))
}

/// A verb that names one job.
#[track_caller]
fn of_job(peer: &mut Peer, verb: &str, id: i64) -> i64 {
    let ids = format!("[{id}]");
    peer.number(format!("{verb} {}\n{ids}", ids.len()))
}

/// The description of a job that runs shell commands.
fn shell(script: &str, files: &str) -> String {
    format!(
        r#"{{"executable":"/bin/sh","arguments":["sh","-c","{script}"],"environment":{{}},"files":[{files}]}}"#
    )
}

/// Waits for the end of a job; returns its status.
#[track_caller]
fn ended(peer: &mut Peer, id: i64) -> String {
    let mut status = String::new();
    eventually("the job ends", || {
        peer.send(format!("job_wait {id} 1\n"));
        status = String::from_utf8(peer.counted().unwrap()).unwrap();
        status != "[]"
    });
    status
}

/// A place where `address:127.0.0.2` holds these rights and the owner all.
fn place_for(rights: &str) -> Place {
    let place = Place::new();
    let guest = match rights {
        "" => String::new(),
        rights => format!("address:127.0.0.2 {rights}\n"),
    };
    place.write(".__acl", format!("unix:{} rwldax\n{guest}", place.user));
    place
}

/// The directories of running jobs.
fn sandboxes(place: &Place) -> Vec<PathBuf> {
    let debris = place.debris();
    debris
        .into_iter()
        .filter(|path| path.to_str().unwrap().contains(".__job."))
        .collect()
}

#[test]
fn w06_a_job_needs_the_right_to_execute() {
    let run = |server: &Server<'_>, target: &Path| {
        let mut guest = server.guest(2);
        guest.expect("getdir /\n", "-2\n");
        let id = create(
            &mut guest,
            &shell(&format!("id > {}", target.display()), ""),
        );
        if id > 0 {
            assert_eq!(of_job(&mut guest, "job_commit", id), 0);
            ended(&mut guest, id);
        }
        id
    };
    {
        let place = place_for("");
        let target = place.base("transient/proof");
        let theirs = Reference::serve(&place, &["--jobs"]);
        assert!(run(&theirs, &target) > 0);
        assert!(fs::read_to_string(target).unwrap().contains("uid="));
    }
    for rights in ["", "wp", "v(rwldax)"] {
        let place = place_for(rights);
        let target = place.base("transient/proof");
        let ours = place.serve(&["--jobs"]);
        assert_eq!(run(&ours, &target), -2, "{rights}");
        assert!(!target.exists());
    }
    // The right counts when the job is run, too.
    let place = place_for("rwlx");
    let ours = place.serve(&["--jobs"]);
    let mut guest = ours.guest(2);
    let target = place.base("transient/proof");
    let id = create(
        &mut guest,
        &shell(&format!("id > {}", target.display()), ""),
    );
    assert!(id > 0, "{id}");
    ours.owner()
        .expect("setacl / address:127.0.0.2 rwl\n", "0\n");
    assert_eq!(of_job(&mut guest, "job_commit", id), 0);
    let status = ended(&mut guest, id);
    assert!(status.contains("\"ERRORED\""), "{status}");
    assert!(!target.exists());
    // Without the option there are none, whoever asks.
    drop(ours);
    let ours = place.serve(&[]);
    assert_eq!(create(&mut ours.owner(), &shell("true", "")), -8);
}

#[test]
fn w06_a_task_path_leads_nowhere_but_into_the_sandbox() {
    let place = place_for("rwlx");
    place.write("f", "content");
    place.directory("priv", &format!("unix:{} rwlda\n", place.user));
    place.write("priv/secret", "private");
    place.link("/priv/secret", "link");
    place.link("link", "linked");
    let ours = place.serve(&["--jobs"]);
    let mut guest = ours.guest(2);
    let file = |kind: &str, server: &str, task: &str, binding: &str| {
        format!(
            r#"{{"type":"{kind}","serv_path":"{server}","task_path":"{task}","binding":"{binding}"}}"#
        )
    };
    for task in [
        "../escaped",
        "../../escaped",
        "a/../../escaped",
        "/escaped",
        "..",
        "",
        ".",
        "a/..",
        ".__acl",
        "a/.__acl",
        "./..",
    ] {
        for binding in ["COPY", "LINK"] {
            for kind in ["INPUT", "OUTPUT"] {
                let id = create(&mut guest, &shell("true", &file(kind, "/f", task, binding)));
                assert!(id < 0, "{kind} {task} by {binding}: {id}");
            }
        }
    }
    // Nothing comes in or goes out past the rights, by whatever links.
    for server in [
        "/priv/secret",
        "/link",
        "/linked",
        "/.__acl",
        "/priv/.__acl",
        "/../f/../priv/secret",
        "/.__ticket.x",
    ] {
        for binding in ["COPY", "LINK"] {
            for kind in ["INPUT", "OUTPUT"] {
                let id = create(
                    &mut guest,
                    &shell("true", &file(kind, server, "t", binding)),
                );
                assert_eq!(id, -2, "{kind} {server} by {binding}");
            }
        }
    }
    // What the program leaves in place of an output is no way to another file.
    let outside = place.base("transient/outside");
    fs::write(&outside, "outside").unwrap();
    place.give(&outside);
    let script = format!(
        "ln -s {} out; ln -s {} dir",
        outside.display(),
        place.base("transient").display()
    );
    for (task, binding) in [
        ("out", "COPY"),
        ("out", "LINK"),
        ("dir/outside", "COPY"),
        ("dir/outside", "LINK"),
    ] {
        let script = if task == "out" {
            script.clone()
        } else {
            script.replace("; ln", "; rmdir dir; ln")
        };
        let id = create(
            &mut guest,
            &shell(&script, &file("OUTPUT", "/made", task, binding)),
        );
        assert!(id > 0, "{id}");
        assert_eq!(of_job(&mut guest, "job_commit", id), 0);
        let status = ended(&mut guest, id);
        assert!(
            status.contains("\"ERRORED\""),
            "{task} by {binding}: {status}"
        );
        guest.expect("stat /made\n", "-3\n");
    }
    // A target that becomes a link to a private file while the program runs stays what it was.
    let id = create(
        &mut guest,
        &shell(
            "i=0; until test -e go; do i=$((i+1)); test $i -lt 2500 || exit 9; sleep 0.02; done; echo new > out",
            &format!(
                "{},{}",
                file("OUTPUT", "/made", "out", "COPY"),
                file("INPUT", "/f", "in", "COPY")
            ),
        ),
    );
    assert_eq!(of_job(&mut guest, "job_commit", id), 0);
    eventually("it runs", || !sandboxes(&place).is_empty());
    place.link("/priv/secret", "made");
    let go = sandboxes(&place)[0].join("go");
    fs::write(go, "").unwrap();
    let status = ended(&mut guest, id);
    assert!(status.contains("\"ERRORED\""), "{status}");
    assert_eq!(fs::read(place.host("priv/secret")).unwrap(), b"private");
    assert_eq!(fs::read(outside).unwrap(), b"outside");
    eventually("no sandbox is left", || sandboxes(&place).is_empty());
}

#[test]
fn w15_a_binding_by_url_is_refused_clearly_and_keeps_no_other_job() {
    let place = place_for("rwldx");
    let ours = place.serve(&["--jobs"]);
    let mut guest = ours.guest(2);
    let mut refused = Vec::new();
    for url in [
        "http://127.0.0.1:9/x",
        "https://x/",
        "chirp://127.0.0.1:9/f",
        "file:///etc/passwd",
        "",
        "x",
    ] {
        let file =
            format!(r#"{{"type":"INPUT","serv_path":"{url}","task_path":"t","binding":"URL"}}"#);
        let id = create(&mut guest, &shell("true", &file));
        if id > 0 {
            assert_eq!(of_job(&mut guest, "job_commit", id), 0);
            refused.push(id);
        }
    }
    // One at a time, so this one comes after them.
    let last = create(&mut guest, &shell("exit 7", ""));
    assert_eq!(of_job(&mut guest, "job_commit", last), 0);
    let status = ended(&mut guest, last);
    assert!(status.contains("\"exit_code\":7"), "{status}");
    for id in refused {
        let status = ended(&mut guest, id);
        assert!(
            status.contains("\"ERRORED\"") && status.contains("URL"),
            "{status}"
        );
    }
}

#[test]
fn w29_waiting_for_jobs_is_per_user() {
    let place = place_for("rwldx");
    let list = format!("unix:{} rwldax\naddress:* rwldx\n", place.user);
    place.write(".__acl", list);
    let attack = |server: &Server<'_>| {
        let mut peers = [server.guest(2), server.guest(3)];
        let ids = [0, 1].map(|at| {
            let id = create(&mut peers[at], &shell("true", ""));
            assert_eq!(of_job(&mut peers[at], "job_commit", id), 0);
            id
        });
        for (peer, id) in peers.iter_mut().zip(ids) {
            ended(peer, id);
        }
        let [one, _] = &mut peers;
        one.send("job_wait 0 5\n");
        let answer = one
            .counted()
            .map(|status| String::from_utf8(status).unwrap());
        (answer, ids)
    };
    let (answer, _) = attack(&Reference::serve(
        &place,
        &["--jobs", "--job-concurrency=2"],
    ));
    assert_eq!(answer, Err(-2));
    let other = place_for("rwldx");
    other.write(
        ".__acl",
        format!("unix:{} rwldax\naddress:* rwldx\n", other.user),
    );
    let ours = other.serve(&["--jobs", "--job-concurrency=2"]);
    let (answer, [mine, foreign]) = attack(&ours);
    let answer = answer.unwrap();
    assert!(
        answer.contains(&format!("\"id\":{mine},"))
            && !answer.contains(&format!("\"id\":{foreign},")),
        "{answer}"
    );
    let mut guest = ours.guest(2);
    for verb in ["job_kill", "job_reap", "job_commit", "job_status"] {
        let answer = of_job(&mut guest, verb, foreign);
        assert_eq!(answer, -2, "{verb}");
    }
    guest.expect(format!("job_wait {foreign} 0\n"), "-2\n");
}

#[test]
fn w29_a_job_s_time_is_limited() {
    let place = place_for("rwldx");
    let ours = place.serve(&["--jobs", "--job-time-limit", "1"]);
    let mut guest = ours.guest(2);
    // Not even one that ignores signals and has children goes on.
    let script = "trap : TERM QUIT HUP INT; (trap : TERM QUIT; sleep 600; true)& echo $! > /proc/self/cwd/child; sleep 600; sleep 600";
    let file = r#"{"type":"OUTPUT","serv_path":"/child","task_path":"child"}"#;
    let id = create(&mut guest, &shell(script, file));
    assert_eq!(of_job(&mut guest, "job_commit", id), 0);
    let status = ended(&mut guest, id);
    assert!(
        status.contains("SIGNALED") || status.contains("ERRORED") || status.contains("KILLED"),
        "{status}"
    );
    eventually("no sandbox is left", || sandboxes(&place).is_empty());
    if let Ok(child) = guest.getfile("/child") {
        let child: i32 = String::from_utf8(child).unwrap().trim().parse().unwrap();
        eventually("its child has ended", || !is_running(child));
    }
}

/// Reports whether a process is there and has not ended.
fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

#[test]
fn w29_no_program_and_no_sandbox_outlives_the_server() {
    for signal in [Signal::TERM, Signal::KILL] {
        let place = place_for("rwldx");
        let mut ours = place.serve(&["--jobs", "--drain", "1"]);
        let mut guest = ours.guest(2);
        let pids = place.base("transient/pids");
        let script = format!(
            "echo $$ >> {0}; (sleep 600; true)& echo $! >> {0}; setsid sleep 600 & wait",
            pids.display()
        );
        let id = create(&mut guest, &shell(&script, ""));
        assert_eq!(of_job(&mut guest, "job_commit", id), 0);
        eventually("it runs", || {
            fs::read_to_string(&pids).is_ok_and(|text| text.lines().count() == 2)
        });
        let waiting = create(&mut guest, &shell("exit 5", ""));
        assert_eq!(of_job(&mut guest, "job_commit", waiting), 0);
        ours.signal(signal);
        ours.wait();
        drop(ours);
        let ours = place.serve(&["--jobs"]);
        let running = fs::read_to_string(&pids).unwrap();
        for pid in running.lines().map(|line| line.parse::<i32>().unwrap()) {
            eventually("its processes have ended", || !is_running(pid));
            assert!(Pid::from_raw(pid).is_some());
        }
        // It is told what became of it; one that waited runs now, and ids go on.
        let mut guest = ours.guest(2);
        let status = ended(&mut guest, id);
        assert!(status.contains("\"ERRORED\""), "{signal:?}: {status}");
        let status = ended(&mut guest, waiting);
        assert!(status.contains("\"exit_code\":5"), "{signal:?}: {status}");
        assert!(create(&mut guest, &shell("true", "")) > waiting);
        eventually("no sandbox is left", || sandboxes(&place).is_empty());
    }
}
