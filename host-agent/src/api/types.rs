//! What goes over the API, as values that agent and commands share.

use std::net::SocketAddr;

use beacon::mac::MacId;
use beacon::registry::{Counters, GuestRecord, GuestState};
use exec_ext::status::Status;
use host_agent::hypervisor::{Machine, Operation};
use host_agent::watchdog::Action;
use serde::{Deserialize, Serialize};

/// `GET /agent`: the agent itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AgentInfo {
    /// Program and version.
    pub(crate) version: String,
    /// Its process id.
    pub(crate) pid: u32,
    /// Where its embedded broker listens; empty where it has none.
    pub(crate) broker_addresses: Vec<SocketAddr>,
    /// Whether it hears its broker.
    pub(crate) broker_up: bool,
    /// What was counted since it started.
    pub(crate) counters: Counters,
}

/// `GET /guests`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GuestList {
    /// The guests, by name and id.
    pub(crate) guests: Vec<GuestRecord>,
}

/// Returns whether a guest can be given work.
pub(crate) fn usable(guest: &GuestRecord) -> bool {
    guest.state == GuestState::Ready && !guest.suspect && !guest.paused
}

/// `GET /machines`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MachineList {
    /// The driver that tells them.
    pub(crate) driver: String,
    /// The machines, in the hypervisor's order.
    pub(crate) machines: Vec<MachineInfo>,
}

/// A machine with its guests, of which it has one at most unless somebody lies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MachineInfo {
    /// The machine.
    pub(crate) machine: Machine,
    /// The guests that announce one of its ids.
    pub(crate) guests: Vec<GuestRecord>,
}

impl MachineInfo {
    /// Returns a machine with those of the guests that are its own.
    pub(crate) fn new(machine: Machine, guests: &[GuestRecord]) -> Self {
        Self {
            guests: guests
                .iter()
                .filter(|guest| machine.macs.contains(&guest.id))
                .cloned()
                .collect(),
            machine,
        }
    }
}

/// `POST /machine`: does something to a machine. The answer is the machine as it is then, or null where it is
/// no more.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MachineCall {
    /// Its name or uuid.
    pub(crate) machine: String,
    /// What is to be done.
    pub(crate) operation: Operation,
}

/// One line of `GET /events`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event")]
pub(crate) enum Notice {
    /// The registered guests as they are now: the first line, and again after [`Notice::Lagged`].
    #[serde(rename = "snapshot")]
    Snapshot {
        /// The guests.
        guests: Vec<GuestRecord>,
    },
    /// A guest's state changed, or a guest appeared.
    #[serde(rename = "guest.state")]
    State {
        /// When, in seconds since 1970.
        time: f64,
        /// The state before; null for a new guest.
        from: Option<GuestState>,
        /// The state now.
        to: GuestState,
        /// The reason.
        why: String,
        /// The guest as it is now.
        guest: Box<GuestRecord>,
    },
    /// Something else happened to a guest, such as `guest.suspect`.
    #[serde(rename = "guest.note")]
    Note {
        /// When, in seconds since 1970.
        time: f64,
        /// The event's name in the log.
        name: String,
        /// The reason.
        why: String,
        /// The guest as it is now.
        guest: Box<GuestRecord>,
    },
    /// The connection to the broker came or went.
    #[serde(rename = "broker")]
    Broker {
        /// When, in seconds since 1970.
        time: f64,
        /// Whether it is there.
        up: bool,
        /// The reason.
        why: String,
    },
    /// The watchdog decided about a machine.
    #[serde(rename = "watchdog.restart")]
    Watchdog {
        /// When, in seconds since 1970.
        time: f64,
        /// The machine's name.
        machine: String,
        /// What it does.
        action: Action,
        /// The reason.
        why: String,
    },
    /// The reader was too slow and missed this many lines; a snapshot follows.
    #[serde(rename = "lagged")]
    Lagged {
        /// How many.
        missed: u64,
    },
}

/// `POST /exec`: runs one program on every guest that the pattern takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExecCall {
    /// Which guests (`crate::pattern`).
    pub(crate) to: String,
    /// What to run: the body of the extension's `exec`, word for word.
    pub(crate) request: serde_json::Value,
}

/// One line of the answer to `POST /exec`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "lowercase")]
pub(crate) enum ExecFrame {
    /// The guests that it runs on: always the first line.
    Targets {
        /// The guests.
        guests: Vec<Target>,
    },
    /// Standard output of one guest.
    Out {
        /// The guest.
        id: MacId,
        /// The bytes, in base64.
        #[serde(with = "base64_bytes")]
        data: Vec<u8>,
    },
    /// Standard error of one guest.
    Err {
        /// The guest.
        id: MacId,
        /// The bytes, in base64.
        #[serde(with = "base64_bytes")]
        data: Vec<u8>,
    },
    /// The program of one guest ended, and all its output has been sent.
    End {
        /// The guest.
        id: MacId,
        /// The guest's final status.
        status: Box<Status>,
    },
    /// The program of one guest could not be started, or its end is not known.
    Failed {
        /// The guest.
        id: MacId,
        /// Why.
        error: String,
    },
    /// Every guest has had its `end` or `failed`: always the last line, so that a cut stream shows.
    Done,
}

/// One guest that a command is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Target {
    /// Its name.
    pub(crate) name: String,
    /// Its id.
    pub(crate) id: MacId,
    /// Where its Chirp server is.
    pub(crate) address: SocketAddr,
    /// The boot that the server must be of. Not told to callers.
    #[serde(skip)]
    pub(crate) boot: String,
    /// The run that the server must be.
    #[serde(skip)]
    pub(crate) run: String,
}

impl From<&GuestRecord> for Target {
    fn from(guest: &GuestRecord) -> Self {
        Self {
            name: guest.name.clone(),
            id: guest.id,
            address: SocketAddr::new(guest.address, guest.port),
            boot: guest.boot.clone(),
            run: guest.run.clone(),
        }
    }
}

/// An answer that is an error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ErrorBody {
    /// What went wrong, for people.
    pub(crate) error: String,
}

/// Bytes as base64 text in JSON.
mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        STANDARD
            .decode(text.as_bytes())
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_frames_have_this_shape() {
        let id = MacId::new([2, 0, 0, 0, 0, 1]);
        for (frame, json) in [
            (
                ExecFrame::Out {
                    id,
                    data: b"\xff\n".to_vec(),
                },
                r#"{"frame":"out","id":"02:00:00:00:00:01","data":"/wo="}"#,
            ),
            (
                ExecFrame::Failed {
                    id,
                    error: "no".to_owned(),
                },
                r#"{"frame":"failed","id":"02:00:00:00:00:01","error":"no"}"#,
            ),
            (ExecFrame::Done, r#"{"frame":"done"}"#),
        ] {
            assert_eq!(serde_json::to_string(&frame).unwrap(), json);
            let again: ExecFrame = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&again).unwrap(), json);
        }
    }
}
