//! The commands that compare: all of it, the vectors, random scripts, the matrix; and the report of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use conformance::differences::path;
use conformance::fuzz::OPTIONS;
use conformance::fuzz::kind::Kind;
use conformance::matrix::clients::Clients;
use conformance::program::{Maker, Program};
use conformance::report;
use conformance::suite::results::{Conclusion, Results};
use conformance::suite::run::{self, Matrix, Random, Run};
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
    #[command(flatten)]
    clients: ClientChoice,
    /// Only journeys whose names contain this
    #[arg(long, value_name = "TEXT", default_value = "")]
    journeys: String,
}

/// Journeys with two sets of clients on two servers.
#[derive(Args, Clone, Debug)]
pub(crate) struct Journeys {
    #[command(flatten)]
    servers: Servers,
    #[command(flatten)]
    clients: ClientChoice,
    /// Only journeys whose names contain this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
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

/// A page about all that the servers can be asked.
#[derive(Args, Clone, Debug)]
pub(crate) struct Report {
    #[command(flatten)]
    all: All,
    /// The page in Markdown; the one for browsers gets its name with .html
    #[arg(long, value_name = "FILE", default_value_os_t = path("../docs/conformance-report.md"))]
    output: PathBuf,
}

#[derive(Args, Clone, Debug)]
struct VectorChoice {
    /// Only vectors whose names contain this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

#[derive(Args, Clone, Debug)]
struct ClientChoice {
    /// A set of clients: [LABEL=]DIRECTORY with chirp, chirp_get, chirp_put, chirp_stream_files and
    /// chirp_status. Twice: the second is held against the first. Never: the installed reference's and the
    /// ones built beside this program
    #[arg(long = "clients", value_name = "DIRECTORY")]
    clients: Vec<String>,
}

#[derive(Args, Clone, Debug)]
struct RandomChoice {
    /// How long random scripts go on, if they find no difference
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// The first random script's seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Options of both servers for random scripts, as one text; without it they take turns on servers with
    /// each of the sets that the tests use
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    options: Vec<String>,
    /// Leave these requests out of random scripts, for example Thirdput,Whoareyou
    #[arg(long, value_delimiter = ',')]
    without: Vec<Kind>,
    /// Go on after a difference, and show one script for each kind of request and pair of replies
    #[arg(long)]
    all: bool,
}

impl All {
    pub(crate) fn run(self) -> Result<Conclusion> {
        show(&self.results()?, self.servers.json)
    }

    /// Runs all that these servers can be asked.
    pub(crate) fn results(&self) -> Result<Results> {
        let servers = self.servers.chosen()?;
        let two = servers.len() > 1;
        run::run(&Run {
            servers,
            overwrite: self.servers.overwrite,
            vectors: Some(self.vectors.only.clone()),
            random: two.then(|| self.random.chosen()).transpose()?,
            matrix: two
                .then(|| self.clients.chosen(self.journeys.clone()))
                .transpose()?,
        })
    }
}

impl Report {
    pub(crate) fn run(self) -> Result<Conclusion> {
        let results = self.all.results()?;
        let page = report::markdown(&results);
        for (path, text) in [
            (self.output.with_extension("html"), report::html(&page)),
            (self.output, page),
        ] {
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        show(&results, self.all.servers.json)
    }
}

impl Journeys {
    pub(crate) fn run(self) -> Result<Conclusion> {
        let results = run::run(&Run {
            servers: self.servers.chosen()?,
            overwrite: self.servers.overwrite,
            vectors: None,
            random: None,
            matrix: Some(self.clients.chosen(self.only)?),
        })?;
        ensure!(results.matrix.is_some(), "{}", results.left_out.join("; "));
        show(&results, self.servers.json)
    }
}

impl Vectors {
    pub(crate) fn run(self) -> Result<Conclusion> {
        let results = run::run(&Run {
            servers: self.servers.chosen()?,
            overwrite: self.servers.overwrite,
            vectors: Some(self.choice.only),
            random: None,
            matrix: None,
        })?;
        show(&results, self.servers.json)
    }
}

impl Fuzz {
    pub(crate) fn run(self) -> Result<Conclusion> {
        let results = run::run(&Run {
            servers: self.servers.chosen()?,
            overwrite: self.servers.overwrite,
            vectors: None,
            random: Some(self.choice.chosen()?),
            matrix: None,
        })?;
        ensure!(results.random.is_some(), "{}", results.left_out.join("; "));
        show(&results, self.servers.json)
    }
}

impl ClientChoice {
    fn chosen(&self, only: String) -> Result<Matrix> {
        let clients = match self.clients.as_slice() {
            [] => [Clients::reference()?, Clients::ours()?],
            [first, second] => [clients(first)?, clients(second)?],
            _ => bail!("two sets of clients are compared; give --clients twice or never"),
        };
        Ok(Matrix { clients, only })
    }
}

fn clients(text: &str) -> Result<Clients> {
    let (label, directory) = match text.split_once('=') {
        Some((label, directory)) if !label.contains('/') && !label.is_empty() => (label, directory),
        _ => (text, text),
    };
    Clients::in_directory(label, Path::new(directory))
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
        let mut options = self.options.clone();
        if options.is_empty() {
            options.extend(OPTIONS.map(str::to_owned));
        }
        Ok(Random {
            options,
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
