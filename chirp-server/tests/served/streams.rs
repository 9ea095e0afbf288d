//! `getstream` and `putstream`: content that ends with the connection.

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::common::{Peer, Place, eventually};

/// Closes a connection the hard way, as a host that crashed and came back does.
fn reset(peer: Peer) {
    rustix::net::sockopt::set_socket_linger(peer.socket(), Some(Duration::ZERO)).unwrap();
    drop(peer);
}

#[test]
fn a_stream_is_the_file_to_its_end_and_then_the_connection_s() {
    let place = Place::new();
    let server = place.serve(&[]);
    let content: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    place.write("big", &content);
    place.write("empty", "");
    let mut peer = server.owner();
    // What comes behind it is for nobody, and does not cost the stream its end.
    peer.send("getstream /big\nwhoami 4\nstat /big\n");
    peer.read_exactly("0\n");
    peer.send("whoami 4\n");
    assert!(peer.rest() == content);
    let mut peer = server.owner();
    peer.send("getstream /empty\n")
        .read_exactly("0\n")
        .read_end();
}

#[test]
fn a_refused_stream_leaves_the_connection_in_step() {
    let place = Place::new();
    place.directory("d", "unix:nobody-in-particular rwl\n");
    place.write("f", "x");
    place.write("d/f", "x");
    let server = place.serve(&[]);
    let mut owner = server.owner();
    owner.expect(
        "getstream /none\ngetstream /d/f\nmkdir /e 448\ngetstream /e\n",
        "-3\n-2\n0\n-13\n",
    );
    owner.expect(
        "putstream /d/f\nputstream /none/f\nputstream /e\nputstream /.__acl2\n",
        "-2\n-3\n-13\n-2\n",
    );
    // Half a list would let nobody in: lists come whole, by putfile or setacl.
    owner.expect(
        "symlink .__acl /list\nputstream /.__acl\nputstream /list\nmkdir /still 448\n",
        "0\n-2\n-2\n0\n",
    );
    assert_eq!(place.debris(), [] as [std::path::PathBuf; 0]);
}

/// W27: the reference answers a stream that arrived whole with a stray error line.
#[test]
fn w27_a_stream_that_ends_in_order_is_kept_and_nothing_is_said() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut watcher = server.owner();
    for content in [Vec::new(), b"hello".to_vec(), vec![7; 1_000_001]] {
        let mut peer = server.owner();
        peer.send("putstream /f\n")
            .read_exactly("0\n")
            .send(&content);
        peer.finish_sending();
        peer.read_end();
        // The server's end says that it is there.
        assert!(fs::read(place.host("f")).unwrap() == content);
        assert_eq!(watcher.getfile("/f").map(|got| got == content), Ok(true));
    }
    assert_eq!(fs::metadata(place.host("f")).unwrap().mode() & 0o777, 0o700);
    // A client that closes both sides at once is as good.
    let mut peer = server.owner();
    peer.send("putstream /g\n")
        .read_exactly("0\n")
        .send("all of it");
    drop(peer);
    eventually("it is there", || {
        fs::read(place.host("g")).is_ok_and(|content| content == b"all of it")
    });
}

#[test]
fn data_right_behind_the_request_belong_to_the_stream() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut peer = server.owner();
    peer.send("putstream /f\nwhoami 4\n");
    peer.finish_sending();
    peer.read_exactly("0\n").read_end();
    assert_eq!(fs::read(place.host("f")).unwrap(), b"whoami 4\n");
}

#[test]
fn what_came_is_there_at_once_and_however_the_stream_ends() {
    let place = Place::new();
    place.write("f", "old content that is longer");
    let server = place.serve(&[]);
    let content = |name: &str| fs::read(place.host(name)).unwrap_or_default();
    let mut peer = server.owner();
    peer.send("putstream /f\n").read_exactly("0\n");
    assert_eq!(content("f"), b"", "it is cut when the stream begins");
    let mut sent = Vec::new();
    for piece in [b"one ".to_vec(), vec![7; 300_000], b"three".to_vec()] {
        peer.send(&piece);
        sent.extend(piece);
        eventually("it can be read", || content("f") == sent);
    }
    assert_eq!(fs::metadata(place.host("f")).unwrap().mode() & 0o777, 0o644);
    reset(peer);
    drop(server);
    let mut stalling = place.serve(&["-s", "1"]);
    let mut peer = stalling.owner();
    peer.send("putstream /g\n").read_exactly("0\n").send("slow");
    let mut byte = [0];
    let mut socket = peer.socket();
    let error = socket.read(&mut byte).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(content("g"), b"slow");
    let mut peer = stalling.owner();
    peer.send("putstream /h\n")
        .read_exactly("0\n")
        .send("killed");
    eventually("it can be read", || content("h") == b"killed");
    stalling.signal(rustix::process::Signal::KILL);
    stalling.wait();
    assert_eq!(content("f"), sent);
    assert_eq!(content("h"), b"killed");
    assert_eq!(place.debris(), [] as [std::path::PathBuf; 0]);
}

#[test]
fn a_stream_without_space_ends_in_a_reset() {
    let place = Place::new();
    let server = place.serve(&["-Q", "1M"]);
    let mut peer = server.owner();
    peer.send("putstream /f\n").read_exactly("0\n");
    while peer.try_send(vec![1; 100_000]) {}
    let kept = fs::metadata(place.host("f")).unwrap().len();
    assert!(kept <= 1 << 20, "{kept}");
    let mut owner = server.owner();
    owner.expect("whoami 4\nunlink /f\n", "4\nunix0\n");
    assert_eq!(
        owner.putfile("/g", vec![1; 500_000]),
        500_000,
        "the space is back"
    );
}

#[test]
fn the_put_right_streams_new_files_only() {
    let place = Place::new();
    place.directory("d", "address:127.0.0.2 pl\n");
    place.write("d/old", "old");
    let server = place.serve(&[]);
    let mut guest = server.guest(2);
    guest.expect("putstream /d/old\n", "-4\n");
    guest
        .send("putstream /d/new\n")
        .read_exactly("0\n")
        .send("new");
    guest.finish_sending();
    guest.read_end();
    assert_eq!(fs::read(place.host("d/new")).unwrap(), b"new");
    assert_eq!(fs::read(place.host("d/old")).unwrap(), b"old");
}
