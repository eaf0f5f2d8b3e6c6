//! Where players come from, as the operator sees it.

use crate::by_address::Address;
use crate::label::label;

label! {
    /// What carries a player's messages.
    pub enum Transport("transport") {
        /// TCP without encryption.
        Tcp => "tcp",
        /// A stream of another kind: TCP with encryption.
        Tls => "tls",
        /// A WebSocket, with encryption or without.
        WebSocket => "websocket",
        /// Lines of the text protocol.
        Text => "text",
    }
}

/// The other end of a player's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The address.
    pub address: Address,
    /// The transport.
    pub transport: Transport,
}
