//! What befalls a server: nothing left to open, full disks, damaged files, slow and rude peers.

use std::fs;
use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::{Peer, Place, Server, eventually, require_root};
use crate::random::Random;

/// Serves a place by a shell script that ends in `exec "$@"`.
#[track_caller]
fn serve_by<'a>(place: &'a Place, wrapper: &[&str], script: &str, args: &[&str]) -> Server<'a> {
    let served = Server::command(place);
    let mut command = Command::new(wrapper[0]);
    command
        .args(&wrapper[1..])
        .args(["-c", script, "sh"])
        .arg(served.get_program())
        .args(served.get_args())
        .args(args);
    Server::spawn(place, command)
}

const OWN_MOUNTS: [&str; 5] = ["unshare", "--mount", "--propagation", "private", "sh"];

#[test]
fn descriptors_used_up_are_told_as_such_and_the_server_recovers() {
    let place = Place::new();
    place.write("f", "x");
    let server = serve_by(&place, &["sh"], "ulimit -n 80 && exec \"$@\"", &[]);
    let mut other = server.owner();
    let mut greedy = server.owner();
    let mut opened = 0;
    while greedy.answer("open /f r 0\n") != b"-9\n" {
        opened += 1;
        assert!(opened < 80, "the limit counts");
    }
    assert!(opened > 10, "{opened} files");
    // Nothing is taken for a missing right or a missing file.
    for request in [
        "open /f w 0",
        "open /new wc 420",
        "getfile /f",
        "getdir /",
        "getlongdir /",
        "stat /f",
        "getacl /",
        "mkdir /d 448",
        "setacl / unix:x r",
        "md5 /f",
        "rename /f /f",
        "statfs /",
        "putfile /g 420 1",
        "unlink /none",
        "getxattr /f user.a",
    ] {
        for peer in [&mut greedy, &mut other] {
            let answer = peer.answer(format!("{request}\n"));
            let told = answer == b"-9\n";
            let done = !answer.starts_with(b"-") || answer == b"-3\n" || answer == b"-8\n";
            let asks_for_a_body = request.starts_with("putfile") && answer.starts_with(b"0\n");
            assert!(
                (told || done) && !asks_for_a_body,
                "{request}: {}",
                answer.escape_ascii()
            );
        }
    }
    // One that comes now waits or is served, but is not dropped.
    let mut late = Peer::try_connect(server.port, 2).unwrap();
    late.send("address\nwhoami 7\n");
    for fd in 0..opened {
        greedy.expect(format!("close {fd}\n"), "0\n");
    }
    late.read_exactly("yes\nyes\nyes\naddress\n127.0.0.2\n7\naddress");
    assert_eq!(other.getfile("/f"), Ok(b"x".to_vec()));
    assert_eq!(other.putfile("/g", "new"), 3);
    greedy.expect("setacl / unix:x r\nmkdir /e 448\n", "0\n0\n");
}

#[test]
fn a_burst_of_connections_beyond_the_descriptors_is_served_in_the_end() {
    let place = Place::new();
    let server = serve_by(&place, &["sh"], "ulimit -n 80 && exec \"$@\"", &[]);
    let mut first = server.owner();
    let burst: Vec<_> = (0..100).map(|_| server.connect()).collect();
    first.expect("whoami 4\n", "4\nunix");
    drop(burst);
    server.guest(2).expect("whoami 7\n", "7\naddress");
    first.expect("whoami 4\nmkdir /d 448\n", "4\nunix0\n");
}

#[test]
fn a_full_disk_leaves_lists_and_names_as_they_were_as_root() {
    require_root();
    let place = Place::new();
    let script = format!(
        "mount -t tmpfs -o size=256k,nr_inodes=40,mode=0700,uid=65534,gid=65534 none {} && exec \"$@\"",
        place.base("root").display()
    );
    let server = serve_by(&place, &OWN_MOUNTS, &script, &[]);
    let mut owner = server.owner();
    owner.expect("mkdir /d 448\nsetacl /d unix:x rl\n", "0\n0\n");
    let list = owner.answer("getacl /d\n");
    owner.answer("open /fill wc 420\n");
    owner
        .send("pwrite 0 1000000 0\n")
        .send(vec![b'x'; 1_000_000]);
    owner.expect("", "-6\n");
    // Whatever is left of the space is less than any list.
    for at in 0..64 {
        owner
            .send(format!("pwrite 0 4096 {}\n", at * 4096))
            .send([b'x'; 4096]);
        owner.answer("");
    }
    for _ in 0..3 {
        owner.expect("setacl /d unix:y rl\nresetacl /d rl\n", "-6\n-6\n");
        owner.expect("mkdir /e 448\nstat /e\n", "-6\n-3\n");
        assert_eq!(owner.putfile("/new", "some"), -6);
        assert_eq!(owner.putfile("/fill", "some"), -6);
    }
    assert_eq!(owner.answer("getacl /d\n"), list);
    assert_eq!(owner.list("/"), [&b"d"[..], b"fill"]);
    owner.expect(
        "close 0\nunlink /fill\nsetacl /d unix:y rl\nmkdir /e 448\n",
        "0\n".repeat(4),
    );
    // Every inode is used.
    let mut made = 0;
    while owner.answer(format!("mkdir /e/{made} 448\n")) == b"0\n" {
        made += 1;
    }
    let names = owner.list("/e").len();
    assert_eq!(names, made, "one that was refused left nothing");
    owner.expect("setacl /d unix:z rl\n", "-6\n");
    owner.expect("rmall /e\nsetacl /d unix:z rl\n", "0\n0\n");
}

#[test]
fn two_administrators_lose_no_change() {
    let place = Place::new();
    let server = place.serve(&[]);
    server.owner().expect("mkdir /d 448\n", "0\n");
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let mut owner = server.owner();
            scope.spawn(move || {
                for number in 0..100 {
                    owner.expect(format!("setacl /d unix:{name}{number} rl\n"), "0\n");
                }
                for number in 0..50 {
                    owner.expect(format!("setacl /d unix:{name}{number} -\n"), "0\n");
                }
            });
        }
    });
    let list = String::from_utf8(server.owner().answer("getacl /d\n")).unwrap();
    for name in ["a", "b"] {
        for number in 50..100 {
            assert!(
                list.contains(&format!("\nunix:{name}{number} rl\n")),
                "{name}{number}: {list}"
            );
        }
        for number in 0..50 {
            assert!(
                !list.contains(&format!("\nunix:{name}{number} ")),
                "{name}{number}: {list}"
            );
        }
    }
}

#[test]
fn a_directory_of_a_hundred_thousand_entries_costs_no_memory() {
    const ENTRIES: usize = 100_000;
    let place = Place::new();
    place.directory("big", &format!("unix:{} rwlda\n", place.user));
    // Hard links, which are quick to make.
    for number in 0..ENTRIES {
        let name = |number: usize| place.host(format!("big/a-name-of-some-length-{number}"));
        match number % 10_000 {
            0 => fs::write(name(number), "x").unwrap(),
            more => fs::hard_link(name(number - more), name(number)).unwrap(),
        }
    }
    let server = place.serve(&[]);
    let mut owner = server.owner();
    assert_eq!(owner.list("/big").len(), ENTRIES);
    owner
        .send("getlongdir /big\nwhoami 4\n")
        .read_exactly("0\n");
    let mut lines = 0;
    while !owner.line().is_empty() {
        lines += 1;
    }
    assert_eq!(lines, 2 * (ENTRIES + 2));
    owner.read_exactly("4\nunix");
    // Listings that nobody reads.
    let unread: Vec<_> = (0..8)
        .map(|_| {
            let mut peer = server.owner();
            peer.send("getlongdir /big\n").read_exactly("0\n");
            peer
        })
        .collect();
    // Work of this size is done at low priority, and the machine may be busy.
    let limit = Some(Duration::from_secs(300));
    owner.socket().set_read_timeout(limit).unwrap();
    owner.expect("rmdir /big\nrmall /big\nstat /big\n", "-15\n0\n-3\n");
    drop(unread);
    let peak = server.memory_kib("VmHWM");
    assert!(peak < 96 * 1024, "{peak} KiB");
}

#[test]
fn paths_of_two_hundred_levels_and_of_a_thousand_bytes_are_as_good_as_others() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    let mut path = String::new();
    for level in 0..200 {
        path.push_str("/dir");
        owner.expect(format!("mkdir {path} 448\n"), "0\n");
        assert!(path.len() < 1000, "level {level}");
    }
    let file = format!("{path}/file");
    assert_eq!(owner.putfile(&file, "deep"), 4);
    assert_eq!(owner.getfile(&file), Ok(b"deep".to_vec()));
    assert!(owner.answer(format!("stat {file}\n")).starts_with(b"0\n"));
    owner.expect(
        format!("rename {file} /f\nrename /f {file}\nsymlink {file} /l\ngetfile /l\n"),
        "0\n0\n0\n4\ndeep",
    );
    owner.expect(
        format!("setacl {path} unix:x rl\nutime {file} 1 1\n"),
        "0\n0\n",
    );
    let longest = format!("/{}", ["x".repeat(254).as_str(); 4].join("/"));
    assert_eq!(longest.len(), 1020);
    let mut made = String::new();
    for name in longest.split('/').skip(1) {
        made.push('/');
        made.push_str(name);
        if made.len() + "mkdir  448".len() <= 1023 {
            owner.expect(format!("mkdir {made} 448\n"), "0\n");
        }
    }
    owner.expect(
        format!("stat {longest}\n"),
        if longest.len() + 5 > 1023 {
            "-5\n"
        } else {
            "-3\n"
        },
    );
    // Deeper than a line can say, made by moving: nothing walks over the edge (W34).
    for _ in 0..8 {
        owner.expect(
            "mkdir /up 448\nrename /dir /up/dir\nrename /up /dir\n",
            "0\n0\n0\n",
        );
        let mut deeper = String::from("/dir");
        for _ in 0..150 {
            deeper.push_str("/dir");
        }
        assert!(owner.answer(format!("stat {deeper}\n")).starts_with(b"0\n"));
    }
    owner.expect("rmall /dir\nrmall /l\n", "0\n0\n");
}

#[test]
fn names_of_any_bytes_work_with_every_verb() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    let mut random = Random::new(7);
    for round in 0..40 {
        let length = 1 + random.below(254);
        let name: Vec<u8> = random
            .bytes(length)
            .into_iter()
            .map(|byte| {
                if matches!(byte, 0 | b'\n' | b'/') {
                    0xff
                } else {
                    byte
                }
            })
            .collect();
        let encoded: String = name.iter().map(|byte| format!("%{byte:02x}")).collect();
        // Encoded it takes three times as much, and must fit into a line twice.
        let (name, encoded) = (
            &name[..name.len().min(150)],
            &encoded[..encoded.len().min(450)],
        );
        owner.expect(
            format!(
                "mkdir /{encoded} 448\nsetacl /{encoded} unix:x r\nputfile /{encoded}/f 420 1\nx"
            ),
            "0\n0\n0\n1\n",
        );
        owner.expect(
            format!("link /{encoded}/f /{encoded}.l\nrename /{encoded}.l /{encoded}/g\nsymlink t /{encoded}.s\nreadlink /{encoded}.s 9\n"),
            "0\n0\n0\n1\nt",
        );
        owner.expect(
            format!("md5 /{encoded}/none\nchmod /{encoded}/g 448\ntruncate /{encoded}/g 0\nutime /{encoded} 1 1\naccess /{encoded}/g 4\n"),
            "-3\n0\n0\n0\n0\n",
        );
        assert!(owner.list("/").contains(&name.to_vec()), "round {round}");
        owner.expect(format!("rmall /{encoded}\nunlink /{encoded}.s\n"), "0\n0\n");
    }
    assert_eq!(owner.list("/").len(), 0);
}

#[test]
fn a_name_service_that_never_answers_delays_only_those_who_ask_as_root() {
    require_root();
    let place = Place::new();
    // It takes questions and never answers one.
    let (address, _silent) = (1..250)
        .find_map(|number| {
            let address = format!("127.0.53.{number}");
            UdpSocket::bind((address.as_str(), 53))
                .ok()
                .map(|socket| (address, socket))
        })
        .expect("an address with a free port 53");
    for (name, content) in [
        (
            "resolv.conf",
            format!("nameserver {address}\noptions timeout:20 attempts:3\n"),
        ),
        ("hosts", String::new()),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: dns\n".to_owned(),
        ),
    ] {
        fs::write(place.base(name), content).unwrap();
        fs::set_permissions(
            place.base(name),
            std::os::unix::fs::PermissionsExt::from_mode(0o644),
        )
        .unwrap();
    }
    let script = format!(
        "for file in resolv.conf hosts nsswitch.conf; do mount --bind {}/$file $(readlink -f /etc/$file) || exit 9; done; exec \"$@\"",
        place.base("").display()
    );
    // What waits for files on the same threads as lookups wait for name servers.
    place.directory("grouped", "group:members rl\n");
    fs::create_dir(place.base("groups")).unwrap();
    fs::write(place.base("groups/members"), "address:127.0.0.2\n").unwrap();
    let groups = format!("file://{}", place.base("groups").display());
    let args = ["-t", "60", "-G", &groups];
    let mut server = serve_by(&place, &OWN_MOUNTS, &script, &args);
    place.write("f", vec![b'x'; 3 << 20]);
    let mut waiting: Vec<_> = (0..600).map(|_| server.connect()).collect();
    for peer in &mut waiting {
        peer.send("hostname\n");
    }
    let mut other = server.owner();
    for number in 0..10 {
        other.expect(
            format!("mkdir /d{number} 448\nrmall /d{number}\n"),
            "0\n0\n",
        );
        assert_eq!(other.answer("md5 /f\n").len(), 3 + 16);
        let listing = server.guest(2).answer("getdir /grouped\n");
        assert!(listing.starts_with(b"0\n"), "{}", listing.escape_ascii());
    }
    // All of that was done in less than a lookup takes here, which is a minute.
    // Nor do they keep the server from ending.
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn refused_bodies_of_16_mib_in_a_row_cost_no_memory_and_no_step() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    owner.putfile("/f", "x");
    owner.answer("open /f r 0\nwhoami 4\n");
    let before = server.memory_kib("VmRSS");
    let body = vec![b'\n'; 16 << 20];
    for request in [
        "pwrite 0 16777216 0\n",
        "pwrite 9 16777216 0\n",
        "swrite 9 16777216 1 1 0\n",
        "setxattr /none user.a 16777216 0\n",
        "fsetxattr 9 user.a 16777216 0\n",
        "job_create 16777216\n",
        "job_commit 16777216\n",
        "ticket_register unix:other 60 16777216\n",
    ] {
        for _ in 0..4 {
            owner.send(request).send(&body);
            let answer = owner.number("");
            assert!(answer < 0, "{request}: {answer}");
        }
    }
    let grown = server.memory_kib("VmHWM").saturating_sub(before);
    assert!(grown < 24 * 1024, "{grown} KiB");
}

#[test]
fn pipelined_garbage_is_answered_line_by_line_and_harms_nobody() {
    let place = Place::new();
    let server = place.serve(&[]);
    server.owner().putfile("/precious", "x");
    let words = [
        "stat",
        "getfile",
        "open",
        "pread",
        "rename",
        "search",
        "audit",
        "getdir",
        "lsalloc",
        "job_wait",
        "setacl",
        "ticket_list",
        "whoareyou",
        "/",
        "/../..",
        "/precious/x",
        "-1",
        "99999999999999999999",
        "0",
        "%",
        "%00",
        "\u{7f}",
        "*|/*",
        "self",
        "unix:x",
        "rwlda",
        "\t",
        "\r",
        "/.__acl",
        "[",
    ];
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let mut peer = server.guest(2);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                for _ in 0..200 {
                    let mut lines = Vec::new();
                    for _ in 0..random.below(20) {
                        if random.below(3) == 0 {
                            let length = random.below(300);
                            let bytes = random.bytes(length);
                            // Neither an end of transmission nor a line that a login could be.
                            lines.extend(
                                bytes
                                    .into_iter()
                                    .map(|byte| if byte == 4 { 5 } else { byte }),
                            );
                        } else {
                            for _ in 0..1 + random.below(6) {
                                lines.extend_from_slice(random.choose::<&str>(&words).as_bytes());
                                lines.push(b' ');
                            }
                        }
                        lines.push(b'\n');
                    }
                    // Ends in step, whatever was asked.
                    peer.answer(&lines);
                }
            });
        }
    });
    assert_eq!(server.owner().getfile("/precious"), Ok(b"x".to_vec()));
    assert!(server.memory_kib("VmHWM") < 64 * 1024);
}

#[test]
fn peers_that_send_a_byte_now_and_then_hold_nobody_up() {
    let place = Place::new();
    let server = place.serve(&["-t", "2", "-s", "2"]);
    server.owner().putfile("/f", "old");
    let mut slow: Vec<Peer> = (0..50)
        .map(|number| {
            let mut peer = server.owner();
            match number % 3 {
                0 => peer.send("sta"),
                1 => peer.send("putfile /f 420 1000000\n"),
                _ => peer.send("pwrite 9 1000000 0\n"),
            };
            peer
        })
        .collect();
    let mut owner = server.owner();
    let mut ended = 0;
    let begun = Instant::now();
    while ended < slow.len() {
        assert!(
            begun.elapsed() < crate::common::PATIENCE,
            "{ended} have ended"
        );
        slow.retain_mut(|peer| peer.try_send("x"));
        ended = 50 - slow.len();
        for _ in 0..20 {
            assert_eq!(owner.getfile("/f"), Ok(b"old".to_vec()));
        }
        if slow.is_empty() {
            break;
        }
    }
    eventually("nothing is left of them", || place.debris().is_empty());
}
