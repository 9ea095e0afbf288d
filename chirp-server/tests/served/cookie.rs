//! Logins by cookie, and HTCondor's dialect behind them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::common::{Peer, Place, Server, refusal, require_root};

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

#[test]
fn the_cookie_lets_its_holder_in_as_the_servers_account() {
    let place = Place::new();
    let server = serve(&place, &[]);
    let subject = format!("unix:{}", place.user);
    let answer = format!("{}\n{subject}", subject.len());
    server
        .condor(COOKIE)
        .send("whoami 5120\n")
        .read_exactly(&answer);
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
    server.condor(COOKIE).send("version\n").read_exactly("2\n");
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

#[test]
fn the_dialect_has_its_own_escapes_orders_and_listings() {
    let place = Place::new();
    let server = serve(&place, &[]);
    let mut peer = server.condor(COOKIE);
    // Percent signs are letters, and only a backslash takes a blank into a name.
    peer.expect("mkdir /a%20b 448\n", "0\n");
    peer.expect("mkdir /two\\ words\\\\ 448\n", "0\n");
    assert!(place.host("a%20b").is_dir());
    assert!(place.host("two words\\").is_dir());
    // A counted listing, without `.` and `..`, whose empty line counts.
    peer.expect("getdir /a%20b\n", "1\n\n");
    peer.expect("putfile /a%20b/f\\\tg 448 0\n", "0\n0\n");
    peer.expect("getdir /a%20b\n", "5\nf\tg\n\n");
    let mut stat = |request: &str| {
        peer.send(request);
        (peer.line(), peer.line())
    };
    let (status, line) = stat("stat /a%20b/f\\\tg\n");
    assert_eq!(status, "0");
    assert_eq!(line.split(' ').count(), 13, "{line}");
    let (fd, opened) = stat("open /a%20b/f\\\tg rw 0\n");
    assert_eq!((fd.as_str(), &opened), ("0", &line));
    let long = format!("f\tg\n{line}\n\n");
    peer.expect("getlongdir /a%20b\n", format!("{}\n{long}", long.len()));
    // Length, offset, stride.
    peer.expect("write 0 10\n0123456789", "10\n");
    peer.expect("sread 0 4 1 2 5\n", "4\n1267");
    peer.expect("swrite 0 4 1 2 5\nabcd", "4\n");
    peer.expect("pread 0 100 0\n", "10\n0ab345cd89");
    peer.expect("read 0 5\nlseek 0 -2 2\nread 0 5\n", "0\n8\n2\n89");
    peer.expect("version\n", "2\n");
}

#[test]
fn whatever_fails_the_next_line_is_the_next_request() {
    let place = Place::new();
    let server = serve(&place, &[]);
    let mut peer = server.condor(COOKIE);
    for (request, answer) in [
        // Escapes at the end of a line: the line goes on. Before anything else they are none.
        ("ulog one\\\nversion\n", "-8\n"),
        ("stat /none\\\r\n", "-3\n"),
        ("stat /none\\\\\n", "-3\n"),
        ("stat /no\\ne\n", "-8\n"),
        ("stat \\%20\n", "-8\n"),
        ("stat /none\\\0\n", "-8\n"),
        ("\\\n\n", "-8\n"),
        // Bodies of refused requests are dropped.
        ("write 9 8\nversion\n", "-12\n"),
        ("write -1 8\nversion\n", "-12\n"),
        ("write 4294967296 8\nversion\n", "-12\n"),
        ("swrite 0 8 -1 1 1\nversion\n", "-8\n"),
        ("write 0 -1\n", "-8\n"),
        ("read 0 -1\n", "-8\n"),
        ("lseek 0 0 3\n", "-8\n"),
        ("lseek 9 0 0\n", "-12\n"),
        // Nothing here runs jobs.
        ("get_job_attr Owner\n", "-8\n"),
        ("get_job_attr_delayed Owner\n", "-8\n"),
        ("set_job_attr A \"a\\ b\"\n", "-8\n"),
        ("set_job_attr_delayed A 1\n", "-8\n"),
        ("constrain A==1\n", "-8\n"),
        ("lookup /f\n", "-8\n"),
        // Verbs of the other dialect.
        ("getacl /\n", "-8\n"),
        ("hash md5 /f\n", "-8\n"),
        ("exec 0\n", "-8\n"),
        ("features\n", "-8\n"),
        ("job_status 0\n", "-8\n"),
        ("cookie x\n", "-8\n"),
        ("address\n", "-8\n"),
        // Names that are too long have no code of their own.
        (&format!("stat /{}\n", "x".repeat(300)), "-5\n"),
        (&format!("stat {}\n", "/x".repeat(600)), "-5\n"),
    ] {
        peer.expect(format!("{request}version\n"), format!("{answer}2\n"));
    }
    // The same in one segment, and byte by byte.
    let many = "write 9 8\nversion\nstat /none\\\\\nulog \\\n\\\n\nversion\n";
    let answers = "-12\n-3\n-8\n2\n";
    peer.expect(many.repeat(200), answers.repeat(200));
    for byte in many.bytes() {
        peer.send([byte]);
    }
    peer.read_exactly(answers);
}

#[test]
fn an_overlong_line_is_answered_and_ends_the_connection() {
    let place = Place::new();
    let server = serve(&place, &[]);
    // As long as a line may be, most of it blanks that are escaped.
    let longest = format!("ulog {}x\n", "\\ ".repeat(2557));
    assert_eq!(longest.len(), 5121);
    server.condor(COOKIE).expect(&longest, "-8\n");
    for over in [
        format!("ulog {}xx\nversion\n", "\\ ".repeat(2557)),
        format!("version\nulog {}\n", "x".repeat(1_000_000)),
        "\\\n".repeat(100_000),
    ] {
        let mut peer = server.condor(COOKIE);
        // All of it is taken, so that no client fails to send before it has read why.
        peer.send(&over);
        let answer = peer.rest();
        let expected: &[&[u8]] = &[b"-5\n", b"2\n-5\n"];
        assert!(expected.contains(&&answer[..]), "{}", answer.escape_ascii());
    }
    // Before the login there is no dialect: the line is no method.
    let mut peer = server.connect();
    peer.send(format!("cookie {}\n", "x".repeat(1_000_000)))
        .read_exactly("no\n");
    peer.send(format!("cookie {COOKIE}\nversion\n"))
        .read_exactly("0\n2\n");
    // One that never ends costs its connection only, and no memory.
    let mut endless = server.connect();
    endless.send("cookie ");
    while endless.try_send([b'x'; 65536]) {}
    assert!(server.memory_kib("VmRSS") < 64 * 1024);
}

#[test]
fn a_large_listing_is_counted_without_being_kept_in_memory() {
    let place = Place::new();
    let server = serve(&place, &[]);
    let mut peer = server.condor(COOKIE);
    peer.expect("mkdir /many 448\n", "0\n");
    let name = |number: u32| format!("{number:0>250}");
    for number in 0..8_000 {
        fs::File::create(place.host(format!("many/{}", name(number)))).unwrap();
    }
    peer.send("getdir /many\nversion\n")
        .read_exactly(format!("{}\n", 8_000 * 251 + 1));
    let before = server.memory_kib("VmHWM");
    let text = peer.take(8_000 * 251 + 1);
    peer.read_exactly("2\n");
    let lines = text
        .strip_suffix(b"\n\n")
        .expect("an empty line at the end");
    let mut names: Vec<&[u8]> = lines.split(|&byte| byte == b'\n').collect();
    names.sort_unstable();
    let expected: Vec<String> = (0..8_000).map(name).collect();
    assert!(names.into_iter().eq(expected.iter().map(String::as_bytes)));
    // Several at once, by clients that do not read.
    let mut slow: Vec<Peer> = (0..8).map(|_| server.condor(COOKIE)).collect();
    for peer in &mut slow {
        peer.send("getlongdir /many\n");
    }
    for peer in &mut slow {
        assert!(peer.line().parse::<u32>().unwrap() > 8_000 * 251);
    }
    let grown = server.memory_kib("VmHWM") - before;
    assert!(grown < 8 * 1024, "{grown} KiB");
    drop(slow);
    let left: Vec<_> = fs::read_dir(place.base("transient"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().starts_with("spool"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_cookie_that_others_could_know_is_refused_at_the_start() {
    let place = Place::new();
    let refused = |path: &Path, what: &str| {
        let mut command = Server::command(&place);
        command.arg("--cookie-file").arg(path);
        let words = refusal(command);
        assert!(
            words.contains(what) && words.contains("cookie"),
            "{what}: {words}"
        );
        assert!(!words.contains(COOKIE), "{words}");
    };
    let path = cookie_file(&place, COOKIE);
    for mode in [0o640, 0o604, 0o620, 0o601, 0o777] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        refused(&path, "chmod 600");
    }
    let long = format!("{COOKIE}\n{}", " ".repeat(5000));
    for (content, what) in [
        ("", "openssl rand"),
        ("\n\n", "openssl rand"),
        ("two words\n", "openssl rand"),
        ("one\ntwo\n", "openssl rand"),
        ("0123456789abcdef\u{e9}\n", "openssl rand"),
        ("0123456789abcdef\0\n", "openssl rand"),
        (&long, "longer than 4096"),
    ] {
        refused(&cookie_file(&place, content), what);
    }
    refused(&place.base("none"), "cannot open");
    refused(&place.base("challenge"), "not a regular file");
    let fifo = place.base("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    place.give(&fifo);
    refused(&fifo, "not a regular file");
    // In the tree, by a link out of it, or under a second name, clients would find it.
    let path = cookie_file(&place, COOKIE);
    let inside = place.host("cookie");
    fs::hard_link(&path, &inside).unwrap();
    refused(&path, "under one name");
    fs::remove_file(&path).unwrap();
    refused(&inside, "exported directory");
    std::os::unix::fs::symlink(&inside, &path).unwrap();
    refused(&path, "exported directory");
}

#[test]
fn a_cookie_of_roots_own_is_read_before_root_is_given_up_as_root() {
    require_root();
    let place = Place::new();
    let path = cookie_file(&place, COOKIE);
    place.give_to(&path, 0, 0);
    let server = place.serve(&["--cookie-file", path.to_str().unwrap()]);
    server.condor(COOKIE).expect("version\n", "2\n");
    drop(server);
    // Somebody else's is not.
    place.give_to(&path, 1, 1);
    let mut command = Server::command(&place);
    command.arg("--cookie-file").arg(&path);
    let words = refusal(command);
    assert!(words.contains("belongs to user 1"), "{words}");
}
