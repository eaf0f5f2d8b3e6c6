//! Players on the TCP port, with TLS or without.

use tokio::net::TcpStream;
use tracing::debug;

use crate::shared::Shared;
use crate::tls::{self, Arrival, Tls};
use cubesync_relay::admission::Admitted;
use cubesync_relay::ending::Ending;
use cubesync_relay::session::tcp;

/// Serves a connection to its end.
pub(crate) async fn serve(shared: &Shared, stream: TcpStream, admitted: Admitted) {
    if let Err(error) = tcp::prepare(&stream) {
        return debug!(%error, "connection broke");
    }
    if let Some(tls) = &shared.tls {
        // In a box, so that a task without encryption has no place for it.
        return Box::pin(serve_encrypted(shared, tls, stream, admitted)).await;
    }
    shared.host.sessions.serve_tcp(stream, admitted).await;
}

/// The same with TLS under it. Peers that speak without are told so, in the way that they understand.
async fn serve_encrypted(shared: &Shared, tls: &Tls, stream: TcpStream, admitted: Admitted) {
    let host = &shared.host;
    let arrival = {
        let _open = host.metrics.connected();
        let deadline = *shared.config.hello_deadline;
        tls::accept(&tls.players, stream, deadline).await
    };
    match arrival {
        Arrival::Tls(stream) => host.sessions.serve_stream(stream, admitted).await,
        Arrival::Plain(stream) => host.sessions.refuse_unencrypted(stream).await,
        Arrival::Silent => host.metrics.disconnects.count(Ending::HelloTimeout),
        Arrival::Closed => host.metrics.disconnects.count(Ending::Closed),
        Arrival::Failed(error) => {
            debug!(%error, "no handshake of TLS");
            host.metrics.disconnects.count(Ending::TlsHandshake);
        }
    }
}
