//! Nothing outside the tree is reached, nothing inside it without the rights of the directory that
//! was really reached, and the server's own names by nobody.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags};

use crate::common::{Peer, Place, Server, require_root};

/// Every verb that goes through the links of a path, with what it could do there.
const THROUGH_LINKS: [&str; 17] = [
    "getfile {}",
    "open {} r 0",
    "open {} rw 0",
    "open {} wct 420",
    "putfile {} 420 3",
    "md5 {}",
    "sha256 {}",
    "hash sha1 {}",
    "stat {}",
    "access {} 4",
    "access {} 2",
    "chmod {} 448",
    "chown {} 1 1",
    "truncate {} 0",
    "utime {} 1 1",
    "localpath {}",
    "getdir {}",
];

/// Verbs on the name of a link itself, which is free to the one who may change its directory.
fn refuses_all(peer: &mut Peer, path: &str, allowed: &[i64]) {
    for verb in THROUGH_LINKS {
        let answer = peer.number(format!("{}\n", verb.replace("{}", path)));
        assert!(allowed.contains(&answer), "{verb} {path}: {answer}");
    }
}

#[test]
fn links_out_of_the_tree_lead_nowhere() {
    let place = Place::new();
    let outside = place.base("outside");
    fs::create_dir(&outside).unwrap();
    let secret = outside.join("secret");
    fs::write(&secret, "secret").unwrap();
    place.give(&outside);
    place.give(&secret);
    let server = place.serve(&[]);
    let mut owner = server.owner();
    let absolute = secret.to_str().unwrap();
    let proc = format!("/proc/{}/root{absolute}", server.pid());
    let cwd = format!("/proc/self/cwd{absolute}");
    let targets = [
        absolute,
        "../outside/secret",
        "../../../../../../../../../../etc/passwd",
        "/etc/passwd",
        "/../../../etc/passwd",
        "/proc/self/root/etc/passwd",
        &proc,
        &cwd,
        "x/../../outside/secret",
    ];
    for (number, target) in targets.iter().enumerate() {
        place.link(target, &format!("l{number}"));
        // A chain of five in front of it.
        for step in 0..5 {
            let next = if step == 4 {
                format!("l{number}")
            } else {
                format!("c{number}.{}", step + 1)
            };
            place.link(&next, &format!("c{number}.{step}"));
        }
        refuses_all(&mut owner, &format!("/l{number}"), &[-3]);
        refuses_all(&mut owner, &format!("/c{number}.0"), &[-3]);
    }
    place.link(outside.to_str().unwrap(), "dir");
    place.link("..", "up");
    place.link("/", "root");
    refuses_all(&mut owner, "/dir/secret", &[-3]);
    refuses_all(&mut owner, "/up/outside/secret", &[-3]);
    refuses_all(&mut owner, "/root/../outside/secret", &[-3]);
    refuses_all(&mut owner, "/%2e%2e/outside/secret", &[-3]);
    refuses_all(&mut owner, "/up/up/%2e%2e/up/outside%2Fsecret", &[-3]);
    owner.expect(
        "rename /dir/secret /s\nlink /dir/secret /s\nunlink /dir/secret\nrmall /dir/secret\nmkdir /dir/new 448\nsymlink x /dir/new\n",
        "-3\n-3\n-3\n-3\n-2\n-3\n",
    );
    // Loops end.
    place.link("loop", "loop");
    place.link("b/x", "a");
    place.link("a/x", "b");
    refuses_all(&mut owner, "/loop", &[-127, -8, -3]);
    refuses_all(&mut owner, "/a", &[-127, -8, -3]);
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    // Removing a link to a directory leaves what it leads to.
    owner.expect("rmall /dir\n", "0\n");
    assert!(secret.exists());
    // What is above the root is not told: `..` there is the root.
    let listing = String::from_utf8(owner.answer("getlongdir /\n")).unwrap();
    let lines: Vec<&str> = listing.lines().collect();
    let stat_of = |name| lines[lines.iter().position(|line| *line == name).unwrap() + 1];
    assert_eq!(stat_of(".."), stat_of("."));
}

#[test]
fn magic_links_of_a_mounted_proc_lead_nowhere_as_root() {
    require_root();
    let place = Place::new();
    fs::create_dir(place.host("proc")).unwrap();
    let outside = place.base("secret");
    fs::write(&outside, "secret").unwrap();
    place.give(&outside);
    let default = place.base("default");
    fs::write(&default, format!("unix:{} rwldax\n", place.user)).unwrap();
    place.give(&default);
    let mut command = std::process::Command::new("unshare");
    let script = format!(
        "mount --rbind /proc {} && exec \"$@\"",
        place.host("proc").display()
    );
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
        "sh",
    ]);
    let served = Server::command(&place);
    command
        .arg(served.get_program())
        .args(served.get_args())
        .arg("-A")
        .arg(&default);
    let server = Server::spawn(&place, command);
    let mut owner = server.owner();
    assert!(
        owner.answer("getdir /proc/self\n").starts_with(b"0\n"),
        "proc is reached"
    );
    let path = outside.to_str().unwrap();
    for magic in ["root", "cwd"] {
        refuses_all(&mut owner, &format!("/proc/self/{magic}{path}"), &[-2, -3]);
    }
    for fd in 0..32 {
        for below in ["", "/.__acl", "/secret"] {
            let answer = owner.answer(format!("stat /proc/self/fd/{fd}{below}\n"));
            assert!(
                answer.starts_with(b"-"),
                "{fd}{below}: {}",
                answer.escape_ascii()
            );
            let answer = owner.answer(format!("open /proc/self/fd/{fd}{below} w 0\n"));
            assert!(
                answer.starts_with(b"-"),
                "{fd}{below}: {}",
                answer.escape_ascii()
            );
        }
    }
    assert_eq!(owner.getfile("/proc/self/exe"), Err(-3));
}

#[test]
fn swapping_directories_and_links_never_opens_a_way_out() {
    let place = Place::new();
    place.directory("d", &format!("unix:{} rwlda\n", place.user));
    place.write("d/f", "inside");
    let outside = place.base("outside");
    fs::create_dir(&outside).unwrap();
    for (name, content) in [
        ("f", "secret".to_owned()),
        (".__acl", format!("unix:{} rwlda\n", place.user)),
    ] {
        fs::write(outside.join(name), content).unwrap();
        place.give(&outside.join(name));
    }
    place.give(&outside);
    place.link(outside.to_str().unwrap(), "swap");
    let server = place.serve(&[]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let (one, other) = (place.host("d"), place.host("swap"));
            let mut swaps = 0;
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
            swaps
        });
        let until = Instant::now() + Duration::from_secs(2);
        let mut reads = 0;
        let mut owner = server.owner();
        while Instant::now() < until {
            match owner.getfile("/d/f") {
                Ok(content) => {
                    assert_ne!(content, b"secret");
                    reads += 1;
                }
                Err(code) => assert!([-3, -11, -2].contains(&code), "{code}"),
            }
            owner.putfile("/d/new", "x");
            owner.answer("mkdir /d/dir 448\nrename /d/new /d/newer\nunlink /d/f2\nlink /d/f /d/f2\nsymlink x /d/l\n");
            owner.answer("chmod /d/f 448\nutime /d/f 1 1\nrmall /d/dir\n");
            let listing = owner.answer("getdir /d\n");
            assert!(
                !listing.starts_with(b"0\n") || memchr::memmem::find(&listing, b"f\n").is_some()
            );
        }
        stop.store(true, Ordering::Relaxed);
        let swaps = swapper.join().unwrap();
        assert!(swaps > 100 && reads > 10, "{swaps} swaps, {reads} reads");
    });
    let mut names: Vec<_> = fs::read_dir(&outside)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, [".__acl", "f"], "nothing was made outside");
    assert_eq!(fs::read(outside.join("f")).unwrap(), b"secret");
}

#[test]
fn swapping_a_link_between_a_public_and_a_private_file_shows_only_the_public_one() {
    let place = Place::new();
    place.directory("priv", &format!("unix:{} rwlda\n", place.user));
    place.write("priv/f", "private");
    place.directory("pub", "address:127.0.0.2 rwlda\n");
    place.write("pub/f", "public");
    place.link("f", "pub/one");
    place.link("../priv/f", "pub/two");
    let server = place.serve(&[]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (one, other) = (place.host("pub/one"), place.host("pub/two"));
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let until = Instant::now() + Duration::from_secs(2);
        let mut guest = server.guest(2);
        let (mut shown, mut refused) = (0, 0);
        while Instant::now() < until {
            match guest.getfile("/pub/one") {
                Ok(content) => {
                    assert_eq!(content, b"public");
                    shown += 1;
                }
                Err(code) => {
                    assert!([-2, -3, -11].contains(&code), "{code}");
                    refused += 1;
                }
            }
            guest.putfile("/pub/one", "public");
            guest.answer("truncate /pub/one 6\nchmod /pub/one 420\n");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(
            shown > 10 && refused > 10,
            "{shown} shown, {refused} refused"
        );
    });
    assert_eq!(fs::read(place.host("priv/f")).unwrap(), b"private");
}

#[test]
fn the_rights_of_the_directory_reached_count_through_any_chain_of_links() {
    let place = Place::new();
    place.directory("priv", &format!("unix:{} rwlda\n", place.user));
    place.write("priv/s", "private");
    place.directory("pub", "address:127.0.0.2 rwlda\n");
    place.link("../priv/s", "pub/l2");
    place.link("l2", "pub/l1");
    place.link("/priv", "pub/d2");
    place.link("d2", "pub/d1");
    place.link("../priv/new", "pub/n2");
    place.link("n2", "pub/n1");
    let server = place.serve(&[]);
    let mut guest = server.guest(2);
    // W4, files and directories.
    for path in [
        "/pub/l1",
        "/pub/l2",
        "/pub/d1/s",
        "/pub/d1",
        "/pub/d2/",
        "/priv/s",
    ] {
        for verb in THROUGH_LINKS {
            let answer = guest.number(format!("{}\n", verb.replace("{}", path)));
            let writes = verb.starts_with("putfile") || verb.starts_with("open {} ");
            let expected: &[i64] = match (verb, path.ends_with('s')) {
                // What is a directory is no secret (part 3.3).
                _ if writes && path.contains("/d") && !path.ends_with('s') => &[-2, -13],
                ("getdir {}", _) if path.contains('l') || path.ends_with('s') => &[-3, -2],
                _ => &[-2],
            };
            assert!(expected.contains(&answer), "{verb} {path}: {answer}");
        }
    }
    guest.expect(
        "putfile /pub/n1 420 1\nopen /pub/n1 wc 420\nmkdir /pub/d1/x 448\nunlink /pub/d1/s\nrmall /pub/d1/s\n",
        "-2\n-2\n-2\n-2\n-2\n",
    );
    guest.expect(
        "rename /pub/d1/s /pub/mine\nlink /pub/d1/s /pub/mine\nsymlink x /pub/d1/x\nsetacl /pub/d1 address:127.0.0.2 rwlda\n",
        "-2\n-2\n-2\n-2\n",
    );
    assert_eq!(fs::read(place.host("priv/s")).unwrap(), b"private");
    assert_eq!(fs::read_dir(place.host("priv")).unwrap().count(), 2);
    // W36: who may only write reads by no flags.
    // A list edited by hand counts at once.
    place.write("pub/.__acl", "address:127.0.0.2 w\n");
    place.write("pub/f", "x");
    for flags in ["rc", "ra", "rw", "rwc", "rt", "r", "c", "a", "s", "q"] {
        let answer = guest.answer(format!("open /pub/f {flags} 420\n"));
        if !answer.starts_with(b"-") {
            let opened = String::from_utf8(answer).unwrap();
            let fd = opened.lines().next().unwrap();
            guest.expect(format!("pread {fd} 10 0\n"), "-12\n");
        }
    }
}

#[test]
fn reserved_names_are_refused_to_every_verb_however_they_are_spelt() {
    let place = Place::new();
    place.write(".__acl", format!("unix:{} rwldax\n", place.user));
    place.write(".__x", "hidden");
    place.directory(".__d", &format!("unix:{} rwldax\n", place.user));
    place.write(".__d/f", "hidden");
    place.write("f", "x");
    place.directory("h", &format!("unix:{} rwldax\n", place.user));
    for (target, link) in [
        (".__x", "l1"),
        ("l1", "l2"),
        (".__d", "ld"),
        (".__acl", "la"),
        (".__new", "ln"),
    ] {
        place.link(target, link);
    }
    let server = place.serve(&[]);
    let mut owner = server.owner();
    for path in [
        "/.__x",
        "/.__x/",
        "/%2e__x",
        "/%2E%5F%5fx",
        "//./.__x",
        "/h/../.__x",
        "/l1",
        "/l2",
        "/.__d/f",
        "/ld/f",
        "/ld/../.__x",
        "/l2/",
    ] {
        for verb in THROUGH_LINKS {
            let answer = owner.number(format!("{}\n", verb.replace("{}", path)));
            let not_a_directory = verb == "getdir {}" && answer == -3;
            assert!(answer == -2 || not_a_directory, "{verb} {path}: {answer}");
        }
    }
    for path in [
        "/.__x",
        "/.__d",
        "/.__d/f",
        "/ld/f",
        "/.__acl",
        "/.__acl/",
        "/.__new",
        "/.__d/new",
        "/h/.__acl",
    ] {
        for verb in [
            "mkdir {} 448",
            "rmdir {}",
            "rmall {}",
            "unlink {}",
            "rename {} /y",
            "rename /f {}",
            "link {} /y",
            "link /f {}",
            "symlink x {}",
        ] {
            let answer = owner.number(format!("{}\n", verb.replace("{}", path)));
            let missing = path.contains("new") && answer == -3;
            let is_there = verb.starts_with("mkdir") && answer == -4;
            assert!(
                answer == -2 || missing || is_there,
                "{verb} {path}: {answer}"
            );
        }
    }
    for path in ["/.__d", "/ld", "/.__d/"] {
        for verb in [
            "getdir {}",
            "getlongdir {}",
            "getacl {}",
            "setacl {} unix:x rl",
            "statfs {}",
            "rename /h {}/h",
        ] {
            owner.expect(format!("{}\n", verb.replace("{}", path)), "-2\n");
        }
    }
    for path in ["/.__new", "/ln", "/.__d/new"] {
        owner.expect(
            format!("putfile {path} 420 1\nopen {path} wc 420\n"),
            "-2\n-2\n",
        );
    }
    // A list can be read, and changed by `setacl`; not by verbs that work on files.
    for line in [
        "open /.__acl w 0",
        "open /la rw 0",
        "truncate /.__acl 0",
        "truncate /la 0",
        "chmod /.__acl 420",
        "utime /la 1 1",
    ] {
        owner.expect(format!("{line}\n"), "-2\n");
    }
    assert!(owner.getfile("/.__acl").unwrap().starts_with(b"unix:"));
    assert_eq!(
        owner.list("/"),
        [&b"f"[..], b"h", b"l1", b"l2", b"la", b"ld", b"ln"]
    );
    assert_eq!(fs::read(place.host(".__x")).unwrap(), b"hidden");
    assert_eq!(fs::read(place.host(".__d/f")).unwrap(), b"hidden");
}

#[test]
fn write_and_delete_do_not_become_admin() {
    let place = Place::new();
    let list = format!("unix:{} rwlda\naddress:127.0.0.2 rwld\n", place.user);
    place.directory("pub", &list);
    place.directory("mine", "address:127.0.0.2 rwlda\n");
    for (target, link) in [
        ("../pub/.__acl", "mine/l2"),
        ("l2", "mine/l1"),
        (".__acl", "pub/l2"),
        ("l2", "pub/l1"),
        ("../pub", "mine/d"),
    ] {
        place.link(target, link);
    }
    fs::create_dir(place.host("bare")).unwrap();
    place.give(&place.host("bare"));
    let default = place.base("default");
    fs::write(&default, "address:127.0.0.2 p\naddress:127.0.0.3 rwld\n").unwrap();
    place.give(&default);
    let server = place.serve(&["-A", default.to_str().unwrap()]);
    let mut guest = server.guest(2);
    for path in [
        "/pub/.__acl",
        "/pub/.__acl/",
        "/pub//.__acl",
        "/pub/%2e__acl",
        "/pub/l1",
        "/pub/l2",
        "/pub/l1/",
        "/mine/l1",
        "/mine/l2",
        "/mine/d/.__acl",
        "/mine/d/l1",
    ] {
        for verb in [
            "putfile {} 420 18",
            "open {} w 0",
            "open {} rwct 420",
            "truncate {} 0",
            "chmod {} 0",
        ] {
            let answer = guest.number(format!("{}\n", verb.replace("{}", path)));
            assert!([-2, -4].contains(&answer), "{verb} {path}: {answer}");
        }
    }
    for line in [
        "unlink /pub/.__acl",
        "unlink /pub/.__acl/",
        "rmall /pub/.__acl",
        "rename /pub/.__acl /pub/x",
        "rename /mine/x /pub/.__acl",
        "link /pub/.__acl /mine/x",
        "symlink x /pub/.__acl",
        "setacl /pub address:127.0.0.2 rwlda",
        "resetacl /pub rwlda",
        "setacl /mine/d address:127.0.0.2 rwlda",
    ] {
        let answer = guest.number(format!("{line}\n"));
        assert!([-2, -3].contains(&answer), "{line}: {answer}");
    }
    // Where a default governs, neither p nor w makes a list.
    for number in [2, 3] {
        let mut guest = server.guest(number);
        guest.expect(
            "putfile /bare/.__acl 420 18\nopen /bare/.__acl wc 420\nsymlink x /bare/.__acl\nmkdir /bare/.__acl 448\n",
            "-2\n".repeat(4),
        );
    }
    assert_eq!(fs::read_to_string(place.host("pub/.__acl")).unwrap(), list);
    assert_eq!(fs::read_dir(place.host("bare")).unwrap().count(), 0);
}

#[test]
fn a_list_that_is_no_plain_file_grants_nothing_and_blocks_nobody() {
    let place = Place::new();
    let outside = place.base("outside");
    fs::write(&outside, "address:127.0.0.2 rwlda\n").unwrap();
    place.give(&outside);
    for name in ["link", "fifo", "dir", "huge", "garbage"] {
        place.directory(name, "address:127.0.0.2 rwlda\n");
        place.write(format!("{name}/f"), "x");
        fs::remove_file(place.host(format!("{name}/.__acl"))).unwrap();
    }
    place.link(outside.to_str().unwrap(), "link/.__acl");
    rustix::fs::mkfifoat(CWD, place.host("fifo/.__acl"), rustix::fs::Mode::RWXU).unwrap();
    place.give(&place.host("fifo/.__acl"));
    fs::create_dir(place.host("dir/.__acl")).unwrap();
    // Sparse, and granting all at its end.
    let huge = fs::File::create(place.host("huge/.__acl")).unwrap();
    huge.set_len(1 << 40).unwrap();
    place.give(&place.host("huge/.__acl"));
    place.write(
        "garbage/.__acl",
        b"\xff\xfe\0\0\naddress:127.0.0.2\n rwlda\naddress:127.0.0.2 n\n\0address:127.0.0.2 rwlda",
    );
    let server = place.serve(&[]);
    let mut guest = server.guest(2);
    for name in ["link", "fifo", "dir", "huge", "garbage"] {
        guest.expect(format!("getfile /{name}/f\nputfile /{name}/g 420 1\ngetdir /{name}\nsetacl /{name} unix:x r\n"), "-2\n".repeat(4));
    }
    assert!(server.memory_kib("VmHWM") < 64 * 1024);
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_ends_the_connection() {
    let place = Place::new();
    place.write("big", vec![b'x'; 64 << 20]);
    let server = place.serve(&[]);
    let mut owner = server.owner();
    owner
        .send("getfile /big\nwhoami 4\n")
        .read_exactly("67108864\n");
    fs::File::options()
        .write(true)
        .open(place.host("big"))
        .unwrap()
        .set_len(1000)
        .unwrap();
    // What was under way may have zeros where the file was cut, but no answer stands in it.
    let rest = owner.rest();
    assert!(
        rest.len() < 64 << 20 && !rest.contains(&b'\n'),
        "{} bytes",
        rest.len()
    );
}

#[test]
fn descriptors_are_bounded_told_as_such_and_given_back() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    owner.putfile("/f", "x");
    let open = || {
        fs::read_dir(format!("/proc/{}/fd", server.pid()))
            .unwrap()
            .count()
    };
    owner.answer("getdir /\n");
    let before = open();
    // W22.
    owner.answer("getdir /\n".repeat(2000));
    owner.answer(
        "getlongdir /\ngetacl /\nmd5 /f\nsetacl / unix:x r\nstat /f/x\nopen /none r 0\n"
            .repeat(200),
    );
    assert_eq!(open(), before);
    // W31, W28.
    let opened = owner.answer("open /f r 0\n".repeat(1024));
    assert_eq!(opened.iter().filter(|&&byte| byte == b'\n').count(), 2048);
    owner.expect("open /f r 0\nopen / r 0\n", "-9\n-9\n");
    owner.expect(
        "getfile /f\npread 1023 1 0\npread 4294967296 1 0\nclose 4294967297\n",
        "1\nx1\nx-12\n-12\n",
    );
    assert!(owner.answer("fstatfs 7\n").starts_with(b"0\n"));
    owner.expect(
        "chown /none 1 1\nfchown 2000 1 1\nchown /f 1 1\n",
        "-3\n-12\n0\n",
    );
    owner.expect("close 512\n", "0\n");
    assert!(owner.answer("open /f r 0\n").starts_with(b"512\n"));
    drop(owner);
    crate::common::eventually("the connection's files are closed", || open() < before + 2);
}

#[test]
fn changes_of_one_list_at_once_are_all_kept() {
    let place = Place::new();
    let server = place.serve(&[]);
    std::thread::scope(|scope| {
        for client in 0..4 {
            let mut owner = server.owner();
            scope.spawn(move || {
                for number in 0..25 {
                    let request = format!("setacl / unix:c{client}n{number} rl\n");
                    owner.expect(request, "0\n");
                }
            });
        }
    });
    let list = server.owner().answer("getacl /\n");
    let lines = list.iter().filter(|&&byte| byte == b'\n').count();
    assert_eq!(lines, 1 + 1 + 100 + 1, "{}", list.escape_ascii());
}

#[test]
fn a_tree_of_any_depth_is_removed() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    let mut dir = rustix::fs::open(
        place.base("root"),
        rustix::fs::OFlags::PATH,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&dir, "d", rustix::fs::Mode::RWXU).unwrap();
        if crate::common::is_root() {
            let user = rustix::fs::stat(place.base("root")).unwrap();
            let (uid, gid) = (
                rustix::fs::Uid::from_raw(user.st_uid),
                rustix::fs::Gid::from_raw(user.st_gid),
            );
            rustix::fs::chownat(
                &dir,
                "d",
                Some(uid),
                Some(gid),
                rustix::fs::AtFlags::empty(),
            )
            .unwrap();
        }
        dir = rustix::fs::openat(
            &dir,
            "d",
            rustix::fs::OFlags::PATH,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
    }
    drop(dir);
    owner.expect("rmall /d\ngetdir /d\n", "0\n-3\n");
    assert_eq!(fs::read_dir(place.base("root")).unwrap().count(), 1);
}
