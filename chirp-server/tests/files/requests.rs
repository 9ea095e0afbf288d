//! What each verb does when its rights are there.

use std::os::unix::fs::PermissionsExt;

use crate::language::Tree;

const F: &str = "putfile /f 420 11\nhello world";
const S: &str = "putfile /s 420 26\nabcdefghijklmnopqrstuvwxyz";

#[test]
fn whoami_is_cut_to_what_the_client_wants() {
    let tree = Tree::new();
    tree.alice().expect(
        "whoami 4\nwhoami 0\nwhoami 99999999999999999999\n",
        "4\nunix0\n10\nunix:alice",
    );
}

#[test]
fn descriptors_read_and_write() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send(F);
    assert!(alice.send("open /f r 0\n").starts_with(b"0\n"));
    alice.expect(
        "pread 0 5 0\npread 0 100 6\npread 0 5 100\npread 0 0 0\n",
        "5\nhello5\nworld0\n0\n",
    );
    alice.expect("pread 7 5 0\npread 0 5 9223372036854775807\n", "-12\n-8\n");
    alice.expect("pwrite 0 2 0\nxxwhoami 4\n", "-12\n4\nunix");
    alice.expect("pwrite 0 0 0\n", "-12\n");
    alice.expect("ftruncate 0 5\n", "-8\n");
    assert!(alice.send("open /w rwct 420\n").starts_with(b"1\n"));
    alice.expect("pwrite 1 3 5\nxyzpread 1 100 0\n", "3\n8\n\0\0\0\0\0xyz");
    alice.expect("pwrite 9 5 0\nhellowhoami 4\n", "-12\n4\nunix");
    alice.expect("fsync 1\nftruncate 1 2\nfchmod 1 493\n", "0\n0\n0\n");
    let stat = alice.stat("/w");
    assert_eq!((stat.mode, stat.size), (0o100_755, 2));
    alice.expect("close 0\nclose 0\nfstat 0\n", "0\n-12\n-12\n");
    assert!(alice.send("fstatfs 1\n").starts_with(b"0\n"));
    assert!(alice.send("open /f wa 0\n").starts_with(b"0\n"));
    alice.expect("pwrite 0 3 0\nabcgetfile /f\n", "3\n14\nhello worldabc");
}

#[test]
fn open_follows_its_letters() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send(F);
    alice.expect(
        "open /none r 0\nopen /f wcx 420\nopen /none/x wc 0\nopen /f/x r 0\n",
        "-3\n-4\n-3\n-3\n",
    );
    for (line, mode) in [
        ("open /a wc 511\n", 0o100_700),
        ("open /b wc 0\n", 0o100_600),
        ("open /c wc 420\n", 0o100_600),
        ("open /d wc 3583\n", 0o100_700),
    ] {
        let reply = String::from_utf8(alice.send(line)).unwrap();
        let mode_sent = reply.split_whitespace().nth(3).unwrap();
        assert_eq!(mode_sent, format!("{mode}"), "{line}");
    }
    alice.expect(
        "mkdir /dir 448\nopen /dir w 0\nopen /dir rx 0\n",
        "0\n-13\n-13\n",
    );
    assert!(alice.send("open /dir r 0\n").starts_with(b"4\n"));
    alice.expect(
        "pread 4 10 0\npread 4 1000000 0\nsread 4 6 2 5 0\n",
        "-13\n-13\n-13\n",
    );
    assert!(alice.send("fstatfs 4\n").starts_with(b"0\n"));
    alice.expect("symlink t /l\n", "0\n");
    assert!(alice.send("open /l wc 420\n").starts_with(b"5\n"));
    assert!(
        tree.host("t").is_file(),
        "the target of a dangling link is made"
    );
    alice.expect("symlink loop /loop\nopen /loop r 0\n", "0\n-8\n");
}

#[test]
fn strides_gather_and_scatter() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send(S);
    alice.send("open /s rw 0\n");
    for (line, expected) in [
        ("sread 0 6 2 5 0\n", "6\nabfgkl"),
        ("sread 0 7 2 5 0\n", "6\nabfgkl"),
        ("sread 0 100 3 10 0\n", "9\nabcklmuvw"),
        ("sread 0 100 4 10 5\n", "9\nfghipqrsz"),
        ("sread 0 1 2 5 0\n", "0\n"),
        ("sread 0 6 0 5 0\n", "0\n"),
        ("sread 0 6 2 0 3\n", "6\ndedede"),
        ("sread 0 6 3 1 0\n", "6\nabcbcd"),
        ("sread 0 6 2 5 26\n", "0\n"),
        ("sread 0 6 2 5 99\n", "0\n"),
        ("sread 0 4 2 9223372036854775807 24\n", "2\nyz"),
        ("sread 5 6 2 5 0\n", "-12\n"),
        ("swrite 0 5 2 5 0\n12345", "4\n"),
        ("swrite 0 4 2 5 100\nabcd", "-8\n"),
        ("swrite 0 3 0 5 0\nabc", "0\n"),
        ("swrite 0 6 2 5 10\nABCDEF", "6\n"),
        ("getfile /s\n", "26\n12cde34hijABmnoCDrstEFwxyz"),
    ] {
        alice.expect(line, expected);
    }
}

#[test]
fn a_stride_larger_than_any_window_is_gathered_exactly() {
    let tree = Tree::new();
    let content: Vec<u8> = (0..400_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(tree.host("big"), &content).unwrap();
    let mut alice = tree.alice();
    alice.send("open /big r 0\n");
    for (piece, every) in [
        (1, 3),
        (5, 4096),
        (40_000, 70_000),
        (3, 33_000),
        (100_000, 50_000),
    ] {
        let pieces = 9;
        let mut expected = Vec::new();
        for start in (0..pieces).map(|number| 11 + number * every) {
            expected.extend_from_slice(&content[start..start + piece]);
        }
        let length = piece * pieces;
        let reply = alice.send(format!("sread 0 {length} {piece} {every} 11\n"));
        let body = reply
            .strip_prefix(format!("{length}\n").as_bytes())
            .unwrap();
        assert!(body == expected, "{piece} every {every}");
    }
}

#[test]
fn large_reads_come_from_the_file_and_end_with_it() {
    let tree = Tree::new();
    let content: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[0]).collect();
    std::fs::write(tree.host("big"), &content).unwrap();
    let mut alice = tree.alice();
    alice.send("open /big r 0\n");
    let reply = alice.send("pread 0 99999999 1000\n");
    assert!(reply == [b"299000\n", &content[1000..]].concat());
    alice.expect(
        "pread 0 99999999 300000\npread 0 99999999 400000\n",
        "0\n0\n",
    );
    let reply = alice.send("getfile /big\n");
    assert!(reply == [b"300000\n", content.as_slice()].concat());
    alice.send("open /big w 0\n");
    alice.expect("pread 1 99999999 0\n", "-12\n");
}

#[test]
fn whole_files() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.expect("putfile /p 420 3\nabc", "0\n3\n");
    alice.expect("putfile /p 511 2\nab", "0\n2\n");
    assert_eq!(
        alice.stat("/p").mode,
        0o100_600,
        "an existing file keeps its mode"
    );
    std::fs::set_permissions(tree.host("p"), std::fs::Permissions::from_mode(0o640)).unwrap();
    alice.expect("putfile /p 420 1\nx", "0\n1\n");
    assert_eq!(alice.stat("/p").mode, 0o100_640);
    alice.expect("putfile /e 420 0\ngetfile /e\n", "0\n0\n0\n");
    alice.expect(
        "mkdir /d 448\nputfile /d 420 1\ngetfile /d\ngetfile /none\ngetfile /p/x\n",
        "0\n-13\n-13\n-3\n-3\n",
    );
    alice.expect(
        "putfile /none/p 420 5\nhello\nwhoami 4\n",
        "-3\n-8\n4\nunix",
    );
    alice.expect(
        "symlink p /l\nputfile /l 420 2\nyyreadlink /l 9\ngetfile /p\n",
        "0\n0\n2\n1\np2\nyy",
    );
    alice.expect("getfile /p/\ngetfile /../d/../p\n", "2\nyy2\nyy");
}

#[test]
fn listings_show_what_clients_may_know() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    std::fs::write(tree.host(".__x"), "q").unwrap();
    std::fs::write(tree.host("a\nb"), "q").unwrap();
    alice.send(F);
    assert_eq!(alice.list("/"), ["f"]);
    alice.expect("getdir /f\ngetdir /none\ngetlongdir /f\n", "-3\n-3\n-3\n");
    let reply = String::from_utf8(alice.send("getlongdir /\n")).unwrap();
    let lines: Vec<&str> = reply.lines().collect();
    let line_after = |name| lines[lines.iter().position(|line| *line == name).unwrap() + 1];
    assert_eq!(
        line_after(".."),
        line_after("."),
        "nothing above the root is shown"
    );
    assert_eq!(line_after("f").split(' ').nth(7), Some("11"));
    assert_eq!(lines.last(), Some(&""));
}

#[test]
fn a_large_directory_is_listed_in_pieces() {
    let tree = Tree::new();
    for number in 0..5000 {
        std::fs::write(tree.host(&format!("a-rather-long-name-{number}")), "").unwrap();
    }
    let dir = chirp_server::vfs::Root::open(tree.root.path()).unwrap();
    let mut listing = chirp_server::vfs::Listing::new(dir.dir(), true, true).unwrap();
    let mut out = bytes::BytesMut::new();
    let (mut pieces, mut names) = (0, 0);
    loop {
        let more = listing.fill(&mut out).unwrap();
        assert!(out.len() < chirp_server::vfs::listing::PIECE + 1024);
        names += out
            .as_ref()
            .split(|&byte| byte == b'\n')
            .filter(|line| line.starts_with(b"a-"))
            .count();
        out.clear();
        pieces += 1;
        if !more {
            break;
        }
    }
    assert_eq!(names, 5000);
    assert!(pieces > 5, "{pieces}");
}

#[test]
fn directories_are_made_and_removed() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send(F);
    alice.expect(
        "mkdir /d 511\nmkdir /d 448\nmkdir /f 448\nmkdir / 448\nmkdir /x/y 448\nmkdir /f/y 448\n",
        "0\n-4\n-4\n-4\n-2\n-2\n",
    );
    assert_eq!(alice.stat("/d").mode, 0o040_700);
    assert_eq!(tree.names("d"), [".__acl"]);
    alice.expect(
        "putfile /d/x 420 1\n1rmdir /d\nunlink /d\n",
        "0\n1\n-15\n-13\n",
    );
    alice.expect(
        "unlink /d/x\nrmdir /f\nrmdir /none\nsymlink /d /l\nrmdir /l\n",
        "0\n-14\n-3\n0\n-14\n",
    );
    alice.expect("rmdir /d\nstat /d\nrmdir /\n", "0\n-3\n-15\n");
    assert_eq!(tree.names(""), [".__acl", "f", "l"]);
    alice.expect(
        "unlink /l\nunlink /f/\nunlink /none\nrmdir /\n",
        "0\n0\n-3\n-10\n",
    );
    assert_eq!(tree.names(""), [".__acl"]);
}

#[test]
fn rmdir_leaves_hidden_trees_alone() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.expect("mkdir /h 448\n", "0\n");
    std::fs::create_dir(tree.host("h/.__data")).unwrap();
    std::fs::write(tree.host("h/.__data/precious"), "x").unwrap();
    alice.expect("rmdir /h\n", "-15\n");
    assert!(alice.list("/h").is_empty(), "it is hidden all the same");
    std::fs::remove_dir_all(tree.host("h/.__data")).unwrap();
    std::fs::write(tree.host("h/.__put.left"), "x").unwrap();
    alice.expect("rmdir /h\nstat /h\n", "0\n-3\n");
}

#[test]
fn rmall_removes_trees_of_any_depth_and_only_them() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send(F);
    alice.send("mkdir /t 448\n");
    std::os::unix::fs::symlink("/", tree.host("t/up")).unwrap();
    std::os::unix::fs::symlink("../f", tree.host("t/file")).unwrap();
    // Deeper than the process may have descriptors, and than a path can name.
    let mut deep = std::fs::File::open(tree.host("t")).unwrap();
    for _ in 0..1500 {
        use rustix::fs::{Mode, OFlags};
        rustix::fs::mkdirat(&deep, c"a-directory", Mode::RWXU).unwrap();
        let next = rustix::fs::openat(&deep, c"a-directory", OFlags::DIRECTORY, Mode::empty());
        deep = next.unwrap().into();
        rustix::fs::openat(&deep, c"x", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    }
    drop(deep);
    alice.expect("rmall /t\nstat /t\ngetfile /f\n", "0\n-3\n11\nhello world");
    alice.expect("rmall /none\nrmall /f\nrmall /\n", "-3\n0\n-10\n");
    assert_eq!(tree.names(""), [".__acl"]);
}

#[test]
fn names_move_and_multiply() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send(F);
    alice.expect(
        "rename /f /g\ngetfile /g\nstat /f\n",
        "0\n11\nhello world-3\n",
    );
    alice.expect(
        "putfile /h 420 2\nzzrename /g /h\ngetfile /h\n",
        "0\n2\n0\n11\nhello world",
    );
    alice.expect(
        "mkdir /d 448\nrename /d /d/e\nrename /d /h\nrename /h /d\nrename / /x\nrename /d /\n",
        "0\n-8\n-14\n-13\n-10\n-10\n",
    );
    alice.expect("rename /none /x\nrename /h /none/x\n", "-3\n-3\n");
    alice.expect(
        "link /h /i\nlink /d /e\nlink /h /i\nlink /none /j\n",
        "0\n-2\n-4\n-3\n",
    );
    assert_eq!(alice.stat("/i").links, 2);
    alice.expect("symlink a%20b /l\nreadlink /l 100\nreadlink /l 2\nreadlink /l 0\nreadlink /h 9\nreadlink /none 9\n", "0\n5\na%20b2\na%-8\n-8\n-3\n");
    alice.expect(
        "symlink x /h\nsymlink x /none/y\nsymlink x /d\n",
        "-4\n-3\n-4\n",
    );
    alice.expect(
        "link /l /m\nlocalpath /d/../l\nlocalpath /./h\n",
        "0\n-3\n2\n/h",
    );
    assert!(tree.host("m").is_symlink());
}

#[test]
fn metadata() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send(F);
    alice.send("mkdir /d 448\nsymlink f /l\nsymlink none /dangling\n");
    assert_eq!(alice.stat("/f").size, 11);
    assert_eq!(alice.stat("/l").mode, 0o100_600);
    assert!(alice.stat("/").is_directory());
    assert_eq!(alice.stat("/f/").size, 11);
    let link = String::from_utf8(alice.send("lstat /l\n")).unwrap();
    assert!(link.contains(" 41471 1 "), "{link}");
    alice.expect(
        "stat /dangling\nstat /none\nstat /none/x\nstat /f/x\n",
        "-3\n-3\n-3\n-3\n",
    );
    assert!(alice.send("statfs /d\n").starts_with(b"0\n"));
    alice.expect("statfs /f\nstatfs /none\n", "-14\n-3\n");
    for (bits, mode) in [
        (0o755, 0o755),
        (0o777, 0o777),
        (0, 0o600),
        (0o4777, 0o777),
        (0o644, 0o644),
    ] {
        alice.expect(format!("chmod /l {bits}\n"), "0\n");
        assert_eq!(alice.stat("/f").mode & 0o7777, mode, "{bits:o}");
    }
    alice.expect("chmod /d 0\nchmod /none 0\n", "0\n-3\n");
    assert_eq!(alice.stat("/d").mode, 0o040_700);
    alice.expect(
        "chown /f 1 1\nlchown /l 1 1\nchown /none 1 1\n",
        "0\n0\n-3\n",
    );
    alice.expect(
        "truncate /f 5\ngetfile /f\ntruncate /d 1\ntruncate /none 1\n",
        "0\n5\nhello-13\n-3\n",
    );
    alice.expect(
        "utime /l -5 2000\nutime /d 1 2\nutime /none 1 1\n",
        "0\n0\n-3\n",
    );
    let stat = alice.stat("/f");
    assert_eq!((stat.atime, stat.mtime), (-5, 2000));
    assert_eq!(alice.stat("/d").mtime, 2);
    alice.expect(
        "access /f 0\naccess /f 6\naccess /none 0\naccess /d 7\naccess /f 8\n",
        "0\n0\n-3\n0\n-8\n",
    );
    alice.expect(
        "chmod /f 0\naccess /f 1\nchmod /f 64\naccess /f 1\n",
        "0\n-2\n0\n0\n",
    );
}

#[test]
fn digests_are_binary() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send(F);
    alice.expect("md5 /f\nhash md5 /f\n", b"16\n^\xb6;\xbb\xe0\x1e\xee\xd0\x93\xcb\"\xbb\x8fZ\xcd\xc316\n^\xb6;\xbb\xe0\x1e\xee\xd0\x93\xcb\"\xbb\x8fZ\xcd\xc3");
    alice.expect(
        "hash sha1 /f\n",
        b"20\n*\xael5\xc9O\xcf\xb4\x15\xdb\xe9_@\x8b\x9c\xe9\x1e\xe8F\xed",
    );
    let sha256 = alice.send("sha256 /f\n");
    assert!(
        sha256.starts_with(b"32\n\xb9\x4d\x27\xb9"),
        "{}",
        sha256.escape_ascii()
    );
    alice.expect(
        "hash md5 /\nhash sha1 /none\nhash crc /f\n",
        "-13\n-3\n-8\n",
    );
    // Large enough to be made elsewhere.
    std::fs::write(tree.host("z"), vec![0; 1 << 20]).unwrap();
    alice.expect(
        "md5 /z\n",
        b"16\n\xb6\xd8\x1b\x36\x0a\x56\x72\xd8\x0c\x27\x43\x0f\x39\x15\x3e\x2c",
    );
}

#[test]
fn requests_of_later_versions_are_refused_and_their_bodies_dropped() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.expect(
        "job_create 2\n{}lsalloc /\nsetrep / 2\nwhoami 4\n",
        "-8\n-8\n-8\n4\nunix",
    );
    alice.expect("debug all\n", "-2\n");
}

#[test]
fn setrep_asks_for_rights_before_it_is_refused() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send(F);
    alice.expect(
        "setrep /f 2\nsetrep /none 2\nsetrep @@@ 2\nsetrep /f -1\nsetrep /none/f 2\n",
        "-8\n-8\n-8\n-8\n-3\n",
    );
    tree.bob()
        .expect("setrep /f 2\nsetrep /none 2\n", "-2\n-2\n");
}
