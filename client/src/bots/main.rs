//! Headless clients that wander about.

fn main() {}
