//! The command that finds examples of accepted differences.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use conformance::fuzz::accepted::Accepted;
use conformance::fuzz::campaign::{self, Pair};
use conformance::program::{Maker, Program};
use conformance::suite::results::Conclusion;
use conformance::target::{Options, Server};

/// Looks for a script that shows an entry of fuzz.toml, for each that has no example.
#[derive(Args, Clone, Debug)]
pub(crate) struct Examples {
    /// How long, if some are not found
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// The first script's seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Options of both servers, as one text
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    options: String,
}

impl Examples {
    #[expect(clippy::print_stdout, reason = "a program says what it found")]
    pub(crate) fn run(&self) -> Result<Conclusion> {
        let time = Duration::try_from_secs_f64(self.minutes * 60.0).context("--minutes")?;
        let deadline = Instant::now() + time;
        let accepted = Accepted::load()?;
        let options = self.options.as_str();
        let start = |maker| Server::start(&Program::server(maker)?, &Options::from_words(options));
        let [left, right] = Maker::ALL.map(start);
        let (left, right) = (left?, right?);
        let pair = Pair {
            servers: [&left, &right],
            options,
        };
        let mut missing = accepted.without_example();
        for seed in self.seed.. {
            if Instant::now() >= deadline || missing.is_empty() {
                break;
            }
            let script = campaign::script(seed, &[]);
            for (entry, example) in campaign::examples(pair, script, &accepted, &missing)? {
                missing.remove(&entry);
                let shown = accepted
                    .patterns()
                    .get(entry)
                    .map(|pattern| pattern.shown());
                println!("{shown:?}\nexample = {}", serde_json::to_string(&example)?);
            }
        }
        if missing.is_empty() {
            return Ok(Conclusion::Same);
        }
        println!("no example was found for the entries {missing:?}, counted from 0");
        Ok(Conclusion::Broken)
    }
}
