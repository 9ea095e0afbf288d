//! Copies of trees, between this machine and both makers' servers, and what disturbs them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

#[path = "../support/mod.rs"]
mod support;

mod cookie;
mod disk;
mod faults;
mod interrupted;
mod ours;
mod resume;
mod round_trip;
mod space;
mod sync;
