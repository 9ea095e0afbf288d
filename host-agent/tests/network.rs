//! The network between a guest and its host goes down and comes back: two namespaces joined by a link.
//!
//! Making namespaces takes root. They have no names and end with the processes that hold them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that fails this way has failed as it should"
)]

mod common;

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use common::{Agent, NOBODY, Process, chirp_server, wait_for};

/// Longer than a guest is cut off here on any machine, and short enough to be waited for.
const LONG_GRACE: u32 = 30;

#[test]
fn a_guest_cut_off_for_less_than_the_grace_stays_ready_as_root() {
    let network = Network::new();
    let agent = network.agent(LONG_GRACE);
    let _guest = network.guest("worker");
    agent.wait_state("worker", "ready");
    network.link("down");
    wait_for("some beacons to be missed", || {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let heard = agent.guest("worker")?["last_beacon"].as_f64()?;
        (now - heard > 3.0).then_some(())
    });
    let cut = agent.guest("worker").unwrap();
    assert_eq!(cut["state"], "ready");
    network.link("up");
    wait_for("the guest to be heard again", || {
        (agent.guest("worker")?["last_beacon"] != cut["last_beacon"]).then_some(())
    });
    assert_eq!(agent.guest("worker").unwrap()["state"], "ready");
    let log = agent.log();
    assert!(
        !log.contains("guest.late") && !log.contains("guest.gone"),
        "{log}"
    );
}

#[test]
fn a_guest_cut_off_for_more_than_the_grace_is_gone_and_comes_back_as_root() {
    let network = Network::new();
    let agent = network.agent(3);
    let _guest = network.guest("worker");
    agent.wait_state("worker", "ready");
    network.link("down");
    agent.wait_state("worker", "late");
    wait_for("the guest to leave the list", || {
        agent.guest("worker").is_none().then_some(())
    });
    network.link("up");
    agent.wait_state("worker", "ready");
    // Each change in one line, with its reason.
    let log = agent.log();
    for event in ["guest.late", "guest.gone"] {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(event)).collect();
        assert_eq!(lines.len(), 1, "{event}: {log}");
        assert!(
            lines[0].contains("worker") && lines[0].contains("no beacon"),
            "{log}"
        );
    }
}

#[test]
fn a_guest_that_gets_another_address_says_so_as_root() {
    let network = Network::new();
    let agent = network.agent(LONG_GRACE);
    let _guest = network.guest("worker");
    let before = agent.wait_state("worker", "ready");
    for line in [
        "address del 10.77.0.2/24 dev there",
        "address add 10.77.0.77/24 dev there",
        // The route went with the address.
        "route replace default via 10.77.0.1",
    ] {
        ip(&network.guest, line);
    }
    let after = wait_for("the new address", || {
        agent
            .guest("worker")
            .filter(|guest| guest["address"] == "10.77.0.77" && guest["state"] == "ready")
    });
    for field in ["id", "run", "restarts"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    let log = agent.log();
    assert!(log.contains("its address changed"), "{log}");
}

/// A host's and a guest's network, joined by a link; the host is the guest's default gateway.
struct Network {
    host: Process,
    guest: Process,
}

impl Network {
    fn new() -> Self {
        let network = Self {
            host: namespace(),
            guest: namespace(),
        };
        let guest = network.guest.0.id().to_string();
        for line in [
            "link set lo up",
            &format!("link add here type veth peer name there netns {guest}"),
            "address add 10.77.0.1/24 dev here",
            "link set here up",
        ] {
            ip(&network.host, line);
        }
        for line in [
            "link set lo up",
            "address add 10.77.0.2/24 dev there",
            "link set there up",
            "route add default via 10.77.0.1",
        ] {
            ip(&network.guest, line);
        }
        network
    }

    /// Takes the host's end of the link down or up.
    fn link(&self, state: &str) {
        ip(&self.host, &format!("link set here {state}"));
    }

    fn agent(&self, grace: u32) -> Agent {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let settings =
            format!("[EmbeddedBroker]\nlisten_addr = 10.77.0.1\n[Host]\nvm_gc_grace = {grace}\n");
        std::fs::write(file("agent.ini"), settings).unwrap();
        let mut command = inside(&self.host);
        command
            .arg(env!("CARGO_BIN_EXE_host-agent"))
            .args(["serve", "--config"])
            .arg(file("agent.ini"))
            .arg("--socket")
            .arg(file("agent.sock"))
            .stderr(File::create(file("agent.log")).unwrap());
        let mut agent = Agent {
            process: Process(command.spawn().unwrap()),
            directory,
            broker: String::new(),
        };
        agent.wait_until_up();
        agent
    }

    /// Starts a guest that finds the broker by itself.
    fn guest(&self, name: &str) -> (Process, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(directory.path(), open).unwrap();
        let part = |name: &str| {
            let part = directory.path().join(name);
            std::fs::create_dir(&part).unwrap();
            std::os::unix::fs::chown(&part, Some(NOBODY), Some(NOBODY)).unwrap();
            part
        };
        let log = File::create(directory.path().join("log")).unwrap();
        let mut command = inside(&self.guest);
        command
            .arg(chirp_server())
            .arg("-r")
            .arg(part("root"))
            .arg("-y")
            .arg(part("transient"))
            .args(["-i", "nobody", "--exec", "--announce", "--name", name])
            .args(["--beacon-interval", "1"])
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        (Process(command.spawn().unwrap()), directory)
    }
}

/// Starts a process that holds a network namespace of its own.
fn namespace() -> Process {
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--net", "sleep", "infinity"])
        .stdin(Stdio::null());
    let mut holder = Process(command.spawn().expect("unshare runs"));
    let link = format!("/proc/{}/ns/net", holder.0.id());
    wait_for("a network namespace", || {
        assert!(
            holder.0.try_wait().unwrap().is_none(),
            "cannot make a network namespace: that takes root"
        );
        std::fs::read_link(&link).ok().filter(|other| *other != own)
    });
    holder
}

/// Returns a command that becomes the program that its further arguments name, in that namespace.
fn inside(holder: &Process) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/proc/{}/ns/net", holder.0.id()))
        .arg("--")
        .stdin(Stdio::null());
    command
}

#[track_caller]
fn ip(holder: &Process, line: &str) {
    let output = inside(holder).arg("ip").args(line.split(' ')).output();
    let output = output.expect("nsenter and ip run; scripts/install-missing installs them");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {line}: {err}");
}
