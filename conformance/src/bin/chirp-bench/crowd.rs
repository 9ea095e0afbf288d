//! Many clients that come at the same time.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::floor::{Canned, Replies};
use crate::idle::OpenFiles;
use crate::load::{self, Exchange};
use crate::small::{self, Small, Verb};
use crate::subject::{Subject, Subjects};

/// Files that this program needs besides the clients, and the floor's ends of them.
const OTHER_FILES: u64 = 64;
/// Requests of each client.
const REQUESTS: usize = 10;
/// Clients that the reference gets at most: of a thousand it was seen to close some before their turn
/// came, because a login of theirs waits for those before it and may take a minute at most.
const REFERENCE_CLIENTS: usize = 250;
/// What a process of the reference takes for a connection, a little rounded up.
const REFERENCE_MEMORY: u64 = 20 << 20;

/// Returns how many of `count` clients in a second connect at once, log in, ask for ten files'
/// metadata and leave. The reference gets fewer: 250, or as many as half of the free memory has room for.
pub(crate) fn measure(subjects: &Subjects, subject: Subject, count: usize) -> Result<f64> {
    let stat = Small {
        verb: Verb::Stat,
        connections: 1,
        window: 1,
        floor: Replies::OneByOne,
    };
    let model = if subject == Subject::Floor {
        Subject::Reference
    } else {
        subject
    };
    let mut exchanges = vec![small::login()];
    exchanges.extend(vec![stat.exchange(subjects, model)?; REQUESTS]);
    let Some(address) = subjects.address(subject) else {
        let floor = Canned::start(exchanges.clone(), count, Replies::OneByOne)?;
        return burst(floor.address(), &exchanges, count);
    };
    let count = match subject {
        Subject::Reference => count
            .min(REFERENCE_CLIENTS)
            .min(usize::try_from(room()? / REFERENCE_MEMORY)?.max(1)),
        _ => count,
    };
    burst(address, &exchanges, count)
}

fn burst(address: std::net::SocketAddr, exchanges: &[Exchange], count: usize) -> Result<f64> {
    let limit = OpenFiles::raise(2 * count as u64 + OTHER_FILES)?;
    let start = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push((small::connect(address)?, exchanges.to_vec()));
    }
    // No time at all lets each client do everything once.
    load::rate(clients, 1, Duration::ZERO)?;
    let elapsed = start.elapsed();
    drop(limit);
    Ok(count as f64 / elapsed.as_secs_f64())
}

/// Returns half of the memory that is free, in bytes.
fn room() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .unwrap_or(0);
    Ok(kib * 1024 / 2)
}
