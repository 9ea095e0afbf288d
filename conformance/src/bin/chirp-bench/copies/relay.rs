//! A relay that delays what goes through it, as a link with a long way would: kernels without `netem`
//! have nothing of the kind.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;
/// Chunks under way in one direction: 64 MiB in 50 ms is more than any contender sends.
const UNDER_WAY: usize = 1024;

/// Listens on loopback and passes everything on to one address, in both directions later by half of
/// the round trip. The rate is not limited.
///
/// A connection is accepted at once: the round trip of its beginning is left out, for all contenders alike.
pub(crate) struct Relay {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Relay {
    /// Starts a relay to `target` that makes round trips `round_trip` longer.
    pub(crate) fn start(target: SocketAddr, round_trip: Duration) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback")?;
        let address = listener.local_addr()?;
        let ended = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&ended);
        thread::spawn(move || {
            for near in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // A connection that fails is the contender's to tell.
                let _ = near.and_then(|near| join(&near, target, round_trip / 2));
            }
        });
        Ok(Self { address, ended })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts. Those of connections end with them.
        let _ = TcpStream::connect(self.address);
    }
}

fn join(near: &TcpStream, target: SocketAddr, delay: Duration) -> io::Result<()> {
    let far = TcpStream::connect(target)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    for (from, to) in [(near, &far), (&far, near)] {
        let (sender, receiver) = sync_channel(UNDER_WAY);
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || read(from, &sender, delay));
        thread::spawn(move || write(to, &receiver));
    }
    Ok(())
}

/// Takes what comes and notes when it is due.
fn read(mut from: TcpStream, sender: &SyncSender<(Instant, Vec<u8>)>, delay: Duration) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let Ok(count) = from.read(&mut chunk) else {
            return;
        };
        let bytes = chunk.get(..count).unwrap_or_default().to_vec();
        if sender.send((Instant::now() + delay, bytes)).is_err() || count == 0 {
            return;
        }
    }
}

/// Sends each chunk when it is due; the empty one is the end of one direction.
fn write(mut to: TcpStream, receiver: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, bytes)) = receiver.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if bytes.is_empty() {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    // Cut off: so is the other side, which reads in another thread.
    let _ = to.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_arrives_in_order_and_not_before_its_time() {
        let echo = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Relay::start(echo.local_addr().unwrap(), Duration::from_millis(60)).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = echo.accept().unwrap();
            let mut bytes = Vec::new();
            // Ends with the half that the client closes; the other half still works then.
            stream.read_to_end(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
        });
        let sent: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut stream = TcpStream::connect(relay.address()).unwrap();
        let begun = Instant::now();
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        assert!(back == sent);
        assert!(begun.elapsed() >= Duration::from_millis(60));
        server.join().unwrap();
    }
}
