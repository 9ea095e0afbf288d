//! Who may do what, on the real server and against the reference's `chirp_server` on the same tree:
//! lists, groups, inheritance and tickets.
//!
//! The tests need root, like the ones of `served`, the reference's `chirp_server`, and `openssl` to make
//! keys.

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

#[path = "../weaknesses/reference.rs"]
mod reference;

mod differential;
mod groups;
mod holder;
mod tickets;
