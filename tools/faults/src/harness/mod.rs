//! The means of a fault: a server process, clients that it must not disturb, and peers that send anything.

pub(crate) mod bystanders;
pub(crate) mod counters;
pub(crate) mod crowd;
pub(crate) mod encryption;
pub(crate) mod light_client;
pub(crate) mod namespace;
pub(crate) mod nat;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod server;
pub(crate) mod trial;
pub(crate) mod websocket;
