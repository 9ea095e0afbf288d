//! `conformance`: compares Chirp servers and clients, whoever made them.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use conformance::differences::path;
use conformance::suite::results::Conclusion;
use conformance::{record, render, seeds, vector};

mod compare;
mod examples;
mod prove;

const EXAMPLES: &str = "\
EXAMPLES
  The recorded vectors on a server that runs already, whoever made it:
      conformance --server 127.0.0.1:9094
  Everything on two servers, which it starts itself, as often as it needs:
      conformance --server old=/usr/bin/chirp_server --server new=target/debug/chirp-server
  Two sets of clients too, each on each server:
      conformance matrix --clients old=/usr/bin --clients new=./tools \\
          --server old=/usr/bin/chirp_server --server new=./chirp-server
  A page about all of it:
      conformance report --output report.md --server /usr/bin/chirp_server --server ./chirp-server
  Random scripts on two servers for ten minutes:
      conformance fuzz --minutes 10 --server /usr/bin/chirp_server --server ./chirp-server
  The installed reference and the one built beside this program:
      conformance

EXIT CODES
  0  nothing differs but what is accepted, with its reason, in conformance/*.toml
  1  something differs
  2  something could not be judged: a server did not start, a set-up did not take
";

/// Compares Chirp servers with what the reference was recorded to answer, and with each other.
///
/// A server is an address, where one runs already, or a program that is started on a free loopback
/// port, as an ordinary user, with an empty root of its own, with each set of options that a case
/// needs. Nothing here knows whose program it is. What cannot be tried on a server by address (other
/// options, logins that it refuses, its tree) is told as not applicable and is never a pass.
///
/// On a server by address the cases work in /v and /s; use one whose content does not matter.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    all: compare::All,
}

#[derive(Subcommand)]
enum Command {
    /// Everything that these servers can be asked; also what happens without a command
    All(compare::All),
    /// Play the recorded vectors on each server
    Vectors(compare::Vectors),
    /// Play random scripts on two servers until they differ
    Fuzz(compare::Fuzz),
    /// Find a script for each entry of fuzz.toml that has no example
    Examples(examples::Examples),
    /// Do journeys with two sets of clients on two servers
    Matrix(compare::Journeys),
    /// Everything, and one page about it, in Markdown and for browsers
    Report(compare::Report),
    /// Put mistakes into this workspace's programs, one at a time, and record what catches each
    Prove(prove::Prove),
    /// Play the generated vectors on the installed reference and write down what it answers
    Record {
        /// Compare with what is written down instead
        #[arg(long)]
        check: bool,
        /// Only vectors whose names begin so, for example rename. or stat.object.
        prefixes: Vec<String>,
    },
    /// Write CONFORMANCE.md from the lists of differences and of what is covered
    Render,
    /// Write the recorded vectors as seed corpora of the fuzz targets
    Seeds {
        /// The directory that gets one folder for each target
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let command = arguments.command.unwrap_or(Command::All(arguments.all));
    match run(command) {
        Ok(Conclusion::Same) => ExitCode::SUCCESS,
        Ok(Conclusion::Differs) => ExitCode::from(1),
        Ok(Conclusion::Broken) => ExitCode::from(2),
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "a program says why it failed")]
            {
                eprintln!("conformance: {error:#}");
            }
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<Conclusion> {
    match command {
        Command::All(all) => all.run(),
        Command::Vectors(vectors) => vectors.run(),
        Command::Fuzz(fuzz) => fuzz.run(),
        Command::Examples(examples) => examples.run(),
        Command::Matrix(journeys) => journeys.run(),
        Command::Report(report) => report.run(),
        Command::Prove(prove) => prove.run(),
        Command::Record { check, prefixes } => {
            record::run(check, &prefixes)?;
            Ok(Conclusion::Same)
        }
        Command::Render => {
            let path = path("../CONFORMANCE.md");
            fs::write(&path, render::page()?)
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(Conclusion::Same)
        }
        Command::Seeds { directory } => {
            seeds::write(&vector::recorded()?, &directory)?;
            Ok(Conclusion::Same)
        }
    }
}
