//! Ends what tests leave behind: the programs of a failed test, or of a server that it killed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Kills all processes that work in a test's own directory, or whose environment names it.
pub(crate) fn end_in(directory: &Path) {
    let directory = directory.canonicalize();
    let directory = directory.expect("the test's directory is there");
    // Again, for those that were started meanwhile; a few times, as this cleans up and proves nothing.
    for _ in 0..10 {
        if !end_once(&directory) {
            return;
        }
    }
}

/// Says whether there were any.
fn end_once(directory: &Path) -> bool {
    let own = std::process::id();
    let mut ended = false;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Some(pid) = Pid::from_raw(number).filter(|_| u32::try_from(number) != Ok(own)) else {
            continue;
        };
        if !belongs(&entry.path(), directory) {
            continue;
        }
        // Held before it is looked at once more, so that no other gets the signal that has its number now.
        let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else {
            continue;
        };
        if belongs(&entry.path(), directory) {
            ended |= pidfd_send_signal(&held, Signal::KILL).is_ok();
        }
    }
    ended
}

fn belongs(process: &Path, directory: &Path) -> bool {
    let cwd: Option<PathBuf> = fs::read_link(process.join("cwd")).ok();
    if cwd.is_some_and(|cwd| cwd.starts_with(directory)) {
        return true;
    }
    let environment = fs::read(process.join("environ")).unwrap_or_default();
    let wanted = directory.as_os_str();
    environment.split(|byte| *byte == 0).any(|variable| {
        let value = variable.splitn(2, |byte| *byte == b'=').nth(1);
        value.is_some_and(|value| Path::new(OsStr::from_bytes(value)).starts_with(wanted))
    })
}
