//! Measures work in real virtual machines: our server beside QEMU's guest agent and a bare copy over TCP in the same
//! guest, how soon a machine is ready, and an agent with many guests.
//!
//! Nothing here runs without QEMU; all of it runs without KVM and without root. Rates under TCG are those of an emulated
//! processor, so the ratios between contenders of one guest and one run are what counts.
//!
//! # Layout
//!
//! * [`machine`]: a guest with our server, QEMU's guest agent and a bare TCP server in it
//! * [`contest`]: what the three are given to do, in turns
//! * [`ours`], [`rival`], [`floor`]: the three as their clients see them
//! * [`table`]: what was found
//! * [`agent`]: an agent with its commands
//! * [`start`]: how soon a machine is ready, booted and from a snapshot
//! * [`crowd`]: twenty guests on one agent, two of them machines

#![allow(
    clippy::print_stdout,
    reason = "the tables are what this program is for"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;

mod agent;
mod contest;
mod crowd;
mod floor;
mod machine;
mod ours;
mod rival;
mod start;
mod table;

/// Measures real virtual machines under QEMU without KVM: exec and copies beside QEMU's guest agent and a bare TCP
/// copy in one guest, the time until a machine is ready, and twenty guests on one agent.
///
/// The agent and the guests' server on this machine are those built beside this program's directory; build all with
/// --release.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The guest, as `scripts/guest/image bench` makes it
    #[arg(long, default_value = "target/guest/guest")]
    image: PathBuf,
    /// Times that each measurement is taken; the tables show median and best
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    turns: u32,
    /// Seconds that twenty guests are watched
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: u64,
    /// Only the parts whose name contains one of these words: contest, start, crowd
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let wanted = |name: &str| {
        arguments.only.is_empty() || arguments.only.iter().any(|word| name.contains(word))
    };
    for file in ["vmlinuz", "bench.cpio", "initramfs.cpio"] {
        let file = arguments.image.join(file);
        ensure!(
            file.is_file(),
            "{} is missing: make it with scripts/guest/image bench",
            file.display()
        );
    }
    if wanted("contest") {
        println!("{}", contest::run(&arguments.image, arguments.turns)?);
    }
    if wanted("start") {
        println!("{}", start::run(&arguments.image, arguments.turns)?);
    }
    if wanted("crowd") {
        println!("{}", crowd::run(&arguments.image, arguments.watch)?);
    }
    Ok(ExitCode::SUCCESS)
}
