//! A player in a browser: the same frames inside a WebSocket's binary messages.

use axum::extract::ws::WebSocket;
use futures_util::StreamExt;

use super::queued::{self, Sink};
use super::source::Source;
use crate::admission::Admitted;
use crate::meter::Meter;
use crate::run::Shared;

/// Serves a connection to its end. The meter is that of the stream under the WebSocket.
pub(crate) async fn serve(shared: &Shared, socket: WebSocket, meter: Meter, admitted: Admitted) {
    let (sink, stream) = socket.split();
    let source = Source::websocket(stream, meter, &shared.config);
    queued::serve(shared, Sink::WebSocket(sink), source, admitted).await;
}
