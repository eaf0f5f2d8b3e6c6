//! The server's WebSocket without the game, for conformance suites and tests.

use std::future::poll_fn;
use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cubesync_relay::Host;
use cubesync_relay::session::{Stream, Writer};
use futures_util::StreamExt;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::Message;

use super::meter::{Meter, Metered};
use super::upgrade::switch_protocols;
use super::websocket::{self, BINARY, TEXT};

/// Largest message that is echoed: the suites send up to 16 MiB, our clients 16 KiB.
const MAX_ECHOED_BYTES: usize = 32 * 1024 * 1024;

/// Answers a request by a WebSocket that echoes all messages.
pub async fn echo(mut request: Request) -> Response {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned() else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            echo_messages(TokioIo::new(upgraded)).await;
        }
    });
    switch_protocols(&key)
}

/// Echoes messages to the end, past a close frame, as a session does: then the close is answered.
async fn echo_messages(stream: impl Stream) {
    let (mut library, mut sink) = websocket::halves(stream, MAX_ECHOED_BYTES).await;
    loop {
        let message = tokio::select! {
            biased;
            message = library.next() => message,
            _ = poll_fn(|context| sink.poll_idle(context)) => return,
        };
        let sent = match message {
            Some(Ok(Message::Text(text))) => {
                let text = Bytes::from(text);
                sink.send_message(TEXT, &mut text.into()).await
            }
            Some(Ok(Message::Binary(bytes))) => sink.send_message(BINARY, &mut bytes.into()).await,
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) | None => return sink.close().await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Serves a stream that has become a WebSocket as a player's connection from an address, to its end.
pub async fn serve(host: &Host, stream: impl Stream, peer: IpAddr) {
    let Ok(admitted) = host.admit(peer) else {
        return;
    };
    let meter = Meter::new();
    let stream = Metered::new(stream, meter.clone());
    let (reader, writer) = websocket::split(stream, meter).await;
    host.sessions.serve(reader, writer, admitted).await;
}
