//! The registry against explicit times; nothing here sleeps.

use super::*;
use crate::message::{Announcement, Beacon, Word};
use std::net::{IpAddr, SocketAddr};

/// A registry with a clock that the test moves, and all that it said.
struct Host {
    registry: Registry,
    start: Instant,
    now: Instant,
}

impl Host {
    fn new() -> Self {
        Self::with(RegistryConfig::default())
    }

    fn with(config: RegistryConfig) -> Self {
        let now = Instant::now();
        Self {
            registry: Registry::new(config),
            start: now,
            now,
        }
    }

    /// Moves the clock on, ticking at each deadline as the agent does, and returns the texts of events.
    fn pass(&mut self, seconds: f64) -> Vec<String> {
        let end = self.now + Duration::from_secs_f64(seconds);
        let mut texts = Vec::new();
        while let Some(at) = self.registry.next_deadline()
            && at <= end
        {
            self.now = self.now.max(at);
            let offset = (self.now - self.start).as_secs_f64();
            let events = self.registry.tick(self.now);
            texts.extend(
                events
                    .iter()
                    .map(|event| format!("{offset:.0} {}", short(event))),
            );
        }
        self.now = end;
        texts
    }

    fn hear(&mut self, word: Word, said: &Announcement) -> Vec<String> {
        self.hear_from(word, said, &said.ip.to_string())
    }

    fn hear_from(&mut self, word: Word, said: &Announcement, peer: &str) -> Vec<String> {
        let beacon = Beacon {
            word,
            announcement: Some(said.clone()),
            from_headers: false,
        };
        let peer: IpAddr = peer.parse().unwrap();
        let wall = SystemTime::UNIX_EPOCH + (self.now - self.start);
        texts(&self.registry.handle(&beacon, Some(peer), self.now, wall))
    }

    fn confirm(&mut self, said: &Announcement, result: CheckResult) -> Vec<String> {
        texts(
            &self
                .registry
                .confirm(said.id, &said.boot, &said.run, result, self.now),
        )
    }

    fn probed(&mut self, said: &Announcement, result: ProbeResult) -> Vec<String> {
        texts(
            &self
                .registry
                .probed(said.id, &said.boot, &said.run, result, self.now),
        )
    }

    fn state(&self, said: &Announcement) -> GuestState {
        self.registry.get(said.id).unwrap().state()
    }

    /// Enters a guest and proves it.
    fn ready(&mut self, said: &Announcement) {
        self.hear(Word::Hello, said);
        self.confirm(said, CheckResult::Passed);
        assert_eq!(self.state(said), GuestState::Ready);
    }
}

fn texts(events: &[Event]) -> Vec<String> {
    events.iter().map(short).collect()
}

fn short(event: &Event) -> String {
    let name = &event.name;
    match &event.kind {
        EventKind::State { from, to, .. } => {
            let from = from.map_or("new", GuestState::as_str);
            format!("{name} {from}->{to}")
        }
        EventKind::NotReady { why } => format!("{name} not ready: {why}"),
        EventKind::CommandsLost { run, .. } => format!("{name} lost {run}"),
        EventKind::Check(_) => format!("{name} check"),
        EventKind::Probe(_) => format!("{name} probe"),
        EventKind::Suspect { .. } => format!("{name} suspect"),
        EventKind::Elsewhere { why } => format!("{name} elsewhere: {why}"),
    }
}

fn refused() -> ProbeResult {
    ProbeResult::Refused("connection refused".to_owned())
}

fn silent() -> ProbeResult {
    ProbeResult::Silent("timed out".to_owned())
}

fn guest(number: u8, run: &str, seq: u64) -> Announcement {
    let json = format!(
        r#"{{"id":"02:00:00:00:00:{number:02x}","name":"g{number}","ip":"10.0.0.{number}","port":9094,
            "boot":"boot","run":"{run}","seq":{seq},"interval":10}}"#
    );
    serde_json::from_str(&json).unwrap()
}

#[test]
fn a_guest_is_joining_until_it_is_proved() {
    let (mut host, said) = (Host::new(), guest(1, "r", 0));
    assert_eq!(
        host.hear(Word::Hello, &said),
        ["g1 new->joining", "g1 check"]
    );
    assert!(!host.registry.get(said.id).unwrap().is_ready());
    assert_eq!(
        host.confirm(&said, CheckResult::Passed),
        ["g1 joining->ready"]
    );
    assert!(host.registry.get(said.id).unwrap().is_ready());
}

#[test]
fn a_still_alive_of_an_unknown_guest_is_a_hello() {
    let (mut host, said) = (Host::new(), guest(1, "r", 7));
    assert_eq!(
        host.hear(Word::StillAlive, &said),
        ["g1 new->joining", "g1 check"]
    );
    assert_eq!(
        host.hear(Word::Bye, &guest(2, "r", 0)),
        [""; 0],
        "a stranger's BYE is nothing"
    );
    assert!(host.registry.get(guest(2, "r", 0).id).is_none());
}

#[test]
fn silence_makes_late_after_30_and_gone_after_45_seconds() {
    let (mut host, said) = (Host::new(), guest(1, "r", 0));
    host.ready(&said);
    let told = host.pass(60.0);
    assert_eq!(
        told,
        [
            "30 g1 ready->late",
            "30 g1 probe",
            "45 g1 lost r",
            "45 g1 late->gone"
        ]
    );
    assert_eq!(host.registry.guests().count(), 0);
    assert_eq!(host.state(&said), GuestState::Gone);
}

#[test]
fn long_intervals_make_longer_limits() {
    let (mut host, mut said) = (Host::new(), guest(1, "r", 0));
    said.interval = 40.0;
    host.ready(&said);
    assert_eq!(host.pass(99.9), [""; 0]);
    assert_eq!(host.pass(50.0)[0], "100 g1 ready->late");
    assert_eq!(host.pass(1.0), ["150 g1 lost r", "150 g1 late->gone"]);
}

#[test]
fn late_goes_back_to_what_it_was() {
    let mut host = Host::new();
    host.ready(&guest(1, "r", 0));
    host.hear(Word::Hello, &guest(2, "r", 0));
    host.pass(31.0);
    assert_eq!(
        host.hear(Word::StillAlive, &guest(1, "r", 1)),
        ["g1 late->ready"]
    );
    assert_eq!(
        host.hear(Word::StillAlive, &guest(2, "r", 1)),
        ["g2 late->joining"]
    );
    assert!(host.pass(29.0).iter().all(|text| text.ends_with("check")));
}

#[test]
fn beacons_keep_a_guest_ready() {
    let mut host = Host::new();
    host.ready(&guest(1, "r", 0));
    for seq in 1..100 {
        assert_eq!(host.pass(10.0), [""; 0]);
        assert_eq!(host.hear(Word::StillAlive, &guest(1, "r", seq)), [""; 0]);
    }
    assert_eq!(host.registry.deadlines.len(), 1);
}

#[test]
fn bye_takes_a_guest_off_the_list_at_once_and_keeps_a_tombstone() {
    let (mut host, said) = (Host::new(), guest(1, "r", 0));
    host.ready(&said);
    let mut bye = guest(1, "r", 1);
    bye.reason = Some("shutdown".to_owned());
    assert_eq!(host.hear(Word::Bye, &bye), ["g1 lost r", "g1 ready->left"]);
    assert_eq!(host.registry.guests().count(), 0);
    assert_eq!(
        host.registry.get(said.id).unwrap().why(),
        "said BYE: shutdown"
    );
    assert_eq!(host.pass(599.0), [""; 0]);
    assert!(host.registry.get(said.id).is_some());
    host.pass(2.0);
    assert!(host.registry.get(said.id).is_none());
    assert!(host.registry.deadlines.is_empty() && host.registry.tombstones.is_empty());
}

#[test]
fn a_guest_that_left_comes_back_as_joining() {
    let mut host = Host::new();
    host.ready(&guest(1, "r", 0));
    host.hear(Word::Bye, &guest(1, "r", 5));
    assert_eq!(
        host.hear(Word::StillAlive, &guest(1, "r", 4)),
        [""; 0],
        "out of order"
    );
    assert_eq!(
        host.hear(Word::Hello, &guest(1, "s", 0)),
        ["g1 left->joining", "g1 check"]
    );
    assert!(host.registry.tombstones.is_empty());
}

#[test]
fn duplicates_and_old_numbers_are_dropped_and_counted() {
    let mut host = Host::new();
    host.ready(&guest(1, "r", 0));
    host.hear(Word::StillAlive, &guest(1, "r", 5));
    host.pass(20.0);
    for seq in [5, 4, 0] {
        assert_eq!(host.hear(Word::StillAlive, &guest(1, "r", seq)), [""; 0]);
    }
    assert_eq!(host.hear(Word::Bye, &guest(1, "r", 5)), [""; 0]);
    assert_eq!(host.registry.counters().duplicate, 4);
    // They were no signs of life either.
    assert_eq!(host.pass(11.0)[0], "30 g1 ready->late");
}

#[test]
fn a_restored_guest_is_heard_again_once_a_probe_finds_it() {
    let mut host = Host::new();
    host.ready(&guest(1, "r", 0));
    host.hear(Word::StillAlive, &guest(1, "r", 100));
    host.pass(31.0);
    assert_eq!(host.hear(Word::StillAlive, &guest(1, "r", 50)), [""; 0]);
    host.probed(&guest(1, "r", 0), ProbeResult::Answered);
    assert_eq!(
        host.hear(Word::StillAlive, &guest(1, "r", 51)),
        ["g1 late->ready"]
    );
}

#[test]
fn a_new_run_loses_the_commands_of_the_old_one() {
    let mut host = Host::new();
    host.ready(&guest(1, "r", 9));
    let told = host.hear(Word::Hello, &guest(1, "s", 0));
    assert_eq!(told, ["g1 lost r", "g1 ready->joining", "g1 check"]);
    // An outcome of the check of the old run says nothing about the new one.
    assert_eq!(
        host.confirm(&guest(1, "r", 0), CheckResult::Passed),
        [""; 0]
    );
    assert_eq!(host.state(&guest(1, "s", 0)), GuestState::Joining);
    assert_eq!(
        host.registry
            .get(guest(1, "s", 0).id)
            .unwrap()
            .record()
            .restarts,
        1
    );
}

#[test]
fn the_last_word_of_an_old_run_does_not_end_the_new_one() {
    let mut host = Host::new();
    host.ready(&guest(1, "r", 0));
    host.hear(Word::Hello, &guest(1, "s", 0));
    host.confirm(&guest(1, "s", 0), CheckResult::Passed);
    assert_eq!(host.hear(Word::Bye, &guest(1, "r", 1)), ["g1 probe"]);
    assert_eq!(host.state(&guest(1, "s", 0)), GuestState::Ready);
}

#[test]
fn somebody_elses_bye_is_looked_into_and_not_believed() {
    let mut host = Host::new();
    host.ready(&guest(1, "r", 0));
    assert_eq!(
        host.hear_from(Word::Bye, &guest(1, "r", 1), "10.0.0.66"),
        ["g1 probe"]
    );
    assert_eq!(host.state(&guest(1, "r", 0)), GuestState::Ready);
}

#[test]
fn two_boots_that_alternate_are_suspect_until_they_stop() {
    let mut host = Host::new();
    let (one, mut other) = (guest(1, "r", 0), guest(1, "s", 0));
    other.boot = "other".to_owned();
    host.ready(&one);
    host.pass(3.0);
    assert_eq!(
        host.hear(Word::StillAlive, &other),
        ["g1 lost r", "g1 ready->joining", "g1 check"]
    );
    host.confirm(&other, CheckResult::Passed);
    host.pass(3.0);
    let told = host.hear(Word::StillAlive, &guest(1, "r", 1));
    assert_eq!(told, ["g1 suspect", "g1 ready->joining", "g1 check"]);
    // A check that passes right now may have reached either of the two.
    host.confirm(&other, CheckResult::Passed);
    assert!(host.registry.get(one.id).unwrap().record().suspect);
    other.seq = 1;
    host.pass(10.0);
    host.hear(Word::StillAlive, &other);
    let told = host.pass(11.0);
    assert!(told.iter().any(|text| text.ends_with("check")), "{told:?}");
    assert_eq!(
        host.confirm(&other, CheckResult::Passed),
        ["g1 joining->ready"]
    );
    assert!(!host.registry.get(one.id).unwrap().record().suspect);
}

#[test]
fn two_boots_that_break_each_other_s_connections_are_suspect_too() {
    let mut host = Host::new();
    let (mut one, mut other) = (guest(1, "r", 0), guest(1, "s", 0));
    (one.interval, other.interval) = (1.0, 1.0);
    other.boot = "other".to_owned();
    host.ready(&one);
    host.pass(25.0);
    host.hear(Word::Hello, &other);
    host.confirm(&other, CheckResult::Passed);
    host.pass(25.0);
    one.seq = 1;
    let told = host.hear(Word::Hello, &one);
    assert_eq!(
        told.first().map(String::as_str),
        Some("g1 suspect"),
        "{told:?}"
    );
    // Not trusted for a short silence, in which they only try again.
    host.pass(5.0);
    host.confirm(&other, CheckResult::Passed);
    assert!(host.registry.get(one.id).unwrap().record().suspect);
}

#[test]
fn another_server_at_the_announced_address_is_suspect() {
    let (mut host, said) = (Host::new(), guest(1, "r", 0));
    host.hear(Word::Hello, &said);
    let told = host.confirm(
        &said,
        CheckResult::Mismatch("run x instead of r".to_owned()),
    );
    assert_eq!(told, ["g1 suspect"]);
    assert!(!host.registry.get(said.id).unwrap().is_ready());
    assert_eq!(host.pass(1.5), ["1 g1 check"]);
    assert_eq!(
        host.confirm(&said, CheckResult::Passed),
        ["g1 joining->ready"]
    );
}

#[test]
fn failed_checks_say_why_once_and_are_made_again_with_growing_waits() {
    let (mut host, said) = (Host::new(), guest(1, "r", 0));
    host.hear(Word::Hello, &said);
    let failed = || CheckResult::Failed("connection refused".to_owned());
    assert_eq!(
        host.confirm(&said, failed()),
        ["g1 not ready: connection refused"]
    );
    let mut told = Vec::new();
    for _ in 0..29 {
        let now = host.pass(1.0);
        if now.iter().any(|text| text.ends_with("check")) {
            assert_eq!(host.confirm(&said, failed()), [""; 0]);
        }
        told.extend(now);
    }
    assert_eq!(
        told,
        [
            "1 g1 check",
            "3 g1 check",
            "7 g1 check",
            "15 g1 check",
            "25 g1 check"
        ]
    );
    assert_eq!(
        host.registry.get(said.id).unwrap().why(),
        "connection refused"
    );
}

#[test]
fn a_check_without_outcome_is_asked_for_again() {
    let (mut host, mut said) = (Host::new(), guest(1, "r", 0));
    said.interval = 100.0;
    host.hear(Word::Hello, &said);
    assert_eq!(host.pass(31.0), ["30 g1 check"]);
}

#[test]
fn a_changed_address_is_verified_again() {
    let mut host = Host::new();
    host.ready(&guest(1, "r", 0));
    let mut moved = guest(1, "r", 1);
    moved.port = 9095;
    assert_eq!(
        host.hear(Word::StillAlive, &moved),
        ["g1 ready->joining", "g1 check"]
    );
    assert_eq!(host.registry.get(moved.id).unwrap().address().port(), 9095);
}

#[test]
fn a_lost_connection_is_probed_at_once_and_two_failures_end_the_guest() {
    let (mut host, said) = (Host::new(), guest(1, "r", 0));
    host.ready(&said);
    let told = host.registry.publisher_lost(said.id, host.now);
    assert_eq!(texts(&told), ["g1 probe"]);
    assert_eq!(host.probed(&said, refused()), ["g1 ready->late"]);
    assert_eq!(host.pass(1.5), ["1 g1 probe"]);
    assert_eq!(
        host.probed(&said, refused()),
        ["g1 lost r", "g1 late->gone"]
    );
}

#[test]
fn a_guest_that_answers_after_a_lost_connection_stays() {
    let (mut host, said) = (Host::new(), guest(1, "r", 0));
    host.ready(&said);
    host.registry.publisher_lost(said.id, host.now);
    assert_eq!(host.probed(&said, refused()), ["g1 ready->late"]);
    host.pass(1.5);
    assert_eq!(
        host.probed(&said, ProbeResult::Answered),
        ["g1 late->ready"]
    );
    // A failure long after is judged by the beacons alone.
    assert_eq!(host.probed(&said, refused()), [""; 0]);
}

/// A network that is cut for less than the grace ends connections too, and must not end guests.
#[test]
fn silence_after_a_lost_connection_is_for_the_grace_to_judge() {
    let (mut host, said) = (Host::new(), guest(1, "r", 0));
    host.ready(&said);
    host.pass(20.0);
    host.registry.publisher_lost(said.id, host.now);
    assert_eq!(host.probed(&said, silent()), [""; 0]);
    assert_eq!(host.state(&said), GuestState::Ready);
    let told = host.pass(9.0).join("|");
    assert_eq!(told, "", "no other probe before a third of the grace");
    let told = host.pass(2.0).join("|");
    assert!(told.starts_with("30 g1 ready->late"), "{told}");
    for _ in 0..5 {
        assert_eq!(host.probed(&said, silent()), [""; 0]);
    }
    let told = host.pass(15.0).join("|");
    assert!(told.contains("45 g1 late->gone"), "{told}");
}

#[test]
fn with_the_broker_down_probes_stand_for_beacons() {
    let (mut host, said) = (Host::new(), guest(1, "r", 0));
    host.ready(&said);
    host.registry.broker_down(host.now);
    let mut told = Vec::new();
    for _ in 0..20 {
        let now = host.pass(10.0);
        assert!(now.iter().any(|text| text.ends_with("g1 probe")), "{now:?}");
        told.extend(host.probed(&said, ProbeResult::Answered));
    }
    assert_eq!(told, [""; 0], "deadlines stand still");
    for (outcome, want) in [
        (refused(), ""),
        (silent(), ""),
        (silent(), "g1 ready->late"),
        (refused(), ""),
        (silent(), "g1 lost r|g1 late->gone"),
    ] {
        host.pass(10.0);
        assert_eq!(host.probed(&said, outcome).join("|"), want);
    }
}

#[test]
fn a_broker_that_comes_back_gives_a_full_grace() {
    let (mut host, said) = (Host::new(), guest(1, "r", 0));
    host.ready(&said);
    host.pass(20.0);
    host.registry.broker_down(host.now);
    host.pass(25.0);
    host.registry.broker_up(host.now);
    assert_eq!(host.pass(29.0), [""; 0]);
    assert_eq!(host.pass(2.0)[0], "75 g1 ready->late");
}

#[test]
fn a_host_that_slept_restarts_all_deadlines() {
    let (mut host, said) = (Host::new(), guest(1, "r", 0));
    host.ready(&said);
    host.pass(25.0);
    host.now += Duration::from_secs(3600);
    assert_eq!(texts(&host.registry.tick(host.now)), [""; 0]);
    assert_eq!(host.pass(29.0), [""; 0]);
    assert!(host.pass(2.0)[0].ends_with("g1 ready->late"));
}

#[test]
fn an_id_that_sends_too_much_is_cut_off() {
    let mut host = Host::new();
    for seq in 0..20 {
        host.hear(Word::StillAlive, &guest(1, "r", seq));
    }
    assert_eq!(host.registry.counters().beacons, 5);
    assert_eq!(host.registry.counters().too_many, 15);
    host.pass(1.0);
    host.hear(Word::StillAlive, &guest(1, "r", 30));
    assert_eq!(host.registry.counters().beacons, 6);
}

#[test]
fn a_full_list_makes_room_from_tombstones_only() {
    let mut host = Host::with(RegistryConfig {
        guests: 2,
        ..RegistryConfig::default()
    });
    host.hear(Word::Hello, &guest(1, "r", 0));
    host.hear(Word::Hello, &guest(2, "r", 0));
    assert_eq!(host.hear(Word::Hello, &guest(3, "r", 0)), [""; 0]);
    assert_eq!(host.registry.counters().full, 1);
    host.hear(Word::Bye, &guest(1, "r", 1));
    assert_eq!(host.hear(Word::Hello, &guest(3, "r", 1)).len(), 2);
    assert!(host.registry.get(guest(1, "r", 0).id).is_none());
    assert_eq!(host.registry.deadlines.len(), 2);
}

#[test]
fn other_words_are_counted() {
    let mut host = Host::new();
    let beacon = |word| Beacon {
        word,
        announcement: None,
        from_headers: false,
    };
    for word in [Word::Aint("WHAT".to_owned()), Word::Agent] {
        let told = host
            .registry
            .handle(&beacon(word), None, host.now, SystemTime::now());
        assert_eq!(texts(&told), [""; 0]);
    }
    assert_eq!(host.registry.counters().aint, 1);
    assert_eq!(host.registry.next_deadline(), None);
}

#[test]
fn guests_are_found_by_name_id_and_address() {
    let mut host = Host::new();
    for number in 1..4 {
        host.hear(Word::Hello, &guest(number, "r", 0));
    }
    for text in [
        "g2",
        "02:00:00:00:00:02",
        "02-00-00-00-00-02",
        "020000000002",
        "10.0.0.2",
    ] {
        let found = host.registry.lookup(text);
        assert_eq!(found.len(), 1, "{text}");
        assert_eq!(found[0].name(), "g2");
    }
    assert!(host.registry.lookup("nobody").is_empty());
}

#[test]
fn a_record_has_the_fields_of_the_specification() {
    let mut host = Host::new();
    host.pass(5.0);
    host.ready(&guest(1, "r", 0));
    let json = serde_json::to_value(host.registry.lookup("g1")[0]).unwrap();
    assert_eq!(json["name"], "g1");
    assert_eq!(json["id"], "02:00:00:00:00:01");
    assert_eq!(json["state"], "ready");
    assert_eq!(json["address"], "10.0.0.1");
    assert_eq!(json["port"], 9094);
    assert_eq!(json["first_seen"], 5.0);
    assert_eq!(json["peer"], "10.0.0.1");
    let record: GuestRecord = serde_json::from_value(json).unwrap();
    assert!(record.reachable);
}

#[test]
fn changing_intervals_cannot_make_the_queue_grow() {
    let mut host = Host::new();
    for seq in 0..1000 {
        let mut said = guest(1, "r", seq);
        said.interval = if seq % 2 == 0 { 86_400.0 } else { 0.001 };
        host.pass(1.0);
        host.hear(Word::StillAlive, &said);
    }
    assert_eq!(host.registry.deadlines.len(), 1);
}

/// Writes the registry down and takes it up in another one, a minute later by the wall clock.
fn restarted(host: &Host) -> (Host, Vec<String>) {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let json = serde_json::to_string(&host.registry.snapshot(wall)).unwrap();
    let mut next = Host::new();
    let told = next
        .registry
        .restore(
            serde_json::from_str(&json).unwrap(),
            next.now,
            wall + Duration::from_secs(60),
        )
        .unwrap();
    (next, texts(&told))
}

#[test]
fn a_snapshot_brings_guests_back_as_joining_with_a_full_grace() {
    let (mut host, said) = (Host::new(), guest(1, "r", 5));
    host.ready(&said);
    host.ready(&guest(2, "r", 0));
    host.hear(Word::Bye, &guest(2, "r", 1));
    host.pass(29.0);
    let (mut next, told) = restarted(&host);
    assert_eq!(told, ["g1 new->joining", "g1 check"]);
    assert_eq!(
        next.registry.guests().count(),
        1,
        "who left is not taken up"
    );
    let record = next.registry.get(said.id).unwrap().record();
    assert_eq!((record.first_seen, record.since), (0.0, 1060.0));
    assert_eq!(record.peer, Some("10.0.0.1".parse().unwrap()));
    assert_eq!(
        next.confirm(&said, CheckResult::Passed),
        ["g1 joining->ready"]
    );
    assert_eq!(next.pass(29.0), [""; 0]);
    assert_eq!(next.pass(2.0)[0], "30 g1 ready->late");
    assert_eq!(
        next.hear(Word::StillAlive, &guest(1, "r", 6)),
        ["g1 late->ready"]
    );
}

#[test]
fn a_guest_that_started_again_while_the_host_was_away_is_seen_to() {
    let mut host = Host::new();
    host.ready(&guest(1, "r", 5));
    let (mut next, _) = restarted(&host);
    let told = next.hear(Word::Hello, &guest(1, "s", 0));
    assert_eq!(told, ["g1 lost r", "g1 check"]);
    assert_eq!(
        next.registry
            .get(guest(1, "s", 0).id)
            .unwrap()
            .record()
            .restarts,
        1
    );
}

#[test]
fn a_snapshot_is_judged_before_it_is_believed() {
    let mut host = Host::new();
    host.ready(&guest(1, "r", 5));
    let wall = SystemTime::now();
    let good = serde_json::to_value(host.registry.snapshot(wall)).unwrap();
    let with = |pointer: &str, value: serde_json::Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    let mut next = Host::new();
    for odd in [
        with("/guests/0/announcement/port", 0.into()),
        with("/guests/0/announcement/ip", "224.0.0.1".into()),
        with("/guests/0/announcement/interval", 1e9.into()),
        with("/guests/0/announcement/name", "\u{1b}[2J".into()),
    ] {
        let odd: Snapshot = serde_json::from_value(odd).unwrap();
        let told = next.registry.restore(odd, next.now, wall).unwrap();
        assert_eq!(texts(&told), [""; 0]);
    }
    let newer = serde_json::from_value(with("/v", 2.into())).unwrap();
    let error = next.registry.restore(newer, next.now, wall).unwrap_err();
    assert!(error.to_string().contains("format 2"), "{error}");
    // Times that cannot be are taken for now.
    let odd: Snapshot = serde_json::from_value(with("/guests/0/first_seen", 1e300.into())).unwrap();
    next.registry.restore(odd, next.now, wall).unwrap();
    assert_eq!(next.registry.all().next().unwrap().first_seen, wall);
}

#[test]
fn the_revision_counts_what_a_snapshot_would_tell() {
    let (mut host, said) = (Host::new(), guest(1, "r", 0));
    let mut last = host.registry.revision();
    let mut moved = |host: &Host| {
        let before = std::mem::replace(&mut last, host.registry.revision());
        host.registry.revision() != before
    };
    host.hear(Word::Hello, &said);
    assert!(moved(&host));
    host.confirm(&said, CheckResult::Passed);
    assert!(moved(&host));
    host.pass(10.0);
    host.hear(Word::StillAlive, &guest(1, "r", 1));
    assert!(!moved(&host), "a beacon tells nothing new");
    let mut elsewhere = guest(1, "r", 2);
    elsewhere.port = 9095;
    host.hear(Word::StillAlive, &elsewhere);
    assert!(moved(&host));
    let mut elsewhere = guest(1, "r", 3);
    elsewhere.port = 9096;
    host.hear(Word::StillAlive, &elsewhere);
    assert!(moved(&host), "joining already, and elsewhere again");
    host.hear(Word::Bye, &guest(1, "r", 4));
    assert!(moved(&host));
}

#[test]
fn an_address_that_is_not_announced_is_told_once_and_shown() {
    let (mut host, said) = (Host::new(), guest(1, "r", 0));
    let elsewhere = "g1 elsewhere: announces 10.0.0.1 and is heard from 192.0.2.1, as behind address translation";
    assert_eq!(
        host.hear_from(Word::Hello, &said, "192.0.2.1"),
        ["g1 new->joining", "g1 check", elsewhere]
    );
    let shown = |host: &Host| host.registry.get(said.id).unwrap().record().elsewhere;
    assert!(shown(&host));
    // The check is the proof, not the address.
    assert_eq!(
        host.confirm(&said, CheckResult::Passed),
        ["g1 joining->ready"]
    );
    assert_eq!(
        host.hear_from(Word::StillAlive, &guest(1, "r", 1), "192.0.2.1"),
        [""; 0]
    );
    assert_eq!(
        host.hear_from(Word::StillAlive, &guest(1, "r", 2), "::ffff:10.0.0.1"),
        [""; 0]
    );
    assert!(!shown(&host));
    // Any of its addresses will do.
    let mut many = guest(2, "r", 0);
    many.addrs = serde_json::from_str(r#"[{"ip":"192.0.2.2","port":9094}]"#).unwrap();
    assert_eq!(
        host.hear_from(Word::Hello, &many, "192.0.2.2"),
        ["g2 new->joining", "g2 check"]
    );
}

#[test]
fn one_run_that_is_heard_from_two_addresses_again_and_again_is_two_guests() {
    let mut host = Host::new();
    host.ready(&guest(1, "r", 0));
    let mut said = Vec::new();
    // Who claims the id takes great numbers, so that those of the guest count for nothing.
    for turn in 1..=3 {
        host.pass(5.0);
        said.extend(host.hear_from(
            Word::StillAlive,
            &guest(1, "r", 1_000_000 + turn),
            "10.0.0.66",
        ));
        host.pass(5.0);
        said.extend(host.hear(Word::StillAlive, &guest(1, "r", turn)));
    }
    assert_eq!(
        said.iter().filter(|text| *text == "g1 suspect").count(),
        1,
        "{said:?}"
    );
    assert!(!host.registry.get(guest(1, "r", 0).id).unwrap().is_ready());
}

#[test]
fn a_guest_that_moves_is_no_two_guests_whatever_was_under_way() {
    let mut host = Host::new();
    host.ready(&guest(1, "r", 0));
    let mut moved = guest(1, "r", 5);
    moved.ip = "10.0.0.7".parse().unwrap();
    let said = [
        host.hear(Word::Hello, &moved),
        host.hear(Word::StillAlive, &guest(1, "r", 1)),
    ]
    .concat();
    assert!(!said.contains(&"g1 suspect".to_owned()), "{said:?}");
    for seq in 6..20 {
        moved.seq = seq;
        assert_eq!(host.hear(Word::StillAlive, &moved), [""; 0]);
        host.pass(10.0);
    }
    assert!(!host.registry.get(moved.id).unwrap().record().suspect);
}

#[test]
fn a_paused_guest_has_no_deadlines_and_then_a_full_grace() {
    let mut host = Host::new();
    let said = guest(1, "r", 1);
    host.ready(&said);
    host.pass(25.0);
    let now = host.now;
    assert_eq!(host.registry.paused(said.id, true, now).len(), 1);
    assert!(host.registry.paused(said.id, true, now).is_empty());
    assert!(!host.registry.get(said.id).unwrap().is_ready());
    assert!(host.registry.publisher_lost(said.id, now).is_empty());
    for _ in 0..100 {
        assert_eq!(host.pass(9.0), [] as [String; 0]);
    }
    // What does not answer is the pause.
    assert_eq!(host.probed(&said, refused()), [] as [String; 0]);
    assert_eq!(host.state(&said), GuestState::Ready);
    let now = host.now;
    assert_eq!(host.registry.paused(said.id, false, now).len(), 1);
    assert!(host.registry.get(said.id).unwrap().is_ready());
    for _ in 0..29 {
        host.pass(1.0);
    }
    assert_eq!(host.state(&said), GuestState::Ready);
    host.pass(2.0);
    assert_eq!(host.state(&said), GuestState::Late);
}

#[test]
fn a_beacon_long_after_the_pause_ends_it_and_one_on_its_way_does_not() {
    let mut host = Host::new();
    host.ready(&guest(1, "r", 1));
    let now = host.now;
    let id = guest(1, "r", 1).id;
    host.registry.paused(id, true, now);
    host.pass(2.0);
    host.hear(Word::StillAlive, &guest(1, "r", 2));
    assert!(host.registry.get(id).unwrap().record().paused);
    host.pass(8.0);
    host.hear(Word::StillAlive, &guest(1, "r", 3));
    assert!(!host.registry.get(id).unwrap().record().paused);
}

#[test]
fn a_machine_that_is_turned_off_ends_its_guest_at_once() {
    let mut host = Host::new();
    let said = guest(1, "r", 1);
    host.ready(&said);
    let now = host.now;
    let events = host
        .registry
        .stopped(said.id, "its machine was turned off", now);
    assert!(matches!(events[0].kind, EventKind::CommandsLost { .. }));
    assert_eq!(host.state(&said), GuestState::Gone);
    assert!(host.registry.stopped(said.id, "again", now).is_empty());
}

#[test]
fn the_hypervisors_name_counts_more_than_the_announced_one() {
    let mut host = Host::new();
    let said = guest(1, "r", 1);
    let names = HashMap::from([(said.id, "machine".to_owned())]);
    host.registry.set_names(names);
    host.ready(&said);
    assert_eq!(host.registry.get(said.id).unwrap().name(), "machine");
    assert!(host.registry.is_named(said.id));
    host.registry.set_names(HashMap::new());
    assert_ne!(host.registry.get(said.id).unwrap().name(), "machine");
}

#[test]
fn where_the_hypervisor_forwards_a_port_counts_more_than_the_announced_address() {
    let mut host = Host::new();
    let said = guest(1, "r", 1);
    let first: SocketAddr = "127.0.0.1:4000".parse().unwrap();
    let now = host.now;
    host.registry
        .set_forwards(HashMap::from([(said.id, first)]), now);
    host.ready(&said);
    let record = |host: &Host| host.registry.get(said.id).unwrap().record();
    assert_eq!(
        (record(&host).address, record(&host).port),
        (first.ip(), first.port())
    );
    assert_eq!(host.registry.lookup("127.0.0.1").len(), 1);
    // What it announces may change: it is met at the same place.
    let mut moved = guest(1, "r", 2);
    moved.port += 1;
    assert!(host.hear(Word::StillAlive, &moved).is_empty());

    // Another port: it is to be met there before it gets work.
    let second: SocketAddr = "127.0.0.1:4001".parse().unwrap();
    let events = host
        .registry
        .set_forwards(HashMap::from([(said.id, second)]), now);
    assert_eq!(host.state(&said), GuestState::Joining);
    let checked = events.iter().find_map(|event| match &event.kind {
        EventKind::Check(target) => Some(target.address),
        _ => None,
    });
    assert_eq!(checked, Some(second));
    let again = host
        .registry
        .set_forwards(HashMap::from([(said.id, second)]), now);
    assert!(again.is_empty(), "{again:?}");
    // And where it says itself when nothing is forwarded any more.
    host.registry.set_forwards(HashMap::new(), now);
    assert_eq!(record(&host).port, moved.port);
}

#[test]
fn a_guest_whose_machine_was_restored_is_met_again_and_may_count_from_before() {
    let mut host = Host::new();
    let said = guest(1, "r", 100);
    host.ready(&said);
    host.hear(Word::StillAlive, &guest(1, "r", 101));
    let now = host.now;
    host.registry.paused(said.id, true, now);
    let events = host.registry.restored(said.id, now);
    assert_eq!(host.state(&said), GuestState::Joining);
    assert!(!host.registry.get(said.id).unwrap().record().paused);
    let checks = |events: &[Event]| {
        events
            .iter()
            .filter(|event| matches!(event.kind, EventKind::Check(_)))
            .count()
    };
    assert_eq!(checks(&events), 1);
    // The number of the snapshot's time, and no command of the host's ends by it.
    let dropped = host.registry.get(said.id).unwrap().record().dropped;
    assert!(host.hear(Word::StillAlive, &guest(1, "r", 7)).is_empty());
    assert_eq!(
        host.registry.get(said.id).unwrap().record().dropped,
        dropped
    );
    assert!(
        !events
            .iter()
            .any(|event| matches!(event.kind, EventKind::CommandsLost { .. }))
    );
}
