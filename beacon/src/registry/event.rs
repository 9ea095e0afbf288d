//! What the registry tells its owner.

use super::GuestState;
use crate::mac::MacId;
use std::fmt;
use std::net::SocketAddr;

/// One thing that happened to one guest, or that is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The guest's id.
    pub id: MacId,
    /// The guest's name.
    pub name: String,
    /// What happened.
    pub kind: EventKind,
}

/// What happened, or is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// The state changed, or a guest appeared (`from` is nothing).
    State {
        /// The state before.
        from: Option<GuestState>,
        /// The state now.
        to: GuestState,
        /// The reason.
        why: String,
    },
    /// A guest that has not proved itself failed a check; it stays `joining`.
    NotReady {
        /// The reason.
        why: String,
    },
    /// Commands of this boot and run cannot be expected to report any more.
    CommandsLost {
        /// The boot id that they ran under.
        boot: String,
        /// The run id that they ran under.
        run: String,
        /// The reason.
        why: String,
    },
    /// To do: the connect-back check with a no-op exec; tell [`super::Registry::confirm`] the outcome.
    Check(Target),
    /// To do: a connection that compares boot and run; tell [`super::Registry::probed`] the outcome.
    Probe(Target),
    /// Somebody else may be claiming this id; it is not to be used for commands.
    Suspect {
        /// What was seen.
        why: String,
    },
    /// Its announcements come from an address that they do not name: right behind address translation, and
    /// worth knowing elsewhere.
    Elsewhere {
        /// Which addresses.
        why: String,
    },
}

/// Where a check or probe goes, and what it must find there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The announced address.
    pub address: SocketAddr,
    /// The announced boot id; empty where the guest announced none.
    pub boot: String,
    /// The announced run id; empty where the guest announced none.
    pub run: String,
    /// Why it is asked for.
    pub why: String,
}

/// The outcome of a connect-back check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckResult {
    /// The session was authenticated, the ids are the announced ones and the no-op exec ended with 0.
    Passed,
    /// Something failed; the words say what and go into the guest's record.
    Failed(String),
    /// Another server answers at the announced address; the words say which ids it has.
    Mismatch(String),
}

/// The outcome of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeResult {
    /// The announced server answers.
    Answered,
    /// Somebody answers for it, and it is not there: its machine refuses the connection, or another server
    /// has its place.
    Refused(String),
    /// Nothing that proves anything was heard: the network, the machine or the server may only be slow or
    /// cut off, so how long it may be silent is for the grace to say.
    Silent(String),
}

impl Event {
    /// Returns the event's fixed name for logs (`host-agent.md` part 14).
    #[must_use]
    pub fn log_name(&self) -> &'static str {
        match &self.kind {
            EventKind::State { to, .. } => match to {
                GuestState::Joining => "guest.hello",
                GuestState::Ready => "guest.ready",
                GuestState::Late => "guest.late",
                GuestState::Gone => "guest.gone",
                GuestState::Left => "guest.left",
            },
            EventKind::NotReady { .. } => "guest.not_ready",
            EventKind::CommandsLost { .. } => "guest.commands_lost",
            EventKind::Check(_) => "guest.check",
            EventKind::Probe(_) => "guest.probe",
            EventKind::Suspect { .. } => "guest.suspect",
            EventKind::Elsewhere { .. } => "guest.elsewhere",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): ", self.name, self.id)?;
        match &self.kind {
            EventKind::State {
                from: Some(from),
                to,
                why,
            } => write!(f, "{from} -> {to}: {why}"),
            EventKind::State {
                from: None,
                to,
                why,
            } => write!(f, "{to}: {why}"),
            EventKind::NotReady { why } => write!(f, "not ready: {why}"),
            EventKind::CommandsLost { run, why, .. } => {
                write!(f, "commands of run {run} lost: {why}")
            }
            EventKind::Check(target) => write!(f, "to check at {}: {}", target.address, target.why),
            EventKind::Probe(target) => write!(f, "to probe at {}: {}", target.address, target.why),
            EventKind::Suspect { why } => write!(f, "suspect: {why}"),
            EventKind::Elsewhere { why } => f.write_str(why),
        }
    }
}
