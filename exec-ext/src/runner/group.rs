//! Everything that an execution's program left running: who it is, and its end.
//!
//! The program is the leader of a session of its own, and stays unreaped while this looks for its
//! members, so that the session's id cannot be given to anybody else. Those that left the session are
//! known by their mark ([`Kin`]). Processes are held by pidfd before they are signalled, so that a
//! reused process id is never hit.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::kin::{self, Kin};
use super::sys;

/// A process, held so that signals reach it and no other.
#[derive(Debug)]
pub(super) struct Member {
    pid: Pid,
    handle: OwnedFd,
}

impl Member {
    /// Holds the process `pid`, if `belongs` is still true once it is held.
    pub(super) fn hold(pid: Pid, belongs: impl Fn(Pid) -> bool) -> Option<Self> {
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        belongs(pid).then_some(Self { pid, handle })
    }

    /// Sends a signal; to an ended process it does nothing.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.handle, signal);
    }

    /// Says whether it has not ended. Its parent may still have to reap it.
    pub(super) fn alive(&self) -> bool {
        let mut descriptors = [PollFd::new(&self.handle, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let ended = poll(&mut descriptors, Some(&now)).is_ok_and(|ready| ready > 0);
        if ended {
            // The server inherits orphans and has to reap them; of others' children this says that
            // they are none of its own.
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

/// Ends what is left of the program `leader`, which has exited: its session, its `kin`, and whatever
/// hides from both. Returns the ids of those that could not be ended. Blocks for as long as
/// `patience` allows.
pub(super) fn end(leader: Pid, kin: &Kin, patience: Patience) -> Vec<u32> {
    let begun = Instant::now();
    let belongs = |pid| is_member(pid, leader, kin) || kin::is_stray(pid);
    let mut members: Vec<Member> = Vec::new();
    let mut pause = Duration::from_millis(1);
    let mut terminated = Vec::new();
    loop {
        members.retain(Member::alive);
        for pid in kin::processes() {
            let known = || members.iter().any(|known| known.pid == pid);
            if pid != leader && belongs(pid) && !known() {
                members.extend(Member::hold(pid, belongs).filter(Member::alive));
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

/// Tells what is left of the program `leader`, which has exited, to end, and waits until `empty` says that
/// nothing is, or `patience` is over. Blocks meanwhile.
pub(super) fn terminate(leader: Pid, kin: &Kin, patience: Duration, empty: impl Fn() -> bool) {
    let begun = Instant::now();
    let belongs = |pid| is_member(pid, leader, kin);
    for pid in kin::processes().filter(|&pid| pid != leader && belongs(pid)) {
        if let Some(member) = Member::hold(pid, belongs) {
            member.signal(Signal::TERM);
            member.signal(Signal::CONT);
        }
    }
    let mut pause = Duration::from_millis(1);
    while !empty() && begun.elapsed() < patience {
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Returns the ids of the processes of `kin` that run.
pub(super) fn kin_left(kin: &Kin) -> Vec<u32> {
    let all = kin::processes().filter(|&pid| kin.includes(pid));
    all.map(|pid| pid.as_raw_nonzero().get().unsigned_abs())
        .collect()
}

/// Sends a signal to the descendants of `leader`, which has not been reaped, outside its process
/// group.
pub(super) fn signal_descendants(leader: Pid, kin: &Kin, signal: Signal) {
    let belongs = |pid| is_member(pid, leader, kin);
    let outside = |pid: &Pid| *pid != leader && belongs(*pid) && !sys::in_group(*pid, leader);
    for pid in kin::processes().filter(outside) {
        if let Some(member) = Member::hold(pid, belongs) {
            member.signal(signal);
        }
    }
}

fn is_member(pid: Pid, leader: Pid, kin: &Kin) -> bool {
    kin.includes(pid) || sys::in_session(pid, leader)
}
