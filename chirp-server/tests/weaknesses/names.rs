//! Weaknesses in names, numbers, listings and answers.

use std::fs;

use crate::common::{Place, Server};
use crate::reference::Reference;

#[test]
fn w12_a_name_cannot_break_a_listing() {
    let place = Place::new();
    place.directory("nl", &format!("unix:{} rwlda\n", place.user));
    {
        let theirs = Reference::serve(&place, &[]);
        let mut owner = theirs.owner();
        assert_eq!(owner.putfile("/nl/a%0a%0ab", "x"), 1);
        // What a reader takes for the end is in its middle.
        let listing = owner.answer("getdir /nl\n");
        assert!(memchr::memmem::find(&listing, b"a\n\nb\n").is_some());
    }
    assert_eq!(fs::read_dir(place.host("nl")).unwrap().count(), 2);
    // The one that the reference has made is left out, and the connection stays in step.
    let ours = place.serve(&[]);
    let mut owner = ours.owner();
    owner.putfile("/f", "x");
    assert_eq!(owner.list("/nl"), [] as [&[u8]; 0]);
    let long = owner.answer("getlongdir /nl\n");
    assert!(
        memchr::memmem::find(&long, b"\nb\n").is_none(),
        "{}",
        long.escape_ascii()
    );
    for verb in [
        "putfile {} 420 1",
        "putstream {}",
        "open {} wc 420",
        "mkdir {} 448",
        "rename /nl {}",
        "link /f {}",
        "symlink x {}",
    ] {
        for name in ["c%0ad", "%0a", "c%00d"] {
            let request = verb.replace("{}", &format!("/nl/{name}"));
            owner.expect(format!("{request}\n"), "-8\n");
        }
    }
    owner.expect("unlink /nl/a%0a%0ab\nrmdir /nl\n", "0\n0\n");
}

#[test]
fn w13_a_listing_of_the_root_says_nothing_of_what_is_above_it() {
    let place = Place::new();
    // The inode of an entry, which is the second number of its line.
    let inode = |server: &Server<'_>, path: &str, name: &str| {
        let listing =
            String::from_utf8(server.owner().answer(format!("getlongdir {path}\n"))).unwrap();
        let mut lines = listing.lines().skip_while(|line| *line != name);
        let figures = lines.nth(1).unwrap();
        figures.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
    };
    let number =
        |path: &std::path::Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let (root, above) = (number(&place.base("root")), number(&place.base("")));
    assert_eq!(inode(&Reference::serve(&place, &[]), "/", ".."), above);
    let ours = place.serve(&[]);
    ours.owner()
        .expect("mkdir /d 448\nsymlink / /l\n", "0\n0\n");
    for path in ["/", "/..", "/d/../..", "/l"] {
        assert_eq!(inode(&ours, path, ".."), root, "{path}");
    }
    assert_eq!(inode(&ours, "/d", ".."), root);
}

#[test]
fn w14_rmdir_does_not_destroy_a_hidden_tree() {
    let place = Place::new();
    let user = format!("unix:{} rwlda\n", place.user);
    for dir in ["h", "g"] {
        place.directory(dir, &user);
        place.directory(&format!("{dir}/.__data"), &user);
        place.write(format!("{dir}/.__data/f"), "precious");
    }
    {
        let theirs = Reference::serve(&place, &[]);
        theirs.owner().expect("rmdir /h\n", "0\n");
        assert!(!place.host("h").exists());
    }
    let ours = place.serve(&[]);
    let mut owner = ours.owner();
    owner.expect("rmdir /g\n", "-15\n");
    assert_eq!(fs::read(place.host("g/.__data/f")).unwrap(), b"precious");
    // Nor can a client make one to begin with.
    owner.expect(
        "mkdir /g/.__more 448\nputfile /g/.__more 420 1\n",
        "-2\n-2\n",
    );
}

#[test]
fn w25_an_overlong_line_is_answered() {
    let place = Place::new();
    let line = format!("stat /{}\n", "x".repeat(1100));
    {
        let theirs = Reference::serve(&place, &[]);
        let mut owner = theirs.owner();
        owner.send(&line).read_end();
    }
    let ours = place.serve(&[]);
    let mut owner = ours.owner();
    owner.expect(&line, "-5\n");
    // Before a login too it is one answer, and no end.
    let mut stranger = ours.connect();
    stranger.send(&line).read_exactly("no\n");
    stranger
        .send([b'x'; 600_000])
        .send("\n")
        .read_exactly("no\n");
    stranger.login_address();
    // One that never ends is not read for ever.
    let mut endless = ours.connect();
    while endless.try_send([b'x'; 4096]) {}
}

#[test]
fn w28_a_descriptor_is_not_narrowed() {
    let place = Place::new();
    place.write("f", "hello");
    let attack = |server: &Server<'_>| {
        let mut owner = server.owner();
        owner.answer("open /f r 0\n");
        String::from_utf8(owner.answer("pread 4294967296 5 0\n")).unwrap()
    };
    assert_eq!(attack(&Reference::serve(&place, &[])), "5\nhello");
    let ours = place.serve(&[]);
    assert_eq!(attack(&ours), "-12\n");
    let mut owner = ours.owner();
    owner.answer("open /f rw 0\n");
    for fd in [
        "4294967296",
        "8589934592",
        "-4294967296",
        "18446744073709551616",
    ] {
        owner.expect(
            format!("pread {fd} 5 0\npwrite {fd} 1 0\nXfstat {fd}\nfstatfs {fd}\nfsync {fd}\nftruncate {fd} 0\nfchmod {fd} 420\nfchown {fd} 1 1\nfgetxattr {fd} user.a\nflistxattr {fd}\nfremovexattr {fd} user.a\nclose {fd}\n"),
            "-12\n".repeat(12),
        );
    }
    assert_eq!(owner.getfile("/f"), Ok(b"hello".to_vec()));
}

#[test]
fn w31_codes_say_what_happened() {
    let place = Place::new();
    place.write("f", "x");
    let attack = |server: &Server<'_>| {
        let mut owner = server.owner();
        // The file system's figures of a file vary.
        owner.answer("open /f r 0\n");
        let fstatfs = owner.answer("fstatfs 0\n").starts_with(b"0\n");
        let rest = owner.answer(
            "getxattr /f user.none\nfgetxattr 0 user.none\nremovexattr /f user.none\nchown /none 1 1\nfchown 77 1 1\n",
        );
        (fstatfs, String::from_utf8(rest).unwrap())
    };
    let theirs = attack(&Reference::serve(&place, &[]));
    assert_eq!(theirs, (false, "-127\n-127\n-127\n0\n0\n".to_owned()));
    let ours = place.serve(&[]);
    assert_eq!(attack(&ours), (true, "-8\n-8\n-8\n-3\n-12\n".to_owned()));
    // More files than a connection may have.
    let mut owner = ours.owner();
    let opened = owner.answer("open /f r 0\n".repeat(1024));
    assert_eq!(opened.iter().filter(|&&byte| byte == b'\n').count(), 2048);
    owner.expect("open /f r 0\nstat /none\nclose 0\n", "-9\n-3\n0\n");
    assert!(owner.answer("open /f r 0\n").starts_with(b"0\n"));
}

#[test]
fn w32_a_malformed_escape_is_refused_and_names_nothing() {
    let place = Place::new();
    place.write("a", "the file a");
    place.write("%41", "raw");
    let malformed = ["/a%", "/a%2", "/a%zz", "/a%%b", "/a%+1b", "/a%00b", "/a%00"];
    {
        let theirs = Reference::serve(&place, &[]);
        let mut owner = theirs.owner();
        // The name is cut where the escape stands: another file than the one named.
        assert_eq!(owner.getfile("/a%zz"), Ok(b"the file a".to_vec()));
    }
    let ours = place.serve(&[]);
    let mut owner = ours.owner();
    for path in malformed {
        for verb in [
            "getfile {}",
            "getstream {}",
            "putstream {}",
            "unlink {}",
            "rmall {}",
            "rename {} /z",
            "rename /a {}",
            "truncate {} 0",
            "listxattr {}",
            "setacl {} unix:x r",
            "lsalloc {}",
        ] {
            owner.expect(format!("{}\n", verb.replace("{}", path)), "-8\n");
        }
        owner.expect(format!("setxattr {path} user.a 3 0\nabc"), "-8\n");
    }
    assert_eq!(fs::read(place.host("a")).unwrap(), b"the file a");
    assert_eq!(owner.getfile("/%2541"), Ok(b"raw".to_vec()));
}

#[test]
fn w33_a_pattern_needs_a_subject_as_long_as_itself() {
    let place = Place::new();
    // Prefix and suffix overlap in the subject.
    place.directory("d", "address:127.0.0.2*7.0.0.2 rl\n");
    place.directory("e", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx*127.0.0.2 rl\n*xxxxxxxxxxxxxxxxxxxxxxxxxxxxaddress:127.0.0.2 rl\n");
    place.directory("f", "address:*.0.2 l\n");
    let attack = |server: &Server<'_>| {
        let mut guest = server.guest(2);
        assert!(guest.answer("getdir /f\n").starts_with(b"0\n"));
        ["/d", "/e"].map(|dir| guest.answer(format!("getdir {dir}\n")).starts_with(b"0\n"))
    };
    assert!(attack(&Reference::serve(&place, &[]))[0]);
    assert_eq!(attack(&place.serve(&[])), [false, false]);
}
