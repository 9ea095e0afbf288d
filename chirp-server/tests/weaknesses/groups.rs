//! Weaknesses of groups.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;

use crate::common::{Place, Server, eventually};
use crate::reference::Reference;

#[test]
fn w17_a_group_s_name_is_run_by_no_shell_and_leads_nowhere() {
    let place = Place::new();
    // It serves whatever it is asked for, and remembers that.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/groups", listener.local_addr().unwrap());
    let asked: &'static Mutex<Vec<String>> = Box::leak(Box::default());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            let head = String::from_utf8_lossy(&request[..length]).into_owned();
            asked
                .lock()
                .unwrap()
                .push(head.lines().next().unwrap_or_default().to_owned());
            let members = "address:127.0.0.2\n";
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{members}",
                members.len()
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let attack = |server: &Server<'_>, dir: &str, name: &str| {
        let mut owner = server.owner();
        owner.answer(format!("mkdir /{dir} 448\n"));
        owner.expect(format!("setacl /{dir} group:{name} l\n"), "0\n");
        server.guest(2).answer(format!("getdir /{dir}\n"))
    };
    let proof = place.base("transient/pwned");
    let injection = format!("x;touch${{IFS}}{};", proof.display());
    {
        let theirs = Reference::serve(&place, &["-G", &url]);
        attack(&theirs, "theirs", &injection);
        assert!(proof.exists());
        fs::remove_file(&proof).unwrap();
    }
    asked.lock().unwrap().clear();
    let ours = place.serve(&["-G", &url]);
    for (number, name) in [
        injection.as_str(),
        "$(touch$IFS/tmp/x)",
        "`id`",
        "../../etc/passwd",
        "..",
        ".",
        "",
        "a/b",
        "%2e%2e%2fx",
        "x?y",
        "x#y",
        "x\u{7f}",
        "x\rHost:evil",
        "-o/tmp/x",
        "x@evil/y",
        "\u{e9}",
    ]
    .iter()
    .enumerate()
    {
        attack(&ours, &format!("ours{number}"), name);
    }
    assert!(!proof.exists());
    for line in asked.lock().unwrap().iter() {
        let path = line.split(' ').nth(1).unwrap();
        let name = path.strip_prefix("/groups/").unwrap();
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-@+".contains(&byte)),
            "{line}"
        );
    }
    // Nothing is kept anywhere but in its directory.
    for entry in fs::read_dir(place.base("transient")).unwrap() {
        let name = entry.unwrap().file_name();
        assert_ne!(name, "x");
    }
    // A good name is fetched and counts.
    assert!(attack(&ours, "good", "staff").starts_with(b"0\n"));
    assert!(ours.guest(3).answer("getdir /good\n").starts_with(b"-2\n"));
}

#[test]
fn w17_a_group_server_that_never_answers_delays_only_those_who_need_it() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    place.directory("grouped", "group:staff rl\n");
    place.write("f", "x");
    let server = place.serve(&["-G", &url]);
    let mut waiting: Vec<_> = (0..40)
        .map(|_| {
            let mut guest = server.guest(2);
            guest.send("getdir /grouped\n");
            guest
        })
        .collect();
    let mut owner = server.owner();
    for _ in 0..50 {
        assert_eq!(owner.getfile("/f"), Ok(b"x".to_vec()));
        owner.expect("mkdir /d 448\nrmall /d\n", "0\n0\n");
    }
    for peer in &waiting {
        peer.socket().set_nonblocking(true).unwrap();
        let answered = peer.socket().peek(&mut [0]).map_err(|error| error.kind());
        assert_eq!(answered, Err(std::io::ErrorKind::WouldBlock));
        peer.socket().set_nonblocking(false).unwrap();
    }
    // It grants nothing in the end.
    let mut first = waiting.swap_remove(0);
    let mut answer = String::new();
    eventually("it is refused", || {
        answer = first.line();
        !answer.is_empty()
    });
    assert_eq!(answer, "-2");
}
