//! The driver with real QEMUs and no guest in them: a machine with an empty disk looks for something to boot
//! for ever, and is there within a second.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use host_agent::hypervisor::qemu::{Qemu, QemuConfig};
use host_agent::hypervisor::{Blueprint, Driver as _, Error, Operation, State};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;

use crate::common::Process;
use crate::harness::{ordinary, pid_of, wait_for};

/// A registry of empty machines.
struct Bench {
    driver: Qemu,
    runtime: Runtime,
    directory: tempfile::TempDir,
    registry: PathBuf,
}

impl Bench {
    fn new() -> Self {
        Self::with(None)
    }

    /// Returns one whose QEMU is in that directory.
    fn with(helpers: Option<PathBuf>) -> Self {
        ordinary();
        let directory = tempfile::tempdir().unwrap();
        let registry = directory.path().join("machines");
        Self::at(directory, registry, helpers)
    }

    fn at(directory: tempfile::TempDir, registry: PathBuf, helpers: Option<PathBuf>) -> Self {
        let mut config = QemuConfig::new(&registry, "/nonexistent");
        config.helpers = helpers;
        Self {
            driver: Qemu::new(config),
            runtime: Runtime::new().unwrap(),
            directory,
            registry,
        }
    }

    /// Makes a machine with an empty disk.
    fn create(&self, name: &str) {
        let image = self.directory.path().join("empty.raw");
        std::fs::File::create(&image)
            .unwrap()
            .set_len(1 << 20)
            .unwrap();
        let blueprint = Blueprint {
            image: Some(image),
            memory_mib: Some(32),
            ..Blueprint::default()
        };
        self.operate(name, Operation::Create(blueprint));
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.registry.join(name)
    }

    fn try_to(&self, name: &str, operation: Operation) -> Result<(), Error> {
        self.runtime.block_on(self.driver.operate(name, operation))
    }

    #[track_caller]
    fn operate(&self, name: &str, operation: Operation) {
        let shown = format!("{operation:?}");
        self.try_to(name, operation)
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
    }

    /// Tries what the machine's state does not allow.
    #[track_caller]
    fn refused(&self, name: &str, operation: Operation) {
        let shown = format!("{operation:?}");
        match self.try_to(name, operation) {
            Err(Error::WrongState { .. }) => {}
            other => panic!("{shown}: {other:?}"),
        }
    }

    fn state(&self, name: &str) -> State {
        self.runtime
            .block_on(self.driver.machine(name))
            .unwrap()
            .state
    }

    fn snapshots(&self, name: &str) -> Vec<String> {
        let all = self.runtime.block_on(self.driver.snapshots(name)).unwrap();
        all.into_iter()
            .map(|snapshot| {
                let current = if snapshot.current { "*" } else { "" };
                let parent = snapshot.parent.unwrap_or_default();
                format!(
                    "{}{current}<{parent} {}",
                    snapshot.name, snapshot.description
                )
            })
            .collect()
    }

    fn signal(&self, name: &str, signal: Signal) {
        let pid = Pid::from_raw(pid_of(&self.folder(name))).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let machines = self.runtime.block_on(self.driver.machines());
        for machine in machines.unwrap_or_default() {
            let _ = self.try_to(&machine.name, Operation::PowerOff);
        }
    }
}

fn snapshot(name: &str) -> Operation {
    Operation::TakeSnapshot {
        snapshot: name.to_owned(),
        description: format!("about {name}"),
    }
}

fn restore(name: Option<&str>) -> Operation {
    Operation::RestoreSnapshot {
        snapshot: name.map(str::to_owned),
    }
}

#[test]
#[ignore = "starts QEMU: make test-vm"]
fn a_machine_goes_through_its_states_and_no_other_way() {
    let bench = Bench::new();
    bench.create("my vm");
    assert_eq!(bench.state("my vm"), State::PoweredOff);
    for operation in [
        Operation::PowerOff,
        Operation::Pause,
        Operation::Save,
        Operation::Discard,
    ] {
        bench.refused("my vm", operation);
    }
    bench.operate("my vm", Operation::Start);
    assert_eq!(bench.state("my vm"), State::Running);
    for operation in [
        Operation::Start,
        Operation::Resume,
        Operation::Remove,
        Operation::Discard,
    ] {
        bench.refused("my vm", operation);
    }
    bench.operate("my vm", Operation::Pause);
    assert_eq!(bench.state("my vm"), State::Paused);
    bench.refused("my vm", Operation::Shutdown);
    bench.operate("my vm", Operation::Resume);
    bench.operate("my vm", Operation::Reset);
    assert_eq!(bench.state("my vm"), State::Running);
    // Nobody listens to the button.
    bench.operate("my vm", Operation::Shutdown);
    assert_eq!(bench.state("my vm"), State::Running);

    bench.operate("my vm", Operation::Save);
    assert_eq!(bench.state("my vm"), State::Saved);
    assert!(
        bench.snapshots("my vm").is_empty(),
        "a saved state is no snapshot"
    );
    bench.operate("my vm", Operation::Start);
    assert_eq!(bench.state("my vm"), State::Running);
    bench.operate("my vm", Operation::Save);
    bench.operate("my vm", Operation::Discard);
    assert_eq!(bench.state("my vm"), State::PoweredOff);

    let figures = bench
        .runtime
        .block_on(bench.driver.performance("my vm"))
        .unwrap();
    assert!(!figures.contains_key("cpu_s"), "{figures:?}");
    bench.operate("my vm", Operation::Start);
    let figures = bench
        .runtime
        .block_on(bench.driver.performance("my vm"))
        .unwrap();
    assert!(figures["memory_bytes"] > 1e6 && figures["memory_max_bytes"] == 32.0 * 1048576.0);
    // By its other name, too.
    let uuid = bench
        .runtime
        .block_on(bench.driver.machines())
        .unwrap()
        .remove(0)
        .uuid
        .unwrap();
    bench.operate(&uuid, Operation::PowerOff);
    assert_eq!(bench.state("my vm"), State::PoweredOff);
    bench.operate("my vm", Operation::Remove);
    assert!(!bench.folder("my vm").exists());
}

#[test]
#[ignore = "starts QEMU: make test-vm"]
fn snapshots_are_taken_restored_and_deleted_on_and_off() {
    let bench = Bench::new();
    bench.create("m");
    bench.operate("m", snapshot("off"));
    bench.operate("m", Operation::Start);
    bench.operate("m", snapshot("a, \"b\""));
    let twice = bench.try_to("m", snapshot("off")).unwrap_err();
    assert!(matches!(twice, Error::Exists { .. }), "{twice}");
    assert_eq!(
        bench.snapshots("m"),
        ["off< about off", "a, \"b\"*<off about a, \"b\""]
    );

    // What holds no memory cannot be put into a machine that runs, and one that is not there nowhere.
    let refused = bench.try_to("m", restore(Some("off"))).unwrap_err();
    assert!(
        refused.to_string().contains("power the machine off"),
        "{refused}"
    );
    let refused = bench.try_to("m", restore(Some("none"))).unwrap_err();
    assert!(matches!(refused, Error::NoSuchSnapshot { .. }), "{refused}");
    assert_eq!(bench.state("m"), State::Running);

    bench.operate("m", Operation::Pause);
    bench.operate("m", restore(None));
    assert_eq!(bench.state("m"), State::Paused);
    bench.operate("m", Operation::Resume);
    bench.operate("m", restore(None));
    assert_eq!(bench.state("m"), State::Running);

    bench.operate("m", Operation::PowerOff);
    bench.operate("m", restore(Some("a, \"b\"")));
    assert_eq!(bench.state("m"), State::Saved);
    bench.operate("m", Operation::Start);
    assert_eq!(bench.state("m"), State::Running);
    let delete = |name: &str| Operation::DeleteSnapshot {
        snapshot: name.to_owned(),
    };
    bench.operate("m", delete("off"));
    assert_eq!(bench.snapshots("m"), ["a, \"b\"*< about a, \"b\""]);
    bench.operate("m", Operation::PowerOff);
    bench.operate("m", delete("a, \"b\""));
    assert!(bench.snapshots("m").is_empty());
}

/// A small file system, in a mount namespace that lives as long as this; it is reached through its process.
struct SmallDisk {
    _process: Process,
    path: PathBuf,
}

impl SmallDisk {
    fn mount(directory: &Path) -> Self {
        let mut child = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
            .arg("mount -t tmpfs -o size=16m none \"$0\" && echo mounted && exec cat")
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 8];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut line)
            .unwrap();
        let path = format!("/proc/{}/root{}", child.id(), directory.display());
        Self {
            _process: Process(child),
            path: path.into(),
        }
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.path.join("fill");
        let mut file = std::fs::File::create(&path).unwrap();
        while std::io::Write::write_all(&mut file, &[7; 4096]).is_ok() {}
        path
    }
}

#[test]
#[ignore = "starts QEMU: make test-vm"]
fn a_full_disk_costs_neither_the_machine_nor_an_older_snapshot() {
    ordinary();
    let directory = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(directory.path());
    let image = tempfile::tempdir().unwrap();
    let bench = Bench::at(image, disk.path.join("machines"), None);
    bench.create("m");
    bench.operate("m", Operation::Start);
    bench.operate("m", snapshot("before"));
    let filled = disk.fill();
    for operation in [snapshot("after"), Operation::Save] {
        let shown = format!("{operation:?}");
        let error = bench.try_to("m", operation).unwrap_err().to_string();
        assert!(
            error.contains("\"m\"") && error.contains("make room there"),
            "{shown}: {error}"
        );
        assert_eq!(bench.state("m"), State::Running, "{shown}");
        assert_eq!(bench.snapshots("m"), ["before*< about before"], "{shown}");
    }
    // A restore that cannot be noted down does not begin.
    bench.try_to("m", restore(Some("before"))).unwrap_err();
    assert_eq!(bench.state("m"), State::Running);

    std::fs::remove_file(filled).unwrap();
    bench.operate("m", restore(Some("before")));
    assert_eq!(bench.state("m"), State::Running);
    bench.operate("m", Operation::Save);
    assert_eq!(bench.state("m"), State::Saved);

    let filled = disk.fill();
    bench.try_to("m", Operation::Start).unwrap_err();
    assert_eq!(bench.state("m"), State::Saved, "its memory is kept");
    std::fs::remove_file(filled).unwrap();
    bench.operate("m", Operation::Start);
    assert_eq!(bench.state("m"), State::Running);
}

#[test]
#[ignore = "starts QEMU: make test-vm"]
fn two_agents_never_start_one_machine_twice_and_the_next_finds_it() {
    let bench = Bench::new();
    bench.create("m");
    let other = bench.driver.clone();
    let (first, second) = bench.runtime.block_on(async {
        tokio::join!(
            bench.driver.operate("m", Operation::Start),
            other.operate("m", Operation::Start)
        )
    });
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    let error = first.and(second).unwrap_err();
    assert!(
        matches!(error, Error::Busy { .. } | Error::WrongState { .. }),
        "{error}"
    );
    let before = pid_of(&bench.folder("m"));
    let registry = bench.directory.path().join("machines");
    let later = Qemu::new(QemuConfig::new(registry, "/nonexistent"));
    let found = bench.runtime.block_on(later.machines()).unwrap();
    assert_eq!(found[0].state, State::Running);
    assert_eq!(pid_of(&bench.folder("m")), before);
}

#[test]
#[ignore = "starts QEMU: make test-vm"]
fn a_qemu_that_is_killed_or_frozen_is_seen_and_got_rid_of() {
    let bench = Bench::new();
    bench.create("m");
    bench.operate("m", Operation::Start);
    bench.signal("m", Signal::KILL);
    wait_for(&|| "the machine to be aborted".to_owned(), || {
        (bench.state("m") == State::Aborted).then_some(())
    });
    bench.operate("m", Operation::Start);
    bench.signal("m", Signal::STOP);
    // It does not answer, and nobody waits for ever.
    assert_eq!(bench.state("m"), State::Unknown);
    bench.operate("m", Operation::PowerOff);
    assert_eq!(bench.state("m"), State::PoweredOff);
}

#[test]
#[ignore = "starts QEMU: make test-vm"]
fn a_qemu_that_cannot_start_says_why() {
    let bench = Bench::new();
    let kernel = bench.directory.path().join("kernel");
    std::fs::write(&kernel, "no kernel").unwrap();
    let blueprint = Blueprint {
        kernel: Some(kernel),
        ..Blueprint::default()
    };
    bench.operate("m", Operation::Create(blueprint));
    let error = bench.try_to("m", Operation::Start).unwrap_err().to_string();
    assert!(
        error.contains("machine \"m\"") && error.contains("kernel"),
        "{error}"
    );
    assert_eq!(bench.state("m"), State::PoweredOff);
    let again = bench.try_to("m", Operation::Create(Blueprint::default()));
    assert!(matches!(again, Err(Error::BadArgument { .. })), "{again:?}");
}

#[test]
#[ignore = "runs QEMU's tools: make test-vm"]
fn what_is_no_monitor_is_not_listened_to() {
    ordinary();
    let helpers = tempfile::tempdir().unwrap();
    std::fs::set_permissions(helpers.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = |name: &str, text: &str| {
        let path = helpers.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    };
    program("qemu-img", "#!/bin/sh\nexec qemu-img \"$@\"\n");
    let emulator = format!("qemu-system-{}", std::env::consts::ARCH);
    program(&emulator, "#!/bin/sh\necho it is broken >&2\nexit 3\n");
    let bench = Bench::with(Some(helpers.path().to_owned()));
    bench.create("m");
    let error = bench.try_to("m", Operation::Start).unwrap_err().to_string();
    assert!(
        error.contains("it is broken") && error.contains("exit status: 3"),
        "{error}"
    );

    for said in ["b'hello\\n'", "b'x' * (1 << 23)", "b'{}\\n' * 1000"] {
        let text = format!(
            "#!/usr/bin/env python3\nimport socket, time\ns = socket.socket(socket.AF_UNIX)\n\
             s.bind('monitor.sock')\ns.listen()\nc, _ = s.accept()\n\
             try: c.sendall({said})\nexcept OSError: pass\ntime.sleep(1000)\n"
        );
        program(&emulator, &text);
        let error = bench.try_to("m", Operation::Start).unwrap_err();
        assert!(matches!(error, Error::BadAnswer { .. }), "{said}: {error}");
        assert_eq!(bench.state("m"), State::PoweredOff, "{said}");
    }
}
