//! A directory that the reference has served is served by ours with the same answers to the same
//! subjects, and the other way round: both work on one tree, and each list is put there anew for each.

use std::fs;

use crate::common::{Peer, Place};
use crate::reference::Reference;

/// Lists that somebody may have written by hand, or tried to break a server with. `{USER}` is the server's
/// account. There is none with an open parenthesis at a line's end: the reference then reads on in whatever
/// its memory holds behind the line, and grants what it finds there.
const LISTS: &[&str] = &[
    "unix:{USER} rwlda\n",
    "unix:{USER} rwldax\naddress:127.0.0.1 rl\naddress:127.0.0.2 w\naddress:127.0.0.3 p\n",
    "unix:{USER} rwlda\naddress:127.0.0.1 v\naddress:127.0.0.2 v(rl)\naddress:127.0.0.3 v(v)\n",
    "unix:{USER} rwlda\naddress:127.0.0.1 wv(rwlx)\naddress:127.0.0.2 rwldpavx\naddress:127.0.0.3 v()\n",
    "address:* rl\nunix:* rwlda\n",
    "* l\naddress:127.*.1 r\naddress:*2 w\nunix:* rwlda\n",
    "address:127.0.0.** rl\nunix:*o*y rwlda\n*:127.0.0.1 d\n",
    "unix:{USER} a\naddress:127.0.0.1 a\naddress:127.0.0.2 x\naddress:127.0.0.3 d\n",
    "address:127.0.0.1 rl\naddress:127.0.0.1 d\naddress:127.0.0.1 w\nunix:{USER} rwlda\nunix:{USER} x\n",
    "unix:{USER} rwlda junk\naddress:127.0.0.1   rl\naddress:127.0.0.2 rl#w\naddress:127.0.0.3 nrl\n",
    "unix:{USER} rwlda\naddress:127.0.0.1\trl\naddress:127.0.0.2 \trl\n address:127.0.0.3 rl\n",
    "unix:{USER} rwlda\r\naddress:127.0.0.1 rl\r\naddress:127.0.0.2 n\r\n",
    "unix:{USER} rwlda\n\n\naddress:127.0.0.1 rl",
    "unix:{USER} (rwlda)\naddress:127.0.0.1 r(l)\naddress:127.0.0.2 (\naddress:127.0.0.3 v(rl)\n",
    "unix:{USER} rwlda\naddress:127.0.0.1 v(r)l\naddress:127.0.0.2 )rl(\naddress:127.0.0.3 lv(rw)v(l)\n",
    "unix:{USER} rwlda\ngroup:address:127.0.0.1 rl\ngroup:* rwl\naddress:127.0.0.2 rl\n",
    "unix:{USER} rwlda\nADDRESS:127.0.0.1 rl\naddress:127.0.0.2 RL\n",
    "garbage\n\x01\x02\x03\n\u{ff} r\nunix:{USER} rwlda\n",
    "",
    "\n\n\n",
];

const SUBJECTS: [u8; 4] = [0, 1, 2, 3];

/// Requests in an order in which each finds what it needs, whatever those before were answered.
const REQUESTS: &[&str] = &[
    "getacl /d\n",
    "getfile /d/f\n",
    "getfile /d/none\n",
    "lstat /d/none\n",
    "getdir /d/none\n",
    "access /d/f 0\n",
    "access /d/f 4\n",
    "access /d/f 2\n",
    "access /d/f 6\n",
    "access /d 1\n",
    "access /d/s 5\n",
    "hash md5 /d/f\n",
    "readlink /d/k 100\n",
    "localpath /d/f\n",
    "open /d w 0\n",
    "open /d rwc 0\n",
    "open /d/none r 0\n",
    "open /d/none w 0\n",
    "open /d/f wcx 0\n",
    "putfile /d 420 0\n",
    "chmod /d/none 448\n",
    "truncate /d/f 7\n",
    "truncate /d/none 7\n",
    "utime /d/f 1 1\n",
    "unlink /d/none\n",
    "rmdir /d/none\n",
    "unlink /d/s\n",
    "rename /d/none /d/x\n",
    "link /d/f /d/hard\n",
    "symlink text /d/soft\n",
    "mkdir /d/new 448\n",
    "getacl /d/new\n",
    "mkdir /d/f 448\n",
    "mkdir /d/s 448\n",
    "putfile /d/p 420 0\n",
    "rename /d/p /d/q\n",
    "rename /d/s /d/t\n",
    "unlink /d/q\n",
    "unlink /d/soft\n",
    "unlink /d/e/y\n",
    "rmall /d/e\n",
    "rmdir /d/new\n",
    "setacl /d unix:somebody rwl\n",
    "setacl /d address:127.0.0.2 n\n",
    "setacl /d unix:none zz\n",
    "getacl /d\n",
    "resetacl /d rl\n",
    "getacl /d\n",
];

/// Makes `/d` with this list, as if nothing had happened there.
fn reset(place: &Place, list: &[u8]) {
    let _ = fs::remove_dir_all(place.host("d"));
    place.directory("d", "");
    place.write("d/.__acl", list);
    place.write("d/f", "content");
    place.directory("d/s", "address:* rl\n");
    place.directory("d/e", "unix:nobody-at-all rl\n");
    place.write("d/e/y", "");
    place.link("f", "d/k");
}

/// Returns the answers to all requests, and the list as it is then.
fn ask(place: &Place, peer: &mut Peer, list: &[u8]) -> Vec<String> {
    reset(place, list);
    // One write for all of them; between each two stands what no answer holds.
    let script: String = REQUESTS
        .iter()
        .flat_map(|request| [*request, "whoami 3\n"])
        .collect();
    let end = format!("3\n{}", &peer.subject()[..3]);
    let reply = String::from_utf8_lossy(&peer.answer(script)).into_owned();
    let replies: Vec<&str> = reply.split_terminator(&end).collect();
    assert_eq!(replies.len(), REQUESTS.len(), "{reply}");
    let mut answers: Vec<String> = REQUESTS
        .iter()
        .zip(replies)
        .map(|(request, reply)| format!("{} -> {}", request.trim_end(), reply.escape_debug()))
        .collect();
    let list = fs::read(place.host("d/.__acl")).unwrap();
    answers.push(format!("the list then: {}", list.escape_ascii()));
    answers
}

fn peer(server: &crate::common::Server<'_>, subject: u8) -> Peer {
    match subject {
        0 => server.owner(),
        number => server.guest(number),
    }
}

fn compare(lists: impl Iterator<Item = Vec<u8>>, place: &Place, args: &[&str]) {
    let theirs = Reference::serve(place, args);
    let ours = place.serve(args);
    let mut peers: Vec<(u8, Peer, Peer)> = SUBJECTS
        .iter()
        .map(|&subject| (subject, peer(&theirs, subject), peer(&ours, subject)))
        .collect();
    let mut differences = Vec::new();
    for list in lists {
        for (subject, theirs, ours) in &mut peers {
            let (expected, answered) = (ask(place, theirs, &list), ask(place, ours, &list));
            for (expected, answered) in expected.iter().zip(&answered) {
                if expected != answered {
                    differences.push(format!(
                        "{} as {subject}\n  the reference {expected}\n  ours          {answered}",
                        list.escape_ascii()
                    ));
                }
            }
        }
    }
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences[..differences.len().min(40)].join("\n")
    );
}

#[test]
fn lists_mean_the_same_to_both_servers() {
    let place = Place::new();
    let user = place.user.clone();
    let lists = LISTS
        .iter()
        .map(|list| list.replace("{USER}", &user).into_bytes());
    compare(lists, &place, &[]);
}

#[test]
fn random_lists_mean_the_same_to_both_servers() {
    let place = Place::new();
    let subjects = [
        format!("unix:{}", place.user),
        "address:127.0.0.1".to_owned(),
        "address:127.0.0.*".to_owned(),
        "address:127.0.0.2".to_owned(),
        "*".to_owned(),
        "unix:*".to_owned(),
        "*.3".to_owned(),
    ];
    // The same every time, so that a difference can be looked at.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let lists: Vec<Vec<u8>> = (0..6)
        .map(|_| {
            let mut list = String::new();
            for _ in 0..=random(5) {
                list.push_str(&subjects[random(subjects.len())]);
                list.push(' ');
                for _ in 0..=random(6) {
                    list.push(char::from(b"rwldpavx()nq "[random(13)]));
                }
                list.push_str(")\n");
            }
            list.into_bytes()
        })
        .collect();
    compare(lists.into_iter(), &place, &[]);
}

#[test]
fn the_superuser_and_read_only_mean_the_same_to_both_servers() {
    let place = Place::new();
    let user = place.user.clone();
    let lists = || {
        LISTS[..4]
            .iter()
            .map(|list| list.replace("{USER}", &user).into_bytes())
    };
    compare(lists(), &place, &["-P", "address:127.0.0.1"]);
    compare(lists(), &place, &["-R"]);
}

#[test]
fn a_directory_s_name_cannot_write_lines_into_the_log() {
    let place = Place::new();
    let list = format!("unix:{} rwlda\n", place.user);
    place.directory("x\nforged \"line\" \u{1b}[2J", &list);
    place.write(
        "x\nforged \"line\" \u{1b}[2J/.__acl",
        format!("{list}garbage\n"),
    );
    let server = place.serve(&[]);
    server
        .owner()
        .answer("getdir /x%0Aforged%20%22line%22%20%1b[2J\n");
    let log = server.log();
    assert!(log.contains("first line 2"), "{log}");
    assert!(log.contains("x\\nforged"), "{log}");
    assert!(
        !log.lines().any(|line| line.starts_with("forged")) && !log.contains('\u{1b}'),
        "{log}"
    );
}
