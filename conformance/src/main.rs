//! `conformance render` writes `CONFORMANCE.md` from the list of accepted differences.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use conformance::coverage::Coverage;
use conformance::differences::{Differences, path};
use conformance::fuzz::accepted::Accepted;
use conformance::fuzz::campaign::{self, Tally};
use conformance::fuzz::kind::Kind;
use conformance::program::{Maker, Program};
use conformance::target::{Options, Server};
use conformance::{render, seeds, vector};

/// Keeps the conformance page up to date; the cases themselves run with `cargo test -p conformance`.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write CONFORMANCE.md from the lists of differences and of what is covered
    Render,
    /// Play random scripts on the reference's server and on ours until they differ
    Fuzz {
        /// How long, if they do not
        #[arg(long, default_value_t = 1.0)]
        minutes: f64,
        /// The first script's seed
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Leave these requests out, for example Thirdput,Whoareyou
        #[arg(long, value_delimiter = ',')]
        without: Vec<Kind>,
        /// Go on after a difference, and show one script for each kind of request and pair of replies
        #[arg(long)]
        all: bool,
    },
    /// Write the recorded vectors as seed corpora of the fuzz targets
    Seeds {
        /// The directory that gets one folder for each target
        directory: PathBuf,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Render => {
            let vectors = vector::recorded()?;
            let differences = Differences::accepted(&vectors)?;
            let page = render::page(
                &vectors,
                &differences,
                &Accepted::load()?,
                &Coverage::written()?,
            );
            let path = path("../CONFORMANCE.md");
            fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
        }
        Command::Fuzz {
            minutes,
            seed,
            without,
            all,
        } => differential(minutes, seed, &without, all),
        Command::Seeds { directory } => seeds::write(&vector::recorded()?, &directory).map(drop),
    }
}

#[expect(clippy::print_stdout, reason = "a program says what it did")]
fn differential(minutes: f64, seed: u64, without: &[Kind], all: bool) -> Result<()> {
    let [left, right] = Maker::ALL.map(|maker| {
        Server::start(&Program::server(maker)?, &Options::default())
            .with_context(|| format!("the server of {}", maker.name()))
    });
    let (left, right) = (left?, right?);
    let deadline = Instant::now() + Duration::try_from_secs_f64(minutes * 60.0)?;
    let mut tally = Tally::default();
    let mut shown = BTreeSet::new();
    let mut next = seed;
    while let Some(finding) = campaign::run(
        [&left, &right],
        next..u64::MAX,
        without,
        deadline,
        &mut tally,
    )? {
        next = finding.seed + 1;
        if shown.insert(finding.summary()) {
            println!("{finding}");
        }
        if !all {
            break;
        }
    }
    println!(
        "{} scripts, {} requests, {} differences",
        tally.scripts,
        tally.requests,
        shown.len()
    );
    ensure!(shown.is_empty(), "the servers differ");
    Ok(())
}
