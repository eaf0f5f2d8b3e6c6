//! What every fault stands on: a server process, those who watch it, and peers that say anything.

pub(crate) mod bystanders;
pub(crate) mod counters;
pub(crate) mod crowd;
pub(crate) mod light;
pub(crate) mod namespace;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod scene;
pub(crate) mod server;
pub(crate) mod web;
