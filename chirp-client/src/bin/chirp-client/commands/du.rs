use std::collections::HashSet;

use chirp_client::Client;
use clap::Args;
use serde::Serialize;

use super::Failure;
use super::walk::{Choice, Entry, Step, Walk};
use crate::cli::RemotePath;
use crate::json::{Array, Json, Text};
use crate::output;
use crate::size;

/// Shows the space that directories of the server take, as `du` does: KiB, a tab and the path.
///
/// A directory counts with all that is in it; a file with several names counts once. A directory that
/// may not be listed is named on stderr, and the exit status is 1.
#[derive(Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:
  chirp-client guest du -s /jobs/*
  chirp-client guest du -h -L 1 /
  chirp-client guest du --json -s / | jq '.[0].bytes'"
)]
pub(crate) struct Du {
    /// Show only the sum of each path.
    #[arg(short, long)]
    summarize: bool,
    /// Show files, too.
    #[arg(short, long)]
    all: bool,
    /// Show directories this many levels down; what is below counts all the same.
    #[arg(short = 'L', long, value_name = "LEVELS", default_value_t = usize::MAX, hide_default_value = true)]
    depth: usize,
    /// Print sizes as people read them.
    #[arg(short, long)]
    human: bool,
    /// Print help.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Count the bytes of contents, not the space on disk, and print bytes.
    #[arg(short, long)]
    bytes: bool,
    #[command(flatten)]
    json: Json,
    /// Directories or files.
    #[arg(value_parser = RemotePath::parser(), default_value = "/")]
    paths: Vec<RemotePath>,
}

/// What a directory holds.
#[derive(Clone, Copy, Default)]
struct Sum {
    space: u64,
    bytes: u64,
    files: u64,
    directories: u64,
}

impl Sum {
    fn of(entry: &Entry) -> Self {
        let positive = |number: i64| u64::try_from(number).unwrap_or(0);
        let directory = entry.stat.is_directory();
        Self {
            space: positive(entry.stat.blocks).saturating_mul(512),
            bytes: if directory {
                0
            } else {
                positive(entry.stat.size)
            },
            files: u64::from(!directory),
            directories: u64::from(directory),
        }
    }

    fn add(&mut self, other: Self) {
        self.space = self.space.saturating_add(other.space);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.files += other.files;
        self.directories += other.directories;
    }
}

#[derive(Serialize)]
struct Line<'a> {
    path: Text<'a>,
    /// Space on the server's disk, in bytes.
    space: u64,
    /// Bytes of contents.
    bytes: u64,
    files: u64,
    directories: u64,
}

impl Du {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut report = Report {
            text: output::Pieces::default(),
            array: self.json.wanted.then(Array::default),
        };
        let mut complete = true;
        for RemotePath(path, _) in &self.paths {
            let everything = Choice {
                hidden: true,
                directories: false,
                depth: usize::MAX,
            };
            match Walk::new(client, path, everything).await {
                Ok(walk) => complete &= self.measure(walk, &mut report).await?,
                Err(failure) => {
                    super::told(client, failure)?;
                    complete = false;
                }
            }
        }
        report.finish()?;
        if complete { Ok(()) } else { Err(Failure::Told) }
    }

    /// Adds a tree up; false where a part of it could not be read.
    async fn measure(&self, mut walk: Walk<'_>, report: &mut Report) -> Result<bool, Failure> {
        let mut open: Vec<Sum> = Vec::new();
        let mut counted = HashSet::new();
        while let Some(step) = walk.next().await? {
            let (entry, sum) = match step {
                Step::Entry(entry) => {
                    let stat = &entry.stat;
                    let several = !stat.is_directory() && stat.links > 1;
                    let sum = match several && !counted.insert((stat.device, stat.inode)) {
                        true => Sum::default(),
                        false => Sum::of(&entry),
                    };
                    if entry.stat.is_directory() {
                        open.push(sum);
                        continue;
                    }
                    (entry, sum)
                }
                Step::Left(entry) => (entry, open.pop().unwrap_or_default()),
            };
            if let Some(above) = open.last_mut() {
                above.add(sum);
            }
            if self.shows(&entry) {
                report.push(self, &entry, &sum)?;
            }
        }
        Ok(walk.is_complete())
    }

    const fn shows(&self, entry: &Entry) -> bool {
        let kind = self.all || entry.stat.is_directory();
        entry.depth == 0 || (!self.summarize && kind && entry.depth <= self.depth)
    }
}

struct Report {
    text: output::Pieces,
    array: Option<Array>,
}

impl Report {
    fn push(&mut self, wish: &Du, entry: &Entry, sum: &Sum) -> Result<(), Failure> {
        if let Some(array) = &mut self.array {
            return array.push(&Line {
                path: (&entry.path).into(),
                space: sum.space,
                bytes: sum.bytes,
                files: sum.files,
                directories: sum.directories,
            });
        }
        let number = if wish.bytes { sum.bytes } else { sum.space };
        let number = match (wish.human, wish.bytes) {
            (true, _) => size::shown(number as f64),
            (false, true) => number.to_string(),
            (false, false) => number.div_ceil(1024).to_string(),
        };
        self.text.push(number.as_bytes())?;
        self.text.push(b"\t")?;
        self.text.push(&output::name(entry.path.as_bytes()))?;
        self.text.push(b"\n")
    }

    fn finish(self) -> Result<(), Failure> {
        match self.array {
            Some(array) => array.finish(),
            None => self.text.finish(),
        }
    }
}
