//! The page `/cubes.json` of a server: the room as it is there.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use cubesync_client::protocol::quantize::QUANTA_PER_METRE;
use serde::Deserialize;

use crate::http;

/// What a server is in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It runs the room's world.
    #[default]
    Owner,
    /// It serves its players what the owner publishes.
    Edge,
    /// It cannot reach the owner, and runs a world for its own players.
    Island,
}

/// The page of a room.
#[derive(Debug, Deserialize)]
pub struct RoomPage {
    /// What the server is in this room.
    #[serde(default)]
    pub role: Role,
    cubes: Vec<CubeRow>,
}

#[derive(Debug, Deserialize)]
struct CubeRow {
    id: u64,
    #[serde(flatten)]
    cube: Cube,
}

/// A cube, as a page and a client show it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Cube {
    pub(super) name: String,
    pub(super) kind: String,
    #[serde(default)]
    pub(super) holder: Option<u64>,
    pub(super) position: [f32; 3],
}

impl Cube {
    /// Returns whether it is at a place, in metres, or within a few quanta of it.
    pub(super) fn is_at(&self, place_m: [f32; 3], bound_quanta: f32) -> bool {
        let off_m = self
            .position
            .iter()
            .zip(place_m)
            .map(|(at, there)| at - there);
        off_m.map(f32::abs).fold(0.0, f32::max) * QUANTA_PER_METRE <= bound_quanta
    }
}

/// Cubes by id.
pub(super) type World = BTreeMap<u64, Cube>;

impl RoomPage {
    /// Asks the server with these pages.
    fn of(pages: SocketAddr, room: &str) -> Result<Self> {
        let body = http::get(pages, &format!("/cubes.json?room={room}"))?.body;
        serde_json::from_slice(&body).context("/cubes.json is no room")
    }

    pub(super) fn world(self) -> World {
        let cubes = self.cubes.into_iter();
        cubes.map(|row| (row.id, row.cube)).collect()
    }
}

/// Returns which of the servers with these pages owns a room, and its page.
///
/// # Errors
///
/// None does, several do, or one is an island.
pub fn owner(pages: &[SocketAddr], room: &str) -> Result<(usize, RoomPage)> {
    let rooms = pages.iter().map(|&pages| RoomPage::of(pages, room));
    let rooms = rooms.collect::<Result<Vec<_>>>()?;
    let roles: Vec<_> = rooms.iter().map(|room| room.role).collect();
    let is_owned = |room: &RoomPage| room.role != Role::Edge;
    let mut owned = rooms
        .into_iter()
        .enumerate()
        .filter(|(_, room)| is_owned(room));
    let first = owned.next().context("no server owns the room")?;
    ensure!(
        first.1.role == Role::Owner && owned.next().is_none(),
        "the servers are {roles:?}"
    );
    Ok(first)
}
