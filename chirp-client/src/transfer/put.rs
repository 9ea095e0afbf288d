//! Sending files and trees.

use std::fs::{FileType, ReadDir};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use chirp_proto::request::OpenFlags;
use chirp_proto::{Code, VirtualPath};
use futures_util::future::{try_join, try_join_all};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

use super::local::local;
use super::source::Source;
use super::tally::Tally;
use super::worker::{Queue, Worker, for_each_directory};
use super::{Summary, TransferOptions, place};
use crate::{Client, Error};

/// Directories that are made and walked at once.
const DIRECTORIES_AT_ONCE: usize = 8;

/// Entries of a local directory that are read at a time.
const BATCH: usize = 256;

/// The mode that the reference's tools ask for in a new directory; servers make it 0700 anyway.
const DIRECTORY_MODE: u32 = 0o700;

/// Sends a local file or tree to `target`; what that names is told by the options.
///
/// A file that shrinks while it is read costs its connection; one that grows is sent to its end.
///
/// # Errors
///
/// [`Error::Incomplete`] if some entries could not be sent; all others were. Any other error ended
/// the transfer early.
///
/// # Cancel safety
///
/// Dropping the future ends the transfer; a file that was being sent ends with its connection.
pub async fn put(
    client: &Client,
    source: &Path,
    target: &VirtualPath,
    options: &TransferOptions,
) -> Result<Summary, Error> {
    let metadata = {
        let path = source.to_owned();
        blocking(move || std::fs::metadata(&path).map_err(|error| local("read", &path, error)))
            .await?
    };
    let target = place::remote(client, source, target, options.placement).await?;
    let tally = Tally::new(options.progress.clone());
    if metadata.is_dir() {
        tree(client, source, target, options, &tally).await?;
        return tally.finish();
    }
    file(client, source.to_owned(), true, &target, &tally).await?;
    tally.finish()
}

/// Sends what an open file brings to `target`, which is the new name. A pipe or terminal is read to
/// its end first, into an unnamed temporary file.
///
/// # Errors
///
/// As [`put`].
///
/// # Cancel safety
///
/// As [`put`].
pub async fn put_file(
    client: &Client,
    source: std::fs::File,
    target: &VirtualPath,
    options: &TransferOptions,
) -> Result<Summary, Error> {
    let tally = Tally::new(options.progress.clone());
    let path = PathBuf::from("the open file");
    let named = path.clone();
    let source = blocking(move || Source::of(source, &named)).await?;
    send(client, &path, &source, target, &tally).await?;
    tally.finish()
}

/// A local file on its way.
struct Item {
    source: PathBuf,
    target: VirtualPath,
}

/// A local directory and what it becomes.
struct Directory {
    source: PathBuf,
    target: VirtualPath,
}

async fn tree(
    client: &Client,
    source: &Path,
    target: VirtualPath,
    options: &TransferOptions,
    tally: &Tally,
) -> Result<(), Error> {
    let (files, queue) = Queue::new();
    let first = Directory {
        source: source.to_owned(),
        target,
    };
    let walking = walk(client, first, files, tally);
    let sending = (0..options.connections.max(1)).map(|_| async {
        let mut worker = Worker::new(client);
        while let Some(Item { source, target }) = queue.next().await {
            let client = worker.client().await?;
            let path = source.display().to_string();
            let sent = file(&client, source, false, &target, tally).await;
            tally.note(path, sent)?;
        }
        Ok(())
    });
    try_join(walking, try_join_all(sending)).await.map(drop)
}

/// Makes the directories, several at a time but each before what it holds, and queues the files.
async fn walk(
    client: &Client,
    first: Directory,
    files: mpsc::Sender<Item>,
    tally: &Tally,
) -> Result<(), Error> {
    let visit = |next| directory(client, next, &files, tally);
    for_each_directory(DIRECTORIES_AT_ONCE, first, visit).await
}

/// Makes one directory, queues its files, makes its links and returns its directories.
async fn directory(
    client: &Client,
    Directory { source, target }: Directory,
    files: &mpsc::Sender<Item>,
    tally: &Tally,
) -> Result<Vec<Directory>, Error> {
    let mut below = Vec::new();
    let named = || source.display().to_string();
    let made = match client.mkdir(&target, DIRECTORY_MODE).await {
        // A file of that name shows when something is put below it; an empty directory would not.
        Err(error) if error.code() == Some(Code::AlreadyExists) => {
            client.stat(&target).await.and_then(|stat| {
                if stat.is_directory() {
                    Ok(())
                } else {
                    Err(error)
                }
            })
        }
        other => other,
    };
    if let Err(error) = made {
        tally.note(named(), Err(error))?;
        return Ok(below);
    }
    tally.directory();
    let mut reading = match open_directory(source.clone()).await {
        Ok(reading) => reading,
        Err(error) => {
            tally.note(named(), Err(error))?;
            return Ok(below);
        }
    };
    loop {
        let (rest, batch) = read_batch(reading, source.clone()).await?;
        reading = rest;
        if batch.is_empty() {
            return Ok(below);
        }
        for entry in batch {
            let (path, kind) = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    tally.note(named(), Err(error))?;
                    return Ok(below);
                }
            };
            let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
            let target = match place::join(&target, name) {
                Ok(target) => target,
                Err(error) => {
                    tally.note(path.display().to_string(), Err(error))?;
                    continue;
                }
            };
            if kind.is_dir() {
                let source = path;
                below.push(Directory { source, target });
            } else if kind.is_file() {
                let source = path;
                if files.send(Item { source, target }).await.is_err() {
                    // The workers are gone: their error ends the transfer.
                    return Ok(below);
                }
            } else if kind.is_symlink() {
                let made = link(client, &path, &target, tally).await;
                tally.note(path.display().to_string(), made)?;
            } else {
                let reason = "neither file, directory nor link";
                let skipped = local("send", &path, std::io::Error::other(reason));
                tally.note(path.display().to_string(), Err(skipped))?;
            }
        }
    }
}

type Entry = Result<(PathBuf, FileType), Error>;

async fn open_directory(path: PathBuf) -> Result<ReadDir, Error> {
    blocking(move || std::fs::read_dir(&path).map_err(|error| local("list", &path, error))).await
}

async fn read_batch(mut reading: ReadDir, path: PathBuf) -> Result<(ReadDir, Vec<Entry>), Error> {
    blocking(move || {
        let batch = reading
            .by_ref()
            .take(BATCH)
            .map(|entry| {
                let entry = entry.map_err(|error| local("list", &path, error))?;
                let kind = entry
                    .file_type()
                    .map_err(|error| local("read", &entry.path(), error))?;
                Ok((entry.path(), kind))
            })
            .collect();
        Ok((reading, batch))
    })
    .await
}

/// Makes a symbolic link with the local one's text, in place of what is there.
async fn link(
    client: &Client,
    source: &Path,
    target: &VirtualPath,
    tally: &Tally,
) -> Result<(), Error> {
    let text = std::fs::read_link(source).map_err(|error| local("read", source, error))?;
    let text = text.as_os_str().as_bytes();
    match client.symlink(text, target).await {
        // The reference says of a dangling link in the place that there is nothing.
        Err(error) if matches!(error.code(), Some(Code::AlreadyExists | Code::DoesntExist)) => {
            match client.unlink(target).await {
                Ok(()) => client.symlink(text, target).await?,
                Err(missing) if missing.code() == Some(Code::DoesntExist) => return Err(error),
                Err(other) => return Err(other),
            }
        }
        other => other?,
    }
    tally.link();
    Ok(())
}

/// Sends one file.
async fn file(
    client: &Client,
    path: PathBuf,
    follow: bool,
    target: &VirtualPath,
    tally: &Tally,
) -> Result<(), Error> {
    let opened = path.clone();
    let source = blocking(move || Source::open(&opened, follow)).await?;
    send(client, &path, &source, target, tally).await
}

async fn send(
    client: &Client,
    path: &Path,
    source: &Source,
    target: &VirtualPath,
    tally: &Tally,
) -> Result<(), Error> {
    let content = source
        .content()
        .map_err(|error| local("read", path, error))?;
    let mut content = Counted { content, tally };
    let sent = client
        .putfile(target, source.mode, source.length, &mut content)
        .await;
    sent.map_err(|error| match error {
        Error::Local { source, .. } if source.kind() == std::io::ErrorKind::UnexpectedEof => {
            let reason = "it became shorter while it was sent; send it again";
            local("send", path, std::io::Error::other(reason))
        }
        Error::Local { source, .. } => local("read", path, source),
        other => other,
    })?;
    append_growth(client, path, source, target, tally).await?;
    tally.file();
    Ok(())
}

/// Sends what was added to the file since its length was named.
async fn append_growth(
    client: &Client,
    path: &Path,
    source: &Source,
    target: &VirtualPath,
    tally: &Tally,
) -> Result<(), Error> {
    let mut offset = source.length;
    let mut descriptor = None;
    loop {
        let more = source
            .beyond(offset)
            .await
            .map_err(|error| local("read", path, error))?;
        if more.is_empty() {
            break;
        }
        let opened = match descriptor {
            Some(opened) => opened,
            None => {
                let flags = OpenFlags::parse(b"w");
                let (opened, _) = client.open(target, flags, source.mode).await?;
                *descriptor.insert(opened)
            }
        };
        let mut rest = more;
        while !rest.is_empty() {
            let written = client.pwrite(opened, rest.clone(), offset).await?;
            let taken = usize::try_from(written).unwrap_or(usize::MAX);
            if taken == 0 || taken > rest.len() {
                let sent = rest.len();
                return Err(client.violation(format!(
                    "pwrite {target}: {sent} bytes were sent, {written} confirmed"
                )));
            }
            tally.bytes(taken);
            offset += written;
            rest = rest.split_off(taken);
        }
    }
    match descriptor {
        Some(opened) => client.close(opened).await,
        None => Ok(()),
    }
}

/// Content that is counted as it goes.
struct Counted<'a, R> {
    content: R,
    tally: &'a Tally,
}

impl<R: AsyncRead + Unpin> AsyncRead for Counted<'_, R> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = std::pin::Pin::new(&mut self.content).poll_read(context, buffer);
        self.tally.bytes(buffer.filled().len() - before);
        polled
    }
}

/// Does local work on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        let reason = "the thread that did it was lost";
        Err(local(
            "work on",
            Path::new("."),
            std::io::Error::other(reason),
        ))
    })
}
