//! The system calls that have no safe wrapper: running a prepared image in the child, namespaces, waiting
//! with resource use, leases on files, and watching a process handle. Nothing else in the crate is unsafe.
#![expect(
    unsafe_code,
    reason = "wait4, execve after fork, leases and AsyncFd::register have no safe form"
)]

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr;
use std::sync::Arc;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Resource, Rlimit};
use seccompiler::BpfProgram;
use tokio::io::unix::AsyncFd;

use super::confine::Cell;
use super::enclosure::Join;
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
    /// The namespaces that it is to run in.
    pub(super) join: Option<Join>,
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
    if let Some(join) = &setup.join {
        enter_enclosure(join)?;
    }
    rustix::process::setsid()?;
    if setup.terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdout())?;
    }
    if setup.tied {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    }
    match &setup.join {
        None => rustix::process::fchdir(&setup.cwd)?,
        Some(join) => change_to(&join.cwd, &setup.cwd)?,
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rustix::thread::set_no_new_privs(true)?;
    prefer_as_oom_victim();
    for (resource, limit) in &setup.rlimits {
        rustix::process::setrlimit(*resource, *limit)?;
    }
    reset_signals();
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
        cell.enter(setup.join.is_some())?;
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

/// Gives every signal its default disposition.
fn reset_signals() {
    for signal in 1..=64_i32 {
        set_action(signal, &[0; 8]);
    }
}

/// Sets what a signal does, in the kernel's own layout, which begins with the handler on every architecture
/// and is nowhere longer than this. All zero is the default disposition. The C library's functions leave
/// two signals of its own out.
fn set_action(signal: libc::c_int, action: &[u64; 8]) {
    // SAFETY: the kernel only reads from `action`, and neither the default disposition nor ignoring names
    // a handler. KILL and STOP cannot be set, which does no harm.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            action.as_ptr(),
            ptr::null_mut::<u8>(),
            8_usize,
        )
    };
}

/// Joins an enclosure. Who joins a pid namespace does not belong to it, only its children do: this returns
/// in such a child, which is the child of whoever started the one that joined, and that one ends.
fn enter_enclosure(join: &Join) -> io::Result<()> {
    let all = libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    // SAFETY: the call touches no memory.
    if unsafe { libc::setns(join.first.as_raw_fd(), all) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let parent = libc::CLONE_PARENT as u64;
    // SAFETY: called between fork and exec, and the child only goes on with what is allowed there.
    match unsafe { fork(parent, None) }? {
        None => drop_capabilities(),
        Some(child) => {
            let id = child.as_raw_nonzero().get().to_ne_bytes();
            let written = rustix::io::write(&join.report, &id);
            // SAFETY: ends this process at once, as a child of a threaded process has to.
            unsafe { libc::_exit(i32::from(written != Ok(id.len()))) }
        }
    }
}

/// Changes to the directory `path`, if it is the one that `same` is a handle of.
fn change_to(path: &CStr, same: &OwnedFd) -> io::Result<()> {
    rustix::process::chdir(path)?;
    let (here, there) = (rustix::fs::stat(c".")?, rustix::fs::fstat(same)?);
    if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino) {
        Ok(())
    } else {
        // It was moved away in the meantime.
        Err(rustix::io::Errno::STALE.into())
    }
}

/// Gives up what the creator of a user namespace may do there.
fn drop_capabilities() -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    Ok(set_capabilities(None, sets)?)
}

/// Forks as the kernel does it. Returns None in the child. A `handle` gets a pidfd of it.
///
/// # Safety
///
/// As after any fork of a threaded process, the child may only make system calls that need nothing of
/// the C library.
unsafe fn fork(flags: u64, handle: Option<&mut libc::c_int>) -> io::Result<Option<Pid>> {
    let wants_handle = handle.is_some();
    let handle = handle.map_or(ptr::null_mut(), ptr::from_mut);
    let mut arguments = CloneArguments {
        flags,
        ..CloneArguments::default()
    };
    if wants_handle {
        arguments.flags |= libc::CLONE_PIDFD as u64;
        arguments.pidfd = handle as u64;
    }
    if flags & libc::CLONE_PARENT as u64 == 0 {
        arguments.exit_signal = libc::SIGCHLD as u64;
    }
    // SAFETY: the kernel reads the arguments and writes to the handle, both of which are alive; without
    // a stack of its own the child goes on with a copy of this one.
    let child = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<CloneArguments>(),
        )
    };
    match child {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(i32::try_from(child).ok().and_then(Pid::from_raw)),
    }
}

/// The first version of `struct clone_args` of the kernel.
#[repr(C)]
#[derive(Debug, Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// What the first process of an enclosure needs, laid out before the fork.
pub(super) struct FirstProcess {
    user_map: Vec<u8>,
    group_map: Vec<u8>,
    filter: Option<Arc<BpfProgram>>,
}

impl FirstProcess {
    /// Plans first processes in whose enclosures this user and group are what they are outside.
    pub(super) fn new(user: u32, group: u32, filter: Option<Arc<BpfProgram>>) -> Self {
        let map = |id: u32| format!("{id} {id} 1\n").into_bytes();
        Self {
            user_map: map(user),
            group_map: map(group),
            filter,
        }
    }
}

/// Blocks all signals for the calling thread and its children.
pub(super) fn block_signals() {
    // SAFETY: the set is plain bits, filled before it is read, and the old one is not wanted.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, ptr::null_mut());
    }
}

/// Starts the first process of new namespaces. It ends with the calling thread, which must have
/// blocked all signals. Returns its id and a pidfd once it is ready.
pub(super) fn enclose(plan: &FirstProcess) -> io::Result<(Pid, OwnedFd)> {
    let (told, report) = pipe_with(PipeFlags::CLOEXEC)?;
    let namespaces = libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    let mut handle = -1;
    // SAFETY: the child makes only system calls, and never returns from here.
    let child = unsafe { fork(namespaces as u64, Some(&mut handle)) }?;
    let Some(pid) = child else {
        be_first(plan, &report);
    };
    drop(report);
    // SAFETY: the kernel has just made this descriptor, which nobody else knows of.
    let handle = unsafe { OwnedFd::from_raw_fd(handle) };
    let mut errno = [0; 4];
    let error = match rustix::io::read(&told, &mut errno) {
        Ok(4) => i32::from_ne_bytes(errno),
        _ => libc::EIO,
    };
    if error == 0 {
        return Ok((pid, handle));
    }
    kill_and_reap(pid);
    Err(io::Error::from_raw_os_error(error))
}

/// The first process: prepares the namespaces, says so, and waits for ever. As nobody else is there to
/// do it, the kernel reaps its children, because it ignores their signal, and no other signal from
/// within ends it.
fn be_first(plan: &FirstProcess, report: &OwnedFd) -> ! {
    let error = match prepare_enclosure(plan) {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
    };
    let written = rustix::io::write(report, &error.to_ne_bytes());
    if error != 0 || written.is_err() {
        // SAFETY: ends this process at once, as a child of a threaded process has to.
        unsafe { libc::_exit(1) };
    }
    // SAFETY: closes what this process has of the server, its end of the pipe included. No descriptor is
    // used any more.
    unsafe { libc::close_range(0, libc::c_uint::MAX, 0) };
    loop {
        rustix::event::pause();
    }
}

fn prepare_enclosure(plan: &FirstProcess) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    rustix::process::setsid()?;
    write_to(c"/proc/self/setgroups", b"deny")?;
    write_to(c"/proc/self/uid_map", &plan.user_map)?;
    write_to(c"/proc/self/gid_map", &plan.group_map)?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let proc = c"proc".as_ptr();
    // SAFETY: all are NUL-terminated strings that live for ever; the last argument may be null.
    if unsafe { libc::mount(proc, c"/proc".as_ptr(), proc, flags, ptr::null()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    rustix::process::chdir(c"/")?;
    reset_signals();
    let ignored = [libc::SIG_IGN as u64, 0, 0, 0, 0, 0, 0, 0];
    set_action(libc::SIGCHLD, &ignored);
    drop_capabilities()?;
    rustix::thread::set_no_new_privs(true)?;
    if let Some(filter) = &plan.filter {
        seccompiler::apply_filter(filter).map_err(|_| io::Error::last_os_error())?;
    }
    forget_memory()
}

fn write_to(path: &CStr, text: &[u8]) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags};
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    match rustix::io::write(&file, text) {
        Ok(count) if count == text.len() => Ok(()),
        Ok(_) => Err(rustix::io::Errno::IO.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// Gives back the copy of the server's heap and of its threads' stacks, with all secrets in them. Without that
/// each enclosure would keep every page that the server changes. What belongs to the program file and its
/// libraries stays, and the stack that this runs on.
fn forget_memory() -> io::Result<()> {
    use rustix::fs::{Mode, OFlags};
    /// More mappings than any server has; what is beyond them is kept.
    const MAPPINGS: usize = 2048;
    let here = 0_u8;
    let here = ptr::from_ref(&here).addr();
    let mut doomed = [(0_usize, 0_usize); MAPPINGS];
    let mut count = 0;
    let maps = rustix::fs::open(
        c"/proc/self/maps",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut buffer = [0_u8; 4096];
    let mut line = Mapping::default();
    let mut files_end = 0;
    loop {
        let length = match rustix::io::read(&maps, &mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(errno) => return Err(errno.into()),
        };
        for byte in buffer.get(..length).unwrap_or_default() {
            if !line.take(*byte) {
                continue;
            }
            let mapping = std::mem::take(&mut line);
            // What follows a file's mappings without a gap is the zeroed part of its data.
            if mapping.is_file || mapping.start == files_end {
                files_end = mapping.end;
            } else if mapping.is_own
                && !(mapping.start..mapping.end).contains(&here)
                && let Some(slot) = doomed.get_mut(count)
            {
                *slot = (mapping.start, mapping.end);
                count += 1;
            }
        }
    }
    for &(start, end) in doomed.get(..count).unwrap_or_default() {
        // SAFETY: from here on this process only makes system calls, which use nothing but the stack, with
        // thread-local storage at its top, and the data of the program file and its libraries. All
        // of that is kept. Nothing of the heap is read, written or freed any more.
        unsafe { libc::munmap(ptr::without_provenance_mut(start), end - start) };
    }
    Ok(())
}

/// A line of `/proc/self/maps`: `START-END rw-p OFFSET DEVICE INODE PATH`, read byte by byte.
#[derive(Debug, Default)]
struct Mapping {
    start: usize,
    end: usize,
    /// Whether it is private and can be written.
    is_own: bool,
    is_file: bool,
    part: Part,
}

#[derive(Clone, Copy, Debug, Default)]
enum Part {
    #[default]
    Start,
    End,
    /// The letters of what is allowed, and which of them is next.
    Allowed(u8),
    Rest,
}

impl Mapping {
    /// Takes a byte; true at the end of the line.
    fn take(&mut self, byte: u8) -> bool {
        let digit = |number: usize| {
            let digit = char::from(byte).to_digit(16).unwrap_or(0) as usize;
            number.wrapping_mul(16).wrapping_add(digit)
        };
        match (self.part, byte) {
            (_, b'\n') => return true,
            (Part::Start, b'-') => self.part = Part::End,
            (Part::Start, _) => self.start = digit(self.start),
            (Part::End, b' ') => self.part = Part::Allowed(0),
            (Part::End, _) => self.end = digit(self.end),
            (Part::Allowed(_), b' ') => self.part = Part::Rest,
            (Part::Allowed(index), letter) => {
                match index {
                    1 => self.is_own = letter == b'w',
                    3 => self.is_own &= letter == b'p',
                    _ => {}
                }
                self.part = Part::Allowed(index.saturating_add(1));
            }
            (Part::Rest, b'/') => self.is_file = true,
            (Part::Rest, _) => {}
        }
        false
    }
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

/// Adds a file, or a directory with all below it, to what a ruleset lets be read and executed.
pub(super) fn landlock_add_readable(ruleset: &OwnedFd, path: &CStr) -> io::Result<()> {
    use rustix::fs::{FileType, Mode, OFlags};
    const PATH_BENEATH: libc::c_int = 1;
    const EXECUTE: u64 = 1;
    const READ_FILE: u64 = 1 << 2;
    const READ_DIR: u64 = 1 << 3;
    #[repr(C, packed)]
    struct PathBeneath {
        allowed: u64,
        parent: libc::c_int,
    }
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    let rule = PathBeneath {
        allowed: match kind {
            FileType::Directory => EXECUTE | READ_FILE | READ_DIR,
            _ => EXECUTE | READ_FILE,
        },
        parent: file.as_raw_fd(),
    };
    // SAFETY: the kernel reads the rule, which is alive and has the layout of its own structure.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            PATH_BENEATH,
            &raw const rule,
            0_u32,
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
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
