//! The model-based differential fuzzer: random requests of several subjects, played on two servers
//! step by step, until they answer differently or leave different trees.
//!
//! - [`kind`]: the list of requests, which the compiler keeps complete
//! - [`generate`]: random requests over few names, so that they meet
//! - [`shape`]: where a reply ends
//! - [`normalise`]: what of a reply must differ between two servers
//! - [`accepted`]: differences that are known and wanted
//! - [`play`]: a script on a server
//! - [`tree`]: what a script leaves behind
//! - [`campaign`]: scripts until a difference; its shortest form
//!
//! Nothing here knows which of the two servers is ours: the second is held against the first.

pub mod accepted;
pub mod campaign;
pub mod generate;
pub mod kind;
pub mod normalise;
pub mod play;
pub mod shape;
pub mod tree;

use chirp_proto::{Request, encode};

use crate::vector::Login;

/// The subjects of a script's connections.
pub const CONNECTIONS: [Login; 3] = [Login::Unix, Login::Address, Login::Hostname];

/// One request of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which connection sends it: an index into [`CONNECTIONS`].
    pub connection: usize,
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
