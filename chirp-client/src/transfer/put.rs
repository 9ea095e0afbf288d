//! Sending files and trees: the walk through the local tree.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata, ReadDir};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use chirp_proto::{Code, Stat, VirtualPath};
use futures_util::future::{try_join, try_join_all};
use tokio::sync::mpsc;

use super::compare::{Work, decide};
use super::facts::{Facts, Kind};
use super::finish::{self, Dated, Linked};
use super::firsts::{Firsts, Met};
use super::job::{Job, PART_PREFIX, locked};
use super::local::local;
use super::send::{self, Item, What};
use super::source::Source;
use super::space::{self, Totals};
use super::tally::{Count, Tally};
use super::threads::blocking;
use super::worker::{Queue, for_each_directory};
use super::{Action, Existing, Summary, TransferOptions, place};
use crate::error::printable;
use crate::{Client, Error};

/// Directories that are made and walked at once.
const DIRECTORIES_AT_ONCE: usize = 32;

/// Entries of a local directory that are looked at in one go.
const BATCH: usize = 512;

/// The mode that the reference's tools ask for in a new directory; servers make it 0700 anyway.
const DIRECTORY_MODE: u32 = 0o700;

/// Sends a local file or tree to `target`; what that names is told by the options.
///
/// What is not enough is said before the first byte goes: the server's free space, unless
/// [`TransferOptions::ignore_space`] is set. A file that shrinks or changes while it is read is a
/// failure; one that grows is sent to its end.
///
/// # Errors
///
/// [`Error::Incomplete`] if some entries could not be sent; all others were. [`Error::NoSpace`]
/// before anything was done, [`Error::Cancelled`] where that was asked for. Any other error ended
/// the transfer early.
///
/// # Cancel safety
///
/// Dropping the future ends the transfer; a file that was being sent ends with its connection. On a
/// server other than ours a temporary file may stay; [`TransferOptions::cancel`] removes it, too.
pub async fn put(
    client: &Client,
    source: &Path,
    target: &VirtualPath,
    options: &TransferOptions,
) -> Result<Summary, Error> {
    let facts = {
        let path = source.to_owned();
        blocking(move || {
            let found = std::fs::metadata(&path);
            let found = found.map_err(|error| local("read", &path, error))?;
            Ok(Facts::metadata(&found))
        })
        .await?
    };
    let tally = Tally::new(options);
    let (there, job) = try_join(
        found(client.stat(target)),
        Job::begin(client, options, &tally),
    )
    .await?;
    let placed = place::remote(there.as_ref(), source, target, options.placement)?;
    job.run(async {
        if facts.kind == Kind::Directory {
            // A directory that the user named and that is there keeps its mode.
            let there = there.as_ref().filter(|_| placed == *target);
            let mode = there.map_or(facts.mode, |there| there.mode & 0o777);
            let facts = Facts { mode, ..facts };
            return tree(&job, source, facts, placed).await;
        }
        if target.has_trailing_slash() && !there.is_some_and(|there| there.is_directory()) {
            return Err(Error::Argument {
                what: printable(target.as_bytes()),
                reason: "there is no such directory",
            });
        }
        single(&job, source, facts, placed).await
    })
    .await
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
    source: File,
    target: &VirtualPath,
    options: &TransferOptions,
) -> Result<Summary, Error> {
    let tally = Tally::new(options);
    let path = PathBuf::from("the open file");
    let named = path.clone();
    let job = Job::begin(client, options, &tally).await?;
    job.run(async {
        let source = blocking(move || Source::of(source, &named)).await?;
        let needed = source.length;
        let available = space::remote(&job, target).await?;
        space::check(&job, || space::named(&job, target), needed, available)?;
        send::upload(&job, client, &path, &source, target, None).await?;
        send::settle(&job, client, target).await
    })
    .await
}

/// Sends one file, which the caller named.
async fn single(
    job: &Job<'_>,
    source: &Path,
    facts: Facts,
    target: VirtualPath,
) -> Result<(), Error> {
    let mut totals = Totals::default();
    totals.add(&facts, &mut HashSet::new());
    totals.announce(job);
    let there = if job.compares() {
        found(job.client.lstat(&target)).await?
    } else {
        None
    };
    let there = there.as_ref().map(Facts::remote);
    let work = decide(
        job.options.existing,
        &facts,
        there.as_ref(),
        facts.mode_there(),
    );
    if work == Work::Copy {
        let available = space::remote(job, &target).await?;
        space::check(job, || space::named(job, &target), totals.need, available)?;
    }
    say(job, work, &facts, &target);
    if job.options.dry_run {
        return Ok(());
    }
    let item = Item::new(source.to_owned(), target, facts, What::File(work)).followed();
    send::one(job, &item).await
}

/// Returns what the server says of a path, or that it says nothing: whatever keeps us from looking
/// is the business of the request that writes.
async fn found(call: impl Future<Output = Result<Stat, Error>>) -> Result<Option<Stat>, Error> {
    match call.await {
        Ok(stat) => Ok(Some(stat)),
        Err(Error::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn tree(
    job: &Job<'_>,
    source: &Path,
    facts: Facts,
    target: VirtualPath,
) -> Result<(), Error> {
    let totals = {
        let source = source.to_owned();
        blocking(move || Ok(Totals::of_local_tree(&source)))
    };
    let (totals, available) = try_join(totals, space::remote(job, &target)).await?;
    totals.announce(job);
    let first = || Directory {
        source: source.to_owned(),
        target: target.clone(),
        facts,
        there: None,
        new: false,
    };
    if available.is_some_and(|available| totals.need > available) && !job.options.ignore_space {
        let mut needed = totals.need;
        if job.compares() {
            // Much of it may be there already.
            let walk = Walk::new(job, None, true);
            walk.run(first()).await?;
            needed = walk.need.load(Relaxed);
        }
        space::check(job, || space::named(job, &target), needed, available)?;
    }
    let (files, queue) = Queue::new();
    let walk = Walk::new(job, (!job.options.dry_run).then_some(files), false);
    let walking = async {
        let mut walk = walk;
        walk.run(first()).await?;
        // The workers end when nothing can come any more.
        walk.files = None;
        Ok(walk)
    };
    let sending = (0..job.options.connections.max(1)).map(|_| send::send(job, &queue));
    let (walk, _) = try_join(walking, try_join_all(sending)).await?;
    walk.finish().await
}

/// Says what is done with a file, and counts it where it is only said.
fn say(job: &Job<'_>, work: Work, facts: &Facts, target: &VirtualPath) {
    let action = match work {
        Work::Copy => Action::Copy,
        Work::Compare => Action::Compare,
        Work::Attributes => Action::Attributes,
        Work::Skip => return,
    };
    let printed = || printable(target.as_bytes());
    job.tally.event(action, facts.size, printed);
    if job.options.dry_run && work == Work::Copy {
        job.tally.add(Count::Bytes, facts.size);
        job.tally.one(Count::Files);
    }
}

/// A local directory and what it becomes.
struct Directory {
    source: PathBuf,
    target: VirtualPath,
    facts: Facts,
    /// What its name has there, if that was looked at.
    there: Option<Facts>,
    /// Whether it is known not to be there.
    new: bool,
}

/// The walk through a local tree.
struct Walk<'a> {
    job: &'a Job<'a>,
    /// Where files go to be sent; `None` where nothing is changed.
    files: Option<mpsc::Sender<Item>>,
    /// Whether the walk only finds out how many bytes would be sent.
    counting: bool,
    need: AtomicU64,
    dated: Mutex<Vec<Dated>>,
    linked: Mutex<Vec<(Item, Linked)>>,
    firsts: Mutex<Firsts<VirtualPath>>,
    removals: Mutex<Vec<VirtualPath>>,
}

impl<'a> Walk<'a> {
    fn new(job: &'a Job<'a>, files: Option<mpsc::Sender<Item>>, counting: bool) -> Self {
        Self {
            job,
            files,
            counting,
            need: AtomicU64::new(0),
            dated: Mutex::default(),
            linked: Mutex::default(),
            firsts: Mutex::default(),
            removals: Mutex::default(),
        }
    }

    async fn run(&self, first: Directory) -> Result<(), Error> {
        for_each_directory(DIRECTORIES_AT_ONCE, first, |next| self.directory(next)).await
    }

    /// Does what has to wait for all contents.
    async fn finish(self) -> Result<(), Error> {
        let job = self.job;
        for (item, linked) in self.linked.into_inner().unwrap_or_default() {
            let printed = || printable(linked.path.as_bytes());
            job.tally.event(Action::Link, 0, printed);
            if job.options.dry_run {
                continue;
            }
            let result = match finish::link(job, &linked).await {
                Ok(true) => Ok(()),
                Ok(false) => send::one(job, &item).await,
                Err(error) => Err(error),
            };
            job.tally
                .note(|| item.source.display().to_string(), result)?;
        }
        finish::removals(job, self.removals.into_inner().unwrap_or_default()).await?;
        if job.options.dry_run {
            return Ok(());
        }
        finish::directories(job, self.dated.into_inner().unwrap_or_default()).await
    }

    fn changes(&self) -> bool {
        self.files.is_some()
    }

    /// Makes one directory, queues what it holds and returns its directories.
    async fn directory(&self, mut next: Directory) -> Result<Vec<Directory>, Error> {
        let job = self.job;
        let named = |next: &Directory| next.source.display().to_string();
        let mut there = None;
        if job.compares() && !next.new {
            there = match self.listed(&next.target).await {
                Ok(there) => there,
                Err(error) => {
                    job.tally.note(|| named(&next), Err(error))?;
                    return Ok(Vec::new());
                }
            };
            next.new = there.is_none();
        }
        if there.is_none() {
            let printed = || printable(next.target.as_bytes());
            if !self.counting && job.compares() {
                job.tally.event(Action::Directory, 0, printed);
            }
            if self.changes()
                && let Err(error) = self.make(&next.target).await
            {
                job.tally.note(|| named(&next), Err(error))?;
                return Ok(Vec::new());
            }
        }
        if !self.counting {
            job.tally.one(Count::Directories);
            locked(&self.dated).push(Dated {
                path: next.target.clone(),
                from: next.facts,
                there: next.there,
            });
        }
        let mut below = Vec::new();
        let mut there = there.unwrap_or_default();
        match self.entries(&next, &mut there, &mut below).await {
            // What could not be read may be what is missing.
            Err(error) => job.tally.note(|| named(&next), Err(error))?,
            Ok(()) if job.options.delete && !self.counting => {
                let mut removals = locked(&self.removals);
                for name in there.into_keys() {
                    let part = name.starts_with(PART_PREFIX) && job.options.resume;
                    if !part && let Ok(path) = next.target.join(&name) {
                        removals.push(path);
                    }
                }
            }
            Ok(()) => {}
        }
        Ok(below)
    }

    /// Returns what a directory has; `None` if it is not there.
    async fn listed(&self, path: &VirtualPath) -> Result<Option<HashMap<Bytes, Facts>>, Error> {
        let listing = match self.job.client.getlongdir(path).await {
            Ok(listing) => listing.collect().await?,
            // Nothing there, or no directory: making it will tell.
            Err(error) if matches!(error.code(), Some(Code::DoesntExist | Code::NotDirectory)) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let entries = listing.into_iter();
        let entries = entries.map(|(name, stat)| (name, Facts::remote(&stat)));
        Ok(Some(entries.collect()))
    }

    async fn make(&self, target: &VirtualPath) -> Result<(), Error> {
        let client = self.job.client;
        match client.mkdir(target, DIRECTORY_MODE).await {
            // A file of that name shows when something is put below it; an empty directory would
            // not.
            Err(error) if error.code() == Some(Code::AlreadyExists) => {
                if client.stat(target).await?.is_directory() {
                    Ok(())
                } else {
                    Err(error)
                }
            }
            other => other,
        }
    }

    /// Goes through the entries of a local directory, and takes those out of `there` that the
    /// source has.
    async fn entries(
        &self,
        parent: &Directory,
        there: &mut HashMap<Bytes, Facts>,
        below: &mut Vec<Directory>,
    ) -> Result<(), Error> {
        let mut reading = open_directory(parent.source.clone()).await?;
        loop {
            let (rest, batch) = read_batch(reading, parent.source.clone()).await?;
            reading = rest;
            if batch.is_empty() {
                return Ok(());
            }
            for entry in batch {
                let (source, found) = entry?;
                let name = source
                    .file_name()
                    .map(OsStrExt::as_bytes)
                    .unwrap_or_default();
                let beside = there.remove(name);
                let result = match (place::join(&parent.target, name), found) {
                    (Ok(target), Ok(found)) => {
                        let facts = Facts::metadata(&found);
                        let entry = Entry {
                            source: source.clone(),
                            target,
                            facts,
                            there: beside,
                            new: parent.new,
                        };
                        self.entry(entry, below).await
                    }
                    (Err(error), _) | (_, Err(error)) => Err(error),
                };
                if !self.counting {
                    let tally = &self.job.tally;
                    tally.note(|| printable(source.as_os_str().as_bytes()), result)?;
                }
            }
        }
    }

    async fn entry(&self, entry: Entry, below: &mut Vec<Directory>) -> Result<(), Error> {
        let job = self.job;
        let Entry {
            source,
            target,
            facts,
            there,
            new,
        } = entry;
        let in_the_way = there.filter(|there| {
            (there.kind == Kind::Directory) != (facts.kind == Kind::Directory)
                || there.kind == Kind::Other
        });
        if in_the_way.is_some() && job.options.delete && !self.counting {
            job.tally
                .event(Action::Delete, 0, || printable(target.as_bytes()));
            job.tally.one(Count::Deleted);
            if self.changes() {
                job.client.rmall(&target).await?;
            }
        }
        let there = there.filter(|_| in_the_way.is_none());
        match facts.kind {
            Kind::Directory => {
                let new = new || (job.compares() && there.is_none());
                below.push(Directory {
                    source,
                    target,
                    facts,
                    there,
                    new,
                });
                Ok(())
            }
            Kind::File => {
                let work = decide(
                    job.options.existing,
                    &facts,
                    there.as_ref(),
                    facts.mode_there(),
                );
                if self.counting {
                    if work == Work::Copy {
                        self.need.fetch_add(facts.need(), Relaxed);
                    }
                    return Ok(());
                }
                self.file(
                    Item::new(source, target, facts, What::File(work)),
                    work,
                    there,
                )
                .await
            }
            Kind::Link if self.counting => Ok(()),
            Kind::Link => {
                let there = there.is_some_and(|there| there.kind == Kind::Link);
                if !there || job.options.existing == Existing::Replace {
                    job.tally
                        .event(Action::Symlink, 0, || printable(target.as_bytes()));
                }
                self.queue(Item::new(source, target, facts, What::Link { there }))
                    .await
            }
            Kind::Other | Kind::Gone => {
                let reason = std::io::Error::other("neither file, directory nor link");
                Err(local("send", &source, reason))
            }
        }
    }

    async fn file(&self, item: Item, work: Work, there: Option<Facts>) -> Result<(), Error> {
        let job = self.job;
        let target = || item.target.clone();
        let met = locked(&self.firsts).meet(&item.facts, work, there.as_ref(), target);
        if let Met::Further(first) = met {
            let path = item.target.clone();
            locked(&self.linked).push((item, Linked { first, path }));
            return Ok(());
        }
        if work == Work::Skip && !job.options.verify && !job.options.fsync {
            job.tally.one(Count::Skipped);
            return Ok(());
        }
        say(job, work, &item.facts, &item.target);
        self.queue(item).await
    }

    async fn queue(&self, item: Item) -> Result<(), Error> {
        if let Some(files) = &self.files {
            // If the workers are gone, their error ends the transfer.
            let _gone = files.send(item).await;
        }
        Ok(())
    }
}

/// An entry of a local directory.
struct Entry {
    source: PathBuf,
    target: VirtualPath,
    facts: Facts,
    there: Option<Facts>,
    /// Whether its directory is known not to have been there.
    new: bool,
}

type Found = Result<(PathBuf, Result<Metadata, Error>), Error>;

async fn open_directory(path: PathBuf) -> Result<ReadDir, Error> {
    blocking(move || std::fs::read_dir(&path).map_err(|error| local("list", &path, error))).await
}

async fn read_batch(mut reading: ReadDir, path: PathBuf) -> Result<(ReadDir, Vec<Found>), Error> {
    blocking(move || {
        let batch = reading
            .by_ref()
            .take(BATCH)
            .map(|entry| {
                let entry = entry.map_err(|error| local("list", &path, error))?;
                let path = entry.path();
                let found = entry.metadata();
                let found = found.map_err(|error| local("read", &path, error));
                Ok((path, found))
            })
            .collect();
        Ok((reading, batch))
    })
    .await
}
