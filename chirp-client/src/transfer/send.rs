//! Sending what the walk found, over one connection of several.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use chirp_proto::request::OpenFlags;
use chirp_proto::{Code, VirtualPath};
use futures_util::future::{BoxFuture, try_join};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncRead, ReadBuf};

use super::compare::Work;
use super::facts::Facts;
use super::job::Job;
use super::local::local;
use super::source::Source;
use super::tally::{Count, Tally};
use super::threads::blocking;
use super::worker::{Queue, Worker};
use super::{Existing, finish, pieces, space};
use crate::verbs::body::CHUNK;
use crate::{Client, Error};

/// Small files that are read in one go.
const BATCH: usize = 64;

/// Requests of one connection that wait for their answers.
const IN_FLIGHT: usize = 192;

/// Bytes of content of one connection that wait for their answers.
const BYTES_IN_FLIGHT: usize = 2 * 1024 * 1024;

/// How often a file is begun whose connection is lost.
const ATTEMPTS: u8 = 3;

/// From this size on a file is sent so that its copy can be continued, where that is asked for.
pub(super) const PART_MIN: u64 = 1024 * 1024;

/// A local entry on its way.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) source: PathBuf,
    pub(super) target: VirtualPath,
    pub(super) facts: Facts,
    what: What,
    /// Whether a link in its place is followed.
    follow: bool,
    attempts: u8,
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
    pub(super) const fn new(
        source: PathBuf,
        target: VirtualPath,
        facts: Facts,
        what: What,
    ) -> Self {
        Self {
            source,
            target,
            facts,
            what,
            follow: false,
            attempts: 0,
        }
    }

    /// Returns the item as one that the user named.
    pub(super) fn followed(self) -> Self {
        Self {
            follow: true,
            ..self
        }
    }

    fn is_small(&self) -> bool {
        let compared = matches!(self.what, What::File(Work::Compare | Work::Skip));
        self.facts.size <= CHUNK as u64 && !compared
    }
}

/// A step that is over.
struct Sent {
    item: Item,
    /// What it counted for among the bytes in flight.
    weight: usize,
    result: Result<(), Error>,
}

/// Sends what comes from the queue, many small files at a time and large ones one by one.
pub(super) async fn send(job: &Job<'_>, queue: &Queue<Item>) -> Result<(), Error> {
    let mut worker = Worker::new(job.client);
    let mut running: FuturesUnordered<BoxFuture<'_, Sent>> = FuturesUnordered::new();
    let mut again: Vec<Item> = Vec::new();
    let (mut open, mut in_flight) = (true, 0);
    // Without `store` a file has the connection for itself while it is sent.
    let (batch, at_once) = if job.store {
        (BATCH, IN_FLIGHT)
    } else {
        (2, 4)
    };
    loop {
        let room = running.len() < at_once && in_flight < BYTES_IN_FLIGHT;
        let items = if !again.is_empty() && room {
            std::mem::take(&mut again)
        } else if open || !running.is_empty() {
            tokio::select! {
                biased;
                Some(sent) = running.next(), if !running.is_empty() => {
                    let Sent { mut item, weight, result } = sent;
                    in_flight -= weight;
                    match result {
                        Err(Error::Lost { .. }) if item.attempts + 1 < ATTEMPTS && worker.can_go_on() => {
                            item.attempts += 1;
                            again.push(item);
                        }
                        result => job.tally.note(|| named(&item.source), result)?,
                    }
                    continue;
                }
                items = queue.batch(batch, Item::is_small), if open && room => items,
            }
        } else {
            return Ok(());
        };
        open &= !items.is_empty();
        let (mut small, mut others) = (Vec::new(), Vec::new());
        for item in items {
            match item.what {
                What::File(Work::Copy) if job.store && item.is_small() => small.push(item),
                _ => others.push(item),
            }
        }
        if !small.is_empty() {
            let read =
                blocking(move || Ok(small.into_iter().map(read).collect::<Vec<_>>())).await?;
            let client = worker.now();
            for (item, source) in read {
                let weight = source.as_ref().map_or(0, |source| source.head.len());
                in_flight += weight;
                let client = client.clone();
                running.push(Box::pin(async move {
                    let result = match source {
                        Ok(source) => file(job, &client, &item, source).await,
                        Err(error) => Err(error),
                    };
                    Sent {
                        item,
                        weight,
                        result,
                    }
                }));
            }
        }
        for item in others {
            let is_small = item.is_small();
            let client = if is_small {
                worker.now()
            } else {
                worker.own().await
            };
            // A large one keeps further ones from being begun here: other connections take them.
            let weight = if is_small { 0 } else { BYTES_IN_FLIGHT };
            in_flight += weight;
            running.push(Box::pin(async move {
                let result = entry(job, &client, &item).await;
                Sent {
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
    entry(job, job.client, item).await
}

fn named(path: &Path) -> String {
    crate::error::printable(path.as_os_str().as_bytes())
}

fn read(item: Item) -> (Item, Result<Source, Error>) {
    let source = Source::open(&item.source, item.follow);
    (item, source)
}

async fn entry(job: &Job<'_>, client: &Client, item: &Item) -> Result<(), Error> {
    let work = match item.what {
        What::Link { there } => return link(job, client, item, there).await,
        What::File(work) => work,
    };
    match work {
        Work::Copy => {}
        Work::Compare => {
            if same(job, client, item).await? {
                finish::attributes(job, client, &item.target, &item.facts).await?;
                job.tally.one(Count::Skipped);
                return settle(job, client, &item.target).await;
            }
        }
        Work::Attributes => {
            finish::attributes(job, client, &item.target, &item.facts).await?;
            job.tally.one(Count::Skipped);
            return verify(job, client, item).await;
        }
        Work::Skip => {
            verify(job, client, item).await?;
            job.tally.one(Count::Skipped);
            return Ok(());
        }
    }
    let (item, source) = {
        let item = item.clone();
        blocking(move || Ok(read(item))).await?
    };
    file(job, client, &item, source?).await
}

/// Sends a file: in one step where it was read whole and has not grown since, and the server can.
async fn file(job: &Job<'_>, client: &Client, item: &Item, source: Source) -> Result<(), Error> {
    let (target, facts) = (&item.target, &item.facts);
    if job.store && source.is_whole() {
        let (content, length) = (source.head, source.length);
        client
            .store(target, facts.mode, facts.mtime, content)
            .await?;
        job.tally.add(Count::Bytes, length);
        job.tally.one(Count::Files);
    } else {
        upload(job, client, &item.source, &source, target, Some(facts)).await?;
    }
    verify(job, client, item).await
}

/// Sends a file, in the way that leaves the least behind where it is interrupted.
pub(super) async fn upload(
    job: &Job<'_>,
    client: &Client,
    path: &Path,
    source: &Source,
    target: &VirtualPath,
    from: Option<&Facts>,
) -> Result<(), Error> {
    let resumed = job.options.resume && source.length >= PART_MIN;
    if let Some(from) = from
        && (resumed || source.has_holes)
        && job.may_rename(target).await?
    {
        pieces::upload(job, client, path, source, target, from, resumed).await?;
    } else if job.whole || !job.options.preserve {
        // A renamed file would not have the mode of the one it replaces.
        whole(job, client, path, source, target, from).await?;
    } else if job.may_rename(target).await? {
        let temporary = beside(target, &temporary_name()?)?;
        job.unfinished(&temporary);
        let sent = async {
            whole(job, client, path, source, &temporary, from).await?;
            client.rename(&temporary, target).await
        };
        put_away(job, client, &temporary, sent.await).await?;
    } else {
        job.tally.one(Count::Direct);
        whole(job, client, path, source, target, from).await?;
    }
    source.check_unchanged(path)?;
    job.tally.one(Count::Files);
    Ok(())
}

/// Removes a temporary file that did not get its name, where the connection still allows that.
pub(super) async fn put_away(
    job: &Job<'_>,
    client: &Client,
    temporary: &VirtualPath,
    result: Result<(), Error>,
) -> Result<(), Error> {
    match &result {
        Ok(()) => job.finished(temporary),
        Err(error) if !error.is_fatal() && !client.is_closed() => {
            match client.unlink(temporary).await {
                Ok(()) => job.finished(temporary),
                Err(Error::Refused {
                    code: Code::DoesntExist,
                    ..
                }) => job.finished(temporary),
                // The end of the transfer tries again.
                Err(_) => {}
            }
        }
        Err(_) => {}
    }
    result
}

/// Returns the path of another name in the same directory.
pub(super) fn beside(path: &VirtualPath, name: &[u8]) -> Result<VirtualPath, Error> {
    let parent = path
        .split_last()
        .map(|(parent, _)| parent)
        .unwrap_or_default();
    let joined = VirtualPath::from_decoded(parent).and_then(|parent| parent.join(name));
    joined.map_err(|code| Error::Argument {
        what: path.to_string(),
        reason: code.text(),
    })
}

/// Returns a name that nobody else uses.
pub(super) fn temporary_name() -> Result<Vec<u8>, Error> {
    let random = getrandom::u64().map_err(|error| {
        local(
            "name",
            Path::new("a temporary file"),
            std::io::Error::other(error),
        )
    })?;
    Ok(format!(".chirp-put.{random:016x}").into_bytes())
}

/// Sends a file by `putfile`, and then its mode and time.
async fn whole(
    job: &Job<'_>,
    client: &Client,
    path: &Path,
    source: &Source,
    target: &VirtualPath,
    from: Option<&Facts>,
) -> Result<(), Error> {
    let content = source.content();
    let content = content.map_err(|error| local("read", path, error))?;
    let tally = &job.tally;
    let mut content = Counted { content, tally };
    let sent = client.putfile(target, source.mode, source.length, &mut content);
    sent.await.map_err(|error| match error {
        Error::Local { source, .. } if source.kind() == std::io::ErrorKind::UnexpectedEof => {
            let reason = "it became shorter while it was sent; send it again";
            local("send", path, std::io::Error::other(reason))
        }
        Error::Local { source, .. } => local("read", path, source),
        other => other,
    })?;
    append_growth(client, path, source, target, tally).await?;
    match from {
        Some(from) => finish::attributes(job, client, target, from).await,
        None => Ok(()),
    }
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
        let more = source.read(offset, CHUNK).await;
        let more = more.map_err(|error| local("read", path, error))?;
        if more.is_empty() || !source.is_file {
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
        let length = more.len();
        client.pwrite_all(opened, more, offset).await?;
        tally.bytes(length);
        offset += length as u64;
    }
    match descriptor {
        Some(opened) => client.close(opened).await,
        None => Ok(()),
    }
}

/// Makes a symbolic link with the local one's text, in place of what is there.
async fn link(job: &Job<'_>, client: &Client, item: &Item, there: bool) -> Result<(), Error> {
    let path = item.source.clone();
    let text =
        blocking(move || std::fs::read_link(&path).map_err(|error| local("read", &path, error)));
    let text = text.await?;
    let (text, target) = (text.as_os_str().as_bytes(), &item.target);
    if there && job.options.existing != Existing::Replace && client.readlink(target).await? == text
    {
        job.tally.one(Count::Skipped);
        return Ok(());
    }
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
    job.tally.one(Count::Links);
    Ok(())
}

/// Waits until a file of the server is on its disk, if that was asked for.
pub(super) async fn settle(
    job: &Job<'_>,
    client: &Client,
    target: &VirtualPath,
) -> Result<(), Error> {
    if !job.options.fsync {
        return Ok(());
    }
    let mut opened = client.open(target, OpenFlags::parse(b"r"), 0).await;
    if let Err(error) = &opened
        && error.code() == Some(Code::NotAuthorized)
    {
        // Who may write need not be allowed to read.
        opened = client.open(target, OpenFlags::parse(b"w"), 0).await;
    }
    let (file, _) = opened?;
    let synced = client.fsync(file).await;
    client.close(file).await?;
    synced
}

/// Compares the digests of a file and its copy, if that was asked for, and does what else was.
async fn verify(job: &Job<'_>, client: &Client, item: &Item) -> Result<(), Error> {
    if !job.options.verify || same(job, client, item).await? {
        return settle(job, client, &item.target).await;
    }
    Err(Error::Different {
        path: space::named(job, &item.target),
        digest: job.algorithm().await?.name(),
        remedy: "send it again; if that does not help, somebody changes it or a disk is failing",
    })
}

/// Compares the digests of a file and of what is there in its place.
async fn same(job: &Job<'_>, client: &Client, item: &Item) -> Result<bool, Error> {
    let algorithm = job.algorithm().await?;
    let (path, follow) = (item.source.clone(), item.follow);
    let here = blocking(move || {
        let file = Source::open_file(&path, follow)?;
        algorithm
            .local(&file)
            .map_err(|error| local("read", &path, error))
    });
    let there = algorithm.remote(client, &item.target, item.facts.size);
    let (here, there) = try_join(here, there).await?;
    Ok(here == there)
}

/// Content that is counted as it goes.
struct Counted<'a, R> {
    content: R,
    tally: &'a Tally,
}

impl<R: AsyncRead + Unpin> AsyncRead for Counted<'_, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.content).poll_read(context, buffer);
        self.tally.bytes(buffer.filled().len() - before);
        polled
    }
}
