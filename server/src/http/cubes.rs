//! `/cubes.json`: every cube of a room, with positions in metres.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cubesync_protocol::clean_room;
use serde::Deserialize;

use super::{NOT_CACHED, limit_bytes, not_found, plain, too_many_bytes};
use crate::shared::Shared;
use crate::watch::WatchError;
use cubesync_relay::by_address::Address;
use cubesync_relay::rooms::DEFAULT_ROOM;

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    room: Option<String>,
}

/// Responds with the room named by `?room=`, or with the lobby if none is named, as its receivers see
/// it.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    Extension(client): Extension<Address>,
    Query(parameters): Query<Parameters>,
) -> Response {
    let name = parameters.room.as_deref().unwrap_or(DEFAULT_ROOM);
    let name = match clean_room(name) {
        Ok(name) => name,
        Err(error) => return plain(StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    // What would be refused is not asked for either.
    if !shared.room_bytes.allows_whole(client, 0) {
        return too_many_bytes();
    }
    match shared.watches.page(&shared.host, &name).await {
        Ok(reading) => {
            let headers = [
                (header::CONTENT_LENGTH, reading.len_bytes().into()),
                (
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/json"),
                ),
            ];
            let room = (headers, [NOT_CACHED], Body::from_stream(reading)).into_response();
            limit_bytes(&shared.room_bytes, client, room)
        }
        Err(WatchError::NoRoom) if !shared.host.shutdown.is_cancelled() => not_found().await,
        // The rooms of a server that stops are gone, and its players go on elsewhere.
        Err(WatchError::NoRoom | WatchError::Busy) => {
            let problem = "this room cannot be shown at the moment, try again in a few seconds\n";
            let busy = plain(StatusCode::SERVICE_UNAVAILABLE, problem);
            ([(header::RETRY_AFTER, "5")], busy).into_response()
        }
    }
}
