//! What the host knows of guests' machines into the registry: names, pauses, power.

use super::{Event, EventKind, GuestState, Registry, event};
use crate::mac::MacId;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

impl Registry {
    /// Takes the names that the hypervisor has for ids. They count more than those that guests announce.
    pub fn set_names(&mut self, names: HashMap<MacId, String>) {
        if self.names == names {
            return;
        }
        self.names = names;
        for (id, guest) in &mut self.guests {
            guest.known_as = self.names.get(id).cloned();
        }
        self.revision += 1;
    }

    /// Takes where the hypervisor forwards ports to guests' servers. It counts more than what guests announce, who
    /// cannot know it, and who know an old one after they were restored.
    pub fn set_forwards(
        &mut self,
        forwards: HashMap<MacId, SocketAddr>,
        now: Instant,
    ) -> Vec<Event> {
        self.forwards = forwards;
        let mut moved = Vec::new();
        for (&id, guest) in &mut self.guests {
            let before = guest.address();
            guest.forwarded = self.forwards.get(&id).copied();
            if guest.address() != before && guest.state.is_registered() {
                moved.push(id);
            }
        }
        let mut events = Vec::new();
        for id in moved {
            self.meet(id, "its hypervisor forwards another port", now, &mut events);
            self.requeue(id);
        }
        events
    }

    /// Returns whether the hypervisor has a machine of that id.
    #[must_use]
    pub fn is_named(&self, id: MacId) -> bool {
        self.names.contains_key(&id)
    }

    /// Takes the news that a guest's machine is paused or saved, or that it goes on.
    ///
    /// While it is paused no deadline runs, and nothing is probed; when it goes on it has a full new grace.
    pub fn paused(&mut self, id: MacId, paused: bool, now: Instant) -> Vec<Event> {
        let Some(guest) = self.guests.get_mut(&id) else {
            return Vec::new();
        };
        if !guest.state.is_registered() || guest.paused_at.is_some() == paused {
            return Vec::new();
        }
        guest.paused_at = paused.then_some(now);
        guest.alive_at = now;
        guest.probes_failed = 0;
        guest.connection_lost = false;
        guest.probe_at = None;
        let state = guest.state;
        let kind = if paused {
            let why = "its machine is paused".to_owned();
            why.clone_into(&mut guest.why);
            EventKind::NotReady { why }
        } else {
            let why = "its machine goes on".to_owned();
            why.clone_into(&mut guest.why);
            if state == GuestState::Joining {
                guest.check_at = Some(now);
            }
            EventKind::State {
                from: Some(state),
                to: state,
                why,
            }
        };
        let told = event(guest, kind);
        self.requeue(id);
        vec![told]
    }

    /// Takes the news that a guest's machine was restored from a snapshot and goes on from there: its numbers have
    /// gone back, and it is met again before it gets work.
    pub fn restored(&mut self, id: MacId, now: Instant) -> Vec<Event> {
        let mut events = self.paused(id, false, now);
        let Some(guest) = self.guests.get_mut(&id) else {
            return events;
        };
        if !guest.state.is_registered() {
            return events;
        }
        guest.last_seq = None;
        guest.alive_at = now;
        guest.connection_lost = false;
        self.meet(id, "its machine was restored", now, &mut events);
        self.requeue(id);
        events
    }

    /// Takes the news that a guest's machine was turned off, or started from the beginning: it is gone.
    pub fn stopped(&mut self, id: MacId, why: &str, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        match self.guests.get_mut(&id) {
            Some(guest) if guest.state.is_registered() => guest.paused_at = None,
            _ => return events,
        }
        self.end(id, why, now, &mut events);
        self.requeue(id);
        events
    }
}
