//! Presence, heard through the embedded broker.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use beacon::{Broker, BrokerConfig};
use rustix::process::Signal;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::common::{PATIENCE, Peer, Place};

/// A broker in this process.
struct Running {
    address: SocketAddr,
    _runtime: Runtime,
}

fn broker(address: SocketAddr) -> Running {
    let runtime = Runtime::new().unwrap();
    let config = BrokerConfig {
        listen: vec![address],
        ..BrokerConfig::default()
    };
    let broker = runtime.block_on(Broker::bind(config)).unwrap();
    let address = broker.local_addrs().unwrap()[0];
    runtime.spawn(broker.run(CancellationToken::new()));
    Running {
        address,
        _runtime: runtime,
    }
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A listener on the presence topic that reads raw frames.
struct Listener {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Listener {
    fn new(broker: &Running) -> Self {
        let mut stream = TcpStream::connect(broker.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(
                b"CONNECT\naccept-version:1.2\nhost:x\n\n\0\
                  SUBSCRIBE\nid:1\ndestination:/topic/connections\nreceipt:r\n\n\0",
            )
            .unwrap();
        let mut listener = Self {
            stream,
            unread: Vec::new(),
        };
        assert!(listener.frame().starts_with("CONNECTED\n"));
        assert!(listener.frame().starts_with("RECEIPT\n"));
        listener
    }

    fn frame(&mut self) -> String {
        loop {
            if let Some(end) = memchr::memchr(0, &self.unread) {
                let frame: Vec<u8> = self.unread.drain(..=end).collect();
                let text = String::from_utf8(frame).unwrap();
                return text.trim_matches(['\n', '\r', '\0']).to_owned();
            }
            let mut chunk = [0; 4096];
            let count = self.stream.read(&mut chunk).expect("a frame in time");
            assert!(count > 0, "the broker went away");
            self.unread.extend_from_slice(&chunk[..count]);
        }
    }

    /// The next message: its word and its object.
    fn hear(&mut self) -> (String, Value) {
        let frame = self.frame();
        let (_, body) = frame.split_once("\n\n").unwrap();
        let (word, object) = body.split_once(' ').unwrap();
        (word.to_owned(), serde_json::from_str(object).unwrap())
    }

    /// Passes over beacons until this word is heard.
    fn hear_word(&mut self, wanted: &str) -> Value {
        loop {
            let (word, object) = self.hear();
            if word == wanted {
                return object;
            }
        }
    }
}

fn announce(broker: &Running) -> String {
    format!("--announce={}", broker.address)
}

#[test]
fn a_server_is_announced_when_it_answers_and_says_goodbye() {
    let broker = broker(any_port());
    let mut listener = Listener::new(&broker);
    let place = Place::new();
    let mut command = crate::common::Server::command(&place);
    command.args([
        &announce(&broker),
        "--name",
        "tester",
        "--exec",
        "--beacon-interval",
        "0.2",
    ]);
    // Heard before the test has looked at the port file: what it says must be true by now.
    let heard = std::thread::spawn(move || {
        let (word, object) = listener.hear();
        assert_eq!(word, "HELLO");
        let port = u16::try_from(object["port"].as_u64().unwrap()).unwrap();
        let mut peer = Peer::try_connect(port, 1).expect("it takes connections");
        peer.login_address();
        peer.send("features\n");
        let features: Value = serde_json::from_slice(&peer.counted().unwrap()).unwrap();
        (listener, object, features)
    });
    let mut server = crate::common::Server::spawn(&place, command);
    let (mut listener, hello, features) = heard.join().unwrap();
    assert_eq!(hello["port"], server.port);
    assert_eq!(hello["ip"], "127.0.0.1");
    assert_eq!(hello["name"], "tester");
    assert_eq!(hello["seq"], 0);
    assert_eq!(
        (&hello["boot"], &hello["run"]),
        (&features["boot"], &features["run"])
    );
    assert_eq!(hello["caps"], features["features"]);
    assert_eq!(hello["ver"], features["server"]);
    let beacon = listener.hear_word("STILL_ALIVE");
    assert_eq!(beacon["id"], hello["id"]);
    assert!(beacon["seq"].as_u64() > Some(0));
    server.signal(Signal::TERM);
    let bye = listener.hear_word("BYE");
    assert_eq!(bye["run"], hello["run"]);
    assert!(bye["reason"].is_string(), "{bye}");
    assert_eq!(server.wait().code(), Some(0));
    // Another start is another run of the same guest.
    let server = place.serve(&[&announce(&broker), "-p", &server.port.to_string()]);
    let again = listener.hear_word("HELLO");
    assert_ne!(again["run"], hello["run"]);
    assert_eq!(again["boot"], hello["boot"]);
    drop(server);
}

#[test]
fn a_fresh_tree_lets_the_host_in_and_an_existing_list_is_not_touched() {
    let broker = broker(any_port());
    let announce = announce(&broker);
    let first_list = |args: &[&str]| {
        let place = Place::new();
        let server = place.serve(args);
        let list = std::fs::read_to_string(place.host(".__acl")).unwrap();
        (list.replace(&place.user, "USER"), server.log())
    };
    let (list, log) = first_list(&[&announce]);
    assert_eq!(list, "unix:USER rwlda\naddress:127.0.0.1 rwldax\n");
    assert!(
        log.contains("address:127.0.0.1 rwldax"),
        "the log says so: {log}"
    );
    let (list, _) = first_list(&[&announce, "--host-rights", "none"]);
    assert_eq!(list, "unix:USER rwlda\n");
    let (list, _) = first_list(&[&announce, "--host-rights", "rl", "--exec"]);
    assert_eq!(list, "unix:USER rwldax\naddress:127.0.0.1 rl\n");
    let (list, _) = first_list(&["--host-rights", "rl"]);
    assert_eq!(
        list, "unix:USER rwlda\n",
        "without --announce nobody is the host"
    );
    let place = Place::new();
    place.write(".__acl", "unix:somebody rl\n");
    let server = place.serve(&[&announce]);
    let list = std::fs::read_to_string(place.host(".__acl")).unwrap();
    assert_eq!(list, "unix:somebody rl\n");
    server.guest(1).expect("getdir /\n", "-2\n");
}

#[test]
fn an_absent_broker_stops_nothing_and_is_found_when_it_comes() {
    let free = TcpListener::bind(any_port()).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let place = Place::new();
    let mut server = place.serve(&[&format!("--announce={address}"), "--beacon-interval", "0.2"]);
    server.owner().expect("whoami 4\n", "4\nunix");
    let broker = broker(address);
    let mut listener = Listener::new(&broker);
    let (_, object) = listener.hear();
    assert_eq!(object["port"], server.port);
    drop(broker);
    server.owner().expect("whoami 4\n", "4\nunix");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

/// Returns whether an execution runs.
fn runs(peer: &mut Peer, id: &str) -> bool {
    peer.send(format!("exec_status {id}\n"));
    let status: Value = serde_json::from_slice(&peer.counted().unwrap()).unwrap();
    status["state"] == "running"
}

#[test]
fn a_restored_machine_begins_a_new_run_and_its_programs_go_on() {
    let broker = broker(any_port());
    let mut listener = Listener::new(&broker);
    let place = Place::new();
    let mut server = place.serve(&[&announce(&broker), "--exec", "--beacon-interval", "60"]);
    let before = listener.hear_word("HELLO");
    let mut attached = server.owner();
    let request = r#"{"cmd":"sleep","args":["100"],"on_disconnect":"kill"}"#;
    attached.send(format!("exec {}\n{request}", request.len()));
    let id = attached.line();
    assert!(id.parse::<u64>().is_ok(), "{id}");
    let mut idle = server.owner();
    assert!(runs(&mut idle, &id));

    server.signal(Signal::USR1);
    let after = listener.hear_word("HELLO");
    for field in ["id", "boot", "name", "port"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_ne!(after["run"], before["run"]);
    assert_eq!(after["seq"], 0, "the new run is counted anew");
    idle.read_end();
    attached.rest();
    let mut new = server.owner();
    new.send("features\n");
    let features: Value = serde_json::from_slice(&new.counted().unwrap()).unwrap();
    assert_eq!(features["run"], after["run"]);
    assert!(runs(&mut new, &id), "programs go on");
    let log = server.log();
    let told = log
        .matches("may have been restored from a snapshot")
        .count();
    assert_eq!(told, 1, "{log}");
    server.signal(Signal::TERM);
    assert_eq!(listener.hear_word("BYE")["run"], after["run"]);
    assert_eq!(server.wait().code(), Some(0));
}

/// A settings file of the place, for the server's own user alone.
fn settings(place: &Place, text: &str) -> String {
    let path = place.base("guest.ini");
    std::fs::write(&path, text).unwrap();
    place.give(&path);
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, closed).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_settings_file_says_what_the_command_line_and_the_environment_do_not() {
    let broker = broker(any_port());
    let mut listener = Listener::new(&broker);
    let place = Place::new();
    let file = settings(
        &place,
        &format!(
            "[Broker]\nhost = 127.0.0.1\nport = {}\npassword = never-shown\n\
             [VM]\nname = of-the-file\nadvertise = 192.0.2.7:9100\nbeacon_interval = 61\n\
             network_interface = lo\nbecaon_interval = 5\n[Host]\nvm_gc_grace = 5\n",
            broker.address.port()
        ),
    );
    let mut command = crate::common::Server::command(&place);
    command
        .args(["--config", &file, "--announce", "--beacon-interval", "62"])
        .env("CHIRP_SERVER_VM_NAME", "of-the-environment");
    let server = crate::common::Server::spawn(&place, command);
    let hello = listener.hear_word("HELLO");
    assert_eq!(hello["name"], "of-the-environment");
    assert_eq!(
        (&hello["ip"], &hello["port"]),
        (&"192.0.2.7".into(), &9100.into())
    );
    assert_eq!(hello["interval"].as_f64(), Some(62.0));
    let log = server.log();
    assert!(log.contains("[vm] becaon_interval is unknown"), "{log}");
    assert!(
        !log.contains("vm_gc_grace") && !log.contains("never-shown"),
        "{log}"
    );
}

#[test]
fn a_settings_file_names_the_directory_and_a_broken_one_is_refused() {
    let place = Place::new();
    let root = place.base("root");
    let file = settings(
        &place,
        &format!("[VM]\ndir_to_serve = file://{}\n", root.display()),
    );
    // As `Server::command`, without -r.
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_chirp-server"));
    command.arg("-y").arg(place.base("transient"));
    command.arg("-c").arg(place.base("challenge"));
    command.arg("-Z").arg(place.base("port"));
    command.args(["-I", "127.0.0.1", "--config", &file]);
    if crate::common::is_root() {
        command.args(["-i", &place.user]);
    }
    place.write("here", "x");
    let server = crate::common::Server::spawn(&place, command);
    assert_eq!(server.owner().list("/"), [b"here"]);
    for (text, words) in [
        ("[VM]\nbeacon_interval = soon\n", "VM.beacon_interval"),
        ("[Broker]\ntls = yes\n", "TLS to the broker"),
        ("[VM\n", "guest.ini"),
    ] {
        let file = settings(&place, text);
        let mut command = crate::common::Server::command(&place);
        command.args(["--config", &file]);
        let refusal = crate::common::refusal(command);
        assert!(refusal.contains(words), "{refusal}");
    }
}

/// Plays a broken broker to so many connections, one after another, and gives them back open.
fn play(listener: TcpListener, connections: usize, answer: &'static [u8]) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..connections {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut connect = Vec::new();
        while connect.last() != Some(&0) {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a CONNECT frame");
            connect.extend(byte);
        }
        stream.write_all(answer).unwrap();
        open.push(stream);
    }
    open
}

/// Meanwhile the server serves, says once what is wrong, and is heard when a broker comes that works.
fn survives(answer: &'static [u8], connections: usize, words: &str) {
    let listener = TcpListener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let place = Place::new();
    let server = place.serve(&[&format!("--announce={address}"), "--beacon-interval", "0.5"]);
    let broken = std::thread::spawn(move || play(listener, connections, answer));
    server.owner().expect("whoami 4\n", "4\nunix");
    let open = broken.join().unwrap();
    server.owner().expect("whoami 4\n", "4\nunix");
    crate::common::eventually("the log says what is wrong", || {
        server.log().contains(words)
    });
    let broker = broker(address);
    drop(open);
    let mut listener = Listener::new(&broker);
    assert_eq!(listener.hear().1["port"], server.port);
    crate::common::eventually("the log says that all is well", || {
        server.log().contains("announced to the broker")
    });
    let log = server.log();
    assert_eq!(log.matches(words).count(), 1, "{log}");
}

#[test]
fn a_broker_that_sends_garbage_stops_nothing() {
    survives(
        b"HTTP/1.1 400 Bad Request\r\n\r\n\0",
        3,
        "what is not STOMP",
    );
}

#[test]
fn a_broker_that_never_answers_stops_nothing() {
    survives(b"", 1, "no CONNECTED from the broker");
}

/// The next attempt comes after half a minute, so nobody waits for it here.
#[test]
fn a_refused_login_is_told_and_stops_nothing() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let place = Place::new();
    let file = settings(&place, "[Broker]\nusername = vm\npassword = never-shown\n");
    let mut server = place.serve(&[&format!("--announce={address}"), "--config", &file]);
    drop(play(listener, 1, b"ERROR\nmessage:Bad CONNECT\n\n\0"));
    crate::common::eventually("the log says why", || {
        server
            .log()
            .contains("the broker refused login or passcode: Bad CONNECT")
    });
    server.owner().expect("whoami 4\n", "4\nunix");
    assert!(!server.log().contains("never-shown"), "{}", server.log());
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

/// In a mount namespace of its own the server sees the kernel's command line that the test gives it.
#[test]
fn the_kernel_s_command_line_says_what_nobody_else_does_as_root() {
    crate::common::require_root();
    let broker = broker(any_port());
    let mut listener = Listener::new(&broker);
    let place = Place::new();
    let line = place.base("cmdline");
    let text = format!(
        "quiet chirp.broker={} chirp.announce=192.0.2.9:9200 chirp.host=192.0.2.1\n",
        broker.address
    );
    std::fs::write(&line, text).unwrap();
    let plain = crate::common::Server::command(&place);
    let mut command = std::process::Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-ec",
        "mount --bind \"$0\" /proc/cmdline; exec \"$@\"",
    ]);
    command
        .arg(&line)
        .arg(plain.get_program())
        .args(plain.get_args())
        .arg("--announce");
    let server = crate::common::Server::spawn(&place, command);
    let hello = listener.hear_word("HELLO");
    assert_eq!(
        (&hello["ip"], &hello["port"]),
        (&"192.0.2.9".into(), &9200.into())
    );
    let list = std::fs::read_to_string(place.host(".__acl")).unwrap();
    assert!(list.contains("address:192.0.2.1 rwldax"), "{list}");
    drop(server);
}
