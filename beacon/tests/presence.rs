//! Announcer, broker, subscriber and registry together, and the two clients against scripted brokers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that fails this way has failed as it should"
)]

mod support;

use beacon::broker::{BrokerConfig, BrokerLimits, Role, User};
use beacon::registry::{CheckResult, EventKind, GuestState};
use beacon::subscriber::{Heard, SubscriberConfig, subscribe};
use beacon::{
    Announcer, AnnouncerConfig, Beacon, Credentials, HostPort, LinkConfig, MacId, Registry,
    RegistryConfig, Template, Word,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use support::{PATIENCE, Raw, Running, send};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

fn quick() -> LinkConfig {
    LinkConfig {
        retry_first: Duration::from_millis(20),
        retry_most: Duration::from_millis(200),
        ..Default::default()
    }
}

fn host_port(address: SocketAddr) -> HostPort {
    HostPort::new(address.ip().to_string(), address.port())
}

fn announcer_config(broker: SocketAddr, name: &str) -> AnnouncerConfig {
    let mut template = Template::new(9094, "test 1");
    template.name = Some(name.to_owned());
    template.caps.insert("exec".to_owned(), 1);
    let mut config = AnnouncerConfig::new(template);
    config.broker = Some(host_port(broker));
    config.interval = Duration::from_millis(200);
    config.link = quick();
    config.free = Some(Arc::new(|| Some(12345)));
    config
}

/// A running announcer.
struct Guest {
    token: CancellationToken,
    task: JoinHandle<()>,
}

impl Guest {
    fn start(config: AnnouncerConfig) -> Self {
        let token = CancellationToken::new();
        let task = tokio::spawn(Announcer::new(config).run(token.clone()));
        Self { token, task }
    }

    async fn stop(self) {
        self.token.cancel();
        timeout(PATIENCE, self.task)
            .await
            .expect("the announcer stops")
            .unwrap();
    }
}

/// A subscriber with the registry that it feeds.
struct Host {
    heard: mpsc::Receiver<Heard>,
    registry: Registry,
    token: CancellationToken,
    seen: Vec<Beacon>,
}

impl Host {
    fn start(broker: SocketAddr, change: impl FnOnce(&mut SubscriberConfig)) -> Self {
        let mut config = SubscriberConfig::new(host_port(broker));
        config.link = quick();
        change(&mut config);
        let (sender, heard) = mpsc::channel(16);
        let token = CancellationToken::new();
        tokio::spawn(subscribe(config, sender, token.clone()));
        Self {
            heard,
            registry: Registry::new(RegistryConfig {
                // Guests beat faster here than they may elsewhere.
                announcements_per_second: 100,
                ..RegistryConfig::default()
            }),
            token,
            seen: Vec::new(),
        }
    }

    async fn next(&mut self) -> Heard {
        let heard = timeout(PATIENCE, self.heard.recv())
            .await
            .expect("news in time")
            .expect("news");
        if let Heard::Beacon { beacon, peer } = &heard {
            self.seen.push(beacon.clone());
            self.registry
                .handle(beacon, *peer, Instant::now(), SystemTime::now());
        }
        heard
    }

    async fn up(&mut self) {
        while self.next().await != Heard::Up {}
    }

    async fn down(&mut self) -> String {
        loop {
            if let Heard::Down(why) = self.next().await {
                return why;
            }
        }
    }

    /// Feeds the registry until the guest of that name is in that state; returns its id.
    async fn until(&mut self, name: &str, state: GuestState) -> MacId {
        loop {
            let found = self
                .registry
                .all()
                .find(|guest| guest.name() == name && guest.state() == state);
            if let Some(guest) = found {
                return guest.id();
            }
            self.next().await;
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

#[tokio::test]
async fn a_guest_comes_is_proved_and_leaves() {
    let broker = Running::start(BrokerConfig::default()).await;
    let mut host = Host::start(broker.address, |_| {});
    host.up().await;
    let guest = Guest::start(announcer_config(broker.address, "worker"));
    let id = host.until("worker", GuestState::Joining).await;
    let said = host.registry.get(id).unwrap().announcement().clone();
    assert_eq!(host.seen[0].word, Word::Hello);
    assert_eq!(
        (said.seq, said.port, said.free, said.caps["exec"]),
        (0, 9094, Some(12345), 1)
    );
    assert!(
        said.ip.is_loopback(),
        "the address of the connection to the broker"
    );
    assert_eq!(host.registry.get(id).unwrap().peer(), Some(said.ip));
    let events = host.registry.confirm(
        id,
        &said.boot,
        &said.run,
        CheckResult::Passed,
        Instant::now(),
    );
    assert!(matches!(
        events[0].kind,
        EventKind::State {
            to: GuestState::Ready,
            ..
        }
    ));
    while host.seen.len() < 4 {
        host.next().await;
    }
    assert_eq!(host.registry.get(id).unwrap().state(), GuestState::Ready);
    guest.stop().await;
    host.until("worker", GuestState::Left).await;
    assert_eq!(host.registry.get(id).unwrap().why(), "said BYE: shutdown");
    let numbers: Vec<u64> = host
        .seen
        .iter()
        .map(|beacon| beacon.announcement.as_ref().unwrap().seq)
        .collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    broker.stop().await;
}

#[tokio::test]
async fn servers_on_one_machine_have_ids_of_their_own_and_keep_them() {
    let broker = Running::start(BrokerConfig::default()).await;
    let mut host = Host::start(broker.address, |_| {});
    host.up().await;
    let config = |name: &str, ip: &str| {
        let mut config = announcer_config(broker.address, name);
        config.template.ip = ip.parse().ok();
        config.link.bind = ip.parse().ok();
        config
    };
    let two = Guest::start(config("two", "127.0.0.2"));
    let three = Guest::start(config("three", "127.0.0.3"));
    let id = host.until("two", GuestState::Joining).await;
    assert_ne!(id, host.until("three", GuestState::Joining).await);
    assert_eq!(
        host.registry.get(id).unwrap().peer(),
        "127.0.0.2".parse().ok()
    );
    two.stop().await;
    host.until("two", GuestState::Left).await;
    let again = Guest::start(config("two", "127.0.0.2"));
    assert_eq!(host.until("two", GuestState::Joining).await, id);
    again.stop().await;
    three.stop().await;
}

#[tokio::test]
async fn a_broker_that_starts_again_is_found_by_both_sides() {
    let broker = Running::start(BrokerConfig::default()).await;
    let address = broker.address;
    let mut host = Host::start(address, |_| {});
    host.up().await;
    let guest = Guest::start(announcer_config(address, "worker"));
    let id = host.until("worker", GuestState::Joining).await;
    let run = host.registry.get(id).unwrap().announcement().run.clone();
    broker.stop().await;
    host.down().await;
    let broker = Running::start(BrokerConfig {
        listen: vec![address],
        ..Default::default()
    })
    .await;
    host.up().await;
    let before = host.seen.len();
    while host.seen.len() == before {
        host.next().await;
    }
    let said = host.registry.get(id).unwrap().announcement();
    assert_eq!(said.run, run);
    assert!(said.seq > 0);
    guest.stop().await;
    host.until("worker", GuestState::Left).await;
    broker.stop().await;
}

#[tokio::test]
async fn an_announcer_that_dies_is_told_by_the_broker() {
    let mut broker = Running::start(BrokerConfig::default()).await;
    let mut host = Host::start(broker.address, |_| {});
    host.up().await;
    let guest = Guest::start(announcer_config(broker.address, "worker"));
    let id = host.until("worker", GuestState::Joining).await;
    guest.task.abort();
    let lost = timeout(PATIENCE, broker.lost.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(lost.id, id);
    let events = host.registry.publisher_lost(id, Instant::now());
    assert!(matches!(events[0].kind, EventKind::Probe(_)));
}

#[tokio::test]
async fn wrong_credentials_are_named_and_right_ones_work() {
    let user = |name: &str, role| User {
        name: name.to_owned(),
        passcode: "p".to_owned(),
        role,
    };
    let users = vec![user("host", Role::Agent), user("vm", Role::Guest)];
    let broker = Running::start(BrokerConfig {
        users,
        ..Default::default()
    })
    .await;
    let credentials = |login: &str, passcode: &str| {
        Some(Credentials {
            login: login.to_owned(),
            passcode: passcode.to_owned(),
        })
    };
    let mut wrong = Host::start(broker.address, |c| {
        c.link.credentials = credentials("host", "q")
    });
    assert!(wrong.down().await.contains("refused login or passcode"));
    let mut host = Host::start(broker.address, |c| {
        c.link.credentials = credentials("host", "p")
    });
    host.up().await;
    let mut config = announcer_config(broker.address, "worker");
    config.link.credentials = credentials("vm", "p");
    let guest = Guest::start(config);
    host.until("worker", GuestState::Joining).await;
    guest.stop().await;
}

#[tokio::test]
async fn heart_beats_both_ways_keep_the_connection() {
    let limits = BrokerLimits {
        heart_beat: Duration::from_millis(100),
        ..Default::default()
    };
    let broker = Running::start(BrokerConfig {
        limits,
        ..Default::default()
    })
    .await;
    let beat = Duration::from_millis(200);
    let mut host = Host::start(broker.address, |c| c.link.heart_beat = (beat, beat));
    host.up().await;
    // Longer than the 1.4 s after which either side gives a silent one up.
    let quiet = timeout(Duration::from_secs(3), host.heard.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

#[tokio::test]
async fn nonsense_on_the_topic_is_counted_and_foreign_agents_are_not_heard() {
    let broker = Running::start(BrokerConfig::default()).await;
    let mut host = Host::start(broker.address, |c| c.self_test = Duration::from_millis(50));
    host.up().await;
    let mut raw = Raw::connected(broker.address, "1.2").await;
    // The greatest frame that the broker takes: passing it on must not hurt the subscriber.
    let large = format!(
        "SEND\ndestination:/topic/connections\nx:{}\n\n{}\0",
        "\\c".repeat(4000),
        "x".repeat(65_000)
    );
    raw.send(&large).await;
    raw.send(&send("HELLO {}")).await;
    raw.send(&send("AGENT {\"v\":1}")).await;
    raw.send(&send("WHAT ever")).await;
    assert!(matches!(host.next().await, Heard::Unusable(why) if why.contains("more than 4096")));
    assert!(matches!(host.next().await, Heard::Unusable(why) if why.contains("missing field")));
    assert!(
        matches!(host.next().await, Heard::Beacon { beacon, .. } if beacon.word == Word::Aint("WHAT".to_owned()))
    );
    assert_eq!(host.registry.counters().aint, 1);
}

#[tokio::test]
async fn without_a_broker_the_announcer_still_stops_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let guest = Guest::start(announcer_config(nobody, "worker"));
    tokio::task::yield_now().await;
    let start = Instant::now();
    guest.stop().await;
    assert!(start.elapsed() < Duration::from_secs(1));
}

/// Takes a connection for a scripted broker and returns it after the CONNECT frame, with that frame.
async fn scripted(listener: &TcpListener) -> (Raw, beacon::frame::Frame) {
    let (stream, _) = timeout(PATIENCE, listener.accept())
        .await
        .expect("a client comes")
        .unwrap();
    let mut raw = Raw::over(stream);
    let connect = raw.expect("CONNECT").await;
    (raw, connect)
}

#[tokio::test]
async fn a_broker_that_refuses_is_asked_for_1_1_and_a_fitting_frame_follows() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let guest = Guest::start(announcer_config(listener.local_addr().unwrap(), "worker"));
    let (mut first, connect) = scripted(&listener).await;
    assert_eq!(connect.header("accept-version"), Some("1.1,1.2"));
    assert_eq!(connect.header("host"), Some("/"));
    assert_eq!(connect.header("heart-beat"), Some("0,0"));
    first.send("ERROR\nmessage:no such version\n\n\0").await;
    let (mut second, connect) = scripted(&listener).await;
    assert_eq!(connect.header("accept-version"), Some("1.1"));
    second.send("CONNECTED\nversion:1.1\n\n\0").await;
    let hello = second.expect("SEND").await;
    assert_eq!(hello.header("destination"), Some("/topic/connections"));
    assert_eq!(
        hello.header("content-type"),
        Some("text/plain;charset=utf-8")
    );
    assert!(hello.body.starts_with(b"HELLO {"));
    let receipt = hello.header("receipt").unwrap();
    second
        .send(&format!("RECEIPT\nreceipt-id:{receipt}\n\n\0"))
        .await;
    for number in 1..=6 {
        let next = second.expect("SEND").await;
        assert!(next.body.starts_with(b"STILL_ALIVE {"));
        assert_eq!(
            next.header("receipt").is_some(),
            number == 6,
            "every sixth asks for a receipt"
        );
    }
    guest.token.cancel();
    loop {
        let frame = second.expect("SEND").await;
        if frame.body.starts_with(b"BYE {") {
            let receipt = frame.header("receipt").unwrap();
            second
                .send(&format!("RECEIPT\nreceipt-id:{receipt}\n\n\0"))
                .await;
            break;
        }
    }
    second.expect("DISCONNECT").await;
    guest.stop().await;
}

#[tokio::test]
async fn a_broker_that_gives_no_receipt_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = announcer_config(listener.local_addr().unwrap(), "worker");
    config.interval = Duration::from_secs(100);
    let guest = Guest::start(config);
    let (mut wedged, _) = scripted(&listener).await;
    wedged.send("CONNECTED\nversion:1.2\n\n\0").await;
    wedged.expect("SEND").await;
    // Ten seconds pass at once.
    tokio::time::pause();
    assert_eq!(wedged.next().await, None);
    tokio::time::resume();
    scripted(&listener).await;
    guest.task.abort();
}

#[tokio::test]
async fn a_broker_that_loses_the_agents_own_message_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut host = Host::start(listener.local_addr().unwrap(), |c| {
        c.self_test = Duration::from_millis(300)
    });
    let (mut wedged, _) = scripted(&listener).await;
    wedged.send("CONNECTED\nversion:1.2\n\n\0").await;
    let receipt = wedged
        .expect("SUBSCRIBE")
        .await
        .header("receipt")
        .unwrap()
        .to_owned();
    wedged
        .send(&format!("RECEIPT\nreceipt-id:{receipt}\n\n\0"))
        .await;
    host.up().await;
    let test = wedged.expect("SEND").await;
    assert!(test.body.starts_with(b"AGENT {"));
    assert!(host.down().await.contains("message of our own"));
    assert_eq!(wedged.next().await, None);
}

#[tokio::test]
async fn an_error_from_the_broker_ends_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut host = Host::start(listener.local_addr().unwrap(), |_| {});
    let (mut broken, _) = scripted(&listener).await;
    broken.send("CONNECTED\nversion:1.2\n\n\0").await;
    broken.expect("SUBSCRIBE").await;
    broken.send("RECEIPT\nreceipt-id:subscribed\n\n\0").await;
    host.up().await;
    let long = "\u{1b}[2Jstack trace ".repeat(100);
    broken.send(&format!("ERROR\nmessage:{long}\n\n\0")).await;
    let why = host.down().await;
    assert!(
        why.starts_with("the broker says:") && why.len() < 1500 && !why.contains('\u{1b}'),
        "{why}"
    );
    while broken.next().await.is_some() {}
}

/// What a broker may do to whoever comes to it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Broken {
    /// It accepts and never answers CONNECT.
    Silent,
    /// It refuses the login.
    Refuses,
    /// It sends what is no STOMP.
    Garbage,
    /// It closes after CONNECTED.
    Closes,
}

/// Plays a broken broker to so many connections, and returns how long each came after the one before.
async fn play(broken: Broken, listener: &TcpListener, connections: usize) -> Vec<Duration> {
    let (mut waits, mut last) = (Vec::new(), None::<Instant>);
    let mut open = Vec::new();
    for _ in 0..connections {
        let (mut raw, _) = scripted(listener).await;
        waits.extend(last.map(|at| at.elapsed()));
        last = Some(Instant::now());
        match broken {
            Broken::Silent => {}
            Broken::Refuses => raw.send("ERROR\nmessage:Bad CONNECT\n\n\0").await,
            Broken::Garbage => {
                raw.send("HTTP/1.1 400 Bad Request\r\n\r\n\u{1b}[2J\0")
                    .await
            }
            Broken::Closes => {
                raw.send("CONNECTED\nversion:1.2\n\n\0").await;
                continue;
            }
        }
        open.push(raw);
    }
    waits
}

async fn a_guest_survives(broken: Broken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut config = announcer_config(address, "worker");
    config.link.answer = Duration::from_millis(50);
    let guest = Guest::start(config);
    let waits = play(broken, &listener, 7).await;
    // However long a machine takes for anything: it never came before it should have.
    if broken != Broken::Closes {
        // A broker that closes may do so because of the version: every other attempt is with another one.
        let least = match broken {
            Broken::Refuses => 160,
            _ => 16,
        };
        assert!(
            waits.iter().all(|wait| wait.as_millis() >= least),
            "{waits:?}"
        );
    }
    assert!(!guest.task.is_finished());
    drop(listener);
    let broker = Running::start(BrokerConfig {
        listen: vec![address],
        ..Default::default()
    })
    .await;
    let mut host = Host::start(address, |_| {});
    host.up().await;
    host.until("worker", GuestState::Joining).await;
    guest.stop().await;
    host.until("worker", GuestState::Left).await;
    broker.stop().await;
}

#[tokio::test]
async fn a_guest_survives_a_broker_that_never_answers() {
    a_guest_survives(Broken::Silent).await;
}

#[tokio::test]
async fn a_guest_survives_a_broker_that_refuses_its_login() {
    a_guest_survives(Broken::Refuses).await;
}

#[tokio::test]
async fn a_guest_survives_a_broker_that_sends_garbage() {
    a_guest_survives(Broken::Garbage).await;
}

#[tokio::test]
async fn a_guest_survives_a_broker_that_closes_after_connected() {
    a_guest_survives(Broken::Closes).await;
}

#[tokio::test]
async fn a_new_run_is_announced_on_a_new_connection_before_the_old_one_ends() {
    let broker = Running::start(BrokerConfig::default()).await;
    let mut lost = broker.lost;
    let mut host = Host::start(broker.address, |_| {});
    host.up().await;
    let mut config = announcer_config(broker.address, "worker");
    let runs = tokio::sync::watch::Sender::new("first".to_owned());
    config.runs = Some(runs.subscribe());
    let guest = Guest::start(config);
    let id = host.until("worker", GuestState::Joining).await;
    assert_eq!(host.registry.get(id).unwrap().announcement().run, "first");
    while host.seen.len() < 3 {
        host.next().await;
    }
    runs.send_replace("second".to_owned());
    while host.registry.get(id).unwrap().announcement().run == "first" {
        host.next().await;
    }
    let hello = host.seen.last().unwrap();
    assert_eq!(hello.word, Word::Hello);
    assert_eq!(hello.announcement.as_ref().unwrap().seq, 0);
    let gone = timeout(PATIENCE, lost.recv()).await.unwrap().unwrap();
    assert_eq!(gone.id, id, "the old connection ends");
    drop(runs);
    let before = host.seen.len();
    while host.seen.len() < before + 2 {
        host.next().await;
    }
    assert_eq!(host.seen.last().unwrap().word, Word::StillAlive);
    guest.stop().await;
    host.until("worker", GuestState::Left).await;
}

/// Its end would say that the guest is gone, so it waits for the proof that the new run is known.
#[tokio::test]
async fn the_connection_of_a_former_run_stays_until_the_new_one_is_announced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = announcer_config(listener.local_addr().unwrap(), "worker");
    config.interval = Duration::from_secs(100);
    let runs = tokio::sync::watch::Sender::new("first".to_owned());
    config.runs = Some(runs.subscribe());
    let guest = Guest::start(config);
    let announced = async |raw: &mut Raw| {
        raw.send("CONNECTED\nversion:1.2\n\n\0").await;
        let hello = raw.expect("SEND").await;
        let receipt = hello.header("receipt").unwrap();
        raw.send(&format!("RECEIPT\nreceipt-id:{receipt}\n\n\0"))
            .await;
        hello
    };
    let (mut first, _) = scripted(&listener).await;
    announced(&mut first).await;
    runs.send_replace("second".to_owned());
    let (mut second, _) = scripted(&listener).await;
    let open = timeout(Duration::from_millis(100), first.next()).await;
    assert!(open.is_err(), "{open:?}");
    let hello = announced(&mut second).await;
    assert_eq!(hello.header("seq"), Some("0"));
    assert_eq!(first.next().await, None);
    guest.task.abort();
}
