//! The differential fuzzer from a fixed seed, for part of a minute; `conformance fuzz` goes on.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails this way has failed as it should"
)]

use std::time::{Duration, Instant};

use conformance::fuzz::campaign::{self, Tally};
use conformance::program::{Maker, Program};
use conformance::target::{Options, Server};

/// How long the scripts of the fixed seed play.
const TIME: Duration = Duration::from_secs(45);
/// The first script's seed.
const SEED: u64 = 1;
/// Scripts below which the machine was too busy for the test to say anything.
const LEAST: u64 = 20;

#[test]
fn random_scripts_find_no_difference() {
    let start = |maker| Server::start(&Program::server(maker)?, &Options::default());
    let [left, right] = Maker::ALL.map(|maker| start(maker).unwrap());
    let mut tally = Tally::default();
    let deadline = Instant::now() + TIME;
    let found = campaign::run([&left, &right], SEED, &[], deadline, &mut tally).unwrap();
    if let Some(finding) = found {
        panic!("{finding}");
    }
    assert!(tally.scripts >= LEAST, "only {tally:?}");
}
