//! Nothing outside the exported directory is reached, whatever clients and other programs do to
//! the tree meanwhile.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chirp_proto::VirtualPath;
use chirp_server::vfs::{Follow, Miss, Open, Root};
use proptest::prelude::*;
use rustix::io::Errno;

use crate::language::Tree;

const READ: Open = Open {
    read: true,
    write: false,
    truncate: false,
    append: false,
    sync: false,
    create: None,
};

#[test]
fn links_resolve_as_if_the_root_were_slash() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.expect(
        "mkdir /etc 448\nmkdir /d 448\nputfile /etc/mine 420 4\nmine",
        "0\n0\n0\n4\n",
    );
    for target in [
        "/etc/mine",
        "../../../../etc/mine",
        "../etc/mine",
        "../d/.././etc//mine",
    ] {
        alice.send("rmall /d/l\n");
        alice.expect(
            format!("symlink {target} /d/l\ngetfile /d/l\n"),
            "0\n4\nmine",
        );
    }
    for target in [
        "/etc/passwd",
        "../../../../../../etc/passwd",
        "/proc/self/environ",
        "/dev/null",
    ] {
        alice.send("rmall /d/l\n");
        alice.expect(
            format!("symlink {target} /d/l\ngetfile /d/l\nstat /d/l\n"),
            "0\n-3\n-3\n",
        );
        alice.expect(
            "open /d/l r 0\nmd5 /d/l\ngetdir /d/l\nchmod /d/l 0\nutime /d/l 0 0\n",
            "-3\n-3\n-3\n-3\n-3\n",
        );
    }
    // Directories by link: `..` is that of the tree as it is, not of the text.
    alice.expect(
        "mkdir /d/deep 448\nsymlink /d/deep /way\nputfile /way/x 420 1\nxgetfile /d/deep/x\n",
        "0\n0\n0\n1\n1\nx",
    );
    alice.expect(
        "symlink /way/../../etc/mine /l\ngetfile /l\nsymlink .. /up\ngetfile /up/etc/mine\n",
        "0\n4\nmine0\n4\nmine",
    );
    alice.expect(
        "symlink / /slash\ngetfile /slash/slash/slash/etc/mine\nrmdir /slash\nrmall /slash\n",
        "0\n4\nmine-14\n0\n",
    );
    assert_eq!(alice.list("/up"), alice.list("/"));
}

#[test]
fn loops_end() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.expect(
        "symlink a /b\nsymlink b /a\nsymlink self/x /self\n",
        "0\n0\n0\n",
    );
    alice.expect(
        "stat /a\nstat /self\nstat /a/x\ngetfile /self/y\n",
        "-8\n-3\n-3\n-3\n",
    );
    alice.expect("readlink /a 9\nunlink /a\n", "1\nb0\n");
    // Each link doubles the way: the number of steps is bounded, not only that of links.
    alice.send("mkdir /m 448\n");
    for number in 0..30 {
        let below = if number == 0 {
            ".".to_owned()
        } else {
            format!("l{}", number - 1)
        };
        symlink(
            format!("{below}/{below}/../{below}"),
            tree.host(&format!("l{number}")),
        )
        .unwrap();
    }
    let started = Instant::now();
    alice.send("stat /l29/x\n");
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[test]
fn special_files_are_not_opened_and_block_nobody() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.host("fifo"), rustix::fs::Mode::RWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.host("socket")).unwrap();
    for name in ["fifo", "socket"] {
        alice.expect(format!("getfile /{name}\nopen /{name} r 0\nopen /{name} wc 0\nmd5 /{name}\ntruncate /{name} 0\nchmod /{name} 0\n"), "-8\n-8\n-8\n-8\n-8\n-8\n");
        assert!(alice.send(format!("stat /{name}\n")).starts_with(b"0\n"));
        alice.expect(format!("rename /{name} /x\nunlink /x\n"), "0\n0\n");
    }
}

/// Needs root: it bind-mounts `/proc` into a tree, in a mount namespace of its own.
#[test]
fn as_root_magic_links_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "mkdir -p {0}/root/proc && mount --bind /proc {0}/root/proc && \
         CHIRP_TEST_PROC_IN={0} exec {1} --exact confinement::child_with_proc --nocapture",
        dir.path().display(),
        std::env::current_exe().unwrap().display(),
    );
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .output()
        .expect("unshare of util-linux");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("confined"),
        "{text}{errors}"
    );
}

/// The child of the test above.
#[test]
fn child_with_proc() {
    let Some(dir) = std::env::var_os("CHIRP_TEST_PROC_IN") else {
        return;
    };
    let dir = Path::new(&dir);
    std::fs::write(dir.join("secret"), "outside").unwrap();
    let outside = std::fs::File::open(dir.join("secret")).unwrap();
    let root = Root::open(&dir.join("root")).unwrap();
    let me = std::process::id();
    for path in [
        format!("/proc/{me}/fd/{}", outside.as_raw_fd()),
        format!("/proc/{me}/exe"),
        format!("/proc/{me}/root/etc/passwd"),
        format!("/proc/{me}/cwd/Cargo.toml"),
        "/proc/self/root/etc/passwd".to_owned(),
    ] {
        let path = VirtualPath::from_decoded(path.as_bytes()).unwrap();
        // The link's *text* may lead somewhere in the tree; the link itself must not be taken.
        let opened = match root.locate(&path, Follow::Yes) {
            Ok(located) => located.open(READ).err(),
            Err(miss) => Some(miss.errno()),
        };
        assert!(
            matches!(opened, Some(Errno::NOENT | Errno::NOTDIR | Errno::STALE)),
            "{path}: {opened:?}"
        );
    }
    let status = VirtualPath::from_decoded(format!("/proc/{me}/status").as_bytes()).unwrap();
    assert!(
        root.locate(&status, Follow::Yes)
            .unwrap()
            .open(READ)
            .is_ok(),
        "the rest is there"
    );
    println!("confined");
}

#[test]
fn what_became_a_link_after_it_was_located_is_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("victim");
    std::fs::write(&target, "outside").unwrap();
    let before = std::fs::metadata(&target).unwrap();
    let tree = Tree::new();
    std::fs::write(tree.host("f"), "inside").unwrap();
    let root = Root::open(tree.root.path()).unwrap();
    let path = VirtualPath::from_decoded(b"/f").unwrap();
    let located = root.locate(&path, Follow::Yes).unwrap();
    std::fs::remove_file(tree.host("f")).unwrap();
    symlink(&target, tree.host("f")).unwrap();

    assert_eq!(located.open(READ).err(), Some(Errno::STALE));
    let create = Open {
        write: true,
        create: Some(chirp_server::vfs::located::Create {
            mode: 0,
            exclusive: false,
        }),
        ..READ
    };
    assert_eq!(located.open(create).err(), Some(Errno::STALE));
    assert_eq!(located.truncate(0), Err(Errno::STALE));
    assert_eq!(located.chmod(0o777), Err(Errno::STALE));
    // The link's own times change, not those of what it means.
    located.utime(1, 1).unwrap();
    let after = std::fs::metadata(&target).unwrap();
    assert_eq!(after.modified().unwrap(), before.modified().unwrap());
    assert_eq!(after.permissions(), before.permissions());
    assert_eq!(std::fs::read(&target).unwrap(), b"outside");

    // A directory is held by its handle: what its name became does not count.
    std::fs::create_dir(tree.host("d")).unwrap();
    std::fs::write(tree.host("d/f"), "inside").unwrap();
    let path = VirtualPath::from_decoded(b"/d/victim").unwrap();
    let located = root.locate(&path, Follow::Yes).unwrap();
    std::fs::rename(tree.host("d"), tree.host("e")).unwrap();
    symlink(outside.path(), tree.host("d")).unwrap();
    assert_eq!(located.open(READ).err(), Some(Errno::NOENT));
    assert!(located.open(create).is_ok());
    assert_eq!(tree.names("e"), ["f", "victim"]);
}

/// Every file inside says "inside"; every file outside that a link could mean says "outside".
#[test]
fn whatever_is_opened_is_inside_while_names_and_links_are_swapped() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("root");
    for inside in ["a/b/c", "x/b/c", "etc"] {
        std::fs::create_dir_all(dir.join(inside)).unwrap();
    }
    for file in ["a/b/c/f", "a/b/f", "a/f", "f", "x/b/c/f", "x/f", "etc/f"] {
        std::fs::write(dir.join(file), "inside").unwrap();
    }
    for outside in ["f", "b/f", "c/f", "b/c/f"] {
        let path = base.path().join(outside);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "outside").unwrap();
    }
    let escape = base.path().join("b");
    let root = Root::open(&dir).unwrap();
    let stop = AtomicBool::new(false);
    let opened = AtomicU64::new(0);
    let deadline = Instant::now() + Duration::from_secs(3);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // A directory and a link out of the tree take turns under one name.
                let _ = std::fs::rename(dir.join("a/b"), dir.join("a/away"));
                let _ = symlink(&escape, dir.join("a/b"));
                let _ = std::fs::remove_file(dir.join("a/b"));
                let _ = symlink("../../b", dir.join("a/b"));
                let _ = std::fs::remove_file(dir.join("a/b"));
                let _ = std::fs::rename(dir.join("a/away"), dir.join("a/b"));
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // A directory moves to another depth, so that `..` means something else.
                let _ = std::fs::rename(dir.join("x/b/c"), dir.join("c"));
                let _ = std::fs::rename(dir.join("c"), dir.join("x/b/c"));
                // A file and a link take turns.
                let _ = symlink("../../f", dir.join("x/.l"));
                let _ = std::fs::rename(dir.join("x/.l"), dir.join("x/f"));
                let _ = std::fs::write(dir.join("x/.f"), "inside");
                let _ = std::fs::rename(dir.join("x/.f"), dir.join("x/f"));
            }
        });
        for path in [
            "/a/b/f", "/a/b/c/f", "/x/b/c/f", "/x/f", "/c/f", "/l1/f", "/l2", "/l3/f",
        ] {
            let (root, stop, opened) = (&root, &stop, &opened);
            scope.spawn(move || {
                let path = VirtualPath::from_decoded(path.as_bytes()).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let Ok(located) = root.locate(&path, Follow::Yes) else {
                        continue;
                    };
                    let Ok(mut file) = located.open(READ) else {
                        continue;
                    };
                    let mut content = String::new();
                    file.read_to_string(&mut content).unwrap();
                    if content != "inside" {
                        stop.store(true, Ordering::Relaxed);
                        // The file is empty for a moment while `write` makes it anew.
                        assert_eq!(content, "inside", "{path}");
                    }
                    opened.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        symlink("a/b/c/../", dir.join("l1")).unwrap();
        symlink("x/b/c/../../../a/b/f", dir.join("l2")).unwrap();
        symlink("/a/b/../../../../b/", dir.join("l3")).unwrap();
        while Instant::now() < deadline && !stop.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(
        opened.load(Ordering::Relaxed) > 100,
        "the readers got somewhere"
    );
}

proptest! {
    /// The fast way through the kernel and the walk by hand agree about every path.
    #[test]
    fn both_ways_lead_to_the_same_object(
        links in proptest::collection::vec(("[abc]{1}(/[abc]{1}){0,1}", "(/|)(\\.\\.|[abcd.])(/(\\.\\.|[abcd])){0,3}/?"), 0..5),
        paths in proptest::collection::vec("(/[abcd.]{1,2}){1,4}/?", 8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a/b", "b/c", "c"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        for name in ["a/d", "d", "b/c/d"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        for (name, target) in links {
            let _ = std::fs::remove_dir_all(dir.path().join(&name));
            let _ = symlink(target, dir.path().join(&name));
        }
        let root = Root::open(dir.path()).unwrap();
        for path in paths {
            let path = VirtualPath::from_decoded(path.as_bytes()).unwrap();
            for follow in [Follow::Yes, Follow::No] {
                let seen = |found: Result<chirp_server::vfs::Located, Miss>| {
                    found.map(|located| (
                        located.stat().map(|stat| stat.st_ino),
                        located.path().to_vec(),
                        rustix::fs::fstat(located.governing()).unwrap().st_ino,
                    ))
                };
                prop_assert_eq!(
                    seen(root.locate(&path, follow)),
                    seen(root.locate_with_above(&path, follow)),
                    "{} {:?}", path, follow
                );
            }
        }
    }
}
