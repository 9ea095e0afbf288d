//! Our client beside those that people copy with today: trees of small files over links with and without
//! delay, one large file, and a second copy of what is there already.
//!
//! - [`contender`]: those that copy, and how each is told to
//! - [`sshd`]: the ssh server that most of them need
//! - [`relay`]: the delay
//! - [`tree`], [`big`]: what is copied, and its check
//! - [`table`]: what was found, for people and programs
//!
//! Whatever is copied is compared with the original afterwards: nobody wins by leaving something out.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use self::contender::{Contender, Copy, Cost, Way};
use self::relay::Relay;
use self::sshd::Sshd;
use self::table::{Line, Value};
use crate::subject::{self, Subject, Subjects};

mod big;
mod contender;
mod relay;
pub(crate) mod sshd;
pub(crate) mod table;
mod tree;

/// How large the copies are.
pub(crate) struct Sizes {
    /// Files of the trees at 0, 5 and 50 ms round trip.
    pub(crate) files: [usize; 3],
    /// MiB of the large file.
    pub(crate) big: usize,
}

/// The round trips of [`Sizes::files`], in milliseconds.
const ROUND_TRIPS: [u64; 3] = [0, 5, 50];

/// The directory of each Chirp server that the copies are in.
const PLACE: &str = "/copies";

/// One line of the table.
#[derive(Clone, Copy)]
pub(crate) enum Experiment {
    /// A tree of that many small files, over a link with that many milliseconds of round trip.
    Tree(Way, usize, u64),
    /// A file of that many MiB.
    Big(Way, usize),
    /// A second `get` of a tree of that many files.
    Again(usize),
}

/// Returns the experiments in the order of the table.
pub(crate) fn all(sizes: &Sizes) -> Vec<Experiment> {
    let mut all = Vec::new();
    for (round_trip, files) in ROUND_TRIPS.into_iter().zip(sizes.files) {
        all.extend([Way::Put, Way::Get].map(|way| Experiment::Tree(way, files, round_trip)));
    }
    all.extend([Way::Put, Way::Get].map(|way| Experiment::Big(way, sizes.big)));
    let [files, ..] = sizes.files;
    all.push(Experiment::Again(files));
    all
}

/// What the copies need: made when first needed.
pub(crate) struct Bench<'a> {
    subjects: &'a Subjects,
    /// The side of this machine, and what the ssh server's side is.
    directory: TempDir,
    sshd: OnceCell<Sshd>,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(subjects: &'a Subjects) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("chirp-bench-")
            .tempdir()
            .context("cannot create a temporary directory")?;
        Ok(Self {
            subjects,
            directory,
            sshd: OnceCell::new(),
        })
    }

    fn sshd(&self) -> Result<&Sshd> {
        if let Some(running) = self.sshd.get() {
            return Ok(running);
        }
        let started = Sshd::start()?;
        Ok(self.sshd.get_or_init(|| started))
    }

    /// Returns a path on this side.
    fn local(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns a path on the other side as `contender` names it, and as this machine does.
    fn remote(&self, contender: Contender, name: &str) -> (PathBuf, PathBuf) {
        match contender
            .server()
            .and_then(|which| self.subjects.server(which))
        {
            Some(server) => {
                let path = Path::new(PLACE).join(name);
                let below = path.strip_prefix("/").unwrap_or(&path);
                (path.clone(), server.root().join(below))
            }
            None => {
                let path = self.local("there").join(name);
                (path.clone(), path)
            }
        }
    }

    /// Makes a directory on the other side, with the rights to use it.
    fn make_directory(&self, contender: Contender, path: &Path) -> Result<()> {
        match contender
            .server()
            .and_then(|which| self.subjects.address(which))
        {
            Some(address) => {
                let mut connection = subject::log_in(address)?;
                let line = format!("mkdir {} 493\n", path.display());
                subject::request(&mut connection, line.as_bytes())
            }
            None => {
                fs::create_dir(path).with_context(|| format!("cannot create {}", path.display()))
            }
        }
    }

    /// Makes sure that the tree to copy is where `contender` takes it from.
    fn source(&self, contender: Contender, way: Way, files: usize) -> Result<PathBuf> {
        let (place, real) = self.remote(contender, "");
        if !real.is_dir() {
            self.make_directory(contender, &place)?;
        }
        let name = format!("tree-{files}");
        match way {
            Way::Put => {
                let path = self.local(&name);
                if !path.is_dir() {
                    fs::create_dir(&path)?;
                    for directory in tree::directories(files) {
                        fs::create_dir(path.join(directory))?;
                    }
                    tree::fill(&path, files, None)?;
                }
                Ok(path)
            }
            Way::Get => {
                let (path, real) = self.remote(contender, &name);
                if !real.is_dir() {
                    self.make_directory(contender, &path)?;
                    for directory in tree::directories(files) {
                        self.make_directory(contender, &path.join(directory))?;
                    }
                    let server = contender.server().and_then(|s| self.subjects.server(s));
                    tree::fill(&real, files, server.map(|server| server.account()))?;
                }
                Ok(path)
            }
        }
    }

    /// Copies once, to a place where nothing is, and checks the copy with `check`.
    fn once(
        &self,
        contender: Contender,
        way: Way,
        source: &Path,
        round_trip: u64,
        check: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Cost> {
        let sshd = self.sshd()?;
        let server = contender
            .server()
            .and_then(|which| self.subjects.address(which));
        let address = server.unwrap_or_else(|| sshd.address());
        let relay = match round_trip {
            0 => None,
            delay => Some(Relay::start(address, Duration::from_millis(delay))?),
        };
        let address = relay.as_ref().map_or(address, Relay::address);
        let (path, real) = match way {
            Way::Put => self.remote(contender, "up"),
            Way::Get => {
                let path = self.local("down");
                (path.clone(), path)
            }
        };
        let (local, remote) = match way {
            Way::Put => (source, path.as_path()),
            Way::Get => (path.as_path(), source),
        };
        let cost = contender.copy(&Copy {
            way,
            local,
            remote,
            address,
            sshd,
        })?;
        check(&real).with_context(|| format!("{} copied something else", contender.name()))?;
        remove(&real)?;
        Ok(cost)
    }

    fn big(&self, contender: Contender, way: Way, size: usize) -> Result<(PathBuf, PathBuf)> {
        self.source(contender, Way::Put, 0)?;
        let (named, real) = match way {
            Way::Put => {
                let path = self.local("big");
                (path.clone(), path)
            }
            Way::Get => self.remote(contender, "big"),
        };
        if !real.is_file() {
            big::make(&real, size)?;
            if let Some(server) = contender.server().and_then(|s| self.subjects.server(s)) {
                server.account().own(&real)?;
            }
        }
        Ok((named, real))
    }
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

impl Experiment {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Tree(way, files, round_trip) => {
                format!("{} {files} files of 4 KiB, {round_trip} ms", word(way))
            }
            Self::Big(way, size) => format!("{} {size} MiB in one file", word(way)),
            Self::Again(files) => format!("get --resume {files} files, nothing to do"),
        }
    }

    /// Lets every contender copy `turns` times, none always first.
    pub(crate) fn run(self, bench: &Bench<'_>, turns: u32) -> Result<Line> {
        let mut line = Line::new(self.name());
        match self {
            Self::Tree(way, files, round_trip) => {
                let count = Contender::ALL.len();
                for turn in 0..turns as usize {
                    for place in 0..count {
                        let Some(&contender) = Contender::ALL.get((turn + place) % count) else {
                            continue;
                        };
                        let source = bench.source(contender, way, files)?;
                        let check = |copy: &Path| tree::check(copy, files);
                        let cost = bench.once(contender, way, &source, round_trip, check)?;
                        line.add(contender.name(), Value::Seconds(cost.time.as_secs_f64()));
                    }
                }
                line.target_of_tree(round_trip);
            }
            Self::Big(way, size) => {
                for _ in 0..turns {
                    for contender in [Contender::Ours, Contender::Reference] {
                        let (source, real) = bench.big(contender, way, size)?;
                        let cost = bench.once(contender, way, &source, 0, |copy| {
                            ensure!(big::same(&real, copy)?, "the files differ");
                            Ok(())
                        })?;
                        line.add(contender.name(), Value::Seconds(cost.time.as_secs_f64()));
                        if contender == Contender::Ours {
                            line.add("memory", Value::Mebibytes(cost.memory as f64 / 1024.0));
                        }
                    }
                    let (_, real) = bench.big(Contender::Ours, way, size)?;
                    let copy = bench.local("bare");
                    let time = big::bare(&real, &copy)?;
                    remove(&copy)?;
                    line.add("bare socket", Value::Seconds(time.as_secs_f64()));
                }
                line.target_of_big();
            }
            Self::Again(files) => {
                let contender = Contender::Ours;
                let source = bench.source(contender, Way::Get, files)?;
                let copy = bench.local("down");
                fs::create_dir(&copy)?;
                let address = bench.subjects.address(Subject::Ours);
                let address = address.context("our server has no address")?;
                for turn in 0..=turns {
                    let time = contender::resume(address, &source, &copy)?.time;
                    tree::check(&copy, files)?;
                    // The first has everything to do.
                    if turn > 0 {
                        line.add(contender.name(), Value::Seconds(time.as_secs_f64()));
                    }
                }
                remove(&copy)?;
                line.target_below(1.0);
            }
        }
        Ok(line)
    }
}

fn word(way: Way) -> &'static str {
    match way {
        Way::Put => "put",
        Way::Get => "get",
    }
}
