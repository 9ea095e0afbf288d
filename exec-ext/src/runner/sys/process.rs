//! Waiting for processes, signals to them, and what the kernel tells of them.

use std::io;
use std::os::fd::OwnedFd;
use std::ptr;

use rustix::process::Pid;
use tokio::io::unix::AsyncFd;

use crate::status::Resources;

/// How a process ended, and what it and the descendants it waited for used.
#[derive(Clone, Copy, Debug)]
pub(in crate::runner) struct Exit {
    /// Whether it exited, rather than being ended by a signal.
    pub(in crate::runner) exited: bool,
    /// The exit code or the signal.
    pub(in crate::runner) code: i32,
    /// Resource use.
    pub(in crate::runner) resources: Resources,
}

/// Reaps `pid` if it has ended; None while it runs.
pub(in crate::runner) fn reap(pid: Pid) -> io::Result<Option<Exit>> {
    let mut status = 0;
    // SAFETY: rusage is plain numbers, for which all-zero bytes are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let flags = libc::WNOHANG;
    // SAFETY: both pointers lead to live values of the right types.
    match unsafe {
        libc::wait4(
            pid.as_raw_nonzero().get(),
            &raw mut status,
            flags,
            &raw mut usage,
        )
    } {
        0 => Ok(None),
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(Some(exit(status, &usage))),
    }
}

/// Kills `pid`, a child of ours, and its group, and waits for it. Blocks for the moment that takes.
pub(in crate::runner) fn kill_and_reap(pid: Pid) {
    let _ = signal_group(pid, libc::SIGKILL);
    // It may not have come so far as to have a group of its own.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    wait_for(pid);
}

/// Waits for a child of ours that is about to end, and reaps it.
pub(super) fn wait_for(pid: Pid) {
    // Whatever signal it ends with, see `launch`.
    let flags = libc::__WALL;
    // SAFETY: null pointers are allowed: neither status nor usage is wanted.
    unsafe { libc::waitpid(pid.as_raw_nonzero().get(), ptr::null_mut(), flags) };
}

fn exit(status: libc::c_int, usage: &libc::rusage) -> Exit {
    let exited = libc::WIFEXITED(status);
    let code = if exited {
        libc::WEXITSTATUS(status)
    } else {
        libc::WTERMSIG(status)
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds of processor time stay far below 2^53"
    )]
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let resources = Resources {
        ru_utime: seconds(usage.ru_utime),
        ru_stime: seconds(usage.ru_stime),
        ru_maxrss: usage.ru_maxrss,
        ru_ixrss: usage.ru_ixrss,
        ru_idrss: usage.ru_idrss,
        ru_isrss: usage.ru_isrss,
        ru_minflt: usage.ru_minflt,
        ru_majflt: usage.ru_majflt,
        ru_nswap: usage.ru_nswap,
        ru_inblock: usage.ru_inblock,
        ru_oublock: usage.ru_oublock,
        ru_msgsnd: usage.ru_msgsnd,
        ru_msgrcv: usage.ru_msgrcv,
        ru_nsignals: usage.ru_nsignals,
        ru_nvcsw: usage.ru_nvcsw,
        ru_nivcsw: usage.ru_nivcsw,
    };
    Exit {
        exited,
        code,
        resources,
    }
}

/// Sends `signal` (any number, real-time ones too) to the process group of `leader`.
pub(in crate::runner) fn signal_group(leader: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: kill touches no memory. A Pid is positive, so its negation names one group and never
    // "everybody" (-1), because no child of ours is process 1.
    match unsafe { libc::kill(-leader.as_raw_nonzero().get(), signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Says whether `pid` belongs to the session that `leader` leads. Asked here and not through rustix,
/// which takes the 0 that the kernel answers for its own threads for impossible.
pub(in crate::runner) fn in_session(pid: Pid, leader: Pid) -> bool {
    // SAFETY: getsid touches no memory.
    let session = unsafe { libc::getsid(pid.as_raw_nonzero().get()) };
    session == leader.as_raw_nonzero().get()
}

/// Says whether `pid` belongs to the process group of `leader`.
pub(in crate::runner) fn in_group(pid: Pid, leader: Pid) -> bool {
    // SAFETY: getpgid touches no memory.
    let group = unsafe { libc::getpgid(pid.as_raw_nonzero().get()) };
    group == leader.as_raw_nonzero().get()
}

/// Returns the hard limit of `resource` of another process, without changing it; None where that may
/// not be seen.
pub(in crate::runner) fn hard_limit(pid: Pid, resource: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: no new limit is given, and the old one is written to a live value of the right type.
    let outcome = unsafe {
        libc::prlimit64(
            pid.as_raw_nonzero().get(),
            resource,
            ptr::null(),
            &raw mut limit,
        )
    };
    (outcome == 0).then_some(limit.rlim_max)
}

/// A process handle that can be awaited.
pub(in crate::runner) struct ExitWatch(AsyncFd<OwnedFd>);

impl ExitWatch {
    /// Watches the process of `handle`, a pidfd. Needs a tokio runtime.
    pub(in crate::runner) fn new(handle: OwnedFd) -> io::Result<Self> {
        // SAFETY: an OwnedFd is open, answers the same descriptor always, and is closed by nobody
        // else before the AsyncFd that owns it is dropped.
        Ok(Self(unsafe { AsyncFd::register(handle) }?))
    }

    /// Returns once the process has ended; it still has to be reaped.
    pub(in crate::runner) async fn exited(&self) -> io::Result<()> {
        // The descriptor stays readable for ever after, so readiness is never cleared.
        self.0.readable().await.map(drop)
    }
}
