//! Receiving files and trees: the walk through the remote tree.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use chirp_proto::{Stat, VirtualPath};
use futures_util::future::{try_join, try_join_all};
use tokio::sync::mpsc;

use super::compare::{Work, decide};
use super::facts::{Facts, Kind};
use super::firsts::{Firsts, Met};
use super::job::{Job, PART_PREFIX};
use super::local::{Directory, local};
use super::receive::{self, Item, What};
use super::space::{self, Totals};
use super::tally::{Count, Tally};
use super::threads::blocking;
use super::worker::{Queue, for_each_directory};
use super::{Action, Existing, Summary, TransferOptions, place};
use crate::error::printable;
use crate::{Client, Error};

/// Directories that are listed at once.
const DIRECTORIES_AT_ONCE: usize = 16;

/// Entries that are held in memory until it is known whether all fit; of a larger tree as many are
/// counted.
const HELD: usize = 500_000;

/// Listings that wait to be worked on.
const LISTED: usize = 16;

/// Receives a remote file or tree as `target`; what that names is told by the options.
///
/// A `target` that is a link to a file or directory is followed; links below it are not. A device
/// or pipe as `target` is written to as it is. Where the tree does not fit into the free space, that
/// is said before anything is made, unless [`TransferOptions::ignore_space`] is set.
///
/// # Errors
///
/// [`Error::Incomplete`] if some entries could not be received; all others were.
/// [`Error::NoSpace`] before anything was done, [`Error::Cancelled`] where that was asked for. Any
/// other error ended the transfer early. No file is left half-written in either case, but for the
/// parts of [`TransferOptions::resume`].
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
    let trailing = ends_in_slash(target);
    let placed = {
        let (source, target) = (source.clone(), target.to_owned());
        let placement = options.placement;
        blocking(move || Ok(place::local(&source, &target, placement))).await?
    };
    let tally = Tally::new(options);
    let job = Job::quiet(client, options, &tally);
    job.run(async {
        if stat.is_directory() {
            return Walk::new(&job, placed.clone(), placed == target)
                .run(source, &stat)
                .await;
        }
        if trailing && placed == target {
            let reason = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(local("find the directory", target, reason));
        }
        single(&job, source, &stat, placed).await
    })
    .await
}

/// Receives one file, which the caller named.
async fn single(
    job: &Job<'_>,
    source: &VirtualPath,
    stat: &Stat,
    target: PathBuf,
) -> Result<(), Error> {
    let facts = Facts::remote(stat);
    let (directory, name) = match blocking(move || Place::find(target)).await? {
        Place::Name(directory, name) => (directory, name),
        Place::Device(..) if job.options.dry_run => return Ok(()),
        Place::Device(path, device) => return receive::device(job, source, path, device).await,
    };
    let mut totals = Totals::default();
    totals.add(&facts, &mut HashSet::new());
    totals.announce(job);
    let (looking, looked) = (directory.clone(), name.clone());
    let (there, free) = blocking(move || {
        let there = looking.facts(&looked)?;
        Ok((there, space::local(&looking)))
    })
    .await?;
    let work = decide(job.options.existing, &facts, there.as_ref(), facts.mode);
    if work == Work::Copy {
        let place = || directory.path_of(b"").display().to_string();
        space::check(job, place, totals.need, free)?;
    }
    say(job, work, &facts, &directory.path_of(&name));
    if job.options.dry_run {
        return Ok(());
    }
    let pseudo = match source.split_last() {
        Some((parent, _)) if facts.allocated == 0 => match VirtualPath::from_decoded(parent) {
            Ok(parent) => job.is_pseudo(facts.device, &parent).await?,
            Err(_) => false,
        },
        _ => false,
    };
    let item = Item {
        source: source.clone(),
        directory,
        name,
        facts,
        what: What::File(work),
        pseudo,
        attempts: 0,
    };
    receive::one(job, &item).await
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

/// Says what is done with a file, and counts it where it is only said.
fn say(job: &Job<'_>, work: Work, facts: &Facts, path: &Path) {
    let action = match work {
        Work::Copy => Action::Copy,
        Work::Compare => Action::Compare,
        Work::Attributes => Action::Attributes,
        Work::Skip => return,
    };
    job.tally.event(action, facts.size, || shown(path));
    if job.options.dry_run && work == Work::Copy {
        job.tally.add(Count::Bytes, facts.size);
        job.tally.one(Count::Files);
    }
}

fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_bytes())
}

/// A remote directory to be listed.
struct Node {
    source: VirtualPath,
    /// Its path below the target; empty for the target itself.
    relative: Vec<u8>,
    facts: Facts,
}

/// A remote directory and what it has.
struct Listed {
    node: Node,
    entries: Vec<(Bytes, Facts)>,
    pseudo: bool,
}

/// A file with several names: directory below the target, and name.
type Name = (Vec<u8>, Bytes);

/// The walk through a remote tree, and what has to wait for all contents.
struct Walk<'a> {
    job: &'a Job<'a>,
    target: PathBuf,
    /// Whether the target is what the user named, and not an entry of it.
    named: bool,
    /// The target once it is open; `None` as long as it need not be there.
    root: Option<Directory>,
    firsts: Firsts<Name>,
    linked: Vec<(Name, Name)>,
    dated: Vec<(Vec<u8>, Facts)>,
    removals: Vec<(Vec<u8>, Bytes)>,
}

impl<'a> Walk<'a> {
    fn new(job: &'a Job<'a>, target: PathBuf, named: bool) -> Self {
        Self {
            job,
            target,
            named,
            root: None,
            firsts: Firsts::default(),
            linked: Vec::new(),
            dated: Vec::new(),
            removals: Vec::new(),
        }
    }

    async fn run(mut self, source: &VirtualPath, stat: &Stat) -> Result<(), Error> {
        let job = self.job;
        let first = Node {
            source: source.clone(),
            relative: Vec::new(),
            facts: Facts::remote(stat),
        };
        let (listed, arriving) = mpsc::channel(LISTED);
        let listing = async move {
            let listed = &listed;
            let visit = |node| list(job, node, listed);
            for_each_directory(DIRECTORIES_AT_ONCE, first, visit).await
        };
        let (files, queue) = Queue::new();
        let placing = self.place(arriving, files);
        let receiving = (0..job.options.connections.max(1)).map(|_| receive::receive(job, &queue));
        try_join(try_join(listing, placing), try_join_all(receiving)).await?;
        self.finish().await
    }

    /// Takes the listings, makes the directories and queues the files; but first it waits until it is
    /// known that all of them fit.
    async fn place(
        &mut self,
        mut arriving: mpsc::Receiver<Listed>,
        files: mpsc::Sender<Item>,
    ) -> Result<(), Error> {
        let (mut held, mut entries) = (Vec::new(), 0);
        let (mut totals, mut known) = (Totals::default(), HashSet::new());
        while entries < HELD
            && let Some(listed) = arriving.recv().await
        {
            entries += listed.entries.len();
            for (_, facts) in &listed.entries {
                totals.add(facts, &mut known);
            }
            held.push(listed);
        }
        drop(known);
        totals.announce(self.job);
        self.check_space(totals, &held).await?;
        for listed in held {
            self.directory(listed, &files).await?;
        }
        while let Some(listed) = arriving.recv().await {
            self.directory(listed, &files).await?;
        }
        Ok(())
    }

    async fn check_space(&self, totals: Totals, held: &[Listed]) -> Result<(), Error> {
        let target = self.target.clone();
        let found = blocking(move || {
            let existing = target.ancestors().find(|path| path.is_dir());
            let existing = existing.unwrap_or_else(|| Path::new("."));
            Ok(Directory::open(existing)
                .ok()
                .and_then(|directory| space::local(&directory)))
        });
        let free = found.await?;
        let mut needed = totals.need;
        if self.job.compares() && free.is_some_and(|free| needed > free) {
            // Much of it may be there already.
            let target = self.target.clone();
            let existing = self.job.options.existing;
            let listed: Vec<Relative> = held
                .iter()
                .map(|listed| (listed.node.relative.clone(), listed.entries.clone()))
                .collect();
            needed = blocking(move || Ok(missing(&target, &listed, existing))).await?;
        }
        space::check(self.job, || shown(&self.target), needed, free)
    }

    /// Makes one directory and queues what it holds.
    async fn directory(&mut self, listed: Listed, files: &mpsc::Sender<Item>) -> Result<(), Error> {
        let job = self.job;
        let Listed {
            node,
            entries,
            pseudo,
        } = listed;
        let path = self.path(&node.relative, b"");
        let (mode, relative, root) = (node.facts.mode, node.relative.clone(), self.root.clone());
        let (target, dry) = (self.target.clone(), job.options.dry_run);
        let looked_at = job.compares();
        let opened = blocking(move || open(root, &target, &relative, mode, dry, looked_at)).await;
        let Opened {
            directory,
            there: was_there,
            entries: there,
        } = match opened {
            Ok(opened) => opened,
            // Nothing can be put anywhere without the first.
            Err(error) if node.relative.is_empty() => return Err(error),
            Err(error) => return job.tally.note(|| named(job, &node.source), Err(error)),
        };
        if node.relative.is_empty() {
            self.root.clone_from(&directory);
        }
        job.tally.one(Count::Directories);
        if there.is_none() && job.compares() {
            job.tally.event(Action::Directory, 0, || shown(&path));
        }
        let mut there = there.unwrap_or_default();
        for (name, facts) in entries {
            let beside = there.remove(&name);
            let entry = Entry {
                parent: &node,
                directory: directory.as_ref(),
                name: &name,
                facts,
                there: beside,
                pseudo,
            };
            let result = self.entry(entry, files).await;
            let path = || format!("{}/{}", named(job, &node.source), printable(&name));
            job.tally.note(path, result)?;
        }
        if job.options.delete {
            for name in there.into_keys() {
                if !(name.starts_with(PART_PREFIX) && job.options.resume) {
                    self.removals.push((node.relative.clone(), name));
                }
            }
        }
        // A directory that the user named and that is there keeps its mode.
        let mut facts = node.facts;
        if was_there
            && self.named
            && node.relative.is_empty()
            && let Some(kept) = directory.and_then(|directory| directory.facts(b".").ok()?)
        {
            facts.mode = kept.mode;
        }
        self.dated.push((node.relative, facts));
        Ok(())
    }

    async fn entry(&mut self, entry: Entry<'_>, files: &mpsc::Sender<Item>) -> Result<(), Error> {
        let job = self.job;
        let Entry {
            parent,
            directory,
            name,
            facts,
            there,
            pseudo,
        } = entry;
        let path = self.path(&parent.relative, name);
        let in_the_way = there.filter(|there| {
            (there.kind == Kind::Directory) != (facts.kind == Kind::Directory)
                || there.kind == Kind::Other
        });
        if in_the_way.is_some() && job.options.delete {
            job.tally.event(Action::Delete, 0, || shown(&path));
            job.tally.one(Count::Deleted);
            if let Some(directory) = directory.filter(|_| !job.options.dry_run) {
                let (directory, name) = (directory.clone(), name.clone());
                blocking(move || directory.remove(&name)).await?;
            }
        }
        let there = there.filter(|_| in_the_way.is_none());
        let what = match facts.kind {
            // They come with listings of their own.
            Kind::Directory => return Ok(()),
            Kind::File => {
                let work = decide(job.options.existing, &facts, there.as_ref(), facts.mode);
                let this = || (parent.relative.clone(), name.clone());
                let met = self.firsts.meet(&facts, work, there.as_ref(), this);
                if let Met::Further(first) = met {
                    self.linked.push((first, this()));
                    return Ok(());
                }
                if work == Work::Skip && !job.options.verify && !job.options.fsync {
                    job.tally.one(Count::Skipped);
                    return Ok(());
                }
                say(job, work, &facts, &path);
                What::File(work)
            }
            Kind::Link => {
                let there = there.is_some_and(|there| there.kind == Kind::Link);
                if !there || job.options.existing == Existing::Replace {
                    job.tally.event(Action::Symlink, 0, || shown(&path));
                }
                What::Link { there }
            }
            Kind::Gone => {
                let reason = "it vanished meanwhile";
                let what = printable(name);
                return Err(Error::Argument { what, reason });
            }
            Kind::Other => {
                let reason = "neither file, directory nor link";
                let what = printable(name);
                return Err(Error::Argument { what, reason });
            }
        };
        let source = parent.source.join(name).map_err(|code| Error::Argument {
            what: printable(name),
            reason: code.text(),
        })?;
        if let Some(directory) = directory.filter(|_| !job.options.dry_run) {
            let item = Item {
                source,
                directory: directory.clone(),
                name: name.to_vec(),
                facts,
                what,
                pseudo,
                attempts: 0,
            };
            // If the workers are gone, their error ends the transfer.
            let _gone = files.send(item).await;
        }
        Ok(())
    }

    /// Does what has to wait for all contents: further names, removals, the modes and times of
    /// directories.
    async fn finish(self) -> Result<(), Error> {
        let (tally, options) = (self.job.tally.clone(), self.job.options.clone());
        let Self {
            root,
            target,
            linked,
            dated,
            removals,
            ..
        } = self;
        blocking(move || {
            let shown_at = |(relative, name): &Name| {
                let mut path = target.clone();
                path.push(std::ffi::OsStr::from_bytes(relative));
                shown(&path.join(std::ffi::OsStr::from_bytes(name)))
            };
            for (_, this) in &linked {
                tally.event(Action::Link, 0, || shown_at(this));
            }
            for gone in &removals {
                tally.event(Action::Delete, 0, || shown_at(gone));
            }
            if options.dry_run {
                tally.add(Count::Deleted, removals.len() as u64);
                return Ok(());
            }
            let Some(root) = root else { return Ok(()) };
            for (first, this) in linked {
                let linked = root
                    .beneath(&first.0)
                    .and_then(|of| root.beneath(&this.0)?.link(&this.1, &of, &first.1));
                if linked.is_ok() {
                    tally.one(Count::Links);
                }
                tally.note(|| shown_at(&this), linked)?;
            }
            for (relative, name) in removals {
                let removed = root.beneath(&relative).and_then(|from| from.remove(&name));
                if removed.is_ok() {
                    tally.one(Count::Deleted);
                }
                tally.note(|| shown_at(&(relative, name)), removed)?;
            }
            // What lies below comes first: a directory may lose the right to be entered.
            for (relative, facts) in dated.into_iter().rev() {
                if !options.preserve {
                    break;
                }
                let described = root.beneath(&relative).and_then(|directory| {
                    directory.describe_self(&facts)?;
                    if options.fsync {
                        directory.sync()
                    } else {
                        Ok(())
                    }
                });
                tally.note(|| shown_at(&(relative, Bytes::new())), described)?;
            }
            Ok(())
        })
        .await
    }

    /// Returns where an entry goes, for messages.
    fn path(&self, relative: &[u8], name: &[u8]) -> PathBuf {
        let mut path = self.target.clone();
        for part in [relative, name] {
            if !part.is_empty() {
                path.push(std::ffi::OsStr::from_bytes(part));
            }
        }
        path
    }
}

/// An entry of a remote directory.
struct Entry<'a> {
    parent: &'a Node,
    directory: Option<&'a Directory>,
    name: &'a Bytes,
    facts: Facts,
    there: Option<Facts>,
    pseudo: bool,
}

/// Lists one directory, hands the listing on and returns the directories in it.
async fn list(
    job: &Job<'_>,
    node: Node,
    listed: &mpsc::Sender<Listed>,
) -> Result<Vec<Node>, Error> {
    // The listing is collected: while it is held, nothing else moves on its connection.
    let collected = match job.client.getlongdir(&node.source).await {
        Ok(listing) => listing.collect().await,
        Err(error) => Err(error),
    };
    let entries = match collected {
        Ok(entries) => entries,
        Err(error) => {
            job.tally.note(|| named(job, &node.source), Err(error))?;
            return Ok(Vec::new());
        }
    };
    let entries: Vec<(Bytes, Facts)> = entries
        .into_iter()
        .map(|(name, stat)| (name, Facts::remote(&stat)))
        .collect();
    // A file without any blocks is empty, or one whose size means nothing.
    let suspect = |facts: &Facts| facts.kind == Kind::File && facts.allocated == 0;
    let suspect = entries
        .iter()
        .map(|(_, facts)| facts)
        .find(|facts| suspect(facts));
    let pseudo = match suspect {
        Some(facts) => job.is_pseudo(facts.device, &node.source).await?,
        None => false,
    };
    let mut below = Vec::new();
    for (name, facts) in &entries {
        if facts.kind != Kind::Directory {
            continue;
        }
        match node.source.join(name) {
            Ok(source) => {
                let mut relative = node.relative.clone();
                if !relative.is_empty() {
                    relative.push(b'/');
                }
                relative.extend_from_slice(name);
                below.push(Node {
                    source,
                    relative,
                    facts: *facts,
                });
            }
            Err(code) => {
                let what = format!("{}/{}", node.source, printable(name));
                let reason = code.text();
                job.tally
                    .failure(what.clone(), Error::Argument { what, reason });
            }
        }
    }
    let item = Listed {
        node,
        entries,
        pseudo,
    };
    // If nobody takes it, the error of who should ends the transfer.
    let _gone = listed.send(item).await;
    Ok(below)
}

/// What [`open`] finds.
struct Opened {
    /// The directory, if it is there now.
    directory: Option<Directory>,
    /// Whether it was there before.
    there: bool,
    /// What it had then, if that was looked at.
    entries: Option<HashMap<Bytes, Facts>>,
}

/// Makes or takes a directory of the target and looks what is in it. Blocks.
fn open(
    root: Option<Directory>,
    target: &Path,
    relative: &[u8],
    mode: u32,
    dry_run: bool,
    looked_at: bool,
) -> Result<Opened, Error> {
    let (directory, there) = if dry_run {
        let directory = match root {
            Some(root) => root.beneath(relative).ok(),
            None if relative.is_empty() => Directory::open(target).ok(),
            None => None,
        };
        let there = directory.is_some();
        (directory, there)
    } else {
        let (directory, there) = match root {
            None => top(target, mode)?,
            Some(root) => {
                let at = relative.iter().rposition(|&byte| byte == b'/');
                let (parent, name) = match at {
                    Some(at) => (relative.get(..at), relative.get(at + 1..)),
                    None => (Some(&[][..]), Some(relative)),
                };
                let parent = root.beneath(parent.unwrap_or_default())?;
                parent.subdirectory(name.unwrap_or_default(), mode)?
            }
        };
        (Some(directory), there)
    };
    let entries = match &directory {
        Some(directory) if there && looked_at => Some(directory.entries()?),
        _ => None,
    };
    Ok(Opened {
        directory,
        there,
        entries,
    })
}

/// Makes or takes the directory that a tree is received into; tells whether it was there.
fn top(target: &Path, mode: u32) -> Result<(Directory, bool), Error> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new()
        .mode(mode & 0o777 | 0o700)
        .create(target);
    match made {
        Ok(()) => Ok((Directory::open(target)?, false)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Ok((Directory::open(target)?, true))
        }
        Err(error) => Err(local("create the directory", target, error)),
    }
}

/// A directory's path below the target, and what it shall have.
type Relative = (Vec<u8>, Vec<(Bytes, Facts)>);

/// Returns the bytes that are not there yet. Blocks.
fn missing(target: &Path, listed: &[Relative], existing: Existing) -> u64 {
    let root = Directory::open(target).ok();
    let (mut totals, mut known) = (Totals::default(), HashSet::new());
    for (relative, entries) in listed {
        let directory = root.as_ref().and_then(|root| root.beneath(relative).ok());
        let there = directory.and_then(|directory| directory.entries().ok());
        let there = there.unwrap_or_default();
        for (name, facts) in entries {
            if decide(existing, facts, there.get(name), facts.mode) == Work::Copy {
                totals.add(facts, &mut known);
            }
        }
    }
    totals.need
}

fn named(job: &Job<'_>, path: &VirtualPath) -> String {
    space::named(job, path)
}
