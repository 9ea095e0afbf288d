use chirp_client::Client;
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;
use crate::json::{self, Json};
use crate::output;

/// Age in seconds from which `ls -l` shows the year in place of the time of day.
pub(super) const LISTING_MAX_AGE: i64 = 365 * 86_400;

/// Describes a file or directory of the server, in the lines of the reference's `chirp`.
///
/// A symbolic link is followed. Device numbers are only told with --json.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest stat /jobs/17/result.csv
  chirp-client guest stat --json /jobs/17/result.csv | jq .size")]
pub(crate) struct Stat {
    /// Describe a symbolic link itself, not what it leads to.
    #[arg(short = 'n', long)]
    no_dereference: bool,
    #[command(flatten)]
    json: Json,
    /// The file or directory.
    #[arg(value_parser = RemotePath::parser())]
    path: RemotePath,
}

impl Stat {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let path = &self.path.0;
        let stat = match self.no_dereference {
            true => client.lstat(path).await?,
            false => client.stat(path).await?,
        };
        if self.json.wanted {
            return json::print(&json::Entry::new(path, &stat));
        }
        output::write(describe(&stat).as_bytes())
    }
}

/// Returns the thirteen lines (part 12.3); the reference's client hides the device numbers.
pub(crate) fn describe(stat: &chirp_client::Stat) -> String {
    let time = |seconds| clock::format(seconds, "%a %b %e %H:%M:%S %Y");
    format!(
        "device:  -1\n\
         inode:   {}\n\
         mode:    {:04}\n\
         nlink:   {}\n\
         uid:     {}\n\
         gid:     {}\n\
         rdevice: 0\n\
         size:    {}\n\
         blksize: {}\n\
         blocks:  {}\n\
         atime:   {}\n\
         mtime:   {}\n\
         ctime:   {}\n",
        stat.inode,
        stat.mode,
        stat.links,
        stat.uid,
        stat.gid,
        stat.size,
        stat.block_size,
        stat.blocks,
        time(stat.atime),
        time(stat.mtime),
        time(stat.ctime),
    )
}

/// Returns the nine letters of a mode.
pub(super) fn permissions(mode: u32) -> String {
    let letters = "rwxrwxrwx".chars().enumerate();
    letters
        .map(|(index, letter)| match mode & (0o400 >> index) {
            0 => '-',
            _ => letter,
        })
        .collect()
}

/// Local time.
pub(crate) mod clock {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    /// Returns the seconds since 1970.
    pub(crate) fn now() -> i64 {
        Timestamp::now().as_second()
    }

    /// Returns a moment as text in this machine's time zone; the bare number where the calendar
    /// has no such moment.
    pub(crate) fn format(seconds: i64, format: &str) -> String {
        Timestamp::from_second(seconds).map_or_else(
            |_| seconds.to_string(),
            |moment| {
                let moment = moment.to_zoned(TimeZone::system());
                moment.strftime(format).to_string()
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_nine_letters() {
        for (mode, letters) in [
            (0o100_644, "rw-r--r--"),
            (0o40_711, "rwx--x--x"),
            (0, "---------"),
        ] {
            assert_eq!(permissions(mode), letters);
        }
    }

    #[test]
    fn no_number_is_too_odd_for_a_time() {
        assert_eq!(clock::format(i64::MAX, "%Y"), i64::MAX.to_string());
        assert_eq!(clock::format(i64::MIN, "%Y"), i64::MIN.to_string());
    }
}
