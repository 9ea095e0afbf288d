use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chirp_client::{Client, job::JobStatus};
use clap::{Args, Subcommand};

use super::Failure;
use crate::cli::duration;
use crate::json::{self, Json};
use crate::output;

/// Bytes of a description that are read; servers take less.
const DESCRIPTION_MAX: u64 = 16 * 1024 * 1024;

/// Seconds that the server is asked to wait at a time: it never waits longer than this.
const WAIT_STEP: u64 = 30;

/// Jobs: programs that the server runs one after the other when they are committed.
///
/// `exec` runs a program now and shows its output. A job is for later, and for many: it is described,
/// committed, waited for and reaped. The server must have been started with --jobs.
#[derive(Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Examples:
  chirp-client guest job create '{\"executable\": \"/bin/sh\", \"arguments\": [\"sh\", \"-c\", \"date > out\"],
    \"files\": [{\"serv_path\": \"/out\", \"task_path\": \"out\", \"type\": \"OUTPUT\"}]}'
  chirp-client guest job commit 1
  chirp-client guest job wait 1
  chirp-client guest job reap 1"
)]
pub(crate) struct Job {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Create(Create),
    Commit(Commit),
    Status(Status),
    Wait(Wait),
    Kill(Kill),
    Reap(Reap),
}

/// Describes a job and prints its number. It does not run before it is committed.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest job create '{\"executable\": \"/bin/true\", \"arguments\": [\"true\"], \"files\": []}'
  chirp-client guest job create @job.json
  chirp-client guest job create - < job.json")]
pub(crate) struct Create {
    /// The description: JSON, @FILE for a file of this machine, or - for standard input.
    description: String,
}

/// The numbers of some jobs.
#[derive(Args)]
struct Ids {
    /// The jobs' numbers; JSON is taken, too: `[1,2]`.
    #[arg(required = true, value_parser = ids)]
    ids: Vec<Numbers>,
}

/// Lets jobs run.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest job commit 1 2 3")]
pub(crate) struct Commit {
    #[command(flatten)]
    ids: Ids,
}

/// Describes jobs, as JSON.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest job status 1 2 | jq -r '.[].status'")]
pub(crate) struct Status {
    /// The output is JSON either way.
    #[command(flatten)]
    _json: Json,
    #[command(flatten)]
    ids: Ids,
}

/// Waits until a job has ended and describes what has, as JSON.
///
/// The exit status is 1 if nothing has ended in time.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest job wait 1
  chirp-client guest job wait --for 10m       any of one's own")]
pub(crate) struct Wait {
    /// The output is JSON either way.
    #[command(flatten)]
    _json: Json,
    /// Wait this long: seconds, or with a unit (s, m, h, d). Otherwise as long as it takes.
    #[arg(long = "for", value_name = "SECONDS", value_parser = duration)]
    limit: Option<Duration>,
    /// The job's number; 0 for any of one's own, -N for those from N on.
    #[arg(default_value_t = 0, allow_negative_numbers = true)]
    id: i64,
}

/// Ends jobs.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest job kill 1")]
pub(crate) struct Kill {
    #[command(flatten)]
    ids: Ids,
}

/// Lets the server forget jobs that have ended.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest job reap 1")]
pub(crate) struct Reap {
    #[command(flatten)]
    ids: Ids,
}

/// Waits for a job, as the reference's `chirp` does: at most SECONDS, and that may be nothing.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest job_wait 1 30")]
pub(crate) struct ReferenceWait {
    /// The job's number.
    #[arg(allow_negative_numbers = true)]
    id: i64,
    /// How long.
    #[arg(allow_negative_numbers = true, default_value_t = 0)]
    seconds: i64,
}

impl Job {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self.action {
            Action::Create(create) => create.run(client).await,
            Action::Commit(commit) => commit.run(client).await,
            Action::Status(status) => status.run(client).await,
            Action::Wait(wait) => wait.run(client).await,
            Action::Kill(kill) => kill.run(client).await,
            Action::Reap(reap) => reap.run(client).await,
        }
    }
}

impl Create {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let text = match (
            self.description.as_str(),
            self.description.strip_prefix('@'),
        ) {
            ("-", _) => read("standard input", &mut std::io::stdin().lock())?,
            (_, Some(path)) => {
                let file = File::open(path);
                let failed =
                    |error| Failure::Other(format!("this machine: failed to open {path}: {error}"));
                read(path, &mut file.map_err(failed)?)?
            }
            _ => self.description.into_bytes(),
        };
        let id = client.job_create_json(Bytes::from(text)).await?;
        output::write(format!("{id}\n").as_bytes())
    }
}

fn read(name: &str, from: &mut impl Read) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let count = from.take(DESCRIPTION_MAX + 1).read_to_end(&mut text);
    let count = count
        .map_err(|error| Failure::Other(format!("this machine: failed to read {name}: {error}")))?;
    if count as u64 > DESCRIPTION_MAX {
        return Err(Failure::Other(format!(
            "this machine: {name} is longer than any description of a job"
        )));
    }
    Ok(text)
}

impl Ids {
    fn all(&self) -> Vec<u64> {
        self.ids.iter().flat_map(|ids| ids.0.clone()).collect()
    }
}

impl Commit {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        Ok(client.job_commit(&self.ids.all()).await?)
    }
}

impl Kill {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        Ok(client.job_kill(&self.ids.all()).await?)
    }
}

impl Reap {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        Ok(client.job_reap(&self.ids.all()).await?)
    }
}

impl Status {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        json::print(&client.job_status(&self.ids.all()).await?)
    }
}

impl Wait {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            let left = self
                .limit
                .map(|limit| limit.saturating_sub(started.elapsed()));
            // A fraction of a second is waited as a whole one: 0 would ask the server not to wait.
            let seconds = left.map_or(WAIT_STEP, |left| left.as_millis().div_ceil(1000) as u64);
            let step = i64::try_from(seconds.min(WAIT_STEP)).unwrap_or(0);
            let ended: Vec<JobStatus> = client.job_wait(self.id, step).await?;
            if !ended.is_empty() {
                return json::print(&ended);
            }
            if left.is_some_and(|left| left.is_zero()) {
                json::print(&ended)?;
                return Err(Failure::Told);
            }
        }
    }
}

impl ReferenceWait {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        json::print(&client.job_wait(self.id, self.seconds).await?)
    }
}

/// One word's numbers.
#[derive(Clone, Debug)]
struct Numbers(Vec<u64>);

/// Reads `7` or `[1,2]`.
fn ids(text: &str) -> Result<Numbers, String> {
    let one = text.parse().map(|id| vec![id]);
    let ids = one.or_else(|_| serde_json::from_str(text));
    ids.map(Numbers)
        .map_err(|_| "a job's number is a number; [1,2] are two".to_owned())
}

#[cfg(test)]
mod tests {
    use super::ids;

    #[test]
    fn numbers_come_alone_or_in_json() {
        assert_eq!(ids("7").unwrap().0, [7]);
        assert_eq!(ids("[1, 2]").unwrap().0, [1, 2]);
        for bad in ["", "x", "-1", "{}", "[1"] {
            assert!(ids(bad).is_err(), "{bad}");
        }
    }
}
