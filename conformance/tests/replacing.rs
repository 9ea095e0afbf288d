//! What a client sees of an upload over a file that is there: the sentences of CONFORMANCE.md that no
//! other test shows.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use conformance::connection::{Connection, PATIENCE};
use conformance::program::Program;
use conformance::target::{Options, Server};

/// A server of ours and a connection to it.
struct Talk {
    // Ends with the test.
    _server: Server,
    connection: Connection,
}

impl Talk {
    fn begin(options: &str) -> Result<Self> {
        let server = Server::start(&Program::our_server()?, &Options::from_words(options))?;
        let mut connection = Connection::open(server.address())?;
        connection.log_in_by_unix(server.account())?;
        Ok(Self {
            _server: server,
            connection,
        })
    }

    /// Sends a request and returns all that comes back.
    fn ask(&mut self, request: &str) -> Result<String> {
        self.connection.send(request.as_bytes())?;
        let mut reply = Vec::new();
        self.connection.settle(&mut reply)?;
        Ok(String::from_utf8_lossy(&reply).into_owned())
    }

    fn expect(&mut self, request: &str, answer: &str) -> Result<()> {
        let came = self.ask(request)?;
        ensure!(
            came == answer,
            "{request:?}: {answer:?} expected, {came:?} came"
        );
        Ok(())
    }

    /// Uploads; the body follows only after the go-ahead.
    fn put(&mut self, path: &str, body: &str) -> Result<String> {
        self.connection
            .send(format!("putfile {path} 511 {}\n", body.len()).as_bytes())?;
        let mut reply = Vec::new();
        self.connection
            .read_until(&mut reply, PATIENCE, |bytes| bytes.ends_with(b"\n"))?;
        if reply.starts_with(b"-") {
            return Ok(String::from_utf8_lossy(&reply).into_owned());
        }
        self.ask(body)
    }

    /// Returns a number of a stat line, counted from 0 as in part 4.1 of the specification.
    fn stat(&mut self, request: &str, at: usize) -> Result<i64> {
        let answer = self.ask(request)?;
        let line = answer.strip_prefix("0\n").context(answer.clone())?;
        let word = line.split_whitespace().nth(at).context("too short")?;
        Ok(word.parse()?)
    }
}

const INODE: usize = 1;
const MODE: usize = 2;
const LINKS: usize = 3;
const SIZE: usize = 7;
const MTIME: usize = 11;

#[test]
fn an_open_descriptor_keeps_the_old_file() -> Result<()> {
    let mut talk = Talk::begin("")?;
    talk.put("/f", "old")?;
    let before = talk.stat("stat /f\n", INODE)?;
    ensure!(talk.ask("open /f rw 0\n")?.starts_with("0\n"));
    ensure!(talk.put("/f", "newer")? == "5\n");
    talk.expect("pread 0 10 0\n", "3\nold")?;
    ensure!(talk.stat("fstat 0\n", INODE)? == before);
    ensure!(talk.stat("fstat 0\n", LINKS)? == 0);
    ensure!(talk.stat("stat /f\n", INODE)? != before);
    talk.expect("pwrite 0 3 0\nOLD", "3\n")?;
    talk.expect("getfile /f\n", "5\nnewer")?;
    talk.expect("close 0\n", "0\n")
}

#[test]
fn other_names_keep_the_old_file_and_are_one_fewer() -> Result<()> {
    let mut talk = Talk::begin("")?;
    talk.put("/f", "old")?;
    talk.expect("link /f /g\n", "0\n")?;
    ensure!(talk.stat("stat /f\n", LINKS)? == 2);
    talk.put("/f", "newer")?;
    talk.expect("getfile /g\n", "3\nold")?;
    ensure!(talk.stat("stat /g\n", LINKS)? == 1);
    ensure!(talk.stat("stat /f\n", LINKS)? == 1);
    Ok(())
}

#[test]
fn the_mode_and_attributes_stay_and_the_times_are_new() -> Result<()> {
    let mut talk = Talk::begin("")?;
    talk.put("/f", "old")?;
    talk.expect("chmod /f 384\n", "0\n")?;
    talk.expect("setxattr /f user.a 3 0\nabc", "0\n")?;
    talk.expect("utime /f 1000 2000\n", "0\n")?;
    talk.put("/f", "newer")?;
    ensure!(talk.stat("stat /f\n", MODE)? == 0o100_600);
    talk.expect("getxattr /f user.a\n", "3\nabc")?;
    let age = Duration::from_secs(60).as_secs().cast_signed();
    ensure!(talk.stat("stat /f\n", MTIME)? > 2000 + age);
    Ok(())
}

#[test]
fn an_upload_over_a_file_is_charged_the_difference() -> Result<()> {
    let mut talk = Talk::begin("-Q 100KB")?;
    let body = "x".repeat(60 * 1024);
    ensure!(talk.put("/f", &body)? == format!("{}\n", body.len()));
    ensure!(talk.put("/f", &body)? == format!("{}\n", body.len()));
    ensure!(talk.put("/g", &body)? == "-6\n", "two of them do not fit");
    ensure!(talk.put("/f", &"y".repeat(200 * 1024))? == "-6\n");
    talk.expect("getfile /f\n", &format!("{}\n{body}", body.len()))
}

#[test]
fn what_writes_in_place_keeps_the_file() -> Result<()> {
    let mut talk = Talk::begin("")?;
    talk.put("/f", "content")?;
    let inode = talk.stat("stat /f\n", INODE)?;
    talk.expect("truncate /f 4\n", "0\n")?;
    ensure!(talk.ask("open /f wt 0\n")?.starts_with("0\n"));
    talk.expect("pwrite 0 2 0\nab", "2\n")?;
    talk.expect("close 0\n", "0\n")?;
    ensure!(talk.stat("stat /f\n", INODE)? == inode);
    ensure!(talk.stat("stat /f\n", SIZE)? == 2);
    Ok(())
}
