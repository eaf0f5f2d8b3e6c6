//! The private parts of the server that parse untrusted input, exposed for `tools/fuzz/` only.

use cubesync_protocol::Pose;
use cubesync_recording::Recording;

#[cfg(feature = "webrtc")]
pub use crate::datagram::fuzzing::{answer_offer, take_packets};
pub use crate::http::fuzzing::{HeadAnswer, answer_head};
pub use crate::text::{TypedLine, read_typed};

/// Returns the poses of a recording's cubes at its first ticks, as a server plays it.
pub fn play(recording: Recording, ticks: usize) -> Vec<Pose> {
    let Some(mut playback) = crate::replay::playback::Playback::new(recording) else {
        return Vec::new();
    };
    let mut poses = Vec::new();
    for _ in 0..ticks {
        playback.step();
        let cubes = playback.scene().cubes(playback.tick());
        poses.extend(cubes.map(|(_, pose)| pose));
    }
    poses
}
