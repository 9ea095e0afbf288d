//! The weaknesses W1 to W36 of the reference (`chirp-protocol.md`, part 13), each attacked as it is
//! described there; and faults that befall a server. A test is named after what it attacks. Where the
//! attack is quick, it is made on the reference too: there it works, so it is one.
//!
//! W20 is attacked in `tests/served/third.rs`.
//!
//! The tests need root, like the ones of `served`, and the reference's `chirp_server`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that fails this way has failed as it should, and shows the server's log"
)]

#[path = "../served/common/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "these tests use a part of the common language"
)]
mod common;

mod random;
mod reference;

mod access;
mod cost;
mod faults;
mod groups;
mod jobs;
mod kill;
mod names;
mod space;
mod ticket;
mod tickets;
mod transfers;
mod walks;
