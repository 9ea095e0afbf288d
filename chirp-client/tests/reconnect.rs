//! Connections that are lost, and what is done about it: what is safe is made again, what is not is
//! reported, and nothing of a lost connection reaches the next one.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use chirp_client::pool::Pool;
use chirp_client::{Client, ConnectOptions, Error, Method, OpenFlags, XattrFlags, XattrTarget};
use support::{LIMIT, path};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const STAT: &str = "1 2 33152 1 5 6 0 7 8 9 10 11 12";

/// A server that plays one script after the other, a connection each.
struct Server {
    listener: TcpListener,
}

/// The server's end of one connection, logged in.
struct Peer(BufReader<TcpStream>);

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener }
    }

    fn options(&self) -> ConnectOptions {
        let address = self.listener.local_addr().unwrap().to_string();
        let mut options = ConnectOptions::new(address.parse().unwrap());
        options.methods = vec![Method::Address];
        options.reconnect = Some(LIMIT);
        options
    }

    /// Takes the next connection and lets it log in.
    async fn accept(&self) -> Peer {
        self.accept_as("127.0.0.1").await
    }

    async fn accept_as(&self, subject: &str) -> Peer {
        let accepted = tokio::time::timeout(LIMIT, self.listener.accept()).await;
        let mut peer = Peer(BufReader::new(accepted.unwrap().unwrap().0));
        peer.expect("address").await;
        peer.send(&format!("yes\nyes\nyes\naddress\n{subject}\n"))
            .await;
        peer
    }

    /// Takes a connection that a client makes at the same time.
    async fn pair(&self, options: ConnectOptions) -> (Client, Peer) {
        let (client, peer) = tokio::join!(Client::connect(options), self.accept());
        (client.unwrap(), peer)
    }
}

impl Peer {
    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = tokio::time::timeout(LIMIT, self.0.read_line(&mut line)).await;
        read.expect("the client sends in time").unwrap();
        line.trim_end().to_owned()
    }

    async fn expect(&mut self, line: &str) {
        assert_eq!(self.line().await, line);
    }

    async fn send(&mut self, bytes: &str) {
        self.0.get_mut().write_all(bytes.as_bytes()).await.unwrap();
    }

    async fn serve(&mut self, line: &str, answer: &str) {
        self.expect(line).await;
        self.send(answer).await;
    }
}

/// Plays both sides, within the time that any test may take.
async fn both<T>(call: impl Future<Output = T>, script: impl Future<Output = ()>) -> T {
    let both = async { tokio::join!(call, script).0 };
    tokio::time::timeout(LIMIT, both).await.expect("in time")
}

#[tokio::test]
async fn what_only_looks_is_asked_again() {
    let server = Server::start().await;
    let (client, mut peer) = server.pair(server.options()).await;
    let script = async {
        peer.expect("stat /x").await;
        drop(peer);
        // Also the next one dies before it answers.
        server.accept().await.expect("stat /x").await;
        let mut third = server.accept().await;
        third.serve("stat /x", &format!("0\n{STAT}\n")).await;
        third.serve("whoami 4096", "1\nx").await;
    };
    let calls = async {
        let stat = client.stat(&path("/x")).await.unwrap();
        assert_eq!(stat.size, 7);
        assert_eq!(client.whoami().await.unwrap(), "x");
    };
    both(calls, script).await;
}

#[tokio::test]
async fn what_sets_is_made_again_and_what_changes_is_reported() {
    let server = Server::start().await;
    let (client, mut peer) = server.pair(server.options()).await;
    let script = async {
        peer.expect("chmod /x 384").await;
        drop(peer);
        let mut second = server.accept().await;
        second.serve("chmod /x 384", "0\n").await;
        second.expect("unlink /x").await;
        drop(second);
        // The next call finds the connection lost before it is sent.
        let mut third = server.accept().await;
        third.serve("mkdir /d 448", "0\n").await;
    };
    let calls = async {
        client.chmod(&path("/x"), 0o600).await.unwrap();
        let error = client.unlink(&path("/x")).await.unwrap_err();
        assert!(matches!(error, Error::Uncertain { .. }), "{error}");
        assert!(error.is_fatal());
        let words = error.to_string();
        assert!(words.contains("unlink /x: it may or may not"), "{words}");
        // What never left is made on the next connection, whatever it is.
        client.mkdir(&path("/d"), 0o700).await.unwrap();
    };
    both(calls, script).await;
}

#[tokio::test]
async fn a_body_goes_out_again_with_its_request() {
    let server = Server::start().await;
    let (client, mut peer) = server.pair(server.options()).await;
    let script = async {
        peer.expect("setxattr /x user.a 3 0").await;
        drop(peer);
        let mut second = server.accept().await;
        second.expect("setxattr /x user.a 3 0").await;
        let mut value = [0; 3];
        second.0.read_exact(&mut value).await.unwrap();
        assert_eq!(&value, b"abc");
        second.send("0\n").await;
        second.expect("setxattr /x user.a 3 1").await;
    };
    let calls = async {
        let of = XattrTarget::Path(path("/x"));
        let value = Bytes::from_static(b"abc");
        let set = |flags| client.setxattr(&of, "user.a", value.clone(), flags);
        set(XattrFlags::Either).await.unwrap();
        let error = set(XattrFlags::Create).await.unwrap_err();
        assert!(matches!(error, Error::Uncertain { .. }), "{error}");
    };
    both(calls, script).await;
}

#[tokio::test]
async fn a_descriptor_ends_with_its_connection() {
    let server = Server::start().await;
    let (client, mut peer) = server.pair(server.options()).await;
    let script = async {
        peer.serve("open /x rw 0", &format!("0\n{STAT}\n")).await;
        peer.expect("pwrite 0 1 0").await;
        drop(peer);
        let mut second = server.accept().await;
        second.serve("whoami 4096", "1\nx").await;
        // No request about the old descriptor comes here, where 0 may be another file.
        second.serve("open /y r 0", &format!("0\n{STAT}\n")).await;
        second.serve("pread 0 1 0", "1\ny").await;
    };
    let calls = async {
        let flags = OpenFlags::parse(b"rw");
        let (old, _) = client.open(&path("/x"), flags, 0).await.unwrap();
        let data = Bytes::from_static(b"z");
        let error = client.pwrite(old, data.clone(), 0).await.unwrap_err();
        assert!(matches!(error, Error::Uncertain { .. }), "{error}");
        client.whoami().await.unwrap();
        for error in [
            client.pread(old, 1, 0).await.unwrap_err(),
            client.pwrite(old, data, 0).await.unwrap_err(),
            client.close(old).await.unwrap_err(),
            client
                .listxattr(&XattrTarget::Descriptor(old))
                .await
                .unwrap_err(),
        ] {
            assert!(matches!(error, Error::Lost { .. }), "{error}");
            assert!(error.to_string().contains("open the file again"), "{error}");
        }
        let flags = OpenFlags::parse(b"r");
        let (new, _) = client.open(&path("/y"), flags, 0).await.unwrap();
        assert_eq!(client.pread(new, 1, 0).await.unwrap(), "y");
    };
    both(calls, script).await;
}

#[tokio::test]
async fn calls_in_flight_share_the_next_connection() {
    let server = Server::start().await;
    let (client, mut peer) = server.pair(server.options()).await;
    let script = async {
        for number in 0..10 {
            peer.expect(&format!("stat /{number}")).await;
        }
        drop(peer);
        let mut second = server.accept().await;
        for _ in 0..10 {
            assert!(second.line().await.starts_with("stat /"));
            second.send(&format!("0\n{STAT}\n")).await;
        }
    };
    let calls = async {
        let calls = (0..10).map(|number| {
            let client = client.clone();
            async move { client.stat(&path(&format!("/{number}"))).await }
        });
        let results = futures_util::future::join_all(calls).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    };
    both(calls, script).await;
}

#[tokio::test]
async fn another_identity_is_no_replacement() {
    let server = Server::start().await;
    let (client, mut peer) = server.pair(server.options()).await;
    let script = async {
        peer.expect("whoami 4096").await;
        drop(peer);
        let mut other = server.accept_as("10.0.0.1").await;
        assert_eq!(other.line().await, "", "nothing is asked as somebody else");
    };
    let error = both(client.whoami(), script).await.unwrap_err();
    assert!(matches!(error, Error::Login { .. }), "{error}");
    assert!(error.to_string().contains("10.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_broken_protocol_is_not_tried_again() {
    let server = Server::start().await;
    let (client, mut peer) = server.pair(server.options()).await;
    let script = peer.serve("whoami 4096", "hello\n");
    let error = both(client.whoami(), script).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn without_the_option_and_after_its_time_a_loss_is_reported() {
    let server = Server::start().await;
    let mut options = server.options();
    options.reconnect = None;
    let (client, mut peer) = server.pair(options).await;
    let script = async {
        peer.expect("whoami 4096").await;
        drop(peer);
    };
    let error = both(client.whoami(), script).await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    assert!(client.is_closed());

    let mut options = server.options();
    options.reconnect = Some(Duration::from_millis(300));
    let (client, mut peer) = server.pair(options).await;
    let script = async {
        peer.expect("chmod /x 384").await;
        // Nobody listens any more.
        drop((peer, server));
    };
    let file = path("/x");
    let error = both(client.chmod(&file, 0o600), script).await.unwrap_err();
    assert!(matches!(error, Error::Uncertain { .. }), "{error}");
}

#[tokio::test]
async fn a_pool_opens_what_is_used_and_forgets_what_is_lost() {
    let server = Server::start().await;
    let mut options = server.options();
    options.reconnect = None;
    let pool = Pool::new(options, 2);
    assert_eq!(pool.connections(), 0);
    let (first, mut peer) = tokio::join!(pool.client(), server.accept());
    let first = first.unwrap();
    let (second, second_peer) = tokio::join!(pool.client(), server.accept());
    let second = second.unwrap();
    assert_eq!(pool.connections(), 2);
    // No third: the one with the fewest users is shared.
    let third = pool.client().await.unwrap();
    let fourth = pool.client().await.unwrap();
    assert_eq!(pool.connections(), 2);
    drop((second, fourth, third));
    let again = pool.client().await.unwrap();
    assert_eq!(pool.connections(), 2, "an idle one is used again");
    drop(again);
    let script = async {
        peer.expect("whoami 4096").await;
        drop((peer, second_peer));
    };
    assert!(both(first.whoami(), script).await.is_err());
    // The other one ended at the same time; whether that was seen yet does not matter.
    let error_or_new = async {
        loop {
            let client = pool.client().await.unwrap();
            if client.whoami().await.is_ok() {
                return;
            }
        }
    };
    let script = async {
        server.accept().await.serve("whoami 4096", "1\nx").await;
    };
    both(error_or_new, script).await;
}
