//! What shall survive a loss of power is on disk before it is said to be copied.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;

use chirp_client::Code;
use chirp_client::transfer::{self, TransferOptions};
use tokio::time::timeout;

use crate::ours::{Ours, exactly, noise, resuming};
use crate::support::{LIMIT, pair, path};

const STAT: &str = "1 3 33152 1 0 0 0 3 4096 8 0 0 0\n";

#[tokio::test]
async fn a_file_that_was_sent_is_waited_for_and_not_every_server_manages() {
    let local = tempfile::tempdir().unwrap();
    let file = local.path().join("f");
    fs::write(&file, "abc").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    // That a disk is full may only show now.
    for (answer, code) in [("0\n", None), ("-6\n", Some(Code::NoSpace))] {
        let (client, mut peer) = pair().await;
        let options = TransferOptions {
            fsync: true,
            preserve: false,
            ..exactly()
        };
        let (source, target) = (File::open(&file).unwrap(), path("/f"));
        let put = transfer::put_file(&client, source, &target, &options);
        let script = async {
            peer.expect("features\n").await.send("-8\n").await;
            peer.expect("statfs /f\n").await.send("-3\n").await;
            peer.expect("statfs /\n").await;
            peer.send("0\n61267 4096 1000 900 900 1000 1000\n").await;
            peer.expect("putfile /f 384 3\n").await.send("0\n").await;
            peer.expect("abc").await.send("3\n").await;
            // Somebody who may only write.
            peer.expect("open /f r 0\n").await.send("-2\n").await;
            let opened = format!("5\n{STAT}");
            peer.expect("open /f w 0\n").await.send(opened).await;
            peer.expect("fsync 5\n").await.send(answer).await;
            peer.expect("close 5\n").await.send("0\n").await;
        };
        let both = async { tokio::join!(put, script).0 };
        let put = timeout(LIMIT, both).await.unwrap();
        assert_eq!(put.err().and_then(|error| error.code()), code);
    }
}

#[tokio::test]
async fn trees_go_to_the_disk_on_both_sides_and_so_does_what_is_there_already() {
    let server = Ours::start();
    let client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    let (local, back) = (directory.path().join("here"), directory.path().join("back"));
    fs::create_dir_all(local.join("d")).unwrap();
    fs::write(local.join("d/small"), "small").unwrap();
    fs::write(local.join("large"), noise(3_000_000, 5)).unwrap();
    fs::hard_link(local.join("large"), local.join("twin")).unwrap();
    let options = TransferOptions {
        fsync: true,
        ..resuming()
    };
    let target = path("/there");
    for (files, skipped) in [(2, 0), (0, 3)] {
        let sent = transfer::put(&client, &local, &target, &options).await;
        let sent = sent.unwrap();
        assert_eq!((sent.files, sent.skipped), (files, skipped), "{sent:?}");
        let got = transfer::get(&client, &target, &back, &options).await;
        let got = got.unwrap();
        assert_eq!((got.files, got.skipped), (files, skipped), "{got:?}");
    }
    for name in ["d/small", "large", "twin"] {
        let content = fs::read(local.join(name)).unwrap();
        assert_eq!(
            fs::read(server.root().join("there").join(name)).unwrap(),
            content
        );
        assert_eq!(fs::read(back.join(name)).unwrap(), content);
    }
}
