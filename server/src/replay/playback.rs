//! Steps through a recording tick by tick, in a loop.

use cubesync_protocol::limits::{FRAME_HEADER_BYTES, TICK_HZ_RANGE};
use cubesync_protocol::{Message, ServerMessage};
use cubesync_recording::{Cursor, Direction, Recording, Scene};

/// Longest gap between two messages of a recorded server, in seconds, that is played in full.
/// Heartbeats come every second, so a longer gap is a part that the recorder missed.
const LONGEST_SILENCE_S: u64 = 2;
/// Pause between a recording's end and its next beginning, in seconds, so that viewers see where it
/// ends.
const PAUSE_S: u64 = 1;

/// A recording and its current tick.
///
/// Messages are played by their tick and not by the time of their arrival, so that a recording that
/// was made behind a bad network still plays smoothly.
#[derive(Debug)]
pub(crate) struct Playback {
    recording: Recording,
    cursor: Cursor,
    scene: Scene,
    tick: u64,
    /// Ticks since the recording's end.
    paused_ticks: u64,
}

impl Playback {
    /// Starts at the first tick. Returns `None` for a recording without a welcome.
    pub(crate) fn new(recording: Recording) -> Option<Self> {
        let mut playback = Self {
            cursor: recording.seek(recording.start()),
            recording,
            scene: Scene::default(),
            tick: 0,
            paused_ticks: 0,
        };
        playback.step();
        TICK_HZ_RANGE
            .contains(&playback.tick_hz())
            .then_some(playback)
    }

    /// Advances until cubes are known, a second at most: a receiver gets them after its welcome.
    pub(super) fn skip_to_cubes(&mut self) {
        for _ in 0..self.tick_hz() {
            if self.scene.cubes(self.tick).next().is_some() {
                return;
            }
            self.step();
        }
    }

    /// Returns the rate at which the recording was made.
    pub(super) fn tick_hz(&self) -> u8 {
        self.scene.welcome().map_or(0, |welcome| welcome.tick_hz)
    }

    /// Returns the recorded receiver's state at the current tick.
    pub(crate) fn scene(&self) -> &Scene {
        &self.scene
    }

    /// Returns the current tick, in the recorded server's numbering.
    pub(crate) fn tick(&self) -> u64 {
        self.tick
    }

    /// Advances by a tick. The last tick stays current for [`PAUSE_S`], then the first one follows.
    pub(crate) fn step(&mut self) {
        if self.cursor.peek(&self.recording).is_none() {
            if self.paused_ticks < PAUSE_S * u64::from(self.tick_hz()) {
                self.paused_ticks += 1;
                return;
            }
            self.paused_ticks = 0;
            self.cursor = self.recording.seek(self.recording.start());
            self.scene = Scene::default();
        }
        self.tick = self.tick.saturating_add(1);
        while let Some(entry) = self.cursor.peek(&self.recording) {
            let at = entry.at;
            let message = match entry.direction {
                Direction::FromClient | Direction::Datagram => None,
                Direction::FromServer | Direction::Opening => {
                    ServerMessage::decode(&entry.frame[FRAME_HEADER_BYTES..]).ok()
                }
            };
            if let Some(message) = message {
                let silence = LONGEST_SILENCE_S * u64::from(self.tick_hz());
                match (&message, tick_of(&message)) {
                    (ServerMessage::Welcome(welcome), _) => self.tick = welcome.tick,
                    (_, Some(tick)) if tick > self.tick.saturating_add(silence) => self.tick = tick,
                    (_, Some(tick)) if tick > self.tick => return,
                    _ => {}
                }
                self.scene.hear(at, &message);
            }
            self.cursor.next(&self.recording);
        }
    }
}

/// Returns the tick that a message describes.
fn tick_of(message: &ServerMessage) -> Option<u64> {
    match message {
        ServerMessage::Keyframe(keyframe) => Some(keyframe.tick),
        ServerMessage::Snapshot(snapshot) => Some(snapshot.tick),
        ServerMessage::Heartbeat { tick } => Some(*tick),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use cubesync_protocol::CubeId;

    use super::*;

    /// Fifteen seconds of three bots and a player at 30 Hz, recorded by the server, and the same
    /// play recorded by a client behind a bad network.
    const LOBBY: &[u8] = include_bytes!("../../../recording/tests/data/lobby.rec");
    const CLIENT: &[u8] = include_bytes!("../../../recording/tests/data/client.rec");

    fn playback(file: &[u8]) -> Playback {
        Playback::new(Recording::read(file).unwrap()).unwrap()
    }

    fn positions(playback: &Playback) -> BTreeMap<CubeId, [f32; 3]> {
        let cubes = playback.scene.cubes(playback.tick);
        cubes
            .map(|(info, pose)| (info.cube, pose.position.to_metres()))
            .collect()
    }

    #[test]
    fn every_tick_is_played_once_and_the_first_follows_the_last() {
        for (file, seconds) in [(LOBBY, 15), (CLIENT, 11)] {
            let mut playback = playback(file);
            assert_eq!(playback.tick_hz(), 30);
            let (first, mut most, mut paused) = (playback.tick, 0, 0);
            let mut before = positions(&playback);
            loop {
                let tick = playback.tick;
                playback.step();
                if playback.tick == tick {
                    paused += 1;
                    continue;
                }
                if playback.tick < tick {
                    assert!(
                        (tick - first).abs_diff(seconds * 30) < 60,
                        "{first} to {tick}"
                    );
                    break;
                }
                assert_eq!(playback.tick, tick + 1);
                let after = positions(&playback);
                for (cube, to) in &after {
                    let from = before.get(cube).unwrap_or(to);
                    // A cube moves at 11 m/s, and catches up after a player's stall.
                    let distance_m = (to[0] - from[0]).hypot(to[1] - from[1]);
                    assert!(distance_m < 1.0, "{cube} moves {distance_m} m at {tick}");
                }
                most = after.len().max(most);
                before = after;
            }
            assert_eq!((playback.tick, most, paused), (first, 5, 30));
        }
    }

    #[test]
    fn a_recording_without_a_welcome_cannot_be_played() {
        let mut encoder = cubesync_recording::Encoder::default();
        let heartbeat = ServerMessage::Heartbeat { tick: 5 }.to_frame();
        let payload = &heartbeat[FRAME_HEADER_BYTES..];
        encoder.record(Duration::ZERO, Direction::FromServer, payload);
        let chunk = encoder.finish().unwrap();
        let file = [&cubesync_recording::chunk::FILE_HEADER[..], &chunk].concat();
        let recording = Recording::read(&file[..]).unwrap();
        assert!(Playback::new(recording).is_none());
    }
}
