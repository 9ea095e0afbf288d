//! What the agent says of guests is what is so: through restarts, deaths, frozen guests, cut networks and
//! brokers that misbehave.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of tests that fails this way has failed as it should"
)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use common::{Agent, Guest, Lines, Process, wait_for};
use rustix::process::Signal;
use serde_json::Value;

/// Its beacons come once a minute, and its broker is gone: what the new agent knows, it was not told.
#[test]
fn an_agent_that_starts_again_knows_its_guests_at_once() {
    let mut agent = Agent::start_with("vm_gc_grace = 200\n");
    let rare = Guest::spawn_beating(&agent, "rare", "60", &["--exec"]);
    let before = agent.wait_state("rare", "ready");
    let file = agent.directory.path().join("agent.sock.guests");
    wait_for("the guests to be written down", || {
        let text = std::fs::read_to_string(&file).ok()?;
        text.contains(before["run"].as_str()?).then_some(())
    });
    agent.process.signal(Signal::KILL);
    agent.process.code();
    agent.restart();
    let after = agent.wait_state("rare", "ready");
    assert_eq!(before["run"], after["run"]);
    for field in ["first_seen", "last_beacon"] {
        let time = |guest: &Value| guest[field].as_f64().unwrap();
        // The last digits do not survive being written and read.
        let apart = (time(&before) - time(&after)).abs();
        assert!(apart < 0.001, "{field}: {before} {after}");
    }
    assert!(agent.log().contains("known from before"), "{}", agent.log());
    agent.run(&["exec", "--to", "rare", "--", "true"]).expect(0);

    // One that ends while no agent looks is known too, until its grace is over.
    agent.process.signal(Signal::TERM);
    assert_eq!(agent.process.code(), Some(0));
    drop(rare);
    agent.restart();
    let ended = wait_for("the outcome of a check", || {
        agent.guest("rare").filter(|guest| {
            guest["why"]
                .as_str()
                .is_some_and(|why| why.contains("connect"))
        })
    });
    assert_eq!(ended["state"], "joining", "{ended}");
}

#[test]
fn a_damaged_snapshot_is_told_and_does_not_stop_the_agent() {
    let mut agent = Agent::start();
    agent.process.signal(Signal::TERM);
    agent.process.code();
    std::fs::write(agent.directory.path().join("agent.sock.guests"), "{\"v\":1").unwrap();
    agent.restart();
    assert!(agent.log().contains("snapshot.unusable"), "{}", agent.log());
    let _guest = Guest::start(&agent, "new");
    wait_for("a whole snapshot", || {
        let text =
            std::fs::read_to_string(agent.directory.path().join("agent.sock.guests")).ok()?;
        text.contains("\"new\"").then_some(())
    });
}

#[test]
fn wait_ends_when_enough_guests_are_ready_and_says_what_is_missing() {
    let agent = Agent::start();
    let over = agent
        .run(&["wait", "--ready", "one", "--timeout", "0.2"])
        .expect(5);
    assert!(
        over.err.contains("no guest matches \"one\""),
        "{}",
        over.err
    );
    let mut waiting = Process(
        agent
            .command(&["wait", "--ready", "one,two", "--count", "2"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let _two = Guest::start(&agent, "two");
    let only = agent.run(&["wait", "--ready", "*"]).expect(0);
    assert_eq!(only.out, "two\n");
    assert!(
        waiting.0.try_wait().unwrap().is_none(),
        "one of two is not enough"
    );
    let _one = Guest::spawn(&agent, "one", &["--exec"]);
    assert_eq!(waiting.code(), Some(0));
    let mut names = String::new();
    waiting
        .0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut names)
        .unwrap();
    assert_eq!(names, "one\ntwo\n");

    let _files = Guest::spawn(&agent, "files", &[]);
    wait_for("the reason", || {
        let why = agent.guest("files")?["why"].as_str()?.to_owned();
        why.contains("--exec").then_some(())
    });
    let over = agent
        .run(&[
            "wait",
            "--ready",
            "name:*",
            "--count",
            "3",
            "--timeout",
            "0.2",
        ])
        .expect(5);
    for words in ["2 of 3 guests", "files is joining: runs no programs"] {
        assert!(over.err.contains(words), "{words}: {}", over.err);
    }
    let json = agent
        .run(&["wait", "--json", "--ready", "one"])
        .expect(0)
        .out;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["name"], "one");
    agent.run(&["wait", "--ready", "["]).expect(2);
    agent
        .run(&["wait", "--ready", "a", "--timeout", "never"])
        .expect(2);
}

#[test]
fn a_wait_whose_agent_stops_says_so() {
    let agent = Agent::start();
    let mut waiting = Process(
        agent
            .command(&["wait", "--ready", "nobody"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    wait_for("the wait to listen", || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", waiting.0.id())).ok()?;
        // The socket of the stream is the last thing that it opens.
        open.flatten()
            .filter_map(|fd| std::fs::read_link(fd.path()).ok())
            .any(|target| target.to_string_lossy().starts_with("socket:"))
            .then_some(())
    });
    agent.process.signal(Signal::TERM);
    assert_eq!(waiting.code(), Some(4));
}

#[test]
fn events_are_a_stream_of_changes_of_the_guests_that_match() {
    let agent = Agent::start();
    let mut events = Process(
        agent
            .command(&["events", "--json", "--to", "name:seen"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let lines = Lines::of(events.0.stdout.take().unwrap());
    let first = lines.find("the guests", |_| true);
    assert_eq!(
        serde_json::from_str::<Value>(&first).unwrap(),
        serde_json::json!({"event": "snapshot", "guests": []})
    );
    let _unseen = Guest::start(&agent, "unseen");
    let seen = Guest::start(&agent, "seen");
    drop(seen);
    for to in ["joining", "ready", "left"] {
        let line = lines.find(to, |line| line.contains("\"event\":\"guest.state\""));
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&line["event"], &line["to"]),
            (&"guest.state".into(), &to.into())
        );
        assert_eq!(line["guest"]["name"], "seen");
        assert!(!line["why"].as_str().unwrap().is_empty());
    }
    // Who left is told of for a while, if asked for.
    assert_eq!(agent.run(&["guests"]).expect(0).out.lines().count(), 2);
    let all = agent.run(&["guests", "--all"]).expect(0).out;
    assert!(all.contains("said BYE: shutdown"), "{all}");
    let words = agent
        .run(&["guests", "--all", "--json", "--to", "seen"])
        .expect(0)
        .out;
    assert_eq!(
        serde_json::from_str::<Value>(&words).unwrap()[0]["state"],
        "left"
    );
}

/// Says words to the embedded broker as a guest of the original system does: no object, two headers.
fn old_guest(agent: &Agent, word: &str, more: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&agent.broker).unwrap();
    write!(
        stream,
        "CONNECT\n\n\0SEND\ndestination:/topic/connections\nid:08:00:27:aa:bb:cc\nip:127.0.0.1\n{more}\n{word}\0"
    )
    .unwrap();
    stream
}

#[test]
fn a_guest_of_the_original_system_shows_up_and_its_nonsense_is_counted() {
    let agent = Agent::start();
    let _stream = old_guest(&agent, "HELLO", "port:9\nname:elder\n");
    let elder = wait_for("the guest", || agent.guest("elder"));
    assert_eq!(elder["id"], "08:00:27:AA:BB:CC");
    assert_eq!(elder["state"], "joining");
    for _ in 0..3 {
        drop(old_guest(&agent, "AINT nothing", ""));
    }
    drop(old_guest(&agent, "HELLO {\"v\":1", ""));
    wait_for("the counts", || {
        let counters = agent.get("/agent")?["counters"].clone();
        (counters["aint"] == 3 && counters["unusable"] == 1).then_some(())
    });
    // Whichever of them comes first is logged, once for their sender.
    let log = agent.log();
    let lines = log.matches("word.unknown").count() + log.matches("message dropped").count();
    assert_eq!(lines, 1, "{log}");
    let _bye = old_guest(&agent, "BYE", "port:9\nname:elder\n");
    wait_for("its end", || agent.guest("elder").is_none().then_some(()));
}

/// One of the original system at whose address a server of ours answers: seen, never trusted, no suspect.
#[test]
fn a_guest_without_ids_is_not_ready_and_says_why() {
    let agent = Agent::start();
    let real = Guest::start(&agent, "real");
    let port = agent.guest("real").unwrap()["port"].clone();
    let _stream = old_guest(&agent, "STILL_ALIVE", &format!("port:{port}\nname:elder\n"));
    let elder = wait_for("the reason", || {
        agent.guest("elder").filter(|guest| {
            guest["why"]
                .as_str()
                .is_some_and(|why| why.contains("no boot and run ids"))
        })
    });
    assert_eq!(
        (&elder["state"], &elder["suspect"]),
        (&"joining".into(), &false.into())
    );
    drop(real);
}
