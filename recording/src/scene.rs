//! The state of one recorded connection, from which another receiver can go on.

use std::time::Duration;

use cubesync_protocol::motion::Codec;
use cubesync_protocol::replica::ReplicaError;
use cubesync_protocol::{
    CubeId, CubeInfo, Keyframe, Pose, Replica, ResumeToken, ServerMessage, Welcome,
};

/// The replica and the clock of a connection, from what the server said on it.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    welcome: Option<Welcome>,
    /// The room's clock showed `clock_tick` at `clock_at`.
    clock_tick: f64,
    clock_at: Duration,
    replica: Replica,
    gaps: u64,
    /// The tick of the newest one.
    gap_tick: u64,
}

impl Scene {
    /// The server's answer to the hello.
    pub fn welcome(&self) -> Option<&Welcome> {
        self.welcome.as_ref()
    }

    /// The newest tick of all messages.
    pub fn tick(&self) -> u64 {
        self.replica.tick()
    }

    /// The number of times that keyframes came instead of ticks because the reader was slow.
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    /// Takes in a message. After one that no server sends, all cubes are unknown until their
    /// keyframes come again.
    pub fn hear(&mut self, at: Duration, message: &ServerMessage) {
        match message {
            ServerMessage::Welcome(welcome) => self.welcomed(at, welcome),
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
            _ => {
                if let ServerMessage::Keyframe(keyframe) = message {
                    self.count_gap(keyframe);
                }
                match self.replica.take_in(message) {
                    // A cell that was emptied, of which the next keyframe is still to come.
                    Ok(_) | Err(ReplicaError::UnknownCell(_)) => {}
                    Err(_) => self.replica = Replica::default(),
                }
            }
        }
    }

    /// Returns what the server would say at this time to a newcomer with the same view: who takes
    /// it in knows as much as a receiver of everything before.
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
        // Of two cells that have a cube, the one whose stream is later has claimed it.
        let mut cells: Vec<_> = self.replica.streams().collect();
        cells.sort_by_key(|(_, stream)| stream.tick());
        // The snapshots of the newest tick may not all have come.
        let before = self.tick().saturating_sub(1);
        let keyframes = cells
            .into_iter()
            .filter_map(|(cell, _)| self.replica.keyframe_of(cell, before));
        messages.extend(keyframes.map(ServerMessage::Keyframe));
        // A heartbeat of the newest tick says that it is complete.
        let mut streams = self.replica.streams();
        if streams.all(|(_, stream)| stream.tick() < self.tick()) {
            messages.push(ServerMessage::Heartbeat { tick: self.tick() });
        }
        messages
    }

    /// One cube.
    pub fn info(&self, cube: CubeId) -> Option<&CubeInfo> {
        self.replica.cube(cube)
    }

    /// The cubes by rising id, and where they are predicted to be at a tick that is not earlier
    /// than the newest one.
    pub fn cubes(&self, tick: u64) -> impl Iterator<Item = (&CubeInfo, Pose)> {
        self.replica.cubes().filter_map(move |info| {
            let state = self.replica.state_at(info.cube, tick)?;
            Some((info, state.pose(&Codec::LIVE)))
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

    /// Counts the keyframes of cells that are in sight already, once a tick.
    fn count_gap(&mut self, keyframe: &Keyframe) {
        let known = self.replica.stream(keyframe.cell);
        let is_same =
            known.is_some_and(|stream| stream.interval_ticks() == keyframe.interval_ticks);
        if is_same && keyframe.tick > self.gap_tick {
            self.gaps += 1;
            self.gap_tick = keyframe.tick;
        }
    }
}
