//! `/cubes.json`: every cube of a room, with positions in metres.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cubesync_protocol::{CubeId, CubeKind, clean_room};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{NOT_CACHED, not_found, plain};
use crate::shared::Shared;
use crate::watch::WatchError;
use cubesync_relay::Host;
use cubesync_relay::room::{Role, RoomEnded, RoomView, world};
use cubesync_relay::rooms::DEFAULT_ROOM;

/// Time in which a room's task answers.
const ROLE_DEADLINE: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    room: Option<String>,
}

#[derive(Debug, Serialize)]
struct Room {
    room: String,
    tick: u64,
    tick_hz: u8,
    /// "owner", "edge" or "island".
    role: &'static str,
    /// The server that owns the room, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    cubes: Vec<Cube>,
}

#[derive(Debug, Serialize)]
struct Cube {
    id: u64,
    name: String,
    kind: &'static str,
    /// The holder's id. Only a free cube has this field.
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<Option<u64>>,
    colour: String,
    /// Metres, z up.
    position: [f32; 3],
    /// Quaternion x, y, z, w.
    rotation: [f32; 4],
}

impl From<world::Cube> for Cube {
    fn from(info: world::Cube) -> Self {
        let (kind, holder) = match info.kind {
            CubeKind::Player => ("player", None),
            CubeKind::Ghost => ("ghost", None),
            CubeKind::Free { holder } => ("free", Some(holder.map(|CubeId(id)| id))),
        };
        Self {
            id: info.cube.0,
            name: info.name,
            kind,
            holder,
            colour: info.colour.to_string(),
            position: info.pose.position.to_metres(),
            rotation: info.pose.rotation.to_quaternion(),
        }
    }
}

/// Responds with the room named by `?room=`, or with the lobby if none is named, as its receivers see
/// it.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    Query(parameters): Query<Parameters>,
) -> Response {
    let name = parameters.room.as_deref().unwrap_or(DEFAULT_ROOM);
    let name = match clean_room(name) {
        Ok(name) => name,
        Err(error) => return plain(StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    let seen = shared.watches.look(&shared.host, &name).await;
    let seen = match seen {
        Ok(seen) => view(&shared.host, &name).await.map(|view| (seen, view)),
        Err(error) => Err(error),
    };
    match seen {
        Ok((seen, view)) => {
            let (role, owner) = match view.role {
                Role::Owner => ("owner", None),
                Role::Edge { owner } => ("edge", Some(owner)),
                Role::Island => ("island", None),
            };
            let room = Room {
                room: view.name,
                tick: seen.tick,
                tick_hz: shared.config.tick,
                role,
                owner,
                cubes: seen.cubes.into_iter().map(Cube::from).collect(),
            };
            ([NOT_CACHED], Json(room)).into_response()
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

/// Returns what the room knows of itself: its name, and the part of this server in it.
async fn view(host: &Host, name: &str) -> Result<RoomView, WatchError> {
    let room = host.rooms.find(name).ok_or(WatchError::NoRoom)?;
    match timeout(ROLE_DEADLINE, room.view()).await {
        Ok(Ok(view)) => Ok(view),
        Ok(Err(RoomEnded)) => Err(WatchError::NoRoom),
        Err(_) => Err(WatchError::Busy),
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::{Colour, Pose, Position, Rotation};

    use super::*;

    #[test]
    fn a_cube_reads_as_metres_and_names() {
        let position = Position {
            x: 768,
            y: -512,
            z: 256,
        };
        let info = world::Cube {
            cube: CubeId(3),
            kind: CubeKind::Free { holder: None },
            name: "cube".into(),
            colour: Colour {
                red: 255,
                green: 0,
                blue: 128,
            },
            pose: Pose {
                position,
                rotation: Rotation::IDENTITY,
            },
        };
        let free = serde_json::to_value(Cube::from(info.clone())).unwrap();
        let expected = serde_json::json!({
            "id": 3, "name": "cube", "kind": "free", "holder": null, "colour": "#ff0080",
            "position": [1.5, -1.0, 0.5], "rotation": [0.0, 0.0, 0.0, 1.0],
        });
        assert_eq!(free, expected);
        let player = world::Cube {
            kind: CubeKind::Player,
            ..info
        };
        let player = serde_json::to_value(Cube::from(player)).unwrap();
        assert_eq!(player["kind"], "player");
        assert_eq!(player.get("holder"), None);
    }
}
