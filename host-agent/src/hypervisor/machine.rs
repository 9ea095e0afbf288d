//! What a hypervisor knows of its machines.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use beacon::MacId;
use serde::{Deserialize, Serialize};

use super::Error;

/// The state of a machine. The names are fixed (`host-agent.md` part 7): JSON, tables and callers have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// The hypervisor names a state that is none of these.
    Unknown,
    /// Off.
    PoweredOff,
    /// Off, with its memory kept; a start goes on from there.
    Saved,
    /// Off, because the hypervisor's process ended without being asked to.
    Aborted,
    /// Its processors run, whatever the guest does with them.
    Running,
    /// Its processors are stopped; its memory is in place.
    Paused,
    /// The hypervisor gave it up: a triple fault, an input or output error, a panic of the guest.
    Stuck,
    /// On the way to `Running`.
    Starting,
    /// On the way to `PoweredOff`.
    Stopping,
    /// On the way to `Saved`, or a snapshot is being taken.
    Saving,
    /// A snapshot or saved state is being taken up.
    Restoring,
    /// A snapshot or saved state is being deleted.
    Discarding,
}

impl State {
    /// Returns the state's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::PoweredOff => "PoweredOff",
            Self::Saved => "Saved",
            Self::Aborted => "Aborted",
            Self::Running => "Running",
            Self::Paused => "Paused",
            Self::Stuck => "Stuck",
            Self::Starting => "Starting",
            Self::Stopping => "Stopping",
            Self::Saving => "Saving",
            Self::Restoring => "Restoring",
            Self::Discarding => "Discarding",
        }
    }

    /// Returns whether the machine is off, so that it can be started.
    #[must_use]
    pub fn is_off(self) -> bool {
        matches!(self, Self::PoweredOff | Self::Saved | Self::Aborted)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A machine as its hypervisor knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name. Hypervisors allow quotes, blanks and the like in it.
    pub name: String,
    /// The hypervisor's own id, where it has one.
    pub uuid: Option<String>,
    /// Its state.
    pub state: State,
    /// The MAC addresses of its network cards, the first card first. A guest announces one of them.
    pub macs: Vec<MacId>,
    /// Where the hypervisor forwards a port of this host to the guest's Chirp port, where it does: what the guest
    /// announces of itself counts less, for it cannot know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarded: Option<SocketAddr>,
}

/// Returns the machine that a text means: by uuid, else by name.
///
/// # Errors
///
/// [`Error::NoSuchMachine`]; [`Error::Ambiguous`] where machines share the name.
pub fn find(machines: Vec<Machine>, text: &str) -> Result<Machine, Error> {
    let by_uuid = |machine: &Machine| {
        machine
            .uuid
            .as_deref()
            .is_some_and(|uuid| uuid.eq_ignore_ascii_case(text))
    };
    if let Some(machine) = machines.iter().find(|machine| by_uuid(machine)) {
        return Ok(machine.clone());
    }
    let mut named: Vec<Machine> = machines
        .into_iter()
        .filter(|machine| machine.name == text)
        .collect();
    if named.len() > 1 {
        return Err(Error::Ambiguous {
            what: format!("machine {text:?}"),
            ids: named
                .into_iter()
                .map(|machine| machine.uuid.unwrap_or(machine.name))
                .collect(),
        });
    }
    named.pop().ok_or_else(|| Error::NoSuchMachine {
        machine: text.to_owned(),
    })
}

/// A snapshot of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name; some hypervisors let snapshots share one.
    pub name: String,
    /// The hypervisor's id of it, or its name where that is the id.
    pub id: String,
    /// What its maker wrote about it; may have several lines.
    pub description: String,
    /// When it was taken, in seconds since 1970, where the hypervisor tells.
    pub time: Option<f64>,
    /// The id of the snapshot that it was made from.
    pub parent: Option<String>,
    /// Whether the machine's present state comes from it.
    pub current: bool,
}

/// Returns the snapshot that a text means: by id, else by name; without a text the latest, which is the one
/// that the machine's present state comes from.
///
/// # Errors
///
/// [`Error::NoSuchSnapshot`]; [`Error::Ambiguous`] where snapshots share the name.
pub fn find_snapshot(
    machine: &str,
    snapshots: Vec<Snapshot>,
    text: Option<&str>,
) -> Result<Snapshot, Error> {
    let none = || Error::NoSuchSnapshot {
        machine: machine.to_owned(),
        snapshot: text.unwrap_or("of now").to_owned(),
    };
    let Some(text) = text else {
        let last = snapshots.last().cloned();
        return snapshots
            .into_iter()
            .find(|snapshot| snapshot.current)
            .or(last)
            .ok_or_else(none);
    };
    if let Some(snapshot) = snapshots.iter().find(|snapshot| snapshot.id == text) {
        return Ok(snapshot.clone());
    }
    let mut named: Vec<Snapshot> = snapshots
        .into_iter()
        .filter(|snapshot| snapshot.name == text)
        .collect();
    if named.len() > 1 {
        return Err(Error::Ambiguous {
            what: format!("snapshot {text:?} of machine {machine:?}"),
            ids: named.into_iter().map(|snapshot| snapshot.id).collect(),
        });
    }
    named.pop().ok_or_else(none)
}

/// Figures of a machine by name, as its hypervisor measured them. Where a driver has them: `cpu_s` (processor
/// seconds used), `memory_bytes` (held on the host), `memory_max_bytes`, `cpus`, `disk_read_bytes`,
/// `disk_write_bytes`, `net_rx_bytes`, `net_tx_bytes`.
pub type Performance = BTreeMap<String, f64>;

/// Where a machine's console is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Console {
    /// A file on this host that takes what the machine's serial port says.
    Log(PathBuf),
    /// A Unix socket on this host that is the machine's serial port.
    Socket(PathBuf),
    /// A program on this host that shows the console in a terminal.
    Command(Vec<String>),
}

/// One thing that a driver's check looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was looked at, and what was seen.
    pub what: String,
    /// What to do about it where it is not as it should be; else empty.
    pub remedy: String,
}

impl Finding {
    /// Returns a finding that all is well.
    #[must_use]
    pub fn good(what: impl Into<String>) -> Self {
        Self {
            ok: true,
            what: what.into(),
            remedy: String::new(),
        }
    }

    /// Returns a finding that something is missing.
    #[must_use]
    pub fn bad(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            ok: false,
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str, uuid: &str) -> Machine {
        Machine {
            name: name.to_owned(),
            uuid: Some(uuid.to_owned()),
            state: State::Running,
            macs: Vec::new(),
            forwarded: None,
        }
    }

    #[test]
    fn states_have_the_fixed_names() {
        let names = "Unknown PoweredOff Saved Aborted Running Paused Stuck Starting Stopping Saving \
                     Restoring Discarding";
        for name in names.split_whitespace() {
            let state: State = serde_json::from_str(&format!("\"{name}\"")).unwrap();
            assert_eq!(state.as_str(), name);
            assert_eq!(
                serde_json::to_string(&state).unwrap(),
                format!("\"{name}\"")
            );
        }
    }

    #[test]
    fn a_uuid_comes_before_a_name_that_looks_like_it() {
        let machines = vec![machine("u2", "u1"), machine("other", "U2")];
        assert_eq!(find(machines.clone(), "u2").unwrap().name, "other");
        assert_eq!(find(machines, "u1").unwrap().name, "u2");
    }

    #[test]
    fn names_that_two_share_are_refused_with_the_ids() {
        let machines = vec![machine("a", "1"), machine("a", "2")];
        let error = find(machines, "a").unwrap_err();
        assert!(error.to_string().contains("1, 2"), "{error}");
        assert!(matches!(
            find(Vec::new(), "a"),
            Err(Error::NoSuchMachine { .. })
        ));
    }

    #[test]
    fn without_a_name_the_snapshot_of_now_is_meant() {
        let snapshot = |id: &str, current| Snapshot {
            name: "n".to_owned(),
            id: id.to_owned(),
            description: String::new(),
            time: None,
            parent: None,
            current,
        };
        let all = vec![snapshot("1", true), snapshot("2", false)];
        assert_eq!(find_snapshot("m", all.clone(), None).unwrap().id, "1");
        assert_eq!(find_snapshot("m", all.clone(), Some("2")).unwrap().id, "2");
        assert!(matches!(
            find_snapshot("m", all, Some("n")),
            Err(Error::Ambiguous { .. })
        ));
        assert!(matches!(
            find_snapshot("m", Vec::new(), None),
            Err(Error::NoSuchSnapshot { .. })
        ));
    }
}
