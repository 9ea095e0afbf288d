//! What goes wrong with machines that have a guest, and what is made of it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use host_agent::hypervisor::{Error, Operation, State};
use rustix::process::{Pid, Signal, kill_process};

use crate::common::Lines;
use crate::harness::{Machines, pid_of, wait_for};

fn take(snapshot: &str) -> Operation {
    Operation::TakeSnapshot {
        snapshot: snapshot.to_owned(),
        description: String::new(),
    }
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn a_machine_goes_on_where_it_was_paused_snapshot_or_saved() {
    let mut machines = Machines::new();
    let before = machines.wake("worker");
    let mut program = machines
        .agent
        .command(&[
            "exec",
            "--to",
            "worker",
            "--",
            "sh",
            "-c",
            "i=0; while :; do i=$((i+1)); echo $i > count; echo line $i; sleep 0.2; done",
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .map(crate::common::Process)
        .unwrap();
    let lines = Lines::of(program.0.stdout.take().unwrap());
    lines.find("output while the program runs", |line| {
        line.contains("line 3")
    });

    // Stopped processors take nothing away.
    machines.operate("worker", Operation::Pause);
    assert_eq!(machines.state("worker"), State::Paused);
    machines.operate("worker", Operation::Resume);
    lines.find("more output after the pause", |line| {
        line.contains("line 6")
    });

    machines.operate("worker", take("now"));
    machines.exec("worker", "touch /srv/after").expect(0);
    machines.operate(
        "worker",
        Operation::RestoreSnapshot {
            snapshot: Some("now".to_owned()),
        },
    );
    // Who waits for the program is told that its end is not known.
    let code = program.code();
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    // A new connection works, and what came after the snapshot has not been.
    wait_for(
        &|| format!("the guest to be back; {}", machines.told("worker")),
        || (machines.exec("worker", "true").code == Some(0)).then_some(()),
    );
    let listed = machines.exec("worker", "ls /srv").expect(0).out;
    assert!(
        listed.contains("count") && !listed.contains("after"),
        "{listed}"
    );

    // Off and on again, without a boot.
    machines.operate("worker", Operation::Save);
    assert_eq!(machines.state("worker"), State::Saved);
    machines.operate("worker", Operation::Start);
    wait_for(
        &|| format!("the guest to be back; {}", machines.told("worker")),
        || (machines.exec("worker", "ls /srv/count").code == Some(0)).then_some(()),
    );
    assert_eq!(machines.wait_ready("worker")["boot"], before["boot"]);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn an_agent_that_was_killed_finds_its_machine_and_a_killed_machine_boots_anew() {
    let mut machines = Machines::new();
    let before = machines.wake("worker");
    let pid = pid_of(&machines.folder("worker"));
    machines.agent.process.signal(Signal::KILL);
    machines.agent.process.code();
    machines.agent.restart();
    let after = machines.wait_ready("worker");
    assert_eq!(after["boot"], before["boot"]);
    assert_eq!(pid_of(&machines.folder("worker")), pid);
    assert_eq!(machines.state("worker"), State::Running);

    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    machines.wait_state("worker", State::Aborted);
    machines.operate("worker", Operation::Start);
    let anew = wait_for(
        &|| format!("another boot; {}", machines.told("worker")),
        || {
            let guest = machines.agent.guest("worker")?;
            (guest["state"] == "ready" && guest["boot"] != before["boot"]).then_some(guest)
        },
    );
    assert_eq!(anew["id"], before["id"]);
    machines.exec("worker", "true").expect(0);
}

/// Tells a machine's QEMU something behind the driver's back, and waits for what is to be heard of it.
fn tell(machines: &Machines, command: &str, event: &str) {
    let folder = std::fs::File::open(machines.folder("worker")).unwrap();
    let folder = std::os::fd::AsRawFd::as_raw_fd(&folder);
    let mut monitor = UnixStream::connect(format!("/proc/self/fd/{folder}/monitor.sock")).unwrap();
    let text = format!("{{\"execute\":\"qmp_capabilities\"}}{{\"execute\":\"{command}\"}}\n");
    monitor.write_all(text.as_bytes()).unwrap();
    let mut heard = String::new();
    while !heard.contains(event) {
        let mut buffer = [0; 4096];
        let read = monitor.read(&mut buffer).unwrap();
        assert!(read > 0, "{heard}\n{}", machines.told("worker"));
        heard.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

#[test]
#[ignore = "starts a machine: make test-vm"]
fn a_guest_that_was_frozen_for_a_while_is_the_same_guest() {
    let mut machines = Machines::new();
    let before = machines.wake("worker");
    // By somebody else: it is paused all the same, and can be resumed.
    tell(&machines, "stop", "\"STOP\"");
    assert_eq!(machines.state("worker"), State::Paused);
    machines.operate("worker", Operation::Resume);
    machines.exec("worker", "true").expect(0);

    let qemu = Pid::from_raw(pid_of(&machines.folder("worker"))).unwrap();
    kill_process(qemu, Signal::STOP).unwrap();
    // Nobody waits for ever for one that does not answer, and nobody takes it for off.
    assert_eq!(machines.state("worker"), State::Unknown);
    let refused = machines.try_to("worker", Operation::Start).unwrap_err();
    assert!(matches!(refused, Error::WrongState { .. }), "{refused}");
    kill_process(qemu, Signal::CONT).unwrap();
    machines.wait_state("worker", State::Running);
    machines.exec("worker", "true").expect(0);
    let after = machines.wait_ready("worker");
    assert_eq!(
        (&after["boot"], &after["run"]),
        (&before["boot"], &before["run"])
    );
}

#[test]
#[ignore = "starts a machine: make test-vm"]
fn a_guest_without_room_says_so_and_stays_ready() {
    let mut machines = Machines::new();
    let before = machines.wake("worker");
    let filled = machines.exec(
        "worker",
        "set -- $(stat -f -c '%a %S' .); fallocate -l $(($1 * $2)) fill && echo more > more",
    );
    assert_ne!(filled.code, Some(0), "{filled:#?}");
    assert!(filled.err.contains("No space left"), "{filled:#?}");
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("file");
    std::fs::write(&file, vec![7; 1 << 20]).unwrap();
    let push = ["push", "--to", "worker", file.to_str().unwrap(), "/pushed"];
    let pushed = machines.agent.run(&push);
    assert_eq!(pushed.code, Some(1), "{pushed:#?}");
    assert!(
        pushed.err.contains("worker") && pushed.err.contains("0 are free; make room"),
        "{pushed:#?}"
    );
    // Nothing half done stays, and once there is room it works.
    machines
        .exec("worker", "test ! -e pushed && rm fill")
        .expect(0);
    machines.agent.run(&push).expect(0);
    machines
        .exec("worker", "test $(stat -c %s pushed) = 1048576")
        .expect(0);
    assert_eq!(machines.wait_ready("worker")["run"], before["run"]);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn a_guest_whose_kernel_panics_is_stuck_until_it_is_reset() {
    let mut machines = Machines::new();
    let before = machines.wake("worker");
    tell(&machines, "inject-nmi", "GUEST_PANICKED");
    assert_eq!(machines.state("worker"), State::Stuck);
    machines.operate("worker", Operation::Reset);
    wait_for(
        &|| format!("another boot; {}", machines.told("worker")),
        || {
            let guest = machines.agent.guest("worker")?;
            (guest["state"] == "ready" && guest["boot"] != before["boot"]).then_some(())
        },
    );
}
