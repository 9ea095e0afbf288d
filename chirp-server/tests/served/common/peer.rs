//! One connection to a server, and what is said on it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketType};

use super::PATIENCE;

/// A connection. Everything it waits for has a deadline.
pub(crate) struct Peer {
    stream: TcpStream,
    unread: Vec<u8>,
    subject: String,
}

impl Peer {
    /// Connects from `127.0.0.N`.
    #[track_caller]
    pub(super) fn connect(port: u16, number: u8) -> Self {
        Self::try_connect(port, number).expect("a connection")
    }

    /// Connects, or says why not.
    pub(crate) fn try_connect(port: u16, number: u8) -> std::io::Result<Self> {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        let local = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, number), 0);
        rustix::net::bind(&socket, &local)?;
        rustix::net::connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            unread: Vec::new(),
            subject: String::new(),
        })
    }

    /// Logs in by address.
    #[track_caller]
    pub(crate) fn login_address(&mut self) {
        self.send("address\n")
            .read_exactly("yes\nyes\nyes\naddress\n");
        self.subject = format!("address:{}", self.line());
    }

    /// Logs in by unix as the server's user.
    #[track_caller]
    pub(crate) fn login_unix(&mut self) {
        let challenge = self.begin_unix();
        let dir = challenge.parent().unwrap().to_owned();
        let file = make_challenge(&challenge);
        if super::is_root() {
            // The directory belongs to the server's account.
            let owner = rustix::fs::stat(&dir).unwrap();
            std::os::unix::fs::fchown(file, Some(owner.st_uid), Some(owner.st_gid)).unwrap();
        }
        self.send("yes\n").read_exactly("yes\nyes\nunix\n");
        self.subject = format!("unix:{}", self.line());
        let _ = std::fs::remove_file(challenge);
    }

    /// Logs in by cookie, which makes this the server's account.
    #[track_caller]
    pub(crate) fn login_cookie(&mut self, cookie: &str, account: &str) {
        self.send(format!("cookie {cookie}\n")).read_exactly("0\n");
        self.subject = format!("unix:{account}");
    }

    /// Says who the server takes this for, after a login made by hand.
    #[allow(dead_code, reason = "only tests of such logins need it")]
    pub(crate) fn act_as(&mut self, subject: &str) {
        subject.clone_into(&mut self.subject);
    }

    /// Starts a unix login and returns the path that is asked for.
    #[track_caller]
    pub(crate) fn begin_unix(&mut self) -> PathBuf {
        self.send("unix\n").read_exactly("yes\n");
        self.line().into()
    }

    /// Sends bytes, and waits for no answer.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).expect("sent");
        self
    }

    /// Sends bytes to a server that may have had enough; false if it has.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends any number of requests and compares all of their answer. What follows proves that the
    /// connection is in step: neither a byte too much nor one too few has gone either way.
    #[track_caller]
    pub(crate) fn expect(&mut self, request: impl AsRef<[u8]>, answer: impl AsRef<[u8]>) {
        let request = request.as_ref();
        let reply = self.answer(request);
        assert_eq!(
            reply.escape_ascii().to_string(),
            answer.as_ref().escape_ascii().to_string(),
            "the answer to {}",
            request.get(..200).unwrap_or(request).escape_ascii()
        );
    }

    /// Sends any number of requests and returns all of their answer, found by the answer to one
    /// that is sent after it.
    #[track_caller]
    pub(crate) fn answer(&mut self, request: impl AsRef<[u8]>) -> Vec<u8> {
        assert!(!self.subject.is_empty(), "not logged in");
        let marker = format!("{}\n{}", self.subject.len(), self.subject);
        self.send(request).send("whoami 1000\n");
        let mut searched = 0;
        loop {
            let found = memchr::memmem::find(&self.unread[searched..], marker.as_bytes());
            if let Some(at) = found {
                let mut answer: Vec<u8> =
                    self.unread.drain(..searched + at + marker.len()).collect();
                answer.truncate(searched + at);
                assert_eq!(
                    self.unread.escape_ascii().to_string(),
                    "",
                    "nothing follows the last answer"
                );
                return answer;
            }
            searched = self.unread.len().saturating_sub(marker.len());
            let got = self.unread.escape_ascii().to_string();
            assert!(self.fill(), "the connection ended after {got:.300}");
        }
    }

    /// Asks for one number, which is the whole answer.
    #[track_caller]
    pub(crate) fn number(&mut self, request: impl AsRef<[u8]>) -> i64 {
        let answer = String::from_utf8(self.answer(request)).unwrap();
        let number = answer.strip_suffix('\n').expect("a line");
        number.parse().expect("a number")
    }

    /// Returns the answer to `getfile`, or its code.
    #[track_caller]
    pub(crate) fn getfile(&mut self, path: &str) -> Result<Vec<u8>, i64> {
        self.send(format!("getfile {path}\n"));
        self.counted()
    }

    /// Reads a length and that many bytes, or an error code without words.
    #[track_caller]
    pub(crate) fn counted(&mut self) -> Result<Vec<u8>, i64> {
        let line = self.line();
        let length: i64 = line.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        usize::try_from(length)
            .map(|length| self.take(length))
            .map_err(|_| length)
    }

    /// Puts a file, as a client does that waits to be let.
    #[track_caller]
    pub(crate) fn putfile(&mut self, path: &str, content: impl AsRef<[u8]>) -> i64 {
        let content = content.as_ref();
        self.send(format!("putfile {path} 420 {}\n", content.len()));
        match self.line().as_str() {
            "0" => {
                self.send(content);
                self.line().parse().unwrap()
            }
            refused => refused.parse().unwrap(),
        }
    }

    /// Returns the names of a directory, sorted, without `.` and `..`.
    #[track_caller]
    pub(crate) fn list(&mut self, path: &str) -> Vec<Vec<u8>> {
        let reply = self.answer(format!("getdir {path}\n"));
        let lines = reply.strip_prefix(b"0\n").expect("a listing");
        let lines = lines.strip_suffix(b"\n").expect("an empty line at the end");
        let mut names: Vec<Vec<u8>> = lines
            .split_inclusive(|&byte| byte == b'\n')
            .map(|line| line.strip_suffix(b"\n").unwrap().to_vec())
            .filter(|name| name != b"." && name != b"..")
            .collect();
        names.sort();
        names
    }

    /// Reads exactly these bytes.
    #[track_caller]
    pub(crate) fn read_exactly(&mut self, expected: impl AsRef<[u8]>) -> &mut Self {
        let expected = expected.as_ref();
        while self.unread.len() < expected.len() && expected.starts_with(&self.unread) {
            if !self.fill() {
                break;
            }
        }
        let length = expected.len().min(self.unread.len());
        let got: Vec<u8> = self.unread.drain(..length).collect();
        assert_eq!(
            got.escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
        self
    }

    /// Reads a line, without its LF.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.unread) {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return String::from_utf8(line[..end].to_vec()).unwrap();
            }
            let got = self.unread.escape_ascii().to_string();
            assert!(self.fill(), "the connection ended in a line: {got}");
        }
    }

    /// Reads a line, without its LF; none at the end of the connection.
    #[track_caller]
    pub(crate) fn try_line(&mut self) -> Option<String> {
        while memchr::memchr(b'\n', &self.unread).is_none() {
            if !self.fill() {
                return None;
            }
        }
        Some(self.line())
    }

    /// Reads this many bytes.
    #[track_caller]
    pub(crate) fn take(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            let got = self.unread.len();
            assert!(self.fill(), "the connection ended after {got} of {length}");
        }
        self.unread.drain(..length).collect()
    }

    /// Reads all that comes until the server ends the connection.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.unread)
    }

    /// Expects the end of the connection, and nothing before it.
    #[track_caller]
    pub(crate) fn read_end(&mut self) {
        assert_eq!(self.rest().escape_ascii().to_string(), "");
    }

    /// Sends no more, but still reads.
    pub(crate) fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Returns the socket, to set it up as the test needs it.
    pub(crate) const fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Who the server says this is.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// Reads more; false at the end of the connection, however it ends.
    #[track_caller]
    fn fill(&mut self) -> bool {
        let mut chunk = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(count) => {
                    self.unread.extend_from_slice(&chunk[..count]);
                    return true;
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return false,
                    _ => panic!(
                        "no answer in time: {error}; so far {}",
                        self.unread.escape_ascii()
                    ),
                },
            }
        }
    }
}

/// Makes the file that a unix login asks for, owned by whoever runs the tests.
pub(crate) fn make_challenge(path: &Path) -> File {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .unwrap()
}
