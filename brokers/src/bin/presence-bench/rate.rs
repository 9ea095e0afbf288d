//! As many messages as go through a broker to one that listens.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use brokers::{Broker, Kind};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::crowd::{Listener, beat, join};

/// Messages under way at once, of all guests together: little enough that no broker drops or merges any.
const UNDER_WAY: usize = 256;

/// The line above the rows.
pub(crate) const HEAD: &str =
    "rate       guests   messages/s   processor/message      memory   joining";

/// What came of one run.
pub(crate) struct Rate {
    kind: Kind,
    guests: usize,
    per_second: f64,
    /// The broker's processor time for a message.
    processor: Duration,
    /// The broker's memory, with all guests connected.
    memory: u64,
    joining: Duration,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:10} {:6}   {:10.0}   {:14.1} µs   {:6.1} MiB   {:5.2} s",
            self.kind,
            self.guests,
            self.per_second,
            self.processor.as_secs_f64() * 1e6,
            mib(self.memory),
            self.joining.as_secs_f64()
        )
    }
}

/// Returns bytes in MiB.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Lets so many guests send for a time, each its next beacon as soon as there is room for one.
pub(crate) async fn measure(broker: &Broker, guests: usize, time: Duration) -> Result<Rate> {
    let under_way = match broker.kind() {
        // Its connections die of frames that arrive together or in parts.
        Kind::CoilMq => 1,
        _ => UNDER_WAY,
    };
    let window = Arc::new(Semaphore::new(under_way));
    let listener = Listener::start(broker, Arc::clone(&window)).await?;
    let (connections, joining) = join(broker, guests).await?;
    let (token, mut sending) = (CancellationToken::new(), JoinSet::new());
    for (guest, mut connection) in connections.into_iter().enumerate() {
        let (window, token) = (Arc::clone(&window), token.clone());
        sending.spawn(async move {
            for seq in 0.. {
                tokio::select! {
                    () = token.cancelled() => break,
                    permit = window.acquire() => permit?.forget(),
                }
                connection.stream.write_all(&beat(guest, seq)).await?;
            }
            anyhow::Ok(connection)
        });
    }
    // Brokers warm up.
    tokio::time::sleep(time / 5).await;
    let process = broker.process()?;
    let (start, heard, busy) = (Instant::now(), listener.heard(), process.processor_time()?);
    tokio::time::sleep(time).await;
    let heard = listener.heard() - heard;
    let (elapsed, busy) = (
        start.elapsed(),
        process.processor_time()?.saturating_sub(busy),
    );
    let memory = process.memory()?;
    token.cancel();
    let mut open = Vec::new();
    while let Some(connection) = sending.join_next().await {
        open.push(connection??);
    }
    listener.stop().await?;
    ensure!(heard > 0, "it carried nothing");
    #[expect(clippy::cast_precision_loss, reason = "far below what a float holds")]
    let heard = heard as f64;
    Ok(Rate {
        kind: broker.kind(),
        guests,
        per_second: heard / elapsed.as_secs_f64(),
        processor: busy.div_f64(heard.max(1.0)),
        memory,
        joining,
    })
}
