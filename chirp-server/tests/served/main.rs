//! The real `chirp-server`, started as a process and talked to over loopback sockets: what a client
//! meets, hostile or not.
//!
//! Started as root, the tests run the server as `nobody`, which it demands. Those whose name ends
//! in `_as_root` need root, and fail without it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that fails this way has failed as it should, and shows the server's log"
)]

mod common;

mod aside;
mod background;
mod bounds;
mod busy;
mod catalog;
mod confinement;
mod cookie;
mod crowd;
mod cut;
mod escapes;
mod exec;
mod full;
mod guard;
#[path = "../rights/holder.rs"]
#[allow(dead_code, reason = "these tests need no more of it than one login")]
mod holder;
mod input;
mod jobs;
mod library;
mod login;
mod names;
mod namespaces;
mod options;
mod presence;
mod space;
mod start;
mod store;
mod strangers;
mod streams;
mod third;
mod time;
mod uploads;
mod volume;
