//! The bounds of a table of executions.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::confine::Confinement;

/// The bounds of a table of executions, each with its default.
#[derive(Clone, Debug)]
pub struct ExecutionsConfig {
    /// The server's transient directory, for the counter of ids and captured output. It must exist.
    pub transient: PathBuf,
    /// Executions that run at once. 1,024.
    pub max_executions: usize,
    /// Executions of one subject that run at once. 512.
    pub max_running_per_subject: usize,
    /// Records of one subject, running and ended. 1,000.
    pub max_records_per_subject: usize,
    /// Unacknowledged bytes kept for each output stream. 1 MiB.
    pub window_bytes: usize,
    /// Unacknowledged bytes kept for all output streams together, apart from 4 KiB that every
    /// stream has for itself; half of it for one subject. 256 MiB.
    pub windows_total_bytes: usize,
    /// Bytes kept of each captured output. 16 MiB.
    pub capture_bytes: u64,
    /// Bytes of the transient directory for records, captured output and programs' temporary directories
    /// together; half of it for one subject. 2 GiB.
    pub space_bytes: usize,
    /// How long to leave between two looks at the size of temporary directories. 2 s.
    pub measured_every: Duration,
    /// What confines programs, if anything does.
    pub confinement: Option<Arc<Confinement>>,
    /// Standard input kept for each execution, which bounds the credit. 256 KiB.
    pub stdin_bytes: usize,
    /// How long after its program's end an execution waits for pipes that a descendant holds. 2 s.
    pub pipe_grace: Duration,
    /// How long an ended program has to react to TERM before it is killed. 2 s.
    pub term_grace: Duration,
    /// How long its descendants have after its end, likewise. 500 ms.
    pub descendants_grace: Duration,
    /// How long ended executions are remembered. A day.
    pub remembered: Duration,
    /// For how long an ended execution is not dropped for the subject's quota. An hour.
    pub kept: Duration,
}

impl ExecutionsConfig {
    /// Returns the defaults for a server with this transient directory.
    #[must_use]
    pub fn new(transient: impl Into<PathBuf>) -> Self {
        Self {
            transient: transient.into(),
            max_executions: 1024,
            max_running_per_subject: 512,
            max_records_per_subject: 1000,
            window_bytes: crate::limits::WINDOW_DEFAULT,
            windows_total_bytes: 256 * 1024 * 1024,
            capture_bytes: 16 * 1024 * 1024,
            space_bytes: 2 * 1024 * 1024 * 1024,
            measured_every: Duration::from_secs(2),
            confinement: None,
            stdin_bytes: 256 * 1024,
            pipe_grace: Duration::from_secs(2),
            term_grace: Duration::from_secs(2),
            descendants_grace: Duration::from_millis(500),
            remembered: Duration::from_secs(24 * 3600),
            kept: Duration::from_secs(3600),
        }
    }
}
