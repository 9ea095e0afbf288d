//! What the agent says of guests is what is so: through restarts, deaths, frozen guests, cut networks and
//! brokers that misbehave.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of tests that fails this way has failed as it should"
)]

mod common;
#[path = "../../chirp-client/tests/support/terminal.rs"]
#[allow(dead_code, reason = "this uses a part of it")]
mod terminal;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use common::{Agent, Guest, Lines, PATIENCE as LIMIT, Process, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use terminal::Terminal;

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

#[test]
fn a_guest_with_a_wrong_passcode_is_never_known_and_both_sides_say_why() {
    let agent = Agent::start_from(
        "[EmbeddedBroker]\nlisten_port = 0\nusers =\n  guest vm right-passcode\n[Host]\nvm_gc_grace = 60\n",
    );
    let wrong = Guest::with_account(&agent, "wrong", "vm", "wrong-passcode");
    let nobody = Guest::spawn(&agent, "nobody", &["--exec"]);
    for guest in [&wrong, &nobody] {
        wait_for("a refusal in the guest's log", || {
            guest
                .log()
                .contains("refused login or passcode")
                .then_some(())
        });
    }
    let right = Guest::with_account(&agent, "right", "vm", "right-passcode");
    agent.wait_state("right", "ready");
    for guest in ["wrong", "nobody"] {
        assert!(agent.guest(guest).is_none(), "{guest}");
    }
    let log = agent.log();
    assert!(
        log.contains("broker.refused") && log.contains("127.0.0.1"),
        "{log}"
    );
    for text in [&log, &wrong.log(), &nobody.log(), &right.log()] {
        assert!(!text.contains("-passcode"), "{text}");
    }
    // An account of guests hears nothing, and says nothing but presence.
    let mut stream = TcpStream::connect(&agent.broker).unwrap();
    let frames = "CONNECT\naccept-version:1.2\nhost:x\nlogin:vm\npasscode:right-passcode\n\n\0\
                  SUBSCRIBE\nid:1\ndestination:/topic/connections\n\n\0";
    stream.write_all(frames.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("access_refused"), "{answer}");
}

/// Somebody else says, again and again, that the guest's id is theirs.
#[test]
fn two_guests_with_one_id_are_suspect_and_get_no_work_until_one_is_left() {
    let agent = Agent::start();
    let _worker = Guest::start(&agent, "worker");
    let worker = agent.guest("worker").unwrap();
    let text = |field: &str| worker[field].as_str().unwrap().to_owned();
    let mut stream = TcpStream::connect(&agent.broker).unwrap();
    stream
        .write_all(b"CONNECT\naccept-version:1.2\nhost:x\n\n\0")
        .unwrap();
    let mut claim = |seq: u64| {
        let body = format!(
            "STILL_ALIVE {{\"id\":\"{}\",\"name\":\"worker\",\"ip\":\"127.0.0.9\",\"port\":9,\"boot\":\"{}\",\
             \"run\":\"another\",\"seq\":{seq},\"interval\":1}}",
            text("id"),
            text("boot")
        );
        let length = body.len();
        write!(
            stream,
            "SEND\ndestination:/topic/connections\ncontent-length:{length}\n\n{body}\0"
        )
        .unwrap();
    };
    let mut seq = 0;
    let suspect = wait_for("the suspicion", || {
        claim(seq);
        seq += 1;
        std::thread::sleep(std::time::Duration::from_millis(300));
        agent
            .guest("worker")
            .filter(|guest| guest["suspect"] == true)
    });
    assert_ne!(suspect["state"], "ready", "{suspect}");
    agent
        .run(&["exec", "--to", "worker", "--", "true"])
        .expect(3);
    let log = agent.log();
    assert!(
        log.contains("guest.suspect") && log.contains("two guests claim this id"),
        "{log}"
    );
    // The other one is heard no more.
    let cleared = wait_for("trust", || {
        agent
            .guest("worker")
            .filter(|guest| guest["suspect"] == false && guest["state"] == "ready")
    });
    assert_eq!(cleared["run"], worker["run"]);
    agent
        .run(&["exec", "--to", "worker", "--", "true"])
        .expect(0);
}

/// Its address is one that only another side of a translation knows.
#[test]
fn a_guest_that_is_heard_from_another_address_is_shown_and_proved_all_the_same() {
    let agent = Agent::start();
    let plain = Guest::start(&agent, "plain");
    let port = agent.guest("plain").unwrap()["port"].clone();
    assert_eq!(agent.guest("plain").unwrap()["elsewhere"], false);
    drop(plain);
    let more = ["--exec", "-I", "127.0.0.7", "-p", &port.to_string()];
    let _behind = Guest::spawn(&agent, "behind", &more);
    let behind = agent.wait_state("behind", "ready");
    assert_eq!(
        (&behind["elsewhere"], &behind["address"], &behind["peer"]),
        (&true.into(), &"127.0.0.7".into(), &"127.0.0.1".into())
    );
    let list = agent.run(&["guests"]).expect(0).out;
    assert!(list.contains("ready, from 127.0.0.1"), "{list}");
    assert_eq!(
        agent.log().matches("guest.elsewhere").count(),
        1,
        "{}",
        agent.log()
    );
}

/// As a restore does, SIGUSR1 makes a new run of the same guest, which is proved anew.
#[test]
fn a_restored_guest_is_ready_again_with_another_run() {
    let agent = Agent::start();
    let guest = Guest::start(&agent, "worker");
    let before = agent.guest("worker").unwrap();
    guest.process.signal(Signal::USR1);
    let after = wait_for("the new run", || {
        agent
            .guest("worker")
            .filter(|guest| guest["run"] != before["run"] && guest["state"] == "ready")
    });
    for field in ["id", "boot", "first_seen"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    agent
        .run(&["exec", "--to", "worker", "--", "true"])
        .expect(0);
    let log = agent.log();
    assert!(log.contains("its machine was restored"), "{log}");
    assert!(
        !log.contains("guest.late") && !log.contains("guest.gone"),
        "{log}"
    );
}

#[test]
fn a_watch_at_a_terminal_shows_the_guests_as_they_are() {
    let agent = Agent::start();
    let (mut terminal, side) = Terminal::open();
    let mut watch = Process(
        agent
            .command(&["guests", "--watch", "--to", "!other"])
            .env("TERM", "xterm")
            .stdout(side)
            .spawn()
            .unwrap(),
    );
    terminal.wait_for(&["no guests"]);
    let guest = Guest::start(&agent, "worker");
    let _other = Guest::start(&agent, "other");
    terminal.wait_for(&["worker", "ready"]);
    terminal.clear();
    drop(guest);
    terminal.wait_for(&["\u{1b}[H", "no guests"]);
    assert!(!terminal.text().contains("other"), "{}", terminal.text());
    agent.process.signal(Signal::TERM);
    assert_eq!(watch.code(), Some(4));
}
