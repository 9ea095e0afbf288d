//! A guest with all contenders in it.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use brokers::process::{Process, free_address};
use tempfile::TempDir;

use crate::ours::Ours;
use crate::rival::Rival;

/// How long anything in a machine may take on a host that others use.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// What the kernel is told, as the driver tells it.
const APPEND: &str = "console=ttyS0 quiet edd=off no_timer_check random.trust_cpu=on mitigations=off nokaslr \
     cryptomgr.notests chirp.name=bench chirp.host=10.0.2.2";

/// A machine. Its power is cut when it goes out of scope.
pub(crate) struct Machine {
    process: Process,
    directory: TempDir,
    chirp: SocketAddr,
    floor: SocketAddr,
}

impl Machine {
    /// Boots one.
    pub(crate) fn start(image: &Path) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (chirp, floor) = (free_address()?, free_address()?);
        let at = |file: &str| image.join(file);
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args([
                "-accel", "tcg", "-machine", "pc", "-cpu", "max", "-smp", "1",
            ])
            .args(["-m", "512", "-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-sandbox", "on", "-serial"])
            .arg(format!("file:{}", log(&directory).display()))
            .arg("-kernel")
            .arg(at("vmlinuz"))
            .arg("-initrd")
            .arg(at("bench.cpio"))
            .args(["-append", APPEND, "-device", "virtio-rng-pci", "-netdev"])
            .arg(format!(
                "user,id=net0,restrict=on,hostfwd=tcp:{chirp}-:9094,hostfwd=tcp:{floor}-:9095"
            ))
            .args(["-device", "virtio-net-pci,netdev=net0,romfile="])
            .args(["-device", "virtio-serial-pci", "-chardev"])
            .arg(format!(
                "socket,id=agent,path={},server=on,wait=off",
                socket(&directory).display()
            ))
            .args([
                "-device",
                "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
            ])
            .stderr(File::create(directory.path().join("qemu.log"))?);
        Ok(Self {
            process: Process::start(&mut command)?,
            directory,
            chirp,
            floor,
        })
    }

    /// Returns where the bare TCP server is.
    pub(crate) fn floor(&self) -> SocketAddr {
        self.floor
    }

    /// Returns our server, once it answers: what is forwarded accepts connections before anybody listens.
    pub(crate) fn ours(&mut self) -> Result<Ours> {
        let address = self.chirp;
        self.wait("our server", || Ours::connect(address))
    }

    /// Returns QEMU's guest agent, once it answers.
    pub(crate) fn rival(&mut self) -> Result<Rival> {
        let socket = socket(&self.directory);
        self.wait("QEMU's guest agent", || Rival::connect(&socket))
    }

    fn wait<T>(&mut self, what: &str, mut look: impl FnMut() -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let error = match look() {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            if Instant::now() > deadline || !self.process.is_running()? {
                let read = |file: PathBuf| std::fs::read_to_string(file).unwrap_or_default();
                bail!(
                    "{what} does not answer: {error:#}\n{}\n{}",
                    read(self.directory.path().join("qemu.log")),
                    read(log(&self.directory)),
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn socket(directory: &TempDir) -> PathBuf {
    directory.path().join("agent.sock")
}

fn log(directory: &TempDir) -> PathBuf {
    directory.path().join("console.log")
}
