//! Standard input between the client and the program: a bounded queue with credit.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::unix::pipe;
use tokio::sync::Notify;

use super::terminal;

/// What came from clients and has not been taken by the program.
#[derive(Debug)]
pub(super) struct Stdin {
    capacity: usize,
    queue: Mutex<Queue>,
    /// Told when bytes or the end came.
    ready: Notify,
    /// The execution's: told when the program took some.
    activity: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Queue {
    data: VecDeque<u8>,
    /// Bytes received over the whole execution.
    received: u64,
    /// Offset up to which the attached client may send.
    granted: u64,
    /// Whether a client has closed it, or it was never open.
    eof: bool,
    /// Whether the program takes no more, so that what comes is dropped.
    broken: bool,
    /// The last byte that the program's side took.
    last: Option<u8>,
    /// Whether a terminal was told of the end.
    ended: bool,
}

/// Input that came although it had been closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InputAfterEof;

impl Stdin {
    /// Makes the queue of an execution; `streamed` says whether clients may send anything.
    pub(super) fn new(capacity: usize, activity: Arc<Notify>, streamed: bool) -> Self {
        Self {
            capacity: capacity.max(1),
            queue: Mutex::new(Queue {
                eof: !streamed,
                broken: !streamed,
                ..Queue::default()
            }),
            ready: Notify::new(),
            activity,
        }
    }

    /// Takes over what an earlier server had received.
    pub(super) fn restore(&self, received: u64, eof: bool) {
        let mut queue = self.lock();
        (queue.received, queue.granted) = (received, received);
        (queue.eof, queue.broken) = (eof, true);
    }

    /// Returns the bytes received so far, and whether the stream has been closed.
    pub(super) fn position(&self) -> (u64, bool) {
        let queue = self.lock();
        (queue.received, queue.eof)
    }

    /// Withdraws what is left of the credit: a new client starts without any.
    pub(super) fn restart_credit(&self) {
        let mut queue = self.lock();
        queue.granted = queue.received;
    }

    /// Grants new credit if there is enough room to be worth a frame.
    pub(super) fn grant(&self) -> Option<u64> {
        let mut queue = self.lock();
        if queue.eof {
            return None;
        }
        let taken = queue.received - queue.data.len() as u64;
        let allowed = taken + self.capacity as u64;
        let new = allowed.saturating_sub(queue.granted);
        let worth = new >= (self.capacity as u64).div_ceil(4);
        worth.then(|| {
            queue.granted = allowed;
            new
        })
    }

    /// Takes bytes from the client, who has been held to the credit already.
    pub(super) fn push(&self, bytes: &[u8]) -> Result<(), InputAfterEof> {
        let mut queue = self.lock();
        if queue.eof {
            return Err(InputAfterEof);
        }
        queue.received += bytes.len() as u64;
        if queue.broken {
            drop(queue);
            // Nobody takes the bytes, but they count as taken: the credit goes on.
            self.activity.notify_waiters();
        } else {
            queue.data.extend(bytes);
            drop(queue);
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Closes the stream behind what has been received.
    pub(super) fn close(&self) {
        self.lock().eof = true;
        self.ready.notify_one();
    }

    /// Drops what is queued and all that comes: the program takes no more.
    pub(super) fn break_off(&self) {
        let mut queue = self.lock();
        queue.broken = true;
        queue.data = VecDeque::new();
        drop(queue);
        self.ready.notify_one();
        self.activity.notify_waiters();
    }

    /// Feeds `pipe` until the stream is closed and empty, or the program takes no more.
    pub(super) async fn feed(&self, pipe: pipe::Sender) {
        let terminal = terminal::is_terminal(&pipe);
        loop {
            match self.write(&pipe, terminal) {
                Ok(Step::Empty) => self.ready.notified().await,
                Ok(Step::Wrote) => self.activity.notify_waiters(),
                Ok(Step::Over) => return,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::select! {
                        ready = pipe.writable() => if ready.is_err() { break },
                        // The program may end while its pipe is full.
                        () = self.ready.notified() => {}
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.break_off();
    }

    fn write(&self, pipe: &pipe::Sender, terminal: bool) -> io::Result<Step> {
        let mut queue = self.lock();
        if queue.broken {
            return Ok(Step::Over);
        }
        if queue.data.is_empty() && queue.eof && terminal && !queue.ended {
            queue.ended = true;
            // Nothing is received or granted any more, so what is queued need not have been received.
            let end = terminal::end_of_file(pipe, queue.last);
            queue.data.extend(end);
        }
        if queue.data.is_empty() {
            return Ok(if queue.eof { Step::Over } else { Step::Empty });
        }
        let (head, _) = queue.data.as_slices();
        let count = pipe.try_write(head)?;
        let last = head.get(..count).and_then(|taken| taken.last().copied());
        queue.last = last.or(queue.last);
        queue.data.drain(..count);
        if queue.data.is_empty() {
            queue.data = VecDeque::new();
        }
        Ok(Step::Wrote)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one step of feeding came to.
enum Step {
    Wrote,
    Empty,
    Over,
}
