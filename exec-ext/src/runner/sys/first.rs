//! The first process of an enclosure: a copy of the server that makes the namespaces, forgets what it knows and
//! then only waits.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use seccompiler::sock_filter;

use super::launch::drop_capabilities;
use super::process::kill_and_reap;
use super::signals::{reset_signals, set_action};

/// Forks into new `namespaces`, as the kernel does it. Returns None in the child, and otherwise its id and a pidfd.
///
/// # Safety
///
/// As after any fork of a threaded process, the child may only make system calls that need nothing of
/// the C library.
unsafe fn fork_into(namespaces: libc::c_int) -> io::Result<Option<(Pid, OwnedFd)>> {
    let mut handle: libc::c_int = -1;
    let flags = namespaces | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: the kernel writes to the handle only, and without a stack of its own the child goes on with a copy of
    // this one. The order of the arguments up to the handle is the same on x86-64 and on AArch64.
    let child = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::c_long::from(flags),
            ptr::null_mut::<u8>(),
            &raw mut handle,
            ptr::null_mut::<u8>(),
            0_usize,
        )
    };
    if child == -1 {
        return Err(io::Error::last_os_error());
    }
    let child = i32::try_from(child).ok().and_then(Pid::from_raw);
    // SAFETY: the kernel has just made this descriptor, which nobody else knows of.
    Ok(child.map(|pid| (pid, unsafe { OwnedFd::from_raw_fd(handle) })))
}

/// Steps of a filter that a first process can have.
const STEPS_MAX: usize = 2048;

/// What the first process of an enclosure needs, laid out before the fork, and all of it in here.
#[derive(Clone)]
pub(in crate::runner) struct FirstProcess {
    user_map: IdMap,
    group_map: IdMap,
    filter: [sock_filter; STEPS_MAX],
    /// How many of them there are.
    steps: usize,
}

impl FirstProcess {
    /// Plans first processes in whose enclosures this user and group are what they are outside.
    ///
    /// # Errors
    ///
    /// The filter is too long.
    pub(in crate::runner) fn new(
        user: u32,
        group: u32,
        filter: Option<&[sock_filter]>,
    ) -> io::Result<Self> {
        let given = filter.unwrap_or_default();
        let mut filter = [NO_STEP; STEPS_MAX];
        let kept = filter.get_mut(..given.len());
        let too_long = || io::Error::other("the filter of system calls is too long");
        kept.ok_or_else(too_long)?.clone_from_slice(given);
        Ok(Self {
            user_map: IdMap::of(user),
            group_map: IdMap::of(group),
            filter,
            steps: given.len(),
        })
    }
}

const NO_STEP: sock_filter = sock_filter {
    code: 0,
    jt: 0,
    jf: 0,
    k: 0,
};

/// The line for `uid_map` or `gid_map` by which an id is the same inside and outside.
#[derive(Clone)]
struct IdMap {
    text: [u8; 32],
    length: usize,
}

impl IdMap {
    fn of(id: u32) -> Self {
        let line = format!("{id} {id} 1\n");
        let mut text = [0; 32];
        // Two numbers of ten digits fit.
        for (to, from) in text.iter_mut().zip(line.bytes()) {
            *to = from;
        }
        Self {
            text,
            length: line.len(),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or_default()
    }
}

/// Starts the first process of new namespaces. It ends with the calling thread, which must have
/// blocked all signals. Returns its id and a pidfd once it is ready.
pub(in crate::runner) fn enclose(plan: &FirstProcess) -> io::Result<(Pid, OwnedFd)> {
    let (told, report) = pipe_with(PipeFlags::CLOEXEC)?;
    let namespaces = libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    // SAFETY: the child makes only system calls, and never returns from here.
    let child = unsafe { fork_into(namespaces) }?;
    let Some((pid, handle)) = child else {
        be_first(plan, &report);
    };
    drop(report);
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
    // On this stack, which is all that stays.
    let (plan, report) = (plan.clone(), report.as_raw_fd());
    let error = match prepare_enclosure(&plan) {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
    };
    // SAFETY: the descriptor has been open since the fork.
    let report = unsafe { BorrowedFd::borrow_raw(report) };
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
    forget_memory()?;
    // A server that has changed its user is not, and then neither its maps can be written nor its namespaces be
    // joined. Whoever looks into this process now finds nothing.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?;
    write_to(c"/proc/self/setgroups", b"deny")?;
    write_to(c"/proc/self/uid_map", plan.user_map.as_bytes())?;
    write_to(c"/proc/self/gid_map", plan.group_map.as_bytes())?;
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
    match plan.filter.get(..plan.steps) {
        Some([]) | None => Ok(()),
        Some(filter) => seccompiler::apply_filter(filter).map_err(|_| io::Error::last_os_error()),
    }
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
