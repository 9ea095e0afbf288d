//! Leases, which tell whether a file is open to somebody.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

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
