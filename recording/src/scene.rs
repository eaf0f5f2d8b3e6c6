//! What a listener to one connection knows: enough to tell another one everything from here on.

use std::collections::BTreeMap;
use std::time::Duration;

use cubesync_protocol::limits::MAX_CELLS;
use cubesync_protocol::motion::{Codec, MotionSet};
use cubesync_protocol::{
    CellId, CubeId, CubeInfo, CubeKind, Event, Keyframe, Pose, ResumeToken, ServerMessage,
    Snapshot, Welcome,
};

/// The cells and cubes of a connection, as the server told of them.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    welcome: Option<Welcome>,
    /// The room's clock showed `clock_tick` at `clock_at`.
    clock_tick: f64,
    clock_at: Duration,
    /// The newest tick that was heard of.
    tick: u64,
    cells: BTreeMap<CellId, Cell>,
    /// Which cell has each cube: the one that claimed it last.
    places: BTreeMap<CubeId, CellId>,
    gaps: u64,
    /// The tick of the newest one.
    gap_tick: u64,
}

#[derive(Debug, Clone)]
struct Cell {
    interval_ticks: u8,
    believed: MotionSet,
    cubes: BTreeMap<CubeId, CubeInfo>,
}

impl Scene {
    /// What the server said at the join.
    pub fn welcome(&self) -> Option<&Welcome> {
        self.welcome.as_ref()
    }

    /// The newest tick that was heard of.
    pub fn tick(&self) -> u64 {
        self.tick
    }

    /// How often ticks were left out because the reader was slow: keyframes came instead.
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    /// Takes in a message. What makes no sense is left out.
    pub fn hear(&mut self, at: Duration, message: &ServerMessage) {
        match message {
            ServerMessage::Welcome(welcome) => self.welcomed(at, welcome),
            ServerMessage::Keyframe(keyframe) => self.begin(keyframe),
            ServerMessage::Snapshot(snapshot) => self.go_on(snapshot),
            ServerMessage::Heartbeat { tick } => self.tick = self.tick.max(*tick),
            ServerMessage::OutOfSight { cells } => {
                for cell in cells {
                    self.cells.remove(cell);
                    self.places.retain(|_, place| place != cell);
                }
            }
            ServerMessage::Pong {
                sent_us,
                tick,
                since_tick_us,
                ..
            } => {
                // The server looked at its clock half a round trip ago.
                let sent = Duration::from_micros(*sent_us);
                let midway = sent + at.saturating_sub(sent) / 2;
                self.set_clock(midway.min(at), *tick, *since_tick_us);
            }
            _ => {}
        }
    }

    /// What the server would say at this time to somebody who comes with the same view: they know
    /// as much as who heard everything.
    pub fn opening(&self, at: Duration) -> Vec<ServerMessage> {
        let Some(welcome) = &self.welcome else {
            return Vec::new();
        };
        let since_s = at.saturating_sub(self.clock_at).as_secs_f64();
        let now = self.clock_tick + since_s * f64::from(welcome.tick_hz);
        let since_tick_s = now.fract() / f64::from(welcome.tick_hz.max(1));
        let welcome = Welcome {
            tick: now as u64,
            since_tick_us: (since_tick_s * 1e6) as u32,
            ..welcome.clone()
        };
        let mut messages = vec![ServerMessage::Welcome(welcome)];
        // Of two cells that have a cube, the one that told later claimed it.
        let mut cells: Vec<_> = self.cells.iter().collect();
        cells.sort_by_key(|(_, cell)| cell.believed.tick());
        let keyframe = |(&id, cell): (&CellId, &Cell)| {
            // Of the newest tick this cell may not have told yet.
            let tick = cell.believed.tick().max(self.tick.saturating_sub(1));
            ServerMessage::Keyframe(cell.keyframe(id, tick))
        };
        messages.extend(cells.into_iter().map(keyframe));
        messages.push(ServerMessage::Heartbeat { tick: self.tick });
        messages
    }

    /// What is known about a cube.
    pub fn info(&self, cube: CubeId) -> Option<&CubeInfo> {
        let cell = self.cells.get(self.places.get(&cube)?)?;
        cell.cubes.get(&cube)
    }

    /// The cubes at a tick that is not before the newest, by rising id: as believed.
    pub fn cubes(&self, tick: u64) -> impl Iterator<Item = (&CubeInfo, Pose)> {
        self.places.iter().filter_map(move |(cube, place)| {
            let cell = self.cells.get(place)?;
            let state = cell.believed.state_at(*cube, tick)?;
            Some((cell.cubes.get(cube)?, state.pose(&Codec::LIVE)))
        })
    }

    fn welcomed(&mut self, at: Duration, welcome: &Welcome) {
        *self = Self {
            gaps: self.gaps,
            welcome: Some(Welcome {
                resume: ResumeToken([0; 16]),
                ..welcome.clone()
            }),
            ..Self::default()
        };
        self.set_clock(at, welcome.tick, welcome.since_tick_us);
    }

    fn set_clock(&mut self, at: Duration, tick: u64, since_tick_us: u32) {
        let tick_hz = self.welcome.as_ref().map_or(0, |welcome| welcome.tick_hz);
        let part = f64::from(since_tick_us) / 1e6 * f64::from(tick_hz);
        self.clock_tick = tick as f64 + part;
        self.clock_at = at;
    }

    fn begin(&mut self, keyframe: &Keyframe) {
        let before = self.cells.remove(&keyframe.cell);
        if self.cells.len() >= MAX_CELLS {
            return;
        }
        if let Some(before) = before
            && before.interval_ticks == keyframe.interval_ticks
            && keyframe.tick > self.gap_tick
        {
            self.gaps += 1;
            self.gap_tick = keyframe.tick;
        }
        let mut cell = Cell {
            interval_ticks: keyframe.interval_ticks,
            believed: MotionSet::at_tick(&Codec::LIVE, keyframe.tick),
            cubes: BTreeMap::new(),
        };
        self.places.retain(|_, place| *place != keyframe.cell);
        for info in &keyframe.cubes {
            cell.enter(info);
            self.places.insert(info.cube, keyframe.cell);
        }
        self.cells.insert(keyframe.cell, cell);
        self.tick = self.tick.max(keyframe.tick);
    }

    fn go_on(&mut self, snapshot: &Snapshot) {
        self.tick = self.tick.max(snapshot.tick);
        let Some(cell) = self.cells.get_mut(&snapshot.cell) else {
            return;
        };
        cell.believed.advance_to(snapshot.tick);
        for event in &snapshot.events {
            cell.apply(event);
            match event {
                Event::Joined(info) | Event::Entered(info) => {
                    self.places.insert(info.cube, snapshot.cell);
                }
                Event::Left { cube } | Event::Exited { cube }
                    if self.places.get(cube) == Some(&snapshot.cell) =>
                {
                    self.places.remove(cube);
                }
                _ => {}
            }
        }
        let is_sense = snapshot.residuals.is_empty()
            || cell
                .believed
                .decode_tick(&snapshot.residuals, |_| {})
                .is_ok();
        if !is_sense {
            self.cells.remove(&snapshot.cell);
        }
    }
}

impl Cell {
    fn apply(&mut self, event: &Event) {
        event.apply_to(&mut self.believed);
        match event {
            Event::Joined(info) | Event::Entered(info) => {
                self.cubes.insert(info.cube, info.clone());
            }
            Event::Left { cube } | Event::Exited { cube } => drop(self.cubes.remove(cube)),
            Event::Placed { .. } => {}
            Event::Taken { cube, by } => {
                let holder = Some(*by);
                self.become_kind(*cube, CubeKind::Free { holder });
            }
            Event::Freed { cube } => self.become_kind(*cube, CubeKind::Free { holder: None }),
            Event::Ghost { cube } => self.become_kind(*cube, CubeKind::Ghost),
            Event::Returned { cube } => self.become_kind(*cube, CubeKind::Player),
        }
    }

    fn enter(&mut self, info: &CubeInfo) {
        self.believed.insert(info.cube, info.motion);
        self.cubes.insert(info.cube, info.clone());
    }

    fn become_kind(&mut self, cube: CubeId, kind: CubeKind) {
        if let Some(info) = self.cubes.get_mut(&cube) {
            info.kind = kind;
        }
    }

    fn keyframe(&self, id: CellId, tick: u64) -> Keyframe {
        let info = |(cube, info): (&CubeId, &CubeInfo)| {
            Some(CubeInfo {
                motion: self.believed.state_at(*cube, tick)?,
                ..info.clone()
            })
        };
        Keyframe {
            cell: id,
            interval_ticks: self.interval_ticks,
            tick,
            cubes: self.cubes.iter().filter_map(info).collect(),
        }
    }
}
