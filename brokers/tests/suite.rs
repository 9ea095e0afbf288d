//! The same suite against every broker: what presence needs of one, and what a broker may do to it.
//!
//! RabbitMQ and ActiveMQ take seconds to start, so theirs runs where it is asked for: `make test-brokers`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that fails this way has failed as it should, and what it prints says where"
)]

mod support;

use std::time::{Duration, Instant};

use beacon::registry::GuestState;
use beacon::subscriber::Heard;
use beacon::{Credentials, Word};
use brokers::broker::{agent_account, guest_account};
use brokers::{Broker, Kind};
use support::wire::{Raw, beacon, send};
use support::{Guest, Host, login};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_broker() {
    suite(Kind::Embedded, 2000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coilmq() {
    suite(Kind::CoilMq, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "heavy: make test-brokers"]
async fn rabbitmq() {
    suite(Kind::RabbitMq, 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "heavy: make test-brokers"]
async fn activemq() {
    suite(Kind::ActiveMq, 1000).await;
}

async fn suite(kind: Kind, crowd: u32) {
    let mut broker = Broker::start(kind).unwrap();
    step(&broker, "comes_beats_and_leaves");
    comes_beats_and_leaves(&broker).await;
    step(&broker, "frames_arrive_as_they_were_sent");
    frames_arrive_as_they_were_sent(&broker).await;
    step(&broker, "lost_publishers_become_late_and_gone");
    lost_publishers_become_late_and_gone(&broker).await;
    step(&broker, "wrong_accounts_are_refused");
    wrong_accounts_are_refused(&broker).await;
    step(&broker, "heart_beats_keep_the_connection");
    heart_beats_keep_the_connection(&broker).await;
    step(&broker, "a_crowd_comes_and_leaves");
    a_crowd_comes_and_leaves(&broker, crowd).await;
    step(&broker, "a_frozen_broker_is_left_and_found_again");
    a_frozen_broker_is_left_and_found_again(&broker).await;
    step(&broker, "a_killed_broker_is_found_again");
    a_killed_broker_is_found_again(&mut broker).await;
}

/// Says what is tried, for whoever reads a failure.
fn step(broker: &Broker, what: &str) {
    println!("{}: {what}", broker.kind());
}

async fn comes_beats_and_leaves(broker: &Broker) {
    let mut host = Host::start(broker.address());
    host.up().await;
    let guest = Guest::start(broker.address(), "worker");
    let id = host.until("worker", GuestState::Joining).await;
    assert_eq!(host.seen[0].word, Word::Hello);
    // Beyond the beacons that want a receipt: a broker that gave none would have been left.
    while host.seen.len() < 14 {
        host.next().await;
    }
    guest.stop().await;
    host.until("worker", GuestState::Left).await;
    assert_eq!(host.registry.get(id).unwrap().why(), "said BYE: shutdown");
    let numbers: Vec<u64> = host
        .seen
        .iter()
        .map(|beacon| beacon.announcement.as_ref().unwrap().seq)
        .collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
}

/// The codec's proof: what one version writes, a foreign broker reads, and writes for another.
async fn frames_arrive_as_they_were_sent(broker: &Broker) {
    let versions: &[&str] = match broker.kind() {
        // In 1.2 it wants the machine's full name as host, and it puts escapes into no frame.
        Kind::CoilMq => &["1.0", "1.1"],
        _ => &["1.0", "1.1", "1.2"],
    };
    let account = login(&agent_account());
    for from in versions {
        for to in versions {
            let mut subscriber = Raw::connected_with(broker.address(), to, &account).await;
            subscriber
                .sure("SUBSCRIBE\nid:7\ndestination:/topic/connections")
                .await;
            let mut publisher = Raw::connected_with(broker.address(), from, &account).await;
            let body = "X-TEST zero\0byte \u{20ac}";
            // A subscriber of 1.0 cannot be told such a value: ActiveMQ then sends it the bare line end.
            let escapes = *from != "1.0" && *to != "1.0";
            let odd = if escapes { r"a\cb\\c\nd" } else { "plain" };
            let head = format!(
                "SEND\ndestination:/topic/connections\ncontent-type:text/x-test\nodd:{odd}\nodd:second\n\
                 content-length:{}\nreceipt:sent\n\n{body}\0",
                body.len()
            );
            publisher.send(&head).await;
            let receipt = publisher.expect("RECEIPT").await;
            assert_eq!(receipt.header("receipt-id"), Some("sent"));
            let message = subscriber.expect("MESSAGE").await;
            let about = format!("{} from {from} to {to}: {message:?}", broker.kind());
            assert_eq!(message.body, body, "{about}");
            assert_eq!(message.header("subscription"), Some("7"), "{about}");
            assert_eq!(
                message.header("destination"),
                Some("/topic/connections"),
                "{about}"
            );
            assert_eq!(
                message.header("content-type"),
                Some("text/x-test"),
                "{about}"
            );
            if broker.kind() != Kind::CoilMq {
                let odd = if escapes { "a:b\\c\nd" } else { "plain" };
                assert_eq!(message.header("odd"), Some(odd), "{about}");
            }
            if broker.kind() == Kind::Embedded {
                assert_eq!(message.header("x-peer"), Some("127.0.0.1"), "{about}");
            }
        }
    }
}

/// No broker tells that a publisher died: silence does.
async fn lost_publishers_become_late_and_gone(broker: &Broker) {
    let mut host = Host::start(broker.address());
    host.up().await;
    let account = login(&guest_account());
    let mut guests = Vec::new();
    for number in 1..=3 {
        let mut guest = Raw::connected_with(broker.address(), "1.1", &account).await;
        guest.send(&send(&beacon("HELLO", number, 0))).await;
        guests.push(guest);
    }
    host.until_count(3, GuestState::Joining).await;
    let _silent = guests.pop();
    let reset = guests.pop().unwrap();
    reset.stream.set_zero_linger().unwrap();
    drop((reset, guests.pop()));
    // The registry's clock is what it is told: nobody waits.
    let now = Instant::now();
    let states = |host: &Host, state| {
        let all = host.registry.all();
        all.filter(|guest| guest.state() == state).count()
    };
    host.registry.tick(now);
    assert_eq!(states(&host, GuestState::Joining), 3);
    for after in (5..=35).step_by(5) {
        host.registry.tick(now + Duration::from_secs(after));
    }
    assert_eq!(states(&host, GuestState::Late), 3);
    for after in (40..=50).step_by(5) {
        host.registry.tick(now + Duration::from_secs(after));
    }
    assert_eq!(states(&host, GuestState::Gone), 3);
}

async fn wrong_accounts_are_refused(broker: &Broker) {
    if broker.kind() == Kind::CoilMq {
        // It takes everybody unless it is configured otherwise.
        return;
    }
    let wrong = Credentials {
        passcode: "wrong".to_owned(),
        ..agent_account()
    };
    let mut host = Host::start_with(broker.address(), |c| c.link.credentials = Some(wrong));
    let why = host.down().await;
    assert!(why.contains("refused login or passcode"), "{why}");
    if broker.kind() != Kind::ActiveMq {
        let mut host = Host::start_with(broker.address(), |c| {
            c.link.credentials = Some(guest_account());
        });
        let why = host.down().await;
        assert!(why.contains("access_refused"), "{why}");
    }
}

async fn heart_beats_keep_the_connection(broker: &Broker) {
    let beat = Duration::from_secs(2);
    let mut host = Host::start_with(broker.address(), |c| {
        // CoilMQ claims heart-beats and sends none, so none are asked of it.
        let wants = if broker.kind() == Kind::CoilMq {
            Duration::ZERO
        } else {
            beat
        };
        c.link.heart_beat = (beat, wants);
        // Nothing but heart-beats for as long as this takes.
        c.self_test = Duration::from_secs(3600);
    });
    host.up().await;
    // Either side would take the other for dead after twice the interval and 1 s, or earlier.
    let quiet = tokio::time::timeout(3 * beat, host.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

async fn a_crowd_comes_and_leaves(broker: &Broker, crowd: u32) {
    let mut host = Host::start(broker.address());
    host.up().await;
    let (address, account) = (broker.address(), login(&guest_account()));
    let mut coming = JoinSet::new();
    for number in 0..crowd {
        let account = account.clone();
        coming.spawn(async move {
            let mut guest = Raw::connected_with(address, "1.1", &account).await;
            guest.send(&member("HELLO", number, 0)).await;
            (number, guest)
        });
    }
    let mut guests = Vec::new();
    while guests.len() < crowd as usize {
        tokio::select! {
            Some(guest) = coming.join_next() => guests.push(guest.unwrap()),
            _ = host.next() => {}
        }
    }
    host.until_count(crowd as usize, GuestState::Joining).await;
    for (number, guest) in &mut guests {
        guest.send(&member("BYE", *number, 1)).await;
    }
    host.until_count(crowd as usize, GuestState::Left).await;
}

/// A SEND frame of one of a crowd.
fn member(word: &str, number: u32, seq: u64) -> String {
    let [_, b, c, d] = number.to_be_bytes();
    send(&format!(
        "{word} {{\"id\":\"02:00:01:{b:02X}:{c:02X}:{d:02X}\",\"name\":\"m{number}\",\"ip\":\"127.1.{c}.{d}\",\
         \"port\":9094,\"boot\":\"b\",\"run\":\"r\",\"seq\":{seq},\"interval\":10}}"
    ))
}

/// Its kernel accepts, and nobody answers.
async fn a_frozen_broker_is_left_and_found_again(broker: &Broker) {
    let mut host = Host::start_with(broker.address(), |c| {
        c.self_test = Duration::from_secs(2);
    });
    host.up().await;
    broker.freeze().unwrap();
    let why = host.down().await;
    assert!(why.contains("message of our own"), "{why}");
    broker.thaw().unwrap();
    host.up().await;
}

async fn a_killed_broker_is_found_again(broker: &mut Broker) {
    let mut host = Host::start(broker.address());
    host.up().await;
    let guest = Guest::start(broker.address(), "worker");
    let id = host.until("worker", GuestState::Joining).await;
    let run = host.registry.get(id).unwrap().announcement().run.clone();
    broker.kill();
    host.down().await;
    broker.start_again().unwrap();
    while host.next().await != Heard::Up {}
    let before = host.seen.len();
    while host.seen.len() == before {
        host.next().await;
    }
    let said = host.registry.get(id).unwrap().announcement();
    assert_eq!(said.run, run);
    assert!(said.seq > 0);
    guest.stop().await;
    host.until("worker", GuestState::Left).await;
}
