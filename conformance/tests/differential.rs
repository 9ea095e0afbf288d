//! The differential fuzzer with fixed scripts, for most of a minute; `conformance fuzz` goes on.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails this way has failed as it should"
)]

use std::ops::Range;
use std::time::{Duration, Instant};

use conformance::fuzz::campaign::{self, Tally};
use conformance::program::{Maker, Program};
use conformance::target::{Options, Server};

/// The scripts' seeds.
const SEEDS: Range<u64> = 1..201;
/// After this no further script is begun: the machine is too busy for all of them.
const TIME: Duration = Duration::from_secs(100);

#[test]
fn random_scripts_find_no_difference() {
    let start = |maker| Server::start(&Program::server(maker)?, &Options::default());
    let [left, right] = Maker::ALL.map(|maker| start(maker).unwrap());
    let mut tally = Tally::default();
    let deadline = Instant::now() + TIME;
    let found = campaign::run([&left, &right], SEEDS, &[], deadline, &mut tally).unwrap();
    if let Some(finding) = found {
        panic!("{finding}");
    }
    assert!(tally.requests > 0, "{tally:?}");
}
