//! What signals do in a new process.

use std::ptr;

/// Gives every signal its default disposition.
pub(super) fn reset_signals() {
    for signal in 1..=64_i32 {
        set_action(signal, &[0; 8]);
    }
}

/// Sets what a signal does, in the kernel's own layout, which begins with the handler on every architecture
/// and is nowhere longer than this. All zero is the default disposition. The C library's functions leave
/// two signals of its own out.
pub(super) fn set_action(signal: libc::c_int, action: &[u64; 8]) {
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

/// Blocks all signals for the calling thread and its children.
pub(in crate::runner) fn block_signals() {
    change_mask(&ALL);
}

/// Lets all signals through to the calling thread.
pub(super) fn unblock_signals() {
    change_mask(&0);
}

/// All signals are blocked for the calling thread until this is dropped.
pub(super) struct Blocked {
    before: u64,
}

impl Blocked {
    pub(super) fn all() -> Self {
        Self {
            before: change_mask(&ALL),
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        change_mask(&self.before);
    }
}

/// The kernel's set of all signals, those included that the C library keeps for itself.
const ALL: u64 = u64::MAX;

/// Sets which signals are blocked for the calling thread, and returns which were.
fn change_mask(mask: &u64) -> u64 {
    let mut before = 0_u64;
    // SAFETY: the kernel reads one set and writes the other, each of the size that is given. It cannot fail
    // with valid arguments.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            ptr::from_ref(mask),
            &raw mut before,
            size_of::<u64>(),
        )
    };
    before
}
