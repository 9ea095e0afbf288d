//! Names of clients' addresses, when the name server does not answer.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{PATIENCE, Peer, Place, Server, require_root};

#[test]
fn a_name_server_that_never_answers_delays_only_those_who_ask_for_their_name_as_root() {
    require_root();
    let place = Place::new();
    place.write("f", "x");
    // An address of its own, so that tests at the same time do not meet at the one port there is.
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let address = format!("127.53.{high}.{}", low.max(1));
    let name_server = std::net::UdpSocket::bind((address.as_str(), 53)).unwrap();
    name_server.set_read_timeout(Some(PATIENCE)).unwrap();
    let resolver = place.base("resolv.conf");
    fs::write(
        &resolver,
        format!("nameserver {address}\noptions timeout:5 attempts:1\n"),
    )
    .unwrap();
    let inner = Server::command(&place);
    let mut command = Command::new("unshare");
    command
        .args([
            "-m",
            "sh",
            "-c",
            r#"mount --bind "$1" /etc/resolv.conf && shift && exec "$@""#,
            "sh",
        ])
        .arg(&resolver)
        .arg(inner.get_program())
        .args(inner.get_args());
    let server = Server::spawn(&place, command);
    // More than there are threads for what blocks, each with a lookup that takes its time.
    let mut asking: Vec<Peer> = (0..600)
        .map(|number| Peer::try_connect(server.port, 2 + (number % 200) as u8).unwrap())
        .collect();
    for peer in &mut asking {
        peer.send("hostname\n");
    }
    name_server.recv(&mut [0; 512]).expect("a question");
    let begun = Instant::now();
    let mut owner = server.owner();
    // A digest and an fsync run on threads aside.
    owner.answer("open /g wc 420\n");
    for _ in 0..20 {
        assert!(owner.answer("stat /f\nfsync 0\n").starts_with(b"0\n"));
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "others waited too: {took:?}");
    // Who asked first is told no, and may go on with another method.
    let mut first = asking.remove(0);
    first.read_exactly("yes\nno\n");
    first.login_address();
}
