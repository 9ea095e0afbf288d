//! This server as a client of others: `whoareyou`, `thirdput`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::common::{Place, Server, eventually};

/// Longer than any answer may take, and shorter than the reference's patience.
const SOON: Duration = Duration::from_secs(20);

/// Who one of our servers is at another: the name of loopback, or its address where it has none.
fn own_name(server: &Server<'_>) -> String {
    let mut peer = server.owner();
    let port = server.port;
    peer.send(format!("whoareyou 127.0.0.1:{port} 1000\n"));
    String::from_utf8(peer.counted().unwrap()).unwrap()
}

/// A place whose server lets the other one do everything.
fn target() -> Place {
    let place = Place::new();
    place.write(".__acl", "hostname:* rwlda\naddress:* rwlda\n");
    place
}

/// The lines of a directory's list, sorted.
fn list(place: &Place, path: &str) -> Vec<String> {
    let text = fs::read_to_string(place.host(path)).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_server_learns_who_it_is_elsewhere() {
    let (here, there) = (Place::new(), Place::new());
    let (here, there) = (here.serve(&[]), there.serve(&[]));
    let mut peer = here.owner();
    let own = own_name(&here);
    assert!(
        own.starts_with("hostname:") || own == "address:127.0.0.1",
        "{own}"
    );
    let port = there.port;
    peer.expect(
        format!("whoareyou 127.0.0.1:{port} 4\n"),
        format!("4\n{:.4}", own),
    );
    peer.expect(format!("whoareyou 127.0.0.1:{port} 0\n"), "0\n");
    peer.expect(
        "whoareyou 127.0.0.1:x 9\nwhoareyou : 9\nwhoareyou 127.0.0.1:1 -1\n",
        "-8\n-8\n-8\n",
    );
}

#[test]
fn a_tree_arrives_with_its_rights() {
    let (from, to) = (Place::new(), target());
    from.directory(
        "t",
        "unix:nobody rwldax\nunix:bob rl\nhostname:l* l\naddress:127.* l\n",
    );
    from.directory("t/sub", "unix:nobody rwldax\n");
    from.write("t/f", "hello");
    from.write("t/sub/big", vec![5; 3_000_001]);
    from.write("t/empty", "");
    from.write("t/.__hidden", "x");
    from.link("f", "t/link");
    from.link("/elsewhere", "t/dangling");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        from.host("t/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let (here, there) = (from.serve(&[]), to.serve(&[]));
    let own = own_name(&here);
    let mut peer = here.owner();
    let asker = peer.subject().to_owned();
    let request = format!("thirdput /t 127.0.0.1:{} /copy\n", there.port);
    for _ in 0..2 {
        peer.expect(&request, "3000006\n");
        assert_eq!(fs::read(to.host("copy/f")).unwrap(), b"hello");
        assert!(fs::read(to.host("copy/sub/big")).unwrap() == vec![5; 3_000_001]);
        assert_eq!(fs::read(to.host("copy/empty")).unwrap(), b"");
        assert_eq!(
            fs::read_link(to.host("copy/link")).unwrap().to_str(),
            Some("f")
        );
        assert_eq!(
            fs::read_link(to.host("copy/dangling")).unwrap().to_str(),
            Some("/elsewhere")
        );
        assert!(!to.host("copy/fifo").exists());
        assert_eq!(to.debris(), [] as [std::path::PathBuf; 0]);
        let lines = list(&to, "copy/.__acl");
        for line in [
            "unix:bob rl",
            "hostname:l* l",
            &format!("{own} n"),
            &format!("{asker} rwldpax"),
        ] {
            assert!(lines.iter().any(|have| have == line), "{line}: {lines:?}");
        }
        assert!(!list(&to, "copy/sub/.__acl").contains(&"unix:bob rl".to_owned()));
        // The copier gave its rights up by name, and still has them by the pattern.
    }
    peer.expect(
        format!("thirdput /t/f 127.0.0.1:{} /f2\n", there.port),
        "5\n",
    );
    peer.expect(
        format!("thirdput /t/link 127.0.0.1:{} /l2\n", there.port),
        "0\n",
    );
    peer.expect(
        format!("thirdput /t/fifo 127.0.0.1:{} /fifo\n", there.port),
        "0\n",
    );
    assert_eq!(fs::read(to.host("f2")).unwrap(), b"hello");
    assert!(to.host("l2").is_symlink());
}

#[test]
fn what_may_not_be_read_here_is_not_copied() {
    let (from, to) = (Place::new(), target());
    from.directory("t", "address:127.0.0.2 rl\n");
    from.directory("t/secret", "unix:nobody rwl\n");
    from.directory("t/names-only", "address:127.0.0.2 l\n");
    from.directory("closed", "unix:nobody rwl\n");
    for file in ["t/f", "t/secret/f", "t/names-only/f", "closed/f"] {
        from.write(file, "x");
    }
    from.link("/closed/f", "t/way");
    let (here, there) = (from.serve(&[]), to.serve(&[]));
    let mut guest = here.guest(2);
    let to_there = format!("127.0.0.1:{}", there.port);
    guest.expect(format!("thirdput /t {to_there} /copy\n"), "-2\n");
    assert_eq!(fs::read(to.host("copy/f")).unwrap(), b"x");
    assert!(
        to.host("copy/way").is_symlink(),
        "the link itself was copied"
    );
    assert!(!to.host("copy/secret").exists());
    assert!(to.host("copy/names-only").is_dir());
    assert!(!to.host("copy/names-only/f").exists());
    for source in ["/closed", "/closed/f", "/closed/none", "/t/.__acl"] {
        guest.expect(format!("thirdput {source} {to_there} /x\n"), "-2\n");
    }
    guest.expect(format!("thirdput /t/none {to_there} /x\n"), "-3\n");
    assert!(!to.host("x").exists());
}

#[test]
fn what_the_other_server_refuses_is_told() {
    let (from, to) = (Place::new(), Place::new());
    from.write("f", "x");
    from.directory("d", "unix:nobody rwlda\n");
    from.write("d/f", "x");
    to.write(".__acl", "unix:nobody rwlda\n");
    to.directory("open", "hostname:* rwl\naddress:* rwl\n");
    to.write("open/file", "x");
    let (here, there) = (from.serve(&[]), to.serve(&[]));
    let mut peer = here.owner();
    let port = there.port;
    peer.expect(format!("thirdput /f 127.0.0.1:{port} /f\n"), "-2\n");
    peer.expect(format!("thirdput /d 127.0.0.1:{port} /d\n"), "-2\n");
    peer.expect(format!("thirdput /f 127.0.0.1:{port} /none/f\n"), "-3\n");
    peer.expect(format!("thirdput /f 127.0.0.1:{port} /open\n"), "-13\n");
    // The content came, the rights did not.
    peer.expect(format!("thirdput /d 127.0.0.1:{port} /open/d\n"), "-2\n");
    assert_eq!(fs::read(to.host("open/d/f")).unwrap(), b"x");
    // Nothing is read of a directory that cannot be there.
    peer.expect(
        format!("thirdput /d 127.0.0.1:{port} /open/none/d\n"),
        "-2\n",
    );
    assert!(!to.host("open/none").exists());
}

#[test]
fn many_files_go_over_several_connections() {
    let (from, to) = (Place::new(), target());
    from.directory("t", "unix:nobody rwlda\n");
    for dir in 0..5 {
        from.directory(&format!("t/{dir}"), "unix:nobody rwlda\n");
        for file in 0..40 {
            from.write(format!("t/{dir}/{file}"), format!("{dir}-{file}"));
        }
    }
    let (here, there) = (from.serve(&[]), to.serve(&[]));
    let mut peer = here.owner();
    let bytes: usize = (0..40).map(|file| format!("0-{file}").len()).sum();
    peer.expect(
        format!("thirdput /t 127.0.0.1:{} /t\n", there.port),
        format!("{}\n", 5 * bytes),
    );
    for (dir, file) in [(0, 0), (2, 17), (4, 39)] {
        let content = fs::read_to_string(to.host(format!("t/{dir}/{file}"))).unwrap();
        assert_eq!(content, format!("{dir}-{file}"));
    }
    for dir in 0..5 {
        assert_eq!(
            fs::read_dir(to.host(format!("t/{dir}"))).unwrap().count(),
            41
        );
    }
    // A server that takes one client at a time is no hindrance.
    let begun = Instant::now();
    let narrow = target();
    let one = narrow.serve(&["-M", "1"]);
    peer.expect(
        format!("thirdput /t 127.0.0.1:{} /t\n", one.port),
        format!("{}\n", 5 * bytes),
    );
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

/// W20: the reference tries for an hour to reach a server that is not there.
#[test]
fn w20_a_server_that_is_not_there_costs_seconds() {
    let place = Place::new();
    place.write("f", "x");
    let server = place.serve(&[]);
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    // Takes connections and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = mute.local_addr().unwrap();
    // Says what no Chirp server says.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let babble = other.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in other.incoming() {
            let _ = stream.unwrap().write_all(b"220 mail.example.com ESMTP\r\n");
        }
    });
    let mut peer = server.owner();
    let begun = Instant::now();
    for address in [closed, silent, babble] {
        peer.expect(format!("whoareyou {address} 100\n"), "-20\n");
        peer.expect(format!("thirdput /f {address} /f\n"), "-20\n");
    }
    peer.expect("whoareyou nowhere.invalid 100\n", "-20\n");
    assert!(begun.elapsed() < 2 * SOON, "{:?}", begun.elapsed());
    drop(mute);
}

/// W20: a call is given up when its client leaves, and delays nobody else.
#[test]
fn w20_a_call_ends_with_its_client() {
    let place = Place::new();
    place.write("f", "x");
    let server = place.serve(&[]);
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = server.owner();
    peer.send(format!("whoareyou {} 100\n", mute.local_addr().unwrap()));
    let (mut called, _) = mute.accept().unwrap();
    let mut owner = server.owner();
    assert!(owner.answer("stat /f\n").starts_with(b"0\n"));
    rustix::net::sockopt::set_socket_linger(peer.socket(), Some(Duration::ZERO)).unwrap();
    let begun = Instant::now();
    drop(peer);
    called.set_read_timeout(Some(SOON)).unwrap();
    let mut said = Vec::new();
    called.read_to_end(&mut said).unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "before its own patience ends"
    );
}

/// W20: the operator says which servers are called.
#[test]
fn w20_only_permitted_servers_are_called() {
    let (here, there) = (Place::new(), Place::new());
    here.write("f", "x");
    let other = there.serve(&[]);
    let port = other.port;
    for (rule, expected) in [
        ("deny", "-2\n"),
        ("elsewhere", "-2\n"),
        ("127.0.0.1:1", "-2\n"),
        ("127.0.0.1", "0\n"),
        ("allow", "0\n"),
    ] {
        let server = here.serve(&["--third-party", rule]);
        let mut peer = server.owner();
        peer.expect(format!("whoareyou 127.0.0.1:{port} 0\n"), expected);
        peer.expect(
            "whoareyou 127.0.0.1:25 0\nthirdput /f 127.0.0.1:25 /f\n",
            "-2\n-2\n",
        );
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_sent_is_no_file_there() {
    let (from, to) = (Place::new(), Place::new());
    from.write("f", "x");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(from.host("f"))
        .unwrap();
    file.set_len(1 << 34).unwrap();
    to.write(".__acl", "hostname:* rwlda\naddress:* rwlda\n");
    to.write("old", "old");
    let (here, there) = (from.serve(&[]), to.serve(&[]));
    let mut peer = here.owner();
    peer.send(format!("thirdput /f 127.0.0.1:{} /old\n", there.port));
    eventually("it is on its way", || {
        to.debris()
            .iter()
            .any(|path| fs::metadata(path).is_ok_and(|meta| meta.len() > 1 << 20))
    });
    file.set_len(100).unwrap();
    peer.read_exactly("-19\n");
    eventually("nothing is left of it", || to.debris().is_empty());
    assert_eq!(fs::read(to.host("old")).unwrap(), b"old");
    peer.expect("whoami 4\n", "4\nunix");
}

#[test]
fn a_file_that_is_cut_costs_a_tree_neither_its_other_files_nor_its_rights() {
    let (from, to) = (Place::new(), target());
    from.directory("t", "unix:nobody rwldax\nunix:bob rl\n");
    from.directory("t/sub", "unix:nobody rwldax\nunix:bob rl\n");
    from.write("t/f", "x");
    from.write("t/g", "hello");
    from.write("t/sub/h", "hello");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(from.host("t/f"))
        .unwrap();
    file.set_len(1 << 34).unwrap();
    let (here, there) = (from.serve(&[]), to.serve(&[]));
    let mut peer = here.owner();
    peer.send(format!("thirdput /t 127.0.0.1:{} /copy\n", there.port));
    eventually("it is on its way", || {
        to.debris()
            .iter()
            .any(|path| fs::metadata(path).is_ok_and(|meta| meta.len() > 1 << 20))
    });
    file.set_len(100).unwrap();
    peer.read_exactly("-19\n");
    assert!(!to.host("copy/f").exists());
    for path in ["copy/g", "copy/sub/h"] {
        assert_eq!(fs::read(to.host(path)).unwrap(), b"hello", "{path}");
    }
    for path in ["copy/.__acl", "copy/sub/.__acl"] {
        let lines = list(&to, path);
        assert!(
            lines.contains(&"unix:bob rl".to_owned()),
            "{path}: {lines:?}"
        );
    }
    peer.expect("whoami 4\n", "4\nunix");
}
