//! The comparison of cubesync's server with other relays.

fn main() {}
