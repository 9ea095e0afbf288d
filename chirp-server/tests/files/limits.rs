//! Limits and hostile names.

use chirp_proto::limits::DESCRIPTORS_MAX;

use crate::language::Tree;

#[test]
fn names_that_listings_could_not_show_are_not_made() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send("putfile /f 420 0\n");
    for request in [
        "putfile /a%0ab 420 0\n",
        "open /a%0ab wc 0\n",
        "mkdir /a%0ab 448\n",
        "symlink x /a%0ab\n",
        "rename /f /a%0ab\n",
        "link /f /a%0ab\n",
        "putfile /a%00b 420 0\n",
    ] {
        alice.expect(request, "-8\n");
    }
    assert_eq!(tree.names(""), [".__acl", "f"]);
    // What is there already can be removed.
    std::fs::write(tree.host("a\nb"), "x").unwrap();
    alice.expect("getfile /a%0ab\nunlink /a%0ab\n", "1\nx0\n");
}

#[test]
fn names_of_any_other_byte_are_made_and_listed() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    for byte in (1..=255u8).filter(|byte| !b"\n/".contains(byte)) {
        alice.expect(format!("putfile /n%{byte:02x} 420 1\nx"), "0\n1\n");
        alice.expect(format!("getfile /n%{byte:02x}\n"), "1\nx");
    }
    let listing = alice.send("getdir /\n");
    let names = listing
        .split(|&byte| byte == b'\n')
        .filter(|name| name.first() == Some(&b'n'));
    assert_eq!(names.count(), 253);
}

#[test]
fn names_have_a_length() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    let (longest, too_long) = ("n".repeat(255), "n".repeat(256));
    alice.expect(
        format!("putfile /{longest} 420 1\nxgetfile /{longest}\n"),
        "0\n1\n1\nx",
    );
    for request in [
        format!("stat /{too_long}\n"),
        format!("putfile /{too_long} 420 0\n"),
        format!("open /{too_long} wc 0\n"),
        format!("mkdir /{too_long} 448\n"),
        format!("unlink /{too_long}\n"),
        format!("rename /{longest} /{too_long}\n"),
        format!("stat /{too_long}/x\n"),
        format!("symlink x /{too_long}\n"),
    ] {
        alice.expect(request, "-24\n");
    }
    assert_eq!(tree.names(""), [".__acl", &longest]);
}

#[test]
fn paths_may_be_as_deep_as_they_are_long() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    let mut path = String::new();
    for _ in 0..490 {
        path.push_str("/d");
        alice.expect(format!("mkdir {path} 448\n"), "0\n");
    }
    alice.expect(
        format!("putfile {path}/f 420 1\nxgetfile {path}/f\n"),
        "0\n1\n1\nx",
    );
    alice.expect("rmall /d\n", "0\n");
}

#[test]
fn a_connection_may_have_so_many_files_open() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send("putfile /f 420 0\n");
    for number in 0..DESCRIPTORS_MAX {
        let reply = alice.send("open /f r 0\n");
        assert!(
            reply.starts_with(format!("{number}\n").as_bytes()),
            "{number}"
        );
    }
    alice.expect("open /f r 0\nstat /none\nclose 7\n", "-9\n-3\n0\n");
    assert!(alice.send("open /f r 0\n").starts_with(b"7\n"));
    // Another connection has its own.
    assert!(tree.alice().send("open /f r 0\n").starts_with(b"0\n"));
}

#[test]
fn bodies_above_16_mib_are_read_and_cut() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send("open /f wc 0\n");
    let length = (16 << 20) + 5;
    let request = [
        format!("pwrite 0 {length} 0\n").as_bytes(),
        &vec![b'x'; length],
        b"whoami 1\n",
    ]
    .concat();
    alice.expect(request, "16777216\n1\nu");
    assert_eq!(alice.stat("/f").size, 16 << 20);
}

#[test]
fn offsets_near_the_end_of_numbers_are_refused() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send("open /f rwc 0\n");
    alice.expect(
        "pwrite 0 1 9223372036854775807\nxpwrite 0 5 9223372036854775805\nhello",
        "-8\n-8\n",
    );
    alice.expect(
        "sread 0 9223372036854775807 1 1 9223372036854775807\n",
        "0\n",
    );
    assert_eq!(alice.stat("/f").size, 0);
}
