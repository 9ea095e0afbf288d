//! `conformance render` writes `CONFORMANCE.md` from the list of accepted differences.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use conformance::differences::{Differences, path};
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
    /// Write CONFORMANCE.md from conformance/differences.toml
    Render,
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
            let page = render::page(&vectors, &Differences::accepted(&vectors)?);
            let path = path("../CONFORMANCE.md");
            fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
        }
        Command::Seeds { directory } => seeds::write(&vector::recorded()?, &directory).map(drop),
    }
}
