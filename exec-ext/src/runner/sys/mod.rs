//! The system calls that have no safe wrapper. Nothing else in the crate is unsafe.
//!
//! - [`launch`]: starting a program, and all that its process does between birth and exec
//! - [`launcher`]: a process that does so again and again in the same namespaces
//! - [`first`]: the first process of namespaces
//! - [`process`]: the end of processes, signals to them, and what the kernel tells of them
//! - [`landlock`], [`lease`], [`signals`]: single calls
#![expect(
    unsafe_code,
    reason = "wait4, clone, execve, leases and AsyncFd::register have no safe form"
)]

mod first;
mod landlock;
mod launch;
mod launcher;
mod lease;
mod process;
mod signals;

pub(super) use first::{FirstProcess, enclose};
pub(super) use landlock::{landlock_add_readable, landlock_enter, landlock_version};
pub(super) use launch::{ChildSetup, Image, launch};
pub(super) use launcher::Launcher;
pub use lease::is_open_for_writing;
pub(super) use process::{
    Exit, ExitWatch, hard_limit, in_group, in_session, kill_and_reap, reap, signal_group,
};
pub(super) use signals::block_signals;

/// Returns the bytes of a page. By the C library: rustix reads `/proc/self/auxv` for it on kernels before 6.4 and
/// panics where there is none, or where it is root's because this process has become another user.
fn page_size() -> usize {
    // SAFETY: nothing but a number is asked for.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// Returns the ticks of processor time in a second, in the same way.
pub(super) fn clock_ticks() -> i64 {
    // SAFETY: nothing but a number is asked for.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks } else { 100 }
}
