//! Local work on threads that may block, counted, so that a process can wait for what it has begun.

use std::io;
use std::path::Path;
use std::sync::LazyLock;

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::local::local;
use crate::Error;

/// What is under way in this process: its files are removed by threads that no transfer waits for any
/// more once it was dropped.
static BUSY: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

/// Waits until the transfers that ended or were dropped have removed the local files that they did not
/// finish. A process that exits earlier may leave such files, which are called `.chirp-get.` and a
/// number. It takes as long as the transfers that still run, and as the slowest read or write.
pub async fn settled() {
    BUSY.close();
    BUSY.wait().await;
}

/// Counts as under way until it is dropped.
pub(super) fn busy() -> TaskTrackerToken {
    BUSY.token()
}

/// Does local work on a thread that may block.
pub(super) fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let busy = busy();
    tokio::task::spawn_blocking(move || {
        let _until_done = busy;
        work()
    })
}

/// Does local work on a thread that may block, and waits for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    joined(spawn(work).await)
}

/// Returns what a thread came to.
pub(super) fn joined<T>(
    result: Result<Result<T, Error>, tokio::task::JoinError>,
) -> Result<T, Error> {
    result.unwrap_or_else(|_| {
        let reason = io::Error::other("the thread that did it was lost");
        Err(local("work on", Path::new("."), reason))
    })
}
