//! The driver `libvirt` against real libvirt: its test driver, and a machine of QEMU's in a session.
//!
//! Each test runs a daemon of its own as an ordinary user, because of root's there is one only. The test driver
//! keeps its machine no longer than somebody is connected, so one `virsh` stays. `make test-vm` installs what
//! is needed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{NOBODY, Process, is_root, wait_for};
use host_agent::hypervisor::libvirt::{Libvirt, LibvirtSettings};
use host_agent::hypervisor::{Blueprint, Console, Driver as _, Error, Operation, State};

/// A daemon of libvirt's with directories of its own.
struct Daemon {
    /// Stays connected, for the test driver's sake; a prompt that nobody can take would end it.
    connected: Option<(Process, std::io::BufReader<std::process::ChildStdout>)>,
    process: Process,
    directory: tempfile::TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.connected = None;
        self.process.signal(rustix::process::Signal::TERM);
        self.process.code();
    }
}

impl Daemon {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for name in ["run", "home", "tools", "machines"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        if is_root() {
            for name in ["", "run", "home", "machines"] {
                std::os::unix::fs::chown(root.join(name), Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        // The driver calls virsh as the daemon's user.
        let environment = Self::environment(root);
        for tool in ["virsh", "qemu-img"] {
            let user = if is_root() {
                format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups ")
            } else {
                String::new()
            };
            let exports: String = environment
                .iter()
                .map(|(name, value)| format!("export {name}='{value}'\n"))
                .collect();
            let path = root.join("tools").join(tool);
            std::fs::write(
                &path,
                format!("#!/bin/sh\n{exports}exec {user}/usr/bin/{tool} \"$@\"\n"),
            )
            .unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = Command::new("/usr/sbin/libvirtd");
        command
            .envs(environment)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(root.join("libvirtd.log")).unwrap());
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let child = command.spawn().expect(
            "these tests need libvirtd: run them by `make test-vm`, or install libvirt-daemon",
        );
        let daemon = Self {
            connected: None,
            process: Process(child),
            directory,
        };
        let socket = daemon.socket();
        wait_for("libvirtd's socket", || socket.exists().then_some(()));
        daemon
    }

    fn environment(root: &Path) -> Vec<(&'static str, String)> {
        let path = |name: &str| root.join(name).display().to_string();
        vec![
            ("XDG_RUNTIME_DIR", path("run")),
            ("HOME", path("home")),
            ("XDG_CONFIG_HOME", path("home/config")),
            ("XDG_CACHE_HOME", path("home/cache")),
            ("XDG_DATA_HOME", path("home/data")),
        ]
    }

    fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("run/libvirt/libvirt-sock")
    }

    fn driver(&self, uri: &str) -> Libvirt {
        Libvirt::new(LibvirtSettings {
            helpers: Some(self.directory.path().join("tools")),
            uri: uri.to_owned(),
            kind: "qemu".to_owned(),
            bridge: None,
            folder: self.directory.path().join("machines"),
        })
    }

    /// Returns the driver of libvirt's own test hypervisor, and stays connected to it.
    fn test_hypervisor(&mut self) -> Libvirt {
        let uri = format!("test+unix:///default?socket={}", self.socket().display());
        let mut child = Command::new(self.directory.path().join("tools/virsh"))
            .args(["--connect", &uri])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Its answer shows that it is connected; it then waits for more on a pipe that stays open.
        child.stdin.as_mut().unwrap().write_all(b"list\n").unwrap();
        let mut answer = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("running") {
            line.clear();
            assert_ne!(
                std::io::BufRead::read_line(&mut answer, &mut line).unwrap(),
                0
            );
        }
        self.connected = Some((Process(child), answer));
        self.driver(&uri)
    }
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn state(driver: &Libvirt, machine: &str) -> State {
    block(driver.machine(machine)).unwrap().state
}

fn operate(driver: &Libvirt, machine: &str, operation: Operation) {
    let name = operation.name();
    block(driver.operate(machine, operation)).unwrap_or_else(|error| panic!("{name}: {error}"));
}

fn take(name: &str) -> Operation {
    Operation::TakeSnapshot {
        snapshot: name.to_owned(),
        description: "two <words>".to_owned(),
    }
}

#[test]
#[ignore = "needs libvirt, which `make test-vm` installs"]
fn every_operation_on_the_test_hypervisor() {
    let mut daemon = Daemon::start();
    let driver = daemon.test_hypervisor();
    let machines = block(driver.machines()).unwrap();
    assert_eq!(machines.len(), 1);
    assert_eq!(machines[0].name, "test");
    assert_eq!(machines[0].state, State::Running);
    assert_eq!(machines[0].macs[0].to_string(), "AA:BB:CC:DD:EE:FF");

    for (operation, after) in [
        (Operation::Pause, State::Paused),
        (Operation::Resume, State::Running),
        (Operation::Save, State::Saved),
        (Operation::Start, State::Running),
        (Operation::Save, State::Saved),
        (Operation::Discard, State::PoweredOff),
        (Operation::Start, State::Running),
        (Operation::Shutdown, State::PoweredOff),
        (Operation::Start, State::Running),
        (Operation::PowerOff, State::PoweredOff),
    ] {
        let name = operation.name();
        operate(&driver, "test", operation);
        assert_eq!(state(&driver, "test"), after, "after {name}");
    }
    for operation in [
        Operation::Pause,
        Operation::Resume,
        Operation::PowerOff,
        Operation::Discard,
    ] {
        let error = block(driver.operate("test", operation)).unwrap_err();
        assert!(
            matches!(
                &error,
                Error::WrongState {
                    state: State::PoweredOff,
                    ..
                }
            ),
            "{error:?}"
        );
    }
    operate(&driver, "test", Operation::Start);
    let error = block(driver.operate("test", Operation::Remove)).unwrap_err();
    assert!(matches!(error, Error::WrongState { .. }), "{error:?}");

    operate(&driver, "test", take("first one"));
    operate(&driver, "test", take("second"));
    let error = block(driver.operate("test", take("second"))).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error:?}");
    let snapshots = block(driver.snapshots("test")).unwrap();
    let told: Vec<_> = snapshots
        .iter()
        .map(|s| (s.name.as_str(), s.parent.as_deref(), s.current))
        .collect();
    assert_eq!(
        told,
        [
            ("first one", None, false),
            ("second", Some("first one"), true)
        ]
    );
    assert_eq!(snapshots[0].description, "two <words>");
    assert!(snapshots[0].time.is_some());
    let restore = |name: &str| Operation::RestoreSnapshot {
        snapshot: Some(name.to_owned()),
    };
    operate(&driver, "test", restore("first one"));
    assert!(block(driver.snapshots("test")).unwrap()[0].current);
    let error = block(driver.operate("test", restore("third"))).unwrap_err();
    assert!(matches!(error, Error::NoSuchSnapshot { .. }), "{error:?}");
    let delete = Operation::DeleteSnapshot {
        snapshot: "second".to_owned(),
    };
    operate(&driver, "test", delete);
    assert_eq!(block(driver.snapshots("test")).unwrap().len(), 1);

    let error = block(driver.operate("nobody", Operation::Start)).unwrap_err();
    assert!(matches!(error, Error::NoSuchMachine { .. }), "{error:?}");
}

#[test]
#[ignore = "needs libvirt and QEMU, which `make test-vm` installs"]
fn a_machine_of_qemus_in_an_ordinary_users_session() {
    let daemon = Daemon::start();
    let driver = daemon.driver("qemu:///session");
    let findings = block(driver.check()).unwrap();
    assert!(findings.iter().all(|finding| finding.ok), "{findings:?}");
    assert_eq!(block(driver.machines()).unwrap(), []);

    let image = daemon.directory.path().join("base.raw");
    std::fs::File::create(&image)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let blueprint = Blueprint {
        image: Some(image.clone()),
        memory_mib: Some(64),
        mac: Some("02:00:00:00:00:ab".parse().unwrap()),
        ..Blueprint::default()
    };
    let name = "worker <1>";
    operate(&driver, name, Operation::Create(blueprint.clone()));
    let machine = block(driver.machine(name)).unwrap();
    assert_eq!(machine.state, State::PoweredOff);
    assert_eq!(machine.macs[0].to_string(), "02:00:00:00:00:AB");
    let error = block(driver.operate(name, Operation::Create(blueprint))).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error:?}");

    operate(&driver, name, Operation::Start);
    assert_eq!(state(&driver, name), State::Running);
    let error = block(driver.operate(name, Operation::Start)).unwrap_err();
    assert!(matches!(error, Error::WrongState { .. }), "{error:?}");
    operate(&driver, name, Operation::Pause);
    assert_eq!(state(&driver, name), State::Paused);
    operate(&driver, name, Operation::Resume);
    operate(&driver, name, Operation::Reset);
    let figures = block(driver.performance(name)).unwrap();
    assert!(figures["cpu_s"] > 0.0, "{figures:?}");
    assert_eq!(figures["memory_max_bytes"], 64.0 * 1024.0 * 1024.0);
    let log = daemon.directory.path().join(format!("machines/{name}.log"));
    assert_eq!(block(driver.console(name)).unwrap(), Console::Log(log));

    operate(&driver, name, take("live"));
    operate(&driver, name, Operation::Save);
    assert_eq!(state(&driver, name), State::Saved);
    operate(&driver, name, Operation::Start);
    operate(&driver, name, Operation::RestoreSnapshot { snapshot: None });
    assert_eq!(state(&driver, name), State::Running);
    operate(
        &driver,
        name,
        Operation::DeleteSnapshot {
            snapshot: "live".to_owned(),
        },
    );
    operate(&driver, name, Operation::PowerOff);
    assert_eq!(state(&driver, name), State::PoweredOff);
    operate(&driver, name, Operation::Remove);
    assert_eq!(block(driver.machines()).unwrap(), []);
    let left: Vec<_> = std::fs::read_dir(daemon.directory.path().join("machines"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(std::fs::metadata(image).unwrap().len(), 1 << 20);
}

#[test]
#[ignore = "needs virsh, which `make test-vm` installs"]
fn a_daemon_that_is_not_there_is_a_finding() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none");
    let driver = Libvirt::new(LibvirtSettings {
        helpers: None,
        uri: format!("qemu+unix:///session?socket={}", socket.display()),
        kind: "qemu".to_owned(),
        bridge: None,
        folder: directory.path().to_owned(),
    });
    let findings = block(driver.check()).unwrap();
    assert!(findings[0].ok && !findings[1].ok, "{findings:?}");
    assert!(findings[1].remedy.contains("libvirt_uri"), "{findings:?}");
}
