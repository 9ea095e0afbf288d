//! Connecting to a name that has several addresses: the first that answers is taken, as RFC 8305
//! ("happy eyeballs") has it, so that a network that swallows IPv6 costs a moment and not the whole
//! time there is.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;

/// How long an address has the field for itself before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to the first of these addresses that answers. All attempts share the caller's time limit.
///
/// The error is that of the last address that failed.
pub(super) async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = alternating(addresses);
    let mut running = FuturesUnordered::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = waiting.pop_front() {
            running.push(TcpStream::connect(address));
        }
        let head_start = tokio::time::sleep(HEAD_START);
        let next = async {
            match waiting.is_empty() {
                true => std::future::pending().await,
                false => head_start.await,
            }
        };
        tokio::select! {
            biased;
            ended = running.next() => match ended {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => failure = error,
                None => return Err(failure),
            },
            () = next => {}
        }
    }
}

/// Orders addresses so that the families take turns, beginning with the one that the system puts
/// first.
fn alternating(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (VecDeque<_>, VecDeque<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = VecDeque::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return order;
        }
        order.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_families_take_turns() {
        let mixed = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let turns = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"];
        assert_eq!(alternating(mixed), addresses(&turns));
        assert_eq!(alternating(addresses(&["1.1.1.1:1"])).len(), 1);
    }

    #[tokio::test]
    async fn an_address_that_refuses_or_says_nothing_keeps_nobody() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        // Its queue is full, so that the next connection to it waits.
        let silent = full_listener();
        // Nobody can listen on port 0.
        let refusing = addresses(&["127.0.0.1:0"]).remove(0);
        let candidates = vec![refusing, silent.address, good];
        let stream = connect(candidates).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        let error = connect(vec![refusing]).await.unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::NotFound);
        let error = connect(Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    /// A listener whose queue is full, and what fills it.
    struct Full {
        address: SocketAddr,
        _listener: rustix::fd::OwnedFd,
        _clients: Vec<std::net::TcpStream>,
    }

    fn full_listener() -> Full {
        use rustix::net::{AddressFamily, SocketType};
        let listener = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        rustix::net::bind(&listener, &any).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = rustix::net::getsockname(&listener).unwrap();
        let address = SocketAddr::try_from(address).unwrap();
        let soon = Duration::from_millis(200);
        let clients =
            std::iter::from_fn(|| std::net::TcpStream::connect_timeout(&address, soon).ok());
        Full {
            address,
            _clients: clients.collect(),
            _listener: listener,
        }
    }
}
