//! The exec extension to Chirp.

pub mod frame;
pub mod limits;
pub mod request;
pub mod status;
