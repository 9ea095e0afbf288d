//! Programs that outlived their job, or a server which was killed. The kernel ends a job's own program
//! with its server, and the runner its session with the program; what has left that may still be there,
//! and is found by the job's sandbox, whose name nobody can guess: as its working directory, in its
//! environment, or by its session, which others share that have it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};

/// How long killed processes may take to disappear.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of an environment that are looked at: the most the kernel lets a program have.
const ENVIRONMENT_MAX: u64 = 8 * 1024 * 1024;

/// Kills every process that belongs to one of these sandboxes, until there is none.
pub(super) fn end(sandboxes: &[PathBuf]) {
    let deadline = Instant::now() + PATIENCE;
    // Known from the first process of each on: the others need not say whose they are.
    let mut sessions = HashSet::new();
    let mut pause = Duration::from_millis(1);
    loop {
        sessions.extend(sessions_of(sandboxes));
        let found: Vec<Pid> = processes()
            .filter(|pid| belongs(*pid, sandboxes, &sessions))
            .collect();
        if found.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            tracing::warn!(target: "job", count = found.len(), "processes that outlived their job could not be ended");
            return;
        }
        for pid in found {
            kill(pid, sandboxes, &sessions);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Kills a process that is still the one that was found.
fn kill(pid: Pid, sandboxes: &[PathBuf], sessions: &HashSet<i32>) {
    let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    if belongs(pid, sandboxes, sessions) {
        tracing::warn!(target: "job", pid = pid.as_raw_nonzero(), "ending a process that outlived its job");
        // One that may not be signalled is somebody else's.
        let _ = rustix::process::pidfd_send_signal(&handle, Signal::KILL);
    }
}

/// Returns the sessions of processes that were started for a sandbox.
fn sessions_of(sandboxes: &[PathBuf]) -> HashSet<i32> {
    let own = session(rustix::process::getpid());
    processes()
        .filter(|pid| was_started_for(*pid, sandboxes))
        .filter_map(session)
        .filter(|id| Some(*id) != own)
        .collect()
}

fn belongs(pid: Pid, sandboxes: &[PathBuf], sessions: &HashSet<i32>) -> bool {
    pid != rustix::process::getpid()
        && (works_in(pid, sandboxes)
            || was_started_for(pid, sandboxes)
            || session(pid).is_some_and(|id| sessions.contains(&id)))
}

fn works_in(pid: Pid, sandboxes: &[PathBuf]) -> bool {
    let Ok(cwd) = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero())) else {
        return false;
    };
    let cwd = cwd.as_os_str().as_bytes();
    // The kernel says so of a directory that was removed.
    let cwd = cwd.strip_suffix(b" (deleted)").unwrap_or(cwd);
    let cwd = Path::new(OsStr::from_bytes(cwd));
    sandboxes.iter().any(|sandbox| cwd.starts_with(sandbox))
}

fn was_started_for(pid: Pid, sandboxes: &[PathBuf]) -> bool {
    let mut environment = Vec::new();
    let read = File::open(format!("/proc/{}/environ", pid.as_raw_nonzero()))
        .and_then(|file| file.take(ENVIRONMENT_MAX).read_to_end(&mut environment));
    let mut sandboxes = sandboxes.iter().map(|sandbox| sandbox.as_os_str());
    read.is_ok()
        && sandboxes.any(|name| memchr::memmem::find(&environment, name.as_bytes()).is_some())
}

/// Returns the session of a process that has not ended.
fn session(pid: Pid) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name in parentheses may hold anything, so count from the last one.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(2)?.parse().ok()
}

/// Returns the ids of all processes that can be seen.
fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Pid::from_raw(number)
    })
}
