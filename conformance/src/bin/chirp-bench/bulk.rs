//! Large files, both ways.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use conformance::connection::PATIENCE;

use crate::floor::Sender;
use crate::subject::{BIG, Subject, Subjects};

/// Bytes of one `read` or `write` on our side.
const CHUNK: usize = 1 << 20;

/// Which way a file goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the server.
    Get,
    /// To the server.
    Put,
}

/// Returns the MiB in a second at which one large file goes.
///
/// The floor sends it with `sendfile`, and takes it without keeping it.
pub(crate) fn measure(subjects: &Subjects, subject: Subject, way: Direction) -> Result<f64> {
    let Some(address) = subjects.address(subject) else {
        let floor = Sender::start(&subjects.big_file())?;
        let mut stream = TcpStream::connect(floor.address())?;
        let rate = transfer(&mut stream, way)?;
        floor.finish()?;
        return Ok(rate);
    };
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.write_all(b"address\n")?;
    for _ in 0..5 {
        line(&mut stream)?;
    }
    if way == Direction::Put {
        // Every turn makes a new file. Whether there is one to remove does not matter.
        stream.write_all(b"unlink /bench/up\n")?;
        line(&mut stream)?;
    }
    transfer(&mut stream, way)
}

fn transfer(stream: &mut TcpStream, way: Direction) -> Result<f64> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut chunk = vec![b'z'; CHUNK];
    let start = Instant::now();
    match way {
        Direction::Get => {
            stream.write_all(b"getfile /bench/big\n")?;
            let length = line(stream)?;
            ensure!(length == BIG.to_string(), "getfile was answered {length:?}");
            let mut left = BIG;
            while left > 0 {
                let count = stream.read(&mut chunk)?;
                ensure!(count > 0, "closed with {left} bytes to come");
                left = left
                    .checked_sub(count as u64)
                    .context("more bytes than announced")?;
            }
        }
        Direction::Put => {
            stream.write_all(format!("putfile /bench/up 420 {BIG}\n").as_bytes())?;
            let answer = line(stream)?;
            ensure!(answer == "0", "putfile was answered {answer:?}");
            let mut left = BIG;
            while left > 0 {
                stream.write_all(&chunk)?;
                left = left.saturating_sub(CHUNK as u64);
            }
            let answer = line(stream)?;
            ensure!(answer == BIG.to_string(), "putfile ended with {answer:?}");
        }
    }
    Ok(BIG as f64 / (1024.0 * 1024.0) / start.elapsed().as_secs_f64())
}

/// Reads a line one byte at a time, so that nothing behind it is taken.
fn line(stream: &mut TcpStream) -> Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).context("no reply")?;
        match byte {
            [b'\n'] => return Ok(text),
            [other] => text.push(char::from(other)),
        }
    }
}
