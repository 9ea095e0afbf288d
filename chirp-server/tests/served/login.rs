//! Login: who gets in as whom, and what happens to those who do not.

use std::fs;

use crate::common::{Place, make_challenge, require_root};

#[test]
fn methods_run_one_after_another_and_requests_may_follow_in_the_same_write() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut peer = server.connect();
    peer.send("nope\naddress\nwhoami 100\n")
        .read_exactly("no\nyes\nyes\nyes\naddress\n127.0.0.1\n17\naddress:127.0.0.1");
    let mut peer = server.connect();
    peer.send("hostname\n")
        .read_exactly("yes\nyes\nyes\nhostname\n");
    assert!(!peer.line().is_empty());
    // One byte at a time it is the same.
    let mut peer = server.connect();
    for byte in b"address\nwhoami 7\n" {
        peer.send([*byte]);
    }
    peer.read_exactly("yes\nyes\nyes\naddress\n127.0.0.1\n7\naddress");
}

#[test]
fn garbage_before_login_is_refused_line_by_line() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut peer = server.connect();
    let lines: &[&[u8]] = &[
        b"whoami 10\n",
        b"getfile /f\n",
        b"\n",
        b" address\n",
        b"address \n",
        b"ADDRESS\n",
        b"kerberos\n",
        b"globus\n",
        b"cookie 12345\n",
        b"\x04\n",
        b"\xff\xfe\x80\n",
        b"GET / HTTP/1.1\n",
        b"\x16\x03\x01\x02\n",
    ];
    for line in lines {
        peer.send(line).read_exactly("no\n");
    }
    for _ in 0..5_000 {
        peer.send("nonsense\n");
    }
    peer.read_exactly("no\n".repeat(5_000));
    peer.login_address();
    peer.expect("whoami 7\n", "7\naddress");
    // A line that never ends is no login, and costs its connection only.
    let mut endless = server.connect();
    while endless.try_send([b'x'; 4096]) {}
    assert!(server.memory_kib("VmRSS") < 64 * 1024);
    server.guest(1).expect("whoami 7\n", "7\naddress");
}

#[test]
fn only_the_named_methods_are_enabled() {
    let place = Place::new();
    let server = place.serve(&["-a", "address"]);
    let mut peer = server.connect();
    peer.send("unix\nhostname\n").read_exactly("no\nno\n");
    peer.login_address();
}

#[test]
fn a_unix_login_is_by_an_empty_file_of_ones_own() {
    let place = Place::new();
    let server = place.serve(&["-z", "0.2s"]);
    let mut peer = server.connect();
    let path = peer.begin_unix();
    assert!(path.starts_with(place.base("challenge")));
    // Declined, which is not answered; then never made.
    peer.send("no\n");
    let second = peer.begin_unix();
    assert_ne!(path, second, "no name is used twice");
    peer.send("yes\n").read_exactly("no\n");
    assert!(!second.exists());
    peer.login_unix();
    assert_eq!(peer.subject(), format!("unix:{}", place.user));
    let left = fs::read_dir(place.base("challenge")).unwrap().count();
    assert_eq!(left, 0, "no challenge file is left");
}

#[test]
fn a_unix_login_is_not_won_with_anything_but_a_plain_empty_single_file() {
    let place = Place::new();
    let server = place.serve(&["-z", "0.2s"]);
    let victim = place.base("victim");
    fs::write(&victim, "").unwrap();
    let mut peer = server.connect();
    let mut attempt = |what: &str, make: &dyn Fn(&std::path::Path)| {
        let path = peer.begin_unix();
        make(&path);
        peer.send("yes\n");
        let verdict = peer.line();
        assert_eq!(verdict, "no", "{what}");
        assert!(victim.exists(), "{what}");
        if path.is_dir() {
            fs::remove_dir(path).unwrap();
        } else {
            let _ = fs::remove_file(path);
        }
    };
    // W2: the file of somebody else, reached through a link.
    attempt("a link to an empty file", &|path| {
        std::os::unix::fs::symlink(&victim, path).unwrap();
    });
    attempt("a link to /etc/passwd", &|path| {
        std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
    });
    attempt("a dangling link", &|path| {
        std::os::unix::fs::symlink("/nonexistent", path).unwrap();
    });
    attempt("a second name of a file", &|path| {
        fs::hard_link(&victim, path).unwrap()
    });
    attempt("a file with content", &|path| fs::write(path, "x").unwrap());
    attempt("a directory", &|path| fs::create_dir(path).unwrap());
    attempt("a FIFO", &|path| {
        rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap();
    });
    // The connection is as good as new.
    peer.login_address();
    peer.expect("whoami 7\n", "7\naddress");
}

#[test]
fn the_owner_of_the_file_is_who_logs_in_as_root() {
    require_root();
    let place = Place::new();
    let server = place.serve(&["-z", "0.2s"]);
    for (uid, name) in [(0, "root"), (1, "daemon")] {
        let mut peer = server.connect();
        let path = peer.begin_unix();
        make_challenge(&path);
        place.give_to(&path, uid, uid);
        peer.send("yes\n")
            .read_exactly(format!("yes\nyes\nunix\n{name}\n"));
        peer.send("getdir /\n").read_exactly("-2\n");
    }
    // A uid without a name is nobody.
    let mut peer = server.connect();
    let path = peer.begin_unix();
    make_challenge(&path);
    place.give_to(&path, 3_999_999, 3_999_999);
    peer.send("yes\n").read_exactly("no\n");
}

#[test]
fn a_login_that_is_never_finished_ends_with_the_idle_time() {
    let place = Place::new();
    let server = place.serve(&["-t", "1"]);
    let mut silent = server.connect();
    let mut half = server.connect();
    half.send("addr");
    let mut waiting = server.connect();
    waiting.begin_unix();
    let mut busy = server.connect();
    busy.send("no\nno\n");
    silent.read_end();
    half.read_end();
    waiting.read_end();
    busy.read_exactly("no\nno\n").read_end();
    server.guest(1).expect("whoami 7\n", "7\naddress");
}

#[test]
fn three_hundred_silent_connections_do_not_stop_service() {
    let place = Place::new();
    let server = place.serve(&[]);
    let before = server.memory_kib("VmRSS");
    let silent: Vec<_> = (0..300).map(|_| server.connect()).collect();
    let logged_in: Vec<_> = (0..300).map(|_| server.guest(2)).collect();
    server.owner().expect("whoami 4\n", "4\nunix");
    // W24; and what they cost is bounded (the figure for a release build is in the benchmark).
    let grown = server.memory_kib("VmRSS") - before;
    assert!(grown < 600 * 80, "{grown} KiB for 600 connections");
    drop((silent, logged_in));
}
