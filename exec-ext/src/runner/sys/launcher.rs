//! A process that starts one program after another in the same namespaces. To join them and to have system calls
//! filtered takes as long as starting a small program does; this one has done both for good, and what it starts
//! inherits them.
//!
//! It shares the server's memory and descriptors, as a thread does, and is a process of its own because only such a
//! one can join a user namespace. Programs do not see it: its id is one of outside.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
use rustix::thread::futex;

use super::launch::{Birth, Stack, drop_capabilities, join, start_at, start_inside};
use super::process::wait_for;
use super::signals::{block_signals, reset_signals};
use crate::runner::filter::Filter;

/// Bytes of stack of the thread that waits for the process.
const THREAD_STACK: usize = 64 * 1024;

/// Where a launcher is.
mod state {
    /// It prepares itself.
    pub(super) const COMING: u32 = 0;
    /// It waits.
    pub(super) const IDLE: u32 = 1;
    /// Somebody is about to ask.
    pub(super) const CLAIMED: u32 = 2;
    /// It is to start a program.
    pub(super) const ASKED: u32 = 3;
    /// It has started it, or not.
    pub(super) const DONE: u32 = 4;
    /// It is to end.
    pub(super) const CLOSED: u32 = 5;
    /// It has ended.
    pub(super) const GONE: u32 = 6;
}

/// A process that starts programs in namespaces. It ends when this is dropped.
#[derive(Debug)]
pub(in crate::runner) struct Launcher(Arc<Desk>);

/// The launcher was killed.
#[derive(Debug)]
pub(super) struct Killed;

impl Launcher {
    /// Makes one for the namespaces of the process with this pidfd. The calling thread must have blocked all
    /// signals. Returns before it is ready.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(in crate::runner) fn start(
        namespaces: BorrowedFd<'_>,
        filter: &Arc<Filter>,
    ) -> io::Result<Self> {
        let desk = Arc::new(Desk {
            namespaces: namespaces.try_clone_to_owned()?,
            filter: Arc::clone(filter),
            server: getpid(),
            state: AtomicU32::new(state::COMING),
            birth: AtomicPtr::new(ptr::null_mut()),
            own_stack: Stack::take()?,
            stack_inside: Stack::take()?,
        });
        let own = Arc::clone(&desk);
        let thread = std::thread::Builder::new().name("exec-launcher".to_owned());
        thread
            .stack_size(THREAD_STACK)
            .spawn(move || attend(&own))?;
        Ok(Self(desk))
    }

    /// Says whether it has ended, of itself or by force.
    pub(in crate::runner) fn is_gone(&self) -> bool {
        self.0.state.load(Ordering::Relaxed) == state::GONE
    }

    /// Has it start the program, and returns when that has executed or failed. None where it is not there to be
    /// asked.
    pub(super) fn launch(&self, birth: &Birth<'_>) -> Option<Result<(), Killed>> {
        let desk = &self.0;
        desk.step(state::IDLE, state::CLAIMED).ok()?;
        let birth = ptr::from_ref(birth).cast_mut().cast();
        desk.birth.store(birth, Ordering::Relaxed);
        if desk.step(state::CLAIMED, state::ASKED).is_err() {
            return None;
        }
        desk.wake();
        loop {
            match desk.state.load(Ordering::Acquire) {
                state::ASKED => desk.wait(state::ASKED),
                state::DONE => break,
                _ => return Some(Err(Killed)),
            }
        }
        // It may have been killed since. It need not be told.
        let _ = desk.step(state::DONE, state::IDLE);
        Some(Ok(()))
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.0.state.store(state::CLOSED, Ordering::Release);
        self.0.wake();
    }
}

/// Where a launcher is asked, and all that it needs.
#[derive(Debug)]
struct Desk {
    namespaces: OwnedFd,
    filter: Arc<Filter>,
    server: Pid,
    state: AtomicU32,
    /// What it is asked for: a `Birth`, which lives while the state says so.
    birth: AtomicPtr<libc::c_void>,
    own_stack: Stack,
    /// That of what it starts, one after the other.
    stack_inside: Stack,
}

impl Desk {
    /// Goes from one state to another, or returns the one that it is in.
    fn step(&self, from: u32, to: u32) -> Result<(), u32> {
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        let before = self.state.compare_exchange(from, to, success, failure);
        before.map(drop)
    }

    /// Waits while it is in that state, or a moment.
    fn wait(&self, state: u32) {
        // Who is waked in error looks again.
        let _: Result<(), Errno> = futex::wait(&self.state, futex::Flags::PRIVATE, state, None);
    }

    fn wake(&self) {
        let all = i32::MAX.unsigned_abs();
        let _ = futex::wake(&self.state, futex::Flags::PRIVATE, all);
    }

    /// Makes the calling process one whose children are programs in the namespaces.
    fn prepare(&self) -> io::Result<()> {
        join(self.namespaces.as_fd())?;
        drop_capabilities()?;
        // Its own dispositions, which what it starts inherits. Its signals stay blocked.
        reset_signals();
        // After the change of credentials, which takes it back.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() != Some(self.server) {
            // The server has ended before that.
            return Err(Errno::SRCH.into());
        }
        self.filter.enter_launcher()
    }
}

/// Starts the process and waits for its end. The two have the thread's local storage in common, so that this does
/// nothing else meanwhile.
fn attend(desk: &Arc<Desk>) {
    block_signals();
    let argument = Arc::as_ptr(desk).cast_mut().cast();
    let flags = libc::CLONE_VM | libc::CLONE_FILES;
    let nowhere = ptr::null_mut();
    // SAFETY: the desk has a stack for it, and lives until it has ended. Beside that stack it changes atomics, and
    // waits while what it starts uses the other stack.
    match unsafe { start_at(serve, desk.own_stack.top(), flags, argument, nowhere, 0) } {
        Ok(process) => wait_for(process),
        Err(error) => tracing::debug!(%error, "no launcher for programs"),
    }
    desk.state.store(state::GONE, Ordering::Release);
    desk.wake();
}

/// What the process does, without allocating: it shares the memory of a server with threads.
extern "C" fn serve(desk: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `attend` waits for the end of this with the desk in its hand.
    let desk = unsafe { &*desk.cast::<Desk>() };
    if desk.prepare().is_err() || desk.step(state::COMING, state::IDLE).is_err() {
        return 1;
    }
    loop {
        match desk.state.load(Ordering::Acquire) {
            state::ASKED => {
                let birth = desk.birth.load(Ordering::Relaxed);
                // SAFETY: who asked waits with it until the state is another one.
                let birth = unsafe { &*birth.cast::<Birth<'_>>() };
                // SAFETY: the stack is for what this starts alone, and only one is started at a time.
                unsafe { start_inside(birth, desk.stack_inside.top(), desk.filter.password()) };
                let _ = desk.step(state::ASKED, state::DONE);
                desk.wake();
            }
            state::CLOSED | state::GONE => return 0,
            other => desk.wait(other),
        }
    }
}
