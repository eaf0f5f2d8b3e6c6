//! An edge's replicas as the source of its audience.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use cubesync_protocol::cells::Sight;
use cubesync_protocol::motion::MotionState;
use cubesync_protocol::{CellId, CubeId, Message, Position, Replica, ServerMessage};
use cubesync_relay::room::audience::{Moving, Source};
use cubesync_relay::room::log::{LogFrame, StreamId};
use cubesync_relay::room::plain::{PlainState, PlainStreams};
use cubesync_relay::room::publisher::{self, Encoded};

/// What an edge has of the room's streams: a replica of those of every tick, and one of those for
/// receivers that see a cell from afar.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub(super) near: Replica,
    pub(super) far: Replica,
    /// The streams that receivers see, and those that they are to see once the owner sends them.
    seen: BTreeSet<(CellId, Sight)>,
    wanted: BTreeSet<(CellId, Sight)>,
    /// The view that the owner knows of.
    asked: Vec<(CellId, Sight)>,
    plain: PlainStreams,
    /// Where players were seen last, while their cells are not here.
    viewpoints: BTreeMap<CubeId, Position>,
}

/// The streams, while a tick is served.
#[derive(Debug)]
pub(super) struct EdgeSource<'a> {
    streams: &'a mut Streams,
    tick: u64,
    keyframes: BTreeMap<(CellId, Sight), Bytes>,
    /// Where the free cubes are that each player holds.
    held: HashMap<CubeId, Vec<Position>>,
}

impl Streams {
    /// Returns the source of what receivers see as of a tick.
    pub(super) fn at(&mut self, tick: u64) -> EdgeSource<'_> {
        EdgeSource {
            streams: self,
            tick,
            keyframes: BTreeMap::new(),
            held: HashMap::new(),
        }
    }

    /// Forgets what the owner has sent, since another link begins. What receivers see stays wanted.
    pub(super) fn restart(&mut self) {
        self.near = Replica::default();
        self.far = Replica::default();
        self.asked = Vec::new();
    }

    /// Returns the replica of the streams with a sight.
    pub(super) fn replica(&self, sight: Sight) -> &Replica {
        match sight {
            Sight::Near | Sight::Plain => &self.near,
            Sight::Far => &self.far,
        }
    }

    /// Returns the replica of the streams with a sight.
    pub(super) fn replica_mut(&mut self, sight: Sight) -> &mut Replica {
        match sight {
            Sight::Near | Sight::Plain => &mut self.near,
            Sight::Far => &mut self.far,
        }
    }

    /// Returns the frames of the plain streams at a tick, at which the replicas are.
    pub(super) fn plain_frames(&mut self, tick: u64) -> Vec<(StreamId, LogFrame)> {
        let Self { near, plain, .. } = self;
        let info = |cube| near.cube(cube).cloned();
        let snapshots = plain.tick(tick, |cell| plain_states(near, cell), info);
        publisher::frames(snapshots.into_iter().map(Encoded::from).collect())
    }

    /// Returns the predicted state of a cube at a tick that is not earlier than the newest one, if its cell
    /// is here.
    pub(super) fn state_at(&self, cube: CubeId, tick: u64) -> Option<MotionState> {
        let near = self.near.state_at(cube, tick);
        near.or_else(|| self.far.state_at(cube, tick))
    }

    /// Notes where a player's cube is, until its cell is here.
    pub(super) fn set_viewpoint(&mut self, player: CubeId, position: Position) {
        self.viewpoints.insert(player, position);
    }

    /// Notes where a cube has gone that is not here, if it is a player's of this server.
    pub(super) fn move_viewpoint(&mut self, player: CubeId, position: Position) {
        if let Some(known) = self.viewpoints.get_mut(&player) {
            *known = position;
        }
    }

    /// Forgets a player's place.
    pub(super) fn forget(&mut self, player: CubeId) {
        self.viewpoints.remove(&player);
    }

    /// Returns the streams to ask the owner for, if they are others than before.
    pub(super) fn view_to_ask(&mut self) -> Option<Vec<(CellId, Sight)>> {
        let of_owner = |&(cell, sight)| match sight {
            Sight::Near | Sight::Plain => (cell, Sight::Near),
            Sight::Far => (cell, Sight::Far),
        };
        let mut view: Vec<_> = self.seen.union(&self.wanted).map(of_owner).collect();
        view.sort_unstable();
        view.dedup();
        if view == self.asked {
            return None;
        }
        self.asked.clone_from(&view);
        Some(view)
    }

    /// Forgets the wishes of receivers that may choose other views now.
    pub(super) fn begin_choice(&mut self) {
        self.wanted.clear();
    }
}

impl EdgeSource<'_> {
    /// Finds what players hold, for a tick at which they may choose other views.
    pub(super) fn with_held_cubes(mut self) -> Self {
        let near = &self.streams.near;
        for cube in near.cubes() {
            if let (Some(holder), Some(pose)) = (cube.holder(), near.pose(cube.cube)) {
                self.held.entry(holder).or_default().push(pose.position);
            }
        }
        self
    }
}

impl Source for EdgeSource<'_> {
    fn moving(&self) -> Moving {
        let streams = self.streams.near.streams();
        let mut moving =
            streams.flat_map(|(_, stream)| stream.motion().active().map(|(cube, _)| cube));
        match (moving.next(), moving.next()) {
            (None, _) => Moving::Nobody,
            (Some(sole), None) => Moving::Sole(sole),
            (Some(_), Some(_)) => Moving::Several,
        }
    }

    fn open(&mut self, cell: CellId, sight: Sight) {
        self.streams.seen.insert((cell, sight));
        if sight == Sight::Plain {
            let states = plain_states(&self.streams.near, cell).into_iter().flatten();
            self.streams.plain.open(cell, states);
        }
    }

    fn close(&mut self, cell: CellId, sight: Sight) {
        self.streams.seen.remove(&(cell, sight));
        if sight == Sight::Plain {
            self.streams.plain.close(cell);
        }
    }

    fn provide(&mut self, cell: CellId, sight: Sight) -> bool {
        let is_here = self.streams.replica(sight).stream(cell).is_some();
        if !is_here {
            self.streams.wanted.insert((cell, sight));
        }
        is_here
    }

    fn keyframe(&mut self, cell: CellId, sight: Sight) -> Bytes {
        let Self {
            streams,
            tick,
            keyframes,
            ..
        } = self;
        let make = || {
            if sight == Sight::Plain {
                let info = |cube| streams.near.cube(cube).cloned();
                let whole = streams.plain.whole(cell, *tick, info);
                return ServerMessage::PlainSnapshot(whole).to_frame();
            }
            let keyframe = streams.replica(sight).keyframe_of(cell, *tick);
            // A view has only streams that are here.
            keyframe.map_or_else(Bytes::new, |keyframe| {
                ServerMessage::Keyframe(keyframe).to_frame()
            })
        };
        keyframes.entry((cell, sight)).or_insert_with(make).clone()
    }

    fn viewpoints(&self, player: CubeId) -> impl Iterator<Item = Position> {
        let own = self.streams.near.pose(player).map(|pose| pose.position);
        let own = own.or_else(|| self.streams.viewpoints.get(&player).copied());
        let held = self.held.get(&player).into_iter().flatten();
        own.into_iter().chain(held.copied())
    }
}

/// Returns where a replica has the cubes of a cell; `None`: it does not have the cell.
fn plain_states(replica: &Replica, cell: CellId) -> Option<impl Iterator<Item = PlainState>> {
    let poses = replica.stream(cell)?.motion().poses();
    Some(poses.filter_map(|(cube, pose)| Some((cube, replica.cube(cube)?.kind, pose))))
}
