//! What goes arrives as it was.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use chirp_client::transfer::{self, TransferOptions};
use chirp_client::{Client, Error};

use crate::ours::{Ours, exactly, noise};
use crate::support::{Reference, path};

/// A tree with one of each.
fn make(root: &Path) {
    for directory in ["empty", "deep/er/est", ".hidden", "read-only"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    let files: [(&[u8], usize, u32); 11] = [
        (b"none", 0, 0o644),
        (b"one", 1, 0o600),
        (b"program", 100, 0o755),
        (b"open to all", 10, 0o777),
        (b".dot", 5, 0o640),
        (b"-rf", 5, 0o644),
        (b"\xff\xfe \x01\x7f\t%41\\", 5, 0o644),
        (b"deep/er/est/chunk", 256 * 1024, 0o644),
        (b"deep/er/more", 256 * 1024 + 1, 0o644),
        (b"deep/large", 3_000_001, 0o644),
        (b"read-only/f", 7, 0o604),
    ];
    for (seed, (name, length, mode)) in files.into_iter().enumerate() {
        let file = root.join(OsStr::from_bytes(name));
        fs::write(&file, noise(length, seed as u64)).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    }
    symlink("../one", root.join("deep/up")).unwrap();
    symlink("/nowhere", root.join("dangling")).unwrap();
    fs::hard_link(root.join("deep/large"), root.join("deep/er/twin")).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"begin", 0).unwrap();
    sparse.write_all_at(b"middle", 5_000_000).unwrap();
    sparse.set_len(20_000_000).unwrap();
    fs::set_permissions(root.join("sparse"), Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(root.join("read-only"), Permissions::from_mode(0o711)).unwrap();
    age(root, 1_000_000_000);
}

/// Gives everything below a time of its own, the directories last.
fn age(root: &Path, mut seconds: u64) {
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        seconds += 1;
        if entry.file_type().unwrap().is_dir() {
            age(&entry.path(), seconds * 2 % 1_700_000_000);
        } else if !entry.file_type().unwrap().is_symlink() {
            set_time(&entry.path(), seconds);
        }
    }
    set_time(root, seconds);
}

fn set_time(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    File::open(path).unwrap().set_modified(time).unwrap();
}

/// What of a tree must be the same.
#[derive(Debug, PartialEq)]
struct Seen {
    mode: u32,
    mtime: i64,
    links: u64,
    content: String,
    on_disk: &'static str,
}

fn see(root: &Path) -> BTreeMap<String, Seen> {
    let mut seen = BTreeMap::new();
    look(root, "", &mut seen);
    seen
}

fn look(at: &Path, name: &str, seen: &mut BTreeMap<String, Seen>) {
    let found = fs::symlink_metadata(at).unwrap();
    let kind = found.file_type();
    let content = if kind.is_symlink() {
        format!("-> {}", fs::read_link(at).unwrap().display())
    } else if kind.is_dir() {
        "directory".to_owned()
    } else {
        let content = fs::read(at).unwrap();
        let sum = content.iter().fold(0u64, |sum, &byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        format!("{} bytes, {sum}", content.len())
    };
    let holes = kind.is_file() && found.len() > found.blocks() * 512 + 1_000_000;
    seen.insert(
        name.to_owned(),
        Seen {
            mode: found.mode(),
            mtime: if kind.is_symlink() { 0 } else { found.mtime() },
            links: if kind.is_dir() { 0 } else { found.nlink() },
            content,
            on_disk: if holes { "with holes" } else { "" },
        },
    );
    if kind.is_dir() {
        for entry in fs::read_dir(at).unwrap() {
            let entry = entry.unwrap().file_name();
            if !entry.as_bytes().starts_with(b".__") {
                let name = format!("{name}/{}", entry.as_bytes().escape_ascii());
                look(&at.join(&entry), &name, seen);
            }
        }
    }
}

async fn there_and_back(client: &Client, served: &Path) {
    let local = tempfile::tempdir().unwrap();
    let (source, back) = (local.path().join("source"), local.path().join("back"));
    fs::create_dir(&source).unwrap();
    make(&source);
    let before = see(&source);
    let target = path("/there");
    let sent = transfer::put(client, &source, &target, &exactly())
        .await
        .unwrap();
    assert_eq!((sent.files, sent.links, sent.unset), (12, 3, 0), "{sent:?}");
    assert_eq!(
        before,
        see(&served.join("there")),
        "there it is what it was"
    );
    let received = transfer::get(client, &target, &back, &exactly())
        .await
        .unwrap();
    assert_eq!((received.files, received.links), (12, 3), "{received:?}");
    assert_eq!(before, see(&back), "and so it is when it comes back");
    // Once more over what is there, which changes nothing.
    transfer::put(client, &source, &target, &exactly())
        .await
        .unwrap();
    assert_eq!(before, see(&served.join("there")));
    transfer::get(client, &target, &back, &exactly())
        .await
        .unwrap();
    assert_eq!(before, see(&back));
}

#[tokio::test]
async fn a_tree_arrives_as_it_was_on_our_server() {
    let server = Ours::start();
    there_and_back(&server.client().await, &server.root()).await;
}

#[tokio::test]
async fn a_tree_arrives_as_it_was_on_the_references_server() {
    let server = Reference::start();
    there_and_back(&server.client().await, &server.root()).await;
}

#[tokio::test]
async fn a_tree_arrives_as_it_was_with_a_cookie() {
    let server = Ours::start_by_cookie("0123456789abcdef");
    let client = server.client_by_cookie().await;
    assert_eq!(client.subject().method(), "unix");
    there_and_back(&client, &server.root()).await;
}

#[tokio::test]
async fn what_the_protocol_cannot_carry_is_named_and_the_rest_arrives() {
    let server = Ours::start();
    let client = server.client().await;
    let local = tempfile::tempdir().unwrap();
    let source = local.path();
    for name in ["good", "two\nlines", ".__acl", "also good"] {
        fs::write(source.join(name), name).unwrap();
    }
    rustix::fs::mkfifoat(rustix::fs::CWD, source.join("fifo"), 0o600.into()).unwrap();
    let sent = transfer::put(&client, source, &path("/d"), &exactly()).await;
    let Err(Error::Incomplete(incomplete)) = sent else {
        panic!("{sent:?}");
    };
    assert_eq!((incomplete.failed, incomplete.copied.files), (3, 2));
    let mut told: Vec<String> = incomplete
        .failures
        .iter()
        .map(|failure| format!("{}: {}", failure.path, failure.error))
        .collect();
    told.sort();
    let found = told
        .iter()
        .any(|text| text.contains("two\\nlines") && text.contains("rename it"));
    assert!(found, "{told:?}");
    assert_eq!(
        crate::ours::names(&server.root().join("d")),
        ["also good", "good"]
    );
}

#[tokio::test]
async fn files_whose_size_means_nothing_are_read_to_their_end() {
    let server = Ours::start();
    let client = server.client().await;
    let version = fs::read("/proc/version").unwrap();
    transfer::put(&client, Path::new("/proc/version"), &path("/v"), &exactly())
        .await
        .unwrap();
    assert_eq!(fs::read(server.root().join("v")).unwrap(), version);

    let served = Ours::start_on(tempfile::tempdir().unwrap(), Path::new("/proc/sys/kernel"));
    let client = served.client().await;
    let local = tempfile::tempdir().unwrap();
    let release = fs::read("/proc/sys/kernel/osrelease").unwrap();
    for (name, options) in [("one", exactly()), ("two", TransferOptions::default())] {
        let target = local.path().join(name);
        transfer::get(&client, &path("/osrelease"), &target, &options)
            .await
            .unwrap();
        assert_eq!(fs::read(&target).unwrap(), release, "{name}");
    }
    // In a tree as well; some there may not be read by anybody.
    let target = local.path().join("tree");
    let _some_are_refused = transfer::get(&client, &path("/random"), &target, &exactly()).await;
    let size = fs::read("/proc/sys/kernel/random/poolsize").unwrap();
    assert_eq!(fs::read(target.join("poolsize")).unwrap(), size);
}

#[tokio::test]
async fn more_than_four_gigabytes_go_both_ways_and_their_holes_take_no_space() {
    const LENGTH: u64 = (4 << 30) + 12_345;
    let server = Ours::start();
    let client = server.client().await;
    let local = tempfile::tempdir().unwrap();
    let source = local.path().join("source");
    let file = File::create(&source).unwrap();
    file.set_len(LENGTH).unwrap();
    file.write_all_at(b"far away", LENGTH - 8).unwrap();
    let target = path("/large");
    transfer::put(&client, &source, &target, &exactly())
        .await
        .unwrap();
    let there = File::open(server.root().join("large")).unwrap();
    let mut end = [0; 8];
    there.read_exact_at(&mut end, LENGTH - 8).unwrap();
    let found = there.metadata().unwrap();
    assert_eq!((&end, found.len()), (b"far away", LENGTH));
    assert!(found.blocks() < 1000, "{} blocks", found.blocks());
    let back = local.path().join("back");
    transfer::get(&client, &target, &back, &exactly())
        .await
        .unwrap();
    let back = File::open(&back).unwrap();
    let found = back.metadata().unwrap();
    back.read_exact_at(&mut end, LENGTH - 8).unwrap();
    assert_eq!((&end, found.len()), (b"far away", LENGTH));
    assert!(found.blocks() < 1000, "{} blocks", found.blocks());
}

#[tokio::test]
async fn a_trailing_slash_means_a_directory_that_is_there() {
    let server = Ours::start();
    let client = server.client().await;
    let local = tempfile::tempdir().unwrap();
    let file = local.path().join("f");
    fs::write(&file, "x").unwrap();
    let options = TransferOptions::default();
    let refused = transfer::put(&client, &file, &path("/none/"), &options).await;
    assert!(refused.is_err(), "{refused:?}");
    assert!(!server.root().join("none").exists());
    client.mkdir(&path("/there"), 0o700).await.unwrap();
    transfer::put(&client, &file, &path("/there/"), &options)
        .await
        .unwrap();
    assert_eq!(fs::read(server.root().join("there/f")).unwrap(), b"x");
    let none = local.path().join("none/");
    let refused = transfer::get(&client, &path("/there/f"), &none, &options).await;
    assert!(refused.is_err(), "{refused:?}");
    assert!(!none.exists());
    let here = local.path().join("here/");
    fs::create_dir(&here).unwrap();
    transfer::get(&client, &path("/there/f"), &here, &options)
        .await
        .unwrap();
    assert_eq!(fs::read(here.join("f")).unwrap(), b"x");
}
