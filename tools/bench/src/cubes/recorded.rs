//! A room as it was recorded: where each cube was at each tick, as every receiver had it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use cubesync_protocol::limits::FRAME_HEADER_BYTES;
use cubesync_protocol::{Message, Pose, ServerMessage};
use cubesync_recording::{Direction, Recording, Scene};

/// Longest time of a recording that is read, in seconds: tracks stand in memory.
const LONGEST_S: usize = 300;

/// What was recorded.
pub(crate) struct Recorded {
    pub(crate) hz: u8,
    /// A pose for each tick of each cube that was ever there: before it came and after it left, its first and last one.
    pub(crate) tracks: Vec<Vec<Pose>>,
    /// The residuals as they were published.
    pub(crate) bytes: usize,
}

/// Reads the recording of a server or a client.
pub(crate) fn read(path: &Path) -> anyhow::Result<Recorded> {
    let name = path.display();
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {name}"))?;
    let recording = Recording::read(std::io::BufReader::new(file))
        .with_context(|| format!("cannot read {name}"))?;
    let mut cursor = recording.seek(recording.start());
    let mut scene = Scene::default();
    let mut tracks = BTreeMap::new();
    let (mut bytes, mut ticks, mut hz) = (0, 0, 0);
    while let Some(entry) = cursor.next(&recording) {
        if !matches!(entry.direction, Direction::Opening | Direction::FromServer) {
            continue;
        }
        let message = ServerMessage::decode(&entry.frame[FRAME_HEADER_BYTES..])
            .with_context(|| format!("{name} holds a message that no server sends"))?;
        let next = match &message {
            ServerMessage::Snapshot(snapshot) => snapshot.tick,
            ServerMessage::Heartbeat { tick } => *tick,
            _ => scene.tick(),
        };
        hz = scene.welcome().map_or(hz, |welcome| welcome.tick_hz);
        let longest = LONGEST_S * usize::from(hz);
        // When a tick begins, all of the one before has come; silence means that everything went on as predicted.
        if scene.cubes(scene.tick()).next().is_some() {
            for tick in (scene.tick()..next).take(longest.saturating_sub(ticks)) {
                note(&scene, tick, ticks, &mut tracks);
                ticks += 1;
            }
            if ticks >= longest {
                break;
            }
        }
        if let ServerMessage::Snapshot(snapshot) = &message {
            bytes += snapshot.residuals.len();
        }
        scene.hear(entry.at, &message);
    }
    ensure!(ticks > 1, "{name} holds no ticks");
    let tracks = tracks.into_values().map(|mut track: Vec<Pose>| {
        let last = track[track.len() - 1];
        track.resize(ticks, last);
        track
    });
    Ok(Recorded {
        hz,
        tracks: tracks.collect(),
        bytes,
    })
}

/// Notes where all cubes are at a tick, the one of this number.
fn note(scene: &Scene, tick: u64, number: usize, tracks: &mut BTreeMap<u64, Vec<Pose>>) {
    for (info, pose) in scene.cubes(tick) {
        let track: &mut Vec<Pose> = tracks.entry(info.cube.0).or_default();
        let before = track.last().copied().unwrap_or(pose);
        track.resize(number, before);
        track.push(pose);
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::motion::Codec;

    use super::*;
    use crate::codecs::Encoding;
    use crate::live::residuals;

    #[test]
    fn a_recording_is_coded_again_in_about_as_many_bytes() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let recorded = read(&repository.join("recording/tests/data/lobby.rec")).unwrap();
        assert_eq!((recorded.hz, recorded.tracks.len()), (30, 5));
        let again = residuals(&recorded.tracks, &Codec::LIVE, Encoding::Range).unwrap();
        assert!(again.bytes.abs_diff(recorded.bytes) < recorded.bytes / 4);
    }

    #[test]
    fn another_file_is_refused_in_words() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let error = format!("{:#}", read(&source).err().unwrap());
        assert!(error.contains("no recording"), "{error}");
    }
}
