//! What does not fit is refused before the first byte goes.

use chirp_client::Error;
use chirp_client::transfer::{self, TransferOptions};
use tokio::time::timeout;

use crate::ours::exactly;
use crate::support::{LIMIT, pair, path};

#[tokio::test]
async fn a_tree_that_the_server_has_no_room_for_is_not_begun() {
    let local = tempfile::tempdir().unwrap();
    std::fs::write(local.path().join("f"), vec![1; 50_000]).unwrap();
    let (client, mut peer) = pair().await;
    let (target, options) = (path("/d"), exactly());
    let put = transfer::put(&client, local.path(), &target, &options);
    let script = async {
        peer.expect("stat /d\nfeatures\n")
            .await
            .send("-3\n-8\n")
            .await;
        peer.expect("statfs /d\n").await.send("-3\n").await;
        peer.expect("statfs /\n").await;
        peer.send("0\n61267 4096 1000 12 10 1000 1000\n").await;
    };
    let both = async { tokio::join!(put, script).0 };
    let error = timeout(LIMIT, both).await.unwrap().unwrap_err();
    let Error::NoSpace {
        needed, available, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!((*needed, *available), (50_000, 40_960));
    assert!(error.to_string().contains("peer:1:/d"), "{error}");
    drop(client);
    peer.expect_end().await;
}

#[tokio::test]
async fn a_tree_that_there_is_no_room_for_here_is_not_begun_unless_that_is_asked_for() {
    // 2^60 bytes, all of them on disk.
    let large = "1 3 33152 1 0 0 0 1152921504606846976 4096 2251799813685248 0 0 0\n";
    let directory = "1 2 16832 2 0 0 0 4096 4096 8 0 0 0\n";
    let local = tempfile::tempdir().unwrap();
    let target = local.path().join("target");
    for ignore_space in [false, true] {
        let options = TransferOptions {
            ignore_space,
            ..exactly()
        };
        let (client, mut peer) = pair().await;
        let source = path("/d");
        let get = transfer::get(&client, &source, &target, &options);
        let script = async {
            peer.expect("stat /d\n")
                .await
                .send(format!("0\n{directory}"))
                .await;
            peer.expect("getlongdir /d\n").await;
            peer.send(format!("0\nf\n{large}\n")).await;
            if ignore_space {
                peer.expect("getfile /d/f\n").await.send("-2\n").await;
            }
        };
        let both = async { tokio::join!(get, script).0 };
        let error = timeout(LIMIT, both).await.unwrap().unwrap_err();
        let refused = matches!(error, Error::NoSpace { .. });
        assert_eq!(
            (refused, target.exists()),
            (!ignore_space, ignore_space),
            "{error}"
        );
    }
}
