//! Everything that an execution's program left running: who it is, and its end.
//!
//! The program is the leader of a session of its own, and stays unreaped while this looks for its
//! members, so that the session's id cannot be given to anybody else. Processes are held by pidfd
//! before they are signalled, so that a reused process id is never hit.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::sys;

/// A process, held so that signals reach it and no other.
#[derive(Debug)]
pub(super) struct Member {
    pid: Pid,
    handle: OwnedFd,
}

impl Member {
    /// Holds the process `pid`, if `belongs` is still true once it is held.
    fn hold(pid: Pid, belongs: impl Fn(Pid) -> bool) -> Option<Self> {
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        belongs(pid).then_some(Self { pid, handle })
    }

    /// Sends a signal; to an ended process it does nothing.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.handle, signal);
    }

    /// Says whether it has not ended. Its parent may still have to reap it.
    fn alive(&self) -> bool {
        let mut descriptors = [PollFd::new(&self.handle, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let ended = poll(&mut descriptors, Some(&now)).is_ok_and(|ready| ready > 0);
        if ended {
            // Where the server is who inherits orphans, it has to reap them; elsewhere this says
            // that there is no such child.
            let _ = sys::reap(self.pid);
        }
        !ended
    }
}

/// How patiently the members of a session are ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// From TERM to KILL.
    pub(super) term: Duration,
    /// From KILL to giving up; a process can be stuck in the kernel.
    pub(super) kill: Duration,
}

/// Ends the session of `leader`, which has exited, and the `escaped` processes found earlier.
/// Returns the ids of those that could not be ended. Blocks for as long as `patience` allows.
pub(super) fn end_session(leader: Pid, escaped: Vec<Member>, patience: Patience) -> Vec<u32> {
    let begun = Instant::now();
    let mut members = escaped;
    let mut pause = Duration::from_millis(1);
    let mut terminated = Vec::new();
    loop {
        members.retain(Member::alive);
        for pid in session_members(leader) {
            if members.iter().all(|known| known.pid != pid) {
                let own = |pid| sys::in_session(pid, leader);
                members.extend(Member::hold(pid, own).filter(Member::alive));
            }
        }
        let waited = begun.elapsed();
        if members.is_empty() || waited > patience.term + patience.kill {
            break;
        }
        for member in &members {
            if waited >= patience.term {
                member.signal(Signal::KILL);
            } else if !terminated.contains(&member.pid) {
                terminated.push(member.pid);
                member.signal(Signal::TERM);
                member.signal(Signal::CONT);
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    let left = members.iter();
    left.map(|member| member.pid.as_raw_nonzero().get().unsigned_abs())
        .collect()
}

/// Holds the descendants of `leader`, which must still run, also those that left its session.
/// One that left it and whose parent has ended cannot be told from a stranger and is not found.
pub(super) fn descendants(leader: Pid) -> Vec<Member> {
    let mut children: HashMap<Pid, Vec<Pid>> = HashMap::new();
    for pid in processes() {
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![leader];
    while let Some(parent) = open.pop() {
        for pid in children.remove(&parent).unwrap_or_default() {
            open.push(pid);
            found.extend(Member::hold(pid, |pid| parent_of(pid) == Some(parent)));
        }
    }
    found
}

/// Holds the processes that have one of the pipes `inodes` open for writing: only descendants of
/// the program can.
pub(super) fn pipe_holders(inodes: &[u64]) -> Vec<Member> {
    let own = rustix::process::getpid();
    let holds = |pid: Pid| holds_pipe(pid, inodes);
    processes()
        .filter(|&pid| pid != own && holds(pid))
        .filter_map(|pid| Member::hold(pid, holds))
        .collect()
}

fn holds_pipe(pid: Pid, inodes: &[u64]) -> bool {
    let directory = format!("/proc/{}/fd", pid.as_raw_nonzero());
    let Ok(entries) = fs::read_dir(directory) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let names_pipe = fs::read_link(entry.path()).is_ok_and(|target| {
            let target = target.to_string_lossy();
            inodes
                .iter()
                .any(|inode| target == format!("pipe:[{inode}]").as_str())
        });
        // The link's own permissions tell how the descriptor is open. A child of the server that
        // has not reached its exec yet has copies of the reading ends.
        let writable = || {
            fs::symlink_metadata(entry.path())
                .is_ok_and(|link| link.permissions().mode() & 0o200 != 0)
        };
        names_pipe && writable()
    })
}

/// Returns the processes of the session that `leader` leads, without itself.
fn session_members(leader: Pid) -> impl Iterator<Item = Pid> {
    processes().filter(move |&pid| pid != leader && sys::in_session(pid, leader))
}

/// Returns the ids of all processes that can be seen.
fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Pid::from_raw(number)
    })
}

/// Returns the parent of a process that is not a zombie.
fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name in parentheses may hold anything, so count from the last one.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    Pid::from_raw(fields.next()?.parse().ok()?)
}
