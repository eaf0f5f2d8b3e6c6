//! A recording tick by tick, from its beginning again after its end.

use cubesync_protocol::limits::{FRAME_HEADER_BYTES, TICK_HZ_RANGE};
use cubesync_protocol::{Message, ServerMessage};
use cubesync_recording::{Cursor, Direction, Recording, Scene};

/// A recorded server that was silent for longer than this many seconds was not heard: heartbeats
/// come every second.
const LONGEST_SILENCE_S: u64 = 2;
/// So many seconds after its end a recording begins anew: one sees where it ends.
const REST_S: u64 = 1;

/// A recording, and the tick that is shown.
///
/// The ticks count, not when they arrived: everything is known already, so that a recording made
/// behind a bad network plays as smoothly as the truth was.
#[derive(Debug)]
pub(crate) struct Reel {
    recording: Recording,
    cursor: Cursor,
    scene: Scene,
    tick: u64,
    /// How long it has been over.
    rested_ticks: u64,
}

impl Reel {
    /// At its first tick; `None` when nobody was ever welcomed in it.
    pub(crate) fn new(recording: Recording) -> Option<Self> {
        let mut reel = Self {
            cursor: recording.seek(recording.start()),
            recording,
            scene: Scene::default(),
            tick: 0,
            rested_ticks: 0,
        };
        reel.step();
        TICK_HZ_RANGE.contains(&reel.tick_hz()).then_some(reel)
    }

    /// The rate at which it was recorded.
    pub(super) fn tick_hz(&self) -> u8 {
        self.scene.welcome().map_or(0, |welcome| welcome.tick_hz)
    }

    /// What is known at the tick.
    pub(crate) fn scene(&self) -> &Scene {
        &self.scene
    }

    /// The tick that is shown.
    pub(crate) fn tick(&self) -> u64 {
        self.tick
    }

    /// Goes on by a tick; after the last one everything rests a while, then it is the first one.
    pub(crate) fn step(&mut self) {
        if self.cursor.peek(&self.recording).is_none() {
            if self.rested_ticks < REST_S * u64::from(self.tick_hz()) {
                self.rested_ticks += 1;
                return;
            }
            self.rested_ticks = 0;
            self.cursor = self.recording.seek(self.recording.start());
            self.scene = Scene::default();
        }
        self.tick = self.tick.saturating_add(1);
        while let Some(entry) = self.cursor.peek(&self.recording) {
            let at = entry.at;
            let message = match entry.direction {
                Direction::FromClient => None,
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

/// The tick that a message tells of.
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

    /// Fifteen seconds of three bots and a player, recorded by a server at 30 Hz, and the same
    /// from behind a bad network.
    const LOBBY: &[u8] = include_bytes!("../../../recording/tests/data/lobby.rec");
    const CLIENT: &[u8] = include_bytes!("../../../recording/tests/data/client.rec");

    fn reel(file: &[u8]) -> Reel {
        Reel::new(Recording::read(file).unwrap()).unwrap()
    }

    fn positions(reel: &Reel) -> BTreeMap<CubeId, [f32; 3]> {
        let cubes = reel.scene.cubes(reel.tick);
        cubes
            .map(|(info, pose)| (info.cube, pose.position.to_metres()))
            .collect()
    }

    #[test]
    fn every_tick_is_played_evenly_and_after_the_last_one_the_first() {
        for (file, seconds) in [(LOBBY, 15), (CLIENT, 11)] {
            let mut reel = reel(file);
            assert_eq!(reel.tick_hz(), 30);
            let (first, mut most, mut rested) = (reel.tick, 0, 0);
            let mut before = positions(&reel);
            loop {
                let tick = reel.tick;
                reel.step();
                if reel.tick == tick {
                    rested += 1;
                    continue;
                }
                if reel.tick < tick {
                    assert!(
                        (tick - first).abs_diff(seconds * 30) < 60,
                        "{first} to {tick}"
                    );
                    break;
                }
                assert_eq!(reel.tick, tick + 1);
                let after = positions(&reel);
                for (cube, to) in &after {
                    let from = before.get(cube).unwrap_or(to);
                    // 11 m/s, and a part of a player's stall.
                    let way_m = (to[0] - from[0]).hypot(to[1] - from[1]);
                    assert!(way_m < 1.0, "{cube} goes {way_m} m at {tick}");
                }
                most = after.len().max(most);
                before = after;
            }
            assert_eq!((reel.tick, most, rested), (first, 5, 30));
        }
    }

    #[test]
    fn a_recording_in_which_nobody_was_welcomed_is_none() {
        let mut encoder = cubesync_recording::Encoder::default();
        let heartbeat = ServerMessage::Heartbeat { tick: 5 }.to_frame();
        let payload = &heartbeat[FRAME_HEADER_BYTES..];
        encoder.record(Duration::ZERO, Direction::FromServer, payload);
        let chunk = encoder.finish().unwrap();
        let file = [&cubesync_recording::chunk::FILE_HEADER[..], &chunk].concat();
        let recording = Recording::read(&file[..]).unwrap();
        assert!(Reel::new(recording).is_none());
    }
}
