//! Programs and files on real guests through a running agent.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod common;

use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use common::{Agent, Guest, Lines, Process, processes_with, wait_for};
use rustix::process::Signal;

#[test]
fn output_is_labelled_and_streams_stay_apart() {
    let agent = Agent::start();
    let _one = Guest::start(&agent, "one");
    let ran = agent.run(&[
        "exec",
        "--to",
        "one",
        "--",
        "sh",
        "-c",
        "echo to out; printf unfinished; echo to err >&2",
    ]);
    let ran = ran.expect(0);
    assert_eq!(ran.out, "one: to out\none: unfinished\n");
    assert_eq!(ran.err, "one: to err\n");
}

#[test]
fn two_guests_run_at_once_and_no_line_is_torn() {
    let agent = Agent::start();
    let _one = Guest::start(&agent, "one");
    let _two = Guest::start(&agent, "two");
    let script = "i=0; while [ $i -lt 2000 ]; do echo line $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; i=$((i+1)); done";
    let out = agent
        .run(&["exec", "--to", "*", "--", "sh", "-c", script])
        .expect(0)
        .out;
    for name in ["one", "two"] {
        let lines = out.lines().filter(|line| line.starts_with(name));
        for (number, line) in lines.clone().enumerate() {
            assert_eq!(
                line,
                format!("{name}: line {number} xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")
            );
        }
        assert_eq!(lines.count(), 2000);
    }
}

#[test]
fn all_of_a_large_output_arrives() {
    let agent = Agent::start();
    let _one = Guest::start(&agent, "one");
    // Several windows' worth, and no line's end in most of it.
    let ran = agent.run(&[
        "exec",
        "--to",
        "one",
        "--",
        "sh",
        "-c",
        "head -c 5000000 /dev/zero | tr '\\0' x",
    ]);
    let out = ran.expect(0).out;
    assert_eq!(out.matches('x').count(), 5_000_000);
}

#[test]
fn failures_are_told_and_set_the_exit_code() {
    let agent = Agent::start();
    let _one = Guest::start(&agent, "one");
    let _two = Guest::start(&agent, "two");
    for (program, word) in [
        (&["sh", "-c", "exit 3"][..], "exited with 3"),
        (&["sh", "-c", "kill -9 $$"], "signal 9"),
        (&["no-such-program"], "no such file"),
        (&["/etc"], "/etc"),
    ] {
        let ran = agent
            .run(&[&["exec", "--to", "one", "--"], program].concat())
            .expect(1);
        assert!(
            ran.err.to_lowercase().contains(word) || word == "/etc",
            "{program:?}: {}",
            ran.err
        );
        assert!(ran.err.contains("one: "), "{}", ran.err);
    }
    // One of two is enough, and the other's success is not lost.
    std::fs::create_dir(_one.root().join("only-here")).unwrap();
    let script = "test -e only-here && echo here";
    let ran = agent
        .run(&["exec", "--to", "*", "--", "sh", "-c", script])
        .expect(1);
    assert_eq!(ran.out, "one: here\n");
    assert!(ran.err.contains("two: exited with 1"), "{}", ran.err);

    agent
        .run(&["exec", "--to", "three", "--", "true"])
        .expect(3);
    agent.run(&["exec", "--to", "", "--", "true"]).expect(2);
    agent.run(&["exec", "--to", "*"]).expect(2);
    let late = agent
        .run(&[
            "exec",
            "--to",
            "one",
            "--timeout",
            "1",
            "--",
            "sleep",
            "1000",
        ])
        .expect(1);
    assert!(late.err.contains("wall_s"), "{}", late.err);
}

#[test]
fn directory_and_environment_are_the_caller_s() {
    let agent = Agent::start();
    let guest = Guest::start(&agent, "one");
    agent
        .run(&["push", "--to", "one", "/etc/hostname", "/name"])
        .expect(0);
    let command = [
        "exec",
        "--to",
        "one",
        "--env",
        "A=b=c",
        "--env",
        "E=",
        "--",
        "sh",
        "-c",
        "echo $A-$E-$PWD",
    ];
    let out = agent.run(&command).expect(0).out;
    assert_eq!(
        out.trim_end(),
        format!(
            "one: b=c--{}",
            guest.root().canonicalize().unwrap().display()
        )
    );
    agent
        .run(&["exec", "--to", "one", "--env", "novalue", "--", "true"])
        .expect(1);
    agent
        .run(&["exec", "--to", "one", "--cwd", "/nowhere", "--", "true"])
        .expect(1);
}

#[test]
fn a_tree_goes_to_two_guests_and_comes_back_as_it_was() {
    let agent = Agent::start();
    let _one = Guest::start(&agent, "one");
    let _two = Guest::start(&agent, "two");
    let here = tempfile::tempdir().unwrap();
    let tree = here.path().join("job");
    std::fs::create_dir_all(tree.join("deep/er/empty")).unwrap();
    std::fs::write(
        tree.join("run.sh"),
        "#!/bin/sh\ncat deep/.hidden | tr a-z A-Z > result\n",
    )
    .unwrap();
    std::fs::set_permissions(tree.join("run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(tree.join("deep/.hidden"), "words\n").unwrap();
    std::fs::write(tree.join("deep/er/large"), vec![7; 3_000_000]).unwrap();
    std::os::unix::fs::symlink("deep/.hidden", tree.join("link")).unwrap();

    let job = tree.to_str().unwrap();
    agent.run(&["push", "--to", "*", job, "/"]).expect(0);
    agent
        .run(&["exec", "--to", "*", "--cwd", "/job", "--", "./run.sh"])
        .expect(0);
    for name in ["one", "two"] {
        let back = here.path().join(name);
        let ran = agent
            .run(&["pull", "--from", name, "/job", back.to_str().unwrap()])
            .expect(0);
        assert!(ran.err.contains(name), "{}", ran.err);
        assert_eq!(
            std::fs::read_to_string(back.join("result")).unwrap(),
            "WORDS\n"
        );
        assert_eq!(
            std::fs::read(back.join("deep/er/large")).unwrap(),
            vec![7; 3_000_000]
        );
        assert_eq!(
            std::fs::read_link(back.join("link")).unwrap().to_str(),
            Some("deep/.hidden")
        );
        assert!(back.join("deep/er/empty").is_dir());
        let mode = std::fs::metadata(back.join("run.sh"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o100, 0o100);
    }
    let file = here.path().join("result-of-one");
    agent
        .run(&[
            "pull",
            "--from",
            "one",
            "/job/result",
            file.to_str().unwrap(),
        ])
        .expect(0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "WORDS\n");
}

#[test]
fn copies_that_cannot_be_made_say_which_and_why() {
    let agent = Agent::start();
    let _one = Guest::start(&agent, "one");
    let _two = Guest::start(&agent, "two");
    let here = tempfile::tempdir().unwrap();
    let nothing = here.path().join("nothing");
    let nothing = nothing.to_str().unwrap();
    let ran = agent.run(&["push", "--to", "*", nothing, "/x"]).expect(1);
    assert!(
        ran.err.contains("one: ") && ran.err.contains("two: ") && ran.err.contains(nothing),
        "{}",
        ran.err
    );
    let ran = agent
        .run(&["pull", "--from", "one", "/nothing", nothing])
        .expect(1);
    assert!(ran.err.contains("/nothing"), "{}", ran.err);
    assert!(!here.path().join("nothing").exists());
    let ran = agent.run(&["pull", "--from", "*", "/x", nothing]).expect(1);
    assert!(
        ran.err.contains("one (") && ran.err.contains("two ("),
        "{}",
        ran.err
    );
    agent
        .run(&["pull", "--from", "three", "/x", nothing])
        .expect(3);
}

/// Starts a program that tells when it runs, and returns its command with the marker to find it by.
fn endless(agent: &Agent, marker: &str) -> Process {
    let script = format!("echo running; while :; do sleep 1; done # {marker}");
    let mut process = agent
        .command(&["exec", "--to", "*", "--", "sh", "-c", &script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map(Process)
        .unwrap();
    Lines::of(process.0.stdout.take().unwrap()).find("running", |line| line.ends_with("running"));
    process
}

/// Returns the guest's processes of a program, not the commands on this host that name it.
fn in_guest(marker: &str) -> usize {
    processes_with(marker)
        .iter()
        .filter(|line| line.starts_with("sh -c"))
        .count()
}

#[test]
fn an_interrupted_command_ends_its_programs() {
    let agent = Agent::start();
    let _guest = Guest::start(&agent, "one");
    let mut command = endless(&agent, "marker-of-interrupted");
    assert_ne!(in_guest("marker-of-interrupted"), 0);
    command.signal(Signal::INT);
    command.code();
    wait_for("the end of the program", || {
        (in_guest("marker-of-interrupted") == 0).then_some(())
    });
    agent.run(&["exec", "--to", "one", "--", "true"]).expect(0);
}

#[test]
fn an_agent_that_dies_takes_its_programs_along_and_the_command_fails() {
    let agent = Agent::start();
    let _guest = Guest::start(&agent, "one");
    let mut command = endless(&agent, "marker-of-dead-agent");
    agent.process.signal(Signal::KILL);
    assert_eq!(command.code(), Some(1));
    let mut err = String::new();
    std::io::Read::read_to_string(&mut command.0.stderr.take().unwrap(), &mut err).unwrap();
    assert!(err.contains("host-agent"), "{err}");
    wait_for("the end of the program", || {
        (in_guest("marker-of-dead-agent") == 0).then_some(())
    });
}

#[test]
fn an_agent_that_stops_ends_its_programs_too() {
    let mut agent = Agent::start();
    let _guest = Guest::start(&agent, "one");
    let mut command = endless(&agent, "marker-of-stopped-agent");
    agent.process.signal(Signal::TERM);
    assert_eq!(agent.process.code(), Some(0));
    assert_eq!(command.code(), Some(1));
    wait_for("the end of the program", || {
        (in_guest("marker-of-stopped-agent") == 0).then_some(())
    });
}

#[test]
fn a_guest_that_dies_in_the_middle_is_a_failure_of_that_guest() {
    let agent = Agent::start();
    let guest = Guest::start(&agent, "mortal");
    let mut command = endless(&agent, "marker-of-dead-guest");
    guest.process.signal(Signal::KILL);
    assert_eq!(command.code(), Some(1));
    let mut err = String::new();
    std::io::Read::read_to_string(&mut command.0.stderr.take().unwrap(), &mut err).unwrap();
    assert!(err.contains("mortal: "), "{err}");
    // What a guest's death leaves behind on its own machine is that machine's affair; here it is ours.
    for line in std::fs::read_dir("/proc").unwrap().flatten() {
        let command_line = std::fs::read(line.path().join("cmdline")).unwrap_or_default();
        let ours = String::from_utf8_lossy(&command_line).contains("marker-of-dead-guest");
        let process = line.file_name().to_str().and_then(|name| name.parse().ok());
        if let (true, Some(process)) = (ours, process.and_then(rustix::process::Pid::from_raw)) {
            let _ = rustix::process::kill_process(process, Signal::KILL);
        }
    }
}

#[test]
fn work_meant_for_a_guest_is_given_to_no_other_server_that_answers_at_its_address() {
    let agent = Agent::start();
    let switch = Switch::new();
    let ports = tempfile::tempdir().unwrap();
    // The servers may be another user's.
    std::fs::set_permissions(ports.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let port_of = |name: &str| ports.path().join(name);
    let read_port = |name: &str| {
        wait_for("a server's port", || {
            let text = std::fs::read_to_string(port_of(name)).ok()?;
            text.trim().parse::<u16>().ok()
        })
    };
    let file = |name: &str| port_of(name).to_str().unwrap().to_owned();
    let announced = format!("--announce-as=127.0.0.1:{}", switch.port);
    let one = Guest::spawn(&agent, "one", &["--exec", &announced, "-Z", &file("one")]);
    let two = Guest::spawn(&agent, "two", &["--exec", "-Z", &file("two")]);
    switch.lead_to(read_port("one"));
    agent.wait_state("one", "ready");
    agent.wait_state("two", "ready");

    switch.lead_to(read_port("two"));
    let work = tempfile::tempdir().unwrap();
    let (input, output) = (work.path().join("in"), work.path().join("out"));
    std::fs::write(&input, "secret").unwrap();
    std::fs::write(two.root().join("file"), "of two").unwrap();
    let (input, output) = (input.to_str().unwrap(), output.to_str().unwrap());
    for arguments in [
        &["exec", "--to", "one", "--", "touch", "taken"][..],
        &["push", "--to", "one", input, "/taken"],
        &["pull", "--from", "one", "/file", output],
    ] {
        let refused = agent.run(arguments).expect(1);
        assert!(
            refused.err.contains("another server answers at"),
            "{refused:#?}"
        );
    }
    assert!(!two.root().join("taken").exists());
    assert!(!std::path::Path::new(output).exists());

    switch.lead_to(read_port("one"));
    agent
        .run(&["exec", "--to", "one", "--", "touch", "taken"])
        .expect(0);
    assert!(one.root().join("taken").exists());
}

/// A port that leads each new connection to the server that it is set to.
struct Switch {
    port: u16,
    to: Arc<AtomicU16>,
}

impl Switch {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let to = Arc::new(AtomicU16::new(0));
        let set = Arc::clone(&to);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", set.load(Ordering::SeqCst)))
                else {
                    continue;
                };
                for (mut from, mut to) in [
                    (caller.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server, caller),
                ] {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        Self { port, to }
    }

    fn lead_to(&self, port: u16) {
        self.to.store(port, Ordering::SeqCst);
    }
}
