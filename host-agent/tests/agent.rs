//! The agent as a process: its settings, its socket, what it says of guests that come and go.

mod common;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use common::{Agent, Guest, Lines, NOBODY, Process, host_agent, is_root, wait_for};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn without_an_agent_commands_say_so_and_how_to_start_one() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    for command in [
        &["guests"][..],
        &["exec", "--to", "*", "--", "true"],
        &["push", "--to", "*", "a", "/b"],
        &["pull", "--from", "a", "/b", "c"],
    ] {
        let output = host_agent()
            .arg(command[0])
            .arg("--socket")
            .arg(&socket)
            .args(&command[1..])
            .output();
        let output = output.unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{command:?}: {err}");
        assert!(
            err.contains("host-agent serve") && err.contains("none.sock"),
            "{command:?}: {err}"
        );
    }
}

#[test]
fn bad_settings_are_told_and_odd_ones_warned_about() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.ini");
    for (text, word) in [
        ("[Broker\n", "a.ini"),
        ("[Host]\nvm_gc_grace = soon\n", "Host.vm_gc_grace"),
        ("[Broker]\ntls=yes\n", "TLS"),
    ] {
        std::fs::write(&file, text).unwrap();
        let output = host_agent()
            .args(["serve", "--config"])
            .arg(&file)
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains(word), "{err}");
    }
    let agent = Agent::start_with("vm_gc_grase = 1\n");
    assert!(agent.log().contains("vm_gc_grase"), "{}", agent.log());
}

#[test]
fn a_live_agent_is_not_replaced_and_a_dead_one_is() {
    let mut agent = Agent::start();
    let second = host_agent()
        .args(["serve", "--config"])
        .arg(agent.directory.path().join("agent.ini"))
        .arg("--socket")
        .arg(agent.socket())
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{err}");
    assert!(err.contains("another host-agent is running"), "{err}");

    agent.process.signal(Signal::KILL);
    agent.process.code();
    assert!(agent.socket().exists(), "a killed agent leaves its socket");
    agent.restart();
    agent.run(&["guests"]).expect(0);
}

#[test]
fn the_socket_is_the_user_s_own_and_goes_when_the_agent_stops() {
    let mut agent = Agent::start();
    let mode = std::fs::metadata(agent.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    agent.process.signal(Signal::TERM);
    assert_eq!(agent.process.code(), Some(0), "{}", agent.log());
    assert!(!agent.socket().exists());
}

/// Even where somebody opened the socket to everybody. Run as an ordinary user, this can only check that the
/// agent's own user gets in.
#[test]
fn another_user_is_refused_when_run_as_root() {
    let agent = Agent::start();
    agent.run(&["guests"]).expect(0);
    if !is_root() {
        return;
    }
    let directory = agent.directory.path();
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(agent.socket(), PermissionsExt::from_mode(0o666)).unwrap();
    let program = directory.join("host-agent");
    std::fs::copy(env!("CARGO_BIN_EXE_host-agent"), &program).unwrap();
    let output = std::process::Command::new(program)
        .args(["guests", "--socket"])
        .arg(agent.socket())
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(
        agent.log().contains("refused another user"),
        "{}",
        agent.log()
    );
}

#[test]
fn two_guests_are_listed_as_table_and_json() {
    let agent = Agent::start();
    assert_eq!(agent.run(&["guests"]).expect(0).out, "no guests\n");
    let _one = Guest::start(&agent, "one");
    let _two = Guest::start(&agent, "two");
    let table = agent.run(&["guests"]).expect(0).out;
    assert!(table.starts_with("NAME"), "{table}");
    assert_eq!(table.lines().count(), 3, "{table}");
    let json: Value =
        serde_json::from_str(&agent.run(&["guests", "--json"]).expect(0).out).unwrap();
    let guests = json.as_array().unwrap();
    assert_eq!(guests.len(), 2);
    for (guest, name) in guests.iter().zip(["one", "two"]) {
        assert_eq!(guest["name"], name);
        assert_eq!(guest["state"], "ready");
        assert_eq!(guest["address"], "127.0.0.1");
        assert_eq!(guest["features"]["exec"], 1);
        for field in [
            "id",
            "port",
            "since",
            "why",
            "boot",
            "run",
            "version",
            "last_beacon",
        ] {
            assert!(!guest[field].is_null(), "{field}: {guest}");
        }
    }
    let only = agent.run(&["guests", "--json", "--to", "t*"]).expect(0).out;
    assert_eq!(
        serde_json::from_str::<Value>(&only)
            .unwrap()
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let none = agent.run(&["guests", "--to", "three"]).expect(3);
    assert!(none.err.contains("three"), "{}", none.err);
    agent.run(&["guests", "--to", "["]).expect(2);
}

#[test]
fn a_killed_guest_is_seen_at_once_and_a_stopped_one_says_good_bye() {
    let agent = Agent::start();
    let killed = Guest::start(&agent, "killed");
    let stopped = Guest::start(&agent, "stopped");
    let mut watch = Process(
        agent
            .command(&["guests", "--watch", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let lines = Lines::of(watch.0.stdout.take().unwrap());
    lines.find("the guests", |line| {
        line.contains("snapshot") && line.contains("\"killed\"")
    });

    killed.process.signal(Signal::KILL);
    // Long before the harness's grace of a minute is over: the broker saw the connection break, a probe did the rest.
    let late: Value =
        serde_json::from_str(&lines.find("late", |line| line.contains("\"to\":\"late\""))).unwrap();
    assert_eq!(late["guest"]["name"], "killed");
    assert!(
        late["why"].as_str().unwrap().contains("does not answer"),
        "{late}"
    );
    lines.find("gone", |line| line.contains("\"to\":\"gone\""));
    assert_eq!(agent.guest("killed"), None);

    stopped.process.signal(Signal::TERM);
    let left: Value =
        serde_json::from_str(&lines.find("left", |line| line.contains("\"to\":\"left\""))).unwrap();
    assert_eq!(left["guest"]["name"], "stopped");
    assert!(left["why"].as_str().unwrap().contains("BYE"), "{left}");

    for event in [
        "guest.hello",
        "guest.ready",
        "guest.late",
        "guest.gone",
        "guest.left",
    ] {
        assert!(agent.log().contains(event), "{event}: {}", agent.log());
    }
}

#[test]
fn a_frozen_guest_is_late_then_gone_and_comes_back() {
    let agent = Agent::start_with("vm_gc_grace = 1\n");
    let guest = Guest::start(&agent, "sleepy");
    guest.process.signal(Signal::STOP);
    let late = agent.wait_state("sleepy", "late");
    assert!(
        late["why"].as_str().unwrap().contains("no beacon"),
        "{late}"
    );
    wait_for("the frozen guest to be gone", || {
        agent.guest("sleepy").is_none().then_some(())
    });
    guest.process.signal(Signal::CONT);
    agent.wait_state("sleepy", "ready");
}

#[test]
fn a_guest_outlives_its_agent() {
    let mut agent = Agent::start();
    // The agent gets a new port with each start here, so the guest's broker must be named for both.
    let port = agent.broker.rsplit_once(':').unwrap().1.to_owned();
    let settings = format!("[EmbeddedBroker]\nlisten_port = {port}\n[Host]\nvm_gc_grace = 60\n");
    let guest = Guest::start(&agent, "loyal");
    std::fs::write(agent.directory.path().join("agent.ini"), settings).unwrap();
    agent.process.signal(Signal::KILL);
    agent.process.code();
    agent.restart();
    agent.wait_state("loyal", "ready");
    agent
        .run(&["exec", "--to", "loyal", "--", "true"])
        .expect(0);
    drop(guest);
}

/// One agent's broker serves another agent too; when it goes, that one looks for its guests by itself.
#[test]
fn without_the_broker_guests_are_probed() {
    let mut broker = Agent::start();
    let port = broker.broker.rsplit_once(':').unwrap().1.to_owned();
    let mut agent = Agent::start_from(&format!(
        "[EmbeddedBroker]\nenabled = no\n[Broker]\nhost = 127.0.0.1\nport = {port}\n[Host]\nvm_gc_grace = 2\n"
    ));
    agent.broker.clone_from(&broker.broker);
    let stays = Guest::start(&agent, "stays");
    let goes = Guest::start(&agent, "goes");
    let since = agent.guest("stays").unwrap()["since"].clone();
    broker.process.signal(Signal::KILL);
    broker.process.code();
    wait_for("the loss of the broker", || {
        agent
            .get("/agent")
            .filter(|agent| agent["broker_up"] == false)
    });
    goes.process.signal(Signal::KILL);
    wait_for("the dead guest to be gone", || {
        agent.guest("goes").is_none().then_some(())
    });
    // All that time the other was probed, not missed.
    let other = agent.guest("stays").unwrap();
    assert_eq!(
        (&other["state"], &other["since"]),
        (&"ready".into(), &since)
    );

    let settings = format!("[EmbeddedBroker]\nlisten_port = {port}\n");
    std::fs::write(broker.directory.path().join("agent.ini"), settings).unwrap();
    broker.restart();
    wait_for("the broker's return", || {
        agent
            .get("/agent")
            .filter(|agent| agent["broker_up"] == true)
    });
    agent.wait_state("stays", "ready");
    for event in ["broker.down", "broker.up"] {
        assert!(agent.log().contains(event), "{}", agent.log());
    }
    drop(stays);
}

#[test]
fn a_guest_that_runs_no_programs_is_not_ready_and_says_why() {
    let agent = Agent::start();
    let _guest = Guest::spawn(&agent, "files-only", &[]);
    let why = wait_for("the reason", || {
        let guest = agent.guest("files-only")?;
        Some(guest["why"].as_str()?.to_owned()).filter(|why| why.contains("--exec"))
    });
    let refused = agent
        .run(&["exec", "--to", "name:files-only", "--", "true"])
        .expect(3);
    assert!(refused.err.contains(&why), "{}", refused.err);
    agent.run(&["exec", "--to", "*", "--", "true"]).expect(3);
}

/// Somebody announces a guest at an address where another server answers.
#[test]
fn an_announcement_that_another_server_answers_for_is_suspect() {
    let agent = Agent::start();
    let _guest = Guest::start(&agent, "true");
    let real = agent.guest("true").unwrap();
    let mut liar = std::net::TcpStream::connect(&agent.broker).unwrap();
    let object = serde_json::json!({
        "v": 1, "id": "02:00:00:00:00:01", "name": "liar", "ip": real["address"], "port": real["port"],
        "boot": real["boot"], "run": "another", "seq": 0, "interval": 60, "caps": {"exec": 1},
    });
    let body = format!("HELLO {object}");
    write!(
        liar,
        "CONNECT\naccept-version:1.2\nhost:/\n\n\0SEND\ndestination:/topic/connections\ncontent-length:{}\n\n{body}\0",
        body.len()
    )
    .unwrap();
    let claimed = wait_for("the suspicion", || {
        agent.guest("liar").filter(|guest| guest["suspect"] == true)
    });
    assert_eq!(claimed["state"], "joining");
    assert!(
        claimed["why"]
            .as_str()
            .unwrap()
            .contains("another server answers"),
        "{claimed}"
    );
    agent
        .run(&["exec", "--to", "name:liar", "--", "true"])
        .expect(3);
    assert!(agent.log().contains("guest.suspect"));
    assert_eq!(agent.guest("true").unwrap()["state"], "ready");
}
