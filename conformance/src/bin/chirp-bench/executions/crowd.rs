//! Many executions at once, which sleep and then write a line each.

use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::json;

use super::client::Client;
use super::table::{Column, Line};
use crate::idle::{self, OpenFiles};
use crate::priority;

/// What each of them does: a byte comes for each when all have been measured, asleep.
const SLEEPER: &str = "read go <gate; echo line";

/// Runs `count` programs at once on a server of their own, from two addresses, with a connection each, and
/// asks for a `stat` again and again for `time` while they sleep.
pub(crate) fn measure(name: &str, count: usize, time: Duration) -> Result<Vec<Line>> {
    let server = super::start()?;
    let gate = server.root().join("gate");
    mkfifoat(CWD, &gate, Mode::RUSR | Mode::WUSR).context("cannot create a pipe")?;
    server.account().own(&gate)?;
    let file = server.root().join("f");
    fs::write(&file, "x")?;
    server.account().own(&file)?;
    // Held open in both directions, so that no program sees its end.
    let both = fs::File::options().read(true).write(true).open(&gate);
    let mut both = both.context("cannot open the pipe")?;
    let _limit = OpenFiles::raise(count as u64 + 64)?;
    let request = json!({"cmd": "sh", "args": ["-c", SLEEPER]});
    let begun = Instant::now();
    let mut clients = Vec::with_capacity(count);
    for number in 0..count {
        let mut client = Client::open(server.address(), 1 + u8::try_from(number % 2)?)?;
        let started = client.start(&request);
        started.with_context(|| format!("execution {} of {count}", number + 1))?;
        clients.push(client);
        if number % 50 == 0 {
            keep_alive(&mut clients)?;
        }
    }
    let started = begun.elapsed();
    let asked = priority::percentile(server.address(), "/f", time)?;
    keep_alive(&mut clients)?;
    let memory = idle::memory(&server)? as f64 / 1024.0 / 1024.0;
    let begun = Instant::now();
    both.write_all(&vec![b'\n'; count])?;
    for client in &mut clients {
        let received = client.finish()?;
        ensure!(received == 5, "{received} bytes of a line of 5");
    }
    let ended = begun.elapsed();
    let mut lines = Vec::new();
    let mut row = |what: &str, unit, value: f64, limit: Option<f64>| {
        let mut line = Line::small_is_good(format!("{name}: {what}"), unit);
        line.add(Column::Ours, value);
        if let Some(limit) = limit {
            line.below(limit);
        }
        lines.push(line);
    };
    row("memory of the server", "MiB", memory, Some(64.0));
    row("p99 of stat while they sleep", "µs", asked, Some(3000.0));
    row("all started", "ms", started.as_secs_f64() * 1e3, None);
    row(
        "a line of each, and its end",
        "ms",
        ended.as_secs_f64() * 1e3,
        None,
    );
    Ok(lines)
}

fn keep_alive(clients: &mut [Client]) -> Result<()> {
    clients.iter_mut().try_for_each(Client::keep_alive)
}
