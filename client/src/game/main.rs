//! The game window.

fn main() {}
