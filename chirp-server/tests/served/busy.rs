//! Clients that keep the server busy do not keep it from the others.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::{Peer, Place, eventually};

/// Sends a request without end and reads whatever comes, until the connection is shut down.
/// Returns the socket to do that with.
fn flood(peer: &Peer, request: &str, received: &'static AtomicU64) -> std::net::TcpStream {
    let socket = peer.socket().try_clone().unwrap();
    let (mut writer, mut reader) = (socket.try_clone().unwrap(), socket.try_clone().unwrap());
    let requests = request.repeat(1 + 500_000 / request.len());
    std::thread::spawn(move || while writer.write_all(requests.as_bytes()).is_ok() {});
    std::thread::spawn(move || {
        let mut chunk = vec![0; 1 << 16];
        while let Ok(count @ 1..) = reader.read(&mut chunk) {
            received.fetch_add(count as u64, Ordering::Relaxed);
        }
    });
    socket
}

/// Others are served while clients keep the server busy with a request each.
#[track_caller]
fn others_are_served(request: &str) {
    static RECEIVED: AtomicU64 = AtomicU64::new(0);
    let place = Place::new();
    place.write("f", "x");
    sparse(&place);
    let server = place.serve(&[]);
    let busy: Vec<Peer> = (0..6)
        .map(|_| {
            let mut peer = server.owner();
            peer.answer("open /sparse r 0\nopen /written wc 420\n");
            peer
        })
        .collect();
    let sockets: Vec<_> = busy
        .iter()
        .map(|peer| flood(peer, request, &RECEIVED))
        .collect();
    eventually("they are busy", || {
        let written = std::fs::metadata(place.host("written")).unwrap();
        RECEIVED.load(Ordering::Relaxed) > 50 || written.len() > 0
    });
    let begun = Instant::now();
    let mut owner = server.owner();
    for _ in 0..20 {
        assert!(owner.answer("stat /f\n").starts_with(b"0\n"));
    }
    let took = begun.elapsed();
    for socket in sockets {
        let _ = socket.shutdown(Shutdown::Both);
    }
    assert!(took < Duration::from_secs(10), "21 answers took {took:?}");
}

#[test]
fn clients_that_pipeline_without_end_leave_room_for_others() {
    others_are_served("stat /f\n");
}

#[test]
fn clients_that_pipeline_without_end_do_not_hold_up_the_server_s_end() {
    static RECEIVED: AtomicU64 = AtomicU64::new(0);
    let place = Place::new();
    let mut server = place.serve(&["--drain", "1"]);
    let busy: Vec<Peer> = (0..6).map(|_| server.owner()).collect();
    for peer in &busy {
        flood(peer, "whoami 4\n", &RECEIVED);
    }
    eventually("they are busy", || {
        RECEIVED.load(Ordering::Relaxed) > 100_000
    });
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn clients_that_read_a_byte_here_and_there_leave_room_for_others() {
    others_are_served("sread 0 16777216 1 65536 0\n");
}

#[test]
fn clients_that_write_a_byte_here_and_there_leave_room_for_others() {
    others_are_served(&format!("swrite 1 262144 1 2 0\n{}", "x".repeat(262_144)));
}

#[test]
fn the_digest_of_an_endless_file_delays_nobody_and_does_not_outlive_the_server() {
    let place = Place::new();
    place.write("f", "x");
    sparse(&place);
    let mut server = place.serve(&["--drain", "1"]);
    let mut digesting: Vec<Peer> = (0..6).map(|_| server.owner()).collect();
    for peer in &mut digesting {
        peer.send("md5 /sparse\n");
    }
    eventually("they are at work", || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
        let targets = open
            .flatten()
            .filter_map(|fd| std::fs::read_link(fd.path()).ok());
        targets.filter(|target| target.ends_with("sparse")).count() == 6
    });
    let mut owner = server.owner();
    for _ in 0..100 {
        assert!(owner.answer("stat /f\nmd5 /f\n").starts_with(b"0\n"));
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

/// Makes a file of 1 TiB that takes no space.
fn sparse(place: &Place) {
    let file = std::fs::File::create(place.host("sparse")).unwrap();
    file.set_len(1 << 40).unwrap();
    place.give(&place.host("sparse"));
}
