//! Captured output: kept on disk up to a limit, and beyond it the head and the tail.
//!
//! The first half of the file is the head. The second half is a ring that holds the newest bytes
//! behind the head, so that a file never grows beyond the limit, however much a program writes.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::net::unix::pipe;
use tokio::sync::{Notify, watch};

use super::budget::Budget;
use super::window::{Closing, PipeEnd, Quota, next_bytes, waiting_in};

/// Bytes read from a pipe at once; what a pipe holds by default.
const READ_MAX: usize = 64 * 1024;

/// The captured part of one output stream. The file is made with the first byte.
#[derive(Debug)]
pub(super) struct Capture {
    path: PathBuf,
    head: u64,
    tail: u64,
    subject: String,
    /// The bytes on disk that all captures together may have.
    space: Arc<Budget>,
    /// Held while the file is written or read: a ring must not turn under a reader.
    file: Mutex<Option<File>>,
    kept: Mutex<Kept>,
    forgotten: AtomicBool,
    /// The execution's: told when the stream ended.
    activity: Arc<Notify>,
}

/// What has become of a program's output.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    /// Bytes written to the file, those that the ring has overwritten since included.
    taken: u64,
    /// Bytes behind them that were not: there was no room, or nobody read the pipe any more.
    lost: u64,
    /// Whether the ring was damaged by a write that failed.
    tail_damaged: bool,
    charged: usize,
    closed: bool,
}

/// What a record keeps of a capture.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Written {
    taken: u64,
    lost: u64,
    tail_damaged: bool,
}

/// How much a capture has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// Bytes that the program wrote.
    pub(super) written: u64,
    /// Bytes of them that can be read.
    pub(super) kept: u64,
    /// Whether nothing more will come.
    pub(super) closed: bool,
}

impl Capture {
    /// Makes an empty capture that will use the file `path` and keep `limit` bytes.
    pub(super) fn new(
        path: PathBuf,
        limit: u64,
        subject: &str,
        space: Arc<Budget>,
        activity: Arc<Notify>,
    ) -> Self {
        let head = limit / 2;
        Self {
            path,
            head,
            tail: (limit - head).max(1),
            subject: subject.to_owned(),
            space,
            file: Mutex::default(),
            kept: Mutex::default(),
            forgotten: AtomicBool::new(false),
            activity,
        }
    }

    /// Takes over the file of an earlier server. Where `written` is not known, because that was killed,
    /// only what the ring cannot have overwritten is kept.
    pub(super) fn restore(&self, written: Option<Written>) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        *file = File::open(&self.path).ok();
        let length = file.as_ref().and_then(|file| file.metadata().ok());
        let length = length.map_or(0, |metadata| metadata.len());
        let full = length >= self.head + self.tail;
        let written = written.unwrap_or(Written {
            taken: length,
            lost: 0,
            tail_damaged: full,
        });
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        *self.lock() = Kept {
            taken: written.taken,
            lost: written.lost,
            tail_damaged: written.tail_damaged,
            charged: self.space.take(&self.subject, size),
            closed: true,
        };
    }

    /// Returns what a record is to keep.
    pub(super) fn written(&self) -> Written {
        let kept = *self.lock();
        Written {
            taken: kept.taken,
            lost: kept.lost,
            tail_damaged: kept.tail_damaged,
        }
    }

    /// Returns how much it has.
    pub(super) fn extent(&self) -> Extent {
        let kept = *self.lock();
        Extent {
            written: kept.taken + kept.lost,
            kept: self.readable(kept),
            closed: kept.closed,
        }
    }

    /// Reads up to `length` bytes from `offset` on, which counts the kept bytes: behind the head
    /// follows the tail. Blocks for the disk.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = *self.lock();
        let left = self.readable(kept).saturating_sub(offset);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(length);
        let mut bytes = vec![0; length];
        let Some(file) = file.as_ref() else {
            return Ok(Vec::new());
        };
        // The stream's offset of a kept byte: in the tail, what fell out lies before it.
        let gap = (kept.taken).saturating_sub(self.head + self.tail);
        let mut offset = offset;
        let mut rest = bytes.as_mut_slice();
        while !rest.is_empty() {
            let skipped = if offset < self.head { 0 } else { gap };
            let (place, room) = self.place(offset + skipped);
            let now = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
            let (part, behind) = rest.split_at_mut(now);
            file.read_exact_at(part, place)?;
            rest = behind;
            offset += now as u64;
        }
        Ok(bytes)
    }

    /// Has the file removed once nobody reads it any more.
    pub(super) fn forget(&self) {
        self.forgotten.store(true, Ordering::Relaxed);
    }

    /// Reads `pipe` until it is closed, or until `closing` says otherwise.
    pub(super) async fn fill(
        self: &Arc<Self>,
        pipe: pipe::Receiver,
        mut closing: watch::Receiver<Closing>,
    ) -> PipeEnd {
        let mut quota = Quota::default();
        let end = loop {
            match next_bytes(&pipe, &mut closing, &mut quota, READ_MAX).await {
                Ok(bytes) => self.take(bytes).await,
                Err(end) => break end,
            }
        };
        let left = waiting_in(&pipe);
        let mut kept = self.lock();
        kept.closed = true;
        kept.lost += left as u64;
        drop(kept);
        self.activity.notify_waiters();
        end
    }

    /// Takes bytes of the program, on a thread that may wait for the disk.
    async fn take(self: &Arc<Self>, bytes: Vec<u8>) {
        let count = bytes.len() as u64;
        let capture = Arc::clone(self);
        let write = tokio::task::spawn_blocking(move || capture.write(&bytes));
        if write.await.is_err() {
            // The runtime ends, and took the bytes with it.
            self.lock().lost += count;
        }
    }

    /// Writes bytes at their place, or counts them as lost: what follows lost bytes is lost too, so
    /// that what is kept has one gap at most.
    fn write(&self, bytes: &[u8]) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *self.lock();
        let count = bytes.len() as u64;
        let limit = self.head + self.tail;
        let grows = (before.taken + count).min(limit) - before.taken.min(limit);
        let grows = usize::try_from(grows).unwrap_or(usize::MAX);
        let lose = |reason: &dyn std::fmt::Display| {
            let mut kept = self.lock();
            if kept.lost == 0 {
                tracing::warn!(path = %self.path.display(), %reason, "captured output is cut");
            }
            kept.lost += count;
            kept
        };
        if before.lost > 0 {
            drop(lose(&"cut before"));
            return;
        }
        let granted = self.space.take(&self.subject, grows);
        if granted < grows {
            self.space.give(&self.subject, granted);
            drop(lose(&"no room is left for captured output"));
            return;
        }
        let outcome = self.put(&mut file, before.taken, bytes);
        match outcome {
            Ok(()) => {
                let mut kept = self.lock();
                kept.taken += count;
                kept.charged += granted;
            }
            Err(error) => {
                self.space.give(&self.subject, granted);
                let mut kept = lose(&error);
                // A part may have been written over older bytes of the ring.
                kept.tail_damaged = before.taken + count > limit;
            }
        }
    }

    fn put(&self, file: &mut Option<File>, taken: u64, bytes: &[u8]) -> io::Result<()> {
        let file = match file {
            Some(file) => file,
            None => file.insert(
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&self.path)?,
            ),
        };
        let (mut offset, mut rest) = (taken, bytes);
        while !rest.is_empty() {
            let (place, room) = self.place(offset);
            let now = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
            let (part, behind) = rest.split_at(now);
            file.write_all_at(part, place)?;
            rest = behind;
            offset += now as u64;
        }
        Ok(())
    }

    /// Returns where in the file the stream's byte `offset` lies, and how many follow it there.
    fn place(&self, offset: u64) -> (u64, u64) {
        if offset < self.head {
            return (offset, self.head - offset);
        }
        let turned = (offset - self.head) % self.tail;
        (self.head + turned, self.tail - turned)
    }

    fn readable(&self, kept: Kept) -> u64 {
        let limit = if kept.tail_damaged {
            self.head
        } else {
            self.head + self.tail
        };
        kept.taken.min(limit)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if !self.forgotten.load(Ordering::Relaxed) {
            return;
        }
        let charged = self.lock().charged;
        self.space.give(&self.subject, charged);
        let made = self.file.get_mut().unwrap_or_else(PoisonError::into_inner);
        if made.is_none() {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "captured output could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(directory: &tempfile::TempDir, limit: u64, space: usize) -> Capture {
        Capture::new(
            directory.path().join("1.out"),
            limit,
            "unix:tester",
            Arc::new(Budget::new(space)),
            Arc::default(),
        )
    }

    #[test]
    fn head_and_tail_are_what_a_simple_model_says_for_every_size_and_step() {
        let directory = tempfile::tempdir().unwrap();
        let stream: Vec<u8> = (0..100).collect();
        for limit in [1, 2, 7, 16] {
            for step in [1, 3, 8, 40] {
                let capture = capture(&directory, limit, 1000);
                let head = usize::try_from(limit / 2).unwrap();
                let limit = usize::try_from(limit).unwrap();
                let mut written = 0;
                for bytes in stream.chunks(step) {
                    capture.write(bytes);
                    written += bytes.len();
                    let so_far = &stream[..written];
                    let expected = if written <= limit {
                        so_far.to_vec()
                    } else {
                        [&so_far[..head], &so_far[written - (limit - head)..]].concat()
                    };
                    assert_eq!(capture.read(0, 1000).unwrap(), expected);
                    let kept = capture.extent();
                    assert_eq!(kept.written, written as u64);
                    assert_eq!(kept.kept, expected.len() as u64);
                    for offset in 0..=expected.len() {
                        let part = capture.read(offset as u64, 5).unwrap();
                        let end = expected.len().min(offset + 5);
                        assert_eq!(part, expected[offset..end]);
                    }
                }
                capture.forget();
            }
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_leaves_one_gap_only() {
        let directory = tempfile::tempdir().unwrap();
        // A subject gets half.
        let capture = capture(&directory, 100, 20);
        capture.write(b"12345678");
        capture.write(b"abc");
        capture.write(b"d");
        assert_eq!(capture.read(0, 100).unwrap(), b"12345678");
        let extent = capture.extent();
        assert_eq!((extent.written, extent.kept), (12, 8));
    }

    #[test]
    fn a_file_that_cannot_be_written_loses_output_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let capture = capture(&directory, 100, 1000);
        fs::create_dir(directory.path().join("1.out")).unwrap();
        capture.write(b"12345678");
        let extent = capture.extent();
        assert_eq!((extent.written, extent.kept), (8, 0));
        assert!(capture.read(0, 100).unwrap().is_empty());
    }
}
