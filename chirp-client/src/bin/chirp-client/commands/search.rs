use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use chirp_client::{Client, Found, SearchOptions, Stat, VirtualPath};
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;
use crate::json::{Array, Entry, Json};
use crate::output;

/// Finds files and directories of the server by their names. The server does the searching.
///
/// PATTERN is one or more shell patterns with | between them; * and ? stop at a slash. One that
/// begins with a slash matches from DIR on, any other at any depth. A pattern cannot have blanks: a ?
/// stands for one. What is searched needs the right to list on chirp-server, and the right to write on the
/// reference's server.
///
/// A directory that cannot be read is named on stderr, and the exit status is 1; so it is if nothing
/// was found.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest search /jobs '*.csv'
  chirp-client guest search -s /jobs core
  chirp-client guest search --json / '*.log|*.tmp' | jq -r '.[] | select(.size > 1000000) | .path'")]
pub(crate) struct Search {
    /// Print paths from the root of the exported tree, not from DIR.
    #[arg(short = 'i', long)]
    from_root: bool,
    /// Print size and inode, too.
    #[arg(short, long)]
    metadata: bool,
    /// Stop at the first one that is found.
    #[arg(short, long)]
    stop: bool,
    #[command(flatten)]
    json: Json,
    /// The directory to search.
    #[arg(value_parser = RemotePath::parser())]
    directory: RemotePath,
    /// What to look for.
    pattern: OsString,
}

impl Search {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let directory = &self.directory.0;
        let options = SearchOptions {
            first_only: self.stop,
            metadata: self.metadata || self.json.wanted,
            // JSON has whole paths, as everywhere.
            from_root: self.from_root || self.json.wanted,
            ..SearchOptions::default()
        };
        let roots = std::slice::from_ref(directory);
        let mut search = client
            .search(self.pattern.as_bytes(), roots, options)
            .await?;
        let mut shown = match self.json.wanted {
            true => Shown::Json(Array::default()),
            false => Shown::Lines(output::Pieces::default()),
        };
        let (mut found, mut complete) = (false, true);
        while let Some(next) = search.next().await? {
            match &next {
                Found::Match { path, stat } => {
                    found = true;
                    shown.push(path, stat.as_ref(), self.metadata)?;
                }
                Found::Failed { path, .. } => {
                    complete = false;
                    let reason = next.code().map_or("failed", |code| code.text());
                    let path = String::from_utf8_lossy(&output::printable(path)).into_owned();
                    output::message(&format!("{}: search {path}: {reason}", client.host()));
                }
            }
        }
        shown.finish()?;
        if found && complete {
            Ok(())
        } else {
            Err(Failure::Told)
        }
    }
}

enum Shown {
    Json(Array),
    Lines(output::Pieces),
}

impl Shown {
    fn push(&mut self, path: &[u8], stat: Option<&Stat>, metadata: bool) -> Result<(), Failure> {
        match self {
            Self::Json(array) => {
                let path: VirtualPath = super::remote(path)?;
                array.push(&Entry::new(&path, &stat.copied().unwrap_or_default()))
            }
            Self::Lines(text) => {
                text.push(&output::name(path))?;
                if let (true, Some(stat)) = (metadata, stat) {
                    text.push(format!("\t{}\t{}", stat.size, stat.inode).as_bytes())?;
                }
                text.push(b"\n")
            }
        }
    }

    fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Json(array) => array.finish(),
            Self::Lines(text) => text.finish(),
        }
    }
}
