//! The demo's child processes: started in groups of their own, ended on every way out.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, PidfdFlags, Signal};

/// How long a process has to end after SIGTERM.
const TERMINATE_WITHIN: Duration = Duration::from_secs(5);

/// Everything that the demo has started. Dropping it kills what still runs, with all descendants: on the way
/// out nobody needs to know which task holds which process.
#[derive(Debug, Default)]
pub(super) struct Crew {
    started: Mutex<Vec<Process>>,
}

impl Crew {
    /// Starts a program with its output in a log file, in a process group of its own: Ctrl-C is this
    /// program's affair.
    ///
    /// # Errors
    ///
    /// The program or the log cannot be opened.
    pub(super) fn start(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        log: &Path,
    ) -> anyhow::Result<Process> {
        let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        // The caller's settings for a real agent are not the demo's.
        for (name, _) in std::env::vars_os()
            .filter(|(name, _)| name.as_encoded_bytes().starts_with(b"HOST_AGENT_"))
        {
            command.env_remove(name);
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let process = Process {
            id: child.id(),
            child: Arc::new(Mutex::new(child)),
        };
        lock(&self.started).push(process.clone());
        Ok(process)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for process in lock(&self.started).drain(..) {
            if process.ended().is_none() {
                let _ = process.kill();
            }
        }
    }
}

/// A child process of the [`Crew`].
#[derive(Debug, Clone)]
pub(super) struct Process {
    id: u32,
    child: Arc<Mutex<Child>>,
}

impl Process {
    /// Returns the process's id.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Returns how the process ended, if it has.
    pub(super) fn ended(&self) -> Option<ExitStatus> {
        lock(&self.child).try_wait().ok().flatten()
    }

    /// Kills the process and all its descendants with SIGKILL, as the loss of a machine would.
    ///
    /// # Errors
    ///
    /// The process cannot be signalled.
    pub(super) fn kill(&self) -> anyhow::Result<ExitStatus> {
        let mut child = lock(&self.child);
        let descendants = descendants(self.id);
        child.kill().context("cannot kill a process")?;
        let status = child.wait()?;
        for process in descendants {
            // It may have ended by itself, now that its parent is gone.
            let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
        }
        Ok(status)
    }

    /// Asks the process to end; kills it if it does not within some seconds.
    pub(super) async fn terminate(&self) {
        {
            let mut child = lock(&self.child);
            // Under the lock nobody reaps it, so that its number is still its own.
            if child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            let _ = rustix::process::kill_process(Pid::from_child(&child), Signal::TERM);
        }
        let deadline = Instant::now() + TERMINATE_WITHIN;
        while self.ended().is_none() {
            if Instant::now() >= deadline {
                let _ = self.kill();
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Locks what no panic leaves half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns handles to all descendants of a process.
fn descendants(ancestor: u32) -> Vec<OwnedFd> {
    let parents = parents();
    let mut found: Vec<u32> = vec![ancestor];
    let mut handles = Vec::new();
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        for (&child, _) in parents.iter().filter(|&(_, &of)| of == parent) {
            let handle = i32::try_from(child)
                .ok()
                .and_then(Pid::from_raw)
                .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
            // Still that parent's with the handle in hand: the number was not given to another process.
            if let Some(handle) = handle
                && parent_of(child) == Some(parent)
            {
                found.push(child);
                handles.push(handle);
            }
        }
    }
    handles
}

/// Returns every process with its parent.
fn parents() -> HashMap<u32, u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|process| Some((process, parent_of(process)?)))
        .collect()
}

fn parent_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may hold anything; the state and the parent follow the last one.
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < deadline, "waited too long");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_alive(process: u32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
    }

    #[test]
    fn dropping_the_crew_kills_descendants_in_other_sessions_too() {
        let directory = tempfile::tempdir().unwrap();
        let told = directory.path().join("pid");
        let script = format!(
            "setsid sh -c 'echo $$ > {}; sleep 1000; :' & wait",
            told.display()
        );
        let crew = Crew::default();
        let process = crew
            .start(
                Path::new("/bin/sh"),
                ["-c", &script],
                &directory.path().join("log"),
            )
            .unwrap();
        let grandchild: u32 = wait_for(|| fs::read_to_string(&told).ok()?.trim().parse().ok());
        let sleeper = wait_for(|| {
            parents()
                .into_iter()
                .find(|&(_, parent)| parent == grandchild)
        })
        .0;
        let own = process.id();
        drop(crew);
        wait_for(|| (!is_alive(own) && !is_alive(grandchild) && !is_alive(sleeper)).then_some(()));
    }
}
