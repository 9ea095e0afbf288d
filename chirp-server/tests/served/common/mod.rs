//! The language of these tests: a [`Place`] with a tree, the [`Server`] that serves it, and the
//! [`Peer`]s that send lines and expect bytes.

mod cutter;
#[path = "../../../../exec-ext/tests/support/leftovers.rs"]
mod leftovers;
mod peer;
mod place;
mod server;

use std::time::{Duration, Instant};

pub(crate) use cutter::Cutter;
pub(crate) use peer::{Peer, make_challenge};
pub(crate) use place::Place;
pub(crate) use server::{Server, refusal};

/// Longer than anything here takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is so, and fails the test if that takes too long.
#[track_caller]
pub(crate) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Fails a test that needs root without it: a test that cannot run has not passed.
#[track_caller]
pub(crate) fn require_root() {
    assert!(is_root(), "this test needs root");
}

/// Reports whether the tests run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
