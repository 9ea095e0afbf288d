//! What a server says about an execution and about itself, with the exact field names of the wire.
//!
//! Readers ignore unknown keys, so a later version may add some.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The status of one execution: the answer to `exec_status` and the payload of `end`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The server's number for it, positive, never used again.
    pub id: u64,
    /// The caller's id, or the one the server chose.
    #[serde(rename = "cmd-id")]
    pub cmd_id: String,
    /// Who started it, such as `unix:alice`.
    pub subject: String,
    /// Whether it still runs.
    pub state: State,
    /// When it was started, in seconds since 1970 by the server's clock.
    pub started: f64,
    /// When it ended, likewise; null while it runs.
    #[serde(default)]
    pub ended: Option<f64>,
    /// The program's process id in the guest; null when it has ended.
    #[serde(default)]
    pub pid: Option<u32>,
    /// Bytes of standard input taken from clients.
    #[serde(default)]
    pub stdin_received: u64,
    /// Whether standard input has been closed.
    #[serde(default)]
    pub stdin_eof: bool,
    /// Whether a client is attached to its streams.
    #[serde(default)]
    pub attached: bool,
    /// Offset of the first byte of standard output that can still be streamed.
    #[serde(default)]
    pub out_from: u64,
    /// Offset behind the last byte of standard output read from the program.
    #[serde(default)]
    pub out_to: u64,
    /// As `out_from`, for standard error.
    #[serde(default)]
    pub err_from: u64,
    /// As `out_to`, for standard error.
    #[serde(default)]
    pub err_to: u64,
    /// The request as sent, the environment's values left out; absent in a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Value>,
    /// How it ended; null until then.
    #[serde(default)]
    pub results: Option<Results>,
}

/// What an execution has used so far: the payload of `usage`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds since its start.
    pub wall_s: f64,
    /// What the program and its descendants have used.
    #[serde(default)]
    pub resources: Resources,
}

/// The state of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its program runs, or its pipes are still open.
    Running,
    /// It is over and `results` say how.
    Ended,
    /// It ran when the server itself died; nothing is known of its end.
    Lost,
}

/// How an execution ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The execution's `cmd-id`.
    #[serde(rename = "cmd-id")]
    pub cmd_id: String,
    /// Captured standard output as text; null where none was captured or it is not UTF-8.
    #[serde(default)]
    pub out: Option<String>,
    /// Captured standard error, likewise.
    #[serde(default)]
    pub err: Option<String>,
    /// Captured standard output that is not UTF-8, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_base64: Option<String>,
    /// Captured standard error that is not UTF-8, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub err_base64: Option<String>,
    /// True where the program exited, false where a signal ended it.
    pub finished: bool,
    /// The exit code, or the signal's number.
    #[serde(rename = "exitCodeOrSignal")]
    pub exit_code_or_signal: i32,
    /// What the program and every descendant that was waited for used.
    pub resources: Resources,
    /// Seconds from start to end.
    pub wall_s: f64,
    /// The limit that ended it, where one did and it is known.
    #[serde(default)]
    pub limit: Option<String>,
    /// Whether its pipes were closed by themselves.
    pub ended_by: EndedBy,
    /// Process ids of descendants that could not be ended.
    #[serde(default)]
    pub survivors: Vec<u32>,
    /// Bytes that the program wrote to a streamed or captured standard output.
    #[serde(default)]
    pub out_bytes: u64,
    /// As `out_bytes`, for standard error.
    #[serde(default)]
    pub err_bytes: u64,
    /// Bytes of `out_bytes` that were not kept.
    #[serde(default)]
    pub out_dropped: u64,
    /// Bytes of `err_bytes` that were not kept.
    #[serde(default)]
    pub err_dropped: u64,
}

/// What the end of an execution waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndedBy {
    /// The program ended and its pipes were closed.
    Exit,
    /// A descendant still held a pipe when the grace time was over, and the server closed it.
    Grace,
}

/// The sixteen fields of `getrusage`, named as Python's `resource` module names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Processor seconds in user mode.
    pub ru_utime: f64,
    /// Processor seconds in the kernel.
    pub ru_stime: f64,
    /// Largest resident set of one process, in KiB.
    pub ru_maxrss: i64,
    /// Unused by Linux.
    pub ru_ixrss: i64,
    /// Unused by Linux.
    pub ru_idrss: i64,
    /// Unused by Linux.
    pub ru_isrss: i64,
    /// Page faults served without input or output.
    pub ru_minflt: i64,
    /// Page faults that needed input.
    pub ru_majflt: i64,
    /// Unused by Linux.
    pub ru_nswap: i64,
    /// Block input operations.
    pub ru_inblock: i64,
    /// Block output operations.
    pub ru_oublock: i64,
    /// Unused by Linux.
    pub ru_msgsnd: i64,
    /// Unused by Linux.
    pub ru_msgrcv: i64,
    /// Unused by Linux.
    pub ru_nsignals: i64,
    /// Voluntary context switches.
    pub ru_nvcsw: i64,
    /// Involuntary context switches.
    pub ru_nivcsw: i64,
}

/// Limits of one execution; None where none is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Seconds by the server's clock.
    pub wall_s: Option<u64>,
    /// Processor seconds of one process.
    pub cpu_s: Option<u64>,
    /// Bytes of address space of one process.
    pub memory_bytes: Option<u64>,
    /// Bytes of the largest file it may write.
    pub file_bytes: Option<u64>,
    /// Processes at once.
    pub processes: Option<u64>,
    /// Open files of one process.
    pub open_files: Option<u64>,
    /// Seconds it may go on with nobody attached to its streams; 0 means for ever.
    pub orphan_s: Option<u64>,
}

impl Limits {
    /// Returns `self` with the limits of `other` where none is set.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            wall_s: self.wall_s.or(other.wall_s),
            cpu_s: self.cpu_s.or(other.cpu_s),
            memory_bytes: self.memory_bytes.or(other.memory_bytes),
            file_bytes: self.file_bytes.or(other.file_bytes),
            processes: self.processes.or(other.processes),
            open_files: self.open_files.or(other.open_files),
            orphan_s: self.orphan_s.or(other.orphan_s),
        }
    }

    /// Returns the limits in force where `self` was asked for and `server` is never exceeded.
    #[must_use]
    pub fn within(&self, server: &Self) -> Self {
        let smaller = |asked: Option<u64>, own: Option<u64>| match (asked, own) {
            (Some(asked), Some(own)) => Some(asked.min(own)),
            (asked, own) => asked.or(own),
        };
        // For `orphan_s` 0 is the largest value, not the smallest.
        let endless = |limit: Option<u64>| limit.map(|s| if s == 0 { u64::MAX } else { s });
        let orphan_s = smaller(endless(self.orphan_s), endless(server.orphan_s));
        Self {
            wall_s: smaller(self.wall_s, server.wall_s),
            cpu_s: smaller(self.cpu_s, server.cpu_s),
            memory_bytes: smaller(self.memory_bytes, server.memory_bytes),
            file_bytes: smaller(self.file_bytes, server.file_bytes),
            processes: smaller(self.processes, server.processes),
            open_files: smaller(self.open_files, server.open_files),
            orphan_s: orphan_s.map(|s| if s == u64::MAX { 0 } else { s }),
        }
    }

    /// Returns every limit with its name on the wire.
    pub(crate) fn fields(&self) -> [(&'static str, Option<u64>); 7] {
        [
            ("wall_s", self.wall_s),
            ("cpu_s", self.cpu_s),
            ("memory_bytes", self.memory_bytes),
            ("file_bytes", self.file_bytes),
            ("processes", self.processes),
            ("open_files", self.open_files),
            ("orphan_s", self.orphan_s),
        ]
    }
}

/// The answer to `features`: what a server has besides plain Chirp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// The program and its version.
    pub server: String,
    /// The id of the machine's start.
    pub boot: String,
    /// The id of the server's start.
    pub run: String,
    /// Versions of the extensions served, by name (`exec`, `sha256`).
    #[serde(default)]
    pub features: BTreeMap<String, u64>,
    /// What confines programs.
    #[serde(default)]
    pub sandbox: SandboxFeatures,
    /// Bounds a client may want to know.
    #[serde(default)]
    pub limits: FeatureLimits,
}

/// What of the sandbox is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxFeatures {
    /// The Landlock ABI in use; 0 where none is.
    pub landlock: u32,
    /// Whether system calls are filtered.
    pub seccomp: bool,
    /// Whether programs get namespaces of their own.
    pub namespaces: bool,
    /// Whether programs get a control group of their own.
    pub cgroup: bool,
}

/// The bounds that `features` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FeatureLimits {
    /// Bytes of an `exec` body.
    pub exec_request_bytes: u64,
    /// Executions at once.
    pub executions: u64,
    /// Bytes of unacknowledged output kept for a stream.
    pub window_bytes: u64,
}

impl Default for FeatureLimits {
    fn default() -> Self {
        Self {
            exec_request_bytes: crate::limits::REQUEST_MAX as u64,
            executions: 1024,
            window_bytes: crate::limits::WINDOW_DEFAULT as u64,
        }
    }
}
