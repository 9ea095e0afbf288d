//! The driver `qemu`: a QEMU process for each machine, spoken to by its monitor (`virtual-machines.md` part 2).
//!
//! * `config`: settings
//! * `folder`: the registry of machines on disk, with its locks
//! * `arguments`: QEMU's command line
//! * `process`: starting, finding and killing QEMU
//! * `qmp`: the monitor's words, without input and output; `monitor`: a session with it
//! * `status`: QEMU's words for states
//! * `snapshots`: snapshots and saved machines, both inside the machine's disk
//! * `kvm`: whether KVM boots a machine here
//! * `tap`: the device that joins a machine to a bridge
//!
//! Everything about a machine is in its folder, so that agents come and go while it runs, several programs can
//! work with the same machines, and two of them never start one twice.

mod arguments;
pub mod config;
mod folder;
mod kvm;
mod monitor;
mod process;
mod qmp;
mod snapshots;
mod status;
mod tap;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use beacon::MacId;
use serde_json::Value;
use tokio::time::Instant;

pub use config::{Accel, Network, QemuConfig};

use self::folder::{Definition, Folder, Link, Run};
use self::monitor::{Monitor, Trouble};
use self::snapshots::Notes;
use super::machine::{
    Console, Finding, Machine, Performance, Snapshot, State, find, find_snapshot,
};
use super::operation::{Blueprint, Operation};
use super::tool::Tool;
use super::{Answer, Driver, Error};

/// What to do where QEMU is not there.
const REMEDY: &str = "install QEMU (on Debian: apt-get install qemu-system-x86 qemu-utils), or set \
                      Hypervisor.hypervisor_helpers_path to its directory";

/// How long QEMU may take to end after it was told to.
const QUIT_WITHIN: Duration = Duration::from_secs(10);

/// How long one who only looks waits for the monitor: a frozen QEMU must not hold up the list of all.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// How often it is looked whether QEMU has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Ports that are tried at a start: one that was free may be taken when QEMU wants it.
const PORTS_TRIED: usize = 5;

/// Bytes of a console's log from which on it is begun anew, with the old one kept beside it.
const CONSOLE_MAX: u64 = 4 * 1024 * 1024;

/// The file that names the snapshot a saved machine goes on from.
const SAVED: &str = "saved";

/// The file that names the QEMU of a machine.
const RUN: &str = "run.json";

/// The driver. See the module.
#[derive(Debug, Clone)]
pub struct Qemu {
    config: QemuConfig,
    qemu: Tool,
    qemu_img: Tool,
    /// Set once KVM has booted a kernel here.
    kvm_boots: Arc<OnceLock<()>>,
}

impl Qemu {
    /// Returns the driver with these settings. Nothing is looked at yet.
    #[must_use]
    pub fn new(config: QemuConfig) -> Self {
        let helpers = config.helpers.as_deref();
        let emulator = format!("qemu-system-{}", std::env::consts::ARCH);
        Self {
            qemu: Tool::new(&emulator, helpers, REMEDY),
            qemu_img: Tool::new("qemu-img", helpers, REMEDY),
            kvm_boots: Arc::default(),
            config,
        }
    }

    /// Kills a machine's QEMU, as a crash of it would: without asking it, and whatever is being done to the machine.
    /// Waits some seconds for its end, and returns its process; nothing where none runs.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchMachine`], or its folder cannot be read.
    pub fn crash(&self, machine: &str) -> Result<Option<i32>, Error> {
        crash(&self.find(machine)?)
    }

    /// Does that to every machine.
    ///
    /// # Errors
    ///
    /// The first that was met; the others are killed all the same.
    pub fn crash_all(&self) -> Result<(), Error> {
        let mut done = Ok(());
        for folder in Folder::all(&self.config.folder)? {
            let crashed = crash(&folder).map(drop);
            done = done.and(crashed);
        }
        done
    }

    async fn list(&self) -> Result<Vec<Machine>, Error> {
        let mut all = Vec::new();
        for folder in Folder::all(&self.config.folder)? {
            match self.look(&folder).await {
                Ok(machine) => all.push(machine),
                // Removed meanwhile.
                Err(Error::NoSuchMachine { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Returns the folder of the machine with that name or uuid.
    fn find(&self, text: &str) -> Result<Folder, Error> {
        let registry = &self.config.folder;
        match Folder::of(registry, text) {
            Err(Error::NoSuchMachine { .. }) if uuid::Uuid::parse_str(text).is_ok() => {
                let mut machines = Vec::new();
                for folder in Folder::all(registry)? {
                    let definition = folder.definition()?;
                    machines.push(Machine {
                        name: folder.name,
                        uuid: Some(definition.uuid),
                        state: State::Unknown,
                        macs: Vec::new(),
                        forwarded: None,
                    });
                }
                Folder::of(registry, &find(machines, text)?.name)
            }
            found => found,
        }
    }

    /// Returns a machine as it is now.
    async fn look(&self, folder: &Folder) -> Result<Machine, Error> {
        let definition = folder.definition()?;
        let state = match folder.look().await? {
            Ok(_lock) => {
                trim_console(folder);
                state_of(folder).await?
            }
            Err(work) => work.state.unwrap_or(State::Unknown),
        };
        Ok(Machine {
            name: folder.name.clone(),
            uuid: Some(definition.uuid),
            state,
            macs: vec![definition.mac],
            forwarded: match definition.link {
                Link::User { port } => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
                Link::Tap { .. } => None,
            },
        })
    }

    async fn work(&self, machine: &str, operation: Operation) -> Result<(), Error> {
        operation.check(machine)?;
        if let Operation::Create(blueprint) = operation {
            return self.create(machine, &blueprint).await;
        }
        let folder = self.find(machine)?;
        let _lock = folder.work(&operation).await?;
        let state = state_of(&folder).await?;
        let wrong = || {
            Err(Error::WrongState {
                machine: folder.name.clone(),
                operation: operation.name().to_owned(),
                state,
            })
        };
        let runs = matches!(state, State::Running | State::Paused | State::Stuck);
        let here = Work {
            driver: self,
            folder: &folder,
            what: format!("{} of machine {:?}", operation.name(), folder.name),
        };
        match (operation.clone(), state) {
            (Operation::Start, state) if state.is_off() => here.start(state, Begin::Running).await,
            (Operation::Shutdown, State::Running) => here.tell("system_powerdown").await,
            // A machine whose monitor is silent is killed whatever it is.
            (Operation::PowerOff, state) if !state.is_off() => here.power_off().await,
            (Operation::Reset, State::Running) => here.tell("system_reset").await,
            (Operation::Reset, State::Paused) => {
                let mut monitor = here.monitor().await?;
                here.say(&mut monitor, "system_reset").await?;
                here.say(&mut monitor, "cont").await
            }
            // What gave up is not trusted to begin anew.
            (Operation::Reset, State::Stuck) => {
                here.power_off().await?;
                here.start(State::PoweredOff, Begin::Running).await
            }
            (Operation::Pause, State::Running) => here.tell("stop").await,
            (Operation::Resume, State::Paused) => here.tell("cont").await,
            (Operation::Save, State::Running | State::Paused) => here.save(state).await,
            (Operation::Discard, State::Saved) => here.discard().await,
            (
                Operation::TakeSnapshot {
                    snapshot,
                    description,
                },
                state,
            ) if state != State::Saved && (runs || state.is_off()) => {
                here.take(&snapshot, &description, runs).await
            }
            (Operation::RestoreSnapshot { snapshot }, state) if runs || state.is_off() => {
                here.restore(snapshot.as_deref(), state).await
            }
            (Operation::DeleteSnapshot { snapshot }, state) if runs || state.is_off() => {
                here.delete(&snapshot, runs).await
            }
            (Operation::Remove, state) if state.is_off() => folder.remove(),
            _ => wrong(),
        }
    }

    async fn create(&self, name: &str, blueprint: &Blueprint) -> Result<(), Error> {
        let bad = |what: &str, reason: &str| {
            Err(Error::BadArgument {
                what: what.to_owned(),
                reason: reason.to_owned(),
            })
        };
        if name.starts_with('.') {
            return Err(Error::BadName {
                what: "machine",
                name: name.to_owned(),
                why: "starts with a dot, as the driver's own folders do",
            });
        }
        if blueprint.image.is_none() && blueprint.kernel.is_none() {
            return bad(
                "a machine of nothing",
                "name a disk image, or a kernel and its initial file system",
            );
        }
        let memory_mib = blueprint.memory_mib.unwrap_or(self.config.memory_mib);
        if !(32..=1024 * 1024).contains(&memory_mib) {
            return bad("its memory", "between 32 MiB and 1 TiB can be had");
        }
        let cpus = blueprint.cpus.unwrap_or(1);
        if !(1..=255).contains(&cpus) {
            return bad("its processors", "between 1 and 255 can be had");
        }
        let mac = blueprint.mac.map_or_else(new_mac, Ok)?;
        if mac.bytes().first().is_none_or(|first| first & 1 != 0) || mac.is_zero() {
            return bad("its MAC address", "it is a group's, or nobody's");
        }
        for other in self.list().await? {
            if other.macs.contains(&mac) {
                return Err(Error::Exists {
                    what: format!("the MAC address {mac} of machine {:?}", other.name),
                });
            }
        }
        let mut definition = Definition {
            version: 1,
            uuid: uuid::Uuid::new_v4().to_string(),
            mac,
            memory_mib,
            cpus,
            boots_disk: blueprint.image.is_some(),
            kernel: None,
            initrd: None,
            append: blueprint.append.clone(),
            link: match &self.config.network {
                Network::User => Link::User { port: free_port()? },
                Network::Bridge(bridge) => Link::Tap {
                    tap: tap_name(mac),
                    bridge: bridge.clone(),
                },
            },
        };
        // QEMU runs in a folder of its own: what it is told must mean the same there.
        let absolute = |path: &Option<PathBuf>| path.as_deref().map(existing).transpose();
        definition.kernel = absolute(&blueprint.kernel)?;
        definition.initrd = absolute(&blueprint.initrd)?;
        let image = absolute(&blueprint.image)?;
        let fill = async move |folder: &Folder| {
            self.make_disk(folder, image.as_deref()).await?;
            Ok(definition)
        };
        Folder::make(&self.config.folder, name, fill).await
    }

    /// Makes a machine's disk: on top of an image, or empty and only for snapshots.
    async fn make_disk(&self, folder: &Folder, image: Option<&Path>) -> Result<(), Error> {
        let limit = Duration::from_secs(120);
        let what = || format!("making the disk of machine {:?}", folder.name);
        let mut arguments: Vec<std::ffi::OsString> =
            ["create", "-q", "-f", "qcow2"].map(Into::into).into();
        let disk = folder.file(folder::DISK);
        let Some(image) = image else {
            arguments.extend([disk.into(), "1M".into()]);
            return done(what(), self.qemu_img.run(arguments, limit).await?);
        };
        // Never guessed by QEMU: a guest that writes a header into a raw disk would choose for itself.
        let info = ["info", "--output=json"].map(std::ffi::OsString::from);
        let info = info.into_iter().chain([image.into()]);
        let info = self.qemu_img.run(info, limit).await?;
        let format = serde_json::from_str::<Value>(&info.out)
            .ok()
            .filter(|_| info.code == 0)
            .and_then(|info| info.get("format")?.as_str().map(str::to_owned));
        let Some(format) = format else {
            return Err(Error::BadArgument {
                what: format!("the image {}", image.display()),
                reason: info.said(),
            });
        };
        arguments.extend([
            "-F".into(),
            format.into(),
            "-b".into(),
            image.into(),
            disk.into(),
        ]);
        done(what(), self.qemu_img.run(arguments, limit).await?)
    }

    async fn snapshots_of(&self, machine: &str) -> Result<Vec<Snapshot>, Error> {
        let folder = self.find(machine)?;
        let _lock = looked(&folder).await?;
        let here = Work {
            driver: self,
            folder: &folder,
            what: format!("snapshots of machine {:?}", folder.name),
        };
        let tags = here.tags(folder.is_alive()?).await?;
        Ok(Notes::read(&folder)?.describe(tags))
    }

    async fn measure(&self, machine: &str) -> Result<Performance, Error> {
        let folder = self.find(machine)?;
        let definition = folder.definition()?;
        let _lock = looked(&folder).await?;
        let mut figures = Performance::new();
        let mut figure = |name: &str, value: f64| figures.insert(name.to_owned(), value);
        figure("cpus", definition.cpus.into());
        figure(
            "memory_max_bytes",
            f64::from(definition.memory_mib) * 1024.0 * 1024.0,
        );
        if !folder.is_alive()? {
            return Ok(figures);
        }
        if let Some(run) = folder.read::<Run>(RUN)?
            && let Some((cpu_s, memory)) = process::usage(&run)
        {
            figure("cpu_s", cpu_s);
            figure("memory_bytes", memory);
        }
        if let Link::Tap { tap, .. } = &definition.link
            && let Some((received, sent)) = tap::traffic(tap)
        {
            figure("net_rx_bytes", received);
            figure("net_tx_bytes", sent);
        }
        let what = format!("figures of machine {:?}", folder.name);
        let mut monitor = Monitor::open(&folder.path, LOOK_WITHIN)
            .await
            .map_err(|trouble| trouble.of(what.clone()))?;
        let blocks = monitor
            .execute("query-blockstats", Value::Null)
            .await
            .map_err(|trouble| trouble.of(what))?;
        for block in blocks.as_array().into_iter().flatten() {
            if block.get("node-name").and_then(Value::as_str) != Some("disk0") {
                continue;
            }
            for (name, key) in [
                ("disk_read_bytes", "/stats/rd_bytes"),
                ("disk_write_bytes", "/stats/wr_bytes"),
            ] {
                if let Some(bytes) = block.pointer(key).and_then(Value::as_f64) {
                    figure(name, bytes);
                }
            }
        }
        Ok(figures)
    }

    async fn findings(&self) -> Result<Vec<Finding>, Error> {
        let mut findings = Vec::new();
        for tool in [&self.qemu, &self.qemu_img] {
            let program = tool.program().display().to_string();
            findings.push(
                match tool.run(["--version"], Duration::from_secs(20)).await {
                    Ok(output) if output.code == 0 => {
                        let version = output.out.lines().next().unwrap_or_default();
                        Finding::good(format!("{program}: {version}"))
                    }
                    Ok(output) => Finding::bad(format!("{program}: {}", output.said()), REMEDY),
                    Err(error) => Finding::bad(error.to_string(), REMEDY),
                },
            );
        }
        let folder = self.config.folder.display();
        findings.push(match Folder::all(&self.config.folder) {
            Ok(machines) => Finding::good(format!("{} machines in {folder}", machines.len())),
            Err(error) => Finding::bad(error.to_string(), "name a folder that this user may read"),
        });
        if let Network::Bridge(bridge) = &self.config.network {
            findings.extend(tap::findings(bridge).await);
        }
        if self.config.accel == Accel::Kvm {
            findings.push(self.kvm_finding().await?);
        }
        Ok(findings)
    }

    /// Tries KVM with a kernel of the registry's, or the host's own.
    async fn kvm_finding(&self) -> Result<Finding, Error> {
        let wanted = self.config.accel == Accel::Kvm;
        let mut kernels = Vec::new();
        for folder in Folder::all(&self.config.folder)? {
            kernels.extend(folder.definition()?.kernel);
        }
        Ok(match kvm::kernel(kernels) {
            Some(kernel) => kvm::probe(&self.qemu, &kernel).await?.finding(wanted),
            None if wanted => Finding::bad(
                "KVM: not tried, for want of a kernel to boot",
                "make a machine with a kernel of its own (vm create --kernel), and check again",
            ),
            None => Finding::good(
                "KVM: not tried, for want of a kernel to boot; a machine with one (vm create --kernel) would do",
            ),
        })
    }

    /// Looks, before a machine is started that is to have KVM, whether KVM boots its kernel, or the host's.
    async fn prove_kvm(&self, machine: &Definition, what: &str) -> Result<(), Error> {
        if self.config.accel != Accel::Kvm || self.kvm_boots.get().is_some() {
            return Ok(());
        }
        // A machine that boots from its disk may be the first, and there is nothing to try it with.
        let Some(kernel) = kvm::kernel(machine.kernel.clone()) else {
            return Ok(());
        };
        match kvm::probe(&self.qemu, &kernel).await? {
            kvm::Verdict::Boots(_) => {
                // Another start may have been sooner.
                let _ = self.kvm_boots.set(());
                Ok(())
            }
            kvm::Verdict::Fails(why) => Err(Error::Failed {
                what: what.to_owned(),
                said: format!("KVM: {why}; {}", kvm::REMEDY),
            }),
        }
    }
}

impl Driver for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn check(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(self.findings())
    }

    fn try_out(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(async {
            if self.config.accel == Accel::Kvm {
                return Ok(Vec::new());
            }
            Ok(vec![self.kvm_finding().await?])
        })
    }

    fn machines(&self) -> Answer<'_, Vec<Machine>> {
        Box::pin(self.list())
    }

    fn machine<'a>(&'a self, machine: &'a str) -> Answer<'a, Machine> {
        Box::pin(async move { self.look(&self.find(machine)?).await })
    }

    fn operate<'a>(&'a self, machine: &'a str, operation: Operation) -> Answer<'a, ()> {
        Box::pin(self.work(machine, operation))
    }

    fn snapshots<'a>(&'a self, machine: &'a str) -> Answer<'a, Vec<Snapshot>> {
        Box::pin(self.snapshots_of(machine))
    }

    fn performance<'a>(&'a self, machine: &'a str) -> Answer<'a, Performance> {
        Box::pin(self.measure(machine))
    }

    fn console<'a>(&'a self, machine: &'a str) -> Answer<'a, Console> {
        Box::pin(async move { Ok(Console::Log(self.find(machine)?.file(folder::CONSOLE))) })
    }
}

/// What a machine's processors do when its QEMU is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// They run.
    Running,
    /// They wait for a `resume`.
    Paused,
}

/// Something that is done to a machine whose lock is held.
#[derive(Debug)]
struct Work<'a> {
    driver: &'a Qemu,
    folder: &'a Folder,
    /// What errors call it.
    what: String,
}

impl Work<'_> {
    async fn start(&self, state: State, begin: Begin) -> Result<(), Error> {
        let load: Option<String> = self.folder.read(SAVED)?;
        let load = load.filter(|_| state == State::Saved);
        let definition = self.folder.definition()?;
        self.driver.prove_kvm(&definition, &self.what).await?;
        let joined = match &definition.link {
            Link::Tap { tap, bridge } => tap::prepare(tap, bridge).await?,
            Link::User { .. } => true,
        };
        let mut tries = 0;
        let (mut monitor, run) = loop {
            let definition = self.choose_port(tries > 0)?;
            let config = &self.driver.config;
            let line = arguments::arguments(
                &self.folder.name,
                &definition,
                config,
                load.as_deref(),
                begin,
            )?;
            let Some(life) = self.folder.life().await? else {
                return Err(Error::Failed {
                    what: self.what.clone(),
                    said: "another QEMU runs it".to_owned(),
                });
            };
            let program = self.driver.qemu.program();
            let started = process::start(self.folder, program, line, life)?;
            let run = started.run.clone();
            if let Err(error) = self.folder.write(RUN, &run) {
                // Nobody would find it again.
                process::kill(&run);
                self.gone(Instant::now() + QUIT_WITHIN).await?;
                return Err(error);
            }
            tries += 1;
            match started.monitor(self.folder).await {
                Ok(monitor) => break (monitor, run),
                Err(Error::Failed { said, .. })
                    if said.contains("host forwarding") && tries < PORTS_TRIED => {}
                Err(error) => {
                    self.gone(Instant::now() + QUIT_WITHIN).await?;
                    self.folder.clear(RUN)?;
                    return Err(error);
                }
            }
        };
        if let Err(error) = self.settle(&mut monitor, load.as_deref(), joined).await {
            process::kill(&run);
            self.gone(Instant::now() + QUIT_WITHIN).await?;
            self.folder.clear(RUN)?;
            return Err(error);
        }
        Ok(())
    }

    /// Does what is left to do when QEMU runs.
    async fn settle(
        &self,
        monitor: &mut Monitor,
        load: Option<&str>,
        joined: bool,
    ) -> Result<(), Error> {
        if let Link::Tap { tap, bridge } = &self.folder.definition()?.link
            && !joined
        {
            tap::attach(tap, bridge).await?;
        }
        if let Some(load) = load {
            self.folder.clear(SAVED)?;
            if load == snapshots::SAVED {
                let deleted = snapshots::delete(monitor, load).await;
                deleted.map_err(|trouble| trouble.of(self.what.clone()))?;
            }
        }
        Ok(())
    }

    /// Returns the definition with a port that nobody has now, the machine's own where that can be.
    fn choose_port(&self, another: bool) -> Result<Definition, Error> {
        let mut definition = self.folder.definition()?;
        if let Link::User { port } = &mut definition.link
            && (another || TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_err())
        {
            *port = free_port()?;
            self.folder.write("machine.json", &definition)?;
        }
        Ok(definition)
    }

    async fn power_off(&self) -> Result<(), Error> {
        let told = match Monitor::open(&self.folder.path, LOOK_WITHIN).await {
            // It may close the connection before it answers.
            Ok(mut monitor) => monitor.execute("quit", Value::Null).await.map(drop),
            Err(trouble) => Err(trouble),
        };
        let patience = match told {
            Err(Trouble::Silent(_)) => Duration::ZERO,
            _ => QUIT_WITHIN,
        };
        if !self.gone(Instant::now() + patience).await? {
            if let Some(run) = self.folder.read::<Run>(RUN)? {
                process::kill(&run);
            }
            if !self.gone(Instant::now() + QUIT_WITHIN).await? {
                return Err(Error::TimedOut {
                    what: self.what.clone(),
                    limit: QUIT_WITHIN,
                });
            }
        }
        self.folder.clear(RUN)
    }

    /// Waits until QEMU has ended; false where it has not by then.
    async fn gone(&self, deadline: Instant) -> Result<bool, Error> {
        while self.folder.is_alive()? {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(true)
    }

    async fn monitor(&self) -> Result<Monitor, Error> {
        Monitor::open(&self.folder.path, LOOK_WITHIN)
            .await
            .map_err(|trouble| trouble.of(self.what.clone()))
    }

    async fn say(&self, monitor: &mut Monitor, command: &str) -> Result<(), Error> {
        let said = monitor.execute(command, Value::Null).await;
        said.map(drop)
            .map_err(|trouble| trouble.of(self.what.clone()))
    }

    async fn tell(&self, command: &str) -> Result<(), Error> {
        let mut monitor = self.monitor().await?;
        self.say(&mut monitor, command).await
    }

    async fn tags(&self, runs: bool) -> Result<Vec<snapshots::Tag>, Error> {
        if !runs {
            return snapshots::kept(&self.driver.qemu_img, self.folder).await;
        }
        let mut monitor = self.monitor().await?;
        let tags = snapshots::live(&mut monitor).await;
        tags.map_err(|trouble| trouble.of(self.what.clone()))
    }

    async fn save(&self, state: State) -> Result<(), Error> {
        let mut monitor = self.monitor().await?;
        if state == State::Running {
            self.say(&mut monitor, "stop").await?;
        }
        if let Err(trouble) = snapshots::save(&mut monitor, snapshots::SAVED).await {
            if state == State::Running {
                self.say(&mut monitor, "cont").await?;
            }
            return Err(self.unsaved(trouble));
        }
        if let Err(error) = self.folder.write(SAVED, &snapshots::SAVED) {
            let undone = snapshots::delete(&mut monitor, snapshots::SAVED).await;
            if state == State::Running {
                self.say(&mut monitor, "cont").await?;
            }
            undone.map_err(|trouble| trouble.of(self.what.clone()))?;
            return Err(error);
        }
        drop(monitor);
        self.power_off().await
    }

    async fn discard(&self) -> Result<(), Error> {
        let load: Option<String> = self.folder.read(SAVED)?;
        self.folder.clear(SAVED)?;
        if load.as_deref() == Some(snapshots::SAVED) {
            let tool = &self.driver.qemu_img;
            snapshots::change(tool, self.folder, "-d", snapshots::SAVED).await?;
        }
        Ok(())
    }

    async fn take(&self, name: &str, description: &str, runs: bool) -> Result<(), Error> {
        snapshots::check(&self.tags(runs).await?, name, description)?;
        let mut notes = Notes::read(self.folder)?;
        if runs {
            let mut monitor = self.monitor().await?;
            snapshots::save(&mut monitor, name)
                .await
                .map_err(|trouble| self.unsaved(trouble))?;
        } else {
            snapshots::change(&self.driver.qemu_img, self.folder, "-c", name).await?;
        }
        notes.taken(name, description);
        if let Err(error) = notes.write(self.folder) {
            // Nothing is left of one that was not taken.
            self.forget(name, runs).await?;
            return Err(error);
        }
        Ok(())
    }

    /// Returns the error of a memory that was not written. QEMU speaks of input and output where there is no room.
    fn unsaved(&self, trouble: Trouble) -> Error {
        let error = trouble.of(self.what.clone());
        let memory = self
            .folder
            .definition()
            .map(|machine| u64::from(machine.memory_mib));
        let free = rustix::fs::statvfs(&self.folder.path)
            .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) / (1024 * 1024));
        match (error, memory, free) {
            (Error::Failed { what, said }, Ok(memory), Ok(free)) if free < memory => {
                Error::Failed {
                    what,
                    said: format!(
                        "{said}; {free} MiB are free in {}, and up to {memory} MiB of memory are to be written: make room \
                     there",
                        self.folder.path.display()
                    ),
                }
            }
            (error, _, _) => error,
        }
    }

    /// Deletes a snapshot from the disk.
    async fn forget(&self, name: &str, runs: bool) -> Result<(), Error> {
        if !runs {
            return snapshots::change(&self.driver.qemu_img, self.folder, "-d", name).await;
        }
        let mut monitor = self.monitor().await?;
        let deleted = snapshots::delete(&mut monitor, name).await;
        deleted.map_err(|trouble| trouble.of(self.what.clone()))
    }

    async fn restore(&self, name: Option<&str>, state: State) -> Result<(), Error> {
        let runs = !state.is_off();
        let tags = self.tags(runs).await?;
        let mut notes = Notes::read(self.folder)?;
        let chosen = find_snapshot(&self.folder.name, notes.describe(tags.clone()), name)?;
        let memory = tags.iter().any(|tag| tag.name == chosen.name && tag.memory);
        if !runs {
            if state == State::Saved {
                self.discard().await?;
            }
            snapshots::change(&self.driver.qemu_img, self.folder, "-a", &chosen.name).await?;
            if memory {
                self.folder.write(SAVED, &chosen.name)?;
            }
            self.folder.clear(RUN)?;
        } else if memory {
            // By another QEMU: connections into the machine end at once and not when somebody sends something, the
            // guest gets another generation id, and none is left half loaded.
            // Written first: a machine must not be off and nothing be known of where it was to go on.
            self.folder.write(SAVED, &chosen.name)?;
            self.power_off().await?;
            let begin = if state == State::Paused {
                Begin::Paused
            } else {
                Begin::Running
            };
            self.start(State::Saved, begin).await?;
        } else {
            return Err(Error::BadArgument {
                what: format!("snapshot {:?} of machine {:?}", chosen.name, self.folder.name),
                reason: "it was taken while the machine was off and holds no memory: power the machine off first"
                    .to_owned(),
            });
        }
        notes.current = Some(chosen.name);
        notes.write(self.folder)
    }

    async fn delete(&self, name: &str, runs: bool) -> Result<(), Error> {
        let mut notes = Notes::read(self.folder)?;
        let tags = self.tags(runs).await?;
        let name = find_snapshot(&self.folder.name, notes.describe(tags), Some(name))?.name;
        if self.folder.read::<String>(SAVED)?.as_ref() == Some(&name) {
            return Err(Error::BadArgument {
                what: format!("snapshot {name:?} of machine {:?}", self.folder.name),
                reason:
                    "the machine goes on from it at its next start: discard the saved state first"
                        .to_owned(),
            });
        }
        self.forget(&name, runs).await?;
        notes.deleted(&name);
        notes.write(self.folder)
    }
}

/// Returns the state of a machine whose lock is held. A QEMU whose guest has turned itself off is ended.
async fn state_of(folder: &Folder) -> Result<State, Error> {
    if !folder.is_alive()? {
        return Ok(if folder.file(SAVED).exists() {
            State::Saved
        } else if folder.file(RUN).exists() {
            State::Aborted
        } else {
            State::PoweredOff
        });
    }
    let asked = async {
        let mut monitor = Monitor::open(&folder.path, LOOK_WITHIN).await?;
        let status = monitor.execute("query-status", Value::Null).await?;
        let state = status
            .get("status")
            .and_then(Value::as_str)
            .map_or(State::Unknown, status::state);
        if state == State::PoweredOff {
            monitor.execute("quit", Value::Null).await.map(drop)?;
        }
        Ok::<_, Trouble>(state)
    };
    match asked.await {
        Ok(State::PoweredOff) => {
            let deadline = Instant::now() + QUIT_WITHIN;
            while folder.is_alive()? && Instant::now() < deadline {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            folder.clear(RUN)?;
            Ok(State::PoweredOff)
        }
        Ok(state) => Ok(state),
        // It has ended since.
        Err(_) if !folder.is_alive()? => Ok(State::Aborted),
        Err(trouble) => {
            tracing::warn!(machine = folder.name, %trouble, "a machine's state is not known");
            Ok(State::Unknown)
        }
    }
}

/// Kills the QEMU of the machine in that folder.
fn crash(folder: &Folder) -> Result<Option<i32>, Error> {
    let run: Option<Run> = folder.read(RUN)?;
    let Some(run) = run.filter(|_| folder.is_alive().unwrap_or(true)) else {
        return Ok(None);
    };
    process::kill(&run);
    let deadline = Instant::now() + QUIT_WITHIN;
    while folder.is_alive()? && Instant::now() < deadline {
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(Some(run.pid))
}

/// Takes a machine's lock to look at it.
async fn looked(folder: &Folder) -> Result<folder::Lock, Error> {
    folder.look().await?.map_err(|work| Error::Busy {
        machine: folder.name.clone(),
        operation: work.operation,
    })
}

/// Begins a console's log anew when it is long: a guest may write there for ever.
fn trim_console(folder: &Folder) {
    let path = folder.file(folder::CONSOLE);
    let long = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > CONSOLE_MAX);
    // QEMU appends to the file that it has open, so that one is copied and emptied.
    if long
        && std::fs::copy(&path, folder.file("console.log.old")).is_ok()
        && let Ok(file) = std::fs::File::options().write(true).open(&path)
    {
        let _ = file.set_len(0);
    }
}

/// Returns the name of a machine's tap device: its card's own part of the address.
fn tap_name(mac: MacId) -> String {
    let [_, _, _, a, b, c] = mac.bytes();
    format!("vm-{a:02x}{b:02x}{c:02x}")
}

/// Returns a card's address that nobody sells: locally administered, and of one card.
fn new_mac() -> Result<MacId, Error> {
    let id = uuid::Uuid::new_v4();
    let &[a, b, c, d, e, ..] = id.as_bytes();
    Ok(MacId::new([0x02, a, b, c, d, e]))
}

fn free_port() -> Result<u16, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Error::Failed {
            what: "looking for a free port on loopback".to_owned(),
            said: error.to_string(),
        })
}

/// Returns the absolute path of a file that QEMU is to read.
fn existing(path: &Path) -> Result<PathBuf, Error> {
    let bad = |error: std::io::Error| Error::BadArgument {
        what: path.display().to_string(),
        reason: error.to_string(),
    };
    std::fs::File::open(path).map_err(bad)?;
    std::path::absolute(path).map_err(bad)
}

fn done(what: String, output: super::tool::Output) -> Result<(), Error> {
    if output.code == 0 {
        return Ok(());
    }
    Err(Error::Failed {
        what,
        said: output.said(),
    })
}
