//! Weaknesses of requests that go through whole trees.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::common::{Peer, Place, eventually};
use crate::reference::Reference;

#[test]
fn w09_a_search_ends_whatever_links_there_are() {
    let place = Place::new();
    place.directory("d", &format!("unix:{} rwlda\n", place.user));
    place.link("/", "one");
    place.link("/", "two");
    place.link("..", "d/up");
    place.link("/d", "d/itself");
    place.link("e", "f");
    place.link("f", "e");
    place.write("d/foo", "x");
    {
        let theirs = Reference::serve(&place, &[]);
        let owner = theirs.owner();
        let mut socket = owner.socket().try_clone().unwrap();
        std::io::Write::write_all(&mut socket, b"search foo / 4\n").unwrap();
        // It goes round and round; nobody has seen its end.
        let mut answer = Vec::new();
        while memchr::memmem::find(&answer, &b"/one".repeat(20)).is_none()
            && memchr::memmem::find(&answer, &b"/two".repeat(20)).is_none()
        {
            let mut chunk = [0; 4096];
            let length = socket.read(&mut chunk).unwrap();
            assert!(length > 0, "it ended");
            answer.extend_from_slice(&chunk[..length]);
        }
    }
    let ours = place.serve(&[]);
    let mut owner = ours.owner();
    for root in ["/", "/one", "/d", "/d/up/two", "/|/one|/two"] {
        let answer = owner.answer(format!("search foo {root} 4\n"));
        assert!(
            answer.starts_with(b"0\n") && answer.ends_with(b"\n\n"),
            "{root}"
        );
        assert!(memchr::memmem::find(&answer, b"/foo:").is_some(), "{root}");
        assert!(answer.len() < 100_000, "{root}: {} bytes", answer.len());
    }
    let audit = owner.answer("audit /\n");
    assert!(audit.starts_with(b"1\n"), "{}", audit.escape_ascii());
}

#[test]
fn w09_a_search_without_a_client_ends() {
    let place = Place::new();
    // Every link leads to all others: few names, and many ways through them.
    for one in 0..15 {
        place.directory(&format!("d{one}"), &format!("unix:{} rwlda\n", place.user));
        for other in 0..15 {
            place.link(&format!("/d{other}"), &format!("d{one}/l{other}"));
        }
    }
    let ours = place.serve(&[]);
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", ours.pid())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    for _ in 0..6 {
        let mut peer = ours.owner();
        peer.send("search * / 6\n".repeat(50)).read_exactly("0\n");
    }
    let mut owner = ours.owner();
    owner.expect("whoami 4\n", "4\nunix");
    eventually("the server is at rest", || {
        let before = ticks();
        std::thread::sleep(Duration::from_millis(300));
        ticks() - before < 3
    });
    // One that is awaited ends as well, and costs no memory.
    let begun = Instant::now();
    let answer = owner.answer("search nothing / 0\n");
    assert!(answer.starts_with(b"0\n"), "{}", answer.escape_ascii());
    assert!(begun.elapsed() < crate::common::PATIENCE);
    assert!(ours.memory_kib("VmHWM") < 64 * 1024);
}

#[test]
fn w34_trees_deeper_than_any_path_are_walked_in_bounds() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    // Made by moving, so that no request had to say the whole path.
    let name = "n".repeat(60);
    owner.expect(
        format!("mkdir /{name} 448\nputfile /{name}/file 420 3\nabc"),
        "0\n0\n3\n",
    );
    let mut levels = 1;
    let mut deepen = |owner: &mut Peer, to| {
        while levels < to {
            let moves = format!("mkdir /up 448\nrename /{name} /up/{name}\nrename /up /{name}\n");
            owner.expect(moves, "0\n0\n0\n");
            levels += 1;
        }
    };
    deepen(&mut owner, 400);
    let audit = String::from_utf8(owner.answer("audit /\n")).unwrap();
    let figures: Vec<&str> = audit.split_whitespace().collect();
    assert_eq!(
        (figures[0], figures[2], figures[3]),
        ("1", "1", "401"),
        "{audit}"
    );
    // Deeper than it goes, which is said.
    deepen(&mut owner, 600);
    owner.expect("audit /\n", "-24\n");
    for request in ["search file / 0\n", "search * / 6\n"] {
        let answer = owner.answer(request);
        assert!(
            answer.starts_with(b"0\n") && answer.ends_with(b"\n\n"),
            "{request}"
        );
    }
    let peak = server.memory_kib("VmHWM");
    assert!(peak < 96 * 1024, "{peak} KiB");
    owner.expect(format!("rmall /{name}\n"), "0\n");
    assert_eq!(owner.list("/"), [] as [&[u8]; 0]);
}
