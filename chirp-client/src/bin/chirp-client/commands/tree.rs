use chirp_client::Client;
use clap::Args;

use super::Failure;
use super::walk::{Choice, Step, Walk};
use crate::cli::RemotePath;
use crate::json::{self, Array, Json};
use crate::{colour, output};

/// Shows a directory of the server with all that is in it, as `tree` does.
///
/// Symbolic links are shown and not followed. A directory that may not be listed is named on stderr,
/// and the exit status is 1.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest tree /jobs/17
  chirp-client guest tree -d -L 2 /
  chirp-client guest tree --json /jobs/17 | jq -r '.[] | select(.size > 1000000) | .path'")]
pub(crate) struct Tree {
    /// Show names that begin with a dot, too.
    #[arg(short, long)]
    all: bool,
    /// Show directories only.
    #[arg(short, long)]
    directories: bool,
    /// Go this many levels down.
    #[arg(short = 'L', long, value_name = "LEVELS", default_value_t = usize::MAX, hide_default_value = true)]
    depth: usize,
    #[command(flatten)]
    json: Json,
    /// The directory.
    #[arg(value_parser = RemotePath::parser(), default_value = "/")]
    path: RemotePath,
}

impl Tree {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let choice = Choice {
            hidden: self.all,
            directories: self.directories,
            depth: self.depth,
        };
        let mut walk = Walk::new(client, &self.path.0, choice).await?;
        match self.json.wanted {
            true => as_json(&mut walk).await?,
            false => drawn(&mut walk).await?,
        }
        if walk.is_complete() {
            Ok(())
        } else {
            Err(Failure::Told)
        }
    }
}

async fn as_json(walk: &mut Walk<'_>) -> Result<(), Failure> {
    let mut entries = Array::default();
    while let Some(step) = walk.next().await? {
        if let Step::Entry(entry) = step {
            entries.push(&json::Entry::new(&entry.path, &entry.stat))?;
        }
    }
    entries.finish()
}

async fn drawn(walk: &mut Walk<'_>) -> Result<(), Failure> {
    let coloured = colour::on_stdout();
    let (mut directories, mut files) = (0_u64, 0_u64);
    let mut text = output::Pieces::default();
    // For every level above the entry: whether that was the last of its directory.
    let mut above: Vec<bool> = Vec::new();
    while let Some(step) = walk.next().await? {
        let Step::Entry(entry) = step else { continue };
        above.truncate(entry.depth.saturating_sub(1));
        let mut line = Vec::new();
        if entry.depth > 0 {
            for last in &above {
                line.extend_from_slice(if *last { "    " } else { "│   " }.as_bytes());
            }
            line.extend_from_slice(
                if entry.last {
                    "└── "
                } else {
                    "├── "
                }
                .as_bytes(),
            );
            above.push(entry.last);
            match entry.stat.is_directory() {
                true => directories += 1,
                false => files += 1,
            }
        }
        let name = match entry.path.split_last() {
            Some((_, name)) if entry.depth > 0 => name,
            _ => entry.path.as_bytes(),
        };
        line.append(&mut colour::entry(
            output::name(name),
            &entry.stat,
            coloured,
        ));
        line.push(b'\n');
        text.push(&line)?;
    }
    let count = |count, one, many| format!("{count} {}", if count == 1 { one } else { many });
    let directories = count(directories, "directory", "directories");
    let files = count(files, "file", "files");
    text.push(format!("\n{directories}, {files}\n").as_bytes())?;
    text.finish()
}
