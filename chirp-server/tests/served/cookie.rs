//! Logins by cookie, and HTCondor's dialect behind them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::common::{Peer, Place, Server};

const COOKIE: &str = "0123456789abcdef0123456789abcdef";

/// Makes a cookie file of the server's account beside the tree.
fn cookie_file(place: &Place, content: &str) -> PathBuf {
    let path = place.base("cookie");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    place.give(&path);
    path
}

fn serve<'a>(place: &'a Place, args: &[&str]) -> Server<'a> {
    let file = cookie_file(place, &format!("{COOKIE}\n"));
    let mut all = vec!["--cookie-file", file.to_str().unwrap()];
    all.extend(args);
    place.serve(&all)
}

/// A peer that speaks HTCondor's dialect, with all rights.
#[track_caller]
fn condor(server: &Server<'_>) -> Peer {
    let mut peer = server.connect();
    peer.send(format!("cookie {COOKIE}\n")).read_exactly("0\n");
    peer
}

#[test]
fn the_cookie_lets_its_holder_in_as_the_servers_account() {
    let place = Place::new();
    let server = serve(&place, &[]);
    let subject = format!("unix:{}", place.user);
    let answer = format!("{}\n{subject}", subject.len());
    condor(&server).send("whoami 5120\n").read_exactly(&answer);
    // In one segment with the first requests, and with a client that sends what it should not.
    let mut peer = server.connect();
    peer.send(format!(
        "whoami 10\ncookie\t {COOKIE} x\r\nversion\r\nwhoami 5120\n"
    ))
    .read_exactly(format!("no\n0\n2\n{answer}"));
    // The other methods are there as ever, and speak plainly.
    let mut peer = server.connect();
    peer.send("nope\naddress\nversion\nwhoami 7\n")
        .read_exactly("no\nyes\nyes\nyes\naddress\n127.0.0.1\n-8\n7\naddress");
    assert!(!server.log().contains(COOKIE));
}

#[test]
fn wrong_cookies_wait_alone_and_may_be_followed_by_the_right_one() {
    let place = Place::new();
    let server = serve(&place, &["-d", "all"]);
    let begun = Instant::now();
    let mut guessing: Vec<Peer> = [
        "cookie\n".to_owned(),
        "cookie x\n".to_owned(),
        format!("cookie {}\n", &COOKIE[1..]),
        format!("cookie {COOKIE}0\n"),
        format!("cookie {}\n", COOKIE.to_uppercase()),
        format!("cookie {}\n", "a".repeat(5000)),
        "cookie \\ \\\\\n".to_owned(),
    ]
    .iter()
    .map(|guess| {
        let mut peer = server.connect();
        peer.send(guess);
        peer
    })
    .collect();
    // Others get in meanwhile.
    condor(&server).send("version\n").read_exactly("2\n");
    server.guest(1).expect("whoami 7\n", "7\naddress");
    for peer in &mut guessing {
        peer.read_exactly("-1\n");
        assert!(begun.elapsed() >= Duration::from_secs(1));
    }
    for peer in &mut guessing {
        peer.send(format!("cookie {COOKIE}\nversion\n"))
            .read_exactly("0\n2\n");
    }
    // What was guessed is nobody's business either.
    let log = server.log();
    assert!(log.contains("wrong cookie"), "{log}");
    assert!(
        !log.contains(&COOKIE[1..]) && !log.contains("aaaa"),
        "{log}"
    );
}

#[test]
fn guessing_ends_with_the_time_for_the_login() {
    let place = Place::new();
    let server = serve(&place, &["-t", "2.5s"]);
    let mut peer = server.connect();
    peer.send("cookie wrong\n".repeat(20));
    let answers = peer.rest();
    assert!(
        answers == b"-1\n" || answers == b"-1\n-1\n",
        "{}",
        answers.escape_ascii()
    );
}
