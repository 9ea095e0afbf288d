//! A client for Chirp servers: the reference's `chirp_server` and our own with its extension.
//!
//! [`Client`] is one logged-in connection with one typed method per request of the protocol; many
//! requests may be in flight on it. [`transfer`] copies files and whole trees with several
//! connections. It is no file system: nothing is cached and no path is remembered. A lost connection is
//! reported, or replaced if [`ConnectOptions::reconnect`] asks for it; what was sent and may have been
//! done is never done again unless that is harmless.
//!
//! | module | content |
//! |---|---|
//! | [`Address`], [`ConnectOptions`] | where a server is and how to log in |
//! | [`Client`] | the connection and its time limits; the methods stand in `verbs/` by concern |
//! | [`Body`], [`Listing`] | replies that are read piece by piece |
//! | [`GetStream`], [`PutStream`] | files whose end is the connection's |
//! | [`Search`], [`Usage`], [`Allocation`] | what is found and counted in trees |
//! | [`exec`] | running programs |
//! | [`job`] | programs that run later |
//! | [`ticket`] | keys in files, to log in with and to hand out |
//! | [`cookie`] | logging in as HTCondor's clients do |
//! | [`pool`] | several connections for one program |
//! | [`transfer`] | copies of files and trees |
//! | [`Error`] | what can go wrong, naming host, path and reason |
//!
//! ```no_run
//! use chirp_client::{Client, ConnectOptions, VirtualPath};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(ConnectOptions::new("guest:9094".parse()?)).await?;
//! let path = VirtualPath::from_decoded(b"/results/count").map_err(|code| code.text())?;
//! let (stat, digest) = tokio::join!(client.stat(&path), client.sha256(&path));
//! println!("{} bytes, {:x?}", stat?.size, digest?);
//! client.getfile(&path).await?.copy_to(&mut tokio::io::stdout()).await?;
//! # Ok(())
//! # }
//! ```

mod address;
mod auth;
mod client;
mod connect;
mod connection;
pub mod cookie;
mod describe;
mod error;
pub mod exec;
pub mod job;
mod listing;
mod live;
mod patience;
pub mod pool;
mod repeat;
pub mod ticket;
pub mod transfer;
mod verbs;

pub use address::Address;
pub use client::Client;
pub use connect::{ConnectOptions, DEFAULT_CONNECT_TIMEOUT, DEFAULT_TIMEOUT};
pub use error::Error;
pub use exec_ext::status::Features;
pub use listing::{Listing, LongListing};
pub use verbs::body::Body;
pub use verbs::file::Descriptor;
pub use verbs::search::{FailedStep, Found, Search, SearchOptions};
pub use verbs::space::{Allocation, Usage};
pub use verbs::stream::{GetStream, PutStream};
pub use verbs::ticket::TicketInfo;
pub use verbs::xattr::XattrTarget;

pub use chirp_proto::acl::{Acl, Rights};
pub use chirp_proto::request::{
    AccessMode, ExecutionName, HashAlgorithm, OpenFlags, OutputStream, Stride, TicketName, Whence,
    XattrFlags,
};
pub use chirp_proto::{Code, Method, Stat, StatFs, Subject, VirtualPath};
