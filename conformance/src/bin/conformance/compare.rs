//! The commands that compare: all of it, the vectors, random scripts.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use conformance::fuzz::kind::Kind;
use conformance::program::{Maker, Program};
use conformance::suite::results::{Conclusion, Results};
use conformance::suite::run::{self, Random, Run};
use conformance::suite::subject::Subject;

/// The servers, and how the outcome is shown.
#[derive(Args, Clone, Debug)]
pub(crate) struct Servers {
    /// A server: [LABEL=]HOST:PORT, or [LABEL=]PROGRAM. Twice: the second is also held against the
    /// first. Never: the installed reference and the server built beside this program
    #[arg(long = "server", value_name = "SERVER")]
    servers: Vec<Subject>,
    /// Remove what a server by address has where the cases work
    #[arg(long)]
    overwrite: bool,
    /// Show all that was seen as one JSON document
    #[arg(long)]
    json: bool,
}

/// All that the servers can be asked.
#[derive(Args, Clone, Debug)]
pub(crate) struct All {
    #[command(flatten)]
    servers: Servers,
    #[command(flatten)]
    vectors: VectorChoice,
    #[command(flatten)]
    random: RandomChoice,
}

/// The recorded vectors.
#[derive(Args, Clone, Debug)]
pub(crate) struct Vectors {
    #[command(flatten)]
    servers: Servers,
    #[command(flatten)]
    choice: VectorChoice,
}

/// Random scripts on two servers.
#[derive(Args, Clone, Debug)]
pub(crate) struct Fuzz {
    #[command(flatten)]
    servers: Servers,
    #[command(flatten)]
    choice: RandomChoice,
}

#[derive(Args, Clone, Debug)]
struct VectorChoice {
    /// Only vectors whose names contain this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

#[derive(Args, Clone, Debug)]
struct RandomChoice {
    /// How long random scripts go on, if they find no difference
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// The first random script's seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave these requests out of random scripts, for example Thirdput,Whoareyou
    #[arg(long, value_delimiter = ',')]
    without: Vec<Kind>,
    /// Go on after a difference, and show one script for each kind of request and pair of replies
    #[arg(long)]
    all: bool,
}

impl All {
    pub(crate) fn run(self) -> Result<Conclusion> {
        let servers = self.servers.chosen()?;
        let random = (servers.len() > 1)
            .then(|| self.random.chosen())
            .transpose()?;
        show(
            &run::run(&Run {
                servers,
                overwrite: self.servers.overwrite,
                vectors: Some(self.vectors.only),
                random,
            })?,
            self.servers.json,
        )
    }
}

impl Vectors {
    pub(crate) fn run(self) -> Result<Conclusion> {
        show(
            &run::run(&Run {
                servers: self.servers.chosen()?,
                overwrite: self.servers.overwrite,
                vectors: Some(self.choice.only),
                random: None,
            })?,
            self.servers.json,
        )
    }
}

impl Fuzz {
    pub(crate) fn run(self) -> Result<Conclusion> {
        let servers = self.servers.chosen()?;
        if servers.len() != 2 {
            bail!("random scripts compare two servers; give --server twice");
        }
        show(
            &run::run(&Run {
                servers,
                overwrite: self.servers.overwrite,
                vectors: None,
                random: Some(self.choice.chosen()?),
            })?,
            self.servers.json,
        )
    }
}

impl Servers {
    fn chosen(&self) -> Result<Vec<Subject>> {
        match self.servers.len() {
            0 => Maker::ALL
                .into_iter()
                .map(|maker| Program::server(maker).map(Subject::program))
                .collect(),
            1 | 2 => Ok(self.servers.clone()),
            _ => bail!("at most two servers are compared; --server is there more often"),
        }
    }
}

impl RandomChoice {
    fn chosen(&self) -> Result<Random> {
        Ok(Random {
            seed: self.seed,
            scripts: u64::MAX,
            time: Duration::try_from_secs_f64(self.minutes * 60.0).context("--minutes")?,
            without: self.without.clone(),
            go_on: self.all,
        })
    }
}

#[expect(clippy::print_stdout, reason = "a program says what it saw")]
fn show(results: &Results, json: bool) -> Result<Conclusion> {
    if json {
        println!("{}", serde_json::to_string_pretty(results)?);
    } else {
        print!("{results}");
    }
    Ok(results.conclusion())
}
