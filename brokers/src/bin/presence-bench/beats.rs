//! Thousands of guests that beat every ten seconds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use brokers::{Broker, Kind};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use crate::crowd::{Listener, beat, join};
use crate::rate::mib;

/// The time between two beacons of a guest.
const INTERVAL: Duration = Duration::from_secs(10);

/// The line above the rows.
pub(crate) const HEAD: &str =
    "beats      guests   sent   heard   of one core      memory   joining";

/// What came of one run.
pub(crate) struct Beats {
    kind: Kind,
    guests: usize,
    sent: u64,
    heard: u64,
    /// The broker's share of one core.
    share: f64,
    memory: u64,
    joining: Duration,
}

impl fmt::Display for Beats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:10} {:6}  {:5}   {:5}   {:9.2} %   {:7.1} MiB   {:5.2} s",
            self.kind,
            self.guests,
            self.sent,
            self.heard,
            self.share * 100.0,
            mib(self.memory),
            self.joining.as_secs_f64()
        )
    }
}

/// Connects so many guests and watches the broker while they beat in turn.
pub(crate) async fn measure(broker: &Broker, guests: usize, time: Duration) -> Result<Beats> {
    let listener = Listener::start(broker, Arc::new(Semaphore::new(0))).await?;
    let (mut connections, joining) = join(broker, guests).await?;
    let process = broker.process()?;
    let (start, busy) = (Instant::now(), process.processor_time()?);
    let apart = INTERVAL.div_f64(f64::from(u32::try_from(guests)?.max(1)));
    let (mut next, mut sent) = (start, 0);
    'watching: loop {
        for (guest, connection) in connections.iter_mut().enumerate() {
            sleep_until(next).await;
            if start.elapsed() >= time {
                break 'watching;
            }
            connection.stream.write_all(&beat(guest, sent)).await?;
            sent += 1;
            next += apart;
        }
    }
    let busy = process.processor_time()?.saturating_sub(busy);
    let elapsed = start.elapsed();
    let memory = process.memory()?;
    // What is still under way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let heard = listener.heard();
    listener.stop().await?;
    Ok(Beats {
        kind: broker.kind(),
        guests,
        sent,
        heard,
        share: busy.as_secs_f64() / elapsed.as_secs_f64(),
        memory,
        joining,
    })
}
