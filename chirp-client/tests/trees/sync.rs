//! `sync`: what changed goes, what went is removed, and it can be said beforehand.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use chirp_client::transfer::{self, Event, Summary, TransferOptions};
use chirp_client::{Client, Error};

use crate::ours::{Ours, names, resuming};
use crate::support::path;

fn syncing() -> TransferOptions {
    TransferOptions {
        delete: true,
        ..resuming()
    }
}

/// Collects what is said of each change.
fn listening(options: &TransferOptions) -> (TransferOptions, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = Arc::clone(&heard);
    let events = Arc::new(move |event: Event<'_>| {
        let place = event.path.rsplit('/').next().unwrap_or_default();
        hearing
            .lock()
            .unwrap()
            .push(format!("{:?} {place}", event.action));
    });
    let options = TransferOptions {
        events: Some(events),
        ..options.clone()
    };
    (options, heard)
}

fn set_time(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    File::open(path).unwrap().set_modified(time).unwrap();
}

/// What differs from what [`change`] makes of it.
fn begin(root: &Path) {
    fs::create_dir_all(root.join("gone/with/all")).unwrap();
    fs::create_dir_all(root.join("kept")).unwrap();
    fs::create_dir_all(root.join("becomes-file")).unwrap();
    for (name, content) in [
        ("same", "same"),
        ("kept/touched", "touched"),
        ("kept/changed", "before"),
        ("gone/with/all/f", "x"),
        ("removed", "x"),
        ("becomes-directory", "x"),
        ("becomes-file/f", "x"),
    ] {
        fs::write(root.join(name), content).unwrap();
        set_time(&root.join(name), 1_000_000_000);
    }
}

fn change(root: &Path) {
    fs::remove_dir_all(root.join("gone")).unwrap();
    fs::remove_file(root.join("removed")).unwrap();
    fs::remove_file(root.join("becomes-directory")).unwrap();
    fs::create_dir(root.join("becomes-directory")).unwrap();
    fs::write(root.join("becomes-directory/f"), "y").unwrap();
    fs::remove_dir_all(root.join("becomes-file")).unwrap();
    fs::write(root.join("becomes-file"), "y").unwrap();
    set_time(&root.join("kept/touched"), 1_100_000_000);
    // Of equal size, so that only content or time tell.
    fs::write(root.join("kept/changed"), "after!").unwrap();
    set_time(&root.join("kept/changed"), 1_200_000_000);
    fs::write(root.join("kept/new"), "new").unwrap();
}

/// Every entry and its content.
fn see(root: &Path) -> Vec<String> {
    let mut seen = Vec::new();
    for name in names(root) {
        let path = root.join(&name);
        if path.is_dir() {
            seen.push(format!("{name}/"));
            seen.extend(
                see(&path)
                    .into_iter()
                    .map(|below| format!("{name}/{below}")),
            );
        } else {
            seen.push(format!("{name}: {}", fs::read_to_string(&path).unwrap()));
        }
    }
    seen
}

async fn run(
    client: &Client,
    up: bool,
    local: &Path,
    options: &TransferOptions,
) -> Result<Summary, Error> {
    let remote = path("/there");
    if up {
        return transfer::put(client, local, &remote, options).await;
    }
    transfer::get(client, &remote, local, options).await
}

async fn changes_are_carried(up: bool) {
    let server = Ours::start();
    let client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    let local = directory.path().join("here");
    fs::create_dir(&local).unwrap();
    begin(&local);
    // Up: changes are made here. Down: they are made there, by another copy of the tree.
    run(&client, true, &local, &syncing()).await.unwrap();
    let changed = directory.path().join("changed");
    fs::create_dir(&changed).unwrap();
    begin(&changed);
    change(&changed);
    let there = server.root().join("there");
    let (from, to) = if up {
        fs::remove_dir_all(&local).unwrap();
        fs::rename(&changed, &local).unwrap();
        (local.clone(), there)
    } else {
        run(&client, true, &changed, &syncing()).await.unwrap();
        (there, local.clone())
    };
    let before = see(&to);
    assert_ne!(see(&from), before);

    let (mut dry, heard) = listening(&syncing());
    dry.dry_run = true;
    let said = run(&client, up, &local, &dry).await.unwrap();
    assert_eq!(see(&to), before, "nothing is changed by asking");
    let mut heard = std::mem::take(&mut *heard.lock().unwrap());
    heard.sort();
    assert_eq!(
        heard,
        [
            "Compare changed",
            "Compare touched",
            "Copy becomes-file",
            "Copy f",
            "Copy new",
            "Delete becomes-directory",
            "Delete becomes-file",
            "Delete gone",
            "Delete removed",
            "Directory becomes-directory",
        ]
    );
    assert_eq!(
        (said.files, said.deleted, said.skipped),
        (3, 4, 1),
        "{said:?}"
    );

    let done = run(&client, up, &local, &syncing()).await.unwrap();
    assert_eq!(see(&to), see(&from));
    assert_eq!(
        (done.files, done.deleted, done.skipped),
        (4, 4, 2),
        "{done:?}"
    );
    let again = run(&client, up, &local, &syncing()).await.unwrap();
    assert_eq!(
        (again.files, again.deleted, again.skipped),
        (0, 0, 6),
        "{again:?}"
    );
    let quiet = TransferOptions {
        delete: false,
        ..syncing()
    };
    fs::write(to.join("own"), "own").unwrap();
    run(&client, up, &local, &quiet).await.unwrap();
    assert!(to.join("own").exists(), "nothing is removed unasked");
}

#[tokio::test]
async fn changes_are_carried_to_the_server() {
    changes_are_carried(true).await;
}

#[tokio::test]
async fn changes_are_carried_from_the_server() {
    changes_are_carried(false).await;
}

#[tokio::test]
async fn nothing_is_removed_where_the_source_could_not_be_read() {
    let server = Ours::start();
    let client = server.client().await;
    let local = tempfile::tempdir().unwrap();
    fs::create_dir(local.path().join("d")).unwrap();
    fs::write(local.path().join("d/f"), "x").unwrap();
    run(&client, true, local.path(), &syncing()).await.unwrap();
    // A server that does not let us list a directory.
    fs::write(server.root().join("there/d/.__acl"), "unix:nobody rwlda\n").unwrap();
    let got = run(&client, false, local.path(), &syncing()).await;
    assert!(matches!(got, Err(Error::Incomplete(_))), "{got:?}");
    assert!(local.path().join("d/f").exists());
}

/// Two names of one file, and one of another.
fn names_of_one(root: &Path) {
    for name in ["a", "c"] {
        fs::write(root.join(name), "content").unwrap();
        set_time(&root.join(name), 1_000_000_000);
    }
    fs::hard_link(root.join("a"), root.join("b")).unwrap();
}

/// Makes a name that of a file of its own, which looks the same.
fn part(root: &Path, name: &str) {
    let copy = root.join("copy");
    fs::copy(root.join(name), &copy).unwrap();
    set_time(&copy, 1_000_000_000);
    crate::support::give_away(&copy);
    fs::rename(copy, root.join(name)).unwrap();
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

async fn hard_links_are_joined_again(up: bool) {
    let server = Ours::start();
    let client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    let local = directory.path().join("here");
    fs::create_dir(&local).unwrap();
    names_of_one(&local);
    run(&client, true, &local, &syncing()).await.unwrap();
    let there = server.root().join("there");
    let to = if up { &there } else { &local };
    for broken in ["a", "b"] {
        part(to, broken);
        assert_ne!(inode(&to.join("a")), inode(&to.join("b")));
        let (mut dry, heard) = listening(&syncing());
        dry.dry_run = true;
        run(&client, up, &local, &dry).await.unwrap();
        let heard = std::mem::take(&mut *heard.lock().unwrap());
        let only_a_link = matches!(&heard[..], [one] if one.starts_with("Link "));
        assert!(only_a_link, "{heard:?}");
        assert_ne!(inode(&to.join("a")), inode(&to.join("b")));

        let done = run(&client, up, &local, &syncing()).await.unwrap();
        assert_eq!(
            (done.files, done.links, done.skipped),
            (0, 1, 2),
            "{done:?}"
        );
        assert_eq!(inode(&to.join("a")), inode(&to.join("b")));
        assert_ne!(inode(&to.join("a")), inode(&to.join("c")));
        assert_eq!(see(to), ["a: content", "b: content", "c: content"]);
        let again = run(&client, up, &local, &syncing()).await.unwrap();
        assert_eq!(
            (again.files, again.links, again.skipped),
            (0, 0, 3),
            "{again:?}"
        );
    }
    // A name that is missing becomes one of the file that is there.
    fs::remove_file(to.join("b")).unwrap();
    run(&client, up, &local, &syncing()).await.unwrap();
    assert_eq!(inode(&to.join("a")), inode(&to.join("b")));
}

#[tokio::test]
async fn hard_links_are_joined_again_on_the_server() {
    hard_links_are_joined_again(true).await;
}

#[tokio::test]
async fn hard_links_are_joined_again_here() {
    hard_links_are_joined_again(false).await;
}
