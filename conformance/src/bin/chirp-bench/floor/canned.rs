//! Answers with the bytes it was given, by counting the bytes of the requests.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};
use rustix::event::epoll;

use crate::load::Exchange;

/// Most bytes taken from a socket at once.
const CHUNK: usize = 64 * 1024;

/// How replies are written when several requests were read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replies {
    /// Each by a write of its own, as an echo does.
    OneByOne,
    /// All of them by one write. No server that does something for each request gets near that.
    Gathered,
}

/// A running echo with canned replies; it ends when dropped.
pub(crate) struct Canned {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Canned {
    /// Starts it for that many connections. With one it blocks in `read`, with more it waits in
    /// epoll: each is the cheapest way.
    pub(crate) fn start(
        script: Vec<Exchange>,
        connections: usize,
        replies: Replies,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            // An error of the floor shows as a connection that is closed.
            let _ = if connections == 1 {
                serially(&listener, &script, replies, &stopped)
            } else {
                by_epoll(&listener, &script, replies, &stopped)
            };
        });
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the thread if it waits for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serially(
    listener: &TcpListener,
    script: &[Exchange],
    replies: Replies,
    stop: &AtomicBool,
) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    for stream in listener.incoming() {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let mut peer = Peer::new(stream?, script)?;
        // A peer that resets its connection ends only that.
        while peer.serve(script, replies, &mut chunk).unwrap_or(false) {}
    }
    Ok(())
}

fn by_epoll(
    listener: &TcpListener,
    script: &[Exchange],
    replies: Replies,
    stop: &AtomicBool,
) -> Result<()> {
    const LISTENER: u64 = u64::MAX;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let read = epoll::EventFlags::IN;
    epoll::add(&poll, listener, epoll::EventData::new_u64(LISTENER), read)?;
    let mut peers = BTreeMap::new();
    let mut chunk = vec![0; CHUNK];
    let mut space = [MaybeUninit::uninit(); 64];
    let mut number = 0;
    loop {
        let (events, _) = epoll::wait(&poll, &mut space, None)?;
        for event in events {
            let data = event.data;
            if data.u64() == LISTENER {
                let (stream, _) = listener.accept()?;
                if stop.load(Ordering::Acquire) {
                    return Ok(());
                }
                let peer = Peer::new(stream, script)?;
                epoll::add(&poll, &peer.stream, epoll::EventData::new_u64(number), read)?;
                peers.insert(number, peer);
                number += 1;
            } else if let Some(peer) = peers.get_mut(&data.u64())
                && !peer.serve(script, replies, &mut chunk).unwrap_or(false)
            {
                peers.remove(&data.u64());
            }
        }
    }
}

/// A connection, and where in the script it is.
struct Peer {
    stream: TcpStream,
    at: usize,
    /// Bytes of the request on its way that are still to come.
    missing: usize,
    /// Replies that are not written yet.
    gathered: Vec<u8>,
}

impl Peer {
    fn new(stream: TcpStream, script: &[Exchange]) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            at: 0,
            missing: script.first().context("an empty script")?.request.len(),
            gathered: Vec::new(),
        })
    }

    /// Reads once and answers what is complete; returns false at the end.
    fn serve(&mut self, script: &[Exchange], replies: Replies, chunk: &mut [u8]) -> Result<bool> {
        let mut left = self.stream.read(chunk)?;
        if left == 0 {
            return Ok(false);
        }
        self.gathered.clear();
        while left > 0 {
            let used = left.min(self.missing);
            left -= used;
            self.missing -= used;
            if self.missing > 0 {
                break;
            }
            let done = script.get(self.at).context("out of the script")?;
            match replies {
                Replies::OneByOne => self.stream.write_all(&done.reply)?,
                Replies::Gathered => self.gathered.extend(&done.reply),
            }
            self.at = (self.at + 1) % script.len();
            self.missing = script.get(self.at).map_or(0, |next| next.request.len());
        }
        if !self.gathered.is_empty() {
            self.stream.write_all(&self.gathered)?;
        }
        Ok(true)
    }
}
