//! Directory listings, produced piece by piece: a directory of a million entries takes no more
//! memory than one of ten.

use bytes::{BufMut, BytesMut};
use rustix::fs::{AtFlags, Dir as Entries};
use rustix::io::Errno;

use chirp_proto::Stat;

use super::{Dir, is_reserved, wire};

/// Bytes after which a piece of a listing ends. One entry may go beyond it.
pub const PIECE: usize = 32 * 1024;

/// A listing under way.
pub struct Listing {
    entries: Entries,
    dir: Dir,
    long: bool,
    is_root: bool,
    dots: bool,
    finished: bool,
}

impl Listing {
    /// Starts the listing of a directory: names only, or each with its stat line.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn new(dir: &Dir, is_root: bool, long: bool) -> Result<Self, Errno> {
        Ok(Self {
            entries: Entries::new(dir.readable()?)?,
            dir: dir.clone(),
            long,
            is_root,
            dots: true,
            finished: false,
        })
    }

    /// Leaves out `.` and `..`.
    #[must_use]
    pub const fn without_dots(mut self) -> Self {
        self.dots = false;
        self
    }

    /// Appends the next lines, about [`PIECE`] bytes, and the empty line at the end. Returns
    /// whether there is more.
    ///
    /// # Errors
    ///
    /// The system's. The client has been told that the listing follows, so the connection cannot
    /// go on after one.
    pub fn fill(&mut self, out: &mut BytesMut) -> Result<bool, Errno> {
        let enough = out.len() + PIECE;
        while !self.finished && out.len() < enough {
            match self.entries.read() {
                Some(entry) => self.put(entry?.file_name().to_bytes(), out),
                None => {
                    out.put_u8(b'\n');
                    self.finished = true;
                }
            }
        }
        Ok(!self.finished)
    }

    fn put(&self, name: &[u8], out: &mut BytesMut) {
        // A name with an LF would read as two (W12).
        if is_reserved(name) || memchr::memchr(b'\n', name).is_some() {
            return;
        }
        if !self.dots && (name == b"." || name == b"..") {
            return;
        }
        out.put_slice(name);
        out.put_u8(b'\n');
        if self.long {
            // What vanished since its name was read has zeros, as in the reference.
            self.stat(name).unwrap_or_default().encode_into(out);
        }
    }

    fn stat(&self, name: &[u8]) -> Result<Stat, Errno> {
        // The root is its own parent: what is above it is not the client's business (W13).
        let stat = if self.is_root && name == b".." {
            rustix::fs::fstat(&self.dir)
        } else {
            rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW)
        };
        stat.map(|stat| wire::stat(&stat))
    }
}

impl std::fmt::Debug for Listing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listing")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}
