//! Measures presence: how many messages brokers carry, what thousands of quiet guests cost, and how soon the
//! host knows what is so.
//!
//! Everything runs on loopback, and load and broker share the machine; all brokers get the same load from
//! the same program in one run, so their ratios say more than their rates.
//!
//! # Layout
//!
//! * [`crowd`]: many connections to a broker, and one that listens
//! * [`rate`]: as many messages as go through
//! * [`beats`]: thousands of guests that beat every ten seconds
//! * [`news`]: real guests and a real agent: from listening to ready, from SIGKILL to late and gone

#![allow(
    clippy::print_stdout,
    reason = "the tables are what this program is for"
)]

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use brokers::{Broker, Kind};
use clap::{Parser, Subcommand};

mod beats;
mod crowd;
mod news;
mod rate;

/// Measures the embedded broker against others with one load program, and how soon the host knows of its guests.
///
/// The agent and the guests' server are those built beside this program; build all with --release.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Seconds of load for each rate
    #[arg(long, default_value = "5", value_parser = seconds)]
    seconds: Duration,
    /// Guests that send at once, one row each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1000, 5000])]
    guests: Vec<usize>,
    /// Guests that beat every ten seconds
    #[arg(long, default_value_t = 10_000)]
    crowd: usize,
    /// Seconds that these are watched
    #[arg(long, default_value = "30", value_parser = seconds)]
    watch: Duration,
    /// Guests that are started to see when they are ready
    #[arg(long, default_value_t = 20)]
    turns: usize,
    /// Only the parts whose name contains one of these words: rate, beats, news
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Leave RabbitMQ, ActiveMQ and CoilMQ out
    #[arg(long)]
    embedded_only: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run the embedded broker alone, as the measurements and tests do
    #[command(name = brokers::embedded::COMMAND)]
    Embedded {
        /// Where to listen
        address: SocketAddr,
    },
}

fn seconds(text: &str) -> Result<Duration> {
    let time = Duration::try_from_secs_f64(text.parse()?)?;
    ensure!(
        (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&time),
        "between 0.1 and 3600 seconds"
    );
    Ok(time)
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Command::Embedded { address }) = arguments.command {
        return brokers::embedded::run(address).await;
    }
    beacon::broker::raise_open_files();
    let wanted = |name: &str| {
        arguments.only.is_empty() || arguments.only.iter().any(|word| name.contains(word))
    };
    let kinds: &[Kind] = if arguments.embedded_only {
        &[Kind::Embedded]
    } else {
        &[Kind::Embedded, Kind::RabbitMq, Kind::ActiveMq, Kind::CoilMq]
    };
    if wanted("rate") {
        println!("{}", rate::HEAD);
        for &kind in kinds {
            for &guests in &arguments.guests {
                // A new one each time, so that memory is that of these guests.
                let broker = Broker::start(kind)?;
                let measured = rate::measure(&broker, guests, arguments.seconds);
                if !row(kind, guests, arguments.seconds, measured).await {
                    // It will not take more guests than it did not take.
                    break;
                }
            }
        }
    }
    if wanted("beats") {
        println!("\n{}", beats::HEAD);
        for &kind in kinds.iter().filter(|&&kind| kind != Kind::CoilMq) {
            let broker = Broker::start(kind)?;
            let measured = beats::measure(&broker, arguments.crowd, arguments.watch);
            row(kind, arguments.crowd, arguments.watch, measured).await;
        }
    }
    if wanted("news") {
        println!();
        let found = tokio::task::spawn_blocking(move || news::measure(arguments.turns));
        println!("{}", found.await??);
    }
    Ok(())
}

/// Prints what was measured, or how far the broker went; returns whether there was something.
async fn row<T: Display>(
    kind: Kind,
    guests: usize,
    time: Duration,
    measured: impl Future<Output = Result<T>>,
) -> bool {
    let within = SETTLE + time * 3;
    let why = match tokio::time::timeout(within, measured).await {
        Ok(Ok(row)) => {
            println!("{row}");
            return true;
        }
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => format!("not done in {} s", within.as_secs()),
    };
    println!("{kind:10} {guests:6}   went no further: {why}");
    false
}

/// What a broker has beside the time of load, for all guests to join it.
const SETTLE: Duration = Duration::from_secs(120);
