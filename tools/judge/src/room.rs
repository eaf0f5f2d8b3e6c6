//! The room of a scripted server: what its messages are, and where a right receiver of them has each cube.
//!
//! The judge's own [`Replica`] takes in all that is sent, so it is both what a tick is encoded from and what
//! the client's cubes are compared with.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use cubesync_protocol::motion::{MotionSet, MotionState};
use cubesync_protocol::{
    CellId, CubeId, CubeInfo, CubeKind, CubePose, Event, Keyframe, PlainCube, PlainSnapshot, Pose,
    Position, Replica, Rotation, ServerMessage, Snapshot,
};

/// The cell of the client's own cube, and another one.
pub(crate) const HERE: CellId = CellId(0);
pub(crate) const THERE: CellId = CellId(17);
/// The client's own cube, the one that it follows, another player's, and a free one.
pub(crate) const OWN: CubeId = CubeId(7);
pub(crate) const TARGET: CubeId = CubeId(3);
pub(crate) const OTHER: CubeId = CubeId(5);
pub(crate) const PRIZE: CubeId = CubeId(2);
/// The name of the free cube.
pub(crate) const PRIZE_NAME: &str = "prize";

/// A scripted room.
pub(crate) struct Room {
    pub(crate) replica: Replica,
    /// Where the script has put cubes; all others are as predicted.
    truth: BTreeMap<CubeId, Pose>,
    /// The cell that claimed each cube last.
    claims: BTreeMap<CubeId, CellId>,
    /// Where a client of the plain encoding was told that cubes are.
    told: BTreeMap<CubeId, Pose>,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self {
            replica: Replica::default(),
            truth: BTreeMap::new(),
            claims: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Puts a cube somewhere, from the next tick on.
    pub(crate) fn put(&mut self, cube: CubeId, pose: Pose) {
        self.truth.insert(cube, pose);
    }

    /// Lets a cube go on as predicted.
    pub(crate) fn let_go(&mut self, cube: CubeId) {
        self.truth.remove(&cube);
    }

    /// Returns the keyframe of a cell with these cubes, by rising id.
    pub(crate) fn keyframe(
        &mut self,
        cell: CellId,
        interval_ticks: u8,
        tick: u64,
        mut cubes: Vec<CubeInfo>,
    ) -> ServerMessage {
        cubes.sort_by_key(|info| info.cube);
        self.claims.retain(|_, claimed| *claimed != cell);
        for info in &cubes {
            self.truth.remove(&info.cube);
            self.claims.insert(info.cube, cell);
        }
        ServerMessage::Keyframe(Keyframe {
            cell,
            interval_ticks,
            tick,
            cubes,
        })
    }

    /// Returns the predicted states of a cell at a tick, before anything happens in it.
    pub(crate) fn motion_at(&self, cell: CellId, tick: u64) -> Result<MotionSet> {
        let stream = self.replica.stream(cell);
        let stream = stream.context("the script names a cell without a keyframe")?;
        let mut set = stream.motion().clone();
        set.advance_to(tick);
        Ok(set)
    }

    /// Returns the snapshot of a cell at a tick; `None` if nothing has happened in it.
    pub(crate) fn snapshot(
        &mut self,
        cell: CellId,
        tick: u64,
        events: Vec<Event>,
    ) -> Result<Option<ServerMessage>> {
        let mut set = self.motion_at(cell, tick)?;
        for event in &events {
            match event {
                Event::Joined(_) | Event::Entered(_) => {
                    self.claims.insert(event.cube(), cell);
                }
                Event::Left { .. } | Event::Exited { .. }
                    if self.claims.get(&event.cube()) == Some(&cell) =>
                {
                    self.claims.remove(&event.cube());
                }
                _ => {}
            }
            if let Event::Joined(_) | Event::Entered(_) | Event::Placed { .. } = event {
                self.truth.remove(&event.cube());
            }
            event.apply_to(&mut set);
        }
        let residuals = self.residuals(cell, &mut set);
        if events.is_empty() && residuals.is_empty() {
            return Ok(None);
        }
        Ok(Some(ServerMessage::Snapshot(Snapshot {
            cell,
            tick,
            events,
            residuals: residuals.into(),
        })))
    }

    /// Takes in a message that is sent.
    pub(crate) fn take_in(&mut self, message: &ServerMessage) -> Result<()> {
        let changes = self.replica.take_in(message);
        changes.context("the script contradicts the protocol")?;
        Ok(())
    }

    /// Returns what a client of the plain encoding is sent instead of a message that has been taken in: nothing but
    /// plain snapshots for what is about cubes.
    pub(crate) fn plain(&mut self, message: ServerMessage) -> Vec<ServerMessage> {
        let tick = self.replica.tick();
        match message {
            ServerMessage::Keyframe(Keyframe { cell, cubes, .. }) => {
                let named = cubes.iter().map(|info| info.cube).collect();
                vec![self.plain_snapshot(cell, tick, true, named, Vec::new())]
            }
            ServerMessage::Snapshot(Snapshot { cell, events, .. }) => {
                let is_gone =
                    |event: &Event| matches!(event, Event::Left { .. } | Event::Exited { .. });
                let (gone, others): (Vec<_>, Vec<_>) =
                    events.iter().partition(|event| is_gone(event));
                let is_named = |event: &&&Event| !matches!(event, Event::Placed { .. });
                let named = others
                    .iter()
                    .filter(is_named)
                    .map(|event| event.cube())
                    .collect();
                let mut gone: Vec<_> = gone.iter().map(|event| event.cube()).collect();
                gone.sort_unstable();
                vec![self.plain_snapshot(cell, tick, false, named, gone)]
            }
            ServerMessage::Heartbeat { .. } => {
                let cells: Vec<_> = self.replica.streams().map(|(cell, _)| cell).collect();
                let moved = cells
                    .into_iter()
                    .map(|cell| self.plain_snapshot(cell, tick, false, Vec::new(), Vec::new()));
                let moved: Vec<_> = moved.filter(|message| !is_empty(message)).collect();
                match moved.is_empty() {
                    true => vec![message],
                    false => moved,
                }
            }
            _ => vec![message],
        }
    }

    /// Returns a plain snapshot with these cubes whole, and the poses of the others of the cell that have moved.
    fn plain_snapshot(
        &mut self,
        cell: CellId,
        tick: u64,
        is_whole: bool,
        mut named: Vec<CubeId>,
        gone: Vec<CubeId>,
    ) -> ServerMessage {
        named.sort_unstable();
        named.dedup();
        let (mut cubes, mut moved) = (Vec::new(), Vec::new());
        for (&cube, _) in self.claims.iter().filter(|(_, claimed)| **claimed == cell) {
            let (Some(info), Some(pose)) = (self.replica.cube(cube), self.replica.pose(cube))
            else {
                continue;
            };
            if named.binary_search(&cube).is_ok() {
                cubes.push(PlainCube {
                    cube,
                    kind: info.kind,
                    name: info.name.clone(),
                    colour: info.colour,
                    width: info.width,
                    pose,
                });
            } else if gone.binary_search(&cube).is_err() && self.told.get(&cube) != Some(&pose) {
                moved.push(CubePose { cube, pose });
            } else {
                continue;
            }
            self.told.insert(cube, pose);
        }
        ServerMessage::PlainSnapshot(PlainSnapshot {
            cell,
            tick,
            is_whole,
            cubes,
            gone,
            moved,
        })
    }

    /// Whether all cubes that the script has put somewhere stand there.
    pub(crate) fn is_settled(&self) -> bool {
        self.truth.iter().all(|(&cube, truth)| {
            let state = self.replica.state(cube);
            state.is_none_or(|state| state.is_still() && is_near(state_pose(&state), *truth))
        })
    }

    /// Whether a cube moves.
    pub(crate) fn moves(&self) -> bool {
        let mut streams = self.replica.streams();
        streams.any(|(_, stream)| stream.motion().active().any(|(_, state)| !state.is_still()))
    }

    /// Returns where a right receiver has the cube with a name at the newest tick.
    pub(crate) fn named(&self, name: &str) -> Option<Pose> {
        let cube = self.replica.cubes().find(|info| info.name == name)?.cube;
        self.replica.pose(cube)
    }

    /// Encodes the cubes of a cell that are not where the script has put them. A cube that another cell has
    /// claimed is as predicted.
    fn residuals(&self, cell: CellId, set: &mut MotionSet) -> Vec<u8> {
        let predicted: BTreeMap<_, _> = set.poses().collect();
        let mut residuals = Vec::new();
        let truth = |cube| {
            let put = self
                .truth
                .get(&cube)
                .filter(|_| self.claims.get(&cube) == Some(&cell));
            put.copied().unwrap_or(predicted[&cube])
        };
        set.encode_tick(truth, &mut residuals);
        residuals
    }
}

fn is_empty(message: &ServerMessage) -> bool {
    match message {
        ServerMessage::PlainSnapshot(snapshot) => snapshot.moved.is_empty(),
        _ => false,
    }
}

fn state_pose(state: &MotionState) -> Pose {
    state.pose(&cubesync_protocol::motion::Codec::LIVE)
}

/// Whether two poses are as near as a client must come: within 3 quanta, two of which the codec leaves out and
/// one of which metres may round, and within 2.5°.
pub(crate) fn is_near(a: Pose, b: Pose) -> bool {
    const QUANTA: i32 = 3;
    const LEAST_COSINE: f32 = 0.999_76; // Of half the angle.
    let [a_at, b_at] = [a, b].map(|pose| [pose.position.x, pose.position.y, pose.position.z]);
    let is_at = a_at
        .iter()
        .zip(b_at)
        .all(|(a, b)| a.abs_diff(b) <= QUANTA as u32);
    let [a, b] = [a, b].map(|pose| pose.rotation.to_quaternion());
    is_at && a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>().abs() >= LEAST_COSINE
}

/// Returns an upright pose, in metres.
pub(crate) fn at(x: f32, y: f32, z: f32) -> Pose {
    turned(x, y, z, [0.0, 0.0, 0.0, 1.0])
}

/// Returns a pose with a rotation, in metres.
pub(crate) fn turned(x: f32, y: f32, z: f32, quaternion: [f32; 4]) -> Pose {
    Pose {
        position: Position::from_metres([x, y, z]),
        rotation: Rotation::from_quaternion(quaternion),
    }
}

/// Returns a player's cube that stands.
pub(crate) fn player(cube: CubeId, name: &str, pose: Pose) -> CubeInfo {
    CubeInfo {
        cube,
        kind: CubeKind::Player,
        name: name.to_owned(),
        colour: [0xE0, 0x80, 0x20].into(),
        width: Default::default(),
        motion: MotionState::at_rest(pose),
    }
}

/// Returns a free cube that stands.
pub(crate) fn free(cube: CubeId, name: &str, pose: Pose) -> CubeInfo {
    CubeInfo {
        kind: CubeKind::Free { holder: None },
        ..player(cube, name, pose)
    }
}
