//! The publisher: encodes what happened in a tick once, for everybody.
//!
//! Each cell has a stream of every tick, for receivers that are near. While somebody sees it from afar
//! it has a second one, of every fourth tick. Each stream has a predicted state of its own.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use cubesync_protocol::cells::{Grid, Sight};
use cubesync_protocol::limits::FAR_INTERVAL_TICKS;
use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_protocol::{
    CellId, CubeId, Event, Keyframe, Message, Pose, Position, ServerMessage, Snapshot,
};

use super::audience::Source;
use super::log::StreamId;
use super::world::{Changes, World};

/// A room's streams, and the state of its cubes that their receivers predict.
#[derive(Debug)]
pub struct Publisher {
    grid: Grid,
    tick: u64,
    /// By their number.
    cells: Vec<Cell>,
    places: BTreeMap<CubeId, CellId>,
    /// Those of the last tick that somebody has asked for.
    keyframes: HashMap<StreamId, Bytes>,
}

#[derive(Debug)]
struct Cell {
    id: CellId,
    near: Stream,
    /// What has happened to its cubes in the tick that is being told.
    events: Vec<Event>,
    /// Which of its cubes may be elsewhere than believed.
    touched: Vec<CubeId>,
    /// Its second stream, while somebody sees it from afar.
    far: Option<Far>,
}

/// What some receivers of a cell believe.
#[derive(Debug, Clone)]
struct Stream {
    believed: MotionSet,
}

/// The stream of a cell that is seen from afar.
#[derive(Debug)]
struct Far {
    stream: Stream,
    /// Of the ticks since it was told last.
    events: Vec<Event>,
    touched: Vec<CubeId>,
}

impl Publisher {
    /// No cubes.
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
            keyframes: HashMap::new(),
        }
    }

    /// How many streams there can be: their numbers are below.
    pub fn streams(&self) -> usize {
        StreamId::count(self.cells.len())
    }

    /// What there is to tell of a tick, by stream. `world` is as after that tick.
    pub fn tick(
        &mut self,
        tick: u64,
        changes: Changes,
        world: &World,
    ) -> Vec<(StreamId, Snapshot)> {
        let is_far_told =
            tick / u64::from(FAR_INTERVAL_TICKS) > self.tick / u64::from(FAR_INTERVAL_TICKS);
        self.tick = tick;
        self.keyframes.clear();
        for cell in &mut self.cells {
            cell.near.believed.advance_to(tick);
        }
        for event in changes.events {
            self.happened(event);
        }
        for cube in changes.touched {
            self.moved(cube, world);
        }
        let truth = |cube| world.pose(cube).unwrap_or_default();
        let mut told = Vec::new();
        for cell in &mut self.cells {
            if let Some(snapshot) = cell.tell(truth) {
                told.push((StreamId::new(cell.id, Sight::Near), snapshot));
            }
            if let Some(far) = &mut cell.far
                && is_far_told
                && let Some(snapshot) = far.tell(tick, cell.id, &cell.near.believed, truth)
            {
                told.push((StreamId::new(cell.id, Sight::Far), snapshot));
            }
        }
        told
    }

    /// Whether somebody looks at a cell from afar.
    #[cfg(test)]
    pub(super) fn is_seen_from_afar(&self) -> bool {
        self.cells.iter().any(|cell| cell.far.is_some())
    }

    /// Lends the publisher, with the world as after the last tick, to its audience.
    pub fn with<'a>(&'a mut self, world: &'a World) -> Published<'a> {
        Published {
            publisher: self,
            world,
        }
    }

    /// Returns everything in a cell as of the last tick.
    pub fn everything_in(&self, cell: CellId, sight: Sight, world: &World) -> Keyframe {
        let known = &self.cells[usize::from(cell.0)];
        let (stream, interval_ticks) = match (sight, &known.far) {
            (Sight::Far, Some(far)) => (&far.stream, FAR_INTERVAL_TICKS),
            _ => (&known.near, 1),
        };
        debug_assert_eq!(
            stream.believed.tick(),
            self.tick,
            "a keyframe is of the last tick"
        );
        let info = |(cube, motion): (CubeId, &MotionState)| world.info(cube, *motion);
        Keyframe {
            cell,
            interval_ticks,
            tick: self.tick,
            cubes: stream.believed.iter().filter_map(info).collect(),
        }
    }

    /// Whether a cell has cubes.
    pub fn is_inhabited(&self, cell: CellId) -> bool {
        !self.cells[usize::from(cell.0)].near.believed.is_empty()
    }

    /// Passes an event on to the cell of its cube.
    fn happened(&mut self, event: Event) {
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
            self.cells[usize::from(cell.0)].happened(event);
        }
    }

    /// A cube may be elsewhere, perhaps in another cell.
    fn moved(&mut self, cube: CubeId, world: &World) {
        let (Some(place), Some(pose)) = (self.places.get_mut(&cube), world.pose(cube)) else {
            return;
        };
        let before = std::mem::replace(place, self.grid.next_cell(*place, pose.position));
        let now = *place;
        if before != now {
            let from = &mut self.cells[usize::from(before.0)];
            let motion = from.near.believed.get(cube).copied();
            let has_just_joined = from.forget_join(cube);
            if !has_just_joined {
                from.happened(Event::Exited { cube });
            }
            let info = motion.and_then(|motion| world.info(cube, motion));
            let info = info.expect("a cube in a cell is in the world and believed in");
            self.cells[usize::from(now.0)].happened(if has_just_joined {
                Event::Joined(info)
            } else {
                Event::Entered(info)
            });
        }
        let cell = &mut self.cells[usize::from(now.0)];
        if let Some(motion) = world.motion(cube)
            && !cell.near.can_believe(cube, pose, &motion)
        {
            cell.happened(Event::Placed { cube, motion });
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
    fn is_moving(&self) -> bool {
        let mut near = self.publisher.cells.iter().map(|cell| &cell.near.believed);
        near.any(|believed| believed.active().len() > 0)
    }

    fn open(&mut self, cell: CellId, sight: Sight) {
        let cell = &mut self.publisher.cells[usize::from(cell.0)];
        if sight == Sight::Far {
            cell.far = Some(Far {
                stream: cell.near.clone(),
                events: Vec::new(),
                touched: Vec::new(),
            });
        }
    }

    fn close(&mut self, cell: CellId, sight: Sight) {
        if sight == Sight::Far {
            self.publisher.cells[usize::from(cell.0)].far = None;
        }
    }

    /// It is built once a tick, however many receivers need it.
    fn keyframe(&mut self, cell: CellId, sight: Sight) -> Bytes {
        let Self { publisher, world } = self;
        let stream = StreamId::new(cell, sight);
        if let Some(known) = publisher.keyframes.get(&stream) {
            return known.clone();
        }
        let keyframe = publisher.everything_in(cell, sight, world);
        let frame = ServerMessage::Keyframe(keyframe).to_frame();
        publisher.keyframes.insert(stream, frame.clone());
        frame
    }

    fn viewpoints(&self, player: CubeId) -> impl Iterator<Item = Position> {
        self.world.viewpoints(player)
    }
}

/// What there is to tell, as the frames that the log keeps.
pub fn frames(told: Vec<(StreamId, Snapshot)>) -> Vec<(StreamId, Bytes)> {
    let told = told.into_iter();
    told.map(|(stream, snapshot)| (stream, ServerMessage::Snapshot(snapshot).to_frame()))
        .collect()
}

impl Cell {
    fn happened(&mut self, event: Event) {
        event.apply_to(&mut self.near.believed);
        self.events.push(event);
    }

    /// A cube that has joined in this tick goes on to another cell; false if it was here before.
    /// Nobody hears that it was here: the frames of a tick come in any order of their cells, and
    /// the last claim counts.
    fn forget_join(&mut self, cube: CubeId) -> bool {
        let is_join = |event: &Event| matches!(event, Event::Joined(info) if info.cube == cube);
        let Some(join) = self.events.iter().position(is_join) else {
            return false;
        };
        self.events.remove(join);
        self.near.believed.remove(cube);
        true
    }

    fn tell(&mut self, truth: impl Fn(CubeId) -> Pose) -> Option<Snapshot> {
        let events = std::mem::take(&mut self.events);
        let touched = std::mem::take(&mut self.touched);
        if let Some(far) = &mut self.far {
            far.events.extend_from_slice(&events);
            far.touched.extend_from_slice(&touched);
        }
        self.near.tell(self.id, events, touched, truth)
    }
}

impl Far {
    fn tell(
        &mut self,
        tick: u64,
        cell: CellId,
        near: &MotionSet,
        truth: impl Fn(CubeId) -> Pose,
    ) -> Option<Snapshot> {
        self.stream.believed.advance_to(tick);
        let mut events = std::mem::take(&mut self.events);
        events.retain_mut(|event| match event {
            // Where it came in is past; who has gone on since need not be told of.
            Event::Joined(info) | Event::Entered(info) => {
                near.get(info.cube).map(|now| info.motion = *now).is_some()
            }
            // From afar nobody is in step anyway.
            Event::Placed { .. } => false,
            _ => true,
        });
        for event in &events {
            event.apply_to(&mut self.stream.believed);
        }
        let touched = std::mem::take(&mut self.touched);
        self.stream.tell(cell, events, touched, truth)
    }
}

impl Default for Stream {
    /// No cubes.
    fn default() -> Self {
        Self {
            believed: MotionSet::new(&Codec::LIVE),
        }
    }
}

impl Stream {
    /// Whether a cube is believed to move as its player's client says, at the latest when
    /// residuals have told where it is. In step with the client everybody believes the same as
    /// it; otherwise each of the two ways adds an error of its own.
    fn can_believe(&self, cube: CubeId, pose: Pose, motion: &MotionState) -> bool {
        let moves_so = |state: &MotionState| state.moves_like(motion);
        let believed = self.believed.get(cube);
        believed.is_none_or(moves_so)
            || self
                .believed
                .foresee(cube, pose)
                .as_ref()
                .is_some_and(moves_so)
    }

    /// `None` when there is nothing to tell.
    fn tell(
        &mut self,
        cell: CellId,
        events: Vec<Event>,
        touched: Vec<CubeId>,
        truth: impl Fn(CubeId) -> Pose,
    ) -> Option<Snapshot> {
        let mut residuals = Vec::new();
        self.believed.encode_touched(touched, truth, &mut residuals);
        let is_news = !events.is_empty() || !residuals.is_empty();
        is_news.then_some(Snapshot {
            cell,
            tick: self.believed.tick(),
            events,
            residuals: residuals.into(),
        })
    }
}
