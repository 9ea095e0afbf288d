//! File requests against a real tree, without a network: the bytes of a request go in, the bytes of
//! the reply come out, and between them is everything but the socket.

mod confinement;
mod language;
mod limits;
mod requests;
mod rights;
mod uploads;
