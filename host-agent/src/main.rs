//! host-agent

fn main() {}
