//! Logins by cookie and what is said behind them, with a peer that plays HTCondor's proxy.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use bytes::Bytes;
use chirp_client::cookie::Cookie;
use chirp_client::ticket::Offered;
use chirp_client::{Client, Code, Error, Method, OpenFlags, Whence, XattrFlags, XattrTarget};
use support::{LIMIT, Peer, answered, path, stranger};
use tokio::io::DuplexStream;

const STAT: &str = "1 2 33188 1 4 5 6 7 8 9 10 11 12\n";

async fn log_in(ours: DuplexStream, methods: &[Method]) -> Result<Client, Error> {
    let cookie = Cookie::new(b"s3cret").unwrap();
    let tickets = Offered::Files(Vec::new());
    let login = Client::from_stream_with("proxy:1", ours, methods, &tickets, Some(&cookie));
    tokio::time::timeout(LIMIT, login).await.unwrap()
}

/// A client that logged in by cookie, and its peer.
async fn pair() -> (Client, Peer) {
    let (ours, mut peer) = stranger();
    let (client, ()) = tokio::join!(log_in(ours, &[Method::Cookie]), async {
        peer.expect("cookie s3cret\n").await.send("0\n").await;
        peer.expect("whoami 1024\n").await.send("6\nCONDOR").await;
    });
    (client.unwrap(), peer)
}

#[tokio::test]
async fn the_cookie_has_its_turn_among_the_methods() {
    // HTCondor's proxy has a code for every other method.
    let (ours, mut peer) = stranger();
    let methods = [Method::Address, Method::Cookie];
    let (client, ()) = tokio::join!(log_in(ours, &methods), async {
        peer.expect("address\n").await.send("-1\n").await;
        peer.expect("cookie s3cret\n").await.send("0\n").await;
        peer.expect("whoami 1024\n").await.send("-1\n").await;
    });
    assert_eq!(client.unwrap().subject().to_string(), "cookie:holder");

    // A server with another cookie, and one with none.
    for answer in ["-1\n", "no\n"] {
        let (ours, mut peer) = stranger();
        let methods = [Method::Cookie, Method::Address];
        let (client, ()) = tokio::join!(log_in(ours, &methods), async {
            peer.expect("cookie s3cret\n").await.send(answer).await;
            peer.expect("address\n").await;
            peer.send("yes\nyes\nyes\naddress\n127.0.0.1\n").await;
        });
        assert_eq!(client.unwrap().subject().to_string(), "address:127.0.0.1");
    }
}

#[tokio::test]
async fn whatever_the_server_makes_of_it_no_error_has_the_secret() {
    for answer in [
        "-1\n",
        "no\n",
        "cookie s3cret\n",
        "0\n9999\n",
        "0\nx s3cret\n",
        "0\n",
    ] {
        let (ours, mut peer) = stranger();
        let (client, ()) = tokio::join!(log_in(ours, &[Method::Cookie]), async {
            peer.expect("cookie s3cret\n").await.send(answer).await;
            drop(peer);
        });
        let error = client.err().expect("nobody was let in");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("s3cret"), "{answer:?}: {shown}");
    }
}

#[tokio::test]
async fn words_have_the_escapes_of_the_dialect() {
    let (client, mut peer) = pair().await;
    assert_eq!(client.subject().to_string(), "cookie:CONDOR");
    let strange = path("/a b\\%");
    let stat = client.stat(&strange);
    let stat = answered(stat, &mut peer, "stat /a\\ b\\\\%\n", format!("0\n{STAT}")).await;
    assert_eq!(stat.unwrap().size, 7);
    let ulog = client.ulog(b"one\ntwo");
    let ulog = answered(ulog, &mut peer, "ulog one\\\ntwo\n", "0\n").await;
    ulog.unwrap();
    let value = client.get_job_attr(b"Owner");
    let value = answered(value, &mut peer, "get_job_attr Owner\n", "7\n\"alice\"").await;
    assert_eq!(&value.unwrap()[..], b"\"alice\"");
    let set = client.set_job_attr_delayed(b"ChirpStep", b"1 + 2");
    let line = "set_job_attr_delayed ChirpStep 1\\ +\\ 2\n";
    answered(set, &mut peer, line, "0\n").await.unwrap();
    let version = answered(client.version(), &mut peer, "version\n", "2\n").await;
    assert_eq!(version.unwrap(), 2);
}

#[tokio::test]
async fn a_listing_with_its_length_is_read_to_its_empty_line() {
    let (client, mut peer) = pair().await;
    let listed = async {
        let mut listing = client.getdir(&path("/")).await?;
        let mut names = Vec::new();
        while let Some(name) = listing.next().await? {
            names.push(name);
        }
        Ok::<_, Error>(names)
    };
    let names = answered(listed, &mut peer, "getdir /\n", "6\na\nb c\n\n").await;
    assert_eq!(names.unwrap(), ["a", "b c"]);
}

#[tokio::test]
async fn open_files_have_a_position_and_may_go_unexamined() {
    let (client, mut peer) = pair().await;
    let target = path("/f");
    let open = client.open(&target, OpenFlags::parse(b"rw"), 0o600);
    let script = async {
        peer.expect("open /f rw 384\n").await.send("3\n\n").await;
        peer.expect("fstat 3\n").await;
        peer.send(format!("0\n{STAT}")).await;
    };
    let (opened, ()) = tokio::join!(open, script);
    let (file, stat) = opened.unwrap();
    assert_eq!(stat.size, 7);
    let seek = client.lseek(file, -2, Whence::End);
    let at = answered(seek, &mut peer, "lseek 3 -2 2\n", "5\n").await;
    assert_eq!(at.unwrap(), 5);
    let read = answered(client.read(file, 10), &mut peer, "read 3 10\n", "2\nxy").await;
    assert_eq!(&read.unwrap()[..], b"xy");
    let write = client.write(file, Bytes::from("abc"));
    let written = answered(write, &mut peer, "write 3 3\nabc", "3\n").await;
    assert_eq!(written.unwrap(), 3);
}

#[tokio::test]
async fn an_empty_file_is_made_without_the_line_that_the_proxy_does_not_send() {
    let (client, mut peer) = pair().await;
    let mut nothing = tokio::io::empty();
    let target = path("/f");
    let put = client.putfile(&target, 0o644, 0, &mut nothing);
    let script = async {
        peer.expect("open /f wct 420\n").await;
        peer.send(format!("4\n{STAT}")).await;
        peer.expect("close 4\n").await.send("0\n").await;
    };
    let (put, ()) = tokio::join!(put, script);
    put.unwrap();
}

#[tokio::test]
async fn what_the_dialect_has_not_is_refused_before_its_content_is_taken_for_requests() {
    let (client, mut peer) = pair().await;
    let of = XattrTarget::Path(path("/f"));
    let value = Bytes::from("rmall /\n");
    let set = client.setxattr(&of, "user.x", value, XattrFlags::Either);
    let target = path("/f");
    let store = client.store(&target, 0o644, 0, Bytes::from("rmall /\n"));
    let root = path("/");
    let refused = async { [set.await, store.await, client.getacl(&root).await.map(drop)] };
    for refused in tokio::time::timeout(LIMIT, refused).await.unwrap() {
        let error = refused.unwrap_err();
        assert_eq!(error.code(), Some(Code::InvalidRequest));
        assert!(error.to_string().contains("cookie"), "{error}");
    }
    // None of it was sent.
    let version = answered(client.version(), &mut peer, "version\n", "2\n").await;
    assert_eq!(version.unwrap(), 2);

    let (plain, mut peer) = support::pair().await;
    let refused = plain.version().await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::InvalidRequest));
    let whoami = answered(plain.whoami(), &mut peer, "whoami 4096\n", "2\nme").await;
    assert_eq!(&whoami.unwrap()[..], b"me");
}
