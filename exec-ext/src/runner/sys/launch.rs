//! Starting a program as `vfork` does: its process shares the server's memory until it executes, and the thread
//! that starts it waits for that. Nothing of the server is copied, and what fails is told by writing it down.
//!
//! Memory is all that is shared: descriptors, signal dispositions, limits, credentials and the working directory
//! are the child's own from the start, see clone(2).

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Resource, Rlimit};

use super::launcher::Killed;
use super::process::{kill_and_reap, wait_for};
use super::signals::{Blocked, reset_signals, unblock_signals};
use crate::runner::confine::Cell;
use crate::runner::enclosure::Join;

/// Bytes of stack of a new process: its calls are few and shallow.
const STACK: usize = 128 * 1024;

/// A program image with its arguments and environment, laid out before its process is made, which
/// must not allocate.
pub(in crate::runner) struct Image {
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
    pub(in crate::runner) fn new(
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

/// What a child does to itself between its birth and exec.
pub(in crate::runner) struct ChildSetup {
    /// The image it becomes.
    pub(in crate::runner) image: Image,
    /// Its standard input, output and error. None of the three is one of those of the server.
    pub(in crate::runner) streams: [OwnedFd; 3],
    /// Its working directory.
    pub(in crate::runner) cwd: OwnedFd,
    /// Its resource limits.
    pub(in crate::runner) rlimits: Vec<(Resource, Rlimit)>,
    /// What confines it.
    pub(in crate::runner) cell: Option<Cell>,
    /// Whether its standard output is a terminal, which becomes the one that controls its session.
    pub(in crate::runner) terminal: bool,
    /// The namespaces that it is to run in.
    pub(in crate::runner) join: Option<Join>,
    /// Whether it is killed when the thread that starts it ends, and so with the server.
    pub(in crate::runner) tied: bool,
}

/// Starts a child that sets itself up and becomes its image. Blocks until it has, or has failed.
///
/// # Errors
///
/// The first one of what it does until its exec has succeeded. There is no child then.
pub(in crate::runner) fn launch(setup: &ChildSetup) -> io::Result<Pid> {
    if let Some(launcher) = setup.join.as_ref().and_then(Join::launcher) {
        let birth = Birth {
            by_launcher: true,
            ..Birth::new(setup, None)
        };
        match launcher.launch(&birth) {
            Some(Err(Killed)) if birth.child.load(Ordering::Relaxed) == 0 => {}
            Some(_) => return birth.outcome(),
            None => {}
        }
    }
    let stack = Stack::take()?;
    let inner = setup.join.as_ref().map(|_| Stack::take()).transpose()?;
    let birth = Birth::new(setup, inner.as_ref());
    // The one that joins sends nobody a signal when it ends. Its exec gives the program's own process SIGCHLD.
    let (body, signal): (Body, _) = match setup.join {
        None => (become_image, libc::SIGCHLD),
        Some(_) => (join_and_start, 0),
    };
    let blocked = Blocked::all();
    let child = start(body, &stack, signal, &birth);
    drop(blocked);
    stack.give_back();
    let child = child?;
    if setup.join.is_some() {
        // The one that joined has done its part.
        wait_for(child);
    } else {
        let id = child.as_raw_nonzero().get();
        birth.child.store(id, Ordering::Relaxed);
        birth.has_settled.store(true, Ordering::Relaxed);
    }
    let outcome = birth.outcome();
    if let Some(inner) = inner {
        inner.give_back();
    }
    outcome
}

/// What a new process finds in the memory that it shares. The thread that made this waits meanwhile.
pub(super) struct Birth<'a> {
    setup: &'a ChildSetup,
    /// The top of the stack for a child of the child, where there is to be one.
    inner: *mut libc::c_void,
    /// Whether a launcher is the parent: then the child has no capabilities, no signal handlers and a filter of system
    /// calls from its birth on.
    by_launcher: bool,
    /// The number of the error that kept it from its exec; 0 for none.
    error: AtomicI32,
    /// The id of the process that is to become the image; 0 for none.
    child: AtomicI32,
    /// Whether that has executed or failed.
    has_settled: AtomicBool,
}

impl<'a> Birth<'a> {
    fn new(setup: &'a ChildSetup, inner: Option<&Stack>) -> Self {
        Self {
            setup,
            inner: inner.map_or(ptr::null_mut(), Stack::top),
            by_launcher: false,
            error: AtomicI32::new(0),
            child: AtomicI32::new(0),
            has_settled: AtomicBool::new(false),
        }
    }

    /// Returns the child, once it uses nothing of this any more or whoever started it has ended. There is none where
    /// this fails.
    fn outcome(&self) -> io::Result<Pid> {
        let child = Pid::from_raw(self.child.load(Ordering::Relaxed));
        let error = match self.error.load(Ordering::Relaxed) {
            0 => None,
            errno => Some(io::Error::from_raw_os_error(errno)),
        };
        match (error, child) {
            (None, Some(child)) if self.has_settled.load(Ordering::Relaxed) => Ok(child),
            (error, child) => {
                if let Some(child) = child {
                    kill_and_reap(child);
                }
                Err(error.unwrap_or_else(|| io::Error::other("who starts programs was killed")))
            }
        }
    }

    /// Notes why there will be no exec, and returns the exit status for that.
    fn fail(&self, error: &io::Error) -> libc::c_int {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        self.error.store(errno, Ordering::Relaxed);
        1
    }
}

/// What a process does from its birth on; it ends with the status that is returned.
pub(super) type Body = extern "C" fn(*mut libc::c_void) -> libc::c_int;

fn start(body: Body, stack: &Stack, flags: libc::c_int, birth: &Birth<'_>) -> io::Result<Pid> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | flags;
    let argument = ptr::from_ref(birth).cast_mut().cast();
    // SAFETY: the stack lives until the child has executed or ended, and this thread waits while the child uses it
    // and `birth`, of which it changes only atomics.
    unsafe { start_at(body, stack.top(), flags, argument, ptr::null_mut(), 0) }
}

/// Starts the process that becomes the image as a sibling of the calling one, on the stack that ends at `top`.
/// Returns when it has executed or ended, which `birth` says then. `password` is what a filter may ask for.
///
/// # Safety
///
/// The stack must be nobody else's and live for so long.
pub(super) unsafe fn start_inside(birth: &Birth<'_>, top: *mut libc::c_void, password: u64) {
    // The kernel writes the id down before the process runs, whatever becomes of this one.
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID;
    let argument = ptr::from_ref(birth).cast_mut().cast();
    // SAFETY: the caller vouches for the stack, and waits while the child uses it and `birth`.
    let started = unsafe {
        let id = birth.child.as_ptr();
        start_at(become_image, top, flags, argument, id, password)
    };
    match started {
        Ok(_) => birth.has_settled.store(true, Ordering::Relaxed),
        Err(error) => {
            birth.fail(&error);
        }
    }
}

/// Starts a process on the stack that ends at `top`, whose id is written to `id` where the flags say so. `tls` is
/// looked at by filters only.
///
/// # Safety
///
/// The stack must be nobody else's and live for as long as the process has this memory, as must what `argument` leads
/// to. As after `vfork`, the body must leave the memory that it shares as it is, but for its stack and what
/// `argument` has for it.
pub(super) unsafe fn start_at(
    body: Body,
    top: *mut libc::c_void,
    flags: libc::c_int,
    argument: *mut libc::c_void,
    id: *mut libc::pid_t,
    tls: u64,
) -> io::Result<Pid> {
    // SAFETY: the caller vouches for all that the child gets.
    match unsafe { libc::clone(body, top, flags, argument, id, tls) } {
        -1 => Err(io::Error::last_os_error()),
        child => Pid::from_raw(child).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH)),
    }
}

/// The body of a child that becomes the image; returns only on failure.
extern "C" fn become_image(birth: *mut libc::c_void) -> libc::c_int {
    // SAFETY: it is what `start_at` was given, and lives for as long as this runs.
    let birth = unsafe { &*birth.cast::<Birth<'_>>() };
    match enter(birth.setup, birth.by_launcher) {
        Ok(()) => 0,
        Err(error) => birth.fail(&error),
    }
}

/// The body of a child that joins namespaces. Who joins a pid namespace does not belong to it, only its children do:
/// this starts one, which is the child of whoever started this, and ends.
extern "C" fn join_and_start(birth: *mut libc::c_void) -> libc::c_int {
    // SAFETY: as above.
    let birth = unsafe { &*birth.cast::<Birth<'_>>() };
    let Some(join) = &birth.setup.join else {
        return 1;
    };
    if let Err(error) = self::join(join.first()) {
        return birth.fail(&error);
    }
    // SAFETY: this stack is for that child alone, and lives as long as that of this one.
    unsafe { start_inside(birth, birth.inner, 0) };
    0
}

/// Joins the namespaces of the process with this pidfd: of its pid namespace only the children will be.
pub(super) fn join(first: BorrowedFd<'_>) -> io::Result<()> {
    let all = libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    // SAFETY: the call touches no memory.
    match unsafe { libc::setns(first.as_raw_fd(), all) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs in the child; returns only on failure.
fn enter(setup: &ChildSetup, by_launcher: bool) -> io::Result<()> {
    if setup.join.is_some() && !by_launcher {
        drop_capabilities()?;
    }
    let [input, output, error] = &setup.streams;
    rustix::stdio::dup2_stdin(input)?;
    rustix::stdio::dup2_stdout(output)?;
    rustix::stdio::dup2_stderr(error)?;
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
    // SAFETY: marks every descriptor above standard error to be closed by exec.
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
        cell.enter(setup.join.is_some(), by_launcher)?;
    }
    // A handler of the server's would run in the server's memory: none is left when signals come through.
    if !by_launcher {
        reset_signals();
    }
    unblock_signals();
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

/// A stack for a new process, with a page below it that cannot be touched.
#[derive(Debug)]
pub(super) struct Stack(*mut libc::c_void);

// SAFETY: it is memory that belongs to this value alone, wherever that is.
unsafe impl Send for Stack {}
// SAFETY: of a shared one only the address can be had.
unsafe impl Sync for Stack {}

/// Stacks that are used again.
static STACKS: Mutex<Vec<Stack>> = Mutex::new(Vec::new());

/// As many are kept: two for each program that is being started.
const STACKS_KEPT: usize = 8;

impl Stack {
    pub(super) fn take() -> io::Result<Self> {
        let kept = STACKS.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.map_or_else(Self::new, Ok)
    }

    /// Leaves it to the next. Nobody runs on it any more.
    fn give_back(self) {
        let mut kept = STACKS.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < STACKS_KEPT {
            kept.push(self);
        }
    }

    fn new() -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, wherever there is room.
        let base = unsafe { libc::mmap(ptr::null_mut(), STACK, access, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self(base);
        let page = super::page_size();
        // SAFETY: the lowest page of the mapping that was just made.
        match unsafe { libc::mprotect(base, page, libc::PROT_NONE) } {
            0 => Ok(stack),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Returns where it begins: stacks grow down. Mappings end at a page's end, which every architecture takes.
    pub(super) fn top(&self) -> *mut libc::c_void {
        self.0.wrapping_byte_add(STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: nobody runs on it any more, and the mapping is this value's own.
        unsafe { libc::munmap(self.0, STACK) };
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

/// Gives up what the creator of a user namespace may do there.
pub(super) fn drop_capabilities() -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    Ok(set_capabilities(None, sets)?)
}
