//! The differential fuzzer with fixed scripts, for most of a minute; `conformance fuzz` goes on. And what
//! is known from it: the differences that are accepted, and those that were mended.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails this way has failed as it should"
)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use conformance::fuzz::accepted::Accepted;
use conformance::fuzz::campaign::{self, Pair, Tally};
use conformance::fuzz::found::Found;
use conformance::program::{Maker, Program};
use conformance::target::{Options, Server};

/// The servers' options and the seeds of the scripts that are played with them.
const SEEDS: [(&str, Range<u64>); 4] = [
    ("", 1..80),
    ("-F 1MB", 2000..2040),
    ("-A {DEFAULT_ACL}", 1000..1040),
    ("--jobs", 4000..4020),
];
/// After this no further script is begun: the machine is too busy for all of them.
const TIME: Duration = Duration::from_secs(100);

/// Servers of both makers, a pair for each set of options that is asked for.
#[derive(Default)]
struct Pairs(BTreeMap<String, [Server; 2]>);

impl Pairs {
    fn with<'a>(&'a mut self, options: &'a str) -> Pair<'a> {
        let servers = self.0.entry(options.to_owned()).or_insert_with(|| {
            let options = Options::from_words(options);
            Maker::ALL
                .map(|maker| Server::start(&Program::server(maker).unwrap(), &options).unwrap())
        });
        let [left, right] = servers;
        Pair {
            servers: [left, right],
            options,
        }
    }
}

#[test]
fn random_scripts_find_no_difference() {
    let mut pairs = Pairs::default();
    let deadline = Instant::now() + TIME;
    for (options, seeds) in SEEDS {
        let mut tally = Tally::default();
        let found = campaign::run(pairs.with(options), seeds, &[], deadline, &mut tally).unwrap();
        if let Some(finding) = found {
            panic!("{finding}");
        }
        assert!(
            tally.requests > 0 || Instant::now() >= deadline,
            "{options:?}: {tally:?}"
        );
    }
}

#[test]
fn each_accepted_difference_is_shown_by_its_example() {
    let accepted = Accepted::load().unwrap();
    let mut pairs = Pairs::default();
    let mut stale = Vec::new();
    for (at, pattern) in accepted.patterns().iter().enumerate() {
        let (options, script) = pattern.example().unwrap();
        let played = campaign::play(pairs.with(options), &script, &accepted).unwrap();
        let last = script.len() - 1;
        if !played.accepted.contains(&(last, at)) {
            let replies = played.replies.last().map(|replies| {
                replies
                    .each_ref()
                    .map(|reply| reply.escape_ascii().to_string())
            });
            stale.push(format!("{:?}: came {replies:?}", pattern.shown()));
        }
    }
    assert!(
        stale.is_empty(),
        "fuzz.toml has entries whose example does not show them any more; mend it, or delete them:\n{}",
        stale.join("\n")
    );
}

#[test]
fn what_was_found_and_mended_stays_so() {
    let accepted = Accepted::load().unwrap();
    let mut pairs = Pairs::default();
    let all = Found::all().unwrap();
    assert!(!all.is_empty());
    for found in all {
        let result = found.play(pairs.with(&found.server), &accepted);
        if let Err(error) = result {
            panic!("{error:#}");
        }
    }
}
