//! The host's list of guests: a state machine without I/O and without a clock.
//!
//! Beacons, ticks and the outcomes of checks go in; events come out. Time is what the caller says it is:
//! deadlines use the monotonic clock only, wall times are for people. The caller calls [`Registry::tick`]
//! at [`Registry::next_deadline`] and does what [`EventKind::Check`] and [`EventKind::Probe`] ask for.

mod event;
mod guest;
mod handle;
mod machine;
mod outcome;
mod snapshot;
mod tick;

#[cfg(test)]
mod tests;

pub use event::{CheckResult, Event, EventKind, ProbeResult, Target};
pub use guest::{Guest, GuestRecord, GuestState};
pub use snapshot::Snapshot;

use crate::mac::MacId;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

/// Settings of a registry.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// `Host.vm_gc_grace`: a guest is late after this without a beacon, at the earliest.
    pub grace: Duration,
    /// Guests known at most, tombstones among them.
    pub guests: usize,
    /// How long guests that are gone or left are remembered.
    pub tombstone: Duration,
    /// Announcements a second from one id at most; more are dropped.
    pub announcements_per_second: u32,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(30),
            guests: 10_000,
            tombstone: Duration::from_secs(600),
            announcements_per_second: 5,
        }
    }
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// Announcements that were acted on.
    pub beacons: u64,
    /// Messages whose word nobody knows.
    pub aint: u64,
    /// Announcements dropped as duplicates or out of order.
    pub duplicate: u64,
    /// Announcements dropped because they belong to an earlier boot or run.
    pub stale: u64,
    /// Announcements dropped because their id sends too many.
    pub too_many: u64,
    /// Announcements of new guests dropped because the list is full.
    pub full: u64,
    /// Presence messages that could not be read at all.
    pub unusable: u64,
}

/// The host's list of guests.
#[derive(Debug)]
pub struct Registry {
    config: RegistryConfig,
    guests: HashMap<MacId, Guest>,
    /// One entry for each guest: the next time at which something may be due.
    deadlines: BTreeSet<(Instant, MacId)>,
    /// Guests that are gone or left, oldest first: who makes room when the list is full.
    tombstones: BTreeSet<(Instant, MacId)>,
    /// What the hypervisor calls the machines of these ids.
    names: HashMap<MacId, String>,
    /// Where the hypervisor forwards ports to the servers of these ids.
    forwards: HashMap<MacId, SocketAddr>,
    broker_down: bool,
    last_tick: Option<Instant>,
    /// A moment in both clocks, from the newest beacon.
    clocks: Option<(Instant, SystemTime)>,
    counters: Counters,
    /// Counts changes of what a snapshot holds.
    revision: u64,
}

impl Registry {
    /// Returns an empty registry that takes the broker for up.
    #[must_use]
    pub fn new(mut config: RegistryConfig) -> Self {
        // Deadlines are sums of these: a day is beyond use and far from overflow.
        config.grace = config.grace.clamp(Duration::from_millis(1), DAY);
        config.tombstone = config.tombstone.min(DAY);
        Self {
            config,
            guests: HashMap::new(),
            deadlines: BTreeSet::new(),
            tombstones: BTreeSet::new(),
            names: HashMap::new(),
            forwards: HashMap::new(),
            broker_down: false,
            last_tick: None,
            clocks: None,
            counters: Counters::default(),
            revision: 0,
        }
    }

    /// Iterates over the registered guests (joining, ready, late) in no order.
    pub fn guests(&self) -> impl Iterator<Item = &Guest> {
        self.all().filter(|guest| guest.state.is_registered())
    }

    /// Iterates over all guests, those gone or left in the last minutes too.
    pub fn all(&self) -> impl Iterator<Item = &Guest> {
        self.guests.values()
    }

    /// Returns the guest of that id, a tombstone too.
    #[must_use]
    pub fn get(&self, id: MacId) -> Option<&Guest> {
        self.guests.get(&id)
    }

    /// Returns the registered guests that a text means: by id in any form, else by name, else by one of
    /// their addresses. More than one where guests share a name or address.
    #[must_use]
    pub fn lookup(&self, text: &str) -> Vec<&Guest> {
        if let Ok(id) = text.parse::<MacId>() {
            let by_id: Vec<_> = self.guests().filter(|guest| guest.id() == id).collect();
            if !by_id.is_empty() {
                return by_id;
            }
        }
        let by_name: Vec<_> = self.guests().filter(|guest| guest.name() == text).collect();
        if !by_name.is_empty() {
            return by_name;
        }
        let Ok(ip) = text.parse::<std::net::IpAddr>() else {
            return Vec::new();
        };
        self.guests()
            .filter(|guest| {
                let said = guest.announcement();
                said.ip == ip
                    || guest.address().ip() == ip
                    || said.addrs.iter().any(|address| address.ip == ip)
            })
            .collect()
    }

    /// Returns what was counted since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Counts a presence message that could not be read.
    pub fn count_unusable(&mut self) {
        self.counters.unusable += 1;
    }

    /// Returns when [`Self::tick`] is to be called next; nothing while there is nothing to wait for.
    ///
    /// At most 5 s after the last tick, so that a host that slept is noticed.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let (first, _) = self.deadlines.first()?;
        Some(match self.last_tick {
            Some(last) => (*first).min(last + TICK_EVERY),
            None => *first,
        })
    }

    /// Puts a guest's one entry in the queue of deadlines where it belongs now.
    fn requeue(&mut self, id: MacId) {
        let Some(guest) = self.guests.get_mut(&id) else {
            return;
        };
        self.deadlines.remove(&(guest.queued_at, id));
        guest.queued_at = next_for(guest, &self.config, self.broker_down);
        self.deadlines.insert((guest.queued_at, id));
    }

    /// Returns the wall time of a monotonic one.
    fn wall(&self, now: Instant) -> SystemTime {
        match self.clocks {
            Some((then, wall)) => wall + now.saturating_duration_since(then),
            None => SystemTime::UNIX_EPOCH,
        }
    }

    /// Brings a guest into a state and returns the event, or none where nothing changed.
    fn enter(&mut self, id: MacId, to: GuestState, why: &str, now: Instant) -> Option<Event> {
        let wall = self.wall(now);
        let guest = self.guests.get_mut(&id)?;
        let from = guest.state;
        why.clone_into(&mut guest.why);
        if from == to {
            return None;
        }
        if to == GuestState::Late {
            guest.before_late = from;
        }
        guest.state = to;
        guest.since = wall;
        self.revision += 1;
        if to.is_registered() != from.is_registered() {
            if let Some(at) = guest.tombstone_at.take() {
                self.tombstones.remove(&(at, id));
            }
            if !to.is_registered() {
                guest.tombstone_at = Some(now);
                guest.reachable = false;
                guest.check_at = None;
                guest.probe_at = None;
                guest.connection_lost = false;
                guest.alive_at = now;
                self.tombstones.insert((now, id));
            }
        }
        let why = why.to_owned();
        Some(event(
            guest,
            EventKind::State {
                from: Some(from),
                to,
                why,
            },
        ))
    }

    /// Has a guest met before it gets work: that it was reached before counts no more.
    fn meet(&mut self, id: MacId, why: &str, now: Instant, events: &mut Vec<Event>) {
        let Some(guest) = self.guests.get_mut(&id) else {
            return;
        };
        guest.reachable = false;
        guest.checks_failed = 0;
        self.revision += 1;
        events.extend(self.enter(id, GuestState::Joining, why, now));
        events.extend(self.check(id, why, now));
    }

    /// Asks for a connect-back check, and for another if no outcome comes.
    fn check(&mut self, id: MacId, why: &str, now: Instant) -> Option<Event> {
        let guest = self.guests.get_mut(&id)?;
        guest.check_at = Some(now + OUTCOME_WITHIN);
        Some(event(guest, EventKind::Check(target(guest, why))))
    }

    /// Asks for a probe, and for another if no outcome comes.
    fn probe(&mut self, id: MacId, why: &str, now: Instant) -> Option<Event> {
        let guest = self.guests.get_mut(&id)?;
        guest.probe_at = Some(now + OUTCOME_WITHIN);
        Some(event(guest, EventKind::Probe(target(guest, why))))
    }
}

/// Returns when something may be due for this guest.
fn next_for(guest: &Guest, config: &RegistryConfig, broker_down: bool) -> Instant {
    let limit = match guest.state {
        GuestState::Gone | GuestState::Left => return guest.alive_at + config.tombstone,
        GuestState::Late => guest.gone_after(config.grace),
        GuestState::Joining | GuestState::Ready => guest.late_after(config.grace),
    };
    if guest.paused_at.is_some() {
        // Nothing can be due; looked at again in a while all the same.
        return guest.queued_at + config.grace;
    }
    let silence = (!broker_down).then(|| guest.alive_at + limit);
    [silence, guest.check_at, guest.probe_at]
        .into_iter()
        .flatten()
        .min()
        // Nothing due: look again in a while; what is due later will move the entry.
        .unwrap_or(guest.queued_at + config.grace)
}

fn event(guest: &Guest, kind: EventKind) -> Event {
    Event {
        id: guest.id(),
        name: guest.name(),
        kind,
    }
}

fn target(guest: &Guest, why: &str) -> Target {
    Target {
        address: guest.address(),
        boot: guest.announcement.boot.clone(),
        run: guest.announcement.run.clone(),
        why: why.to_owned(),
    }
}

/// The longest time between two ticks while there are guests.
const TICK_EVERY: Duration = Duration::from_secs(5);
/// A check or probe without outcome is asked for again after this.
const OUTCOME_WITHIN: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(86_400);
