//! Measures the reference's server, ours and a raw floor with one load program, in turns.
//!
//! Everything runs on loopback, and load and server share the machine. The *floor* is what sockets
//! alone cost here: a thread that answers each request with the same bytes without looking at it, and
//! one that sends a file with `sendfile`. Ratios between the three, measured within one run, say more
//! than the rates themselves.
//!
//! # Layout
//!
//! - [`experiment`]: what is measured, and the targets
//! - [`subject`]: the three that are measured, made ready
//! - [`small`]: rates of small requests, over one connection or many
//! - [`load`]: the load loop beneath it
//! - [`bulk`]: large files, both ways
//! - [`idle`]: memory of connections that do nothing
//! - [`trees`]: large trees: copied by a third party, searched, listed
//! - [`crowd`]: many clients that come at the same time
//! - [`priority`]: how long a small request takes beside heavy ones
//! - [`executions`]: programs run through our server
//! - [`copies`]: our client beside `chirp`, `scp`, `sftp`, `rsync` and `tar`
//! - [`floor`]: the floor's two servers
//! - [`report`]: the table and the JSON

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;

mod bulk;
mod copies;
mod crowd;
mod executions;
mod experiment;
mod floor;
mod idle;
mod load;
mod priority;
mod report;
mod small;
mod subject;
mod trees;

/// Measures the reference's Chirp server, ours and a raw floor on loopback, in turns.
///
/// Our server is $CHIRP_SERVER or the one built beside this program; build both with --release.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Times that each measurement is taken; the table shows best and median
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    turns: u32,
    /// Seconds of load in each turn of a small request
    #[arg(long, default_value = "0.4", value_parser = seconds)]
    seconds: Duration,
    /// Only experiments whose name contains one of these words
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Idle connections to hold
    #[arg(long, default_value_t = 2000)]
    idle: usize,
    /// Files of the tree that goes from server to server
    #[arg(long, default_value_t = 10_000, value_parser = positive)]
    files: usize,
    /// Entries of the directory that is searched and listed
    #[arg(long, default_value_t = 100_000, value_parser = positive)]
    entries: usize,
    /// Clients that come at once
    #[arg(long, default_value_t = 1000, value_parser = positive)]
    clients: usize,
    /// MiB that a heavy request digests beside small ones; the trees of the others are in proportion
    #[arg(long, default_value_t = 256, value_parser = positive)]
    heavy: usize,
    /// Files of the trees that are copied at 0, 5 and 50 ms round trip
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 1000, 300], num_args = 3, value_parser = positive)]
    copy: Vec<usize>,
    /// MiB of the large file that is copied
    #[arg(long, default_value_t = 1024, value_parser = positive)]
    copy_big: usize,
    /// Turns of each copy: some take a minute
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    copy_turns: u32,
    /// MiB of output that a program streams
    #[arg(long, default_value_t = 256, value_parser = positive)]
    exec_output: usize,
    /// Programs that run at once
    #[arg(long, default_value_t = 1000, value_parser = positive)]
    exec_crowd: usize,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<Duration> {
    let time = Duration::try_from_secs_f64(text.parse()?)?;
    ensure!(
        (Duration::from_millis(10)..=Duration::from_secs(60)).contains(&time),
        "between 0.01 and 60 seconds"
    );
    Ok(time)
}

fn positive(text: &str) -> Result<usize> {
    let number = text.parse()?;
    ensure!(number > 0, "at least 1");
    Ok(number)
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let sizes = experiment::Sizes {
        idle: arguments.idle,
        files: arguments.files,
        entries: arguments.entries,
        clients: arguments.clients,
        heavy: arguments.heavy,
    };
    let wanted = |name: &str| {
        arguments.only.is_empty() || arguments.only.iter().any(|word| name.contains(word))
    };
    let mut plan = experiment::all(&sizes);
    plan.retain(|experiment| wanted(&experiment.name()));
    let files = arguments.copy.as_slice().try_into()?;
    let mut copies = copies::all(&copies::Sizes {
        files,
        big: arguments.copy_big,
    });
    copies.retain(|experiment| wanted(&experiment.name()));
    let mut executions = executions::all(arguments.exec_output, arguments.exec_crowd);
    executions.retain(|experiment| wanted(&experiment.name()));
    ensure!(
        !plan.is_empty() || !copies.is_empty() || !executions.is_empty(),
        "--only matches no experiment"
    );
    let subjects = subject::Subjects::start()?;
    let trees = trees::Trees::default();
    let mut rows = Vec::new();
    for experiment in plan {
        progress(&experiment.name());
        rows.push(experiment.run(&subjects, &trees, arguments.turns, arguments.seconds)?);
    }
    let bench = executions::Bench::default();
    let mut ran = Vec::new();
    for experiment in executions {
        progress(&experiment.name());
        ran.extend(experiment.run(&bench, arguments.turns, arguments.seconds)?);
    }
    drop(bench);
    let bench = copies::Bench::new(&subjects)?;
    let mut lines = Vec::new();
    for experiment in copies {
        progress(&experiment.name());
        lines.push(experiment.run(&bench, arguments.copy_turns)?);
    }
    progress("");
    let report = report::Report::new(&subjects, arguments.turns, rows, ran, lines);
    let text = if arguments.json {
        report.json()?
    } else {
        report.table()
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Says on a terminal what is being measured; the line is overwritten by the next.
fn progress(name: &str) {
    use std::io::IsTerminal as _;
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[K{name}");
    }
}
