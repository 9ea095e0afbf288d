//! What of the registry survives a restart of the program that owns it.

use super::guest::unix;
use super::{Event, EventKind, Guest, GuestState, Registry, event};
use crate::message::Announcement;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

/// The registered guests as they can be written down, and taken up again by another registry.
///
/// Only what they announced and how long they have been known: what was proved about them is proved anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Version of the format.
    v: u32,
    /// When it was made, in seconds since 1970.
    written: f64,
    guests: Vec<Remembered>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Remembered {
    announcement: Announcement,
    peer: Option<IpAddr>,
    first_seen: f64,
    last_beacon: f64,
    restarts: u32,
}

/// A snapshot of a format that this program does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("format {0} is not known here, only {FORMAT} is")]
pub struct UnknownFormat(u32);

impl Snapshot {
    /// Returns when it was made, in seconds since 1970.
    #[must_use]
    pub fn written(&self) -> f64 {
        self.written
    }
}

impl Registry {
    /// Returns a number that grows whenever a new snapshot would tell more than the one before: with guests
    /// that come, go, start again or change what they are, not with each beacon.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the registered guests, to be written down at this wall time.
    #[must_use]
    pub fn snapshot(&self, wall: SystemTime) -> Snapshot {
        let remember = |guest: &Guest| Remembered {
            announcement: guest.announcement.clone(),
            peer: guest.peer,
            first_seen: unix(guest.first_seen),
            last_beacon: unix(guest.last_beacon),
            restarts: guest.restarts,
        };
        Snapshot {
            v: FORMAT,
            written: unix(wall),
            guests: self.guests().map(remember).collect(),
        }
    }

    /// Takes up guests that an earlier registry wrote down: they are joining, with a full grace from now, and
    /// are to be checked. Guests that are known already, announcements that could not have been heard and
    /// those beyond the limit are left out.
    ///
    /// # Errors
    ///
    /// The snapshot is of another format; nothing is taken up.
    pub fn restore(
        &mut self,
        snapshot: Snapshot,
        now: Instant,
        wall: SystemTime,
    ) -> Result<Vec<Event>, UnknownFormat> {
        if snapshot.v != FORMAT {
            return Err(UnknownFormat(snapshot.v));
        }
        self.clocks = Some((now, wall));
        self.begin_ticking(now);
        let mut events = Vec::new();
        for remembered in snapshot.guests {
            let id = remembered.announcement.id;
            if self.guests.len() >= self.config.guests
                || self.guests.contains_key(&id)
                || remembered.announcement.check().is_err()
            {
                continue;
            }
            let mut guest = Guest::new(remembered.announcement, remembered.peer, now, wall);
            guest.first_seen = time(remembered.first_seen, wall);
            guest.last_beacon = time(remembered.last_beacon, wall);
            guest.restarts = remembered.restarts;
            guest.forwarded = self.forwards.get(&id).copied();
            let why = "known from before this program started again";
            why.clone_into(&mut guest.why);
            events.push(event(
                &guest,
                EventKind::State {
                    from: None,
                    to: GuestState::Joining,
                    why: why.to_owned(),
                },
            ));
            self.guests.insert(id, guest);
            events.extend(self.check(id, why, now));
            self.requeue(id);
        }
        Ok(events)
    }
}

/// Returns a written time, which no clock step may carry beyond the present.
fn time(seconds: f64, wall: SystemTime) -> SystemTime {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
        .map_or(wall, |time| time.min(wall))
}

/// Version of the format.
const FORMAT: u32 = 1;
