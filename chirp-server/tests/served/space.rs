//! `-Q` and `-F` on real servers: killed, raced and on a disk that is really full.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use rustix::process::Signal;

use crate::common::{Peer, Place, Server, eventually, require_root};

/// Returns what `lsalloc` says: a path, the size, what is in use.
#[track_caller]
fn lsalloc(peer: &mut Peer, path: &str) -> (String, u64, u64) {
    let answer = String::from_utf8(peer.answer(format!("lsalloc {path}\n"))).unwrap();
    let words: Vec<&str> = answer.split_whitespace().collect();
    let [zero, top, size, used] = words[..] else {
        panic!("{answer}");
    };
    assert_eq!(zero, "0");
    (top.to_owned(), size.parse().unwrap(), used.parse().unwrap())
}

/// Counts what a directory takes, in another way than the server does.
fn counted(dir: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let reserved = entry.file_name().as_encoded_bytes().starts_with(b".__");
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            sum += match fs::read_to_string(entry.path().join(".__alloc")) {
                Ok(text) => text.split_whitespace().next().unwrap().parse().unwrap(),
                Err(_) => counted(&entry.path()),
            };
        } else if kind.is_file() && !reserved {
            sum += entry.metadata().unwrap().size().div_ceil(4096) * 4096;
        }
    }
    sum
}

/// Does things that grow files, until the server is gone.
fn churn(mut peer: Peer, number: u32) {
    for round in 0u32.. {
        let body = vec![b'x'; 1000 + (round as usize * 7919 + number as usize * 104_729) % 40_000];
        let (top, file) = (["/m", "/n", "/m/inner"][round as usize % 3], round % 5);
        let path = format!("{top}/{number}.{file}");
        let length = body.len();
        let requests = [
            // One that is refused has no body, which therefore is not sent either.
            format!("putfile {path} 420 {length}\n").into_bytes(),
            format!("open {path} rwc 420\n").into_bytes(),
            [
                format!("pwrite 0 {length} {}\n", round % 30_000).as_bytes(),
                &body,
            ]
            .concat(),
            format!("ftruncate 0 {}\n", round * 3001 % 50_000).into_bytes(),
            format!("close 0\nrename {path} /n/{number}.{file}\n").into_bytes(),
            format!("mkalloc /m/{number}.a {length} 448\nrmall /m/{number}.a\n").into_bytes(),
            format!("unlink /n/{number}.{}\n", (round + 2) % 5).into_bytes(),
        ];
        for (at, request) in requests.iter().enumerate() {
            if !peer.try_send(request) {
                return;
            }
            let Some(answer) = peer.try_line() else {
                return;
            };
            if at == 0 && answer == "0" && (!peer.try_send(&body) || peer.try_line().is_none()) {
                return;
            }
            let more = match at {
                1 => usize::from(!answer.starts_with('-')),
                4 | 5 => 1,
                _ => 0,
            };
            for _ in 0..more {
                if peer.try_line().is_none() {
                    return;
                }
            }
        }
    }
}

#[test]
fn after_a_kill_at_any_moment_the_figures_are_those_of_the_tree() {
    let place = Place::new();
    let root = place.base("root");
    for round in 0..4u64 {
        let mut server = place.serve(&["-Q", "1M"]);
        let mut owner = server.owner();
        for (path, dir) in [
            ("/", "."),
            ("/m", "m"),
            ("/n", "n"),
            ("/m/inner", "m/inner"),
        ] {
            if round == 0 {
                owner.answer(format!("mkalloc {path} 200000 448\n"));
                owner.answer("mkalloc /m/inner 90000 448\n");
            }
            let (_, size, used) = lsalloc(&mut owner, path);
            assert_eq!(used, counted(&root.join(dir)), "{path} in round {round}");
            assert!(used <= size, "{path}: {used} of {size}");
        }
        assert!(place.debris().is_empty());
        let peers: Vec<Peer> = (0..4).map(|_| server.owner()).collect();
        thread::scope(|scope| {
            let churning: Vec<_> = (0..)
                .zip(peers)
                .map(|(number, peer)| scope.spawn(move || churn(peer, number)))
                .collect();
            let used_before = lsalloc(&mut owner, "/n");
            let mut looks = 0;
            eventually("the figures move", || {
                looks += 1;
                looks > 20 * round && lsalloc(&mut owner, "/n") != used_before
            });
            server.signal(Signal::KILL);
            for thread in churning {
                thread.join().unwrap();
            }
        });
        server.wait();
    }
}

#[test]
fn the_files_of_allocations_are_up_to_date_after_a_clean_stop() {
    let place = Place::new();
    let mut server = place.serve(&["-Q", "1MB"]);
    let mut owner = server.owner();
    owner.expect("mkalloc /m 100000 448\n", "0\n");
    assert_eq!(owner.putfile("/m/f", [0; 5000]), 5000);
    assert_eq!(owner.putfile("/g", [0; 5000]), 5000);
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    let read = |path| fs::read_to_string(place.base("root").join(path)).unwrap();
    assert_eq!(read(".__alloc"), "1048576\n108192\n");
    assert_eq!(read("m/.__alloc"), "100000\n8192\n");
    assert_eq!(
        fs::metadata(place.base("root").join(".__alloc"))
            .unwrap()
            .mode()
            & 0o7777,
        0o600
    );
}

#[test]
fn free_space_that_is_asked_for_is_left() {
    let place = Place::new();
    let server = place.serve(&["-F", "1000P"]);
    let mut owner = server.owner();
    assert_eq!(owner.putfile("/f", "x"), -6);
    owner.expect("stat /f\nmkdir /d 448\nlsalloc /\n", "-3\n0\n-8\n");
    drop(owner);
    drop(server);
    let server = place.serve(&["-F", "1K"]);
    assert_eq!(server.owner().putfile("/f", "x"), 1);
}

/// Starts a server whose tree is a file system of this size, which nobody else sees.
fn on_a_disk_of<'a>(place: &'a Place, size: &str, args: &[&str]) -> Server<'a> {
    let server = Server::command(place);
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-ec"]);
    command.arg(format!(
        "mount -t tmpfs -o size={size},uid=$(stat -c %u \"$0\"),mode=755 tmpfs \"$0\"; exec \"$@\""
    ));
    command.arg(place.base("root")).arg(server.get_program());
    command.args(server.get_args()).args(args);
    Server::spawn(place, command)
}

#[test]
fn a_full_disk_keeps_what_is_there_as_root() {
    require_root();
    let place = Place::new();
    let server = on_a_disk_of(&place, "1m", &[]);
    let mut owner = server.owner();
    assert_eq!(owner.putfile("/old", "precious"), 8);
    owner.expect("mkdir /d 448\nsetacl /d unix:bob rl\n", "0\n0\n");
    let before = owner.answer("getacl /d\n");
    owner.answer("open /fill wc 420\n");
    let block = [b"pwrite 0 4096 ".as_slice()].concat();
    let mut offset = 0;
    loop {
        let mut request = [&block[..], format!("{offset}\n").as_bytes()].concat();
        request.extend_from_slice(&[b'f'; 4096]);
        match owner.number(request) {
            4096 => offset += 4096,
            code => {
                assert_eq!(code, -6);
                break;
            }
        }
        assert!(offset < 2 << 20, "the disk is never full");
    }
    // Refused in the middle of the body, not at its beginning.
    assert_eq!(owner.putfile("/old", vec![b'n'; 300_000]), -6);
    assert_eq!(owner.putfile("/new", vec![b'n'; 300_000]), -6);
    assert_eq!(owner.getfile("/old"), Ok(b"precious".to_vec()));
    owner.expect("stat /new\n", "-3\n");
    owner.expect("setacl /d unix:carol rwl\n", "-6\n");
    assert_eq!(owner.answer("getacl /d\n"), before);
    assert_eq!(owner.number("mkdir /e 448\n"), -6);
    owner.expect("stat /e\n", "-3\n");
    assert_eq!(owner.list("/"), [b"d".as_slice(), b"fill", b"old"]);
    // And it recovers.
    owner.expect("close 0\nunlink /fill\n", "0\n0\n");
    assert_eq!(owner.putfile("/old", vec![b'n'; 300_000]), 300_000);
    owner.expect("setacl /d unix:carol rwl\nmkdir /e 448\n", "0\n0\n");
}

#[test]
fn a_quota_larger_than_the_disk_does_not_drift_when_that_is_full_as_root() {
    require_root();
    let place = Place::new();
    let server = on_a_disk_of(&place, "1m", &["-Q", "8M"]);
    let mut owner = server.owner();
    owner.expect("mkalloc /m 4000000 448\n", "0\n");
    assert_eq!(owner.putfile("/m/a", vec![0; 400_000]), 400_000);
    assert_eq!(owner.putfile("/m/b", vec![0; 2_000_000]), -6);
    owner.answer("open /m/c wc 420\n");
    let mut request = b"pwrite 0 2000000 0\n".to_vec();
    request.resize(request.len() + 2_000_000, 1);
    owner.answer(request);
    let stat = String::from_utf8(owner.answer("stat /m/c\n")).unwrap();
    let size: u64 = stat.split_whitespace().nth(8).unwrap().parse().unwrap();
    assert!(size < 2_000_000, "{stat}");
    let expected = 401_408 + size.div_ceil(4096) * 4096;
    assert_eq!(
        lsalloc(&mut owner, "/m"),
        ("/m".to_owned(), 4_000_000, expected)
    );
    owner.expect("close 0\nunlink /m/c\nunlink /m/a\n", "0\n0\n0\n");
    assert_eq!(lsalloc(&mut owner, "/m").2, 0);
}
