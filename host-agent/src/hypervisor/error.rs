//! Why something was not done to a machine: the thing, the reason, and the remedy where there is one.

use std::time::Duration;

use super::State;

/// Why a driver could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The driver has no such operation.
    #[error(
        "the driver {driver} does not support {operation}; {}",
        remedy_of(driver)
    )]
    NotSupported {
        /// The driver.
        driver: &'static str,
        /// The operation.
        operation: String,
    },
    /// No machine has that name or uuid.
    #[error("no machine {machine:?}; `host-agent vm list` shows those that there are")]
    NoSuchMachine {
        /// What was asked for.
        machine: String,
    },
    /// The machine has no such snapshot.
    #[error(
        "machine {machine:?} has no snapshot {snapshot:?}; `host-agent vm snapshots` shows those that it has"
    )]
    NoSuchSnapshot {
        /// The machine.
        machine: String,
        /// What was asked for.
        snapshot: String,
    },
    /// Several things have that name.
    #[error("more than one {what}; use one of the ids {}", ids.join(", "))]
    Ambiguous {
        /// What was asked for.
        what: String,
        /// The ids of those that share the name.
        ids: Vec<String>,
    },
    /// Something of that name is there already.
    #[error("{what} exists already")]
    Exists {
        /// What.
        what: String,
    },
    /// A name that cannot be one.
    #[error("the name {name:?} of a {what} {why}")]
    BadName {
        /// What it would be the name of.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// What was given does not fit.
    #[error("{what}: {reason}")]
    BadArgument {
        /// What was given.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The machine's state does not allow it.
    #[error("cannot {operation} machine {machine:?} while it is {state}")]
    WrongState {
        /// The machine.
        machine: String,
        /// The operation.
        operation: String,
        /// The machine's state.
        state: State,
    },
    /// Something else is being done to the machine.
    #[error("machine {machine:?} is busy: {operation} goes on")]
    Busy {
        /// The machine.
        machine: String,
        /// What is being done.
        operation: String,
    },
    /// The hypervisor's program is not there.
    #[error("cannot run {tool}: {reason}; {remedy}")]
    ToolMissing {
        /// The program.
        tool: String,
        /// What starting it said.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The user may not.
    #[error("{what}: not permitted; {remedy}")]
    Rights {
        /// What was tried.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// The hypervisor took too long.
    #[error("{what} took longer than {} s and was given up; it may go on in the hypervisor", limit.as_secs())]
    TimedOut {
        /// What was done.
        what: String,
        /// The limit.
        limit: Duration,
    },
    /// The hypervisor refused or failed.
    #[error("{what} failed: {said}")]
    Failed {
        /// What was done.
        what: String,
        /// The hypervisor's own words.
        said: String,
    },
    /// The hypervisor's answer is not understood.
    #[error("the answer to {what} is not understood: {reason}")]
    BadAnswer {
        /// What was asked.
        what: String,
        /// What is odd about the answer.
        reason: String,
    },
}

impl Error {
    /// Returns the number of the fault in the API (`host-agent.md` part 6).
    #[must_use]
    pub fn fault(&self) -> i32 {
        match self {
            Self::NotSupported { .. } => -8,
            Self::NoSuchMachine { .. } => -2,
            Self::BadName { .. } | Self::BadArgument { .. } => -5,
            Self::TimedOut { .. } => -6,
            Self::Rights { .. } => -9,
            Self::NoSuchSnapshot { .. }
            | Self::Ambiguous { .. }
            | Self::Exists { .. }
            | Self::WrongState { .. }
            | Self::Busy { .. }
            | Self::ToolMissing { .. }
            | Self::Failed { .. }
            | Self::BadAnswer { .. } => -7,
        }
    }
}

fn remedy_of(driver: &str) -> &'static str {
    if driver == "none" {
        "set Hypervisor.hypervisor, or name a driver with --driver"
    } else {
        "use another driver, or the hypervisor's own tools"
    }
}
