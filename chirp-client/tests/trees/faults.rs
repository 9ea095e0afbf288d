//! Sources that change, targets that are in the way, rights that are missing, and copies that meet.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use chirp_client::Error;
use chirp_client::transfer::{self, Summary, TransferOptions};

use crate::ours::{Ours, eventually, exactly, names, noise};
use crate::support::{Reference, give_away, path};

/// The content of the file beside the large one.
const SMALL: &str = "small";

/// Does something as soon as bytes of the large file have moved.
fn meanwhile(act: impl Fn() + Send + Sync + 'static) -> TransferOptions {
    let once = std::sync::Once::new();
    TransferOptions {
        progress: Some(Arc::new(move |done: Summary| {
            // The small one may be first.
            if done.bytes > SMALL.len() as u64 {
                once.call_once(&act);
            }
        })),
        ..exactly()
    }
}

#[tokio::test]
async fn a_file_that_shrinks_or_changes_while_it_is_sent_is_a_failure_and_the_rest_arrives() {
    let server = Ours::start();
    let client = server.client().await;
    for shrinks in [true, false] {
        let local = tempfile::tempdir().unwrap();
        let large = local.path().join("large");
        fs::write(&large, noise(8 << 20, 1)).unwrap();
        fs::write(local.path().join("small"), SMALL).unwrap();
        // The clock of files is coarse: the old time is surely another one.
        let old = std::time::SystemTime::UNIX_EPOCH;
        File::open(&large).unwrap().set_modified(old).unwrap();
        let changing = large.clone();
        let options = meanwhile(move || {
            let file = File::options().write(true).open(&changing).unwrap();
            if shrinks {
                file.set_len(1000).unwrap();
            } else {
                std::os::unix::fs::FileExt::write_all_at(&file, b"other", 0).unwrap();
            }
        });
        // One connection, so that the small file cannot be what moved first while the large waits.
        let target = path(if shrinks { "/shrunk" } else { "/changed" });
        let sent = transfer::put(&client, local.path(), &target, &options).await;
        let Err(Error::Incomplete(incomplete)) = sent else {
            panic!("{sent:?}");
        };
        assert_eq!(
            (incomplete.failed, incomplete.copied.files),
            (1, 1),
            "{incomplete}"
        );
        assert!(
            incomplete.to_string().contains("send it again"),
            "{incomplete}"
        );
        let served = server
            .root()
            .join(if shrinks { "shrunk" } else { "changed" });
        assert_eq!(fs::read(served.join("small")).unwrap(), b"small");
        if shrinks {
            eventually("no half file is left", || names(&served) == ["small"]);
        }
    }
}

#[tokio::test]
async fn a_file_that_vanishes_before_its_turn_is_a_failure_and_the_rest_arrives() {
    let server = Ours::start();
    let client = server.client().await;
    let served = server.root().join("d");
    fs::create_dir(&served).unwrap();
    give_away(&served);
    for name in ["a", "b", "c"] {
        fs::write(served.join(name), noise(2_000_000, 1)).unwrap();
        give_away(&served.join(name));
    }
    let local = tempfile::tempdir().unwrap();
    let target = local.path().join("d");
    // It is listed, and gone when it is asked for.
    let gone = served.join("b");
    let events = Arc::new(move |event: transfer::Event<'_>| {
        if event.path.ends_with("/b") {
            fs::remove_file(&gone).unwrap();
        }
    });
    let options = TransferOptions {
        events: Some(events),
        ..exactly()
    };
    let got = transfer::get(&client, &path("/d"), &target, &options).await;
    let Err(Error::Incomplete(incomplete)) = got else {
        panic!("{got:?}");
    };
    assert_eq!((incomplete.failed, incomplete.copied.files), (1, 2));
    assert_eq!(names(&target), ["a", "c"]);
}

#[tokio::test]
async fn a_served_file_that_shrinks_costs_its_connection_and_nothing_else() {
    let server = Ours::start();
    let client = server.client().await;
    let served = server.root().join("d");
    fs::create_dir(&served).unwrap();
    give_away(&served);
    for number in 0..300 {
        fs::write(served.join(format!("{number}")), noise(10_000, number)).unwrap();
    }
    let large = served.join("large");
    fs::write(&large, noise(30 << 20, 1)).unwrap();
    for name in names(&served) {
        give_away(&served.join(name));
    }
    let local = tempfile::tempdir().unwrap();
    let target = local.path().join("d");
    let shrinking = large.clone();
    let options = TransferOptions {
        progress: Some(Arc::new(move |done: Summary| {
            // Some of the large file has come: the small ones have but 3,000,000 bytes.
            if done.bytes > 4_000_000 {
                File::options()
                    .write(true)
                    .open(&shrinking)
                    .unwrap()
                    .set_len(1000)
                    .unwrap();
            }
        })),
        ..exactly()
    };
    let got = transfer::get(&client, &path("/d"), &target, &options).await;
    // It is asked for again, and may then be had as it is by now, or be told as changed.
    let copied = match got {
        Ok(copied) => copied,
        Err(Error::Incomplete(incomplete)) => {
            assert_eq!(incomplete.failed, 1, "{incomplete}");
            incomplete.copied
        }
        Err(other) => panic!("{other}"),
    };
    assert!(copied.files >= 300, "{copied:?}");
    for name in names(&target) {
        let (here, there) = (target.join(&name), served.join(&name));
        assert_eq!(fs::read(here).unwrap(), fs::read(there).unwrap(), "{name}");
    }
}

#[tokio::test]
async fn what_is_in_the_way_stays_and_is_named() {
    let server = Ours::start();
    let client = server.client().await;
    let local = tempfile::tempdir().unwrap();
    let source = local.path().join("source");
    fs::create_dir_all(source.join("d")).unwrap();
    fs::write(source.join("d/f"), "f").unwrap();
    fs::write(source.join("f"), "f").unwrap();
    transfer::put(&client, &source, &path("/t"), &exactly())
        .await
        .unwrap();
    // Here a file is where a directory comes, a directory where a file comes.
    let target = local.path().join("target");
    fs::create_dir_all(target.join("f/inner")).unwrap();
    fs::write(target.join("d"), "mine").unwrap();
    let got = transfer::get(&client, &path("/t"), &target, &exactly()).await;
    let Err(Error::Incomplete(incomplete)) = got else {
        panic!("{got:?}");
    };
    assert_eq!(incomplete.failed, 2, "{incomplete:?}");
    assert_eq!(fs::read(target.join("d")).unwrap(), b"mine");
    assert!(target.join("f/inner").is_dir());
    let put = transfer::put(&client, &target, &path("/t"), &exactly()).await;
    let Err(Error::Incomplete(incomplete)) = put else {
        panic!("{put:?}");
    };
    assert_eq!(incomplete.failed, 2, "{incomplete:?}");
    assert_eq!(fs::read(server.root().join("t/f")).unwrap(), b"f");
    assert_eq!(fs::read(server.root().join("t/d/f")).unwrap(), b"f");
}

#[tokio::test]
async fn two_copies_into_the_same_place_leave_whole_files_and_no_debris() {
    let (ours, theirs) = (Ours::start(), Reference::start());
    for (client, served) in [
        (ours.client().await, ours.root()),
        (theirs.client().await, theirs.root()),
    ] {
        let local = tempfile::tempdir().unwrap();
        let sources = ["one", "two"].map(|name| local.path().join(name));
        for (seed, source) in sources.iter().enumerate() {
            fs::create_dir(source).unwrap();
            for file in 0..20 {
                let content = vec![u8::try_from(seed).unwrap(); 50_000 + file * 30_000];
                fs::write(source.join(file.to_string()), content).unwrap();
            }
        }
        let (target, options) = (path("/t"), exactly());
        let [one, two] = &sources;
        let (a, b) = tokio::join!(
            transfer::put(&client, one, &target, &options),
            transfer::put(&client, two, &target, &options)
        );
        assert_eq!((a.unwrap().files, b.unwrap().files), (20, 20));
        check_whole(&served.join("t"));

        transfer::put(&client, one, &path("/one"), &options)
            .await
            .unwrap();
        transfer::put(&client, two, &path("/two"), &options)
            .await
            .unwrap();
        let here = local.path().join("here");
        fs::create_dir(&here).unwrap();
        let (one, two) = (path("/one"), path("/two"));
        let (a, b) = tokio::join!(
            transfer::get(&client, &one, &here, &options),
            transfer::get(&client, &two, &here, &options)
        );
        assert_eq!((a.unwrap().files, b.unwrap().files), (20, 20));
        check_whole(&here);
    }
}

/// Each file is the one or the other, and whole.
fn check_whole(directory: &Path) {
    assert_eq!(names(directory).len(), 20, "{:?}", names(directory));
    for name in names(directory) {
        let content = fs::read(directory.join(&name)).unwrap();
        let length = 50_000 + name.parse::<usize>().unwrap() * 30_000;
        assert_eq!(content.len(), length, "{name}");
        let first = content.first().copied().unwrap();
        assert!(
            content.iter().all(|&byte| byte == first),
            "{name} is a mixture"
        );
    }
}

#[tokio::test]
async fn where_another_server_does_not_let_us_rename_it_is_written_directly_and_said() {
    let server = Reference::start();
    let client = server.client().await;
    let local = tempfile::tempdir().unwrap();
    fs::write(local.path().join("f"), "content").unwrap();
    let sent = transfer::put(&client, local.path(), &path("/all"), &exactly())
        .await
        .unwrap();
    assert_eq!((sent.files, sent.direct), (1, 0));
    client.mkdir(&path("/some"), 0o700).await.unwrap();
    client
        .setacl(&path("/some"), "address:127.0.0.1", "rwla")
        .await
        .unwrap();
    let sent = transfer::put(&client, local.path(), &path("/some"), &exactly())
        .await
        .unwrap();
    assert_eq!((sent.files, sent.direct), (1, 1));
    for directory in ["all", "some"] {
        assert_eq!(names(&server.root().join(directory)), ["f"]);
        let content = fs::read(server.root().join(directory).join("f")).unwrap();
        assert_eq!(content, b"content");
    }
}
