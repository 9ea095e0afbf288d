//! Rates of small requests, over one connection or many.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use conformance::connection::PATIENCE;

use crate::floor::{Canned, Replies};
use crate::load::{self, Exchange};
use crate::subject::{SMALL, Subject, Subjects};

/// Most connections that one turn of the connection experiment makes: each leaves a port unusable
/// for a minute.
const MOST_CONNECTIONS: u32 = 2500;

/// A small request, repeated.
pub(crate) struct Small {
    pub(crate) verb: Verb,
    pub(crate) connections: usize,
    /// Requests that a connection has on their way at any time.
    pub(crate) window: usize,
    /// How the floor replies.
    pub(crate) floor: Replies,
}

/// What is repeated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Stat,
    OpenClose,
    Pread,
    Putfile,
}

/// How long a reply is, before one was seen.
enum Length {
    Lines(usize),
    Bytes(usize),
}

impl Small {
    pub(crate) fn name(&self) -> String {
        let verb = match self.verb {
            Verb::Stat if self.window > 1 => "pipelined stat",
            Verb::Stat => "stat",
            Verb::OpenClose => "open+close",
            Verb::Pread => "pread 4 KiB",
            Verb::Putfile => "putfile 4 KiB",
        };
        let floor = match self.floor {
            Replies::OneByOne => "",
            Replies::Gathered => ", gathering floor",
        };
        match (self.connections, self.window) {
            (1, 1) => format!("{verb}, 1 connection"),
            (count, 1) => format!("{verb}, {count} connections"),
            (count, window) => format!("{verb}, {count} × {window} in flight{floor}"),
        }
    }

    /// Returns how many of them `subject` answers in a second.
    pub(crate) fn measure(
        &self,
        subjects: &Subjects,
        subject: Subject,
        time: Duration,
    ) -> Result<f64> {
        let Some(address) = subjects.address(subject) else {
            return self.measure_floor(subjects, time);
        };
        let mut lanes = Vec::new();
        for index in 0..self.connections {
            lanes.push(self.prepare(address, index)?);
        }
        load::rate(lanes, self.window, time)
    }

    /// Returns the first exchange with a server, as it is repeated.
    pub(crate) fn exchange(&self, subjects: &Subjects, subject: Subject) -> Result<Exchange> {
        let address = subjects.address(subject).context("no server")?;
        let (_, exchanges) = self.prepare(address, 0)?;
        exchanges.into_iter().next().context("no exchange")
    }

    /// The floor answers what the reference would.
    fn measure_floor(&self, subjects: &Subjects, time: Duration) -> Result<f64> {
        let model = subjects
            .address(Subject::Reference)
            .context("no server to learn the replies from")?;
        let (_, exchanges) = self.prepare(model, 0)?;
        let floor = Canned::start(exchanges.clone(), self.connections, self.floor)?;
        let mut lanes = Vec::new();
        for _ in 0..self.connections {
            lanes.push((connect(floor.address())?, exchanges.clone()));
        }
        load::rate(lanes, self.window, time)
    }

    /// Makes a connection ready, with the exchanges to repeat on it.
    fn prepare(&self, address: SocketAddr, index: usize) -> Result<(TcpStream, Vec<Exchange>)> {
        let mut stream = connect(address)?;
        log_in(&mut stream)?;
        if self.verb == Verb::Pread {
            exchange(&mut stream, b"open /bench/f r 0\n", &Length::Lines(2))?;
        }
        let exchanges = self.learn(&mut stream, index)?;
        Ok((stream, exchanges))
    }

    /// Makes each exchange once and keeps what was answered.
    fn learn(&self, stream: &mut TcpStream, index: usize) -> Result<Vec<Exchange>> {
        let steps = match self.verb {
            Verb::Stat => vec![(b"stat /bench/f\n".to_vec(), Length::Lines(2))],
            Verb::OpenClose => vec![
                (b"open /bench/f r 0\n".to_vec(), Length::Lines(2)),
                (b"close 0\n".to_vec(), Length::Lines(1)),
            ],
            Verb::Pread => vec![(
                format!("pread 0 {SMALL} 0\n").into_bytes(),
                Length::Bytes(SMALL + "4096\n".len()),
            )],
            Verb::Putfile => vec![
                (
                    format!("putfile /bench/p{index:02} 420 {SMALL}\n").into_bytes(),
                    Length::Lines(1),
                ),
                (vec![b'y'; SMALL], Length::Lines(1)),
            ],
        };
        let mut exchanges = Vec::new();
        for (request, length) in steps {
            let reply = exchange(stream, &request, &length)?;
            exchanges.push(Exchange { request, reply });
        }
        Ok(exchanges)
    }
}

/// Returns how many times in a second one can connect to `subject` and log in by address, one after
/// another.
pub(crate) fn connect_rate(subjects: &Subjects, subject: Subject, time: Duration) -> Result<f64> {
    if let Some(address) = subjects.address(subject) {
        return repeat_login(address, time);
    }
    let floor = Canned::start(vec![login()], 1, Replies::OneByOne)?;
    repeat_login(floor.address(), time)
}

fn repeat_login(address: SocketAddr, time: Duration) -> Result<f64> {
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < time && count < MOST_CONNECTIONS {
        log_in(&mut connect(address)?)?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

/// Returns the exchange of a login.
pub(crate) fn login() -> Exchange {
    Exchange {
        request: LOGIN.to_vec(),
        reply: WELCOME.to_vec(),
    }
}

const LOGIN: &[u8] = b"address\n";
const WELCOME: &[u8] = b"yes\nyes\nyes\naddress\n127.0.0.1\n";

pub(crate) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Logs in with as few system calls as a good client needs; the connection is what is measured.
pub(crate) fn log_in(stream: &mut TcpStream) -> Result<()> {
    let reply = exchange(stream, LOGIN, &Length::Bytes(WELCOME.len()))?;
    ensure!(
        reply == WELCOME,
        "the login was answered \"{}\"",
        reply.escape_ascii()
    );
    Ok(())
}

fn exchange(stream: &mut TcpStream, request: &[u8], length: &Length) -> Result<Vec<u8>> {
    stream.write_all(request)?;
    let mut reply = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        let complete = match length {
            Length::Bytes(count) => reply.len() >= *count,
            Length::Lines(count) => {
                reply.starts_with(b"-")
                    || reply.iter().filter(|byte| **byte == b'\n').count() >= *count
            }
        };
        if complete {
            break;
        }
        let count = stream.read(&mut chunk).context("no reply")?;
        ensure!(count > 0, "closed after \"{}\"", reply.escape_ascii());
        reply.extend(chunk.iter().take(count));
    }
    ensure!(
        !reply.starts_with(b"-"),
        "\"{}\" was answered \"{}\"",
        request.escape_ascii(),
        reply.escape_ascii()
    );
    Ok(reply)
}
