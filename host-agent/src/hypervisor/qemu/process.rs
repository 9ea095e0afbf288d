//! The process that is a machine: started so that it outlives the agent, found again by its lock, and killed
//! by its handle.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::folder::{Folder, LOG, Run};
use super::monitor::{Monitor, SOCKET, Trouble};
use crate::hypervisor::Error;

/// How long QEMU may take until its monitor greets: long, because a saved memory is read before.
const START_WITHIN: Duration = Duration::from_secs(90);

/// How often the socket is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Bytes of QEMU's words that an error repeats.
const SAID_MAX: u64 = 1000;

/// A QEMU that has just been started.
#[derive(Debug)]
pub(super) struct Started {
    /// Its process.
    pub(super) run: Run,
    /// How it ended, once it has.
    ended: oneshot::Receiver<io::Result<ExitStatus>>,
}

/// Starts QEMU in the machine's folder. `life` is its standard input, and so it lives as long as that is open.
///
/// # Errors
///
/// The program is not there, or cannot be started.
pub(super) fn start(
    folder: &Folder,
    program: &Path,
    arguments: Vec<std::ffi::OsString>,
    life: File,
) -> Result<Started, Error> {
    let what = || format!("start of machine {:?}", folder.name);
    let failed = |error: io::Error| Error::Failed {
        what: what(),
        said: error.to_string(),
    };
    folder.clear(SOCKET)?;
    let log = File::create(folder.file(LOG)).map_err(failed)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(&folder.path)
        .stdin(life)
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log)
        // A terminal's Ctrl-C is not for the machines, and the agent's settings not for QEMU's children.
        .process_group(0);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"HOST_AGENT_") {
            command.env_remove(name);
        }
    }
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Error::ToolMissing {
            tool: program.display().to_string(),
            reason: error.to_string(),
            remedy: super::REMEDY.to_owned(),
        },
        _ => failed(error),
    })?;
    let pid = Pid::from_child(&child);
    let started = started_at(pid.as_raw_nonzero().get()).unwrap_or(0);
    let (tell, ended) = oneshot::channel();
    // Ends with QEMU, or with this process; QEMU may outlive it.
    std::thread::Builder::new()
        .name("qemu-wait".to_owned())
        .spawn(move || {
            // Nobody may listen any more.
            let _ = tell.send(child.wait());
        })
        .map_err(failed)?;
    Ok(Started {
        run: Run {
            pid: pid.as_raw_nonzero().get(),
            started,
        },
        ended,
    })
}

impl Started {
    /// Waits until the monitor greets.
    ///
    /// # Errors
    ///
    /// QEMU ended, with what it said; or it does not get there in time, and is killed.
    pub(super) async fn monitor(mut self, folder: &Folder) -> Result<Monitor, Error> {
        let what = format!("start of machine {:?}", folder.name);
        let deadline = Instant::now() + START_WITHIN;
        let socket = folder.file(SOCKET);
        loop {
            if let Ok(status) = self.ended.try_recv() {
                return Err(died(folder, what, status));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                kill(&self.run);
                return Err(Error::TimedOut {
                    what,
                    limit: START_WITHIN,
                });
            }
            if socket.exists() {
                tokio::select! {
                    opened = Monitor::open(&folder.path, left) => match opened {
                        Ok(monitor) => return Ok(monitor),
                        // Bound and not yet listened to, or closed because QEMU ends.
                        Err(Trouble::Gone(_)) => {}
                        Err(trouble) => {
                            kill(&self.run);
                            return Err(trouble.of(what));
                        }
                    },
                    status = &mut self.ended => {
                        let status = status.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
                        return Err(died(folder, what, status));
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn died(folder: &Folder, what: String, status: io::Result<ExitStatus>) -> Error {
    let said = last_words(&folder.file(LOG));
    let ended = match status {
        Ok(status) => format!("QEMU ended with {status}"),
        Err(error) => format!("QEMU cannot be waited for: {error}"),
    };
    let said = if said.is_empty() {
        format!("{ended}, and not a word")
    } else {
        format!("{said} ({ended})")
    };
    Error::Failed { what, said }
}

/// Returns the end of what QEMU said, in one line.
pub(super) fn last_words(log: &PathBuf) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(SAID_MAX)))?;
        let mut bytes = Vec::new();
        file.take(SAID_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines
        .join("; ")
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Kills that QEMU, if it is still the one that was started.
pub(super) fn kill(run: &Run) {
    let Some(pid) = Pid::from_raw(run.pid) else {
        return;
    };
    // The handle first: what it names does not change any more while it is looked at.
    if let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
        && started_at(run.pid) == Some(run.started)
    {
        let _ = pidfd_send_signal(&process, Signal::KILL);
    }
}

/// Returns the processor seconds that a process used and the bytes of memory that it holds.
pub(super) fn usage(run: &Run) -> Option<(f64, f64)> {
    let fields = fields(run.pid)?;
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    if started_at(run.pid) != Some(run.started) {
        return None;
    }
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page = rustix::param::page_size() as f64;
    Some(((field(14)? + field(15)?) / ticks, field(24)? * page))
}

/// Returns when a process was started, in ticks since the host's boot.
fn started_at(pid: i32) -> Option<u64> {
    fields(pid)?.get(22 - 3)?.parse().ok()
}

/// Returns the fields of a process's `stat` from the third on: the second is a name that may hold anything.
fn fields(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}
