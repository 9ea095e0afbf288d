//! The frames of stream mode as values; no I/O.
//!
//! A frame is a header line and, where the header names a length, that many bytes. [`decode`] takes
//! frames off the front of a buffer; a payload leaves the buffer as a [`Bytes`] without being
//! copied. [`encode`] writes the header, and leaves the payload to the caller so that it need not
//! be copied into a buffer either.

pub mod decode;
pub mod encode;

use bytes::Bytes;
use chirp_proto::Code;

pub use decode::{FrameError, client_frame, server_frame};

/// A frame from the server to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFrame {
    /// Always the first one: where the streams stand.
    At(Position),
    /// Standard output, in order.
    Out(Bytes),
    /// Standard error, in order.
    Err(Bytes),
    /// The client may send this many more bytes of standard input.
    Credit(u64),
    /// JSON: wall time and resources so far.
    Usage(Bytes),
    /// Nothing else was sent for a while.
    Alive,
    /// JSON: the final [`Status`](crate::status::Status). All output came before it.
    End(Bytes),
    /// The answer to `detach`, or another client took over.
    Detached,
    /// The line that precedes the end of the connection: the client broke the protocol.
    Failure {
        /// What kind of failure.
        code: Code,
        /// The words after the code.
        message: String,
    },
}

/// A frame from the client to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFrame {
    /// Standard input, within the credit.
    In(Bytes),
    /// Close standard input.
    Eof,
    /// Send this signal, 1 to 64, to the program's process group.
    Signal(i32),
    /// The terminal's new size.
    Resize {
        /// Lines, from 1.
        rows: u16,
        /// Characters in a line, from 1.
        cols: u16,
    },
    /// Offsets up to which output has been taken over.
    Ack {
        /// Of standard output.
        out: u64,
        /// Of standard error.
        err: u64,
    },
    /// Nothing else was sent for a while.
    Alive,
    /// Stop streaming; the program runs on.
    Detach,
    /// The answer to `end` or `detached`.
    Done,
}

/// Where the streams of an execution stand when a client is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Offset of the first byte of standard output that follows.
    pub out: u64,
    /// Offset of the first byte of standard error that follows.
    pub err: u64,
    /// Bytes of standard input taken so far.
    pub stdin: u64,
    /// Whether standard input has been closed.
    pub eof: bool,
}

#[cfg(test)]
mod tests;
