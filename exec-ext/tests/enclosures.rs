//! Programs in namespaces of their own: what they see, that nothing outlives them, and that their ends
//! are told as they were. Where the system has no such namespaces for this account it has to say so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chirp_proto::Code;
use exec_ext::request::{ExecRequest, OutputTo};
use exec_ext::runner::{Confinement, ExecutionsConfig, Reach};
use exec_ext::status::EndedBy;
use support::{World, prepared, runs, serve, sh, until, with_stdin, within};

/// A world whose programs have namespaces, or None where there are none.
fn enclosed_with(change: impl FnOnce(&mut ExecutionsConfig)) -> Option<World> {
    let read = ["/bin", "/etc", "/lib", "/lib64", "/proc", "/usr"];
    let mut confinement = Confinement::new(Reach {
        read: read.map(PathBuf::from).into(),
        write: vec!["/dev/null".into()],
        network: true,
    });
    if let Err(error) = confinement.enclose() {
        assert!(!confinement.namespaces() && !confinement.limits_processes());
        // What the tools of the system say of it.
        let args = ["-U", "-r", "-p", "-m", "-f", "--mount-proc", "true"];
        let tool = std::process::Command::new("unshare").args(args).output();
        assert!(!tool.unwrap().status.success(), "{error}");
        return None;
    }
    assert!(confinement.namespaces());
    Some(World::with(|config| {
        config.confinement = Some(Arc::new(confinement));
        change(config);
    }))
}

fn enclosed() -> Option<World> {
    enclosed_with(|_| {})
}

/// The processes of this test's process, as its own children list says.
fn children() -> Vec<i32> {
    let mut all = Vec::new();
    for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(
            list.split_whitespace()
                .map(|pid| pid.parse::<i32>().unwrap()),
        );
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_sees_its_own_processes_only_and_is_who_it_was() {
    let Some(world) = enclosed() else { return };
    let outcome = world
        .sh("id -u; id -g; echo *; ls -d /proc/[0-9]* | wc -l; test -d /proc/$$ && pwd; \
             grep -c . /proc/self/uid_map; touch mine && stat -c %u mine; readlink /proc/self/ns/pid; \
             grep Cap /proc/self/status | grep -vc 0000000000000000; cat /proc/1/environ | wc -c; \
             cat /proc/1/maps | wc -l")
        .await;
    let text = String::from_utf8(outcome.out).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let user = rustix::process::getuid().as_raw().to_string();
    assert_eq!(lines[0], user, "{text}");
    assert_eq!(lines[1], rustix::process::getgid().as_raw().to_string());
    // The first process, the shell, and what counts them.
    let seen: u32 = lines[3].parse().unwrap();
    assert!((3..=4).contains(&seen), "{text}");
    let work = world.work().canonicalize().unwrap();
    assert_eq!(lines[4], work.to_str().unwrap());
    assert_eq!((lines[5], lines[6]), ("1", user.as_str()));
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    assert_ne!(lines[7], own.to_str().unwrap());
    // Only the bounding set, which gives nothing.
    assert!(lines[8].parse::<u32>().unwrap() <= 1, "{text}");
    // Of the server's memory nothing that could be changed is left in the first process but its stack.
    assert_eq!(lines[9], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_is_told_as_it_was() {
    let Some(world) = enclosed() else { return };
    for code in [0, 1, 77, 126, 127, 255] {
        assert_eq!(world.sh(&format!("exit {code}")).await.code(), (true, code));
    }
    for signal in
        (1..=64).filter(|signal| ![17, 18, 19, 20, 21, 22, 23, 28, 32, 33].contains(signal))
    {
        let outcome = world.sh(&format!("kill -{signal} $$; sleep 60")).await;
        assert_eq!(outcome.code(), (false, signal));
        assert!(outcome.results().survivors.is_empty());
    }
    // The resources are those of the program and of what it waited for.
    let spun = world
        .sh("sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; exit 0")
        .await;
    assert!(spun.results().resources.ru_utime > 0.01);
    assert!(spun.results().resources.ru_maxrss > 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_is_an_error_and_leaves_nothing() {
    let Some(world) = enclosed() else { return };
    fs::write(world.work().join("text"), "no program").unwrap();
    let before = children().len();
    for (cmd, code) in [
        ("/none", Code::DoesntExist),
        ("./text", Code::NotAuthorized),
        ("/etc", Code::NotAuthorized),
    ] {
        let error = world.start(&ExecRequest::new(cmd)).await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
    }
    // At most the spare enclosures are left.
    until("the failed ones are reaped", || {
        children().len() <= before + 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_its_program_whatever_it_does() {
    let Some(world) = enclosed_with(|config| {
        config.descendants_grace = Duration::from_millis(50);
        // What holds the pipes is killed, however long a loaded machine takes for that.
        config.pipe_grace = Duration::from_secs(30);
    }) else {
        return;
    };
    // Daemons: double forks in sessions of their own, deaf to TERM, with a cleared environment, that keep
    // their parent's pipes and start others for ever.
    let outcome = world
        .sh("daemon() { setsid env -i /bin/sh -c 'trap \"\" TERM HUP INT; : >up.$1; while :; do sleep 0.2; done' x $1 & }
             (daemon 1 &); (setsid setsid sh -c '(trap \"\" TERM; : >up.2; sleep 1000) & exit' &)
             daemon 3; until test -e up.1 -a -e up.2 -a -e up.3; do sleep 0.05; done; readlink /proc/self/ns/pid")
        .await;
    assert_eq!(outcome.code(), (true, 0));
    assert!(outcome.results().survivors.is_empty());
    assert_eq!(outcome.results().ended_by, EndedBy::Exit);
    let namespace = String::from_utf8(outcome.out).unwrap();
    let inside = |entry: &fs::DirEntry| {
        let link = fs::read_link(entry.path().join("ns/pid"));
        link.is_ok_and(|link| link.to_str() == Some(namespace.trim_end()))
    };
    let left = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(inside)
        .count();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ignores_term_is_killed_with_all_it_started() {
    let Some(world) = enclosed_with(|config| config.term_grace = Duration::from_millis(200)) else {
        return;
    };
    let mut deaf =
        sh("trap '' TERM; (trap '' TERM; sleep 1000) & echo up; while :; do sleep 0.1; done");
    deaf.limits.wall_s = Some(1);
    let outcome = world.run(&deaf, b"").await;
    assert_eq!(outcome.code(), (false, 9));
    assert_eq!(outcome.results().limit.as_deref(), Some("wall_s"));
    assert!(outcome.results().survivors.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_the_program_by_the_id_that_its_status_tells() {
    let Some(world) = enclosed() else { return };
    let request = with_stdin(sh("trap 'echo got; exit 3' USR1; echo up; read x"));
    let started = world.start(&request).await.unwrap();
    let execution = Arc::clone(&started.execution);
    let pid = i32::try_from(execution.status().pid.unwrap()).unwrap();
    assert!(runs(pid));
    let (mut near, far) = tokio::io::duplex(1);
    let client = serve(started, Default::default());
    let run = tokio::spawn(async move { client.collect(&request, Some(far)).await });
    until("output", || execution.status().out_to >= 3).await;
    execution.signal(10);
    let outcome = within(run).await.unwrap().unwrap();
    assert_eq!(outcome.code(), (true, 3));
    assert_eq!(outcome.out, b"up\ngot\n");
    assert!(!runs(pid));
    let _ = tokio::io::AsyncWriteExt::shutdown(&mut near).await;
}

/// Says how many processes a shell sees, itself included.
const COUNT_ALL: &str = "set -- /proc/[0-9]*; echo $#";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_leaves_behind_is_in_nobody_elses_namespaces() {
    let Some(world) = enclosed() else { return };
    for left in [
        "true",
        "setsid sleep 1000 >/dev/null 2>&1 </dev/null &",
        "(setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' >/dev/null 2>&1 </dev/null &)",
        "sleep 1000 & kill -9 $$",
    ] {
        world.sh(left).await;
        let outcome = world.sh(COUNT_ALL).await;
        assert_eq!(String::from_utf8_lossy(&outcome.out), "2\n", "after {left}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_that_a_program_left_empty_are_used_again() {
    let Some(world) = enclosed() else { return };
    let mut ids = std::collections::HashSet::new();
    for _ in 0..20 {
        let outcome = world.sh("readlink /proc/self/ns/pid").await;
        ids.insert(outcome.out);
    }
    // Some are made while others are in use, and none lives long.
    assert!(ids.len() < 20, "{}", ids.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_cannot_make_a_sibling_which_would_be_the_servers_child() {
    let Some(world) = enclosed() else { return };
    // clone(CLONE_PARENT | SIGCHLD) on x86-64.
    let clone = "print syscall(56, 0x8000 | 17, 0, 0, 0, 0), ' ', $!+0, \"\\n\"";
    let mut request = sh("");
    request.cmd = "perl".into();
    request.args = vec!["-e".into(), clone.into()];
    // Also those that a launcher starts, which may start siblings itself.
    until_launched(&world).await;
    for _ in 0..5 {
        let outcome = world.run(&request, b"").await;
        assert_eq!(String::from_utf8_lossy(&outcome.out), "-1 1\n");
    }
}

/// The children of this test's process that start programs for it.
fn launchers() -> Vec<i32> {
    let mut all = children();
    all.retain(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim_end() == "exec-launcher")
    });
    all
}

/// Runs programs until there is a launcher, which the next one will be started by.
async fn until_launched(world: &World) {
    let launched = async {
        while launchers().is_empty() {
            world.sh("true").await;
        }
    };
    within(launched).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_launcher_starts_is_as_what_the_server_starts() {
    let Some(world) = enclosed() else { return };
    // All but the mark of each, which is a limit.
    let shown = "grep -E '^(Umask|SigBlk|SigIgn|SigCgt|SigPnd|Cap|NoNewPrivs|Seccomp|Uid|Gid|Groups)' /proc/self/status
        ls -l /proc/self/fd | sed 's/.*[0-9] \\([0-9]* -> [a-z/]*\\).*/\\1/'; cat /proc/self/oom_score_adj; ulimit -a | grep -v locks; pwd
        ps -o sid= -p $$ | grep -c . ; id; env | grep -v TMPDIR | sort";
    let first = world.sh(shown).await;
    assert_eq!(first.code(), (true, 0));
    until_launched(&world).await;
    for _ in 0..3 {
        let then = world.sh(shown).await;
        assert_eq!(
            String::from_utf8_lossy(&then.out),
            String::from_utf8_lossy(&first.out)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_that_is_killed_is_not_missed() {
    let Some(world) = enclosed() else { return };
    for _ in 0..3 {
        until_launched(&world).await;
        for pid in launchers() {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            // It may just have ended with its namespaces.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let outcome = world.sh("echo here").await;
        assert_eq!(outcome.out, b"here\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once_have_namespaces_each() {
    let Some(world) = enclosed() else { return };
    let mut tasks = Vec::new();
    for number in 0..200 {
        let mut request = sh(&format!("{COUNT_ALL}; exit {}", number % 256));
        request.stdout = OutputTo::Capture;
        request.detach = true;
        let received = ExecRequest::parse(&request.to_json()).unwrap();
        let ready = prepared(&received, world.work());
        let executions = world.executions.clone();
        tasks.push(tokio::spawn(async move {
            let started = executions.start(support::SUBJECT, received.into(), || Ok(ready));
            let execution = started.await.unwrap().execution;
            let status = execution.wait(support::PATIENCE).await;
            let results = status.results.expect("an end");
            assert_eq!(
                (results.finished, results.exit_code_or_signal),
                (true, number % 256)
            );
            // The first process and the program, whoever runs beside it.
            assert_eq!(results.out.as_deref(), Some("2\n"));
        }));
    }
    for task in tasks {
        within(task).await.unwrap();
    }
}
