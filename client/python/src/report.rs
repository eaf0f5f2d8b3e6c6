//! Events and the state of the connection, as objects of `cubesync/_report.py`.

use cubesync_client::protocol::quantize::QUANTA_PER_METRE;
use cubesync_client::protocol::{CubeId, Pose};
use cubesync_client::{ClientEvent, Status};
use pyo3::prelude::*;

use crate::cube::Cube;
use crate::player::Player;

const MODULE: &str = "cubesync._report";

pyo3::import_exception!(cubesync._report, Error);
pyo3::import_exception!(cubesync._report, Ended);

/// An event, with the cube that it needs besides.
pub(crate) struct Event {
    event: ClientEvent,
    /// The own cube, of a join; or the holder's, of a cube that was taken.
    by: Option<Cube>,
}

impl Event {
    /// Adds the cubes to events.
    pub(crate) fn all(events: Vec<ClientEvent>, player: &Player) -> Vec<Self> {
        let with_cube = |event| {
            let by = match event {
                ClientEvent::Joined(ref welcome) | ClientEvent::Rejoined(ref welcome) => {
                    Some(welcome.cube)
                }
                ClientEvent::CubeTaken { by, .. } => Some(by),
                ClientEvent::Refused { holder, .. } => holder,
                _ => None,
            };
            let by = by.and_then(|by| Cube::find(player, by));
            Self { event, by }
        };
        events.into_iter().map(with_cube).collect()
    }

    /// Makes the object.
    pub(crate) fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let module = py.import(MODULE)?;
        let name = self.by.as_ref().map(|by| &by.name);
        match &self.event {
            ClientEvent::Joined(welcome) | ClientEvent::Rejoined(welcome) => {
                // After a moment without a connection it is where it was shown, not where the server has it.
                let shown = self.by.as_ref().map(|own| (own.position, own.rotation));
                let (position, rotation) = shown.unwrap_or_else(|| parts(welcome.pose));
                let is_new = matches!(self.event, ClientEvent::Joined(_));
                let (room, name) = (&welcome.room, &welcome.name);
                let mps = welcome.max_speed as f32 / QUANTA_PER_METRE;
                let max_speed = (welcome.max_speed > 0).then_some(mps);
                let fields = (
                    room,
                    name,
                    welcome.cube.0,
                    position,
                    rotation,
                    is_new,
                    max_speed,
                );
                module.getattr("Connected")?.call1(fields)
            }
            ClientEvent::CubeJoined(info) => {
                module.getattr("Joined")?.call1((info.cube.0, &info.name))
            }
            ClientEvent::CubeLeft(info) => module.getattr("Left")?.call1((info.cube.0, &info.name)),
            ClientEvent::CubeTaken { cube, by } => {
                module.getattr("Taken")?.call1((cube.0, by.0, name))
            }
            ClientEvent::CubeFreed { cube } => module.getattr("Freed")?.call1((cube.0,)),
            ClientEvent::Refused { cube, holder } => {
                let holder = holder.map(|CubeId(id)| id);
                module.getattr("Refused")?.call1((cube.0, holder, name))
            }
            ClientEvent::Corrected(to) => {
                let (position, rotation) = parts(to.pose);
                module
                    .getattr("Corrected")?
                    .call1((to.cube.0, position, rotation))
            }
            ClientEvent::Disconnected { reason } => module.getattr("Lost")?.call1((reason,)),
        }
    }
}

/// The state of a player's connection.
pub(crate) struct Report {
    state: &'static str,
    text: String,
    address: String,
    ping_ms: Option<f64>,
    delay_ms: f64,
    players: usize,
}

impl Report {
    /// Reads the state of a player's connection.
    pub(crate) fn of(player: &Player) -> Self {
        let client = player.client();
        let (status, statistics) = (client.status(), client.statistics());
        let state = match status {
            Status::Connecting | Status::Joining => "connecting",
            Status::Joined => "joined",
            Status::Waiting { .. } => "waiting",
            Status::Failed { .. } => "ended",
        };
        let address = client.server().to_owned();
        let text = match (&status, client.welcome(), client.trouble()) {
            (Status::Joined, Some(welcome), _) => {
                format!("in room {} as {} at {address}", welcome.room, welcome.name)
            }
            (Status::Connecting, _, Some(trouble)) => {
                format!("{status} to {address} again ({trouble})")
            }
            (Status::Connecting, _, None) => format!("{status} to {address}"),
            _ => status.to_string(),
        };
        Self {
            state,
            text,
            address,
            ping_ms: statistics.round_trip.map(|time| time.as_secs_f64() * 1e3),
            delay_ms: statistics.playout_delay.as_secs_f64() * 1e3,
            players: statistics.players,
        }
    }

    /// Makes the object.
    pub(crate) fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Self {
            state,
            text,
            address,
            ping_ms,
            delay_ms,
            players,
        } = self;
        let class = py.import(MODULE)?.getattr("Status")?;
        class.call1((state, text, address, ping_ms, delay_ms, players))
    }
}

/// A position in metres, and a quaternion.
pub(crate) type Place = ((f32, f32, f32), (f32, f32, f32, f32));

/// Returns a pose as Python has it.
pub(crate) fn parts(pose: Pose) -> Place {
    let position = pose.position.to_metres().into();
    (position, pose.rotation.to_quaternion().into())
}
