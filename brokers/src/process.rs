//! Children that end with their owner, and what they cost.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

/// A child process that is killed when it goes out of scope.
///
/// It stays in its parent's process group, so that whoever ends the whole group ends it too.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts a program without input.
    ///
    /// # Errors
    ///
    /// The program cannot be started; the text names it.
    pub fn start(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_owned();
        let child = command.stdin(Stdio::null()).spawn().with_context(|| {
            format!(
                "cannot start {}; scripts/install-missing installs what tests need",
                program.display()
            )
        })?;
        Ok(Self(child))
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// The system's: there is no such process any more.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(rustix::process::kill_process(
            Pid::from_child(&self.0),
            signal,
        )?)
    }

    /// Kills the process and waits for its end.
    pub fn kill(&mut self) {
        // One that has ended already needs neither.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Returns whether the process still runs.
    ///
    /// # Errors
    ///
    /// The system's, for a child that cannot be waited for.
    pub fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }

    /// Returns the memory that the process has in use (resident set), in bytes.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn memory(&self) -> Result<u64> {
        memory(self.id())
    }

    /// Returns the processor time that the process has used, in user mode and in the kernel.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn processor_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        // The name, in parentheses, may hold anything.
        let (_, fields) = stat.rsplit_once(") ").context("no stat line")?;
        let mut fields = fields.split(' ').skip(11);
        let mut ticks = || -> Result<u64> { Ok(fields.next().context("too short")?.parse()?) };
        let ticks = ticks()? + ticks()?;
        let per_second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_millis(ticks * 1000 / per_second.max(1)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the resident set of a process, in bytes.
///
/// # Errors
///
/// There is no such process.
pub fn memory(id: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.context("no VmRSS")?.trim().parse::<u64>()? * 1024)
}

/// Returns a loopback address that nobody listens on.
///
/// Its port is below those that the system gives out by itself, so none that is asked for or needed in
/// passing takes it before, or between two runs of, the broker that it is for.
///
/// # Errors
///
/// Nearly all of these ports are taken.
pub fn free_address() -> Result<SocketAddr> {
    for _ in 0..1000 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(PORTS)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port from {} to {}", PORTS.start(), PORTS.end())
}

/// Linux gives out 32768 to 60999 by itself.
const PORTS: std::ops::RangeInclusive<u16> = 20_000..=32_000;
