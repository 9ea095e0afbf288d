//! Trees of the server, entry by entry, with the listings of the next directories already on their
//! way.

use chirp_client::{Client, Error, Stat, VirtualPath};
use tokio::task::JoinHandle;

use super::Failure;
use crate::output;

/// Listings that are asked for ahead: enough that a link with delay does not count for each
/// directory.
const AHEAD: usize = 32;

/// A step of a walk. An entry comes before what is in it.
pub(super) enum Step {
    /// A file, link or directory.
    Entry(Entry),
    /// All that is in this directory has come.
    Left(Entry),
}

/// What is known of an entry.
#[derive(Clone)]
pub(super) struct Entry {
    /// The whole path.
    pub(super) path: VirtualPath,
    /// Its `lstat`; of the first entry `stat`.
    pub(super) stat: Stat,
    /// 0 for the first entry.
    pub(super) depth: usize,
    /// Whether no other entry of its directory follows.
    pub(super) last: bool,
}

type Listed = JoinHandle<Result<Vec<(bytes::Bytes, Stat)>, Error>>;

enum Waiting {
    Entry(Entry, Option<Listed>),
    Left(Entry),
}

/// Which entries a walk brings.
#[derive(Clone, Copy)]
pub(super) struct Choice {
    /// Also names that begin with a dot.
    pub(super) hidden: bool,
    /// Directories only.
    pub(super) directories: bool,
    /// How many levels below the first entry.
    pub(super) depth: usize,
}

/// A walk through a tree, in the order of names. Links are not followed, but for the first entry.
pub(super) struct Walk<'a> {
    client: &'a Client,
    choice: Choice,
    /// What comes next is last.
    waiting: Vec<Waiting>,
    complete: bool,
}

impl<'a> Walk<'a> {
    /// Begins at `path`.
    pub(super) async fn new(
        client: &'a Client,
        path: &VirtualPath,
        choice: Choice,
    ) -> Result<Self, Failure> {
        let first = Entry {
            path: path.clone(),
            stat: client.stat(path).await?,
            depth: 0,
            last: true,
        };
        Ok(Self {
            client,
            choice,
            waiting: vec![Waiting::Entry(first, None)],
            complete: true,
        })
    }

    /// Reports whether every directory could be read so far; those that could not were told.
    pub(super) const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Returns the next step; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Step>, Failure> {
        let Some(next) = self.waiting.pop() else {
            return Ok(None);
        };
        let (entry, listed) = match next {
            Waiting::Left(entry) => return Ok(Some(Step::Left(entry))),
            Waiting::Entry(entry, listed) => (entry, listed),
        };
        if !entry.stat.is_directory() {
            return Ok(Some(Step::Entry(entry)));
        }
        self.waiting.push(Waiting::Left(entry.clone()));
        if entry.depth < self.choice.depth {
            let listed = listed.unwrap_or_else(|| self.list(entry.path.clone()));
            let content = match listed.await {
                Ok(content) => content,
                Err(error) => return Err(Failure::Other(format!("a listing failed: {error}"))),
            };
            match content {
                Ok(content) => self.add(&entry, content)?,
                Err(error) if error.code().is_some() => {
                    output::report_error(&error, Some(self.client.subject().as_str()));
                    self.complete = false;
                }
                Err(error) => return Err(error.into()),
            }
            self.look_ahead();
        }
        Ok(Some(Step::Entry(entry)))
    }

    fn add(
        &mut self,
        above: &Entry,
        mut content: Vec<(bytes::Bytes, Stat)>,
    ) -> Result<(), Failure> {
        content.retain(|(name, stat)| {
            (self.choice.hidden || !name.starts_with(b"."))
                && (!self.choice.directories || stat.is_directory())
        });
        content.sort_by(|one, other| other.0.cmp(&one.0));
        let mut last = true;
        for (name, stat) in content {
            let path = super::inside(&above.path, &name)?;
            let depth = above.depth + 1;
            let entry = Entry {
                path,
                stat,
                depth,
                last,
            };
            last = false;
            self.waiting.push(Waiting::Entry(entry, None));
        }
        Ok(())
    }

    /// Asks for the listings of the directories that come next.
    fn look_ahead(&mut self) {
        let client = self.client;
        let depth = self.choice.depth;
        for waiting in self.waiting.iter_mut().rev().take(AHEAD) {
            if let Waiting::Entry(entry, listed @ None) = waiting
                && entry.stat.is_directory()
                && entry.depth < depth
            {
                *listed = Some(list(client, entry.path.clone()));
            }
        }
    }

    fn list(&self, path: VirtualPath) -> Listed {
        list(self.client, path)
    }
}

/// Reads a directory beside everything else; the task ends with the program at the latest.
fn list(client: &Client, path: VirtualPath) -> Listed {
    let client = client.clone();
    tokio::spawn(async move { client.getlongdir(&path).await?.collect().await })
}
