//! Receiving files and trees.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use chirp_proto::{Stat, VirtualPath};
use futures_util::future::{try_join, try_join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;

use super::local::{Directory, local};
use super::put::blocking;
use super::tally::Tally;
use super::worker::{Queue, Worker, for_each_directory};
use super::{Summary, TransferOptions, place};
use crate::error::printable;
use crate::verbs::body::CHUNK;
use crate::{Body, Client, Error};

/// Directories that are listed and walked at once.
const DIRECTORIES_AT_ONCE: usize = 4;

/// Files that are asked for on one connection before the first has come.
const FILES_AT_ONCE: usize = 8;

/// Receives a remote file or tree as `target`; what that names is told by the options.
///
/// A `target` that is a link to a file or directory is followed; links below it are not. A device
/// or pipe as `target` is written to as it is.
///
/// # Errors
///
/// [`Error::Incomplete`] if some entries could not be received; all others were. Any other error
/// ended the transfer early. No file is left half-written in either case.
///
/// # Cancel safety
///
/// Dropping the future ends the transfer; no file is left half-written.
pub async fn get(
    client: &Client,
    source: &VirtualPath,
    target: &Path,
    options: &TransferOptions,
) -> Result<Summary, Error> {
    let stat = client.stat(source).await?;
    let target = {
        let (source, target) = (source.clone(), target.to_owned());
        let placement = options.placement;
        blocking(move || Ok(place::local(&source, &target, placement))).await?
    };
    let tally = Tally::new(options.progress.clone());
    if stat.is_directory() {
        tree(client, source, &stat, target, options, &tally).await?;
        return tally.finish();
    }
    match blocking(move || Place::find(target)).await? {
        Place::Name(directory, name) => {
            let item = Item {
                source: source.clone(),
                directory,
                name,
                mode: stat.mode,
            };
            file(client, item, &tally).await?;
        }
        Place::Device(path, device) => into_device(client, source, &path, device, &tally).await?,
    }
    tally.finish()
}

/// Where a single file goes.
enum Place {
    /// To a name in a directory.
    Name(Directory, Vec<u8>),
    /// Into a device or pipe.
    Device(PathBuf, File),
}

impl Place {
    fn find(target: PathBuf) -> Result<Self, Error> {
        let target = match std::fs::metadata(&target) {
            Ok(found) if !found.is_file() && !found.is_dir() => {
                let device = File::options()
                    .write(true)
                    .open(&target)
                    .map_err(|error| local("open", &target, error))?;
                return Ok(Self::Device(target, device));
            }
            // The file is replaced where it lies, and links to it stay links.
            Ok(_) => {
                std::fs::canonicalize(&target).map_err(|error| local("find", &target, error))?
            }
            Err(_) => target,
        };
        let Some(name) = target.file_name().filter(|_| !ends_in_slash(&target)) else {
            let reason = std::io::Error::from(std::io::ErrorKind::IsADirectory);
            return Err(local("write", &target, reason));
        };
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let directory = Directory::open(parent)?;
        Ok(Self::Name(directory, name.as_bytes().to_vec()))
    }
}

fn ends_in_slash(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/")
}

/// A remote file and what it becomes.
struct Item {
    source: VirtualPath,
    directory: Directory,
    name: Vec<u8>,
    mode: u32,
}

/// A remote directory and what it became.
struct Pair {
    source: VirtualPath,
    target: Directory,
}

async fn tree(
    client: &Client,
    source: &VirtualPath,
    stat: &Stat,
    target: PathBuf,
    options: &TransferOptions,
    tally: &Tally,
) -> Result<(), Error> {
    let mode = stat.mode;
    let first = Pair {
        source: source.clone(),
        target: blocking(move || root(&target, mode)).await?,
    };
    let (files, queue) = Queue::new();
    let walking = walk(client, first, files, tally);
    let receiving = (0..options.connections.max(1)).map(|_| receive(client, &queue, tally));
    try_join(walking, try_join_all(receiving)).await.map(drop)
}

/// Makes or takes the directory that a tree is received into.
fn root(target: &Path, mode: u32) -> Result<Directory, Error> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new()
        .mode(mode & 0o777 | 0o700)
        .create(target);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(local("create the directory", target, error))
        }
        _ => Directory::open(target),
    }
}

/// Lists the directories, several at a time, makes them here, and queues the files.
async fn walk(
    client: &Client,
    first: Pair,
    files: mpsc::Sender<Item>,
    tally: &Tally,
) -> Result<(), Error> {
    let visit = |next| directory(client, next, &files, tally);
    for_each_directory(DIRECTORIES_AT_ONCE, first, visit).await
}

async fn directory(
    client: &Client,
    Pair { source, target }: Pair,
    files: &mpsc::Sender<Item>,
    tally: &Tally,
) -> Result<Vec<Pair>, Error> {
    let mut below = Vec::new();
    tally.directory();
    // The listing is collected: while it is held, nothing else moves on its connection.
    let listed = match client.getlongdir(&source).await {
        Ok(listing) => listing.collect().await,
        Err(error) => Err(error),
    };
    let entries = match listed {
        Ok(entries) => entries,
        Err(error) => {
            tally.note(remote_name(client, &source), Err(error))?;
            return Ok(below);
        }
    };
    for (name, stat) in entries {
        let path = match source.join(&name) {
            Ok(path) => path,
            Err(code) => {
                let what = format!("{source}/{}", printable(&name));
                let reason = code.text();
                tally.note(what.clone(), Err(Error::Argument { what, reason }))?;
                continue;
            }
        };
        let result = if stat.is_directory() {
            let (parent, mode) = (target.clone(), stat.mode);
            let made = blocking(move || parent.subdirectory(&name, mode)).await;
            made.map(|made| {
                let source = path.clone();
                below.push(Pair {
                    source,
                    target: made,
                });
            })
        } else if stat.is_file() {
            let item = Item {
                source: path,
                directory: target.clone(),
                name: name.to_vec(),
                mode: stat.mode,
            };
            if files.send(item).await.is_err() {
                // The workers are gone: their error ends the transfer.
                return Ok(below);
            }
            continue;
        } else if stat.is_symlink() {
            link(client, &path, target.clone(), name, tally).await
        } else {
            Err(Error::Argument {
                what: path.to_string(),
                reason: if stat.mode == 0 {
                    "it vanished meanwhile"
                } else {
                    "neither file, directory nor link"
                },
            })
        };
        tally.note(remote_name(client, &path), result)?;
    }
    Ok(below)
}

async fn link(
    client: &Client,
    source: &VirtualPath,
    directory: Directory,
    name: Bytes,
    tally: &Tally,
) -> Result<(), Error> {
    let text = client.readlink(source).await?;
    blocking(move || directory.symlink(&text, &name)).await?;
    tally.link();
    Ok(())
}

/// Receives files, several at once, over one connection.
async fn receive(client: &Client, queue: &Queue<Item>, tally: &Tally) -> Result<(), Error> {
    let mut worker = Worker::new(client);
    let mut running = FuturesUnordered::new();
    let mut open = true;
    while open || !running.is_empty() {
        tokio::select! {
            item = queue.next(), if open && running.len() < FILES_AT_ONCE => match item {
                Some(item) => {
                    let client = worker.client().await?;
                    running.push(async move {
                        let path = remote_name(&client, &item.source);
                        (path, file(&client, item, tally).await)
                    });
                }
                None => open = false,
            },
            Some((path, received)) = running.next(), if !running.is_empty() => {
                tally.note(path, received)?;
            }
        }
    }
    Ok(())
}

/// Receives one file. Small ones cost one step on a blocking thread.
async fn file(client: &Client, item: Item, tally: &Tally) -> Result<(), Error> {
    let mut body = client.getfile(&item.source).await?;
    let Item {
        directory,
        name,
        mode,
        ..
    } = item;
    if body.length() <= CHUNK as u64 {
        let mut content = BytesMut::new();
        while let Some(chunk) = body.chunk().await? {
            tally.bytes(chunk.len());
            content.extend_from_slice(&chunk);
        }
        drop(body);
        blocking(move || {
            let begun = directory.begin(&name, mode)?;
            begun.write(&content)?;
            begun.finish()
        })
        .await?;
    } else {
        let mut begun = blocking(move || directory.begin(&name, mode)).await?;
        while let Some(content) = gather(&mut body, tally).await? {
            begun = blocking(move || begun.write(&content).map(|()| begun)).await?;
        }
        blocking(move || begun.finish()).await?;
    }
    tally.file();
    Ok(())
}

async fn into_device(
    client: &Client,
    source: &VirtualPath,
    path: &Path,
    device: File,
    tally: &Tally,
) -> Result<(), Error> {
    let mut body = client.getfile(source).await?;
    let mut device = Some(device);
    while let Some(content) = gather(&mut body, tally).await? {
        let (path, taken) = (path.to_owned(), device.take());
        device = blocking(move || {
            if let Some(mut device) = taken.as_ref() {
                std::io::Write::write_all(&mut device, &content)
                    .map_err(|error| local("write", &path, error))?;
            }
            Ok(taken)
        })
        .await?;
    }
    tally.file();
    Ok(())
}

/// Collects about [`CHUNK`] bytes, so that a thread is not woken for every packet.
async fn gather(body: &mut Body, tally: &Tally) -> Result<Option<BytesMut>, Error> {
    let mut content = BytesMut::new();
    while content.len() < CHUNK {
        match body.chunk().await? {
            Some(chunk) => {
                tally.bytes(chunk.len());
                content.extend_from_slice(&chunk);
            }
            None => break,
        }
    }
    Ok((!content.is_empty()).then_some(content))
}

fn remote_name(client: &Client, path: &VirtualPath) -> String {
    format!("{}:{}", client.host(), printable(path.as_bytes()))
}
