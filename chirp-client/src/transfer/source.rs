//! Local files as they are sent: with a length that holds.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use bytes::Bytes;
use futures_util::stream;
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

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
    /// Where in the file the content begins.
    base: u64,
    /// The first bytes, at most [`CHUNK`].
    head: Bytes,
    file: File,
}

impl Source {
    /// Opens and measures a file. Blocks.
    pub(super) fn open(path: &Path, follow: bool) -> Result<Self, Error> {
        let failed = |doing| {
            move |source| Error::Local {
                doing,
                path: path.to_owned(),
                source,
            }
        };
        let mut options = File::options();
        options.read(true);
        if !follow {
            // What was listed as a file may be a link or a pipe by now.
            let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
            options.custom_flags(flags.bits().cast_signed());
        }
        let file = options.open(path).map_err(failed("open"))?;
        if !follow && !file.metadata().is_ok_and(|found| found.is_file()) {
            let reason = "no regular file any more";
            return Err(failed("read")(io::Error::other(reason)));
        }
        Self::of(file, path)
    }

    /// Measures an open file; `path` is its name in messages. Blocks.
    pub(super) fn of(file: File, path: &Path) -> Result<Self, Error> {
        Self::measure(file).map_err(|source| Error::Local {
            doing: "read",
            path: path.to_owned(),
            source,
        })
    }

    fn measure(mut file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        // Standard input may have been read from; what has no position has no past.
        let base = file.stream_position().unwrap_or(0);
        let mode = metadata.mode() & 0o777;
        let mut head = Vec::new();
        (&mut file).take(CHUNK as u64).read_to_end(&mut head)?;
        let size = metadata.len().saturating_sub(base);
        let sized = metadata.is_file() && size > CHUNK as u64;
        if head.len() < CHUNK || sized {
            let length = if sized && head.len() == CHUNK {
                size
            } else {
                head.len() as u64
            };
            return Ok(Self {
                mode,
                length,
                base,
                head: head.into(),
                file,
            });
        }
        // Full to the brim, and no word of how much follows.
        let mut spool = tempfile::tempfile()?;
        io::Write::write_all(&mut spool, &head)?;
        let length = head.len() as u64 + io::copy(&mut file, &mut spool)?;
        Ok(Self {
            mode,
            length,
            base: 0,
            head: head.into(),
            file: spool,
        })
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
            let (chunk, file) = read_at(file, offset).await?;
            let next = offset + chunk.len() as u64;
            Ok((!chunk.is_empty()).then_some((chunk, (head, next, file))))
        });
        Ok(StreamReader::new(Box::pin(chunks)))
    }

    /// Returns what the file has beyond the length that was sent, one piece at a time.
    pub(super) async fn beyond(&self, offset: u64) -> io::Result<Bytes> {
        // Pipes are at their end by definition: they were read to it.
        if !self.file.metadata()?.is_file() {
            return Ok(Bytes::new());
        }
        let (chunk, _) = read_at(self.file.try_clone()?, self.base + offset).await?;
        Ok(chunk)
    }
}

/// Reads a piece of a file on a thread that may block.
async fn read_at(file: File, offset: u64) -> io::Result<(Bytes, File)> {
    tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; CHUNK];
        let count = file.read_at(&mut buffer, offset)?;
        buffer.truncate(count);
        Ok((Bytes::from(buffer), file))
    })
    .await
    .map_err(io::Error::other)?
}
