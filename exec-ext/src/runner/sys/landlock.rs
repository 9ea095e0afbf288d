//! Landlock, as far as it is used between fork and exec, where nothing may be allocated.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr;

/// Returns the version of Landlock's rules that the kernel has; 0 where there is none.
pub(in crate::runner) fn landlock_version() -> u32 {
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
pub(in crate::runner) fn landlock_add_readable(ruleset: &OwnedFd, path: &CStr) -> io::Result<()> {
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
pub(in crate::runner) fn landlock_enter(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: the call touches no memory.
    let outcome =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
