//! File requests against a real tree, without a network: the bytes of a request go in, the bytes of
//! the reply come out, and between them is everything but the socket.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod confinement;
mod language;
mod limits;
mod requests;
mod rights;
mod search;
mod space;
mod uploads;
mod xattrs;
