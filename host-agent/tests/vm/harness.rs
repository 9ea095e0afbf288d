//! Machines for tests: a registry of their own, an agent that drives them, and the guest that `make test-vm` makes.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chirp_client::{Client, ConnectOptions, Method};
use host_agent::hypervisor::qemu::{Qemu, QemuConfig};
use host_agent::hypervisor::{Blueprint, Driver as _, Error, Operation, State};
use rustix::process::{Gid, Uid};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::common::{Agent, NOBODY, Ran, is_root};
use crate::golden::Golden;

/// How long a machine may take for anything: two boot at once on two processors that others use, too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Looks until there is something to see.
#[track_caller]
pub(crate) fn wait_for<T>(what: &dyn Fn() -> String, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain for {}",
            what()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns where the guest is that `make test-vm` makes.
pub(crate) fn guest_image() -> PathBuf {
    std::env::var_os("CHIRP_GUEST_IMAGE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guest/guest-test"),
        PathBuf::from,
    )
}

/// The kernel and the file system that a guest boots.
pub(crate) struct Image {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) host_agent: PathBuf,
    _directory: tempfile::TempDir,
}

impl Image {
    /// Returns copies that an ordinary user can read.
    pub(crate) fn copied() -> Self {
        let made = guest_image();
        let directory = shared_directory();
        let copy = |from: &Path| {
            let to = directory.path().join(from.file_name().unwrap());
            std::fs::copy(from, &to).unwrap_or_else(|error| {
                panic!("{}: {error}; `make test-vm` makes it", from.display())
            });
            to
        };
        Self {
            kernel: copy(&made.join("vmlinuz")),
            initramfs: copy(&made.join("initramfs.cpio")),
            host_agent: copy(Path::new(env!("CARGO_BIN_EXE_host-agent"))),
            _directory: directory,
        }
    }
}

/// Makes a directory that everybody can read, and that the ordinary user can remove.
pub(crate) fn shared_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    directory
}

/// Becomes an ordinary user where this is root: this thread does, and all that it starts from now on.
pub(crate) fn ordinary() {
    if !is_root() {
        return;
    }
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    rustix::thread::set_thread_groups(&[]).unwrap();
    rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
    rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
}

/// A registry of machines with the agent that hears them. Machines that still run are killed at the end.
pub(crate) struct Machines {
    pub(crate) agent: Agent,
    pub(crate) driver: Qemu,
    pub(crate) image: Image,
    golden: Option<Golden>,
    pub(crate) runtime: Runtime,
    registry: tempfile::TempDir,
}

impl Machines {
    /// Starts an agent, as an ordinary user, with a machine to [wake](Self::wake).
    pub(crate) fn new() -> Self {
        let registry = shared_directory();
        let golden = Golden::copied(registry.path());
        Self::within(registry, Some(golden))
    }

    /// Starts an agent, as an ordinary user, for machines that boot.
    pub(crate) fn cold() -> Self {
        Self::within(shared_directory(), None)
    }

    fn within(registry: tempfile::TempDir, golden: Option<Golden>) -> Self {
        let image = Image::copied();
        ordinary();
        // An address of its own, at which it is found again after a restart.
        let [a, b, c, ..] = *uuid::Uuid::new_v4().as_bytes();
        let agent = Agent::start_from(&format!(
            "[EmbeddedBroker]\nlisten_addr = 127.{a}.{b}.{}\n[Host]\nvm_gc_grace = 60\n\
             [Hypervisor]\nhypervisor = qemu\nmachines_path = {}\n",
            c.clamp(1, 254),
            registry.path().join("machines").display()
        ));
        let mut config = QemuConfig::new(registry.path().join("machines"), &image.host_agent);
        config.broker = Some(agent.broker.parse().unwrap());
        Self {
            agent,
            driver: Qemu::new(config),
            image,
            golden,
            runtime: Runtime::new().unwrap(),
            registry,
        }
    }

    /// Returns what a machine of the project's guest is made of.
    pub(crate) fn blueprint(&self) -> Blueprint {
        Blueprint {
            kernel: Some(self.image.kernel.clone()),
            initrd: Some(self.image.initramfs.clone()),
            // Without the second word the kernel only writes a line about the signal by which tests make it panic.
            append: Some("chirp.interval=1 unknown_nmi_panic".to_owned()),
            memory_mib: Some(192),
            ..Blueprint::default()
        }
    }

    /// Does something to a machine.
    pub(crate) fn try_to(&self, name: &str, operation: Operation) -> Result<(), Error> {
        self.runtime.block_on(self.driver.operate(name, operation))
    }

    /// Does something to a machine, which must work.
    #[track_caller]
    pub(crate) fn operate(&self, name: &str, operation: Operation) {
        let shown = format!("{operation:?}");
        self.try_to(name, operation)
            .unwrap_or_else(|error| panic!("{shown}: {error}\n{}", self.told(name)));
    }

    /// Returns the machine's state.
    pub(crate) fn state(&self, name: &str) -> State {
        self.runtime
            .block_on(self.driver.machine(name))
            .unwrap()
            .state
    }

    /// Waits until the machine is in that state.
    #[track_caller]
    pub(crate) fn wait_state(&self, name: &str, state: State) {
        wait_for(
            &|| format!("{name} to be {state}; {}", self.told(name)),
            || (self.state(name) == state).then_some(()),
        );
    }

    /// Makes a machine, starts it, and waits until the agent finds its guest ready.
    #[track_caller]
    pub(crate) fn boot(&self, name: &str) -> Value {
        self.operate(name, Operation::Create(self.blueprint()));
        self.operate(name, Operation::Start);
        self.wait_ready(name)
    }

    /// Makes a machine of the one that was booted and saved before, starts it, and waits until the agent finds its
    /// guest ready, in a run of its own.
    #[track_caller]
    pub(crate) fn wake(&mut self, name: &str) -> Value {
        let golden = self.golden.take().unwrap();
        let before = golden.guest["run"].clone();
        self.adopt(&golden.machine, name);
        // By the agent, which knows the new machine from then on.
        let started = self.agent.run(&["vm", "start", name]);
        assert_eq!(started.code, Some(0), "{started:#?}\n{}", self.told(name));
        wait_for(
            &|| format!("{name} to be ready; {}", self.told(name)),
            || {
                let guest = self.agent.guest(name)?;
                (guest["state"] == "ready" && guest["run"] != before).then_some(guest)
            },
        )
    }

    /// Takes the folder of a machine that was saved elsewhere into the registry.
    fn adopt(&self, machine: &Path, name: &str) {
        let path = machine.join("machine.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut definition: Value = serde_json::from_str(&text).unwrap();
        definition["kernel"] = self.image.kernel.to_str().unwrap().into();
        definition["initrd"] = self.image.initramfs.to_str().unwrap().into();
        std::fs::write(&path, definition.to_string()).unwrap();
        let to = self.folder(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::rename(machine, to).unwrap();
    }

    /// Waits until the agent finds a guest ready.
    #[track_caller]
    pub(crate) fn wait_ready(&self, name: &str) -> Value {
        wait_for(
            &|| format!("{name} to be ready; {}", self.told(name)),
            || {
                let guest = self.agent.guest(name)?;
                (guest["state"] == "ready").then_some(guest)
            },
        )
    }

    /// Runs a program in a guest.
    #[track_caller]
    pub(crate) fn exec(&self, name: &str, script: &str) -> Ran {
        self.agent
            .run(&["exec", "--to", name, "--", "sh", "-c", script])
    }

    /// Connects to a guest where the agent knows it now, and logs in as the agent does.
    #[track_caller]
    pub(crate) fn client(&self, name: &str) -> Client {
        let guest = self.wait_ready(name);
        let address = format!("{}:{}", guest["address"].as_str().unwrap(), guest["port"]);
        let mut options = ConnectOptions::new(address.parse().unwrap());
        options.methods = vec![Method::Address, Method::Hostname];
        options.connect_timeout = PATIENCE;
        self.runtime.block_on(Client::connect(options)).unwrap()
    }

    /// Returns what there is to read about a machine that does not do as it should.
    pub(crate) fn told(&self, name: &str) -> String {
        let folder = self.registry.path().join("machines").join(name);
        let read = |file: &str| {
            let bytes = std::fs::read(folder.join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        format!(
            "the machine's QEMU said: {}\nits console: {}\nthe agent: {}",
            read("qemu.log"),
            read("console.log"),
            self.agent.log()
        )
    }

    /// Returns the folder of a machine.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.registry.path().join("machines").join(name)
    }
}

/// Returns the process of the QEMU of the machine in that folder.
pub(crate) fn pid_of(folder: &Path) -> i32 {
    let text = std::fs::read_to_string(folder.join("run.json")).unwrap();
    let run: Value = serde_json::from_str(&text).unwrap();
    run["pid"].as_i64().unwrap().try_into().unwrap()
}

impl Drop for Machines {
    fn drop(&mut self) {
        let machines = self.runtime.block_on(self.driver.machines());
        for machine in machines.unwrap_or_default() {
            let _ = self.try_to(&machine.name, Operation::PowerOff);
        }
    }
}
