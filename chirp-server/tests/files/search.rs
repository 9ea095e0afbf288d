//! `search` and `audit`.

use std::fs;
use std::os::unix::fs::symlink;

use crate::language::{Peer, Tree};

/// Returns the lines of an answer, sorted, after checking how it begins and ends.
#[track_caller]
fn search(peer: &mut Peer<'_>, request: &str) -> Vec<String> {
    let reply = peer.send(format!("search {request}\n"));
    let reply = String::from_utf8(reply).unwrap();
    let lines = reply.strip_prefix("0\n").unwrap();
    let lines = lines.strip_suffix("\n").unwrap();
    let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The tree of part 11.
fn example(tree: &Tree) {
    let mut alice = tree.alice();
    alice.expect(
        "mkdir /v 448\nmkdir /v/a 448\nmkdir /v/a/b 448\n",
        "0\n0\n0\n",
    );
    for file in ["/v/foo", "/v/a/foo", "/v/a/bar", "/v/a/b/foo"] {
        alice.expect(format!("putfile {file} 420 1\nx"), "0\n1\n");
    }
}

#[test]
fn the_examples_of_the_specification_come_out() {
    let tree = Tree::new();
    example(&tree);
    let mut alice = tree.alice();
    for (request, expected) in [
        ("foo /v 0", &["0:/a/b/foo::", "0:/a/foo::", "0:/foo::"][..]),
        ("/foo /v 0", &["0:/foo::"]),
        ("/a/*/foo /v 0", &["0:/a/b/foo::"]),
        ("bar|b /v 0", &["0:/a/b::", "0:/a/bar::"]),
        ("bar /v 4", &["0:/v/a/bar::"]),
        ("bar|b /v/a|/v/a/b 4", &["0:/v/a/b::", "0:/v/a/bar::"]),
        ("bar / 0", &["0:/v/a/bar::"]),
        ("bar / 4", &["0:/v/a/bar::"]),
        ("bar v/ 4", &["0:/v/a/bar::"]),
        ("bar %2fv 4", &["0:/v/a/bar::"]),
        ("bar /v//a/../a 0", &["0:/bar::"]),
        ("nothing /v 0", &[]),
        (
            "foo /none|/v/foo|/v/a/b 0",
            &["0:/foo::", "20:1:/v/foo:", "2:1:/none:"],
        ),
        ("foo /v/foo/x 0", &["2:1:/v/foo/x:"]),
    ] {
        assert_eq!(search(&mut alice, request), expected, "{request}");
    }
    assert_eq!(
        search(&mut alice, "foo /v 1").len(),
        1,
        "the first is enough"
    );
    assert_eq!(search(&mut alice, "foo /v|/v|/v/a 5").len(), 1);
    alice.expect(
        "search foo /v\nsearch foo /v x\nsearch foo /v%zz 0\n",
        "-8\n-8\n-8\n",
    );
}

#[test]
fn metadata_are_those_of_the_entry_itself() {
    let tree = Tree::new();
    example(&tree);
    symlink("foo", tree.host("v/link")).unwrap();
    let mut alice = tree.alice();
    for (name, size) in [("/a/b/foo", 1), ("/link", 3)] {
        let lines = search(&mut alice, &format!("{name} /v 2"));
        let [line] = lines.as_slice() else {
            panic!("{lines:?}");
        };
        let numbers = line.strip_prefix(&format!("0:{name}:")).unwrap();
        let numbers = numbers.strip_suffix(':').unwrap();
        let stat = chirp_proto::Stat::parse(numbers.as_bytes()).unwrap();
        assert_eq!(stat.size, size);
        assert_eq!(stat.is_symlink(), name == "/link");
        assert_eq!(numbers.split(' ').count(), 13);
    }
}

#[test]
fn access_is_asked_of_what_links_lead_to() {
    let tree = Tree::new();
    example(&tree);
    let mut alice = tree.alice();
    symlink("a", tree.host("v/to-dir")).unwrap();
    symlink("foo", tree.host("v/to-file")).unwrap();
    symlink("nowhere", tree.host("v/dangling")).unwrap();
    alice.expect("chmod /v/a/bar 448\n", "0\n");
    let executable = search(&mut alice, "/*|/a/bar /v 64");
    assert_eq!(executable, ["0:/a/bar::", "0:/a::", "0:/to-dir::"]);
    let readable = search(&mut alice, "/* /v 16");
    assert_eq!(
        readable,
        ["0:/a::", "0:/foo::", "0:/to-dir::", "0:/to-file::"]
    );
}

#[test]
fn each_directory_is_read_by_its_own_list() {
    let tree = Tree::new();
    example(&tree);
    let mut alice = tree.alice();
    alice.expect("setacl /v unix:bob l\nsetacl /v/a unix:bob n\n", "0\n0\n");
    fs::create_dir(tree.host("v/bare")).unwrap();
    let mut bob = tree.bob();
    // /v/a/b was made before and has no line for him.
    assert_eq!(
        search(&mut bob, "* /v 0"),
        [
            "0:/a::",
            "0:/bare::",
            "0:/foo::",
            "1:1:/v/a:",
            "1:1:/v/bare:"
        ]
    );
    assert_eq!(search(&mut bob, "* /v/a 0"), ["1:1:/v/a:"]);
    assert_eq!(search(&mut bob, "* /v/a/none 0"), ["1:1:/v/a/none:"]);
    // A link does not lead around a list.
    symlink("a/b", tree.host("v/way")).unwrap();
    assert!(search(&mut bob, "* /v 0").contains(&"1:1:/v/way:".to_owned()));
    alice.expect("setacl /v/a/b unix:bob l\n", "0\n");
    assert!(search(&mut bob, "* /v 0").contains(&"0:/way/foo::".to_owned()));
}

/// W9: the reference follows links in circles for ever.
#[test]
fn w9_links_are_entered_but_not_in_circles() {
    let tree = Tree::new();
    example(&tree);
    let mut alice = tree.alice();
    symlink("/", tree.host("v/root")).unwrap();
    symlink("/", tree.host("v/a/root")).unwrap();
    symlink("..", tree.host("v/a/up")).unwrap();
    symlink("self", tree.host("v/self")).unwrap();
    symlink("b", tree.host("v/a/also-b")).unwrap();
    let found = search(&mut alice, "foo / 4");
    for path in ["/v/foo", "/v/a/foo", "/v/a/b/foo", "/v/a/also-b/foo"] {
        assert!(found.contains(&format!("0:{path}::")), "{path}: {found:?}");
    }
    assert!(found.len() < 10, "{found:?}");
}

/// W9: nor does a web of links without a circle in each way take for ever.
#[test]
fn w9_a_web_of_links_has_an_end() {
    let tree = Tree::new();
    for dir in 0..12 {
        fs::create_dir(tree.host(&format!("d{dir}"))).unwrap();
        fs::copy(tree.host(".__acl"), tree.host(&format!("d{dir}/.__acl"))).unwrap();
        for other in 0..12 {
            symlink(format!("/d{other}"), tree.host(&format!("d{dir}/l{other}"))).unwrap();
        }
    }
    let found = search(&mut tree.alice(), "/*/*/* / 0");
    assert_eq!(
        found.iter().filter(|line| line.starts_with("0:")).count(),
        12 * 11 * 12
    );
    // Not all ways have been gone, and the client is told which.
    let all = search(&mut tree.alice(), "nothing / 0");
    assert!(
        all.iter().all(|line| line.starts_with("40:1:/d")),
        "{all:.200?}"
    );
    assert!(!all.is_empty());
}

/// W12: a name with an LF would read as two lines.
#[test]
fn w12_names_with_a_line_feed_are_left_out() {
    let tree = Tree::new();
    fs::create_dir(tree.host("d\n0:")).unwrap();
    fs::copy(tree.host(".__acl"), tree.host("d\n0:/.__acl")).unwrap();
    fs::write(tree.host("d\n0:/f"), "").unwrap();
    fs::write(tree.host("a:b"), "").unwrap();
    fs::write(tree.host(".__hidden"), "").unwrap();
    assert_eq!(search(&mut tree.alice(), "* / 0"), ["0:/a:b::"]);
}

/// W22: the reference leaks a descriptor for each directory.
#[test]
fn w22_a_search_gives_back_its_descriptors() {
    let tree = Tree::new();
    example(&tree);
    let mut alice = tree.alice();
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    for _ in 0..200 {
        search(&mut alice, "foo / 0");
        search(&mut alice, "foo / 1");
        alice.send("audit /\n");
    }
    assert_eq!(open(), before);
}

/// W34: the reference builds paths without a bound.
#[test]
fn w34_deep_trees_are_gone_through_as_far_as_paths_reach() {
    let tree = Tree::new();
    let acl = fs::read(tree.host(".__acl")).unwrap();
    // Deeper than any path of the protocol can say, made from the top down by handles.
    let mut dir = fs::File::open(tree.root.path()).unwrap();
    for level in 0..700 {
        let name = format!("{}", level % 10);
        rustix::fs::mkdirat(&dir, &name, rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        dir = rustix::fs::openat(&dir, &name, flags, rustix::fs::Mode::empty())
            .unwrap()
            .into();
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CREATE;
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let list = rustix::fs::openat(&dir, ".__acl", flags, mode).unwrap();
        rustix::io::write(&list, &acl).unwrap();
        if level == 199 {
            rustix::fs::openat(&dir, "bottom", flags, mode).unwrap();
        }
    }
    let mut alice = tree.alice();
    let found = search(&mut alice, "bottom / 0");
    let deep: String = (0..200).map(|level| format!("/{}", level % 10)).collect();
    let end: String = (0..511).map(|level| format!("/{}", level % 10)).collect();
    assert_eq!(
        found,
        [format!("0:{deep}/bottom::"), format!("36:1:{end}:")]
    );
    alice.expect("audit /\n", "-24\n");
    let inside = format!("audit {}\n", &deep[..20]);
    alice.expect(&inside, "-24\n");
    alice.expect("whoami 4\n", "4\nunix");
    alice.expect("rmall /0\naudit /\n", "0\n1\nunix:alice 0 1 0\n");
}

#[test]
fn an_audit_sums_up_by_owner() {
    let tree = Tree::new();
    example(&tree);
    let mut alice = tree.alice();
    alice.expect("audit /v\n", "1\nunix:alice 4 3 4\n");
    alice.expect(
        "mkdir /v/bob 448\nresetacl /v/bob rwl\nsetacl /v/bob unix:alice rwlda\n",
        "0\n0\n0\n",
    );
    fs::write(
        tree.host("v/bob/.__acl"),
        "unix:bob rwl\nunix:alice rwlda\n",
    )
    .unwrap();
    fs::write(tree.host("v/bob/big"), vec![0; 1000]).unwrap();
    symlink("big", tree.host("v/bob/link")).unwrap();
    symlink("/", tree.host("v/bob/root")).unwrap();
    fs::create_dir(tree.host("v/bare")).unwrap();
    fs::write(tree.host("v/bare/f"), "12").unwrap();
    fs::create_dir(tree.host("v/.__hidden")).unwrap();
    fs::write(tree.host("v/.__hidden/f"), "12").unwrap();
    alice.expect(
        "audit /v\n",
        "3\nunix:alice 4 3 4\nunix:bob 3 1 1004\nunknown 1 1 2\n",
    );
    alice.expect("audit /v/foo\naudit /none\n", "-14\n-3\n");
    tree.bob().expect("audit /v\naudit /v/bob\n", "-2\n-2\n");
}

#[test]
fn an_audit_s_owners_are_bounded() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    for number in 0..4097 {
        let dir = tree.host(&format!("d{number}"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(".__acl"), format!("unix:owner-{number} rwl\n")).unwrap();
    }
    alice.expect("audit /\nwhoami 4\n", "-7\n4\nunix");
    fs::remove_dir_all(tree.host("d77")).unwrap();
    fs::remove_dir_all(tree.host("d78")).unwrap();
    let reply = alice.send("audit /\n");
    assert!(reply.starts_with(b"4096\n"), "the tree's own and 4095");
    assert_eq!(reply.iter().filter(|&&byte| byte == b'\n').count(), 4097);
}
