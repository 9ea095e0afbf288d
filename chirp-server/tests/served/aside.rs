//! Long work runs aside: it delays nobody, ends when its client leaves, and is shared fairly.

use std::fs;
use std::time::Duration;

use crate::common::{Peer, Place, Server, eventually};

/// Makes a file of this size that takes no space.
fn sparse(place: &Place, name: &str, size: u64) {
    fs::File::create(place.host(name))
        .unwrap()
        .set_len(size)
        .unwrap();
    place.give(&place.host(name));
}

/// Returns how many descriptors of the server lead to a file of the tree.
fn holders(server: &Server<'_>, name: &str) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let targets = open
        .flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok());
    targets.filter(|target| target.ends_with(name)).count()
}

fn reset(peer: Peer) {
    rustix::net::sockopt::set_socket_linger(peer.socket(), Some(Duration::ZERO)).unwrap();
    drop(peer);
}

#[test]
fn the_digest_of_an_endless_file_ends_with_its_client() {
    let place = Place::new();
    sparse(&place, "endless", 1 << 42);
    let server = place.serve(&[]);
    let mut peer = server.owner();
    peer.send("md5 /endless\n");
    eventually("it is at work", || holders(&server, "endless") == 1);
    reset(peer);
    eventually("it is given up", || holders(&server, "endless") == 0);
    // A client that closes with an answer unread is gone as well.
    let mut peer = server.owner();
    peer.send("whoami 4\nmd5 /endless\n");
    eventually("it is at work", || holders(&server, "endless") == 1);
    eventually("the answer is there", || {
        let mut byte = [0];
        peer.socket().peek(&mut byte).is_ok()
    });
    drop(peer);
    eventually("it is given up", || holders(&server, "endless") == 0);
}

#[test]
fn a_client_that_only_ends_its_requests_gets_its_long_answers() {
    let place = Place::new();
    sparse(&place, "big", 5_000_000);
    let server = place.serve(&[]);
    let mut peer = server.owner();
    peer.send("md5 /big\nsearch big / 0\naudit /\n");
    peer.finish_sending();
    peer.read_exactly("16\n");
    peer.take(16);
    peer.read_exactly("0\n0:/big::\n\n1\n");
    assert!(peer.line().ends_with(" 1 1 5000000"));
    peer.read_end();
}

#[test]
fn a_subject_with_endless_work_leaves_room_for_another_s() {
    let place = Place::new();
    sparse(&place, "endless", 1 << 42);
    place.write("small", vec![1; 1_000_000]);
    place.write(".__acl", "address:* rwlda\n");
    let server = place.serve(&[]);
    let greedy: Vec<Peer> = (0..30)
        .map(|_| {
            let mut peer = server.guest(2);
            peer.send("md5 /endless\n");
            peer
        })
        .collect();
    eventually("they have begun", || holders(&server, "endless") == 30);
    let mut other = server.guest(3);
    for _ in 0..5 {
        assert!(other.answer("md5 /small\n").starts_with(b"16\n"));
        assert!(other.answer("audit /\n").starts_with(b"1\n"));
        other.expect("search small / 0\n", "0\n0:/small::\n\n");
        other.expect("mkdir /d 448\nrmall /d\n", "0\n0\n");
    }
    drop(greedy);
}

#[test]
fn long_work_has_a_low_priority_and_nothing_else_has() {
    let place = Place::new();
    sparse(&place, "endless", 1 << 42);
    let server = place.serve(&[]);
    let mut peer = server.owner();
    peer.send("md5 /endless\n");
    eventually("it is at work", || holders(&server, "endless") == 1);
    let threads = || -> Vec<(bool, String)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
        let stats =
            tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok());
        stats
            .map(|stat| {
                // The name in brackets may contain blanks; nice is the 17th field behind it.
                let (name, fields) = stat.rsplit_once(')').unwrap();
                let nice = fields.split_whitespace().nth(16).unwrap();
                (name.ends_with("(heavy"), nice.to_owned())
            })
            .collect()
    };
    // A thread sets its priority before its first work.
    eventually("a thread of low priority works", || {
        threads().contains(&(true, "10".to_owned()))
    });
    for (heavy, nice) in threads() {
        assert!(heavy || nice == "0", "another thread has {nice}");
    }
}

#[test]
fn a_search_takes_the_same_memory_for_any_number_of_lines() {
    let place = Place::new();
    fs::create_dir(place.host("d")).unwrap();
    place.write("d/.__acl", "address:* rwlda\n");
    place.give(&place.host("d"));
    let long = "x".repeat(100);
    for number in 0..1000 {
        let name = place.host(format!("d/{number}-{long}"));
        rustix::fs::mknodat(
            rustix::fs::CWD,
            name,
            rustix::fs::FileType::RegularFile,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
    }
    let server = place.serve(&[]);
    let mut peer = server.guest(1);
    peer.expect("search nothing /d 0\n", "0\n\n");
    let before = server.memory_kib("VmHWM");
    let roots = vec!["/d"; 20].join("|");
    let found = peer.answer(format!("search * {roots} 2\n"));
    assert_eq!(memchr::memchr_iter(b'\n', &found).count(), 20 * 1000 + 2);
    let grown = server.memory_kib("VmHWM").saturating_sub(before);
    assert!(grown < 2048, "the server grew by {grown} KiB");
    let audited = String::from_utf8(peer.answer("audit /d\n")).unwrap();
    assert_eq!(audited, "1\naddress:* 1000 1 0\n");
    // An abandoned one ends by itself, for its answer cannot be sent.
    let mut leaving = server.guest(1);
    leaving
        .send(format!("search * {roots} 2\n"))
        .read_exactly("0\n");
    drop(leaving);
    eventually("it is given up", || holders(&server, "d") == 0);
}

#[test]
fn the_server_s_end_does_not_wait_for_long_work() {
    let place = Place::new();
    sparse(&place, "endless", 1 << 42);
    let mut server = place.serve(&["--drain", "1"]);
    let mut peers: Vec<Peer> = (0..20).map(|_| server.owner()).collect();
    for peer in &mut peers {
        peer.send("md5 /endless\n");
    }
    eventually("they are at work", || holders(&server, "endless") == 20);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}
