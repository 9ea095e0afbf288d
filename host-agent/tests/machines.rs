//! `host-agent vm` and the watchdog with the driver `command` and a fake hypervisor, whose machines are real
//! guests' servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::{Path, PathBuf};

use common::{Agent, Guest, Ran, wait_for};
use rustix::process::{Pid, Signal, kill_process};

/// A fake hypervisor with one machine, which is off, and an agent that drives it.
struct World {
    agent: Agent,
    hypervisor: tempfile::TempDir,
    /// Whose server the machine is; the one that the test itself started has ended.
    guest: Option<Guest>,
}

impl Drop for World {
    /// Ends the machine's process, wherever it came from.
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, Signal::CONT);
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

const MACHINE: &str = "worker \"1\"";

impl World {
    /// Makes it; `host` are more lines for the agent's `[Host]` section.
    fn new(host: &str) -> Self {
        let hypervisor = tempfile::tempdir().unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fake-hypervisor.py");
        std::os::unix::fs::symlink(program, hypervisor.path().join("fake")).unwrap();
        let machine = hypervisor.path().join("machines").join(MACHINE);
        std::fs::create_dir_all(&machine).unwrap();
        let mut settings = format!(
            "[EmbeddedBroker]\nlisten_port = 0\n[Host]\naccept_unknown_guests = yes\n{host}\
             [Hypervisor]\nhypervisor = command\nhypervisor_helpers_path = {}\ncommand_list = fake list\n",
            hypervisor.path().display()
        );
        for verb in [
            "start",
            "shutdown",
            "power_off",
            "reset",
            "pause",
            "resume",
            "console",
        ] {
            settings.push_str(&format!("command_{verb} = fake {verb} {{name}}\n"));
        }
        let agent = Agent::start_from(&settings);
        let mut guest = Guest::start(&agent, "announced");
        let argv =
            std::fs::read_to_string(format!("/proc/{}/cmdline", guest.process.0.id())).unwrap();
        guest.process.signal(Signal::TERM);
        guest.process.code();
        let gone = || agent.guest("announced").is_none().then_some(());
        wait_for("the guest to be gone", gone);
        // A server's id comes from its address and port: the machine's stay the same, and are nobody else's.
        let own = guest.process.0.id().to_be_bytes();
        let argv = argv
            .trim_end_matches('\0')
            .replace(
                "\0-I\x00127.0.0.1\0",
                &format!("\0-I\x00127.{}.{}.{}\0", 64 + own[1] % 64, own[2], own[3]),
            )
            .replace("\0-p\x000\0", "\0-p\x009094\0");
        std::fs::write(machine.join("argv"), argv).unwrap();
        std::fs::write(machine.join("macs"), "").unwrap();
        agent.run(&["vm", "start", MACHINE]).expect(0);
        let id = agent.wait_state("announced", "ready")["id"].clone();
        std::fs::write(machine.join("macs"), id.as_str().unwrap()).unwrap();
        agent.run(&["vm", "kill", MACHINE]).expect(0);
        wait_for("the guest to be gone", gone);
        Self {
            agent,
            hypervisor,
            guest: Some(guest),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.hypervisor
            .path()
            .join("machines")
            .join(MACHINE)
            .join(name)
    }

    fn pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.file("pid")).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.agent.run(arguments)
    }
}

#[test]
fn a_machine_is_started_used_paused_and_stopped_by_name() {
    let world = World::new("vm_gc_grace = 60\n");
    let list = world.run(&["vm", "list"]).expect(0);
    assert!(list.out.contains("PoweredOff"), "{list:?}");

    // Ready when it returns: the program runs at once, under the machine's name.
    world.run(&["vm", "start", MACHINE, "--wait"]).expect(0);
    let guest = world.agent.guest(MACHINE).unwrap();
    assert_eq!(guest["state"], "ready");
    let ran = world
        .run(&["exec", "--to", "worker*", "--", "echo", "hello"])
        .expect(0);
    assert_eq!(ran.out, format!("{MACHINE}: hello\n"));
    let again = world.run(&["vm", "start", MACHINE]);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.err.contains("is Running"), "{again:?}");

    world.run(&["vm", "pause", MACHINE]).expect(0);
    assert_eq!(world.agent.guest(MACHINE).unwrap()["paused"], true);
    let listed = world.run(&["vm", "list", "--json"]).expect(0);
    let listed: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(listed[0]["machine"]["state"], "Paused");
    assert_eq!(listed[0]["guests"][0]["id"], guest["id"]);
    world
        .run(&["exec", "--to", "worker*", "--", "true"])
        .expect(3);
    // Goes on with it, because it is meant.
    world
        .run(&["exec", "--to", "worker*", "--start", "--", "true"])
        .expect(0);

    world.run(&["vm", "stop", MACHINE]).expect(0);
    wait_for("its good-bye", || {
        world.agent.guest(MACHINE).is_none().then_some(())
    });
    // Boots it for the program, and presses its power button afterwards.
    let ran = world
        .run(&[
            "exec",
            "--to",
            "worker*",
            "--start",
            "--stop-after",
            "--",
            "echo",
            "back",
        ])
        .expect(0);
    assert_eq!(ran.out, format!("{MACHINE}: back\n"));
    let listed = world.run(&["vm", "list"]).expect(0);
    assert!(listed.out.contains("PoweredOff"), "{listed:?}");

    let console = world.run(&["vm", "console", MACHINE]).expect(0);
    assert!(!console.out.is_empty());
    world.run(&["vm", "start", "nobody"]).expect(3);
    let refused = world.run(&["vm", "save", MACHINE]).expect(1);
    assert!(refused.err.contains("command_save"), "{refused:?}");
    assert!(world.guest.is_some());
}

#[test]
fn a_machine_that_never_announces_itself_is_said_to_be_stuck_there() {
    let world = World::new("vm_gc_grace = 60\n");
    std::fs::write(world.file("argv"), "sleep\x001000").unwrap();
    let stuck = world
        .run(&["vm", "start", MACHINE, "--wait", "--timeout", "1"])
        .expect(5);
    assert!(stuck.err.contains("no beacon of"), "{stuck:?}");
    // One that is off before that is not waited for.
    std::fs::write(world.file("state"), "Aborted").unwrap();
    std::fs::write(world.file("argv"), "true").unwrap();
    let mut waiting = world
        .agent
        .command(&["vm", "start", MACHINE, "--wait"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the start", || {
        std::fs::read_to_string(world.file("state"))
            .is_ok_and(|state| state == "Running")
            .then_some(())
    });
    std::fs::write(world.file("state"), "Aborted").unwrap();
    let ended = wait_for("the end of the wait", || waiting.try_wait().unwrap());
    assert_eq!(ended.code(), Some(1));
}

#[test]
fn the_watchdog_resets_a_guest_that_hangs_and_leaves_a_paused_one_alone() {
    let world =
        World::new("vm_gc_grace = 4\nwatchdog = yes\nreboot_after = 1\nboot_timeout = 600\n");
    world.run(&["vm", "start", MACHINE, "--wait"]).expect(0);
    world.run(&["vm", "pause", MACHINE]).expect(0);
    let paused = world.pid().unwrap();
    // Far longer than a guest may be silent that is not paused: gone after 6 s.
    let since = std::time::Instant::now();
    wait_for("nothing to happen", || {
        assert_eq!(world.agent.guest(MACHINE).unwrap()["paused"], true);
        (since.elapsed() > std::time::Duration::from_secs(9)).then_some(())
    });
    assert_eq!(world.pid(), Some(paused));
    world.run(&["vm", "resume", MACHINE]).expect(0);
    world.agent.wait_state(MACHINE, "ready");

    // Now it hangs, which nobody wanted.
    kill_process(paused, Signal::STOP).unwrap();
    wait_for(
        &format!("a restart; the log: {}", world.agent.log()),
        || (world.pid() != Some(paused)).then_some(()),
    );
    world.agent.wait_state(MACHINE, "ready");
    let log = world.agent.log();
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("watchdog.restart"))
        .collect();
    assert_eq!(told.len(), 1, "{log}");
    assert!(
        told[0].contains("action=reset") && told[0].contains("gone for"),
        "{told:?}"
    );
}
