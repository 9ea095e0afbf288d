//! Groups of subjects, by file and by HTTP.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::common::{Place, eventually};
use crate::reference::Reference;

/// A place with directories whose lists name groups.
fn place(dirs: &[(&str, &str)]) -> Place {
    let place = Place::new();
    for (dir, line) in dirs {
        place.directory(dir, &format!("unix:{} rwlda\n{line}\n", place.user));
        place.write(format!("{dir}/f"), "content");
    }
    fs::create_dir(place.base("groups")).unwrap();
    place.give(&place.base("groups"));
    place
}

fn group(place: &Place, name: &str, members: &str) {
    let path = place.base("groups").join(name);
    fs::write(&path, members).unwrap();
    place.give(&path);
}

#[test]
fn members_of_a_group_get_what_its_line_gives_as_on_the_reference() {
    let place = place(&[
        ("a", "group:staff rl"),
        ("b", "group:login l\naddress:127.0.0.1 r"),
        ("c", "group:none rl"),
        ("d", "group:near rl\ngroup:staff l"),
    ]);
    let user = place.user.clone();
    group(
        &place,
        "staff",
        "unix:x\naddress:127.0.0.1\naddress:127.0.0.3\n",
    );
    group(
        &place,
        "login",
        &format!("{user}\n127.0.0.2\naddress:127.0.0.2"),
    );
    group(
        &place,
        "near",
        "address:127.0.0.11\n address:127.0.0.1\naddress:127.0.0.*\n",
    );
    let url = format!("file://{}", place.base("groups").display());
    let args = ["-G", &url];
    let reference = Reference::serve(&place, &args);
    let ours = place.serve(&args);
    for number in 1..4 {
        let (mut theirs, mut ours) = (reference.guest(number), ours.guest(number));
        for dir in ["a", "b", "c", "d"] {
            for request in [
                format!("getfile /{dir}/f\n"),
                format!("stat /{dir}/f\n"),
                format!("getdir /{dir}\n"),
            ] {
                assert_eq!(
                    theirs.answer(&request).escape_ascii().to_string(),
                    ours.answer(&request).escape_ascii().to_string(),
                    "{request} as {number}"
                );
            }
        }
    }
    reference.guest(1).expect("getfile /a/f\n", "7\ncontent");
    // A login without its method stands for the unix subject.
    let (mut theirs, mut ours) = (reference.owner(), ours.owner());
    for peer in [&mut theirs, &mut ours] {
        peer.expect(
            "resetacl /b l\nsetacl /b group:login r\ngetfile /b/f\n",
            "0\n0\n7\ncontent",
        );
    }
}

#[test]
fn a_group_is_believed_for_the_time_of_t_and_over_a_restart() {
    let place = place(&[("a", "group:staff rl")]);
    let url = format!("file://{}", place.base("groups").display());
    let args = ["-G", url.as_str(), "-T", "2s"];
    {
        let server = place.serve(&args);
        let mut guest = server.guest(1);
        guest.expect("getfile /a/f\n", "-2\n");
        // Not there is not remembered for long.
        group(&place, "staff", "address:127.0.0.1\n");
        eventually("the group is found", || {
            guest.answer("getfile /a/f\n") == b"7\ncontent"
        });
        group(&place, "staff", "");
        eventually("the group is read again", || {
            guest.answer("getfile /a/f\n") == b"-2\n"
        });
    }
    let kept = place.base("transient").join(".__groups/staff");
    assert_eq!(fs::read(&kept).unwrap(), b"");
    fs::write(&kept, "address:127.0.0.1\n").unwrap();
    let server = place.serve(&["-G", "http://127.0.0.1:1/", "-T", "1h"]);
    server.guest(1).expect("getfile /a/f\n", "7\ncontent");
}

#[test]
fn w17_a_groups_name_is_no_command_and_no_path() {
    let place = place(&[
        ("a", "group:x;touch${IFS}/tmp/chirp-pwned; rl"),
        ("b", "group:../secret rl"),
        ("c", "group:. rl\ngroup:.. rl\ngroup:a/b rl\ngroup: rl"),
    ]);
    let secret = place.base("secret");
    fs::write(&secret, "address:127.0.0.1\n").unwrap();
    place.give(&secret);
    let url = format!("file://{}", place.base("groups").display());
    let server = place.serve(&["-G", &url]);
    let mut guest = server.guest(1);
    guest.expect("getfile /a/f\ngetfile /b/f\ngetfile /c/f\n", "-2\n-2\n-2\n");
    assert!(!fs::exists("/tmp/chirp-pwned").unwrap());
    assert!(!place.base("transient").join("secret").exists());
}

/// Answers HTTP requests on a port of its own, each after `reply` has made something of the path.
fn http(reply: impl Fn(&str, &mut TcpStream) + Send + 'static) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, requests) = channel();
    // It ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let _ = asked.send(path.clone());
            reply(&path, &mut stream);
        }
    });
    (port, requests)
}

#[test]
fn groups_come_by_http_once_for_many_checks() {
    let place = place(&[
        ("a", "group:staff rl"),
        ("b", "group:gone rl"),
        ("c", "group:huge rl"),
    ]);
    let (port, requests) = http(|path, stream| {
        let answer = match path {
            "/g/staff" => "HTTP/1.1 200 OK\r\nContent-Length: 18\r\nConnection: close\r\n\r\naddress:127.0.0.1\n".to_owned(),
            "/g/huge" => format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "address:127.0.0.1\n".repeat(100_000)),
            _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 17\r\n\r\naddress:127.0.0.1".to_owned(),
        };
        let _ = stream.write_all(answer.as_bytes());
    });
    let server = place.serve(&["-G", &format!("http://127.0.0.1:{port}/g/")]);
    let mut guest = server.guest(1);
    for _ in 0..20 {
        guest.expect("getfile /a/f\n", "7\ncontent");
    }
    server.guest(2).expect("getfile /a/f\n", "-2\n");
    assert_eq!(requests.try_iter().collect::<Vec<_>>(), ["/g/staff"]);
    guest.expect(
        "getfile /b/f\ngetfile /c/f\nwhoami 7\n",
        "-2\n-2\n7\naddress",
    );
}

#[test]
fn only_who_needs_a_group_waits_for_a_server_that_says_nothing() {
    let place = place(&[
        ("a", "group:staff rl\ngroup:more rl\ngroup:most rwl"),
        ("b", "address:127.0.0.1 rl"),
        ("c", "group:early rwl\naddress:127.0.0.1 rl\ngroup:late rwl"),
    ]);
    let (port, requests) = http(|_, stream| {
        // Until the other side has had enough.
        let _ = stream.read(&mut [0]);
    });
    let url = format!("http://127.0.0.1:{port}");
    let server = place.serve(&["-G", &url, "-P", "address:127.0.0.3"]);
    // What other lines give, or being the superuser, is certain without a group.
    let mut guest = server.guest(1);
    guest.expect("getfile /c/f\n", "7\ncontent");
    assert!(guest.answer("open /c/f r 0\n").starts_with(b"0\n"));
    server
        .guest(3)
        .expect("setacl /a address:127.0.0.9 r\n", "0\n");
    assert_eq!(requests.try_iter().next(), None);
    let mut waiting: Vec<_> = (0..16).map(|_| server.guest(1)).collect();
    for peer in &mut waiting {
        // A body that comes with a request that waits is not lost, nor taken for requests.
        peer.send("putfile /b/none/x 420 0\nsetxattr /a/f user.x 5 0\nhello");
    }
    assert_eq!(requests.recv().as_deref(), Ok("/staff"));
    for _ in 0..100 {
        server.guest(1).expect("getfile /b/f\n", "7\ncontent");
        server.owner().expect("getfile /b/f\n", "7\ncontent");
    }
    for peer in &mut waiting {
        peer.expect("whoami 7\n", "-3\n-2\n7\naddress");
    }
    // The other groups are not asked for where the first showed that nobody answers.
    server
        .guest(1)
        .expect("setxattr /c/f user.x 5 0\nhello", "-2\n");
    assert_eq!(requests.try_iter().next(), None);
    assert!(server.log().contains("staff"), "{}", server.log());
}
