//! No datagrams for browsers, in a server that is built without the feature `webrtc`.

use std::future;
use std::net::SocketAddr;
use std::sync::Arc;

use cubesync_relay::by_address::Address;
use cubesync_relay::datagram::{DatagramInbox, OpenedPath};
use cubesync_relay::pace::Pace;

use super::metrics::{DatagramMetrics, Opening, Received};
use super::socket::Outgoing;

/// The paths of browsers, of which there are none.
#[derive(Debug)]
pub(super) struct Browsers;

impl Browsers {
    /// Offers nothing.
    pub(super) fn new(_: Outgoing, _: SocketAddr, _: usize, _: Pace, _: DatagramMetrics) -> Self {
        Self
    }

    /// Refuses an offer.
    pub(super) fn open(
        self: &Arc<Self>,
        _: &str,
        _: DatagramInbox,
        _: Address,
    ) -> Result<OpenedPath, Opening> {
        Err(Opening::NotOffered)
    }

    /// Takes no packet.
    pub(super) fn receive(&self, _: &[u8], _: SocketAddr) -> Option<Received> {
        None
    }

    /// Waits for ever, since nothing is ever due.
    pub(super) async fn keep_time(&self) {
        future::pending().await
    }
}
