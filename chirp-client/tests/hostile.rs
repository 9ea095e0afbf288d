//! Servers that are broken, slow or malicious: every answer is an error that says so, nothing hangs
//! and nothing outside the target is touched.

mod support;

use std::time::Duration;

use chirp_client::transfer::{self, Placement, TransferOptions};
use chirp_client::{Client, Code, Error, Method, OpenFlags};
use support::{LIMIT, answered, pair, path, stranger};
use tokio::time::timeout;

const DIRECTORY: &str = "1 2 16832 2 0 0 0 4096 4096 8 0 0 0\n";
const FILE: &str = "1 3 33152 1 0 0 0 5 4096 8 0 0 0\n";
const LINK: &str = "1 4 41471 1 0 0 0 4 4096 0 0 0 0\n";

#[tokio::test]
async fn garbage_in_place_of_a_number_ends_the_connection() {
    let (client, mut peer) = pair().await;
    let path = path("/x");
    let answer = "HTTP/1.1 400 Bad Request\r\n";
    let result = answered(client.stat(&path), &mut peer, "stat /x\n", answer).await;
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
    assert!(error.to_string().contains("HTTP"), "{error}");
    assert!(client.is_closed());
    let error = client.stat(&path).await.unwrap_err();
    assert!(error.is_fatal(), "{error}");
    peer.expect_end().await;
}

#[tokio::test]
async fn a_short_stat_line_is_a_violation() {
    let (client, mut peer) = pair().await;
    let path = path("/x");
    let call = client.stat(&path);
    let result = answered(call, &mut peer, "stat /x\n", "0\n1 2 3\n").await;
    assert!(matches!(result, Err(Error::Protocol { .. })), "{result:?}");
    assert!(client.is_closed());
}

#[tokio::test]
async fn more_bytes_than_asked_for_are_not_taken() {
    for announced in ["11", "4611686018427387904", "99999999999999999999999"] {
        let (client, mut peer) = pair().await;
        let answer = format!("{announced}\n");
        let (path, flags) = (path("/x"), OpenFlags::parse(b"r"));
        let open = client.open(&path, flags, 0);
        let opened = "0\n1 2 33152 1 5 6 0 7 8 9 10 11 12\n";
        let opened = answered(open, &mut peer, "open /x r 0\n", opened).await;
        let call = client.pread(opened.unwrap().0, 10, 0);
        let result = answered(call, &mut peer, "pread 0 10 0\n", answer).await;
        assert!(matches!(result, Err(Error::Protocol { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn a_body_of_absurd_length_takes_no_memory() {
    let (client, mut peer) = pair().await;
    let (path, answer) = (path("/x"), "9000000000000000000\nabc");
    let call = client.getfile(&path);
    let mut body = answered(call, &mut peer, "getfile /x\n", answer)
        .await
        .unwrap();
    assert_eq!(body.length(), 9_000_000_000_000_000_000);
    assert_eq!(body.chunk().await.unwrap().as_deref(), Some(&b"abc"[..]));
    drop(peer);
    let error = body.chunk().await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
}

#[tokio::test]
async fn a_cut_connection_fails_all_calls_at_once() {
    let (client, mut peer) = pair().await;
    let path = path("/x");
    let (one, two, ()) = tokio::join!(client.stat(&path), client.stat(&path), async {
        peer.expect("stat /x\nstat /x\n").await.send("0\n1 2").await;
        drop(peer);
    });
    for result in [one, two] {
        assert!(matches!(result, Err(Error::Lost { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn a_late_answer_is_dropped_and_the_next_one_is_the_right_one() {
    let (client, mut peer) = pair().await;
    let hasty = client.with_timeout(Duration::from_millis(30));
    let error = hasty.readlink(&path("/x")).await.unwrap_err();
    assert!(
        matches!(error, Error::Timeout { usable: true, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("readlink /x"), "{error}");
    peer.expect("readlink /x 4096\n").await.send("3\nold").await;
    let result = answered(client.whoami(), &mut peer, "whoami 4096\n", "3\nnew").await;
    assert_eq!(result.unwrap(), &b"new"[..]);
}

#[tokio::test]
async fn silence_in_the_middle_of_a_body_gives_the_connection_up_and_says_so() {
    let (client, mut peer) = pair().await;
    let hasty = client.with_timeout(Duration::from_millis(30));
    let path = path("/x");
    let call = hasty.getfile(&path);
    let mut body = answered(call, &mut peer, "getfile /x\n", "10\nhalf")
        .await
        .unwrap();
    body.chunk().await.unwrap();
    let error = body.chunk().await.unwrap_err();
    assert!(
        matches!(error, Error::Timeout { usable: false, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("given up"), "{error}");
    assert!(client.is_closed());
    drop(body);
    peer.expect_end().await;
}

#[tokio::test]
async fn time_that_another_body_takes_does_not_count() {
    let (client, mut peer) = pair().await;
    let hasty = client.with_timeout(Duration::from_millis(200));
    let path = path("/big");
    let call = hasty.getfile(&path);
    let mut body = answered(call, &mut peer, "getfile /big\n", "4\n")
        .await
        .unwrap();
    let behind = hasty.clone();
    let behind = tokio::spawn(async move { behind.whoami().await });
    // Each byte comes in time, all of them together do not.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        peer.send("x").await;
        assert!(body.chunk().await.unwrap().is_some());
    }
    drop(body);
    peer.expect("whoami 4096\n").await.send("2\nme").await;
    assert_eq!(behind.await.unwrap().unwrap(), &b"me"[..]);
}

#[tokio::test]
async fn unasked_bytes_are_a_violation() {
    let (client, mut peer) = pair().await;
    peer.send("0\n").await;
    peer.expect_end().await;
    let error = client.whoami().await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn an_endless_name_is_not_collected() {
    let (client, mut peer) = pair().await;
    let path = path("/");
    let call = client.getdir(&path);
    let mut listing = answered(call, &mut peer, "getdir /\n", "0\n")
        .await
        .unwrap();
    let flood = tokio::spawn(async move {
        for _ in 0..100 {
            peer.send([b'x'; 1000]).await;
        }
    });
    let error = timeout(LIMIT, listing.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
    drop((listing, client));
    // The peer may find the connection closed or have sent all; either ends it.
    let _either = flood.await;
}

#[tokio::test]
async fn nothing_is_written_behind_a_putfile_before_its_end() {
    let (client, mut peer) = pair().await;
    let path = path("/x");
    let mut content: &[u8] = b"abc";
    let put = client.putfile(&path, 0o644, 3, &mut content);
    let script = async {
        peer.expect("putfile /x 420 3\n").await;
        peer.expect_nothing().await.send("0\n").await;
        peer.expect("abc").await.expect_nothing().await;
        peer.send("3\n").await.expect("whoami 4096\n").await;
        peer.send("2\nme").await;
    };
    let (put, who, ()) = tokio::join!(put, client.whoami(), script);
    put.unwrap();
    assert_eq!(who.unwrap(), &b"me"[..]);
}

#[tokio::test]
async fn a_refused_putfile_sends_nothing_and_the_connection_goes_on() {
    let (client, mut peer) = pair().await;
    let path = path("/x");
    let mut content: &[u8] = b"abc";
    let (put, ()) = tokio::join!(client.putfile(&path, 0o644, 3, &mut content), async {
        peer.expect("putfile /x 420 3\n").await.send("-2\n").await;
    });
    let error = put.unwrap_err();
    assert_eq!(error.code(), Some(Code::NotAuthorized));
    assert_eq!(error.to_string(), "peer:1: putfile /x: permission denied");
    assert_eq!(content, b"abc");
    let (who, ()) = tokio::join!(client.whoami(), async {
        peer.expect("whoami 4096\n").await.send("2\nme").await;
    });
    assert_eq!(who.unwrap(), &b"me"[..]);
}

#[tokio::test]
async fn a_putfile_that_was_confirmed_short_is_no_success() {
    let (client, mut peer) = pair().await;
    let path = path("/x");
    let mut content: &[u8] = b"abc";
    let (put, ()) = tokio::join!(client.putfile(&path, 0o644, 3, &mut content), async {
        peer.expect("putfile /x 420 3\n").await.send("0\n").await;
        peer.expect("abc").await.send("2\n").await;
    });
    assert!(matches!(put, Err(Error::Protocol { .. })), "{put:?}");
}

#[tokio::test]
async fn a_dropped_putfile_ends_the_connection() {
    let (client, mut peer) = pair().await;
    let path = path("/x");
    let mut content = tokio::io::empty();
    let (put, ()) = tokio::join!(client.putfile(&path, 0o644, 3, &mut content), async {
        peer.expect("putfile /x 420 3\n").await.send("0\n").await;
    });
    assert!(matches!(put, Err(Error::Local { .. })), "{put:?}");
    peer.expect_end().await;
    assert!(client.whoami().await.unwrap_err().is_fatal());
}

#[tokio::test]
async fn a_thousand_calls_in_flight_get_their_own_answers() {
    let (client, mut peer) = pair().await;
    let server = tokio::spawn(async move {
        for number in 0..1000 {
            let name = format!("/{number}");
            peer.expect(format!("readlink {name} 4096\n")).await;
            peer.send(format!("{}\n{name}", name.len())).await;
        }
    });
    let calls = (0..1000).map(|number| {
        let client = client.clone();
        async move {
            let name = format!("/{number}");
            let answer = client.readlink(&path(&name)).await.unwrap();
            assert_eq!(answer, name.as_bytes());
        }
    });
    timeout(LIMIT, futures_util::future::join_all(calls))
        .await
        .unwrap();
    server.await.unwrap();
}

#[tokio::test]
async fn dropped_calls_and_small_rests_leave_the_connection_usable() {
    let (client, mut peer) = pair().await;
    let dropped = timeout(Duration::from_millis(20), client.stat(&path("/gone"))).await;
    assert!(dropped.is_err());
    peer.expect("stat /gone\n").await.send("-3\n").await;
    let (file, root) = (path("/x"), path("/"));
    let answer = format!("1000\n{:600}", "");
    let call = client.getfile(&file);
    let mut body = answered(call, &mut peer, "getfile /x\n", answer)
        .await
        .unwrap();
    body.chunk().await.unwrap();
    drop(body);
    peer.send([b'x'; 400]).await;
    let answer = "0\nname\nother\n\n";
    let call = client.getdir(&root);
    let listing = answered(call, &mut peer, "getdir /\n", answer).await;
    drop(listing.unwrap());
    let who = answered(client.whoami(), &mut peer, "whoami 4096\n", "2\nme").await;
    assert_eq!(who.unwrap(), &b"me"[..]);
}

#[tokio::test]
async fn the_rest_of_a_large_body_is_not_read_away() {
    let (client, mut peer) = pair().await;
    let path = path("/x");
    let call = client.getfile(&path);
    let body = answered(call, &mut peer, "getfile /x\n", "100000000\nx").await;
    drop(body.unwrap());
    peer.expect_end().await;
    assert!(client.is_closed());
}

#[tokio::test]
async fn odd_challenges_are_declined_and_the_next_method_is_tried() {
    let directory = tempfile::tempdir().unwrap();
    let precious = directory.path().join("precious");
    std::fs::write(&precious, "x").unwrap();
    let (ours, mut peer) = stranger();
    let script = async {
        for odd in [precious.to_str().unwrap(), "/etc/nologin", "challenge.1"] {
            peer.expect("unix\n").await;
            peer.send(format!("yes\n{odd}\n"))
                .await
                .expect("no\n")
                .await;
        }
        peer.expect("hostname\n").await.send("yes\nno\n").await;
        peer.expect("address\n").await.send("no\n").await;
    };
    let methods = [
        Method::Unix,
        Method::Unix,
        Method::Unix,
        Method::Hostname,
        Method::Address,
    ];
    let (result, ()) = tokio::join!(Client::from_stream("peer:1", ours, &methods), script);
    let error = result.err().unwrap();
    assert!(matches!(error, Error::Login { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("nologin") && text.contains("hostname: the server refused it"));
    assert_eq!(std::fs::read(&precious).unwrap(), b"x");
}

#[tokio::test]
async fn the_challenge_is_there_while_the_server_looks_and_gone_after() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    let challenge = directory.path().join("challenge.1");
    let (ours, mut peer) = stranger();
    let script = async {
        peer.expect("unix\n").await;
        peer.send(format!("yes\n{}\n", challenge.display())).await;
        peer.expect("yes\n").await;
        let found = std::fs::symlink_metadata(&challenge).unwrap();
        assert_eq!((found.mode(), found.len()), (0o100_600, 0));
        peer.send("yes\nyes\nunix\nal ice\n").await;
    };
    let (client, ()) = tokio::join!(Client::from_stream("peer:1", ours, &[Method::Unix]), script);
    assert_eq!(client.unwrap().subject().as_str(), "unix:al_ice");
    assert!(!challenge.exists());
}

#[tokio::test]
async fn a_listing_cannot_lead_out_of_the_target() {
    for name in ["../x", "/tmp/x", "a/b", "a\0b"] {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("target");
        let (client, mut peer) = pair().await;
        let (source, options) = (path("/d"), TransferOptions::default());
        let get = transfer::get(&client, &source, &target, &options);
        let script = async {
            peer.expect("stat /d\n")
                .await
                .send(format!("0\n{DIRECTORY}"))
                .await;
            peer.expect("getlongdir /d\n").await;
            peer.send(format!("0\n.\n{DIRECTORY}{name}\n{FILE}\n"))
                .await;
        };
        let both = async { tokio::join!(get, script).0 };
        let error = timeout(LIMIT, both).await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_link_that_the_server_sends_is_not_written_through() {
    let root = tempfile::tempdir().unwrap();
    let outside = root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let target = root.path().join("target");
    let options = TransferOptions {
        placement: Placement::Exact,
        ..TransferOptions::default()
    };
    // What is a link at first is a directory later.
    let (client, mut peer) = pair().await;
    let script = async {
        peer.expect("stat /d\n").await;
        peer.send(format!("0\n{DIRECTORY}")).await;
        peer.expect("getlongdir /d\n").await;
        peer.send(format!("0\nx\n{LINK}\n")).await;
        peer.expect("readlink /d/x 4096\n").await;
        let length = outside.as_os_str().len();
        peer.send(format!("{length}\n{}", outside.display())).await;
    };
    let source = path("/d");
    let get = transfer::get(&client, &source, &target, &options);
    let both = async { tokio::join!(get, script).0 };
    timeout(LIMIT, both).await.unwrap().unwrap();
    assert_eq!(std::fs::read_link(target.join("x")).unwrap(), outside);

    let (client, mut peer) = pair().await;
    let script = async {
        peer.expect("stat /d\n").await;
        peer.send(format!("0\n{DIRECTORY}")).await;
        peer.expect("getlongdir /d\n").await;
        peer.send(format!("0\nx\n{DIRECTORY}\n")).await;
        peer.expect("getlongdir /d/x\n").await;
        peer.send(format!("0\nf\n{FILE}y\n{DIRECTORY}\n")).await;
        peer.expect("getlongdir /d/x/y\n").await;
        peer.send("0\n\n").await;
    };
    let get = transfer::get(&client, &source, &target, &options);
    let both = async { tokio::join!(get, script).0 };
    let result = timeout(LIMIT, both).await.unwrap();
    let Err(Error::Incomplete(incomplete)) = result else {
        panic!("{result:?}");
    };
    assert_eq!((incomplete.failed, incomplete.copied.files), (2, 0));
    assert_eq!(std::fs::read_link(target.join("x")).unwrap(), outside);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test]
async fn the_old_file_stays_when_a_get_is_refused_or_cut() {
    for answer in ["-2\n", "10\nhalf"] {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("f");
        std::fs::write(&target, "old").unwrap();
        let (client, mut peer) = pair().await;
        let script = async {
            peer.expect("stat /f\n")
                .await
                .send(format!("0\n{FILE}"))
                .await;
            peer.expect("getfile /f\n").await.send(answer).await;
            drop(peer);
        };
        let (source, options) = (path("/f"), TransferOptions::default());
        let get = transfer::get(&client, &source, &target, &options);
        let (result, ()) = tokio::join!(get, script);
        assert!(result.is_err());
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn exec_is_not_sent_to_a_server_that_does_not_know_it() {
    let (client, mut peer) = pair().await;
    let request = chirp_client::exec::ExecRequest::new("true");
    let (result, ()) = tokio::join!(client.exec(&request), async {
        peer.expect("features\n").await.send("-8\n").await;
    });
    let error = result.err().unwrap();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    peer.expect_nothing().await;
}

#[tokio::test]
async fn an_execution_gives_the_connection_back() {
    let (client, mut peer) = pair().await;
    let request = chirp_client::exec::ExecRequest::new("true");
    let body = request.to_json();
    let features = br#"{"server":"s","boot":"b","run":"r","features":{"exec":1}}"#;
    let status = br#"{"id":7,"cmd-id":"c","subject":"address:127.0.0.1","state":"ended","started":1.0,"results":{"cmd-id":"c","finished":true,"exitCodeOrSignal":3,"resources":{},"wall_s":0.1,"ended_by":"exit","out_bytes":2,"err_bytes":0}}"#;
    let script = async {
        peer.expect("features\n").await;
        peer.send(format!("{}\n", features.len()))
            .await
            .send(features)
            .await;
        peer.expect(format!("exec {}\n", body.len()))
            .await
            .expect(&body)
            .await;
        peer.send("7\nat 0 0 0 0\nout 2\nhi").await;
        peer.send(format!("end {}\n", status.len()))
            .await
            .send(status)
            .await;
    };
    let run = async {
        let execution = client.exec(&request).await.unwrap();
        assert_eq!(execution.id(), 7);
        let (_keep, mut control) = tokio::sync::mpsc::channel(1);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let stdin = None::<tokio::io::Empty>;
        let ending = execution.run(stdin, &mut out, &mut err, &mut control).await;
        assert_eq!(out, b"hi");
        ending.unwrap()
    };
    let (ending, ()) = tokio::join!(run, script);
    let chirp_client::exec::Ending::Ended(status) = ending else {
        panic!("{ending:?}");
    };
    assert_eq!(status.results.unwrap().exit_code_or_signal, 3);
    peer.expect("done\n").await;
    let who = answered(client.whoami(), &mut peer, "whoami 4096\n", "2\nme").await;
    assert_eq!(who.unwrap(), &b"me"[..]);
}

#[tokio::test]
async fn output_that_got_lost_is_an_error() {
    let (client, mut peer) = pair().await;
    let request = chirp_client::exec::ExecRequest::new("true");
    let body = request.to_json();
    let features = br#"{"server":"s","boot":"b","run":"r","features":{"exec":1}}"#;
    let status = br#"{"id":7,"cmd-id":"c","subject":"address:127.0.0.1","state":"ended","started":1.0,"results":{"cmd-id":"c","finished":true,"exitCodeOrSignal":0,"resources":{},"wall_s":0.1,"ended_by":"exit","out_bytes":3,"err_bytes":0}}"#;
    let script = async {
        peer.expect("features\n").await;
        peer.send(format!("{}\n", features.len()))
            .await
            .send(features)
            .await;
        peer.expect(format!("exec {}\n", body.len()))
            .await
            .expect(&body)
            .await;
        peer.send("7\nat 0 0 0 0\nout 2\nhi").await;
        peer.send(format!("end {}\n", status.len()))
            .await
            .send(status)
            .await;
    };
    let run = async {
        let execution = client.exec(&request).await.unwrap();
        let (_keep, mut control) = tokio::sync::mpsc::channel(1);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let stdin = None::<tokio::io::Empty>;
        execution.run(stdin, &mut out, &mut err, &mut control).await
    };
    let (ending, ()) = tokio::join!(run, script);
    let error = ending.unwrap_err();
    assert!(error.to_string().contains("incomplete"), "{error}");
}

/// Compiles only if what callers spawn may move between threads.
#[expect(dead_code, reason = "it is checked by compiling it")]
fn futures_may_be_spawned(client: &Client, request: &chirp_client::exec::ExecRequest) {
    fn check<T: Send>(_future: T) {}
    let (source, target) = (std::path::Path::new("x"), path("/x"));
    let options = TransferOptions::default();
    check(transfer::put(client, source, &target, &options));
    check(transfer::get(client, &target, source, &options));
    check(async {
        let (_keep, mut control) = tokio::sync::mpsc::channel(1);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let stdin = None::<tokio::io::Empty>;
        let execution = client.exec(request).await?;
        execution.run(stdin, &mut out, &mut err, &mut control).await
    });
    check(async {
        let mut listing = client.getlongdir(&target).await?;
        listing.next().await
    });
    check(async {
        let body = client.getfile(&target).await?;
        body.copy_to(&mut tokio::io::sink()).await
    });
}
