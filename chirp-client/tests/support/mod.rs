//! A scripted peer, and the reference's server as an ordinary user.

#![allow(dead_code, reason = "each test file uses a part of this")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

pub(crate) mod terminal;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chirp_client::{Client, Method, VirtualPath};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// The longest that anything here may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The account of everything that is started: no root here, whoever runs the tests.
pub(crate) const NOBODY: u32 = 65534;

pub(crate) fn path(text: &str) -> VirtualPath {
    VirtualPath::from_decoded(text.as_bytes()).unwrap()
}

/// The server's end of a connection, played by the test.
pub(crate) struct Peer(DuplexStream);

impl Peer {
    /// Expects exactly these bytes next.
    pub(crate) async fn expect(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let expected = bytes.as_ref();
        let mut got = vec![0; expected.len()];
        tokio::time::timeout(LIMIT, self.0.read_exact(&mut got))
            .await
            .expect("the client sends in time")
            .expect("the client sends enough");
        assert_eq!(
            got.escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
        self
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.0.write_all(bytes.as_ref()).await.unwrap();
        self
    }

    /// Takes this many bytes.
    pub(crate) async fn take(&mut self, length: usize) -> Vec<u8> {
        let mut got = vec![0; length];
        tokio::time::timeout(LIMIT, self.0.read_exact(&mut got))
            .await
            .expect("the client sends in time")
            .expect("the client sends enough");
        got
    }

    /// Takes a line, without its end.
    pub(crate) async fn line(&mut self) -> String {
        let mut line = Vec::new();
        loop {
            match self.take(1).await[..] {
                [b'\n'] => return String::from_utf8(line).unwrap(),
                ref byte => line.extend_from_slice(byte),
            }
        }
    }

    /// Sends to a client that may have gone.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let sent = tokio::time::timeout(LIMIT, self.0.write_all(bytes));
        sent.await.expect("the client reads or closes in time")
    }

    /// Expects that nothing comes for a moment.
    pub(crate) async fn expect_nothing(&mut self) -> &mut Self {
        let mut byte = [0];
        let read = self.0.read(&mut byte);
        if let Ok(read) = tokio::time::timeout(Duration::from_millis(50), read).await {
            panic!(
                "{read:?}: the client sent {:?}",
                byte.escape_ascii().to_string()
            );
        }
        self
    }

    /// Expects the end of the connection, whatever comes before it.
    pub(crate) async fn expect_end(&mut self) {
        let mut rest = Vec::new();
        let read = self.0.read_to_end(&mut rest);
        tokio::time::timeout(LIMIT, read)
            .await
            .expect("the client closes in time")
            .unwrap();
    }
}

/// Runs a call while the peer expects its request and sends an answer.
pub(crate) async fn answered<T>(
    call: impl Future<Output = T>,
    peer: &mut Peer,
    request: impl AsRef<[u8]>,
    answer: impl AsRef<[u8]>,
) -> T {
    let script = async {
        peer.expect(request).await.send(answer).await;
    };
    let both = async { tokio::join!(call, script).0 };
    tokio::time::timeout(LIMIT, both).await.expect("in time")
}

/// A logged-in client and its peer.
pub(crate) async fn pair() -> (Client, Peer) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let mut peer = Peer(theirs);
    let (client, ()) = tokio::join!(
        Client::from_stream("peer:1", ours, &[Method::Address]),
        async {
            peer.expect("address\n").await;
            peer.send("yes\nyes\nyes\naddress\n127.0.0.1\n").await;
        }
    );
    (client.unwrap(), peer)
}

/// A peer before the login.
pub(crate) fn stranger() -> (DuplexStream, Peer) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    (ours, Peer(theirs))
}

/// A running `chirp_server` of the reference; it ends with this value.
pub(crate) struct Reference {
    child: Child,
    directory: tempfile::TempDir,
    port: u16,
}

impl Reference {
    /// Starts one on an empty directory. `address:127.0.0.1` has all rights on it.
    ///
    /// It looks for a free port and then takes it, so two that start at the same time can find the
    /// same one; the loser ends and is started again.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Reference::start`], with further options.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        let started = (0..10).find_map(|_| Self::start_once(options));
        started.expect("chirp_server ended ten times")
    }

    fn start_once(options: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        give_away(directory.path());
        for name in ["root", "transient"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
            give_away(&directory.path().join(name));
        }
        let acl = directory.path().join("root/.__acl");
        std::fs::write(&acl, "address:127.0.0.1 rwldpa\nunix:nobody rwldpa\n").unwrap();
        give_away(&acl);
        let port_file = directory.path().join("port");
        let mut command = Command::new("chirp_server");
        command
            .args(["-u", "-", "-I", "127.0.0.1", "-Z"])
            .arg(&port_file)
            .arg("-r")
            .arg(directory.path().join("root"))
            .arg("-y")
            .arg(directory.path().join("transient"))
            .args(options)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        as_nobody(&mut command);
        let mut child = command
            .spawn()
            .expect("chirp_server: apt-get install coop-computing-tools");
        let started = Instant::now();
        let port = loop {
            let port = std::fs::read_to_string(&port_file)
                .ok()
                .and_then(|text| text.trim().parse().ok());
            let listens = |&port: &u16| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            let listening = port.filter(listens);
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            if let Some(port) = listening {
                break port;
            }
            assert!(started.elapsed() < LIMIT, "chirp_server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        };
        Some(Self {
            child,
            directory,
            port,
        })
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Logs in by address.
    pub(crate) async fn client(&self) -> Client {
        let mut options = chirp_client::ConnectOptions::new(self.address().parse().unwrap());
        options.methods = vec![Method::Address];
        Client::connect(options).await.unwrap()
    }

    /// The directory that is served.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// A directory that is not served.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir(&path).unwrap();
        give_away(&path);
        path
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Makes the command run as an ordinary user, if the test runs as root.
pub(crate) fn as_nobody(command: &mut Command) {
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
}

/// Gives a file to that user.
pub(crate) fn give_away(path: &Path) {
    if is_root() {
        std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
