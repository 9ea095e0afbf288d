//! The system calls that have no safe wrapper. Nothing else in the crate is unsafe.
//!
//! - [`launch`]: starting a program, and all that its process does between birth and exec
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
mod lease;
mod process;
mod signals;

pub(super) use first::{FirstProcess, enclose};
pub(super) use landlock::{landlock_add_readable, landlock_enter, landlock_version};
pub(super) use launch::{ChildSetup, Image, launch};
pub use lease::is_open_for_writing;
pub(super) use process::{
    Exit, ExitWatch, hard_limit, in_group, in_session, kill_and_reap, reap, signal_group,
};
pub(super) use signals::block_signals;
