//! Time into the registry.

use super::{Event, GuestState, Registry};
use crate::mac::MacId;
use std::time::{Duration, Instant};

impl Registry {
    /// Takes the time: guests become late or gone, checks and probes fall due, tombstones are dropped.
    pub fn tick(&mut self, now: Instant) -> Vec<Event> {
        let gap = self
            .last_tick
            .map(|last| now.saturating_duration_since(last));
        self.last_tick = Some(now);
        if gap.is_some_and(|gap| gap > SLEPT) {
            // The host slept or stood still, so silence says nothing about guests.
            self.for_each_registered(|guest| guest.alive_at = now);
        }
        let mut events = Vec::new();
        while let Some(&(at, id)) = self.deadlines.first() {
            if at > now {
                break;
            }
            self.due(id, now, &mut events);
            // A guest stays at the head only if nothing more is due for it, so this cannot spin.
            if self.deadlines.first() == Some(&(at, id)) {
                self.postpone(id, now);
            }
        }
        events
    }

    /// Does what is due for one guest and puts it back into the queue.
    fn due(&mut self, id: MacId, now: Instant, events: &mut Vec<Event>) {
        let (grace, down) = (self.config.grace, self.broker_down);
        let Some(guest) = self.guests.get(&id) else {
            return self.deadlines.retain(|&(_, queued)| queued != id);
        };
        let age = now.saturating_duration_since(guest.alive_at);
        let paused = guest.paused_at.is_some();
        let down = down || paused;
        if !guest.state.is_registered() {
            if age >= self.config.tombstone {
                return self.forget(id);
            }
        } else if !down && age >= guest.gone_after(grace) {
            let why = format!("no beacon for {} s", age.as_secs());
            self.end(id, &why, now, events);
        } else {
            let late = !down && guest.state != GuestState::Late && age >= guest.late_after(grace);
            let check = !paused && guest.check_at.is_some_and(|at| at <= now);
            let probe = !paused && guest.probe_at.is_some_and(|at| at <= now);
            if late {
                let why = format!("no beacon for {} s", age.as_secs());
                events.extend(self.enter(id, GuestState::Late, &why, now));
            }
            if check {
                events.extend(self.check(id, "not ready yet", now));
            }
            if probe || late {
                let why = if late { "late" } else { "still to be seen" };
                events.extend(self.probe(id, why, now));
            }
        }
        self.requeue(id);
    }

    fn postpone(&mut self, id: MacId, now: Instant) {
        if let Some(guest) = self.guests.get_mut(&id) {
            self.deadlines.remove(&(guest.queued_at, id));
            guest.queued_at = now + Duration::from_secs(1);
            self.deadlines.insert((guest.queued_at, id));
        } else {
            self.deadlines.retain(|&(_, queued)| queued != id);
        }
    }
}

/// A longer time between two ticks means that the host slept.
const SLEPT: Duration = Duration::from_secs(10);
