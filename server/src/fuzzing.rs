//! The private parts of the server that read what strangers wrote, for tools/fuzz/ and nobody else.

use cubesync_protocol::{Pose, Position};
use cubesync_recording::Recording;

pub use crate::cluster::room::fuzzing::Overhearing;
pub use crate::http::fuzzing::{HeadAnswer, answer_head};

/// A line of the text protocol.
#[derive(Debug, PartialEq, Eq)]
pub struct TypedLine {
    /// Without its end; `None` for one that is too long.
    pub line: Option<String>,
    /// What it says, or what is wrong with it.
    pub position: Option<Result<Position, String>>,
}

/// The lines of a stream that comes in pieces.
pub fn read_typed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<TypedLine> {
    crate::text::read_typed(pieces)
}

/// Where the cubes of a recording are at its first ticks, as a server plays it.
pub fn play(recording: Recording, ticks: usize) -> Vec<Pose> {
    let Some(mut reel) = crate::replay::reel::Reel::new(recording) else {
        return Vec::new();
    };
    let mut poses = Vec::new();
    for _ in 0..ticks {
        reel.step();
        poses.extend(reel.scene().cubes(reel.tick()).map(|(_, pose)| pose));
    }
    poses
}
