//! Jobs: programs that a server runs later, one after another (`chirp-protocol.md`, part 9).
//!
//! ```no_run
//! use chirp_client::{Client, job::{JobDescription, JobFile, JobState}};
//!
//! # async fn example(client: Client) -> Result<(), chirp_client::Error> {
//! let mut job = JobDescription::new("/bin/sh", ["sh", "-c", "sort < in > out"]);
//! job.files = vec![JobFile::input("/data/list", "in"), JobFile::output("/data/sorted", "out")];
//! let id = client.job_create(&job).await?;
//! client.job_commit(&[id]).await?;
//! let ended = client.job_wait(id as i64, 30).await?;
//! if ended.iter().any(|job| job.status == JobState::Finished) {
//!     client.job_reap(&[id]).await?;
//! }
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a job shall do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDescription {
    /// The program: a path on the server's machine, or relative to the job's sandbox.
    pub executable: String,
    /// All arguments, the program's own name first.
    pub arguments: Vec<String>,
    /// Variables besides those that the server sets.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Files of the server that the job sees, or leaves.
    pub files: Vec<JobFile>,
    /// Free text, to be found in the job's status; cut at 127 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

impl JobDescription {
    /// Describes a program with its arguments, the program's own name first.
    pub fn new(
        executable: impl Into<String>,
        arguments: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            executable: executable.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: BTreeMap::new(),
            files: Vec::new(),
            tag: None,
        }
    }
}

/// A file of the server bound to one of the job's sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFile {
    /// Its path on the server. In an output's, the server replaces `%j`, `%h`, `%g` and `%s`.
    pub serv_path: String,
    /// Its path in the sandbox.
    pub task_path: String,
    /// Which way it goes.
    #[serde(rename = "type")]
    pub kind: JobFileKind,
    /// How.
    #[serde(default)]
    pub binding: JobBinding,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Bytes of an output that was bound; only in a status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl JobFile {
    /// Binds a file that the job reads.
    pub fn input(serv_path: impl Into<String>, task_path: impl Into<String>) -> Self {
        Self::new(serv_path.into(), task_path.into(), JobFileKind::Input)
    }

    /// Binds a file that the job writes.
    pub fn output(serv_path: impl Into<String>, task_path: impl Into<String>) -> Self {
        Self::new(serv_path.into(), task_path.into(), JobFileKind::Output)
    }

    const fn new(serv_path: String, task_path: String, kind: JobFileKind) -> Self {
        Self {
            serv_path,
            task_path,
            kind,
            binding: JobBinding::Link,
            tag: None,
            size: None,
        }
    }
}

/// The direction of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobFileKind {
    /// The job reads it.
    Input,
    /// The job writes it.
    Output,
}

/// How a file comes into the sandbox or leaves it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobBinding {
    /// By a hard link.
    #[default]
    Link,
    /// By a copy.
    Copy,
    /// From other servers: `serv_path` is one or more addresses with blanks between them.
    Url,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobState {
    /// Described and not to be started yet.
    Created,
    /// Waiting to be started.
    Committed,
    /// Running.
    Started,
    /// Its program ended.
    Finished,
    /// It was killed.
    Killed,
    /// It could not be run, or not to its end.
    Errored,
}

/// How a job's program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobExit {
    /// By itself, with a code.
    Exited,
    /// By a signal.
    Signaled,
}

/// What a server says about a job (part 9.4). Times are seconds since 1970 by the server's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// The server's number for it.
    pub id: u64,
    /// Why it is `Errored`.
    #[serde(default)]
    pub error: Option<String>,
    /// The program.
    #[serde(default)]
    pub executable: Option<String>,
    /// The program's exit code, where it ended by itself.
    #[serde(default)]
    pub exit_code: Option<i64>,
    /// How the program ended, where the job is `Finished`.
    #[serde(default)]
    pub exit_status: Option<JobExit>,
    /// The name of the signal that ended the program.
    #[serde(default)]
    pub exit_signal: Option<String>,
    /// Always 1.
    #[serde(default)]
    pub priority: Option<i64>,
    /// Where it stands.
    pub status: JobState,
    /// Whose it is.
    #[serde(default)]
    pub subject: Option<String>,
    /// Free text.
    #[serde(default)]
    pub tag: Option<String>,
    /// When it was committed.
    #[serde(default)]
    pub time_commit: Option<i64>,
    /// When it was created.
    #[serde(default)]
    pub time_create: Option<i64>,
    /// When it became `Errored`.
    #[serde(default)]
    pub time_error: Option<i64>,
    /// When its program ended.
    #[serde(default)]
    pub time_finish: Option<i64>,
    /// When it was killed.
    #[serde(default)]
    pub time_kill: Option<i64>,
    /// When it was started.
    #[serde(default)]
    pub time_start: Option<i64>,
    /// When it was reaped.
    #[serde(default)]
    pub time_reap: Option<i64>,
    /// All arguments.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// The variables that its owner gave.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The bindings, in the order of their paths in the sandbox.
    #[serde(default)]
    pub files: Vec<JobFile>,
}
