//! The thread that jobs' programs are started on. The kernel kills a program when the thread that
//! started it ends, so this one lives as long as the server: if that is killed, so are they.

use std::io;
use std::sync::mpsc;

use exec_ext::runner::{Batch, Running, StartError};
use tokio::sync::oneshot;

type Answer = oneshot::Sender<Result<Running, StartError>>;

/// The way to the thread, which ends with it.
#[derive(Debug)]
pub(super) struct Keeper {
    requests: mpsc::SyncSender<(Batch, tokio::runtime::Handle, Answer)>,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn start() -> io::Result<Self> {
        let (requests, taken) = mpsc::sync_channel::<(Batch, tokio::runtime::Handle, Answer)>(0);
        std::thread::Builder::new()
            .name("jobs".to_owned())
            .spawn(move || {
                for (batch, runtime, answer) in taken {
                    // Nobody waits for the answer only when the server ends, and the program with it.
                    let _ = answer.send(batch.start(&runtime));
                }
            })?;
        Ok(Self { requests })
    }

    /// Starts a program; None if the server ends. Blocks until its exec has succeeded or failed.
    pub(super) fn run(
        &self,
        batch: Batch,
        runtime: tokio::runtime::Handle,
    ) -> Option<Result<Running, StartError>> {
        let (answer, answered) = oneshot::channel();
        self.requests.send((batch, runtime, answer)).ok()?;
        answered.blocking_recv().ok()
    }
}
