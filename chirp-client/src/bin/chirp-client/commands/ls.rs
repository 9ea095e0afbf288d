use bytes::Bytes;
use chirp_client::{Client, Code, Error, Stat};
use clap::Args;

use super::Failure;
use super::stat::{LISTING_MAX_AGE, clock, permissions};
use crate::cli::RemotePath;
use crate::json::{self, Array, Json};
use crate::{colour, output};

/// Lists a directory of the server, sorted by name.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest ls -la /jobs
  chirp-client guest ls --json /jobs | jq -r '.[] | select(.kind == \"file\") | .path'")]
pub(crate) struct Ls {
    /// Show mode, links, owner, group, size and time of change, as the reference's `chirp` does.
    #[arg(short, long)]
    pub(crate) long: bool,
    /// Show names that begin with a dot, too.
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    json: Json,
    /// The directory.
    #[arg(value_parser = RemotePath::parser(), default_value = "/")]
    path: RemotePath,
}

impl Ls {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut entries = self.entries(client).await?;
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        if self.json.wanted {
            return self.as_json(&entries);
        }
        let (now, coloured) = (clock::now(), colour::on_stdout());
        let mut text = Vec::new();
        for (name, stat) in entries {
            if self.long {
                text.extend_from_slice(line(&stat, now).as_bytes());
            }
            text.append(&mut colour::entry(output::name(&name), &stat, coloured));
            text.push(b'\n');
        }
        output::write(&text)
    }

    fn as_json(&self, entries: &[(Bytes, Stat)]) -> Result<(), Failure> {
        let mut array = Array::default();
        for (name, stat) in entries {
            if name.contains(&b'/') {
                // The path itself was asked for, and is no directory.
                array.push(&json::Entry::new(&self.path.0, stat))?;
            } else {
                let path = super::inside(&self.path.0, name)?;
                array.push(&json::Entry::named(&path, name, stat))?;
            }
        }
        array.finish()
    }

    async fn entries(&self, client: &Client) -> Result<Vec<(Bytes, Stat)>, Error> {
        let path = &self.path.0;
        let mut entries = match client.getlongdir(path).await {
            Ok(listing) => listing.collect_with_dots().await?,
            // The server says the same of a file as of nothing.
            Err(error) if error.code() == Some(Code::DoesntExist) => {
                let Ok(stat) = client.lstat(path).await else {
                    return Err(error);
                };
                return Ok(vec![(Bytes::copy_from_slice(path.as_bytes()), stat)]);
            }
            Err(error) => return Err(error),
        };
        if !self.all {
            entries.retain(|(name, _)| !name.starts_with(b"."));
        }
        Ok(entries)
    }
}

/// Returns a long line up to its name (part 12.3).
pub(crate) fn line(stat: &Stat, now: i64) -> String {
    let kind = if stat.is_directory() { 'd' } else { '-' };
    let age = if now - stat.ctime > LISTING_MAX_AGE {
        "%b %e  %Y"
    } else {
        "%b %e %H:%M"
    };
    format!(
        "{kind}{} {:4} {:8} {:8} {:8} {} ",
        permissions(stat.mode),
        stat.links,
        stat.uid,
        stat.gid,
        stat.size,
        clock::format(stat.ctime, age)
    )
}
