//! The publisher: encodes the changes of a tick once, for all receivers.
//!
//! Each cell has a stream of every tick, for receivers that are near. While a receiver sees the cell
//! from afar, it has a second stream, of every fourth tick. Each stream has a predicted state of its own. A third one, for
//! receivers that do not predict, says where the first one's predicted states are.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use cubesync_protocol::cells::{Grid, Sight};
use cubesync_protocol::limits::FAR_INTERVAL_TICKS;
use cubesync_protocol::motion::{Codec, MotionSet, MotionState, Updated};
use cubesync_protocol::{
    CellId, CubeId, Event, Keyframe, Message, PlainSnapshot, Pose, Position, ServerMessage,
    Snapshot,
};

use super::audience::{Moving, Source};
use super::log::{LogFrame, StreamId};
use super::plain::{PlainState, PlainStreams};
use super::world::{Changes, World};

/// A room's streams, and the states that their receivers predict.
#[derive(Debug)]
pub struct Publisher {
    grid: Grid,
    tick: u64,
    /// All cells of the room, by their id.
    cells: Vec<Cell>,
    places: BTreeMap<CubeId, CellId>,
    plain: PlainStreams,
    /// The keyframes of the last tick that receivers needed so far.
    keyframes: HashMap<StreamId, Bytes>,
}

/// A cell's streams.
#[derive(Debug)]
struct Cell {
    id: CellId,
    near: Stream,
    /// The events of the tick that is being encoded.
    events: Vec<Event>,
    /// The cubes that may be elsewhere than predicted.
    touched: Vec<CubeId>,
    /// The second stream, while a receiver sees the cell from afar.
    far: Option<FarStream>,
}

/// The state of a cell's cubes that the receivers of one stream predict.
#[derive(Debug, Clone)]
struct Stream {
    predicted: MotionSet,
}

/// The stream of a cell that is seen from afar.
#[derive(Debug)]
struct FarStream {
    stream: Stream,
    /// The events of the ticks since its last one.
    events: Vec<Event>,
    touched: Vec<CubeId>,
}

/// What a stream has at a tick.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The stream.
    pub stream: StreamId,
    /// The changes of its cell.
    pub message: ServerMessage,
    /// The only cube that the snapshot is about, if there is only one and nothing but its motion.
    pub sole: Option<CubeId>,
}

impl From<PlainSnapshot> for Encoded {
    fn from(snapshot: PlainSnapshot) -> Self {
        Self {
            stream: StreamId::new(snapshot.cell, Sight::Plain),
            message: ServerMessage::PlainSnapshot(snapshot),
            sole: None,
        }
    }
}

impl Publisher {
    /// Creates the streams of a room without cubes.
    pub fn new(grid: Grid) -> Self {
        let cell = |id| Cell {
            id: CellId(id as u16),
            near: Stream::default(),
            events: Vec::new(),
            touched: Vec::new(),
            far: None,
        };
        Self {
            grid,
            tick: 0,
            cells: (0..grid.cells()).map(cell).collect(),
            places: BTreeMap::new(),
            plain: PlainStreams::default(),
            keyframes: HashMap::new(),
        }
    }

    /// Returns the largest number of streams; their indices are below it.
    pub fn streams(&self) -> usize {
        StreamId::count(self.cells.len())
    }

    /// Encodes the changes of a tick, and returns the snapshots of the streams that have some. `world` is as
    /// after that tick.
    pub fn tick(&mut self, tick: u64, changes: Changes, world: &World) -> Vec<Encoded> {
        let is_far_due =
            tick / u64::from(FAR_INTERVAL_TICKS) > self.tick / u64::from(FAR_INTERVAL_TICKS);
        self.tick = tick;
        self.keyframes.clear();
        for cell in &mut self.cells {
            cell.near.predicted.advance_to(tick);
        }
        for event in changes.events {
            self.apply(event);
        }
        for cube in changes.touched {
            self.touch(cube, world);
        }
        let truth = |cube| world.pose(cube).unwrap_or_default();
        let mut snapshots = Vec::new();
        for cell in &mut self.cells {
            snapshots.extend(cell.encode(truth));
            if let Some(far) = &mut cell.far
                && is_far_due
            {
                snapshots.extend(far.encode(tick, cell.id, &cell.near.predicted, truth));
            }
        }
        let Self { plain, cells, .. } = self;
        let states = |cell: CellId| Some(cells.get(usize::from(cell.0))?.near.plain_states(world));
        let plain = plain.tick(tick, states, |cube| world.state(cube));
        snapshots.extend(plain.into_iter().map(Encoded::from));
        snapshots
    }

    /// Returns whether any cell has a stream for receivers that see it from afar.
    #[cfg(test)]
    pub(super) fn is_seen_from_afar(&self) -> bool {
        self.cells.iter().any(|cell| cell.far.is_some())
    }

    /// Returns whether any cell has a stream for receivers that do not predict.
    #[cfg(test)]
    pub(super) fn has_plain_streams(&self) -> bool {
        self.plain.has_any()
    }

    /// Lends the publisher, with the world as after the last tick, to its audience.
    pub fn with<'a>(&'a mut self, world: &'a World) -> Published<'a> {
        Published {
            publisher: self,
            world,
        }
    }

    /// Returns all of a cell as of the last tick. `sight` says for which of its streams.
    fn everything_in(&self, cell: CellId, sight: Sight, world: &World) -> ServerMessage {
        let known = &self.cells[usize::from(cell.0)];
        let (stream, interval_ticks) = match (sight, &known.far) {
            (Sight::Plain, _) => {
                let info = |cube| world.state(cube);
                return ServerMessage::PlainSnapshot(self.plain.whole(cell, self.tick, info));
            }
            (Sight::Far, Some(far)) => (&far.stream, FAR_INTERVAL_TICKS),
            _ => (&known.near, 1),
        };
        debug_assert_eq!(
            stream.predicted.tick(),
            self.tick,
            "a keyframe is of the last tick"
        );
        let info = |(cube, motion): (CubeId, &MotionState)| world.info(cube, *motion);
        ServerMessage::Keyframe(Keyframe {
            cell,
            interval_ticks,
            tick: self.tick,
            cubes: stream.predicted.iter().filter_map(info).collect(),
        })
    }

    /// Returns how receivers predict a cube to move.
    pub fn predicted(&self, cube: CubeId) -> Option<&MotionState> {
        let cell = self.places.get(&cube)?;
        self.cells[usize::from(cell.0)].near.predicted.get(cube)
    }

    /// Returns which cubes are predicted to move.
    pub fn moving(&self) -> Moving {
        let near = self.cells.iter().map(|cell| &cell.near.predicted);
        let mut moving = near.flat_map(|predicted| predicted.active().map(|(cube, _)| cube));
        match (moving.next(), moving.next()) {
            (None, _) => Moving::Nobody,
            (Some(sole), None) => Moving::Sole(sole),
            (Some(_), Some(_)) => Moving::Several,
        }
    }

    /// Applies an event to the cell of its cube.
    fn apply(&mut self, event: Event) {
        let (cube, cell) = match &event {
            Event::Joined(info) | Event::Entered(info) => {
                let cell = self.grid.cell(info.motion.pose(&Codec::LIVE).position);
                self.places.insert(info.cube, cell);
                (info.cube, Some(cell))
            }
            Event::Left { cube } | Event::Exited { cube } => (*cube, self.places.remove(cube)),
            Event::Taken { cube, .. }
            | Event::Freed { cube }
            | Event::Ghost { cube }
            | Event::Returned { cube }
            | Event::Placed { cube, .. } => (*cube, self.places.get(cube).copied()),
        };
        debug_assert!(cell.is_some(), "cube {cube} is in no cell");
        if let Some(cell) = cell {
            self.cells[usize::from(cell.0)].apply(event);
        }
    }

    /// Handles a cube that may have moved, perhaps to another cell.
    fn touch(&mut self, cube: CubeId, world: &World) {
        let (Some(place), Some(pose)) = (self.places.get_mut(&cube), world.pose(cube)) else {
            return;
        };
        let before = std::mem::replace(place, self.grid.next_cell(*place, pose.position));
        let now = *place;
        if before != now {
            let from = &mut self.cells[usize::from(before.0)];
            let motion = from.near.predicted.get(cube).copied();
            from.apply(Event::Exited { cube });
            let info = motion.and_then(|motion| world.info(cube, motion));
            let info =
                info.expect("a cube in a cell is in the world and in the cell's predicted state");
            self.cells[usize::from(now.0)].apply(Event::Entered(info));
        }
        let cell = &mut self.cells[usize::from(now.0)];
        if let Some(motion) = world.motion(cube)
            && !cell.near.is_in_step(cube, pose, &motion)
        {
            cell.apply(Event::Placed { cube, motion });
        }
        cell.touched.push(cube);
    }
}

/// A publisher and its world, as the source of an audience.
#[derive(Debug)]
pub struct Published<'a> {
    publisher: &'a mut Publisher,
    world: &'a World,
}

impl Source for Published<'_> {
    fn moving(&self) -> Moving {
        self.publisher.moving()
    }

    fn open(&mut self, cell: CellId, sight: Sight) {
        let known = &mut self.publisher.cells[usize::from(cell.0)];
        match sight {
            Sight::Near => {}
            Sight::Far => {
                known.far = Some(FarStream {
                    stream: known.near.clone(),
                    events: Vec::new(),
                    touched: Vec::new(),
                });
            }
            Sight::Plain => {
                let states = known.near.plain_states(self.world);
                self.publisher.plain.open(cell, states);
            }
        }
    }

    fn close(&mut self, cell: CellId, sight: Sight) {
        match sight {
            Sight::Near => {}
            Sight::Far => self.publisher.cells[usize::from(cell.0)].far = None,
            Sight::Plain => self.publisher.plain.close(cell),
        }
    }

    /// Encodes a keyframe once a tick, however many receivers need it.
    fn keyframe(&mut self, cell: CellId, sight: Sight) -> Bytes {
        let Self { publisher, world } = self;
        let stream = StreamId::new(cell, sight);
        if let Some(known) = publisher.keyframes.get(&stream) {
            return known.clone();
        }
        let frame = publisher.everything_in(cell, sight, world).to_frame();
        publisher.keyframes.insert(stream, frame.clone());
        frame
    }

    fn viewpoints(&self, player: CubeId) -> impl Iterator<Item = Position> {
        self.world.viewpoints(player)
    }
}

/// Returns the only cube that has moved, if nothing else has happened.
fn sole(events: &[Event], updated: Updated) -> Option<CubeId> {
    let cube = match (updated, events.first()) {
        (Updated { count: 0, .. }, Some(first)) => first.cube(),
        (Updated { sole, .. }, _) => sole?,
    };
    let is_motion =
        |event: &Event| matches!(event, Event::Placed { cube: placed, .. } if *placed == cube);
    events.iter().all(is_motion).then_some(cube)
}

/// Encodes snapshots as the frames that the log keeps.
pub fn frames(encoded: Vec<Encoded>) -> Vec<(StreamId, LogFrame)> {
    let frame = |encoded: Encoded| {
        let bytes = encoded.message.to_frame();
        let sole = encoded.sole;
        (encoded.stream, LogFrame { bytes, sole })
    };
    encoded.into_iter().map(frame).collect()
}

impl Cell {
    fn apply(&mut self, event: Event) {
        event.apply_to(&mut self.near.predicted);
        self.events.push(event);
    }

    fn encode(&mut self, truth: impl Fn(CubeId) -> Pose) -> Option<Encoded> {
        let events = std::mem::take(&mut self.events);
        let touched = std::mem::take(&mut self.touched);
        if let Some(far) = &mut self.far {
            far.events.extend_from_slice(&events);
            far.touched.extend_from_slice(&touched);
        }
        let stream = StreamId::new(self.id, Sight::Near);
        self.near.encode(self.id, stream, events, touched, truth)
    }
}

impl FarStream {
    fn encode(
        &mut self,
        tick: u64,
        cell: CellId,
        near: &MotionSet,
        truth: impl Fn(CubeId) -> Pose,
    ) -> Option<Encoded> {
        self.stream.predicted.advance_to(tick);
        let mut events = std::mem::take(&mut self.events);
        events.retain_mut(|event| match event {
            // The cube has moved on since it came in, perhaps to another cell.
            Event::Joined(info) | Event::Entered(info) => {
                near.get(info.cube).map(|now| info.motion = *now).is_some()
            }
            // Receivers that see the cell from afar are not in step with the cube's client anyway.
            Event::Placed { .. } => false,
            _ => true,
        });
        for event in &events {
            event.apply_to(&mut self.stream.predicted);
        }
        let touched = std::mem::take(&mut self.touched);
        let stream = StreamId::new(cell, Sight::Far);
        self.stream.encode(cell, stream, events, touched, truth)
    }
}

impl Default for Stream {
    /// Creates a stream without cubes.
    fn default() -> Self {
        Self {
            predicted: MotionSet::new(&Codec::LIVE),
        }
    }
}

impl Stream {
    /// Returns whether receivers predict the same motion of a cube as its player's client, which moves
    /// it by `motion`: either now, or once they have the residuals for `pose`. Otherwise the way up and the
    /// way down each add an error of their own.
    fn is_in_step(&self, cube: CubeId, pose: Pose, motion: &MotionState) -> bool {
        let moves_alike = |state: &MotionState| state.moves_like(motion);
        let predicted = self.predicted.get(cube);
        predicted.is_none_or(moves_alike)
            || self
                .predicted
                .foresee(cube, pose)
                .as_ref()
                .is_some_and(moves_alike)
    }

    /// Returns where receivers predict the cubes to be.
    fn plain_states(&self, world: &World) -> impl Iterator<Item = PlainState> {
        let poses = self.predicted.poses();
        poses.filter_map(|(cube, pose)| Some((cube, world.kind(cube)?, pose)))
    }

    /// Encodes the changes of a tick; `None` when there are none.
    fn encode(
        &mut self,
        cell: CellId,
        stream: StreamId,
        events: Vec<Event>,
        touched: Vec<CubeId>,
        truth: impl Fn(CubeId) -> Pose,
    ) -> Option<Encoded> {
        let mut residuals = Vec::new();
        let updated = self
            .predicted
            .encode_touched(touched, truth, &mut residuals);
        let has_changes = !events.is_empty() || updated.count > 0;
        has_changes.then(|| Encoded {
            stream,
            sole: sole(&events, updated),
            message: ServerMessage::Snapshot(Snapshot {
                cell,
                tick: self.predicted.tick(),
                events,
                residuals: residuals.into(),
            }),
        })
    }
}
