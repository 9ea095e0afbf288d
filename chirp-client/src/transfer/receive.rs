//! Receiving what the walk found, over one connection of several.

use std::fs::File;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use chirp_proto::VirtualPath;
use chirp_proto::request::OpenFlags;
use futures_util::future::{BoxFuture, OptionFuture, try_join};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::task::JoinHandle;

use super::Existing;
use super::compare::Work;
use super::facts::Facts;
use super::job::Job;
use super::local::{Directory, Unfinished, local};
use super::send::PART_MIN;
use super::space;
use super::tally::{Count, Tally};
use super::threads::{blocking, joined, spawn};
use super::worker::{Queue, Worker};
use crate::verbs::body::CHUNK;
use crate::{Body, Client, Error};

/// Files that are asked for on one connection before the first has come.
const IN_FLIGHT: usize = 64;

/// Bytes of content of one connection that are asked for and not written yet.
const BYTES_IN_FLIGHT: usize = 4 * 1024 * 1024;

/// Small files that are taken from the queue in one go, so that each connection gets its share.
const BATCH: usize = 16;

/// Bytes of a large file that are written in one go.
const GATHERED: usize = 1024 * 1024;

/// How often a file is asked for whose connection is lost.
const ATTEMPTS: u8 = 3;

/// A remote entry on its way.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) source: VirtualPath,
    pub(super) directory: Directory,
    pub(super) name: Vec<u8>,
    pub(super) facts: Facts,
    pub(super) what: What,
    /// Whether its size means nothing, as in `/proc`.
    pub(super) pseudo: bool,
    pub(super) attempts: u8,
}

/// What is to be done with it.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    File(Work),
    /// `there`: a link of that name is there already.
    Link {
        there: bool,
    },
}

impl Item {
    fn is_small(&self) -> bool {
        let compared = matches!(self.what, What::File(Work::Compare | Work::Skip));
        self.facts.size <= CHUNK as u64 && !compared
    }
}

/// A step that is over.
struct Received {
    item: Item,
    /// What it counts for among the bytes in flight.
    weight: usize,
    /// The content of a small file, which is still to be written; `None` if nothing is to be done.
    result: Result<Option<Bytes>, Error>,
}

/// Small files that are whole and wait to be written.
type Waiting = Vec<(Item, Bytes)>;

/// Receives what comes from the queue: many files at a time, and the small ones that came while
/// others were written are written together.
pub(super) async fn receive(job: &Job<'_>, queue: &Queue<Item>) -> Result<(), Error> {
    let mut worker = Worker::new(job.client);
    let mut running: FuturesUnordered<BoxFuture<'_, Received>> = FuturesUnordered::new();
    let mut again: Vec<Item> = Vec::new();
    let mut waiting = Waiting::new();
    let mut writing: Option<JoinHandle<Result<usize, Error>>> = None;
    let (mut open, mut in_flight) = (true, 0);
    loop {
        if writing.is_none() && !waiting.is_empty() {
            let batch = std::mem::take(&mut waiting);
            let (tally, style) = (job.tally.clone(), Style::of(job));
            writing = Some(spawn(move || write_all(&tally, batch, style)));
        }
        let room = running.len() < IN_FLIGHT && in_flight < BYTES_IN_FLIGHT;
        let items = if !again.is_empty() && room {
            std::mem::take(&mut again)
        } else if open || !running.is_empty() || writing.is_some() || !again.is_empty() {
            tokio::select! {
                biased;
                Some(received) = running.next(), if !running.is_empty() => {
                    let Received { mut item, weight, result } = received;
                    match result {
                        Ok(Some(content)) => {
                            in_flight = in_flight - weight + content.len();
                            waiting.push((item, content));
                            continue;
                        }
                        Err(Error::Lost { .. }) if item.attempts + 1 < ATTEMPTS && worker.can_go_on() => {
                            item.attempts += 1;
                            again.push(item);
                        }
                        result => {
                            let named = || space::named(job, &item.source);
                            job.tally.note(named, result.map(drop))?;
                        }
                    }
                    in_flight -= weight;
                    continue;
                }
                Some(written) = OptionFuture::from(writing.as_mut()) => {
                    writing = None;
                    in_flight -= joined(written)?;
                    continue;
                }
                items = queue.batch(BATCH, Item::is_small), if open && room => items,
            }
        } else {
            return Ok(());
        };
        open &= !items.is_empty();
        for item in items {
            let is_small = item.is_small();
            let client = if is_small {
                worker.now()
            } else {
                worker.own().await
            };
            // A large one keeps further ones from being begun here: other connections take them.
            let weight = match usize::try_from(item.facts.size) {
                Ok(size) if is_small => size,
                _ => BYTES_IN_FLIGHT,
            };
            in_flight += weight;
            running.push(Box::pin(async move {
                let result = entry(job, &client, &item).await;
                Received {
                    item,
                    weight,
                    result,
                }
            }));
        }
    }
}

/// Does what is to be done for one entry on the caller's connection.
pub(super) async fn one(job: &Job<'_>, item: &Item) -> Result<(), Error> {
    if let Some(content) = entry(job, job.client, item).await? {
        let (item, style) = (item.clone(), Style::of(job));
        blocking(move || write(&item, content, style)).await?;
        job.tally.one(Count::Files);
    }
    Ok(())
}

/// Receives a file into a device or pipe.
pub(super) async fn device(
    job: &Job<'_>,
    source: &VirtualPath,
    path: PathBuf,
    device: File,
) -> Result<(), Error> {
    let mut body = job.client.getfile(source).await?;
    let mut device = Some(device);
    loop {
        let pieces = gather(&mut body, &job.tally).await?;
        if pieces.is_empty() {
            break;
        }
        let (path, taken) = (path.clone(), device.take());
        device = blocking(move || {
            if let Some(mut device) = taken.as_ref() {
                for piece in &pieces {
                    std::io::Write::write_all(&mut device, piece)
                        .map_err(|error| local("write", &path, error))?;
                }
            }
            Ok(taken)
        })
        .await?;
    }
    job.tally.one(Count::Files);
    Ok(())
}

/// Writes small files and returns how many bytes they have. Blocks.
fn write_all(tally: &Tally, batch: Waiting, style: Style) -> Result<usize, Error> {
    let mut bytes = 0;
    for (item, content) in batch {
        bytes += content.len();
        let written = write(&item, content, style);
        if written.is_ok() {
            tally.one(Count::Files);
        }
        let named = || item.directory.path_of(&item.name).display().to_string();
        tally.note(named, written)?;
    }
    Ok(bytes)
}

/// How files are finished.
#[derive(Clone, Copy)]
struct Style {
    preserve: bool,
    fsync: bool,
}

impl Style {
    fn of(job: &Job<'_>) -> Self {
        Self {
            preserve: job.options.preserve,
            fsync: job.options.fsync,
        }
    }

    /// Begins a file; one that shall have its original's mode has no other's in between.
    fn begin(self, item: &Item) -> Result<Unfinished, Error> {
        let mode = if self.preserve {
            0o600
        } else {
            item.facts.mode
        };
        item.directory.begin(&item.name, mode)
    }

    fn finish(self, begun: Unfinished, item: &Item) -> Result<(), Error> {
        begun.finish(self.preserve.then_some(&item.facts), self.fsync)
    }
}

fn write(item: &Item, content: Bytes, style: Style) -> Result<(), Error> {
    let mut begun = style.begin(item)?;
    begun.write(&[content])?;
    style.finish(begun, item)
}

/// Receives one entry; the content of a small file is handed back to be written.
async fn entry(job: &Job<'_>, client: &Client, item: &Item) -> Result<Option<Bytes>, Error> {
    let work = match item.what {
        What::Link { there } => return link(job, client, item, there).await.map(|()| None),
        What::File(work) => work,
    };
    match work {
        Work::Copy => return file(job, client, item).await,
        Work::Compare if !same(job, client, item).await? => return file(job, client, item).await,
        Work::Compare | Work::Attributes if job.options.preserve => {
            let described = item.clone();
            blocking(move || {
                described
                    .directory
                    .describe(&described.name, &described.facts)
            })
            .await?;
        }
        Work::Compare | Work::Attributes | Work::Skip => {}
    }
    if job.options.verify && work != Work::Compare && !same(job, client, item).await? {
        return Err(different(job, item).await?);
    }
    if job.options.fsync {
        let there = item.clone();
        blocking(move || {
            let file = there.directory.read(&there.name)?;
            file.sync_all()
                .map_err(|error| local("write", &there.directory.path_of(&there.name), error))
        })
        .await?;
    }
    job.tally.one(Count::Skipped);
    Ok(None)
}

/// Receives one file.
async fn file(job: &Job<'_>, client: &Client, item: &Item) -> Result<Option<Bytes>, Error> {
    if job.options.resume && item.facts.size >= PART_MIN && !item.pseudo {
        return resumed(job, client, item).await.map(|()| None);
    }
    if item.pseudo {
        return pseudo(job, client, item).await.map(|()| None);
    }
    let mut body = client.getfile(&item.source).await?;
    if body.length() <= CHUNK as u64 && !job.options.verify {
        let content = small(&mut body, &job.tally).await?;
        return Ok(Some(content));
    }
    let begun = {
        let (item, style) = (item.clone(), Style::of(job));
        blocking(move || Ok(style.begin(&item)?.with_holes(item.facts.has_holes()))).await?
    };
    let mut writer = Writer::Idle(begun);
    loop {
        let pieces = gather(&mut body, &job.tally).await?;
        if pieces.is_empty() {
            break;
        }
        writer = writer.write(pieces).await?;
    }
    finish(job, client, item, writer.done().await?, false).await?;
    Ok(None)
}

/// Checks what was received and gives it its name.
async fn finish(
    job: &Job<'_>,
    client: &Client,
    item: &Item,
    begun: Unfinished,
    checked: bool,
) -> Result<(), Error> {
    let mut begun = begun;
    if job.options.verify && !checked {
        let same;
        (begun, same) = is_that(job, client, item, begun).await?;
        if !same {
            return Err(different(job, item).await?);
        }
    }
    if !item.pseudo {
        let now = Facts::remote(&client.lstat(&item.source).await?);
        let grown = now.size > begun.length();
        if !grown && (now.mtime != item.facts.mtime || now.size != begun.length()) {
            return Err(Error::Argument {
                what: space::named(job, &item.source),
                reason: "it was changed while it was received, so the copy would be neither the \
                         old nor the new file; receive it again",
            });
        }
    }
    let (finished, style) = (item.clone(), Style::of(job));
    blocking(move || style.finish(begun, &finished)).await?;
    job.tally.one(Count::Files);
    Ok(())
}

/// A file whose content is written while more of it comes.
enum Writer {
    Idle(Unfinished),
    Busy(JoinHandle<Result<Unfinished, Error>>),
}

impl Writer {
    /// Waits for what is being written, and begins to write more.
    async fn write(self, pieces: Vec<Bytes>) -> Result<Self, Error> {
        let mut begun = self.done().await?;
        Ok(Self::Busy(spawn(move || {
            begun.write(&pieces)?;
            Ok(begun)
        })))
    }

    async fn done(self) -> Result<Unfinished, Error> {
        match self {
            Self::Idle(begun) => Ok(begun),
            Self::Busy(writing) => joined(writing.await),
        }
    }
}

/// Receives a file from where an earlier attempt stopped. What was there then is checked by the
/// digest of the whole.
async fn resumed(job: &Job<'_>, client: &Client, item: &Item) -> Result<(), Error> {
    let begun = {
        let item = item.clone();
        let holes = item.facts.has_holes();
        blocking(move || {
            let part = Job::part_name(&item.name, &item.facts);
            let begun = item.directory.resume(&item.name, &part, item.facts.size)?;
            Ok(begun.with_holes(holes))
        })
        .await?
    };
    let continued = begun.length() > 0;
    let mut begun = rest(job, client, item, begun).await?;
    let mut checked = false;
    if continued {
        (begun, checked) = is_that(job, client, item, begun).await?;
        if !checked {
            begun = blocking(move || begun.restart().map(|()| begun)).await?;
            begun = rest(job, client, item, begun).await?;
        }
    }
    finish(job, client, item, begun, checked).await
}

/// Receives what is missing of a file, several pieces at a time.
async fn rest(
    job: &Job<'_>,
    client: &Client,
    item: &Item,
    begun: Unfinished,
) -> Result<Unfinished, Error> {
    const PIECES: usize = 16;
    let (opened, _) = client.open(&item.source, OpenFlags::parse(b"r"), 0).await?;
    let (from, end) = (begun.length(), item.facts.size);
    let offsets = (from..end).step_by(CHUNK);
    let pieces = offsets.map(|offset| {
        let length = (end - offset).min(CHUNK as u64);
        async move {
            let piece = client.pread(opened, length, offset).await?;
            if piece.len() as u64 == length {
                return Ok(piece);
            }
            Err(Error::Argument {
                what: space::named(job, &item.source),
                reason: "it became shorter while it was received; receive it again",
            })
        }
    });
    let mut arriving = std::pin::pin!(futures_util::stream::iter(pieces).buffered(PIECES));
    let mut writer = Writer::Idle(begun);
    let mut gathered = Vec::new();
    while let Some(piece) = arriving.next().await {
        let piece = piece?;
        job.tally.bytes(piece.len());
        gathered.push(piece);
        if gathered.len() >= PIECES / 4 {
            writer = writer.write(std::mem::take(&mut gathered)).await?;
        }
    }
    let begun = writer.write(gathered).await?.done().await?;
    client.close(opened).await?;
    Ok(begun)
}

/// Receives a file whose size means nothing: to its end.
async fn pseudo(job: &Job<'_>, client: &Client, item: &Item) -> Result<(), Error> {
    let (opened, _) = client.open(&item.source, OpenFlags::parse(b"r"), 0).await?;
    let begun = {
        let (item, style) = (item.clone(), Style::of(job));
        blocking(move || style.begin(&item)).await?
    };
    let (mut writer, mut offset) = (Writer::Idle(begun), 0);
    loop {
        let piece = client.pread(opened, CHUNK as u64, offset).await?;
        if piece.is_empty() {
            break;
        }
        job.tally.bytes(piece.len());
        offset += piece.len() as u64;
        writer = writer.write(vec![piece]).await?;
    }
    client.close(opened).await?;
    // A digest of something that is made anew with every look says nothing.
    finish(job, client, item, writer.done().await?, true).await
}

/// Takes the content of a small file off.
async fn small(body: &mut Body, tally: &Tally) -> Result<Bytes, Error> {
    let mut content: Option<Bytes> = None;
    let mut gathered = BytesMut::new();
    while let Some(chunk) = body.chunk().await? {
        tally.bytes(chunk.len());
        match content.take() {
            None if gathered.is_empty() => content = Some(chunk),
            first => {
                gathered.extend_from_slice(&first.unwrap_or_default());
                gathered.extend_from_slice(&chunk);
            }
        }
    }
    Ok(content.unwrap_or_else(|| gathered.freeze()))
}

/// Collects what is written in one go, so that a thread is not woken for every packet; nothing at
/// the end.
async fn gather(body: &mut Body, tally: &Tally) -> Result<Vec<Bytes>, Error> {
    let (mut pieces, mut size) = (Vec::new(), 0);
    while size < GATHERED {
        match body.chunk().await? {
            Some(chunk) => {
                tally.bytes(chunk.len());
                size += chunk.len();
                pieces.push(chunk);
            }
            None => break,
        }
    }
    Ok(pieces)
}

async fn link(job: &Job<'_>, client: &Client, item: &Item, there: bool) -> Result<(), Error> {
    let text = client.readlink(&item.source).await?;
    let compared = there && job.options.existing != Existing::Replace;
    let (item, tally) = (item.clone(), job.tally.clone());
    blocking(move || {
        if compared && item.directory.readlink(&item.name)? == text {
            tally.one(Count::Skipped);
            return Ok(());
        }
        item.directory
            .symlink(&text, &item.name, item.facts.mtime)?;
        tally.one(Count::Links);
        Ok(())
    })
    .await
}

/// Compares the digests of a file and of what is here in its place.
async fn same(job: &Job<'_>, client: &Client, item: &Item) -> Result<bool, Error> {
    let here = {
        let item = item.clone();
        blocking(move || item.directory.read(&item.name))
    };
    let here = here.await?;
    compared(job, client, item, here).await
}

/// Compares the digests of a file and of what was received.
async fn is_that(
    job: &Job<'_>,
    client: &Client,
    item: &Item,
    begun: Unfinished,
) -> Result<(Unfinished, bool), Error> {
    let (begun, content) = blocking(move || {
        let content = begun.content()?;
        Ok((begun, content))
    })
    .await?;
    let same = compared(job, client, item, content).await?;
    Ok((begun, same))
}

async fn compared(job: &Job<'_>, client: &Client, item: &Item, file: File) -> Result<bool, Error> {
    let algorithm = job.algorithm().await?;
    let path = item.directory.path_of(&item.name);
    let here = blocking(move || {
        algorithm
            .local(&file)
            .map_err(|error| local("read", &path, error))
    });
    let there = algorithm.remote(client, &item.source, item.facts.size);
    let (here, there) = try_join(here, there).await?;
    Ok(here == there)
}

/// Makes the error of a copy that differs.
async fn different(job: &Job<'_>, item: &Item) -> Result<Error, Error> {
    Ok(Error::Different {
        path: item.directory.path_of(&item.name).display().to_string(),
        digest: job.algorithm().await?.name(),
        remedy: "receive it again; if that does not help, somebody changes it or a disk is failing",
    })
}
