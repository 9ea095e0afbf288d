//! Who may do what: the rows of parts 3 and 6, and the weaknesses of part 13 that are about rights.

use chirp_proto::Method;
use chirp_proto::acl::Rights;
use chirp_server::export::Policy;
use chirp_server::rules::Rule;

use crate::language::Tree;

/// A tree with `/v`, `/v/f` and `/v/d/x`, where `bob` has these rights in `/v`.
fn tree(rights: &str) -> Tree {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.expect(
        "mkdir /v 448\nputfile /v/f 420 11\nhello world",
        "0\n0\n11\n",
    );
    alice.expect("mkdir /v/d 448\nputfile /v/d/x 420 1\n1", "0\n0\n1\n");
    alice.expect(format!("setacl /v unix:bob {rights}\n"), "0\n");
    tree
}

#[test]
fn each_verb_needs_its_rights_and_no_others() {
    // Verb, and the smallest sets of rights that are enough.
    let table: &[(&str, &[&str])] = &[
        ("getfile /v/f\n", &["r"]),
        ("open /v/f r 0\n", &["r"]),
        ("open /v/f rw 0\n", &["rw"]),
        ("open /v/f w 0\n", &["w"]),
        ("open /v/f wt 0\n", &["w"]),
        ("open /v/f rc 0\n", &["rw"]),
        ("open /v/f ra 0\n", &["rw"]),
        ("open /v/new wc 0\n", &["w", "p"]),
        ("open /v r 0\n", &["l"]),
        ("hash md5 /v/f\n", &["r"]),
        ("sha256 /v/f\n", &["r"]),
        ("stat /v/f\n", &["l"]),
        ("stat /v\n", &["l"]),
        ("lstat /v/f\n", &["l"]),
        ("statfs /v\n", &["l"]),
        ("localpath /v/f\n", &["l"]),
        ("access /v/f 0\n", &["r"]),
        ("access /v/f 6\n", &["rw"]),
        ("access /v 1\n", &["l"]),
        ("getdir /v\n", &["l"]),
        ("getlongdir /v\n", &["l"]),
        ("getacl /v\n", &["n"]),
        ("whoami 1\n", &["n"]),
        ("setacl /v unix:zz rl\n", &["a"]),
        ("resetacl /v rl\n", &["a"]),
        ("audit /v\n", &["a"]),
        ("listxattr /v/f\n", &["r"]),
        ("llistxattr /v/f\n", &["r"]),
        ("readlink /v/f 10\n", &["r"]),
        ("setrep /v/f 1\n", &["w"]),
        ("chmod /v/f 0\n", &["w"]),
        ("truncate /v/f 0\n", &["w"]),
        ("utime /v/f 0 0\n", &["w"]),
        ("putfile /v/f 420 0\n", &["w"]),
        ("putfile /v/new 420 0\n", &["w", "p"]),
        ("mkdir /v/new 448\n", &["w", "v"]),
        ("symlink x /v/new\n", &["w"]),
        ("link /v/f /v/new\n", &["rw"]),
        ("rename /v/f /v/new\n", &["rwd"]),
        ("unlink /v/f\n", &["d"]),
        ("rmall /v/d\n", &["d"]),
    ];
    for rights in sets_of("rwldpav") {
        let set_to = |rights: &str| tree(if rights.is_empty() { "n" } else { rights });
        let mut tree = set_to(&rights);
        for (request, enough) in table {
            let has = |set: &&str| {
                set.chars()
                    .all(|letter| letter == 'n' || rights.contains(letter))
            };
            let allowed = enough.iter().any(has);
            // The table of the code says the same of the verbs whose words change nothing about it.
            let verb = request.split(' ').next().unwrap_or_default();
            if !["open", "access", "putfile"].contains(&verb) {
                let rule = Rule::of(verb.trim_end()).expect("a rule");
                assert_eq!(
                    rule.allows(Rights::parse(rights.as_bytes())),
                    allowed,
                    "{request:?}"
                );
            }
            let reply = tree.bob().send(request);
            let granted = !reply.starts_with(b"-2\n") && !reply.starts_with(b"-4\n");
            assert_eq!(
                granted,
                allowed,
                "{request:?} with {rights:?}: {}",
                reply.escape_ascii()
            );
            if granted && !enough.iter().all(|set| ["n", "r", "l"].contains(set)) {
                tree = set_to(&rights);
            }
        }
    }
}

/// Returns none of the letters, each, each pair, all but each, and all: a missing or a surplus
/// check shows with one of them.
fn sets_of(letters: &str) -> Vec<String> {
    let mut sets = vec![String::new(), letters.to_owned()];
    for first in letters.chars() {
        sets.push(first.to_string());
        sets.push(letters.replace(first, ""));
        let second = letters.chars().filter(|second| *second > first);
        sets.extend(second.map(|second| format!("{first}{second}")));
    }
    sets
}

#[test]
fn put_makes_new_files_only() {
    let tree = tree("p");
    let mut bob = tree.bob();
    bob.expect(
        "putfile /v/new 420 1\nxputfile /v/f 420 0\nopen /v/f wc 420\nopen /v/f w 0\n",
        "0\n1\n-4\n-4\n-2\n",
    );
    bob.expect("mkdir /v/e 448\nputfile /v/d/new 420 0\n", "-2\n-2\n");
    // Whoever takes the name while the upload runs keeps it.
    assert_eq!(bob.send("open /v/other wc 0\n").first(), Some(&b'0'));
}

#[test]
fn delete_reaches_files_one_level_down_as_in_the_reference() {
    let tree = tree("d");
    let mut bob = tree.bob();
    bob.expect("unlink /v/d/x\n", "0\n");
    tree.alice()
        .expect("mkdir /v/d/e 448\nputfile /v/d/e/y 420 0\n", "0\n0\n0\n");
    bob.expect(
        "rmdir /v/d/e\nrmall /v/d/e\nunlink /v/d/e/y\nunlink /v/d/none\n",
        "-2\n-2\n-2\n-3\n",
    );
    bob.expect("unlink /v\nrmall /v\nrmdir /v\n", "-2\n-2\n-2\n");
}

#[test]
fn renaming_a_directory_needs_r_on_it_and_d_on_it_or_its_parent() {
    for (above, own, allowed) in [
        ("rwld", "n", false),
        ("wd", "r", true),
        ("w", "rd", true),
        ("w", "r", false),
        ("d", "rd", false),
    ] {
        let tree = tree(above);
        tree.alice()
            .expect(format!("setacl /v/d unix:bob {own}\n"), "0\n");
        let expected = if allowed { "0\n" } else { "-2\n" };
        tree.bob().expect("rename /v/d /v/e\n", expected);
    }
}

#[test]
fn a_new_directory_takes_over_its_parents_list_or_what_v_reserves() {
    for (rights, expected) in [
        ("v(rwl)", "0\nunix:bob rwlp\n\n"),
        ("v", "0\nunix:bob rwldpa\n\n"),
        ("wv(r)", "0\nunix:bob r\n\n"),
        ("wl", "0\nunix:alice rwldpax\nunix:bob wlp\n\n"),
    ] {
        let tree = tree(rights);
        tree.bob().expect("mkdir /v/new 448\n", "0\n");
        tree.bob().expect("getacl /v/new\n", expected);
    }
}

#[test]
fn lists_are_shown_and_changed_as_part_6_8_says() {
    let tree = tree("n");
    let mut alice = tree.alice();
    alice.expect("getacl /\n", "0\nunix:alice rwldpax\n\n");
    alice.expect(
        "setacl /v unix:zz rl\nsetacl /v unix:zz w\nsetacl /v unix:a%20b rqZl\ngetacl /v\n",
        "0\n0\n0\n0\nunix:alice rwldpax\nunix:zz wp\nunix:a%20b rl\n\n",
    );
    alice.expect(
        "setacl /v unix:zz .\ngetacl /v\n",
        "0\n0\nunix:alice rwldpax\nunix:a%20b rl\n\n",
    );
    alice.expect("resetacl /v rl\ngetacl /v\n", "0\n0\nunix:alice rla\n\n");
    alice.expect("getacl /v/f\ngetacl /none\nsetacl /v/f unix:zz rl\nsetacl /none unix:zz rl\nsetacl /v unix:zz\n", "-14\n-3\n-3\n-3\n-8\n");
    tree.bob().expect(
        "getacl /v\nsetacl /v unix:bob a\n",
        "0\nunix:alice rla\n\n-2\n",
    );
}

#[test]
fn a_change_of_rights_counts_at_once() {
    let tree = tree("r");
    let (mut alice, mut bob) = (tree.alice(), tree.bob());
    // Long ago, so that the list is kept in memory; then changed and changed back in one tick.
    let old = rustix::fs::Timespec {
        tv_sec: 1_000_000,
        tv_nsec: 0,
    };
    let times = rustix::fs::Timestamps {
        last_access: old,
        last_modification: old,
    };
    let list = std::fs::File::open(tree.host("v/.__acl")).unwrap();
    rustix::fs::futimens(&list, &times).unwrap();
    for _ in 0..100 {
        bob.expect("getfile /v/f\n", "11\nhello world");
        alice.expect("setacl /v unix:bob l\n", "0\n");
        bob.expect("getfile /v/f\n", "-2\n");
        alice.expect("setacl /v unix:bob r\n", "0\n");
    }
}

#[test]
fn concurrent_changes_lose_nothing() {
    let tree = tree("n");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let tree = &tree;
            scope.spawn(move || {
                for number in 0..25 {
                    tree.alice()
                        .expect(format!("setacl /v unix:u{writer}-{number} r\n"), "0\n");
                }
            });
        }
    });
    let text = String::from_utf8(tree.alice().send("getacl /v\n")).unwrap();
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("unix:u"))
            .count(),
        100,
        "{text}"
    );
    assert_eq!(
        tree.names("v"),
        [".__acl", "d", "f"],
        "no temporary is left"
    );
}

#[test]
fn a_list_that_grows_beyond_what_is_read_is_refused() {
    let tree = tree("n");
    let line = format!("unix:{} rl\n", "u".repeat(500));
    std::fs::write(
        tree.host("v/.__acl"),
        format!("unix:alice rwlda\n{}", line.repeat(2050)),
    )
    .unwrap();
    let subject = "s".repeat(900);
    let mut alice = tree.alice();
    let mut refused = false;
    for number in 0..40 {
        refused |= alice.send(format!("setacl /v unix:{number}{subject} rl\n")) == b"-5\n";
    }
    assert!(refused);
    alice.expect("getfile /v/f\n", "11\nhello world");
}

#[test]
fn without_a_list_nobody_may_do_anything() {
    let tree = tree("rwlda");
    std::fs::create_dir(tree.host("bare")).unwrap();
    std::fs::write(tree.host("bare/f"), "x").unwrap();
    let mut alice = tree.alice();
    alice.expect(
        "getdir /bare\ngetfile /bare/f\ngetacl /bare\nsetacl /bare unix:alice rl\nstat /bare\n",
        "-2\n-2\n-3\n-2\n-2\n",
    );
    // A list that is no regular file grants nothing either.
    std::os::unix::fs::symlink("../v/.__acl", tree.host("bare/.__acl")).unwrap();
    alice.expect("getdir /bare\n", "-2\n");
    alice.expect("rmall /bare\n", "0\n");
}

#[test]
fn a_default_list_governs_directories_without_one() {
    let dir = tempfile::tempdir().unwrap();
    let default = dir.path().join("default");
    std::fs::write(&default, "unix:alice rwlda\naddress:127.0.0.1 rl\n").unwrap();
    let tree = Tree::with(Policy {
        default_acl: Some(default.clone()),
        ..Policy::default()
    });
    assert!(tree.names("").is_empty(), "no list is written");
    let mut alice = tree.alice();
    alice.expect(
        "getacl /\n",
        "0\nunix:alice rwldpa\naddress:127.0.0.1 rl\n\n",
    );
    alice.expect(
        "mkdir /d 448\ngetacl /d\n",
        "0\n0\nunix:alice rwldpa\naddress:127.0.0.1 rl\n\n",
    );
    alice.expect(
        "mkdir /x/y 448\nputfile /f 420 0\nmkdir /f/y 448\ngetfile /f/x\n",
        "-3\n0\n0\n-14\n-14\n",
    );
    tree.peer(Method::Address, "127.0.0.1")
        .expect("getfile /f\nputfile /g 420 0\n", "0\n-2\n");
    alice.expect(
        "setacl / unix:bob r\ngetacl /\n",
        "0\n0\nunix:alice rwldpa\naddress:127.0.0.1 rl\nunix:bob r\n\n",
    );
    std::fs::write(&default, "unix:bob l\n").unwrap();
    std::fs::remove_file(tree.host("d/.__acl")).unwrap();
    tree.bob().expect("getacl /d\n", "0\nunix:bob l\n\n");
}

#[test]
fn p_alone_makes_no_list_where_a_default_governs() {
    let dir = tempfile::tempdir().unwrap();
    let default = dir.path().join("default");
    std::fs::write(&default, "unix:bob p\n").unwrap();
    let tree = Tree::with(Policy {
        default_acl: Some(default),
        ..Policy::default()
    });
    tree.bob().expect(
        "putfile /.__acl 420 0\nopen /.__acl wc 0\nputfile /new 420 0\n",
        "-2\n-2\n0\n0\n",
    );
}

#[test]
fn the_server_works_read_only() {
    let tree = tree("rwlda");
    let Tree {
        root,
        transient,
        export,
    } = tree;
    drop(export);
    let export = chirp_server::export::Export::open(
        root.path(),
        transient.path(),
        Policy {
            read_only: true,
            superuser: Some("unix:root".to_owned()),
            ..Policy::default()
        },
    );
    let tree = Tree {
        root,
        transient,
        export: export.unwrap(),
    };
    for user in ["alice", "root"] {
        let mut peer = tree.peer(Method::Unix, user);
        for request in [
            "putfile /v/f 420 0\n",
            "putfile /v/n 420 0\n",
            "mkdir /q 448\n",
            "setacl /v unix:zz rl\n",
            "resetacl /v r\n",
            "unlink /v/f\n",
            "rmall /v/d\n",
            "rmdir /v/d\n",
            "rename /v/f /v/g\n",
            "link /v/f /v/g\n",
            "symlink x /v/g\n",
            "chmod /v/f 0\n",
            "truncate /v/f 0\n",
            "utime /v/f 0 0\n",
            "open /v/f w 0\n",
            "open /v/f rt 0\n",
            "open /v/n wc 0\n",
            "putfile /v/.__acl 420 0\n",
        ] {
            peer.expect(request, "-2\n");
        }
    }
    let mut alice = tree.alice();
    alice.expect("getfile /v/f\nopen /v/f w 0\n", "11\nhello world-2\n");
    assert!(alice.send("open /v/f r 0\n").starts_with(b"0\n"));
    alice.expect("fchmod 0 0\n", "-2\n");
}

#[test]
fn the_superuser_lists_and_administers_but_does_not_read() {
    let tree = Tree::with(Policy {
        superuser: Some("unix:root".to_owned()),
        ..Policy::default()
    });
    tree.alice().send("putfile /f 420 0\n");
    let mut root = tree.peer(Method::Unix, "root");
    assert_eq!(root.list("/"), ["f"]);
    root.expect(
        "getfile /f\nsetacl / unix:root r\ngetfile /f\n",
        "-2\n0\n0\n",
    );
    // "unix:root" is compared whole: another method's root is nobody.
    tree.peer(Method::Hostname, "root")
        .expect("getdir /\n", "-2\n");
}

#[test]
fn reserved_names_are_the_servers() {
    let tree = tree("rwld");
    let mut bob = tree.bob();
    // W3: the trailing slash, the links, the missing one.
    bob.expect(
        "putfile /v/.__acl 420 0\nputfile /v/.__acl/ 420 0\nunlink /v/.__acl\nunlink /v/.__acl/\n",
        "-4\n-4\n-2\n-2\n",
    );
    bob.expect("symlink .__acl /v/l\nsymlink l /v/l2\nputfile /v/l2 420 0\nopen /v/l2 w 0\ntruncate /v/l2 0\n", "0\n0\n-4\n-2\n-2\n");
    bob.expect("rename /v/f /v/.__acl\nrename /v/.__acl /v/g\nlink /v/.__acl /v/g\nlink /v/f /v/.__x\nrmall /v/.__acl\nrmdir /v/.__acl\n", "-2\n-2\n-2\n-2\n-2\n-2\n");
    bob.expect("chmod /v/.__acl 511\nutime /v/.__acl 0 0\nsymlink x /v/.__x\nmkdir /v/.__x 448\nputfile /v/.__x 420 0\nopen /v/.__x wc 0\n", "-2\n-2\n-2\n-2\n-2\n-2\n");
    // Absent ones are absent to those who only look.
    bob.expect(
        "stat /v/.__x\ngetfile /v/.__x\ngetdir /v/.__x\nhash md5 /v/.__x\n",
        "-3\n-3\n-3\n-3\n",
    );
    std::fs::write(tree.host("v/.__x"), "secret").unwrap();
    std::fs::create_dir(tree.host("v/.__dir")).unwrap();
    std::fs::copy(tree.host("v/.__acl"), tree.host("v/.__dir/.__acl")).unwrap();
    std::fs::write(tree.host("v/.__dir/f"), "secret").unwrap();
    bob.expect("stat /v/.__x\ngetfile /v/.__x\ngetfile /v/.__dir/f\ngetdir /v/.__dir\ngetacl /v/.__dir\ngetfile /v/.__dir/.__acl\n", "-2\n-2\n-2\n-2\n-2\n-2\n");
    bob.expect("symlink .__dir /v/way\ngetfile /v/way/f\nputfile /v/way/g 420 0\nsymlink /v/.__dir/../f /v/around\ngetfile /v/around\n", "0\n-2\n-2\n0\n11\nhello world");
    // A directory's own list may be looked at, and put with A.
    bob.expect(
        "getfile /v/.__acl\n",
        "34\nunix:alice rwldpax\nunix:bob rwldp\n",
    );
    let mut alice = tree.alice();
    alice.expect(
        "putfile /v/.__acl 420 17\nunix:alice rwlda\ngetacl /v\n",
        "0\n17\n0\nunix:alice rwldpa\n\n",
    );
    alice.expect(
        "putfile /.__ticket.ff 420 0\ntruncate /.__uuid 0\n",
        "-2\n-2\n",
    );
}

#[test]
fn two_links_lead_to_the_rights_of_where_they_end() {
    let tree = tree("rwl");
    let mut alice = tree.alice();
    alice.expect(
        "mkdir /priv 448\nsetacl /priv unix:bob .\nputfile /priv/s 420 6\nsecret",
        "0\n0\n0\n6\n",
    );
    let mut bob = tree.bob();
    bob.expect(
        "symlink /priv/s /v/l2\nsymlink l2 /v/l1\nsymlink /priv /v/p\n",
        "0\n0\n0\n",
    );
    bob.expect(
        "getfile /v/l1\ngetfile /v/l2\nopen /v/l1 w 0\nstat /v/l1\nputfile /v/l1 420 0\n",
        "-2\n-2\n-2\n-2\n-2\n",
    );
    bob.expect("getfile /v/p/s\ngetdir /v/p\nputfile /v/p/n 420 0\nlink /v/p/s /v/stolen\nrename /v/p/s /v/stolen\nunlink /v/p/s\n", "-2\n-2\n-2\n-2\n-2\n-2\n");
    alice.expect("getfile /v/l1\n", "6\nsecret");
}
