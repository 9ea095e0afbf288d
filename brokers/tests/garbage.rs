//! Nonsense for the embedded broker, in a process of its own: it goes on, and does not grow.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that fails this way has failed as it should"
)]

mod support;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use brokers::broker::{agent_account, guest_account};
use brokers::{Broker, Kind};
use fastrand::Rng;
use support::login;
use support::wire::{Raw, beacon, send};

/// Connections of one round, all open until its end.
const CONNECTIONS: usize = 64;
/// Bytes that each of them tries to send at least.
const BYTES: usize = 48 * 1024;
/// Rounds before memory is looked at, and after: allocators keep what was once needed.
const ROUNDS: (usize, usize) = (6, 24);
/// Far less than what is sent in the later rounds: 72 MiB.
const GROWTH: u64 = 16 << 20;

#[tokio::test]
async fn it_goes_on_and_does_not_grow() {
    let broker = Broker::start(Kind::Embedded).unwrap();
    let address = broker.address();
    let mut random = Rng::with_seed(7);
    let mut rounds = async |count: usize| {
        for _ in 0..count {
            let texts: Vec<_> = (0..CONNECTIONS).map(|n| garbage(n, &mut random)).collect();
            let sending = tokio::task::spawn_blocking(move || round(address, &texts));
            sending.await.unwrap();
        }
    };
    rounds(ROUNDS.0).await;
    let before = broker.process().unwrap().memory().unwrap();
    rounds(ROUNDS.1).await;

    // One of the well-behaved, after all the others.
    let account = login(&agent_account());
    let mut host = Raw::connected_with(address, "1.2", &account).await;
    host.sure("SUBSCRIBE\nid:1\ndestination:/topic/connections")
        .await;
    let mut guest = Raw::connected_with(address, "1.2", &login(&guest_account())).await;
    guest.send(&send(&beacon("HELLO", 1, 0))).await;
    loop {
        // Some of the nonsense was in good frames and may still be under way.
        if host
            .expect("MESSAGE")
            .await
            .body
            .starts_with(b"HELLO {\"id\":\"02:00:00:00:00:01\"")
        {
            break;
        }
    }
    let after = broker.process().unwrap().memory().unwrap();
    assert!(
        after < before + GROWTH,
        "grew from {before} to {after} bytes; its log: {}",
        broker.log()
    );
}

/// Opens the connections of a round, sends what each has for as long as it is taken, and closes them.
fn round(address: SocketAddr, texts: &[Vec<u8>]) {
    let mut open = Vec::new();
    for text in texts {
        let mut stream = TcpStream::connect(address).unwrap();
        // Who does not read is not waited for.
        stream
            .set_write_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        // Nearly all are closed on the way.
        let _ = stream.write_all(text);
        open.push(stream);
    }
}

/// What one connection sends: some kind of nonsense, the first ones before CONNECT, the others after it.
fn garbage(number: usize, random: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    if number % 8 > 2 {
        let account = if number.is_multiple_of(2) {
            agent_account()
        } else {
            guest_account()
        };
        out.extend(format!("CONNECT\naccept-version:1.2\n{}\n\0", login(&account)).into_bytes());
    }
    let enough = out.len() + BYTES;
    match number % 8 {
        // Anything.
        0 => out.extend(std::iter::repeat_with(|| random.u8(..)).take(BYTES)),
        // A header that never ends, a frame that never ends.
        1 => out.extend(
            b"CONNECT\nx:"
                .iter()
                .copied()
                .chain(std::iter::repeat_n(b'y', BYTES)),
        ),
        2 => out.extend(
            b"CONNECT\ncontent-length:60000\n\n"
                .iter()
                .copied()
                .chain(std::iter::repeat_n(0, BYTES)),
        ),
        // Receipts that nobody reads.
        3 | 4 => {
            while out.len() < enough {
                out.extend(
                    b"SEND\ndestination:/topic/connections\nreceipt:xxxxxxxxxxxxxxxx\n\nX\0",
                );
            }
        }
        // Subscriptions and their ends, of all kinds.
        5 | 6 => {
            while out.len() < enough {
                let (id, topic) = (random.u32(..80), random.u32(..));
                let word = ["SUBSCRIBE", "UNSUBSCRIBE"][random.usize(..2)];
                let ack = ["auto", "client", "client-individual"][random.usize(..3)];
                out.extend(
                    format!("{word}\nid:{id}\ndestination:/topic/{topic}\nack:{ack}\n\n\0")
                        .into_bytes(),
                );
            }
        }
        // Presence with some bytes wrong, of guests without number.
        _ => {
            while out.len() < enough {
                let mut text = send(&beacon("HELLO", random.u8(..), random.u64(..))).into_bytes();
                let at = random.usize(..text.len());
                if random.u8(..8) == 0 {
                    text[at] = random.u8(..);
                }
                out.extend(text);
            }
        }
    }
    out
}
