//! The real `chirp-server`, started as a process and talked to over loopback sockets: what a client
//! meets, hostile or not.
//!
//! Started as root, the tests run the server as `nobody`, which it demands. Those whose name ends
//! in `_as_root` need root, and fail without it.

mod common;

mod confinement;
mod exec;
mod input;
mod login;
mod presence;
mod start;
mod time;
mod uploads;
