//! The patterns of `sread` and `swrite`, and `pwrite` as the pattern of one piece.
//!
//! Data pass in small portions, whatever length the client announced.

use std::fs::File;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use rustix::io::Errno;

use chirp_proto::request::Stride;

use crate::space::Promise;

/// Bytes of the portions that a [`Gather`] delivers, and of its reads.
pub const PORTION: usize = 32 * 1024;

/// Reads after which a [`Gather`] pauses, however little they brought.
const READS_MAX: u32 = 256;

/// Writes after which a [`Scatter`] pauses.
const WRITES_MAX: usize = 256;

/// Where the bytes of a pattern lie in the file.
#[derive(Clone, Copy, Debug)]
struct Pattern {
    offset: u64,
    piece: u64,
    every: u64,
    /// Bytes of all pieces together.
    total: u64,
}

impl Pattern {
    /// As many whole pieces as fit into the length.
    fn whole_pieces(stride: Stride) -> Self {
        let pieces = stride.length.checked_div(stride.piece).unwrap_or(0);
        Self {
            offset: stride.offset,
            piece: stride.piece,
            every: stride.every,
            total: pieces * stride.piece,
        }
    }

    /// Ends the pattern with the first piece that does not lie in a file of this size entirely.
    fn cut_at(mut self, size: u64) -> Self {
        let Some(room) = size.checked_sub(self.offset) else {
            self.total = 0;
            return self;
        };
        let pieces = self.total.checked_div(self.piece).unwrap_or(0);
        let whole = match room.checked_sub(self.piece) {
            None => 0,
            Some(last) => pieces.min(last.checked_div(self.every).map_or(pieces, |n| n + 1)),
        };
        let mut total = whole * self.piece;
        if whole < pieces {
            total += room
                .saturating_sub(whole.saturating_mul(self.every))
                .min(self.piece);
        }
        self.total = total;
        self
    }

    /// Returns where the last piece ends, which lies behind all others; 0 without any piece.
    fn end(&self) -> u64 {
        match self.total.checked_div(self.piece) {
            None | Some(0) => 0,
            Some(pieces) => (pieces - 1)
                .saturating_mul(self.every)
                .saturating_add(self.piece)
                .saturating_add(self.offset),
        }
    }

    /// Returns where byte number `done` of the pattern lies, and how many follow it there; `None`
    /// at the end of the pattern.
    fn place(&self, done: u64) -> Option<(u64, u64)> {
        if done >= self.total {
            return None;
        }
        let (number, within) = (done.checked_div(self.piece)?, done.checked_rem(self.piece)?);
        let start = number.saturating_mul(self.every);
        let position = self.offset.saturating_add(start).saturating_add(within);
        Some((position, (self.piece - within).min(self.total - done)))
    }
}

/// The reply of an `sread` under way.
#[derive(Debug)]
pub struct Gather {
    file: Arc<File>,
    pattern: Pattern,
    done: u64,
    window: Vec<u8>,
    window_start: u64,
    /// Reads since the last pause.
    reads: u32,
}

impl Gather {
    /// Plans the reading of a pattern from a file as long as it is now.
    ///
    /// # Errors
    ///
    /// The system's: `BADF` for a descriptor that cannot read, `ISDIR`.
    pub fn new(file: Arc<File>, stride: Stride) -> Result<Self, Errno> {
        // Says at once whether the descriptor can be read at all.
        rustix::io::pread(&*file, &mut [0u8; 1], 0)?;
        let size = u64::try_from(rustix::fs::fstat(&*file)?.st_size).unwrap_or(0);
        Ok(Self {
            file,
            pattern: Pattern::whole_pieces(stride).cut_at(size),
            done: 0,
            window: Vec::new(),
            window_start: 0,
            reads: 0,
        })
    }

    /// Returns how many bytes will be delivered.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.pattern.total
    }

    /// Appends the next bytes, at most [`PORTION`]. Returns whether there is more.
    ///
    /// # Errors
    ///
    /// The system's; `IO` if the file became shorter. The client has been told a length, so the
    /// connection cannot go on after one.
    pub fn fill(&mut self, out: &mut BytesMut) -> Result<bool, Errno> {
        let mut room = PORTION;
        self.reads = 0;
        while room > 0 && self.reads < READS_MAX {
            let Some((position, left)) = self.pattern.place(self.done) else {
                return Ok(false);
            };
            let ready = self.window_at(position)?;
            let length = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(room)
                .min(ready.len());
            let Some(data) = ready.get(..length) else {
                return Err(Errno::IO);
            };
            out.put_slice(data);
            room -= length;
            self.done += length as u64;
        }
        Ok(self.done < self.pattern.total)
    }

    /// Returns bytes of the file from a position on, at least one, read ahead as far as that can
    /// serve several pieces.
    fn window_at(&mut self, position: u64) -> Result<&[u8], Errno> {
        let inside = position
            .checked_sub(self.window_start)
            .and_then(|at| usize::try_from(at).ok())
            .filter(|at| *at < self.window.len());
        let at = match inside {
            Some(at) => at,
            None => {
                self.reads += 1;
                let one = self.pattern.piece.max(1);
                let span = if self.pattern.every < PORTION as u64 {
                    PORTION
                } else {
                    usize::try_from(one).unwrap_or(PORTION).min(PORTION)
                };
                self.window.clear();
                self.window.reserve_exact(span);
                let space = rustix::buffer::spare_capacity(&mut self.window);
                if rustix::io::pread(&*self.file, space, position)? == 0 {
                    return Err(Errno::IO);
                }
                self.window_start = position;
                0
            }
        };
        Ok(self.window.get(at..).unwrap_or_default())
    }
}

/// The target of a `pwrite` or `swrite` payload. It takes every byte the client announced and
/// keeps what belongs into the file.
#[derive(Debug)]
pub struct Scatter {
    file: Arc<File>,
    pattern: Pattern,
    done: u64,
    /// The space for it.
    _promise: Promise,
}

impl Scatter {
    /// Plans a `pwrite` of `length` bytes.
    #[must_use]
    pub fn contiguous(file: Arc<File>, offset: u64, length: u64) -> Self {
        let pattern = Pattern {
            offset,
            piece: length,
            every: 0,
            total: length,
        };
        Self {
            file,
            pattern,
            done: 0,
            _promise: Promise::default(),
        }
    }

    /// Plans an `swrite`.
    #[must_use]
    pub fn strided(file: Arc<File>, stride: Stride) -> Self {
        Self {
            file,
            pattern: Pattern::whole_pieces(stride),
            done: 0,
            _promise: Promise::default(),
        }
    }

    /// Keeps a promise of space until the last byte is written.
    #[must_use]
    pub fn promised(self, promise: Promise) -> Self {
        Self {
            _promise: promise,
            ..self
        }
    }

    /// Returns where the pattern ends in the file; 0 if it is empty.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.pattern.end()
    }

    /// Returns how many bytes of the payload belong into the file.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.pattern.total
    }

    /// Returns how many bytes to write at once at most, so that small pieces, which cost a system
    /// call each, keep nobody waiting.
    #[must_use]
    pub fn portion(&self) -> usize {
        usize::try_from(self.pattern.piece)
            .unwrap_or(usize::MAX)
            .saturating_mul(WRITES_MAX)
    }

    /// Returns how many bytes are in the file.
    #[must_use]
    pub const fn done(&self) -> u64 {
        self.done
    }

    /// Writes the next bytes of the payload; those after the pattern's end are dropped.
    ///
    /// # Errors
    ///
    /// The system's: `BADF`, `NOSPC`, `FBIG`, `INVAL`.
    pub fn write(&mut self, mut data: &[u8]) -> Result<(), Errno> {
        while !data.is_empty() {
            let Some((position, left)) = self.pattern.place(self.done) else {
                return Ok(());
            };
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
            let (portion, _) = data.split_at(length);
            match rustix::io::pwrite(&*self.file, portion, position) {
                Ok(0) => return Err(Errno::IO),
                Ok(written) => {
                    self.done += written as u64;
                    data = data.get(written..).unwrap_or_default();
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}
