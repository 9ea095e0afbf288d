//! Presence, heard through the embedded broker.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

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
    let free = std::net::TcpListener::bind(any_port()).unwrap();
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
