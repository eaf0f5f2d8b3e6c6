//! A cube as an object, and cubes as records.

use cubesync_client::CubeView;
use cubesync_client::protocol::{CubeId, CubeKind};
use pyo3::prelude::*;

use crate::player::Player;

/// Bytes of a cube's record; `cubesync.DTYPE` in `python/cubesync/__init__.py` says where each field is.
pub(crate) const RECORD_BYTES: usize = 56;
/// The holder in the record of a cube that nobody holds.
const NOBODY: i64 = -1;

/// A cube as it is to be drawn now.
#[pyclass(module = "cubesync", frozen, get_all)]
pub(crate) struct Cube {
    /// Its id, which no other cube of the room ever has.
    pub(crate) id: u64,
    /// Its player's name; loose cubes may have none.
    pub(crate) name: String,
    /// "player", "free" or "ghost": the cube of a player whose connection is lost.
    kind: &'static str,
    /// The own cube of whoever holds this one, if anybody does.
    holder: Option<u64>,
    /// Red, green and blue, 0 to 255.
    colour: (u8, u8, u8),
    /// The length of its edges, in metres.
    width: f32,
    /// Its centre, in metres; z is up.
    pub(crate) position: (f32, f32, f32),
    /// A quaternion (x, y, z, w).
    pub(crate) rotation: (f32, f32, f32, f32),
    /// Whether it is this client's own cube.
    is_own: bool,
    /// Whether it may be elsewhere by now, because nothing has been received for a while.
    is_stale: bool,
}

impl Cube {
    /// Returns the cube with an id, if it is in sight.
    pub(crate) fn find(player: &Player, cube: CubeId) -> Option<Self> {
        let views = player.client().cubes(player.now());
        views.iter().find(|view| view.cube == cube).map(Self::from)
    }
}

#[pymethods]
impl Cube {
    fn __repr__(&self) -> String {
        let (x, y, z) = self.position;
        let Self { id, kind, name, .. } = self;
        format!("<cubesync.Cube {id}: {kind} {name:?} at ({x:.2}, {y:.2}, {z:.2})>")
    }
}

impl From<&CubeView<'_>> for Cube {
    fn from(view: &CubeView<'_>) -> Self {
        let (_, kind, holder) = kind(view);
        Self {
            id: view.cube.0,
            name: view.name.to_owned(),
            kind,
            holder: holder.map(|by| by.0),
            colour: <[u8; 3]>::from(view.colour).into(),
            width: view.width_m,
            position: view.position.into(),
            rotation: view.rotation.into(),
            is_own: view.own,
            is_stale: view.stale,
        }
    }
}

/// Appends a cube's record.
pub(crate) fn append_record(view: &CubeView<'_>, records: &mut Vec<u8>) {
    let (kind, _, holder) = kind(view);
    records.extend(view.cube.0.to_le_bytes());
    // Ids are below 2^53.
    let holder = holder.map_or(NOBODY, |by| by.0 as i64);
    records.extend(holder.to_le_bytes());
    let numbers = view.position.iter().chain(&view.rotation);
    records.extend(
        numbers
            .chain([&view.width_m])
            .flat_map(|number| number.to_le_bytes()),
    );
    records.extend(<[u8; 3]>::from(view.colour));
    records.extend([kind, view.own.into(), view.stale.into(), 0, 0]);
}

/// Returns a cube's kind as a number, which is its place in `cubesync.KINDS`, and by name, and the holder.
fn kind(view: &CubeView<'_>) -> (u8, &'static str, Option<CubeId>) {
    match view.kind {
        CubeKind::Player => (0, "player", None),
        CubeKind::Free { holder } => (1, "free", holder),
        CubeKind::Ghost => (2, "ghost", None),
    }
}
