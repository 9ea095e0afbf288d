//! The Chirp protocol of cctools as values: requests, replies, paths, rights and identities.
//!
//! This crate does no I/O: it needs no runtime, no clock and no files. A server feeds received
//! bytes to [`parse::Decoder`] and gets [`Request`]s that are already valid; a client encodes a
//! [`Request`] with [`encode`] and reads the answer with [`parse::reply`]. Bulk data never passes
//! through these types: a request that carries a body says how long it is
//! ([`Request::body_length`]) and the connection moves the bytes.
//!
//! | module | content |
//! |---|---|
//! | [`request`] | what can be asked |
//! | [`parse`] | bytes to requests, replies and login lines; incremental |
//! | [`encode`] | the only writer of wire bytes, for both sides |
//! | [`code`] | wire codes and errno, one table |
//! | [`path`] | percent-encoding and virtual paths |
//! | [`stat`] | stat and statfs lines |
//! | [`acl`] | rights and access control lists |
//! | [`dialect`] | how cctools' and HTCondor's lines differ |
//! | [`auth`] | login methods, login messages and the identity they prove |
//! | [`ticket`] | the file of a ticket |
//! | [`limits`] | every limit of the wire in one place |
//!
//! ```
//! use chirp_proto::parse::{Decoder, Step};
//! use chirp_proto::{Request, path::VirtualPath};
//!
//! let mut decoder = Decoder::default();
//! let step = decoder.step(b"stat /a%20b\nwho");
//! let Step::Request { request, used } = step else { panic!("a whole line is there") };
//! assert_eq!(request, Request::Stat { path: VirtualPath::from_decoded(b"/a b").unwrap() });
//! assert_eq!(used, 12);
//! assert!(matches!(decoder.step(b"who"), Step::More));
//! ```

pub mod acl;
pub mod auth;
pub mod code;
pub mod dialect;
pub mod encode;
pub mod limits;
pub mod parse;
pub mod path;
pub mod request;
pub mod stat;
pub mod ticket;

pub use auth::{Method, Subject};
pub use code::Code;
pub use dialect::Dialect;
pub use path::VirtualPath;
pub use request::Request;
pub use stat::{Stat, StatFs};
