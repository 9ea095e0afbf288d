//! An agent that drives QEMU, and the commands that talk to it.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use brokers::process::{Process, free_address};
use tempfile::TempDir;

use crate::machine::PATIENCE;

/// An agent. Machines that still run have their power cut at its end.
pub(crate) struct Agent {
    pub(crate) process: Process,
    directory: TempDir,
    pub(crate) broker: String,
    machines: Vec<String>,
}

impl Agent {
    /// Starts one with a broker of its own and a folder of machines.
    pub(crate) fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let broker = free_address()?;
        let settings = format!(
            "[EmbeddedBroker]\nlisten_addr = {}\nlisten_port = {}\n[Hypervisor]\nhypervisor = qemu\n\
             machines_path = {}\n[Host]\naccept_unknown_guests = yes\nvm_gc_grace = 60\n",
            broker.ip(),
            broker.port(),
            directory.path().join("machines").display()
        );
        let file = directory.path().join("agent.ini");
        std::fs::write(&file, settings)?;
        let socket = directory.path().join("agent.sock");
        let mut command = Command::new(program("host-agent")?);
        command
            .args(["serve", "--config"])
            .arg(file)
            .arg("--socket")
            .arg(&socket)
            .stderr(File::create(directory.path().join("agent.log"))?);
        let agent = Self {
            process: Process::start(&mut command)?,
            directory,
            broker: broker.to_string(),
            machines: Vec::new(),
        };
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(&socket).is_err() {
            ensure!(
                Instant::now() < deadline,
                "no agent: {}",
                std::fs::read_to_string(agent.directory.path().join("agent.log"))?
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(agent)
    }

    /// Makes a machine of the project's guest.
    pub(crate) fn create(&mut self, image: &Path, name: &str) -> Result<()> {
        let (kernel, initrd) = (image.join("vmlinuz"), image.join("initramfs.cpio"));
        let of =
            |path: &Path| Ok::<_, anyhow::Error>(std::path::absolute(path)?.display().to_string());
        let (kernel, initrd) = (of(&kernel)?, of(&initrd)?);
        let made = [
            "vm", "create", name, "--kernel", &kernel, "--initrd", &initrd, "--memory", "192",
        ];
        self.run(&made)?;
        self.machines.push(name.to_owned());
        Ok(())
    }

    /// Runs a command; returns how long it took.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Duration> {
        let begun = Instant::now();
        let ran = self.output(arguments)?;
        let took = begun.elapsed();
        if !ran.status.success() {
            bail!(
                "host-agent {}: {}{}",
                arguments.join(" "),
                String::from_utf8_lossy(&ran.stdout),
                String::from_utf8_lossy(&ran.stderr)
            );
        }
        Ok(took)
    }

    fn output(&self, arguments: &[&str]) -> Result<Output> {
        let (name, rest) = arguments.split_first().context("no command")?;
        let mut command = Command::new(program("host-agent")?);
        command.arg(name);
        command
            .arg("--socket")
            .arg(self.directory.path().join("agent.sock"));
        Ok(command.args(rest).stdin(Stdio::null()).output()?)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        for machine in &self.machines {
            // One that is off already is no failure.
            let _ = self.output(&["vm", "kill", machine]);
        }
    }
}

/// Returns the program of that name, built with the same profile as this one, which is in a directory beside.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let beside = here.parent().and_then(Path::parent);
    let program = beside.context("no directory")?.join(name);
    ensure!(
        program.is_file(),
        "{} is missing: build it with the same profile",
        program.display()
    );
    Ok(program)
}
