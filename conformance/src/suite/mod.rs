//! The whole suite on any servers and clients, and what it saw.
//!
//! - [`subject`]: a server under test, by its address or by a program that starts it
//! - [`access`]: what somebody else's server lets this suite do
//! - [`vectors`]: the recorded vectors on one server
//! - [`run`]: runs the parts that were asked for
//! - [`results`]: all that was seen, as it is shown and written as JSON
//!
//! Nothing here knows which server is ours. Each server is held against what was recorded; in random
//! scripts and in the matrix the second is held against the first.

pub mod access;
pub mod results;
pub mod run;
pub mod subject;
pub mod vectors;
