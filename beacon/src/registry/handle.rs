//! Beacons into the registry.

use super::{Event, EventKind, Guest, GuestState, Registry, event};
use crate::mac::MacId;
use crate::message::{Announcement, Beacon, Word};
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

impl Registry {
    /// Takes one beacon, with the address that the broker saw it come from where that is known.
    pub fn handle(
        &mut self,
        beacon: &Beacon,
        peer: Option<IpAddr>,
        now: Instant,
        wall: SystemTime,
    ) -> Vec<Event> {
        self.clocks = Some((now, wall));
        let said = match (&beacon.word, &beacon.announcement) {
            (Word::Hello | Word::StillAlive | Word::Bye, Some(said)) => said,
            (Word::Aint(_), _) => {
                self.counters.aint += 1;
                return Vec::new();
            }
            _ => return Vec::new(),
        };
        let heard = Heard {
            word: &beacon.word,
            said,
            peer,
            now,
            wall,
        };
        let mut events = Vec::new();
        match self.guests.get_mut(&said.id) {
            None => self.appear(&heard, &mut events),
            Some(guest) => match judge(guest, &heard, self.config.announcements_per_second) {
                Verdict::TooMany => {
                    guest.dropped += 1;
                    self.counters.too_many += 1;
                }
                Verdict::Duplicate => {
                    guest.dropped += 1;
                    self.counters.duplicate += 1;
                }
                Verdict::Stale => {
                    guest.dropped += 1;
                    self.counters.stale += 1;
                }
                Verdict::StaleBye => {
                    guest.dropped += 1;
                    self.counters.stale += 1;
                    events.extend(self.probe(said.id, "BYE of another run or sender", now));
                }
                Verdict::Conflict(why) => {
                    guest.dropped += 1;
                    self.counters.stale += 1;
                    guest.conflict_at = Some(now);
                    if !guest.suspect {
                        guest.suspect = true;
                        let why = why.to_owned();
                        events.push(event(guest, EventKind::Suspect { why: why.clone() }));
                        events.extend(self.enter(said.id, GuestState::Joining, &why, now));
                        events.extend(self.check(said.id, &why, now));
                    }
                }
                Verdict::Leaves => self.leave(&heard, &mut events),
                Verdict::NewRun => self.restart(&heard, &mut events),
                Verdict::Refreshes => self.refresh(&heard, &mut events),
            },
        }
        self.compare_with_peer(said.id, &mut events);
        self.requeue(said.id);
        events
    }

    /// Says once when announcements come from another address than those that they name.
    fn compare_with_peer(&mut self, id: MacId, events: &mut Vec<Event>) {
        let Some(guest) = self.guests.get_mut(&id) else {
            return;
        };
        let foreign = guest.foreign_peer();
        if let Some(peer) = foreign.filter(|_| !guest.elsewhere) {
            let why = format!(
                "announces {} and is heard from {peer}, as behind address translation",
                guest.announcement.ip
            );
            events.push(event(guest, EventKind::Elsewhere { why }));
        }
        guest.elsewhere = foreign.is_some();
    }

    /// Enters a guest that is not on the list at all.
    fn appear(&mut self, heard: &Heard<'_>, events: &mut Vec<Event>) {
        if *heard.word == Word::Bye {
            return;
        }
        if self.guests.len() >= self.config.guests {
            let Some((since, oldest)) = self.tombstones.pop_first() else {
                self.counters.full += 1;
                return;
            };
            tracing::debug!(%oldest, ?since, "guest list is full: a tombstone makes room");
            self.forget(oldest);
        }
        self.begin_ticking(heard.now);
        self.counters.beacons += 1;
        let why = "announced itself".to_owned();
        let mut guest = Guest::new(heard.said.clone(), heard.peer, heard.now, heard.wall);
        guest.known_as = self.names.get(&heard.said.id).cloned();
        guest.forwarded = self.forwards.get(&heard.said.id).copied();
        guest.why.clone_from(&why);
        guest.last_seq = heard.seq();
        guest.window = (heard.now, 1);
        self.revision += 1;
        let to = GuestState::Joining;
        events.push(event(
            &guest,
            EventKind::State {
                from: None,
                to,
                why: why.clone(),
            },
        ));
        self.guests.insert(heard.said.id, guest);
        events.extend(self.check(heard.said.id, &why, heard.now));
    }

    /// Nobody ticks an empty list, so the time since the last tick says nothing once there is a guest.
    pub(super) fn begin_ticking(&mut self, now: Instant) {
        if self.deadlines.is_empty() {
            self.last_tick = Some(now);
        }
    }

    /// Takes a beacon of the run that is known.
    fn refresh(&mut self, heard: &Heard<'_>, events: &mut Vec<Event>) {
        let id = heard.said.id;
        let Some(guest) = self.guests.get_mut(&id) else {
            return;
        };
        let (address, before) = (guest.address(), guest.before_late);
        update(guest, heard);
        let moved = guest.address() != address;
        self.counters.beacons += 1;
        let state = guest.state;
        let why = if !state.is_registered() {
            Some("is back")
        } else if moved {
            Some("its address changed")
        } else if *heard.word == Word::Hello {
            Some("said HELLO again")
        } else {
            None
        };
        if let Some(why) = why {
            self.meet(id, why, heard.now, events);
        } else if state == GuestState::Late {
            events.extend(self.enter(id, before, "heard again", heard.now));
        }
    }

    /// Takes the first beacon of a new run or boot.
    fn restart(&mut self, heard: &Heard<'_>, events: &mut Vec<Event>) {
        let id = heard.said.id;
        let Some(guest) = self.guests.get_mut(&id) else {
            return;
        };
        let (boot, run) = (
            guest.announcement.boot.clone(),
            guest.announcement.run.clone(),
        );
        let why = if boot == heard.said.boot {
            "its server started again, or its machine was restored"
        } else {
            "its machine started again"
        };
        if guest.state.is_registered() {
            let kind = EventKind::CommandsLost {
                boot: boot.clone(),
                run: run.clone(),
                why: why.to_owned(),
            };
            events.push(event(guest, kind));
        }
        guest.previous = Some((boot, run, heard.now));
        guest.restarts = guest.restarts.saturating_add(1);
        update(guest, heard);
        self.counters.beacons += 1;
        self.meet(id, why, heard.now, events);
    }

    /// Takes a good-bye.
    fn leave(&mut self, heard: &Heard<'_>, events: &mut Vec<Event>) {
        let id = heard.said.id;
        let Some(guest) = self.guests.get_mut(&id) else {
            return;
        };
        update(guest, heard);
        self.counters.beacons += 1;
        let why = match &heard.said.reason {
            Some(reason) if !reason.is_empty() => format!("said BYE: {reason}"),
            _ => "said BYE".to_owned(),
        };
        events.push(event(guest, lost(guest, &why)));
        events.extend(self.enter(id, GuestState::Left, &why, heard.now));
    }

    /// Removes a guest from every list.
    pub(super) fn forget(&mut self, id: MacId) {
        if let Some(guest) = self.guests.remove(&id) {
            self.deadlines.remove(&(guest.queued_at, id));
            if let Some(at) = guest.tombstone_at {
                self.tombstones.remove(&(at, id));
            }
        }
    }
}

/// One beacon with all that is known of it.
struct Heard<'a> {
    word: &'a Word,
    said: &'a Announcement,
    peer: Option<IpAddr>,
    now: Instant,
    wall: SystemTime,
}

impl Heard<'_> {
    /// Returns the number that the order rule goes by; none for senders without a run id.
    fn seq(&self) -> Option<u64> {
        (!self.said.run.is_empty()).then_some(self.said.seq)
    }
}

/// What is to be done with a beacon of a known id.
enum Verdict {
    TooMany,
    Duplicate,
    Stale,
    StaleBye,
    Conflict(&'static str),
    Leaves,
    NewRun,
    Refreshes,
}

fn judge(guest: &mut Guest, heard: &Heard<'_>, per_second: u32) -> Verdict {
    let (start, count) = &mut guest.window;
    if heard.now.saturating_duration_since(*start) >= Duration::from_secs(1) {
        (*start, *count) = (heard.now, 0);
    }
    *count = count.saturating_add(1);
    if *count > per_second {
        return Verdict::TooMany;
    }
    let (have, said) = (&guest.announcement, heard.said);
    let registered = guest.state.is_registered();
    if have.boot == said.boot && have.run == said.run {
        let within = have.interval().max(said.interval()) * 2;
        if changes_peer(&mut guest.peer_changes, guest.peer, heard, within) {
            return Verdict::Conflict("two addresses announce this id");
        }
        if let (Some(last), Some(seq)) = (guest.last_seq, heard.seq())
            && seq <= last
        {
            return Verdict::Duplicate;
        }
        if *heard.word != Word::Bye {
            return Verdict::Refreshes;
        }
        // Anybody can name an id; only the sender of its announcements can take them back.
        let foreign = guest.peer.is_some() && heard.peer.is_some() && guest.peer != heard.peer;
        return match (registered, foreign) {
            (false, _) => Verdict::Stale,
            (true, true) => Verdict::StaleBye,
            (true, false) => Verdict::Leaves,
        };
    }
    if *heard.word == Word::Bye {
        // A server that was started again may be heard before the last word of the one before it.
        return if registered {
            Verdict::StaleBye
        } else {
            Verdict::Stale
        };
    }
    if let Some((boot, run, changed)) = &guest.previous
        && *boot == said.boot
        && *run == said.run
        && heard.now.saturating_duration_since(*changed)
            < (have.interval().max(said.interval()) * 2).max(COMES_BACK_WITHIN)
    {
        return Verdict::Conflict("two guests claim this id");
    }
    Verdict::NewRun
}

/// Counts announcements of one run that come from another address than those before, and returns whether it
/// is no move any more: a guest that moves is heard from its new address, and of what was under way from the old
/// one there is little.
fn changes_peer(
    (count, last): &mut (u32, Option<Instant>),
    known: Option<IpAddr>,
    heard: &Heard<'_>,
    within: Duration,
) -> bool {
    if known.is_none() || heard.peer.is_none() || known == heard.peer {
        return false;
    }
    let recent = last.is_some_and(|at| heard.now.saturating_duration_since(at) < within);
    *count = if recent { count.saturating_add(1) } else { 1 };
    *last = Some(heard.now);
    *count >= PEER_CHANGES
}

/// The other one of two guests is heard again within this: on one network they break each other's connections, and a
/// guest connects anew after 30 s at the latest.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(40);

/// So many changes of address in a row are two guests.
const PEER_CHANGES: u32 = 3;

/// Puts what was heard into the record.
fn update(guest: &mut Guest, heard: &Heard<'_>) {
    guest.announcement = heard.said.clone();
    guest.peer = heard.peer.or(guest.peer);
    guest.last_seq = heard.seq();
    guest.last_beacon = heard.wall;
    guest.alive_at = heard.now;
    guest.probes_failed = 0;
    guest.probe_at = None;
    guest.connection_lost = false;
    // What was said before the pause may be heard after it; what is said later shows that it goes on.
    if guest
        .paused_at
        .is_some_and(|at| heard.now.saturating_duration_since(at) > ON_THE_WAY)
    {
        guest.paused_at = None;
    }
}

/// How long a beacon may be on its way.
const ON_THE_WAY: Duration = Duration::from_secs(5);

/// Returns the event that ends the commands of a guest's present run.
pub(super) fn lost(guest: &Guest, why: &str) -> EventKind {
    EventKind::CommandsLost {
        boot: guest.announcement.boot.clone(),
        run: guest.announcement.run.clone(),
        why: why.to_owned(),
    }
}
