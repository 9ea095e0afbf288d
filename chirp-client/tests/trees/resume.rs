//! Interrupted copies go on where they stopped, and what is there is not sent again.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chirp_client::transfer::{self, Summary, TransferOptions};
use chirp_client::{Client, Error};
use tokio_util::sync::CancellationToken;

use crate::ours::{Ours, exactly, names, noise, resuming};
use crate::support::{Reference, answered, pair, path};

/// More than 3 MiB that have arrived and 4 MiB that are on their way when a copy is interrupted.
const LARGE: usize = 12 * 1024 * 1024;

/// Cancels itself after this many bytes.
fn interrupted_after(bytes: u64) -> TransferOptions {
    let cancel = CancellationToken::new();
    let cancelling = cancel.clone();
    TransferOptions {
        cancel,
        progress: Some(Arc::new(move |done: Summary| {
            if done.bytes >= bytes {
                cancelling.cancel();
            }
        })),
        ..resuming()
    }
}

fn part(directory: &Path) -> Option<PathBuf> {
    let parts = names(directory);
    let part = parts.iter().find(|name| name.starts_with(".chirp-part."))?;
    Some(directory.join(part))
}

async fn goes_on(client: &Client, served: &Path, up: bool, damaged: bool) {
    let local = tempfile::tempdir().unwrap();
    let content = noise(LARGE, 7);
    let (here, remote) = (local.path().join("here"), path("/d/f"));
    fs::create_dir(&here).unwrap();
    client.mkdir(&path("/d"), 0o700).await.unwrap();
    let (source, target) = if up {
        (here.join("f"), served.join("d/f"))
    } else {
        (served.join("d/f"), here.join("f"))
    };
    fs::write(&source, &content).unwrap();
    let run = async |options: &TransferOptions| {
        if up {
            transfer::put(client, &here.join("f"), &remote, options).await
        } else {
            transfer::get(client, &remote, &here.join("f"), options).await
        }
    };
    let stopped = run(&interrupted_after(3 << 20)).await;
    assert!(matches!(stopped, Err(Error::Cancelled)), "{stopped:?}");
    assert!(!target.exists(), "it has no name before it is whole");
    let part = part(target.parent().unwrap()).expect("what came is kept");
    let kept = fs::metadata(&part).unwrap().len();
    assert!(kept > 0 && kept < LARGE as u64, "{kept}");
    if damaged {
        let part = File::options().write(true).open(&part).unwrap();
        part.write_all_at(b"damage", 100).unwrap();
    }
    let done = run(&resuming()).await.unwrap();
    assert_eq!(fs::read(&target).unwrap(), content);
    let moved = done.bytes;
    assert_eq!(moved < LARGE as u64, !damaged, "{moved} bytes were moved");
    assert_eq!(names(target.parent().unwrap()), ["f"], "no part is left");
    let again = run(&resuming()).await.unwrap();
    assert_eq!((again.files, again.skipped, again.bytes), (0, 1, 0));
}

#[tokio::test]
async fn a_large_file_goes_on_where_it_stopped() {
    for up in [true, false] {
        let server = Ours::start();
        goes_on(&server.client().await, &server.root(), up, false).await;
        let server = Reference::start();
        goes_on(&server.client().await, &server.root(), up, false).await;
    }
}

#[tokio::test]
async fn a_part_that_is_something_else_is_noticed_before_it_gets_the_name() {
    for up in [true, false] {
        let server = Ours::start();
        goes_on(&server.client().await, &server.root(), up, true).await;
    }
}

fn set_time(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    File::open(path).unwrap().set_modified(time).unwrap();
}

#[tokio::test]
async fn of_a_tree_only_what_is_missing_or_differs_goes() {
    let server = Ours::start();
    let client = server.client().await;
    let local = tempfile::tempdir().unwrap();
    let source = local.path().join("source");
    for directory in 0..20 {
        let directory = source.join(directory.to_string());
        fs::create_dir_all(&directory).unwrap();
        for file in 0..50 {
            fs::write(directory.join(file.to_string()), file.to_string()).unwrap();
        }
    }
    let (target, back) = (path("/t"), local.path().join("back"));
    transfer::put(&client, &source, &target, &resuming())
        .await
        .unwrap();
    transfer::get(&client, &target, &back, &resuming())
        .await
        .unwrap();
    for done in [
        transfer::put(&client, &source, &target, &resuming())
            .await
            .unwrap(),
        transfer::get(&client, &target, &back, &resuming())
            .await
            .unwrap(),
    ] {
        assert_eq!(
            (done.files, done.skipped, done.bytes),
            (0, 1000, 0),
            "{done:?}"
        );
    }
    fs::remove_file(back.join("3/7")).unwrap();
    fs::write(back.join("4/8"), "other").unwrap();
    fs::write(back.join("5/9"), "X").unwrap();
    set_time(&back.join("5/9"), 1);
    // The content is the same, so it does not go again.
    set_time(&back.join("6/1"), 1);
    let done = transfer::get(&client, &target, &back, &resuming())
        .await
        .unwrap();
    assert_eq!((done.files, done.skipped), (3, 997), "{done:?}");
    for name in ["3/7", "4/8", "5/9", "6/1"] {
        let (here, there) = (back.join(name), source.join(name));
        assert_eq!(fs::read(&here).unwrap(), fs::read(&there).unwrap());
        let times = [&here, &there].map(|path| {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(path).unwrap().mtime()
        });
        assert_eq!(times[0], times[1], "{name}");
    }
}

#[tokio::test]
async fn a_copy_is_verified_on_both_makers_servers() {
    let (ours, theirs) = (Ours::start(), Reference::start());
    for client in [ours.client().await, theirs.client().await] {
        let local = tempfile::tempdir().unwrap();
        let source = local.path().join("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("small"), "small").unwrap();
        fs::write(source.join("large"), noise(2_000_000, 1)).unwrap();
        let options = TransferOptions {
            verify: true,
            ..exactly()
        };
        let (target, back) = (path("/v"), local.path().join("back"));
        transfer::put(&client, &source, &target, &options)
            .await
            .unwrap();
        transfer::get(&client, &target, &back, &options)
            .await
            .unwrap();
        // Of the same size and time, but not the same: only --verify sees it.
        let hidden = source.join("small");
        let time = fs::metadata(&hidden).unwrap().modified().unwrap();
        fs::write(&hidden, "smaul").unwrap();
        File::open(&hidden).unwrap().set_modified(time).unwrap();
        let options = TransferOptions {
            verify: true,
            ..resuming()
        };
        let result = transfer::put(&client, &source, &target, &options).await;
        let Err(Error::Incomplete(incomplete)) = result else {
            panic!("{result:?}");
        };
        let [failure] = &incomplete.failures[..] else {
            panic!("{incomplete:?}");
        };
        assert!(
            matches!(failure.error, Error::Different { .. }),
            "{failure:?}"
        );
    }
}

#[tokio::test]
async fn what_differs_from_its_digest_gets_no_name() {
    let local = tempfile::tempdir().unwrap();
    let target = local.path().join("f");
    let (client, mut peer) = pair().await;
    let features = r#"{"server":"s","boot":"b","run":"r","features":{"sha256":1}}"#;
    let script = async {
        peer.expect("stat /f\n").await;
        peer.send("0\n1 3 33152 1 0 0 0 5 4096 8 0 0 0\n").await;
        peer.expect("getfile /f\n").await.send("5\nhello").await;
        peer.expect("features\n").await;
        peer.send(format!("{}\n{features}", features.len())).await;
        peer.expect("sha256 /f\n").await.send("32\n").await;
        peer.send([7; 32]).await;
    };
    let options = TransferOptions {
        verify: true,
        ..exactly()
    };
    let source = path("/f");
    let get = transfer::get(&client, &source, &target, &options);
    let (result, ()) = tokio::join!(get, script);
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Different { .. }), "{error}");
    assert_eq!(names(local.path()), [""; 0]);
    let who = answered(client.whoami(), &mut peer, "whoami 4096\n", "2\nme").await;
    assert_eq!(who.unwrap(), &b"me"[..]);
}
