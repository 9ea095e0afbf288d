//! Work that may wait for the disk or for another process.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{JoinError, block_in_place, spawn_blocking};

/// Does `work`. Where the runtime has several threads the calling one does it, and others take over what it had to do
/// besides: nobody waits for a thread to wake up. What the calling task does at the same time waits, though.
///
/// # Errors
///
/// The runtime is going away.
///
/// # Cancel safety
///
/// Work that has begun is done to its end.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => Ok(block_in_place(work)),
        _ => spawn_blocking(work).await,
    }
}
