//! The system calls that have no safe wrapper: running a prepared image in the child, waiting with
//! resource use, leases on files, and watching a process handle. Nothing else in the crate is unsafe.
#![expect(
    unsafe_code,
    reason = "wait4, execve after fork, leases and AsyncFd::register have no safe form"
)]

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr;

use rustix::process::{Pid, Resource, Rlimit};
use tokio::io::unix::AsyncFd;

use super::confine::Cell;
use crate::status::Resources;

/// A program image with its arguments and environment, laid out before the fork: between fork and
/// exec a child of a threaded process must not allocate.
pub(super) struct Image {
    program: CString,
    // The pointer tables point into the strings beside them.
    _strings: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
}

// SAFETY: the pointers lead to heap memory of `_strings`, which the value owns, never changes and
// keeps as long as itself; sending or sharing it shares only reads.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

impl Image {
    /// Lays out an image; fails where a string holds NUL.
    pub(super) fn new(
        program: &OsStr,
        args: &[OsString],
        env: &[(OsString, OsString)],
    ) -> io::Result<Self> {
        let mut strings = Vec::with_capacity(args.len() + env.len());
        let mut table = |text: &[u8]| -> io::Result<*const libc::c_char> {
            let text = CString::new(text)?;
            let pointer = text.as_ptr();
            strings.push(text);
            Ok(pointer)
        };
        let mut argv = Vec::with_capacity(args.len() + 1);
        for arg in args {
            argv.push(table(arg.as_bytes())?);
        }
        argv.push(ptr::null());
        let mut envp = Vec::with_capacity(env.len() + 1);
        for (name, value) in env {
            envp.push(table(&[name.as_bytes(), b"=", value.as_bytes()].concat())?);
        }
        envp.push(ptr::null());
        Ok(Self {
            program: CString::new(program.as_bytes())?,
            _strings: strings,
            argv,
            envp,
        })
    }
}

/// What a child does to itself between fork and exec.
pub(super) struct ChildSetup {
    /// The image it becomes.
    pub(super) image: Image,
    /// Its working directory.
    pub(super) cwd: OwnedFd,
    /// Its resource limits.
    pub(super) rlimits: Vec<(Resource, Rlimit)>,
    /// What confines it.
    pub(super) cell: Option<Cell>,
    /// Whether its standard output is a terminal, which becomes the one that controls its session.
    pub(super) terminal: bool,
    /// Whether it is killed when the thread that starts it ends, and so with the server.
    pub(super) tied: bool,
}

/// Makes `command` set up its child and then become the image itself.
///
/// The exec is ours and not the standard library's, because `execvp` hands a file of unknown format
/// to the shell, where the caller must learn that it cannot run. An error is reported through the
/// pipe that the standard library reads for its own exec.
pub(super) fn install(command: &mut Command, setup: ChildSetup) {
    // SAFETY: the closure makes only system calls (directly or through rustix, which makes them
    // without libc state), allocates nothing, takes no lock and does not unwind, so it may run
    // between fork and exec of a threaded process.
    unsafe {
        command.pre_exec(move || enter(&setup));
    }
}

/// Runs in the child; returns only on failure.
fn enter(setup: &ChildSetup) -> io::Result<()> {
    rustix::process::setsid()?;
    if setup.terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdout())?;
    }
    if setup.tied {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    }
    rustix::process::fchdir(&setup.cwd)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rustix::thread::set_no_new_privs(true)?;
    prefer_as_oom_victim();
    for (resource, limit) in &setup.rlimits {
        rustix::process::setrlimit(*resource, *limit)?;
    }
    // All zero is the default disposition, in the kernel's own layout on every architecture, none of
    // which is longer than this. The C library's functions leave two signals of its own out.
    let default = [0_u64; 8];
    for signal in 1..=64_i32 {
        // SAFETY: the kernel only reads from `default`, and setting a default disposition touches
        // no memory. KILL and STOP cannot be set, which does no harm.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<u8>(),
                8_usize,
            )
        };
    }
    // SAFETY: marks every descriptor above standard error to be closed by exec; the standard
    // library's error pipe stays usable until then.
    let marked = unsafe {
        libc::close_range(
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_int,
        )
    };
    if marked != 0 {
        return Err(io::Error::last_os_error());
    }
    if let Some(cell) = &setup.cell {
        cell.enter()?;
    }
    let image = &setup.image;
    // SAFETY: all three are NUL-terminated strings or null-terminated tables of such, alive in
    // `image`. On success the call does not return.
    unsafe {
        libc::execve(
            image.program.as_ptr(),
            image.argv.as_ptr(),
            image.envp.as_ptr(),
        )
    };
    Err(io::Error::last_os_error())
}

/// Lets the kernel choose programs before the server when memory runs out. Not every system allows
/// it, and none needs it.
fn prefer_as_oom_victim() {
    use rustix::fs::{Mode, OFlags};
    if let Ok(file) = rustix::fs::open(
        c"/proc/self/oom_score_adj",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        let _ = rustix::io::write(&file, b"500");
    }
}

/// How a process ended, and what it and the descendants it waited for used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exit {
    /// Whether it exited, rather than being ended by a signal.
    pub(super) exited: bool,
    /// The exit code or the signal.
    pub(super) code: i32,
    /// Resource use.
    pub(super) resources: Resources,
}

/// Reaps `pid` if it has ended; None while it runs.
pub(super) fn reap(pid: Pid) -> io::Result<Option<Exit>> {
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

/// Kills the group of `pid`, a child of ours, and waits for it. Blocks for the moment that takes.
pub(super) fn kill_and_reap(pid: Pid) {
    let _ = signal_group(pid, libc::SIGKILL);
    // SAFETY: null pointers are allowed: neither status nor usage is wanted.
    unsafe { libc::waitpid(pid.as_raw_nonzero().get(), ptr::null_mut(), 0) };
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
pub(super) fn signal_group(leader: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: kill touches no memory. A Pid is positive, so its negation names one group and never
    // "everybody" (-1), because no child of ours is process 1.
    match unsafe { libc::kill(-leader.as_raw_nonzero().get(), signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Says whether `pid` belongs to the session that `leader` leads. Asked here and not through rustix,
/// which takes the 0 that the kernel answers for its own threads for impossible.
pub(super) fn in_session(pid: Pid, leader: Pid) -> bool {
    // SAFETY: getsid touches no memory.
    let session = unsafe { libc::getsid(pid.as_raw_nonzero().get()) };
    session == leader.as_raw_nonzero().get()
}

/// Says whether `pid` belongs to the process group of `leader`.
pub(super) fn in_group(pid: Pid, leader: Pid) -> bool {
    // SAFETY: getpgid touches no memory.
    let group = unsafe { libc::getpgid(pid.as_raw_nonzero().get()) };
    group == leader.as_raw_nonzero().get()
}

/// Returns the hard limit of `resource` of another process, without changing it; None where that may
/// not be seen.
pub(super) fn hard_limit(pid: Pid, resource: libc::__rlimit_resource_t) -> Option<u64> {
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

/// Says whether any process has a file open to write to it. `file` must be open for reading only.
///
/// This asks for a lease, which the kernel refuses then, and gives it back at once.
///
/// # Errors
///
/// It cannot be told: the file is somebody else's, or its file system has no leases.
pub fn is_open_for_writing(file: &File) -> io::Result<bool> {
    /// Of `fcntl.h`; the same on all that Landlock and this crate run on.
    const F_SETSIG: libc::c_int = 10;
    let control = |command, argument: libc::c_int| {
        // SAFETY: the descriptor is open as long as `file`, and these commands take a number.
        let outcome = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
        if outcome == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // Whoever opens the file in the meantime has this process told by a signal: by one that is ignored.
    control(F_SETSIG, libc::SIGURG)?;
    match control(libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => control(libc::F_SETLEASE, libc::F_UNLCK).map(|()| false),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Returns the version of Landlock's rules that the kernel has; 0 where there is none.
pub(super) fn landlock_version() -> u32 {
    const VERSION: libc::c_uint = 1;
    // SAFETY: without attributes and with this flag the call only answers the version.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<u8>(),
            0_usize,
            VERSION,
        )
    };
    u32::try_from(version).unwrap_or(0)
}

/// Confines the calling thread to a ruleset, which needs `no_new_privs`.
pub(super) fn landlock_enter(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: the call touches no memory.
    let outcome =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A process handle that can be awaited.
pub(super) struct ExitWatch(AsyncFd<OwnedFd>);

impl ExitWatch {
    /// Watches the process of `handle`, a pidfd. Needs a tokio runtime.
    pub(super) fn new(handle: OwnedFd) -> io::Result<Self> {
        // SAFETY: an OwnedFd is open, answers the same descriptor always, and is closed by nobody
        // else before the AsyncFd that owns it is dropped.
        Ok(Self(unsafe { AsyncFd::register(handle) }?))
    }

    /// Returns once the process has ended; it still has to be reaped.
    pub(super) async fn exited(&self) -> io::Result<()> {
        // The descriptor stays readable for ever after, so readiness is never cleared.
        self.0.readable().await.map(drop)
    }
}
