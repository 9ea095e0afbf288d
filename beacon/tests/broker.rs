//! The broker over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that fails this way has failed as it should"
)]

mod support;

use beacon::broker::{BrokerConfig, BrokerLimits, Role, User};
use std::time::Duration;
use support::{PATIENCE, Raw, Running, beacon, send};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

async fn start() -> Running {
    Running::start(BrokerConfig::default()).await
}

fn with_users() -> BrokerConfig {
    let user = |name: &str, role| User {
        name: name.to_owned(),
        passcode: "pass:code".to_owned(),
        role,
    };
    BrokerConfig {
        users: vec![user("agent", Role::Agent), user("guest", Role::Guest)],
        ..Default::default()
    }
}

#[tokio::test]
async fn messages_reach_subscribers_in_every_pair_of_versions() {
    let broker = start().await;
    for from in ["1.0", "1.1", "1.2"] {
        for to in ["1.0", "1.1", "1.2"] {
            let mut subscriber = Raw::connected(broker.address, to).await;
            subscriber
                .sure("SUBSCRIBE\nid:7\ndestination:/topic/a")
                .await;
            let mut publisher = Raw::connected(broker.address, from).await;
            publisher
                .send("SEND\ndestination:/topic/a\nname:x\nname:y\nreceipt:1\nx-peer:9.9.9.9\npasscode:secret\n\nhi\0")
                .await;
            publisher.expect("RECEIPT").await;
            let message = subscriber.expect("MESSAGE").await;
            assert_eq!(message.body, "hi");
            assert_eq!(message.header("subscription"), Some("7"));
            assert_eq!(message.header("name"), Some("x"));
            assert_eq!(message.header("x-peer"), Some("127.0.0.1"));
            assert!(message.header("message-id").is_some());
            for header in ["receipt", "passcode"] {
                assert_eq!(message.header(header), None);
            }
        }
    }
    broker.stop().await;
}

#[tokio::test]
async fn escapes_are_translated_between_versions() {
    let broker = start().await;
    let mut old = Raw::connected(broker.address, "1.0").await;
    old.sure("SUBSCRIBE\ndestination:/topic/connections").await;
    let mut new = Raw::connected(broker.address, "1.2").await;
    new.send("SEND\ndestination:/topic/connections\nid:02\\c00\nevil:a\\n\\nb\n\nx\0")
        .await;
    let message = old.expect("MESSAGE").await;
    assert_eq!(message.header("id"), Some("02:00"));
    assert_eq!(message.header("evil"), Some("a  b"));
    assert_eq!(message.header("subscription"), None);
}

#[tokio::test]
async fn bytes_may_come_one_by_one_or_glued_with_either_line_end() {
    let broker = start().await;
    for line_end in ["\n", "\r\n"] {
        let script = "CONNECT\naccept-version:1.2\nhost:x\n\n\0\n\n\
            SUBSCRIBE\nid:1\ndestination:/topic/a\nreceipt:s\n\n\0\
            SEND\ndestination:/topic/a\n\none\0\n\n\nSEND\ndestination:/topic/a\ncontent-length:3\n\na\0b\0\n\
            DISCONNECT\nreceipt:d\n\n\0"
            .replace('\n', line_end);
        for glued in [true, false] {
            let mut raw = Raw::open(broker.address).await;
            if glued {
                raw.send(&script).await;
            } else {
                raw.drip(&script).await;
            }
            raw.expect("CONNECTED").await;
            assert_eq!(raw.expect("RECEIPT").await.header("receipt-id"), Some("s"));
            assert_eq!(raw.expect("MESSAGE").await.body, "one");
            assert_eq!(raw.expect("MESSAGE").await.body, &b"a\0b"[..]);
            assert_eq!(raw.expect("RECEIPT").await.header("receipt-id"), Some("d"));
            assert_eq!(raw.next().await, None);
        }
    }
}

#[tokio::test]
async fn garbage_is_answered_with_error_and_the_end() {
    let broker = start().await;
    let long_line = format!("CONNECT\nx:{}", "y".repeat(9000));
    let many_headers = format!("CONNECT\n{}\n\0", "a:b\n".repeat(65));
    let long_body = format!("CONNECT\n\n{}", "z".repeat(70_000));
    for (bytes, words) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "not STOMP"),
        ("\u{16}\u{3}\u{1}\u{2}\0", "not STOMP"),
        ("HELLO\n\n\0", "must be CONNECT"),
        ("SEND\ndestination:/topic/a\n\n\0", "must be CONNECT"),
        ("CONNECT\nno colon\n\n\0", "name:value"),
        (&long_line, "longer than 8192"),
        (&many_headers, "more than 64"),
        (&long_body, "longer than 65536"),
        (
            "CONNECT\ncontent-length:99999999999\n\n",
            "longer than 65536",
        ),
        (
            "CONNECT\naccept-version:1.2\nheart-beat:x\n\n\0",
            "heart-beat",
        ),
        (
            "CONNECT\naccept-version:1.2\nheart-beat:-1,0\n\n\0",
            "heart-beat",
        ),
    ] {
        let mut raw = Raw::open(broker.address).await;
        raw.send(bytes).await;
        raw.expect_refused(words).await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn an_unknown_version_is_told_the_known_ones() {
    let broker = start().await;
    let mut raw = Raw::open(broker.address).await;
    raw.send("STOMP\naccept-version:2.0,3.0\nhost:x\n\n\0")
        .await;
    assert_eq!(
        raw.expect("ERROR").await.header("version"),
        Some("1.2,1.1,1.0")
    );
    assert_eq!(raw.next().await, None);
    let mut raw = Raw::open(broker.address).await;
    raw.send("STOMP\naccept-version:1.0,1.1,2.0\nhost:x\n\n\0")
        .await;
    assert_eq!(raw.expect("CONNECTED").await.header("version"), Some("1.1"));
}

#[tokio::test]
async fn wrong_frames_after_connect_are_refused() {
    let broker = start().await;
    for (frame, words) in [
        ("BEGIN\ntransaction:1", "transactions"),
        ("COMMIT\ntransaction:1", "transactions"),
        ("ABORT\ntransaction:1", "transactions"),
        ("SEND\ndestination:/topic/a\ntransaction:1", "transactions"),
        ("CONNECT\naccept-version:1.2", "already connected"),
        ("FROBNICATE", "unknown command FROBNICATE"),
        ("SEND", "needs a destination"),
        ("SUBSCRIBE\nid:1", "needs a destination"),
        ("SUBSCRIBE\ndestination:/topic/a", "needs an id"),
        ("SUBSCRIBE\nid:1\ndestination:/topic/a\nack:never", "ack is"),
        ("UNSUBSCRIBE\nid:1", "no such subscription"),
        ("ACK\nid:1", "needs the id of a message"),
        ("ACK", "needs the id of a message"),
        ("SEND\ndestination:/topic/a\nbad:\\t", "escape"),
    ] {
        let mut raw = Raw::connected(broker.address, "1.2").await;
        raw.send(&format!("{frame}\n\n\0")).await;
        raw.expect_refused(words).await;
    }
}

#[tokio::test]
async fn an_error_names_the_receipt_of_its_frame() {
    let broker = start().await;
    let mut raw = Raw::connected(broker.address, "1.1").await;
    raw.send("BEGIN\ntransaction:1\nreceipt:r7\n\n\0").await;
    assert_eq!(raw.expect("ERROR").await.header("receipt-id"), Some("r7"));
}

#[tokio::test]
async fn acknowledging_works_as_each_version_has_it() {
    let broker = start().await;
    for version in ["1.0", "1.1", "1.2"] {
        let mut raw = Raw::connected(broker.address, version).await;
        raw.sure("SUBSCRIBE\nid:s\ndestination:/topic/a\nack:client-individual")
            .await;
        for command in ["ACK", "NACK"] {
            if (version, command) == ("1.0", "NACK") {
                continue;
            }
            raw.send("SEND\ndestination:/topic/a\n\nx\0").await;
            let message = raw.expect("MESSAGE").await;
            let number = message.header("message-id").unwrap();
            let head = match version {
                "1.2" => format!("{command}\nid:{}", message.header("ack").unwrap()),
                "1.1" => format!("{command}\nmessage-id:{number}\nsubscription:s"),
                _ => format!("{command}\nmessage-id:{number}"),
            };
            raw.sure(&head).await;
        }
    }
}

#[tokio::test]
async fn an_ended_subscription_hears_nothing_more() {
    let broker = start().await;
    let mut raw = Raw::connected(broker.address, "1.2").await;
    raw.sure("SUBSCRIBE\nid:1\ndestination:/topic/a").await;
    raw.sure("SUBSCRIBE\nid:2\ndestination:/topic/b").await;
    raw.sure("UNSUBSCRIBE\nid:1").await;
    raw.send("SEND\ndestination:/topic/a\n\nno\0SEND\ndestination:/topic/b\n\nyes\0")
        .await;
    assert_eq!(raw.expect("MESSAGE").await.body, "yes");
    raw.send("SUBSCRIBE\nid:2\ndestination:/topic/c\n\n\0")
        .await;
    raw.expect_refused("already").await;
}

#[tokio::test]
async fn users_have_passcodes_and_roles() {
    let broker = Running::start(with_users()).await;
    for login in [
        "",
        "login:agent\n",
        "login:agent\npasscode:wrong\n",
        "login:other\npasscode:pass:code\n",
    ] {
        let mut raw = Raw::open(broker.address).await;
        raw.send(&format!("CONNECT\naccept-version:1.2\n{login}\n\0"))
            .await;
        raw.expect_refused("Bad CONNECT").await;
    }
    let connect = |login: &str| {
        format!("CONNECT\naccept-version:1.2\nlogin:{login}\npasscode:pass:code\n\n\0")
    };
    for (frame, words) in [
        (
            "SEND\ndestination:/topic/other",
            "may only send to /topic/connections",
        ),
        (
            "SUBSCRIBE\nid:1\ndestination:/topic/connections",
            "access_refused",
        ),
        ("ACK\nid:1", "access_refused"),
    ] {
        let mut guest = Raw::open(broker.address).await;
        guest.send(&connect("guest")).await;
        guest.expect("CONNECTED").await;
        guest.sure("SEND\ndestination:/topic/connections").await;
        guest.send(&format!("{frame}\n\n\0")).await;
        guest.expect_refused(words).await;
    }
    let mut agent = Raw::open(broker.address).await;
    // The STOMP command's headers are escaped, those of CONNECT are not.
    agent
        .send("STOMP\naccept-version:1.2\nlogin:agent\npasscode:pass\\ccode\n\n\0")
        .await;
    agent.expect("CONNECTED").await;
    agent
        .sure("SUBSCRIBE\nid:1\ndestination:/topic/connections")
        .await;
}

#[tokio::test]
async fn a_refusal_has_the_escapes_of_the_version_that_was_asked_for() {
    let broker = Running::start(with_users()).await;
    for (ask, want) in [
        ("", "message:Bad CONNECT: wrong"),
        ("accept-version:1.0\n", "message:Bad CONNECT: wrong"),
        ("accept-version:1.1\n", "message:Bad CONNECT\\c wrong"),
        ("accept-version:1.2\n", "message:Bad CONNECT\\c wrong"),
    ] {
        let mut raw = Raw::open(broker.address).await;
        raw.send(&format!("CONNECT\n{ask}login:x\n\n\0")).await;
        let mut said = String::new();
        let read = tokio::io::AsyncReadExt::read_to_string(&mut raw.stream, &mut said);
        timeout(PATIENCE, read).await.unwrap().unwrap();
        assert!(said.contains(want), "{ask:?}: {said}");
    }
    broker.stop().await;
}

#[tokio::test]
async fn whoever_does_not_connect_in_time_is_told_and_closed() {
    let limits = BrokerLimits {
        connect: Duration::from_millis(300),
        ..Default::default()
    };
    let broker = Running::start(BrokerConfig {
        limits,
        ..Default::default()
    })
    .await;
    let mut silent = Raw::open(broker.address).await;
    let mut slow = Raw::open(broker.address).await;
    slow.send("CONNECT\naccept-ver").await;
    silent.expect_refused("no CONNECT").await;
    slow.expect_refused("no CONNECT").await;
}

#[tokio::test]
async fn heart_beats_are_sent_and_their_absence_ends_the_connection() {
    let limits = BrokerLimits {
        heart_beat: Duration::from_millis(100),
        ..Default::default()
    };
    let broker = Running::start(BrokerConfig {
        limits,
        ..Default::default()
    })
    .await;
    let mut raw = Raw::open(broker.address).await;
    raw.send("CONNECT\naccept-version:1.2\nheart-beat:100,200\n\n\0")
        .await;
    assert_eq!(
        raw.expect("CONNECTED").await.header("heart-beat"),
        Some("100,100")
    );
    let start = Instant::now();
    let mut beats = 0;
    let mut byte = [0];
    // Silent from here on: dead after twice 100 ms and 1 s; until then a beat at least every 200 ms.
    while tokio::io::AsyncReadExt::read_exact(&mut raw.stream, &mut byte)
        .await
        .is_ok()
        && byte == *b"\n"
    {
        beats += 1;
    }
    assert_eq!(byte, *b"E", "an ERROR follows the beats");
    assert!(beats >= 5, "{beats} beats");
    let lived = start.elapsed();
    let expected = Duration::from_millis(1150)..Duration::from_secs(8);
    assert!(expected.contains(&lived), "{lived:?}");
}

#[tokio::test]
async fn whoever_beats_stays_and_one_who_promises_nothing_too() {
    let limits = BrokerLimits {
        heart_beat: Duration::from_millis(100),
        ..Default::default()
    };
    let broker = Running::start(BrokerConfig {
        limits,
        ..Default::default()
    })
    .await;
    let mut quiet = Raw::connected(broker.address, "1.2").await;
    let mut beating = Raw::open(broker.address).await;
    beating
        .send("CONNECT\naccept-version:1.2\nheart-beat:300,0\n\n\0")
        .await;
    beating.expect("CONNECTED").await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2200) {
        beating.send("\n").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    beating.sure("SEND\ndestination:/topic/a").await;
    quiet.sure("SEND\ndestination:/topic/a").await;
}

#[tokio::test]
async fn a_slow_subscriber_gets_the_newest_presence_of_each_guest() {
    let limits = BrokerLimits {
        unsent: 20_000,
        ..Default::default()
    };
    let broker = Running::start(BrokerConfig {
        limits,
        ..Default::default()
    })
    .await;
    let mut slow = Raw::open_narrow(broker.address).await;
    slow.send("CONNECT\naccept-version:1.2\n\n\0").await;
    slow.expect("CONNECTED").await;
    slow.sure("SUBSCRIBE\nid:1\ndestination:/topic/connections")
        .await;
    let mut publisher = Raw::connected(broker.address, "1.2").await;
    // More than any socket buffer of the broker's side holds, many frames in each write.
    let rounds = 40_000;
    let mut text = String::new();
    for seq in 0..rounds {
        let guest = 1 + u8::try_from(seq % 3).unwrap();
        text.push_str(&send(&beacon("STILL_ALIVE", guest, seq)));
        if text.len() > 64 * 1024 || seq + 1 == rounds {
            publisher.send(&std::mem::take(&mut text)).await;
        }
    }
    publisher.sure("SEND\ndestination:/topic/x").await;
    let (mut count, mut last) = (0, [0; 3]);
    while last.iter().min() < Some(&(rounds - 3)) {
        let frame = slow.expect("MESSAGE").await;
        let text = std::str::from_utf8(&frame.body).unwrap();
        let (_, json) = text.split_once(' ').unwrap();
        let seq = serde_json::from_str::<serde_json::Value>(json).unwrap()["seq"]
            .as_u64()
            .unwrap();
        let guest = usize::try_from(seq % 3).unwrap();
        assert!(last[guest] <= seq, "a guest's messages stay in order");
        last[guest] = seq;
        count += 1;
    }
    assert!(count < rounds, "some were conflated");
}

#[tokio::test]
async fn a_slow_subscriber_of_anything_else_is_ended_with_error() {
    let broker = start().await;
    let mut slow = Raw::open_narrow(broker.address).await;
    slow.send("CONNECT\naccept-version:1.2\n\n\0").await;
    slow.expect("CONNECTED").await;
    slow.sure("SUBSCRIBE\nid:1\ndestination:/topic/a").await;
    let mut publisher = Raw::connected(broker.address, "1.2").await;
    let text = format!("SEND\ndestination:/topic/a\n\n{}\0", "x".repeat(60_000));
    for _ in 0..200 {
        publisher.send(&text).await;
    }
    publisher.sure("SEND\ndestination:/topic/x").await;
    let error = loop {
        let frame = slow.next().await.expect("an ERROR before the end");
        if frame.command != "MESSAGE" {
            break frame;
        }
    };
    assert!(error.header("message").unwrap().contains("slow subscriber"));
    assert_eq!(slow.next().await, None);
}

#[tokio::test]
async fn a_lost_publisher_is_told_and_one_that_said_bye_is_not() {
    let mut broker = start().await;
    let mut polite = Raw::connected(broker.address, "1.2").await;
    polite.send(&send(&beacon("HELLO", 1, 0))).await;
    polite.send(&send(&beacon("BYE", 1, 1))).await;
    polite.sure("DISCONNECT").await;
    drop(polite);
    let mut closed = Raw::connected(broker.address, "1.2").await;
    closed.send(&send(&beacon("HELLO", 2, 0))).await;
    closed.sure("SEND\ndestination:/topic/x").await;
    drop(closed);
    let lost = timeout(PATIENCE, broker.lost.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(lost.id.to_string(), "02:00:00:00:00:02");
    let mut reset = Raw::connected(broker.address, "1.2").await;
    reset.send(&send(&beacon("STILL_ALIVE", 3, 0))).await;
    reset.sure("SEND\ndestination:/topic/x").await;
    reset.stream.set_zero_linger().unwrap();
    drop(reset);
    let lost = timeout(PATIENCE, broker.lost.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(lost.id.to_string(), "02:00:00:00:00:03");
    assert_eq!(lost.peer.ip().to_string(), "127.0.0.1");
    broker.stop().await;
}

#[tokio::test]
async fn connections_over_the_limit_are_refused_and_places_come_free_again() {
    let limits = BrokerLimits {
        connections: 1,
        ..Default::default()
    };
    let broker = Running::start(BrokerConfig {
        limits,
        ..Default::default()
    })
    .await;
    let first = Raw::connected(broker.address, "1.2").await;
    Raw::open(broker.address)
        .await
        .expect_refused("too many connections")
        .await;
    drop(first);
    let free = async {
        loop {
            let mut raw = Raw::open(broker.address).await;
            let _ = raw
                .stream
                .write_all(b"CONNECT\naccept-version:1.2\n\n\0")
                .await;
            if raw
                .next()
                .await
                .is_some_and(|frame| frame.command == "CONNECTED")
            {
                return;
            }
        }
    };
    timeout(PATIENCE, free).await.expect("the place comes free");
}
