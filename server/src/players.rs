//! Connections to the TCP port, with or without TLS.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tracing::debug;

use crate::shared::Shared;
use crate::tls::{Arrival, Tls};
use cubesync_relay::admission::Admitted;
use cubesync_relay::ending::Ending;
use cubesync_relay::places::Places;
use cubesync_relay::session::tcp;

/// Largest number of peers of a port that are not admitted and may take their time to read why.
pub(crate) const MAX_REFUSALS: usize = 64;

/// Largest number of them at one address, so that one that floods leaves places for others.
pub(crate) const MAX_REFUSALS_PER_ADDRESS: usize = 4;

/// Tells peers why they are not admitted.
#[derive(Debug)]
pub(crate) struct Refusals(Arc<Places>);

impl Refusals {
    /// Starts without any.
    pub(crate) fn new() -> Self {
        Self(Places::new(MAX_REFUSALS, MAX_REFUSALS_PER_ADDRESS))
    }

    /// Tells a peer why it is not admitted, and waits until it has read that, unless many peers are
    /// waited for. Where the port is encrypted this still comes in plain text: a server at its limits
    /// spends no time on handshakes, and clients read it.
    pub(crate) fn refuse(
        &self,
        shared: &Arc<Shared>,
        stream: TcpStream,
        peer: IpAddr,
        ending: Ending,
    ) {
        let Ok(place) = self.0.take(peer.into()) else {
            return tcp::turn_away(&stream, ending);
        };
        let sessions = Arc::clone(&shared.host.sessions);
        shared.host.spawn(async move {
            sessions.turn_away(stream, &ending.into()).await;
            drop(place);
        });
    }
}

/// Serves a connection until it ends.
pub(crate) async fn serve(shared: &Shared, stream: TcpStream, admitted: Admitted) {
    if let Err(error) = tcp::prepare(&stream) {
        return debug!(%error, "connection broke");
    }
    if let Some(tls) = &shared.tls {
        // The box keeps tasks without encryption small.
        return Box::pin(serve_encrypted(shared, tls, stream, admitted)).await;
    }
    shared.host.sessions.serve_tcp(stream, admitted).await;
}

/// Serves a connection over TLS. A peer that does not use TLS gets a reject message in plain text.
async fn serve_encrypted(shared: &Shared, tls: &Tls, stream: TcpStream, admitted: Admitted) {
    let host = &shared.host;
    let arrival = {
        let _open = host.metrics.connected();
        let deadline = shared.config.hello_deadline;
        let peer = admitted.address();
        tokio::select! {
            arrival = tls.players.accept(stream, peer, deadline) => arrival,
            ending = host.sessions.cut_short(&admitted) => return host.metrics.disconnects.count(ending),
        }
    };
    match arrival {
        Arrival::Tls(stream) => host.sessions.serve_stream(stream, admitted).await,
        Arrival::Plain(stream) => host.sessions.refuse_unencrypted(stream).await,
        Arrival::Silent => host.metrics.disconnects.count(Ending::HelloTimeout),
        Arrival::Closed => host.metrics.disconnects.count(Ending::Closed),
        Arrival::Failed(error) => {
            debug!(%error, "TLS handshake failed");
            host.metrics.disconnects.count(Ending::TlsHandshake);
        }
    }
}
