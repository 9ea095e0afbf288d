//! From the registry's events to the log (`host-agent.md` part 14) and to the API's listeners.

use std::time::SystemTime;

use beacon::registry::{Event, EventKind, GuestRecord, GuestState};

use crate::api::types::Notice;

/// Returns the line for the API's listeners; `None` for what is the agent's own business.
pub(super) fn of(event: &Event, guest: GuestRecord) -> Option<Notice> {
    let guest = Box::new(guest);
    let time = now();
    match &event.kind {
        EventKind::State { from, to, why } => Some(Notice::State {
            time,
            from: *from,
            to: *to,
            why: why.clone(),
            guest,
        }),
        EventKind::NotReady { why }
        | EventKind::Suspect { why }
        | EventKind::Elsewhere { why }
        | EventKind::CommandsLost { why, .. } => Some(Notice::Note {
            time,
            name: event.log_name().to_owned(),
            why: why.clone(),
            guest,
        }),
        EventKind::Check(_) | EventKind::Probe(_) => None,
    }
}

/// Writes one event to the log, at the level that an operator wants it.
pub(super) fn log(event: &Event) {
    let name = event.log_name();
    match &event.kind {
        EventKind::State {
            to: GuestState::Late | GuestState::Gone,
            ..
        }
        | EventKind::Suspect { .. } => {
            tracing::warn!(event = name, "{event}");
        }
        EventKind::State { .. } | EventKind::NotReady { .. } | EventKind::Elsewhere { .. } => {
            tracing::info!(event = name, "{event}")
        }
        EventKind::CommandsLost { .. } | EventKind::Check(_) | EventKind::Probe(_) => {
            tracing::debug!(event = name, "{event}");
        }
    }
}

/// Returns the time in seconds since 1970.
pub(super) fn now() -> f64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}
