//! The load loop: cheap, so that what is measured is the server.
//!
//! One thread drives all connections. With one connection it blocks in `read`, with many it waits in
//! epoll. A reply is recognised by its length, which was learned from the server before, and the
//! last one is compared in full.

use std::io::{Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{Timespec, epoll};

/// A request and its whole reply.
#[derive(Clone)]
pub(crate) struct Exchange {
    pub(crate) request: Vec<u8>,
    pub(crate) reply: Vec<u8>,
}

/// How long all connections may stay silent before a server counts as stuck.
const STUCK: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};
/// Most bytes taken from a socket at once.
const CHUNK: usize = 256 * 1024;

/// Repeats each connection's exchanges for `time`, with `window` of them on their way, and returns
/// how many rounds of them were completed in a second.
pub(crate) fn rate(
    connections: Vec<(TcpStream, Vec<Exchange>)>,
    window: usize,
    time: Duration,
) -> Result<f64> {
    let mut lanes = connections
        .into_iter()
        .map(|(stream, exchanges)| Lane::new(stream, exchanges, window))
        .collect::<Result<Vec<_>>>()?;
    let mut chunk = vec![0; CHUNK];
    let start = Instant::now();
    let end = start + time;
    for lane in &mut lanes {
        lane.begin()?;
    }
    if let [lane] = lanes.as_mut_slice() {
        while lane.waiting > 0 {
            lane.advance(&mut chunk, end)?;
        }
    } else {
        drive(&mut lanes, &mut chunk, end)?;
    }
    let elapsed = start.elapsed().as_secs_f64();
    let mut rounds = 0;
    for lane in &lanes {
        rounds += lane.rounds;
        lane.check_last()?;
    }
    ensure!(rounds > 0, "nothing was completed");
    Ok(rounds as f64 / elapsed)
}

fn drive(lanes: &mut [Lane], chunk: &mut [u8], end: Instant) -> Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (index, lane) in lanes.iter().enumerate() {
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&poll, &lane.stream, data, epoll::EventFlags::IN)?;
    }
    let mut busy = lanes.len();
    let mut space = [MaybeUninit::uninit(); 64];
    while busy > 0 {
        let (events, _) = epoll::wait(&poll, &mut space, Some(&STUCK))?;
        ensure!(!events.is_empty(), "no reply for ten seconds");
        for event in events {
            let index = usize::try_from(event.data.u64())?;
            let lane = lanes.get_mut(index).context("an event of no connection")?;
            if lane.waiting == 0 {
                bail!("bytes that nobody asked for");
            }
            lane.advance(chunk, end)?;
            if lane.waiting == 0 {
                epoll::delete(&poll, &lane.stream)?;
                busy -= 1;
            }
        }
    }
    Ok(())
}

/// One connection with its requests.
struct Lane {
    stream: TcpStream,
    exchanges: Vec<Exchange>,
    /// `window` copies of the request, for windows above one.
    batch: Vec<u8>,
    window: usize,
    /// Which exchange is on its way.
    at: usize,
    /// Bytes of the reply on its way that are still to come.
    missing: usize,
    /// Requests sent and not yet answered.
    waiting: usize,
    /// How often all exchanges were completed.
    rounds: u64,
    /// The last bytes received.
    tail: Vec<u8>,
}

impl Lane {
    fn new(stream: TcpStream, exchanges: Vec<Exchange>, window: usize) -> Result<Self> {
        let first = exchanges.first().context("nothing to send")?;
        ensure!(
            window == 1 || exchanges.len() == 1,
            "only single exchanges can be pipelined"
        );
        Ok(Self {
            stream,
            batch: first.request.repeat(window),
            window,
            at: 0,
            missing: first.reply.len(),
            waiting: 0,
            rounds: 0,
            tail: Vec::new(),
            exchanges,
        })
    }

    fn begin(&mut self) -> Result<()> {
        self.waiting = self.window;
        self.stream.write_all(&self.batch).context("cannot send")
    }

    /// Reads once, and sends as many requests as replies came, unless it is later than `end`.
    fn advance(&mut self, chunk: &mut [u8], end: Instant) -> Result<()> {
        let count = self.stream.read(chunk).context("no reply")?;
        ensure!(count > 0, "the server closed the connection");
        let received = chunk.get(..count).unwrap_or_default();
        let replies = self.take(received)?;
        if replies == 0 {
            return Ok(());
        }
        let exchange = self.exchanges.get(self.at).context("no exchange")?;
        let late = self.at == 0 && Instant::now() >= end;
        if late {
            return Ok(());
        }
        if self.window == 1 {
            self.stream.write_all(&exchange.request)?;
        } else {
            let length = exchange.request.len() * replies;
            let requests = self.batch.get(..length).context("more replies than sent")?;
            self.stream.write_all(requests)?;
        }
        self.waiting += replies;
        Ok(())
    }

    /// Accounts for received bytes; returns how many replies they complete.
    fn take(&mut self, received: &[u8]) -> Result<usize> {
        let mut left = received.len();
        let mut replies = 0;
        while left > 0 {
            ensure!(self.waiting > 0, "bytes that nobody asked for");
            let used = left.min(self.missing);
            left -= used;
            self.missing -= used;
            if self.missing > 0 {
                break;
            }
            replies += 1;
            self.waiting -= 1;
            self.at += 1;
            if self.at == self.exchanges.len() {
                self.at = 0;
                self.rounds += 1;
            }
            self.missing = self
                .exchanges
                .get(self.at)
                .map_or(0, |next| next.reply.len());
        }
        self.remember(received);
        Ok(replies)
    }

    /// Keeps the end of what was received, enough for one reply.
    fn remember(&mut self, received: &[u8]) {
        let wanted = self.exchanges.last().map_or(0, |last| last.reply.len());
        let kept = received.len().checked_sub(wanted);
        if let Some(end) = kept.and_then(|from| received.get(from..)) {
            self.tail.clear();
            self.tail.extend_from_slice(end);
        } else {
            let surplus = (self.tail.len() + received.len()).saturating_sub(wanted);
            self.tail.drain(..surplus);
            self.tail.extend_from_slice(received);
        }
    }

    /// Checks that replies and requests are still in step: the last reply is the one learned.
    fn check_last(&self) -> Result<()> {
        let last = self.exchanges.last().context("nothing was sent")?;
        ensure!(
            self.tail == last.reply,
            "replies out of step: the last was \"{}\"",
            self.tail.escape_ascii()
        );
        Ok(())
    }
}
