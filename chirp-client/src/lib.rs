//! chirp-client
