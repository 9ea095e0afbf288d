//! Requests that no good client sends, and what they are answered.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;

use crate::common::{Place, eventually, require_root};

/// Percent-encodes every byte of a name.
fn encoded(name: &[u8]) -> String {
    name.iter().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn unknown_verbs_and_missing_words_are_invalid_and_surplus_words_are_nothing() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    for line in [
        "frobnicate /",
        "STAT /",
        " stat /",
        "\tstat /",
        "statx /",
        "stat/",
        "   ",
        "read 0 1",
        "cookie 1",
        "version",
        "\u{7f}",
        "é",
        "-5",
        "0",
    ] {
        owner.expect(format!("{line}\n"), "-8\n");
    }
    for verb in [
        "open",
        "open /x",
        "open /x r",
        "close",
        "pread 0 1",
        "sread 0 1 1 1",
        "pwrite 0 1",
        "swrite 0 1 1 1",
        "fstat",
        "fstatfs",
        "fsync",
        "ftruncate 0",
        "fchmod 0",
        "getfile",
        "putfile",
        "putfile /x",
        "putfile /x 420",
        "getdir",
        "getlongdir",
        "stat",
        "lstat",
        "statfs",
        "access /x",
        "mkdir /x",
        "rmdir",
        "rmall",
        "unlink",
        "rename /x",
        "link /x",
        "symlink x",
        "readlink /x",
        "chmod /x",
        "truncate /x",
        "utime /x 1",
        "md5",
        "hash md5",
        "sha256",
        "store /x 420 1",
        "whoami",
        "getacl",
        "setacl / unix:x",
        "localpath",
        "exec",
        "exec_status",
        "exec_wait 1",
    ] {
        let answer = owner.answer(format!("{verb}\n"));
        assert!(
            answer.starts_with(b"-8"),
            "{verb}: {}",
            answer.escape_ascii()
        );
        assert_eq!(
            answer.iter().filter(|&&byte| byte == b'\n').count(),
            1,
            "{verb}"
        );
    }
    owner.expect(
        "whoami 4 and more words\nmkdir /d 448 surplus\n",
        "4\nunix0\n",
    );
}

#[test]
fn blank_lines_crlf_nul_and_eot_are_as_the_reference_has_them() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    owner.expect(
        "\n\r\n\0ignored\nwho\rami 4\r\nwhoami 4\0 rest\n",
        "4\nunix4\nunix",
    );
    owner
        .send("whoami 4\n\x04whoami 4\n")
        .read_exactly("4\nunix")
        .read_end();
}

#[test]
fn overlong_lines_are_too_big_and_the_next_line_is_a_request_again() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    let line = |length: usize| format!("whoami {}4\n", "0".repeat(length - 8));
    owner.expect(line(1023), "4\nunix");
    owner.expect(line(1024), "-5\n");
    owner.expect(line(1024).replace('\n', "\r\n"), "-5\n");
    owner.expect(line(5_000_000), "-5\n");
    // Nothing of it is taken for a request, wherever the server's reads happen to end.
    let many: String = (1024..30_000).step_by(499).map(line).collect();
    owner.expect(&many, "-5\n".repeat(many.lines().count()));
    owner.expect(format!("{} mkdir /evil 448\n", "x".repeat(200_000)), "-5\n");
    owner.expect(format!("stat /{}\n", "n".repeat(4096)), "-5\n");
    owner.expect(format!("stat /{}\n", "n".repeat(256)), "-24\n");
    owner.expect(format!("putfile /{} 420 1\n", "n".repeat(256)), "-24\n");
    owner.expect(format!("stat /{}\n", "n".repeat(255)), "-3\n");
    let deep = "/d".repeat(500);
    owner.expect(format!("stat {deep}\n"), "-3\n");
    assert_eq!(owner.list("/").len(), 0);
}

#[test]
fn names_of_every_byte_come_back_as_they_were_put() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    let mut names = Vec::new();
    for byte in 1..=255u8 {
        let name = [b'n', byte, b'n'];
        let path = encoded(&name);
        match byte {
            b'\n' => owner.expect(format!("putfile /{path} 420 1\n"), "-8\n"),
            b'/' => {}
            _ => {
                assert_eq!(owner.putfile(&path, [byte]), 1, "byte {byte}");
                assert_eq!(owner.getfile(&path), Ok(vec![byte]), "byte {byte}");
                names.push(name.to_vec());
            }
        }
        // As it is on the wire, where it can stand in a word.
        if !b"\n\r\t %/".contains(&byte) {
            owner.send(b"getfile /").send(name).send("\n");
            assert_eq!(owner.counted(), Ok(vec![byte]), "raw byte {byte}");
        }
    }
    assert_eq!(owner.list("/"), names);
    let all: Vec<u8> = (1..=255).filter(|byte| !b"\n/".contains(byte)).collect();
    assert_eq!(owner.putfile(&encoded(&all), "all"), 3);
    assert!(place.host(std::ffi::OsStr::from_bytes(&all)).is_file());
}

#[test]
fn a_name_that_would_break_a_listing_cannot_be_made_by_any_verb() {
    let place = Place::new();
    place.write("two\nlines", "x");
    let server = place.serve(&[]);
    let mut owner = server.owner();
    owner.putfile("/f", "x");
    for line in [
        "putfile /a%0ab 420 1",
        "open /a%0Ab wc 420",
        "mkdir /a%0ab 448",
        "rename /f /a%0ab",
        "link /f /a%0ab",
        "symlink x /a%0ab",
    ] {
        owner.expect(format!("{line}\n"), "-8\n");
        owner.expect(
            format!("{}\n", line.replace("%0a", "%00").replace("%0A", "%00")),
            "-8\n",
        );
    }
    // One that is there all the same is left out, and can be removed.
    assert_eq!(owner.list("/"), [b"f"]);
    owner.expect("getfile /two%0alines\nunlink /two%0alines\n", "1\nx0\n");
}

#[test]
fn malformed_escapes_are_invalid_for_every_path() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    for path in [
        "/a%", "/a%2", "/a%zz", "/a%%b", "/a%+1b", "/a%00b", "%", "/%G0", "/a% 1",
    ] {
        for verb in [
            "getfile {}",
            "putfile {} 420 1",
            "open {} wc 420",
            "getdir {}",
            "stat {}",
            "lstat {}",
            "mkdir {} 448",
            "rmall {}",
            "unlink {}",
            "rename {} /x",
            "rename / {}",
            "link {} /x",
            "symlink x {}",
            "readlink {} 9",
            "chmod {} 420",
            "truncate {} 1",
            "utime {} 1 1",
            "md5 {}",
            "sha256 {}",
            "getacl {}",
            "setacl {} unix:x r",
            "access {} 4",
            "statfs {}",
        ] {
            owner.expect(format!("{}\n", verb.replace("{}", path)), "-8\n");
        }
    }
    owner.expect("symlink a%2 /l\nreadlink /l 9\n", "0\n3\na%2");
}

#[test]
fn no_number_in_any_place_puts_the_connection_out_of_step() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    owner.putfile("/f", "hello world");
    owner.answer("open /f rw 0\nopen / r 0\n");
    let templates = [
        // What each verb answers to a negative number in place of N.
        ("whoami N", "-8"),
        ("close N", "-12"),
        ("pread N 5 0", "-12"),
        ("pread 0 N 0", "-8"),
        ("pread 0 5 N", "-8"),
        ("sread 0 N 1 1 0", "-8"),
        ("sread 0 5 N 1 0", "-8"),
        ("sread 0 5 1 N 0", "-8"),
        ("sread 0 5 1 1 N", "-8"),
        ("pwrite N 0 0", "-12"),
        ("pwrite 0 N 0", "-8"),
        ("pwrite 0 0 N", "-8"),
        ("swrite 0 N 1 1 0", "-8"),
        ("swrite 0 0 N 1 0", "-8"),
        ("swrite 0 0 1 N 0", "-8"),
        ("fstat N", "-12"),
        ("fstatfs N", "-12"),
        ("fsync N", "-12"),
        ("ftruncate N 1", "-12"),
        ("ftruncate 0 N", "-8"),
        ("fchmod N 420", "-12"),
        ("putfile /n 420 N", "-8"),
        ("readlink /f N", "-8"),
        ("access /f N", "-8"),
        ("truncate /f N", "-8"),
    ];
    for (template, negative) in templates {
        for number in [
            "-1",
            "-4294967296",
            "-9223372036854775808",
            "-99999999999999999999",
        ] {
            let request = format!("{}\n", template.replace('N', number));
            owner.expect(request, format!("{negative}\n"));
        }
        let brings_a_body = ["putfile", "pwrite 0 N", "swrite 0 N"]
            .iter()
            .any(|start| template.starts_with(start));
        // The answer to `whoami` is what the others' end is recognised by.
        if brings_a_body || template.starts_with("whoami") {
            continue;
        }
        for number in ["4294967296", "9223372036854775807", "99999999999999999999"] {
            let answer = owner.answer(format!("{}\n", template.replace('N', number)));
            let fd = template.split(' ').nth(1) == Some("N");
            if fd {
                assert_eq!(answer, b"-12\n", "{template} with {number}");
            }
        }
        // Whatever it did to the file, put it back.
        owner.expect("truncate /f 11\n", "0\n");
    }
    for template in [
        "open /o wc N",
        "mkdir /m 448 N",
        "chmod /f N",
        "utime /f N 1",
        "utime /f 1 N",
    ] {
        for number in ["-1", "99999999999999999999", "-99999999999999999999", "0"] {
            let answer = owner.answer(format!("{}\n", template.replace('N', number)));
            assert!(answer.ends_with(b"\n"), "{template} with {number}");
        }
    }
    assert!(owner.answer("stat /f\n").starts_with(b"0\n"));
}

#[test]
fn a_body_announced_beyond_all_measure_costs_no_memory() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    owner.putfile("/f", "old");
    owner.answer("open /f rw 0\n");
    let before = server.memory_kib("VmRSS");
    for request in [
        "putfile /f 420 4611686018427387904\n",
        "putfile /f 420 9223372036854775807\n",
        "pwrite 0 4611686018427387904 0\n",
        "pwrite 7 4611686018427387904 0\n",
        "swrite 0 4611686018427387904 10 10 0\n",
        "setxattr /f user.a 4611686018427387904 0\n",
        "exec 4611686018427387904\n",
        "job_create 4611686018427387904\n",
        "ticket_register self 60 4611686018427387904\n",
    ] {
        let mut peer = server.owner();
        peer.answer("open /f rw 0\n");
        peer.send(request);
        let megabyte = vec![b'x'; 1 << 20];
        for _ in 0..24 {
            if !peer.try_send(&megabyte) {
                break;
            }
        }
        let after = server.memory_kib("VmRSS");
        assert!(
            after < before + 8 * 1024,
            "{request}: from {before} to {after} KiB"
        );
    }
    owner.answer("whoami 4\n");
    assert_eq!(place.debris(), [] as [std::path::PathBuf; 0]);
}

#[test]
fn a_pwrite_above_16_mib_writes_that_much_and_drops_the_rest() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    owner.answer("open /f rwc 420\n");
    let max = 16 * 1024 * 1024;
    owner.send(format!("pwrite 0 {} 1\n", max + 5));
    owner.send(vec![b'a'; max]).send("bcdef");
    owner.expect("", format!("{max}\n"));
    let length = fs::metadata(place.host("f")).unwrap().len();
    assert_eq!(length, max as u64 + 1);
    owner.send(format!("pread 0 {} 0\n", max + 5));
    let read = owner.counted().unwrap();
    assert_eq!(read.len(), max);
    assert_eq!(read.get(..2), Some(&b"\0a"[..]));
    // A refused one's body is dropped too.
    owner
        .send(format!("pwrite 9 {} 0\n", max + 1))
        .send(vec![b'\n'; max + 1]);
    owner.expect("", "-12\n");
}

#[test]
fn a_directory_where_a_file_is_meant_and_the_other_way_round() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    owner.putfile("/f", "x");
    owner.expect("mkdir /d 448\n", "0\n");
    for path in ["/d", "/"] {
        owner.expect(
            format!("getfile {path}\nputfile {path} 420 3\nopen {path} w 0\nmd5 {path}\nsha256 {path}\ntruncate {path} 0\n"),
            "-13\n".repeat(6),
        );
    }
    owner.expect("unlink /d\nlink /d /e\nreadlink /d 9\n", "-13\n-2\n-8\n");
    owner.expect(
        "getdir /f\ngetlongdir /f\nrmdir /f\ngetacl /f\n",
        "-3\n-3\n-14\n-14\n",
    );
    owner.expect(
        "getfile /f/x\nputfile /f/x 420 1\nstat /f/x\nmkdir /f/x 448\n",
        "-3\n-3\n-3\n-2\n",
    );
    owner.expect(
        "rename /f /d\nrename /d /f\nmkdir /f 448\nmkdir /d 448\n",
        "-13\n-14\n-4\n-4\n",
    );
    owner.expect(
        "rmdir /\nrmall /\nrename / /x\nunlink /\n",
        "-15\n-10\n-10\n-13\n",
    );
}

/// Sends every verb at a special file; none may wait for anything.
fn special_file_never_blocks(place: &Place, name: &str) {
    let server = place.serve(&[]);
    let mut owner = server.owner();
    owner.putfile("/f", "x");
    for verb in [
        "getfile {}",
        "putfile {} 420 1",
        "open {} r 0",
        "open {} w 0",
        "open {} rwct 420",
        "md5 {}",
        "sha256 {}",
        "truncate {} 0",
        "getdir {}",
        "getacl {}",
        "setacl {} unix:x r",
        "readlink {} 9",
        "rmdir {}",
        "statfs {}",
        "getfile {}/x",
    ] {
        let answer = owner.number(format!("{}\n", verb.replace("{}", name)));
        assert!((-24..0).contains(&answer), "{verb} {name}: {answer}");
    }
    for verb in ["chmod {} 384", "utime {} 1 1", "access {} 4"] {
        owner.answer(format!("{}\n", verb.replace("{}", name)));
    }
    for verb in ["stat", "lstat", "getlongdir"] {
        let path = if verb == "getlongdir" { "/" } else { name };
        let answer = owner.answer(format!("{verb} {path}\n"));
        assert!(answer.starts_with(b"0\n"), "{verb}");
    }
    owner.expect(format!("rename {name} /moved\nunlink /moved\n"), "0\n0\n");
}

#[test]
fn fifos_and_sockets_in_the_tree_block_nothing() {
    let place = Place::new();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.host("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    place.give(&place.host("fifo"));
    special_file_never_blocks(&place, "/fifo");
    let _listener = UnixListener::bind(place.host("socket")).unwrap();
    place.give(&place.host("socket"));
    special_file_never_blocks(&place, "/socket");
}

#[test]
fn a_device_in_the_tree_is_neither_read_nor_written_as_root() {
    require_root();
    let place = Place::new();
    // /dev/zero, which never ends.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.host("zero"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::RWXU,
        rustix::fs::makedev(1, 5),
    )
    .unwrap();
    place.give(&place.host("zero"));
    special_file_never_blocks(&place, "/zero");
}

#[test]
fn requests_may_come_one_byte_at_a_time_or_ten_thousand_in_one_write() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    for byte in b"putfile /f 420 3\nabcgetfile /f\n" {
        owner.send([*byte]);
    }
    owner.expect("", "0\n3\n3\nabc");
    owner.expect("getfile /f\n".repeat(10_000), "3\nabc".repeat(10_000));
}

#[test]
fn connections_that_vanish_leave_nothing_behind() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    owner.putfile("/f", vec![b'x'; 1 << 20]);
    let open = || {
        fs::read_dir(format!("/proc/{}/fd", server.pid()))
            .unwrap()
            .count()
    };
    owner.expect("whoami 4\n", "4\nunix");
    let before = open();
    for round in 0..50 {
        let mut peers: Vec<_> = (0..6).map(|_| server.connect()).collect();
        peers[0].send("addr");
        peers[1].begin_unix();
        peers[1].send("yes\n");
        for peer in &mut peers[2..] {
            peer.login_unix();
        }
        peers[2].send(format!("putfile /g{round} 420 100000\nabc"));
        peers[3].send("getfile /f\n".repeat(20));
        peers[4].send("open /f r 0\n".repeat(20));
        peers[5].send("exec 100\n{");
        for peer in peers {
            // Closed with a reset, not politely.
            rustix::net::sockopt::set_socket_linger(peer.socket(), Some(std::time::Duration::ZERO))
                .unwrap();
        }
    }
    // Fewer where namespaces that were ready have grown too old meanwhile.
    eventually("all is given back", || {
        open() <= before && place.debris().is_empty()
    });
    assert_eq!(owner.list("/"), [b"f"]);
}

#[test]
fn answers_are_sent_before_the_server_waits_for_a_body() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    owner.answer("open /f rwc 420\n");
    for (request, body, verdict) in [
        ("pwrite 0 5 0", "hello", "5\n"),
        ("swrite 0 4 2 2 0", "abcd", "4\n"),
        ("pwrite 7 5 0", "hello", "-12\n"),
        ("pwrite 0 5 -1", "hello", "-8\n"),
        ("putfile /g 420 5", "hello", "0\n5\n"),
        ("exec 2", "{}", "-8 "),
    ] {
        owner
            .send(format!("whoami 4\n{request}\n"))
            .read_exactly("4\nunix");
        owner.send(body).read_exactly(verdict);
    }
}

#[test]
fn a_half_closed_connection_gets_all_its_answers() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    owner.send("putfile /f 420 3\nabcgetfile /f\nwhoami 4\nwhoam");
    owner.finish_sending();
    owner.read_exactly("0\n3\n3\nabc4\nunix").read_end();
}

#[test]
fn a_megabyte_of_line_feeds_costs_next_to_nothing() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    owner.expect("\n".repeat(1 << 20), "");
    // The reference needs minutes of processor time; this is 5 s even at 100 ticks a second.
    assert!(ticks() - before < 500);
    eventually("memory is given back", || {
        server.memory_kib("VmRSS") < 64 * 1024
    });
}
