//! The model-based differential fuzzer: random requests of several subjects, played on two servers
//! step by step, until they answer differently or leave different trees.
//!
//! - [`kind`]: the list of requests, which the compiler keeps complete
//! - [`generate`]: random requests over few names, so that they meet
//! - [`text`]: a script as people and files have it
//! - [`shape`]: where a reply ends
//! - [`normalise`]: what of a reply must differ between two servers
//! - [`accepted`]: differences that are known and wanted
//! - [`play`]: a script on a server
//! - [`ticket`]: the ticket that a script's last subject logs in with
//! - [`tree`]: what a script leaves behind
//! - [`campaign`]: scripts until a difference; its shortest form
//! - [`paste`]: a difference as a vector to paste
//! - [`found`]: the vectors that were pasted
//!
//! Nothing here knows which of the two servers is ours: the second is held against the first.

pub mod accepted;
pub mod campaign;
pub mod found;
pub mod generate;
pub mod kind;
pub mod normalise;
pub mod paste;
pub mod play;
pub mod shape;
pub mod text;
pub mod ticket;
pub mod tree;

use chirp_proto::{Request, encode};

/// The servers' options with which scripts are played, each set on a pair of servers of its own.
pub const OPTIONS: [&str; 3] = ["", "-F 1MB", "--jobs"];

/// A subject of a script; each has a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By the `unix` method: the servers' account, which may do everything at first.
    Unix,
    /// By the `address` method.
    Address,
    /// By the `hostname` method.
    Hostname,
    /// By the `ticket` method, with a ticket of the `unix` subject's: see [`ticket`].
    Ticket,
}

impl By {
    /// All subjects.
    pub const ALL: [Self; 4] = [Self::Unix, Self::Address, Self::Hostname, Self::Ticket];

    /// Returns the method's name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Address => "address",
            Self::Hostname => "hostname",
            Self::Ticket => "ticket",
        }
    }
}

/// One request of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Who sends it.
    pub by: By,
    /// What is asked.
    pub request: Request,
    /// What follows the request line, at once or after the server's go-ahead.
    pub body: Vec<u8>,
}

impl Step {
    /// Returns the request line.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        let mut line = bytes::BytesMut::new();
        encode::request(&self.request, &mut line);
        line.to_vec()
    }
}
