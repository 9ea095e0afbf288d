//! Large trees: copied by a third party, searched, listed.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use conformance::connection::Connection;
use conformance::program::Maker;
use conformance::target::Server;

use crate::subject::{self, Subject, Subjects};

/// Files of one directory of a tree to copy.
const TOGETHER: usize = 100;
/// The reference opens, writes and closes each file of a copy, in some milliseconds.
const LONGEST: Duration = Duration::from_secs(120);

/// What is done with a tree.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// A directory tree of that many files goes to another server of the same maker.
    Thirdput(usize),
    /// A name is looked for in a directory of that many entries.
    Search(usize),
    /// A directory of that many entries is listed with their metadata.
    Getlongdir(usize),
}

/// Trees that were made, and servers to copy to: made when first needed, kept for further turns.
#[derive(Default)]
pub(crate) struct Trees {
    targets: RefCell<Vec<(Subject, Server)>>,
    made: RefCell<Vec<(Subject, Work)>>,
}

impl Work {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Thirdput(count) => format!("recursive thirdput of {count} files"),
            Self::Search(count) => format!("search over {count} entries"),
            Self::Getlongdir(count) => format!("getlongdir of {count} entries"),
        }
    }

    /// Returns how many files or entries `subject` does in a second. There is no floor.
    pub(crate) fn measure(
        self,
        subjects: &Subjects,
        trees: &Trees,
        subject: Subject,
    ) -> Result<Option<f64>> {
        let (Some(server), Some(maker)) = (subjects.server(subject), subject.maker()) else {
            return Ok(None);
        };
        let count = match self {
            Self::Thirdput(count) | Self::Search(count) | Self::Getlongdir(count) => count,
        };
        trees.make(self, subject, server)?;
        let elapsed = match self {
            Self::Thirdput(_) => {
                let target = trees.target(subject, maker)?;
                // Whether there is an earlier copy to remove does not matter.
                ask(target, "rmall /tree")?;
                thirdput(server.address(), target, count)?
            }
            Self::Search(_) => {
                let request = format!("search /n{} /many 0\n", count - 1);
                let (lines, elapsed) = list(server.address(), &request)?;
                ensure!(lines == 1, "search found {lines} names instead of one");
                elapsed
            }
            Self::Getlongdir(_) => {
                let (lines, elapsed) = list(server.address(), "getlongdir /many\n")?;
                ensure!(lines == 2 * (count + 2), "getlongdir gave {lines} lines");
                elapsed
            }
        };
        Ok(Some(count as f64 / elapsed.as_secs_f64()))
    }
}

impl Trees {
    fn make(&self, work: Work, subject: Subject, server: &Server) -> Result<()> {
        // Search and listing use the same directory.
        let work = match work {
            Work::Getlongdir(count) => Work::Search(count),
            other => other,
        };
        if self.made.borrow().contains(&(subject, work)) {
            return Ok(());
        }
        let mut connection = subject::log_in(server.address())?;
        match work {
            Work::Thirdput(count) => {
                subject::request(&mut connection, b"mkdir /tree 448\n")?;
                for start in (0..count).step_by(TOGETHER) {
                    let directory = format!("tree/d{start}");
                    subject::request(
                        &mut connection,
                        format!("mkdir /{directory} 448\n").as_bytes(),
                    )?;
                    plant(
                        server,
                        &directory,
                        TOGETHER.min(count - start),
                        b"some bytes\n",
                    )?;
                }
            }
            Work::Search(count) | Work::Getlongdir(count) => {
                subject::request(&mut connection, b"mkdir /many 448\n")?;
                plant(server, "many", count, b"")?;
            }
        }
        self.made.borrow_mut().push((subject, work));
        Ok(())
    }

    /// Returns where the server to copy to listens, which lets any host do everything.
    fn target(&self, subject: Subject, maker: Maker) -> Result<SocketAddr> {
        let known = |targets: &[(Subject, Server)]| {
            targets
                .iter()
                .find(|(other, _)| *other == subject)
                .map(|(_, server)| server.address())
        };
        if let Some(address) = known(&self.targets.borrow()) {
            return Ok(address);
        }
        let server = subject::start(maker)?;
        let mut connection = Connection::open(server.address())?;
        connection.log_in_by_unix(server.account())?;
        subject::request(&mut connection, b"setacl / hostname:* rwlda\n")?;
        subject::request(&mut connection, b"setacl / address:127.0.0.1 rwlda\n")?;
        let address = server.address();
        self.targets.borrow_mut().push((subject, server));
        Ok(address)
    }
}

/// Makes files `n0`, `n1`, … on the host, in a directory that the server has made.
pub(crate) fn plant(server: &Server, directory: &str, count: usize, content: &[u8]) -> Result<()> {
    let directory = server.root().join(directory);
    for index in 0..count {
        let path = directory.join(format!("n{index}"));
        File::create(&path)
            .and_then(|mut file| file.write_all(content))
            .with_context(|| format!("cannot create {}", path.display()))?;
        server.account().own(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn thirdput(from: SocketAddr, to: SocketAddr, count: usize) -> Result<Duration> {
    let start = Instant::now();
    let answer = ask(from, &format!("thirdput /tree {to} /tree"))?;
    let elapsed = start.elapsed();
    let expected = count * b"some bytes\n".len();
    ensure!(
        answer == expected.to_string(),
        "thirdput was answered {answer:?} instead of {expected}"
    );
    Ok(elapsed)
}

/// Sends one request on a connection of its own and returns the first line of the answer.
fn ask(address: SocketAddr, request: &str) -> Result<String> {
    let (mut stream, mut lines) = connect(address)?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut line = String::new();
    lines.read_line(&mut line).context("no answer")?;
    Ok(line.trim_end().to_owned())
}

/// Sends a request whose answer ends with an empty line; returns how many lines came before that.
fn list(address: SocketAddr, request: &str) -> Result<(usize, Duration)> {
    let (mut stream, mut reader) = connect(address)?;
    let start = Instant::now();
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut chunk = vec![0; 256 * 1024];
    while !answer.ends_with(b"\n\n") {
        let count = reader.read(&mut chunk).context("no answer")?;
        ensure!(count > 0, "closed in the middle of a listing");
        answer.extend(chunk.iter().take(count));
    }
    let elapsed = start.elapsed();
    ensure!(
        answer.starts_with(b"0\n"),
        "{request:?} was answered \"{}\"",
        answer.get(..20).unwrap_or(&answer).escape_ascii()
    );
    let lines = answer.iter().filter(|byte| **byte == b'\n').count();
    Ok((lines - 2, elapsed))
}

fn connect(address: SocketAddr) -> Result<(TcpStream, BufReader<TcpStream>)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LONGEST))?;
    stream.write_all(b"address\n")?;
    let mut lines = BufReader::with_capacity(64 * 1024, stream.try_clone()?);
    let mut text = String::new();
    for _ in 0..5 {
        lines.read_line(&mut text)?;
    }
    ensure!(
        text.starts_with("yes\nyes\nyes\n"),
        "the login was answered {text:?}"
    );
    Ok((stream, lines))
}
