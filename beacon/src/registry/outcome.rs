//! Outcomes of checks and probes, and news of the broker, into the registry.

use super::handle::lost;
use super::{CheckResult, Event, EventKind, Guest, GuestState, ProbeResult, Registry, event};
use crate::mac::MacId;
use std::time::{Duration, Instant};

impl Registry {
    /// Takes the outcome of a connect-back check of that boot and run.
    ///
    /// An outcome for an earlier boot or run is ignored: the guest has been asked about again since.
    pub fn confirm(
        &mut self,
        id: MacId,
        boot: &str,
        run: &str,
        result: CheckResult,
        now: Instant,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        let Some(guest) = self.current(id, boot, run) else {
            return events;
        };
        match result {
            CheckResult::Passed => {
                guest.reachable = true;
                guest.checks_failed = 0;
                guest.check_at = None;
                // Its numbers may have gone back with a restore; the check is better proof than they are.
                guest.last_seq = None;
                let quiet = (guest.announcement.interval() * 2).max(QUIET_AT_LEAST);
                let conflict = guest
                    .conflict_at
                    .map(|at| now.saturating_duration_since(at));
                if conflict.is_some_and(|age| age < quiet) {
                    guest.check_at = Some(now + quiet);
                } else {
                    guest.suspect = false;
                    match guest.state {
                        GuestState::Joining => {
                            let why = "reached, authenticated, no-op run";
                            events.extend(self.enter(id, GuestState::Ready, why, now));
                        }
                        GuestState::Late => guest.before_late = GuestState::Ready,
                        _ => {}
                    }
                }
            }
            CheckResult::Failed(why) => {
                again_later(guest, now);
                fall_back(guest);
                guest.reachable = false;
                if guest.why != why {
                    let kind = EventKind::NotReady { why: why.clone() };
                    events.push(event(guest, kind));
                }
                self.back_to_joining(id, &why, now, &mut events);
            }
            CheckResult::Mismatch(why) => {
                again_later(guest, now);
                fall_back(guest);
                guest.reachable = false;
                if !guest.suspect {
                    guest.suspect = true;
                    let kind = EventKind::Suspect { why: why.clone() };
                    events.push(event(guest, kind));
                }
                self.back_to_joining(id, &why, now, &mut events);
            }
        }
        self.requeue(id);
        events
    }

    /// Takes the outcome of a probe of that boot and run.
    pub fn probed(
        &mut self,
        id: MacId,
        boot: &str,
        run: &str,
        result: ProbeResult,
        now: Instant,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        let (broker_down, grace) = (self.broker_down, self.config.grace);
        let Some(guest) = self.current(id, boot, run) else {
            return events;
        };
        guest.probe_at = broker_down.then(|| now + grace / 3);
        let (why, refused) = match result {
            ProbeResult::Answered => {
                let was_lost = std::mem::take(&mut guest.connection_lost);
                guest.probes_failed = 0;
                guest.last_seq = None;
                if broker_down || was_lost {
                    guest.alive_at = now;
                    if guest.state == GuestState::Late {
                        let before = guest.before_late;
                        events.extend(self.enter(id, before, "answers", now));
                    }
                }
                self.requeue(id);
                return events;
            }
            ProbeResult::Refused(why) => (why, true),
            ProbeResult::Silent(why) => (why, false),
        };
        // A server whose connection to the broker ended and that is refused where it was has ended, which
        // two such probes prove. Silence proves nothing before the grace is over. With the broker down a
        // probe stands for the beacons of a third of the grace.
        let (late, gone) = match (guest.connection_lost, broker_down) {
            (true, _) if refused => (1, 2),
            (_, true) => (3, 5),
            (_, false) => (u32::MAX, u32::MAX),
        };
        if refused || broker_down {
            guest.probes_failed = guest.probes_failed.saturating_add(1);
        }
        let failed = guest.probes_failed;
        if guest.connection_lost && !broker_down {
            let again = if refused { PROBE_AGAIN } else { grace / 3 };
            guest.probe_at = Some(now + again);
        }
        if failed >= gone {
            self.end(id, &format!("does not answer: {why}"), now, &mut events);
        } else if failed >= late && guest.state != GuestState::Late {
            let why = format!("does not answer: {why}");
            events.extend(self.enter(id, GuestState::Late, &why, now));
        }
        self.requeue(id);
        events
    }

    /// Takes the news that a guest's connection to the broker ended without BYE; asks for a probe.
    pub fn publisher_lost(&mut self, id: MacId, now: Instant) -> Vec<Event> {
        match self.guests.get_mut(&id) {
            // While it is paused nobody answers the broker either.
            Some(guest) if guest.state.is_registered() && guest.paused_at.is_none() => {
                guest.connection_lost = true;
                guest.probes_failed = 0;
            }
            _ => return Vec::new(),
        }
        let probe = self.probe(id, "its connection to the broker ended without BYE", now);
        self.requeue(id);
        probe.into_iter().collect()
    }

    /// Takes the news that the connection to the broker is lost: deadlines stop, guests are probed.
    pub fn broker_down(&mut self, now: Instant) {
        if std::mem::replace(&mut self.broker_down, true) {
            return;
        }
        let every = self.config.grace / 3;
        self.for_each_registered(|guest| {
            guest.probes_failed = 0;
            // Spread by id, so that thousands of guests are not probed in one instant.
            let [.., low] = guest.id().bytes();
            guest.probe_at = Some(now + every * u32::from(low) / 256);
        });
    }

    /// Takes the news that the broker is there again: every guest gets a full new grace.
    pub fn broker_up(&mut self, now: Instant) {
        if std::mem::replace(&mut self.broker_down, false) {
            self.for_each_registered(|guest| {
                guest.alive_at = now;
                guest.probes_failed = 0;
                guest.probe_at = None;
            });
        }
    }

    /// Ends a guest as gone.
    pub(super) fn end(&mut self, id: MacId, why: &str, now: Instant, events: &mut Vec<Event>) {
        if let Some(guest) = self.guests.get(&id) {
            events.push(event(guest, lost(guest, why)));
        }
        events.extend(self.enter(id, GuestState::Gone, why, now));
    }

    pub(super) fn for_each_registered(&mut self, mut change: impl FnMut(&mut Guest)) {
        let ids: Vec<MacId> = self.guests().map(Guest::id).collect();
        for id in ids {
            if let Some(guest) = self.guests.get_mut(&id) {
                change(guest);
            }
            self.requeue(id);
        }
    }

    /// Returns the registered guest if this is still its boot and run.
    fn current(&mut self, id: MacId, boot: &str, run: &str) -> Option<&mut Guest> {
        self.guests.get_mut(&id).filter(|guest| {
            let said = &guest.announcement;
            // What a paused guest does not answer says nothing.
            guest.state.is_registered()
                && guest.paused_at.is_none()
                && said.boot == boot
                && said.run == run
        })
    }

    fn back_to_joining(&mut self, id: MacId, why: &str, now: Instant, events: &mut Vec<Event>) {
        let state = self.guests.get(&id).map(Guest::state);
        if matches!(state, Some(GuestState::Joining | GuestState::Ready)) {
            events.extend(self.enter(id, GuestState::Joining, why, now));
        }
    }
}

/// A guest that is late and fails a check comes back as joining, not as ready.
fn fall_back(guest: &mut Guest) {
    guest.before_late = GuestState::Joining;
}

/// Plans the next check: after 1 s, 2 s, 4 s, 8 s, then every 10 s.
fn again_later(guest: &mut Guest, now: Instant) {
    let wait = 1_u64 << guest.checks_failed.min(4);
    guest.checks_failed = guest.checks_failed.saturating_add(1);
    guest.check_at = Some(now + Duration::from_secs(wait.min(10)));
}

/// How long nothing may speak against a suspect before it is trusted again, at least.
const QUIET_AT_LEAST: Duration = Duration::from_secs(10);

/// The second probe of a guest whose connection was lost comes this long after the first.
const PROBE_AGAIN: Duration = Duration::from_secs(1);
