//! Guests of the demo that are virtual machines: of QEMU, without KVM and without root.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use host_agent::hypervisor::qemu::{Qemu, QemuConfig};
use host_agent::hypervisor::{Blueprint, Operation};

use super::workspace::Workspace;
use crate::api::client::ApiClient;
use crate::output;

/// How many machines there are: what two processors can do.
pub(super) const MACHINES: usize = 2;

/// How long they have to boot, where others use the processors, too.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(180);

/// Memory of each. Half of it holds files.
const MEMORY_MIB: u32 = 256;

/// The kernel and the file system that the machines boot.
#[derive(Debug)]
pub(super) struct Image {
    kernel: PathBuf,
    initramfs: PathBuf,
}

impl Image {
    /// Finds them in the directory that `make guest-image` fills.
    ///
    /// # Errors
    ///
    /// They are not there.
    pub(super) fn find(directory: &Path) -> anyhow::Result<Self> {
        let file = |name: &str| {
            let file = directory.join(name);
            if !file.is_file() {
                bail!(
                    "there is no {}; `make guest-image` makes it in target/guest/guest",
                    file.display()
                );
            }
            std::path::absolute(&file).with_context(|| format!("cannot find {}", file.display()))
        };
        Ok(Self {
            kernel: file("vmlinuz")?,
            initramfs: file("initramfs.cpio")?,
        })
    }
}

/// The demo's machines.
#[derive(Debug)]
pub(super) struct Fleet {
    driver: Qemu,
    folder: PathBuf,
}

impl Fleet {
    /// Returns a fleet without machines, in the demo's directory.
    pub(super) fn new(workspace: &Workspace) -> Arc<Self> {
        let folder = workspace.path().join("machines");
        // It makes and starts none itself, so that it needs no way to the broker.
        let driver = Qemu::new(QemuConfig::new(&folder, ""));
        Arc::new(Self { driver, folder })
    }

    /// Returns the agent's settings for them.
    pub(super) fn settings(&self) -> String {
        let folder = self.folder.display().to_string().replace('%', "%%");
        format!("[Hypervisor]\nhypervisor = qemu\naccel = tcg\nmachines_path = {folder}\n")
    }

    /// Makes a machine and starts it, through the agent.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub(super) async fn boot(
        self: &Arc<Self>,
        client: &ApiClient,
        image: &Image,
        name: &str,
    ) -> anyhow::Result<DemoMachine> {
        let blueprint = Blueprint {
            kernel: Some(image.kernel.clone()),
            initrd: Some(image.initramfs.clone()),
            append: Some("chirp.interval=1".to_owned()),
            memory_mib: Some(MEMORY_MIB),
            ..Blueprint::default()
        };
        client.operate(name, Operation::Create(blueprint)).await?;
        client.operate(name, Operation::Start).await?;
        output::note(&format!(
            "demo: the machine {name} boots, by QEMU without KVM"
        ));
        Ok(DemoMachine {
            name: name.to_owned(),
            client: client.clone(),
            fleet: Arc::clone(self),
            dead: AtomicBool::new(false),
        })
    }

    /// Returns the file with what a machine's console said.
    pub(super) fn console(&self, name: &str) -> PathBuf {
        self.folder.join(name).join("console.log")
    }

    /// Ends those that still run: the agent that started them may have been killed before.
    pub(super) fn end(&self) {
        // On the way out there is nobody to tell.
        let _ = self.driver.crash_all();
    }
}

/// One machine.
#[derive(Debug)]
pub(super) struct DemoMachine {
    name: String,
    client: ApiClient,
    fleet: Arc<Fleet>,
    dead: AtomicBool,
}

impl DemoMachine {
    /// Kills its QEMU with SIGKILL. Returns the process that it was.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(super) fn kill(&self) -> anyhow::Result<u32> {
        self.dead.store(true, Ordering::SeqCst);
        let process = self.fleet.driver.crash(&self.name)?;
        let process = process.context("its QEMU does not run")?;
        Ok(u32::try_from(process)?)
    }

    /// Returns whether it was killed or stopped.
    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Presses its power button, if it was not killed.
    pub(super) async fn press(&self) {
        if !self.dead.swap(true, Ordering::SeqCst) {
            // It is ended all the same if it does not hear that.
            let _ = self.client.operate(&self.name, Operation::Shutdown).await;
        }
    }

    /// Removes it, whatever state it is in.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub(super) async fn remove(&self) -> anyhow::Result<()> {
        // Most are off already.
        let _ = self.client.operate(&self.name, Operation::PowerOff).await;
        self.client.operate(&self.name, Operation::Remove).await?;
        Ok(())
    }
}
