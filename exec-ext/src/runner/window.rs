//! Output kept until it is acknowledged: one window for each stream of an execution.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::net::unix::pipe;
use tokio::sync::{Notify, watch};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::budget::Budget;
use super::terminal;

/// Bytes of each window that do not count against the budget: whatever others keep, every stream
/// goes on, if slowly.
pub(super) const RESERVED: usize = 4096;

/// Bytes read from a pipe at once; what a pipe holds by default.
const READ_MAX: usize = 64 * 1024;

/// More bytes than the kernel keeps of a terminal's output.
const TERMINAL_HOLDS: usize = 64 * 1024;

/// The kept part of one output stream. Offsets count from the start of the stream.
#[derive(Debug)]
pub(super) struct Window {
    capacity: usize,
    subject: String,
    budget: Arc<Budget>,
    kept: Mutex<Kept>,
    /// Told when bytes were acknowledged.
    room: Notify,
    /// The execution's: told when bytes came or the stream ended.
    activity: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Kept {
    data: VecDeque<u8>,
    /// Offset of the first byte of `data`.
    from: u64,
    /// Bytes taken from the budget.
    charged: usize,
    /// Whether nothing more will come.
    closed: bool,
    /// Bytes that the program wrote but that were not kept.
    dropped: u64,
}

/// What a pump is told to do once the program has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// Read on until the pipe is closed.
    Open,
    /// Take what is in the pipe now, as fast as the window allows, then close it.
    Drain,
    /// Take what is in the terminal now and fits, then close it.
    HangUp,
    /// Close it now.
    Now,
}

/// How many bytes of a pipe a pump still takes, once [`Closing`] has bounded that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quota {
    rest: Option<usize>,
    /// Whether the end of what is there has to be looked for, because it cannot be counted.
    uncounted: bool,
}

impl Quota {
    /// Heeds what the pump was told, and says whether it takes nothing more.
    pub(super) fn is_used_up(&mut self, told: Closing, pipe: &pipe::Receiver) -> bool {
        match (told, self.rest) {
            (Closing::Now, _) => return true,
            (Closing::Drain | Closing::HangUp, None) => {
                self.uncounted = terminal::is_terminal(pipe);
                self.rest = Some(match self.uncounted {
                    true => TERMINAL_HOLDS,
                    false => waiting_in(pipe),
                });
            }
            _ => {}
        }
        self.rest == Some(0) || (self.uncounted && !polled(pipe).contains(PollFlags::IN))
    }

    /// Returns how many bytes to read at once, of at most `limit`.
    pub(super) fn most(self, limit: usize) -> usize {
        self.rest.map_or(limit, |rest| rest.min(limit))
    }

    /// Notes that so many bytes were taken.
    pub(super) fn took(&mut self, count: usize) {
        self.rest = self.rest.map(|rest| rest.saturating_sub(count));
    }
}

/// How reading a pipe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PipeEnd {
    /// All writers had closed it.
    Closed,
    /// Somebody still held it.
    Held,
}

/// Where a window stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Range {
    /// Offset of the first byte that is still kept.
    pub(super) from: u64,
    /// Offset behind the last byte read.
    pub(super) to: u64,
    /// Bytes lost behind `to`.
    pub(super) dropped: u64,
    /// Whether nothing more will come.
    pub(super) closed: bool,
}

impl Window {
    /// Makes an empty window; `open` says whether anything will come, here or past it.
    pub(super) fn new(
        capacity: usize,
        subject: &str,
        budget: Arc<Budget>,
        activity: Arc<Notify>,
        open: bool,
    ) -> Self {
        Self {
            capacity: capacity.max(RESERVED),
            subject: subject.to_owned(),
            budget,
            kept: Mutex::new(Kept {
                closed: !open,
                ..Kept::default()
            }),
            room: Notify::new(),
            activity,
        }
    }

    /// Makes the window of an execution of an earlier server: nothing is kept, up to `offset`.
    pub(super) fn restore(&self, offset: u64) {
        let mut kept = self.lock();
        kept.from = offset;
        kept.closed = true;
    }

    /// Returns where the window stands.
    pub(super) fn range(&self) -> Range {
        let kept = self.lock();
        Range {
            from: kept.from,
            to: kept.to(),
            dropped: kept.dropped,
            closed: kept.closed,
        }
    }

    /// Returns up to `longest` bytes from `offset` on; empty where there are none yet.
    pub(super) fn copy(&self, offset: u64, longest: usize) -> Bytes {
        let kept = self.lock();
        let skip = usize::try_from(offset.saturating_sub(kept.from)).unwrap_or(usize::MAX);
        let length = kept.data.len().saturating_sub(skip).min(longest);
        if length == 0 {
            return Bytes::new();
        }
        let (head, tail) = kept.data.as_slices();
        let mut bytes = BytesMut::with_capacity(length);
        let first = head.get(skip..).unwrap_or_default();
        let first = first.get(..length).unwrap_or(first);
        bytes.extend_from_slice(first);
        let second = tail
            .get(skip.saturating_sub(head.len())..)
            .unwrap_or_default();
        let second = second.get(..length - first.len()).unwrap_or(second);
        bytes.extend_from_slice(second);
        bytes.freeze()
    }

    /// Forgets the bytes below `offset`, which a client has taken over.
    pub(super) fn acknowledge(&self, offset: u64) {
        let mut kept = self.lock();
        let count = usize::try_from(offset.saturating_sub(kept.from)).unwrap_or(usize::MAX);
        let count = count.min(kept.data.len());
        if count == 0 {
            return;
        }
        kept.data.drain(..count);
        kept.from += count as u64;
        if kept.data.is_empty() {
            kept.data = VecDeque::new();
        }
        let needed = kept.data.len().saturating_sub(RESERVED);
        let freed = kept.charged.saturating_sub(needed);
        kept.charged -= freed;
        self.budget.give(&self.subject, freed);
        drop(kept);
        self.room.notify_waiters();
    }

    /// Reads `pipe` into the window until it is closed, or until `closing` says otherwise.
    pub(super) async fn fill(
        &self,
        pipe: pipe::Receiver,
        mut closing: watch::Receiver<Closing>,
    ) -> PipeEnd {
        let mut quota = Quota::default();
        let end = loop {
            let told = *closing.borrow_and_update();
            if quota.is_used_up(told, &pipe) {
                break end_of(&pipe);
            }
            let (freed, given_back) = (self.room.notified(), self.budget.room.notified());
            match self.read(&pipe, quota.most(READ_MAX)) {
                Ok(Read::Full) if told == Closing::HangUp => break end_of(&pipe),
                Ok(Read::Full) => tokio::select! {
                    () = freed => {}
                    () = given_back => {}
                    _ = closing.changed() => {}
                },
                Ok(Read::Bytes(count)) => {
                    quota.took(count);
                    self.activity.notify_waiters();
                }
                Ok(Read::End) => break PipeEnd::Closed,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // While draining there are bytes, and only the runtime has not seen them yet.
                    tokio::select! {
                        ready = pipe.readable() => if ready.is_err() { break PipeEnd::Closed },
                        _ = closing.changed() => {}
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break PipeEnd::Closed,
            }
        };
        self.close(waiting_in(&pipe) as u64);
        end
    }

    /// Notes that nothing more comes, and how many bytes that the program wrote were not kept.
    pub(super) fn close(&self, dropped: u64) {
        let mut kept = self.lock();
        kept.closed = true;
        kept.dropped = dropped;
        drop(kept);
        self.activity.notify_waiters();
    }

    /// Reads once, no more than there is room for.
    fn read(&self, pipe: &pipe::Receiver, longest: usize) -> io::Result<Read> {
        let mut kept = self.lock();
        let length = kept.data.len();
        let wanted = (self.capacity - length.min(self.capacity))
            .min(longest)
            .min(READ_MAX);
        let free = (RESERVED - length.min(RESERVED)).min(wanted);
        let granted = self.budget.take(&self.subject, wanted - free);
        kept.charged += granted;
        if free + granted == 0 {
            return Ok(Read::Full);
        }
        let mut buffer = [0_u8; READ_MAX];
        let space = buffer.get_mut(..free + granted).unwrap_or_default();
        let outcome = pipe.try_read(space);
        if let Ok(count) = outcome {
            kept.data.extend(space.get(..count).unwrap_or_default());
        }
        let needed = kept.data.len().saturating_sub(RESERVED);
        let unused = kept.charged.saturating_sub(needed);
        kept.charged -= unused;
        self.budget.give(&self.subject, unused);
        outcome.map(|count| match count {
            0 => Read::End,
            count => Read::Bytes(count),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let charged = self.lock().charged;
        self.budget.give(&self.subject, charged);
    }
}

impl Kept {
    fn to(&self) -> u64 {
        self.from + self.data.len() as u64
    }
}

/// What one read brought.
enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing, for the window is full.
    Full,
    /// The end of the stream.
    End,
}

/// Returns the next bytes of a pipe that is read past the window, at most `longest`.
///
/// # Errors
///
/// How reading ended, when the pipe is closed or `closing` says so.
pub(super) async fn next_bytes(
    pipe: &pipe::Receiver,
    closing: &mut watch::Receiver<Closing>,
    quota: &mut Quota,
    longest: usize,
) -> Result<Vec<u8>, PipeEnd> {
    loop {
        let told = *closing.borrow_and_update();
        if quota.is_used_up(told, pipe) {
            return Err(end_of(pipe));
        }
        tokio::select! {
            ready = pipe.readable() => if ready.is_err() { return Err(PipeEnd::Closed) },
            _ = closing.changed() => continue,
        }
        // Only now: a program that says nothing costs no buffer.
        let mut bytes = vec![0; quota.most(longest)];
        match pipe.try_read(&mut bytes) {
            Ok(0) => return Err(PipeEnd::Closed),
            Ok(count) => {
                bytes.truncate(count);
                quota.took(count);
                return Ok(bytes);
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(_) => return Err(PipeEnd::Closed),
        }
    }
}

/// Returns how many bytes wait in the pipe.
pub(super) fn waiting_in(pipe: &pipe::Receiver) -> usize {
    let waiting = rustix::io::ioctl_fionread(pipe).unwrap_or(0);
    usize::try_from(waiting).unwrap_or(usize::MAX)
}

/// Says whether somebody still holds the writing end of `pipe`.
pub(super) fn end_of(pipe: &pipe::Receiver) -> PipeEnd {
    if polled(pipe).contains(PollFlags::HUP) {
        PipeEnd::Closed
    } else {
        PipeEnd::Held
    }
}

/// Returns what can be said of the pipe at this moment.
fn polled(pipe: &pipe::Receiver) -> PollFlags {
    let mut descriptors = [PollFd::new(pipe, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut descriptors, Some(&now)) {
        Ok(_) => {
            let [descriptor] = descriptors;
            descriptor.revents()
        }
        Err(_) => PollFlags::empty(),
    }
}
