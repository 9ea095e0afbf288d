//! Compares our Chirp server and client with the reference's, and measures them.
//!
//! The reference is a set of installed programs (`chirp_server`, `chirp`, `chirp_get`,
//! `chirp_put`), never its sources. Everything here talks to a server that it started itself, as an
//! ordinary user, in a temporary directory, on a free loopback port, and does not care whose
//! program that server is.
//!
//! What this crate is not: a client library. It speaks raw bytes on purpose, so that a mistake
//! shared by our server and our client cannot hide in it.
//!
//! # Layout
//!
//! - [`account`]: the unprivileged user under whom servers and clients run
//! - [`program`]: where the binaries under test are
//! - [`target`]: starts a server, waits until it takes requests, stops it
//! - [`connection`]: a raw connection: login, sentinel, reading with deadlines
//! - [`tool`]: runs a command-line program and judges what it did
//! - [`vector`]: the recorded vectors, as in part 14 of the protocol's specification
//! - [`script`]: plays one vector on a server
//! - [`compare`]: what counts as the expected reply
//! - [`differences`]: where our server may answer otherwise than the reference, and why
//! - [`coverage`]: what of the reference is served, differs or is refused, and which test shows it
//! - [`render`]: writes `CONFORMANCE.md`
//! - [`matrix`]: two sets of clients on two servers, every journey in every cell
//! - [`fuzz`]: random scripts on two servers, compared step by step
//! - [`record`]: makes vectors for every request and records what the reference answers
//! - [`seeds`]: the vectors as seed corpora of the fuzz targets
//! - [`guided`]: what the coverage-guided fuzz targets came to
//! - [`proof`]: mistakes put in on purpose, and what caught them
//! - [`suite`]: all of it on any servers and clients, and what it saw
//! - [`report`]: a page about that, as Markdown and HTML
//!
//! The `conformance` program renders that page; `chirp-bench` is the benchmark of `make bench`.
//!
//! # Example
//!
//! ```no_run
//! use conformance::{connection::Connection, program::Program, target::{Options, Server}};
//!
//! # fn main() -> anyhow::Result<()> {
//! let server = Server::start(&Program::reference_server()?, &Options::default())?;
//! let mut peer = Connection::open(server.address())?;
//! peer.log_in_by_address()?;
//! peer.send(b"whoami 7\n")?;
//! # Ok(())
//! # }
//! ```

pub mod account;
pub mod compare;
pub mod connection;
pub mod coverage;
pub mod differences;
pub mod fuzz;
pub mod guided;
pub mod matrix;
pub mod program;
pub mod proof;
pub mod record;
pub mod render;
pub mod report;
pub mod script;
pub mod seeds;
pub mod suite;
pub mod target;
pub mod tool;
pub mod vector;
