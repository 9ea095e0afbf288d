//! chirp-server

fn main() {}
