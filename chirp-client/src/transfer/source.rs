//! Local files as they are sent: with a length that holds.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use bytes::Bytes;
use futures_util::stream;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use super::facts::Facts;
use super::local::local;
use crate::Error;
use crate::verbs::body::CHUNK;

/// An opened local file and its length. `putfile` names the length before the first byte, but what
/// `stat` says is only a guess: files in `/proc` have size 0 and pipes have none, so the beginning
/// is read, and where the size makes no sense the content goes to an unnamed temporary file first.
pub(super) struct Source {
    /// Permission bits.
    pub(super) mode: u32,
    /// Bytes to send.
    pub(super) length: u64,
    /// The first bytes, at most [`CHUNK`].
    pub(super) head: Bytes,
    /// Whether it is a regular file, which may grow. A pipe was read to its end by definition.
    pub(super) is_file: bool,
    /// Whether it has holes that are worth keeping.
    pub(super) has_holes: bool,
    /// Where in the file the content begins.
    base: u64,
    file: File,
    /// What was known of it when it was opened.
    opened: Metadata,
}

impl Source {
    /// Opens a file without measuring it. Blocks.
    pub(super) fn open_file(path: &Path, follow: bool) -> Result<File, Error> {
        let mut options = File::options();
        options.read(true);
        if !follow {
            // What was listed as a file may be a link or a pipe by now.
            let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
            options.custom_flags(flags.bits().cast_signed());
        }
        options
            .open(path)
            .map_err(|error| local("open", path, error))
    }

    /// Opens and measures a file. Blocks.
    pub(super) fn open(path: &Path, follow: bool) -> Result<Self, Error> {
        let file = Self::open_file(path, follow)?;
        let found = file
            .metadata()
            .map_err(|error| local("read", path, error))?;
        if !follow && !found.is_file() {
            let reason = "no regular file any more";
            return Err(local("read", path, io::Error::other(reason)));
        }
        Self::measure(file, found).map_err(|error| local("read", path, error))
    }

    /// Measures an open file; `path` is its name in messages. Blocks.
    pub(super) fn of(file: File, path: &Path) -> Result<Self, Error> {
        let found = file
            .metadata()
            .map_err(|error| local("read", path, error))?;
        Self::measure(file, found).map_err(|error| local("read", path, error))
    }

    fn measure(mut file: File, opened: Metadata) -> io::Result<Self> {
        // Standard input may have been read from; what has no position has no past.
        let base = match opened.is_file() {
            true => file.stream_position()?,
            false => 0,
        };
        let mode = opened.mode() & 0o777;
        let size = opened.len().saturating_sub(base);
        // One byte more than there should be, so that the end is seen without growing.
        let expected = usize::try_from(size).unwrap_or(CHUNK).min(CHUNK);
        let mut head = Vec::with_capacity(expected + 1);
        (&mut file).take(CHUNK as u64).read_to_end(&mut head)?;
        let sized = opened.is_file() && size > CHUNK as u64;
        let mut source = Self {
            mode,
            length: head.len() as u64,
            head: Bytes::new(),
            is_file: opened.is_file(),
            has_holes: sized && Facts::metadata(&opened).has_holes(),
            base,
            file,
            opened,
        };
        if sized && head.len() == CHUNK {
            source.length = size;
        } else if head.len() == CHUNK && size != CHUNK as u64 {
            // Full to the brim, and no word of how much follows.
            let mut spool = tempfile::tempfile()?;
            io::Write::write_all(&mut spool, &head)?;
            source.length += io::copy(&mut source.file, &mut spool)?;
            (source.file, source.base, source.is_file) = (spool, 0, false);
        }
        source.head = head.into();
        Ok(source)
    }

    /// Reports whether the head is all there is.
    pub(super) fn is_whole(&self) -> bool {
        self.head.len() as u64 == self.length
    }

    /// Returns the content from its beginning.
    pub(super) fn content(&self) -> io::Result<impl AsyncRead + Unpin + use<>> {
        let file = self.file.try_clone()?;
        let start = (self.head.clone(), self.base, file);
        let chunks = stream::try_unfold(start, |(head, offset, file)| async move {
            if !head.is_empty() {
                let offset = offset + head.len() as u64;
                return Ok::<_, io::Error>(Some((head, (Bytes::new(), offset, file))));
            }
            let (chunk, file) = read_at(file, offset, CHUNK).await?;
            let next = offset + chunk.len() as u64;
            Ok((!chunk.is_empty()).then_some((chunk, (head, next, file))))
        });
        Ok(StreamReader::new(Box::pin(chunks)))
    }

    /// Returns at most `limit` bytes from `offset`; none at the end.
    pub(super) async fn read(&self, offset: u64, limit: usize) -> io::Result<Bytes> {
        let file = self.file.try_clone()?;
        let (chunk, _) = read_at(file, self.base + offset, limit).await?;
        Ok(chunk)
    }

    /// Returns the next at most `limit` bytes from `offset` on that are no hole, and where they are;
    /// `None` behind the last.
    pub(super) async fn piece(
        &self,
        mut offset: u64,
        limit: usize,
    ) -> io::Result<Option<(u64, Bytes)>> {
        let mut left = limit;
        if self.has_holes {
            let data = rustix::fs::seek(&self.file, SeekFrom::Data(self.base + offset));
            offset = match data {
                Ok(at) => at.saturating_sub(self.base),
                Err(Errno::NXIO) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let hole = rustix::fs::seek(&self.file, SeekFrom::Hole(self.base + offset))?;
            let data = hole.saturating_sub(self.base).saturating_sub(offset);
            left = left.min(usize::try_from(data).unwrap_or(left));
        }
        let end = self.length.saturating_sub(offset);
        left = left.min(usize::try_from(end).unwrap_or(left));
        if left == 0 {
            return Ok(None);
        }
        let piece = self.read(offset, left).await?;
        if piece.is_empty() {
            let reason = "it became shorter while it was sent; send it again";
            return Err(io::Error::other(reason));
        }
        Ok(Some((offset, piece)))
    }

    /// Returns a handle that stands at the beginning of the content.
    pub(super) fn again(&self) -> io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.seek(io::SeekFrom::Start(self.base))?;
        Ok(file)
    }

    /// Reports a file that changed since it was opened, other than by growing.
    pub(super) fn check_unchanged(&self, path: &Path) -> Result<(), Error> {
        if !self.is_file {
            return Ok(());
        }
        let found = self.file.metadata();
        let found = found.map_err(|error| local("read", path, error))?;
        let grown = found.len() > self.opened.len();
        let modified = |of: &Metadata| (of.mtime(), of.mtime_nsec());
        if grown || modified(&found) == modified(&self.opened) {
            return Ok(());
        }
        let reason = "it was changed while it was sent, so the copy may be neither the old nor the \
                      new file; send it again";
        Err(local("send", path, io::Error::other(reason)))
    }
}

/// Reads a piece of a file on a thread that may block.
async fn read_at(file: File, offset: u64, limit: usize) -> io::Result<(Bytes, File)> {
    tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; limit];
        let count = file.read_at(&mut buffer, offset)?;
        buffer.truncate(count);
        Ok((Bytes::from(buffer), file))
    })
    .await
    .map_err(io::Error::other)?
}
