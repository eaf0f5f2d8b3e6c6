//! The private parts of the server that read what strangers wrote, for tools/fuzz/ and nobody else.

use cubesync_protocol::Pose;
use cubesync_recording::Recording;

pub use crate::http::fuzzing::{HeadAnswer, answer_head};
pub use crate::text::{TypedLine, read_typed};

/// Where the cubes of a recording are at its first ticks, as a server plays it.
pub fn play(recording: Recording, ticks: usize) -> Vec<Pose> {
    let Some(mut reel) = crate::replay::playback::Reel::new(recording) else {
        return Vec::new();
    };
    let mut poses = Vec::new();
    for _ in 0..ticks {
        reel.step();
        poses.extend(reel.scene().cubes(reel.tick()).map(|(_, pose)| pose));
    }
    poses
}
