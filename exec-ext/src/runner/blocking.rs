//! Work that may wait for the disk or for another process.
//!
//! Waking another thread takes as long as starting a small program. So what is short as a rule is done where it
//! comes up, and only the parts of it that turn out to be long have the thread's other work taken over.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{JoinError, block_in_place, spawn_blocking};

/// Does work that is short as a rule: on the calling thread where the runtime has others, and else on one that may wait.
/// Within, [`patiently`] is for what is long.
///
/// # Errors
///
/// The runtime is going away.
///
/// # Cancel safety
///
/// Work that has begun is done to its end.
pub(super) async fn shortly<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => Ok(work()),
        _ => spawn_blocking(work).await,
    }
}

/// Does work that may take its time. If the calling thread has other tasks, another one takes them over.
pub fn patiently<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}
