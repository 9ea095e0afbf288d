//! The exec extension to Chirp: running a program in a guest over a Chirp connection, with its
//! output streamed while it runs, and surviving the loss of the connection.
//!
//! This crate is both ends of the extension and the runner between them. It is not a server and not
//! a client: `chirp-server` resolves paths, checks rights and owns the connection, `chirp-client`
//! connects and sends the request; both hand the connection to this crate for stream mode.
//!
//! | module | content |
//! |---|---|
//! | [`request`] | what `exec` asks for; strict reader, writer, digest |
//! | [`status`] | what a server answers: status, results, resources, limits, features |
//! | [`frame`] | the frames of stream mode as values; no I/O |
//! | [`runner`] | the table of executions: start, supervise, end |
//! | [`stream`] | the server's side of stream mode |
//! | [`client`] | the client's side of stream mode |
//! | [`limits`] | every limit of the wire in one place |
//!
//! ```
//! use exec_ext::request::ExecRequest;
//!
//! let mut request = ExecRequest::new("wc");
//! request.args = vec!["-l".into(), "words".into()];
//! request.path = "/shard".into();
//! let received = ExecRequest::parse(&request.to_json())?;
//! assert_eq!(*received, request);
//! assert_eq!(received.digest(), request.digest());
//!
//! let refused = ExecRequest::parse(br#"{"cmdd":"wc"}"#).unwrap_err();
//! assert_eq!(refused.to_string(), "unknown field \"cmdd\"");
//! # Ok::<(), exec_ext::request::RequestError>(())
//! ```

pub mod client;
pub mod frame;
pub mod limits;
mod pace;
pub mod request;
pub mod runner;
pub mod status;
pub mod stream;

pub use pace::StreamSettings;
pub use request::ExecRequest;
