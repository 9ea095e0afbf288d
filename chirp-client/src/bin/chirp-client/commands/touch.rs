use chirp_client::{Client, Code, OpenFlags};
use clap::Args;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::Failure;
use super::stat::clock;
use crate::cli::RemotePath;

/// The mode of a file that is made.
const MODE: u32 = 0o666;

/// Sets the times of files of the server, and makes those that are missing.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest touch /jobs/17/done
  chirp-client guest touch -d '2026-11-21 08:40' /jobs/17/out
  chirp-client guest touch -c -d @1795251015 /jobs/17/out")]
pub(crate) struct Touch {
    /// Make no file.
    #[arg(short = 'c', long)]
    no_create: bool,
    /// The time, in place of now: `2026-11-21 08:40` here, `2026-11-21T08:40:00Z`, or `@SECONDS`
    /// since 1970.
    #[arg(short, long, value_name = "TIME", value_parser = moment)]
    date: Option<i64>,
    /// The files.
    #[arg(value_parser = RemotePath::parser(), required = true)]
    paths: Vec<RemotePath>,
}

impl Touch {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let time = self.date.unwrap_or_else(clock::now);
        super::each(client, &self.paths, async |path| {
            let path = &path.0;
            match client.utime(path, time, time).await {
                Err(error) if error.code() == Some(Code::DoesntExist) => {}
                other => return Ok(other?),
            }
            if self.no_create {
                return Ok(());
            }
            // Between the two somebody else may have made it: then it is not made anew.
            let flags = OpenFlags::parse(b"wc");
            let (file, _) = client.open(path, flags, MODE).await?;
            client.close(file).await?;
            Ok(client.utime(path, time, time).await?)
        })
        .await
    }
}

/// Reads a moment as seconds since 1970.
fn moment(text: &str) -> Result<i64, String> {
    let bad = || "a time is 2026-11-21 08:40, 2026-11-21T08:40:00Z or @SECONDS".to_owned();
    if let Some(seconds) = text.strip_prefix('@') {
        return seconds.parse().map_err(|_| bad());
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment.as_second());
    }
    let local: DateTime = text.parse().map_err(|_| bad())?;
    let zoned = local.to_zoned(TimeZone::system()).map_err(|_| bad())?;
    Ok(zoned.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn moments_are_read() {
        assert_eq!(moment("@17"), Ok(17));
        assert_eq!(moment("@-17"), Ok(-17));
        assert_eq!(moment("1970-01-02T00:00:01Z"), Ok(86_401));
        assert!(moment("2026-11-21 08:40").is_ok() && moment("2026-11-21").is_ok());
        for bad in ["", "@", "@x", "now", "2026-13-01"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}
