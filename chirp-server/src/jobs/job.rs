//! One job and its states (part 9.3).
//!
//! ```text
//! CREATED -> COMMITTED -> STARTED -> FINISHED
//!    |           |           |---> ERRORED     its limit, its outputs, the server's end
//!    |           |---------------> ERRORED     what it needs is not to be had
//!    |-----------|-----------|---> KILLED
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::description::{Description, File};

/// One job.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) owner: Owner,
    /// What it was created with. Its `files` are as they were sent.
    pub(super) description: Arc<Description>,
    /// The bindings, with what became of the outputs.
    pub(super) files: Arc<Vec<File>>,
    pub(super) state: State,
    pub(super) times: Times,
    /// Why it is ERRORED.
    pub(super) error: Option<String>,
    /// How its program ended; only where it is FINISHED.
    pub(super) exit: Option<Exit>,
    /// The name of its sandbox in the root, once it was started.
    pub(super) sandbox: Option<String>,
    /// Whether it is being prepared or run; not kept over a restart.
    pub(super) claimed: bool,
}

/// Whose job it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// What the login proved.
    pub(super) login: String,
    /// Who it acts for: the job's subject.
    pub(super) subject: String,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum State {
    Created,
    Committed,
    Started,
    Finished,
    Killed,
    Errored,
}

impl State {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Committed => "COMMITTED",
            Self::Started => "STARTED",
            Self::Finished => "FINISHED",
            Self::Killed => "KILLED",
            Self::Errored => "ERRORED",
        }
    }

    /// Reports whether nothing follows it.
    pub(super) const fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Killed | Self::Errored)
    }
}

/// When things happened, in seconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub(super) create: i64,
    pub(super) commit: Option<i64>,
    pub(super) start: Option<i64>,
    pub(super) finish: Option<i64>,
    pub(super) error: Option<i64>,
    pub(super) kill: Option<i64>,
    pub(super) reap: Option<i64>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// With this code.
    Exited(i32),
    /// By the signal of this number.
    Signaled(i32),
}

impl Job {
    pub(super) fn new(id: u64, owner: Owner, description: Description, now: i64) -> Self {
        let files = Arc::new(description.files.clone());
        Self {
            id,
            owner,
            description: Arc::new(description),
            files,
            state: State::Created,
            times: Times {
                create: now,
                ..Times::default()
            },
            error: None,
            exit: None,
            sandbox: None,
            claimed: false,
        }
    }

    /// Lets it run. Whatever is past that stays as it is.
    pub(super) fn commit(&mut self, now: i64) {
        if self.state == State::Created {
            self.state = State::Committed;
            self.times.commit = Some(now);
        }
    }

    /// Notes that its program is about to run.
    pub(super) fn start(&mut self, now: i64, sandbox: String) {
        if self.state == State::Committed {
            self.state = State::Started;
            self.times.start = Some(now);
            self.sandbox = Some(sandbox);
        }
    }

    /// Notes the end of its program, whose outputs are bound.
    pub(super) fn finish(&mut self, now: i64, exit: Exit, files: Vec<File>) {
        if !self.state.is_terminal() {
            self.state = State::Finished;
            self.times.finish = Some(now);
            self.exit = Some(exit);
            self.files = Arc::new(files);
        }
    }

    /// Notes why it comes to nothing.
    pub(super) fn fail(&mut self, now: i64, error: String) {
        if !self.state.is_terminal() {
            self.state = State::Errored;
            self.times.error = Some(now);
            self.error = Some(error);
        }
    }

    /// Ends it by its owner's wish.
    pub(super) fn kill(&mut self, now: i64) {
        if !self.state.is_terminal() {
            self.state = State::Killed;
            self.times.kill = Some(now);
        }
    }

    /// Notes that its owner knows of its end.
    pub(super) fn reap(&mut self, now: i64) {
        if self.state.is_terminal() && self.times.reap.is_none() {
            self.times.reap = Some(now);
        }
    }

    /// Reports whether `job_wait` answers it.
    pub(super) const fn is_ready(&self) -> bool {
        self.state.is_terminal() && self.times.reap.is_none()
    }

    /// Reports whether it waits for its turn.
    pub(super) const fn is_queued(&self) -> bool {
        matches!(self.state, State::Committed) && !self.claimed
    }

    /// Returns when something last happened to it.
    pub(super) fn last_change(&self) -> i64 {
        let times = self.times;
        let all = [
            times.commit,
            times.start,
            times.finish,
            times.error,
            times.kill,
            times.reap,
        ];
        all.into_iter().flatten().fold(times.create, i64::max)
    }
}
