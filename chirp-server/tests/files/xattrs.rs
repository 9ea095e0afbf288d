//! Extended attributes.

use crate::language::Tree;

const F: &str = "putfile /f 420 11\nhello world";

#[test]
fn attributes_are_set_read_listed_and_removed_in_every_form() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send(F);
    alice.expect("mkdir /d 448\nsymlink f /l\n", "0\n0\n");
    assert!(alice.send("open /f rw 0\n").starts_with(b"0\n"));
    for (get, set, remove, list, of) in [
        ("getxattr", "setxattr", "removexattr", "listxattr", "/f"),
        ("lgetxattr", "lsetxattr", "lremovexattr", "llistxattr", "/f"),
        ("getxattr", "setxattr", "removexattr", "listxattr", "/d"),
        ("fgetxattr", "fsetxattr", "fremovexattr", "flistxattr", "0"),
    ] {
        alice.expect(format!("{list} {of}\n{get} {of} user.a\n"), "0\n-8\n");
        alice.expect(
            format!("{set} {of} user.a 3 0\nabc{get} {of} user.a\n{list} {of}\n"),
            "0\n3\nabc7\nuser.a\0",
        );
        alice.expect(format!("{set} {of} user.a 3 1\nxyz"), "-4\n");
        alice.expect(format!("{set} {of} user.none 3 2\nxyz"), "-8\n");
        alice.expect(
            format!("{set} {of} user.a 0 2\n{get} {of} user.a\n"),
            "0\n0\n",
        );
        alice.expect(
            format!("{remove} {of} user.a\n{remove} {of} user.a\n{list} {of}\n"),
            "0\n-8\n0\n",
        );
    }
    alice.expect("setxattr /l user.a 1 0\nxgetxattr /f user.a\n", "0\n1\nx");
    alice.expect(
        "lgetxattr /l user.a\nllistxattr /l\nlsetxattr /l user.a 1 0\nxlremovexattr /l user.a\n",
        "-23\n-23\n-23\n-23\n",
    );
    alice.expect(
        "getxattr /none user.a\nsetxattr /none user.a 1 0\nx",
        "-3\n-3\n",
    );
}

#[test]
fn only_the_users_namespace_is_there() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send(F);
    // The tests may run as root, who can set what clients must not see.
    let path = tree.host("f");
    let _ = rustix::fs::setxattr(&path, "trusted.t", b"x", rustix::fs::XattrFlags::empty());
    let _ = rustix::fs::setxattr(&path, "security.s", b"x", rustix::fs::XattrFlags::empty());
    alice.expect("listxattr /f\n", "0\n");
    alice.expect(
        "getxattr /f trusted.t\ngetxattr /f security.s\ngetxattr /f system.posix_acl_access\n",
        "-8\n-8\n-8\n",
    );
    for name in ["trusted.t", "security.s", "system.posix_acl_access"] {
        alice.expect(
            format!("setxattr /f {name} 1 0\nyremovexattr /f {name}\n"),
            "-2\n-2\n",
        );
    }
    alice.expect(
        "setxattr /f bogus 1 0\nygetxattr /f bogus\nremovexattr /f bogus\n",
        "-23\n-23\n-23\n",
    );
    alice.expect("setxattr /f user. 1 0\ny", "-8\n");
    alice.expect(
        format!("setxattr /f user.{} 1 0\ny", "n".repeat(300)),
        "-24\n",
    );
}

#[test]
fn a_refused_value_is_skipped_whatever_its_length() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send(F);
    for length in [65_537, 1_000_000, 16 * 1024 * 1024] {
        let body = "x".repeat(length);
        alice.expect(
            format!("setxattr /f user.a {length} 0\n{body}whoami 4\n"),
            "-5\n4\nunix",
        );
    }
    let body = "x".repeat(70_000);
    tree.bob().expect(
        format!("setxattr /f user.a 70000 0\n{body}whoami 4\n"),
        "-2\n4\nunix",
    );
    alice.expect("listxattr /f\n", "0\n");
    alice.expect("setxattr /f user.a -1 0\nwhoami 4\n", "-8\n4\nunix");
}

#[test]
fn attributes_need_the_rights_of_content() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send(F);
    alice.expect("setxattr /f user.a 1 0\nx", "0\n");
    let mut bob = tree.bob();
    bob.expect("getxattr /f user.a\nlistxattr /f\n", "-2\n-2\n");
    alice.expect("setacl / unix:bob r\n", "0\n");
    bob.expect("getxattr /f user.a\nlistxattr /f\n", "1\nx7\nuser.a\0");
    bob.expect(
        "setxattr /f user.a 1 0\nyremovexattr /f user.a\n",
        "-2\n-2\n",
    );
    // A descriptor that only reads does not change attributes either.
    assert!(bob.send("open /f r 0\n").starts_with(b"0\n"));
    bob.expect(
        "fgetxattr 0 user.a\nfsetxattr 0 user.a 1 0\nyfremovexattr 0 user.a\n",
        "1\nx-12\n-12\n",
    );
    bob.expect(
        "fgetxattr 7 user.a\nfsetxattr 7 user.a 1 0\nyflistxattr 7\n",
        "-12\n-12\n-12\n",
    );
    alice.expect("setacl / unix:bob w\n", "0\n");
    bob.expect("setxattr /f user.b 1 0\nygetxattr /f user.b\n", "0\n-2\n");
    assert!(bob.send("open /f w 0\n").starts_with(b"1\n"));
    bob.expect("fgetxattr 1 user.a\nflistxattr 1\n", "-12\n-12\n");
    // A directory is opened by the right to list, which is not that to read.
    alice.expect(
        "mkdir /d 448\nsetxattr /d user.a 1 0\nxsetacl /d unix:bob l\n",
        "0\n0\n0\n",
    );
    assert!(bob.send("open /d r 0\n").starts_with(b"2\n"));
    bob.expect(
        "getxattr /d user.a\nfgetxattr 2 user.a\nflistxattr 2\n",
        "-2\n-2\n-2\n",
    );
    // Lists are the server's.
    bob.expect("setxattr /.__acl user.a 1 0\nx", "-2\n");
}

#[test]
fn an_attribute_of_the_old_file_survives_its_replacement() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send(F);
    let long = "v".repeat(1000);
    alice.expect(
        format!("setxattr /f user.a 3 0\nabcsetxattr /f user.long 1000 0\n{long}"),
        "0\n0\n",
    );
    let inode = alice.stat("/f").inode;
    alice.expect("putfile /f 420 3\nnew", "0\n3\n");
    assert_ne!(alice.stat("/f").inode, inode, "it is another file");
    alice.expect("getxattr /f user.a\n", "3\nabc");
    alice.expect("getxattr /f user.long\n", format!("1000\n{long}"));
    alice.expect("getfile /f\n", "3\nnew");
}

#[test]
fn special_files_have_none_and_are_not_opened() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        tree.host("fifo"),
        rustix::fs::FileType::Fifo,
        mode,
        0,
    )
    .unwrap();
    alice.expect(
        "getxattr /fifo user.a\nsetxattr /fifo user.a 1 0\nxlistxattr /fifo\ngetstream /fifo\nputstream /fifo\n",
        "-2\n-2\n-2\n-8\n-8\n",
    );
}
