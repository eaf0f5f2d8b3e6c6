//! A room as `/cubes.json`: every cube, with positions in metres.

use std::io::{self, Write};

use bytes::Bytes;
use cubesync_protocol::{CubeId, CubeInfo, CubeKind, Pose, Replica};
use cubesync_relay::room::{Role, RoomSummary};
use serde::{Serialize, Serializer};

/// Size of a chunk, of which a connection that reads nothing holds two at most when its page is gone.
const CHUNK_BYTES: usize = 16 * 1024;

/// A page, in chunks that all of its readers share.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) chunks: Vec<Bytes>,
    pub(super) len_bytes: usize,
}

#[derive(Serialize)]
struct Room<'a> {
    room: &'a str,
    tick: u64,
    tick_hz: u8,
    /// "owner", "edge" or "island".
    role: &'static str,
    /// The server that owns the room, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    #[serde(serialize_with = "cubes")]
    cubes: &'a Replica,
}

#[derive(Debug, Serialize)]
struct Cube<'a> {
    id: u64,
    name: &'a str,
    kind: &'static str,
    /// The holder's id. Only a free cube has this field.
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<Option<u64>>,
    colour: String,
    /// Its edge length in metres.
    width: f32,
    /// Metres, z up.
    position: [f32; 3],
    /// Quaternion x, y, z, w.
    rotation: [f32; 4],
}

impl Page {
    /// Encodes a room as its receivers see it.
    pub(super) fn new(summary: &RoomSummary, replica: &Replica) -> Self {
        let (role, owner) = match &summary.role {
            Role::Owner => ("owner", None),
            Role::Edge { owner } => ("edge", Some(&**owner)),
            Role::Island => ("island", None),
        };
        let room = Room {
            room: &summary.name,
            tick: replica.tick(),
            tick_hz: summary.tick_hz,
            role,
            owner,
            cubes: replica,
        };
        let mut chunks = Chunks::default();
        serde_json::to_writer(&mut chunks, &room)
            .expect("numbers, texts and lists have a JSON form");
        chunks.into_page()
    }
}

fn cubes<S: Serializer>(replica: &Replica, serializer: S) -> Result<S::Ok, S::Error> {
    let cubes = replica.cubes();
    serializer.collect_seq(cubes.filter_map(|info| Some(Cube::new(info, replica.pose(info.cube)?))))
}

impl<'a> Cube<'a> {
    fn new(info: &'a CubeInfo, pose: Pose) -> Self {
        let (kind, holder) = match info.kind {
            CubeKind::Player => ("player", None),
            CubeKind::Ghost => ("ghost", None),
            CubeKind::Free { holder } => ("free", Some(holder.map(|CubeId(id)| id))),
        };
        Self {
            id: info.cube.0,
            name: &info.name,
            kind,
            holder,
            colour: info.colour.to_string(),
            width: info.width.to_metres(),
            position: pose.position.to_metres(),
            rotation: pose.rotation.to_quaternion(),
        }
    }
}

/// A writer that cuts what is written into chunks.
#[derive(Default)]
struct Chunks {
    full: Vec<Bytes>,
    last: Vec<u8>,
}

impl Chunks {
    fn into_page(mut self) -> Page {
        self.full.push(self.last.into());
        Page {
            len_bytes: self.full.iter().map(Bytes::len).sum(),
            chunks: self.full,
        }
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.last.len() == CHUNK_BYTES {
            self.full.push(std::mem::take(&mut self.last).into());
        }
        if self.last.capacity() == 0 {
            self.last.reserve_exact(CHUNK_BYTES);
        }
        let count = bytes.len().min(CHUNK_BYTES - self.last.len());
        self.last.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::motion::MotionState;
    use cubesync_protocol::{Colour, Position, Rotation};

    use super::*;

    #[test]
    fn a_cube_reads_as_metres_and_names() {
        let pose = Pose {
            position: Position {
                x: 768,
                y: -512,
                z: 256,
            },
            rotation: Rotation::IDENTITY,
        };
        let info = CubeInfo {
            cube: CubeId(3),
            kind: CubeKind::Free { holder: None },
            name: "cube".into(),
            colour: Colour {
                red: 255,
                green: 0,
                blue: 128,
            },
            width: Default::default(),
            motion: MotionState::at_rest(pose),
        };
        let free = serde_json::to_value(Cube::new(&info, pose)).unwrap();
        let expected = serde_json::json!({
            "id": 3, "name": "cube", "kind": "free", "holder": null, "colour": "#ff0080",
            "width": 1.0, "position": [1.5, -1.0, 0.5], "rotation": [0.0, 0.0, 0.0, 1.0],
        });
        assert_eq!(free, expected);
        let player = CubeInfo {
            kind: CubeKind::Player,
            ..info
        };
        let player = serde_json::to_value(Cube::new(&player, pose)).unwrap();
        assert_eq!(player["kind"], "player");
        assert_eq!(player.get("holder"), None);
    }

    #[test]
    fn chunks_are_what_was_written_and_of_one_size() {
        let text: String = (0..10_000).map(|number| number.to_string()).collect();
        let mut chunks = Chunks::default();
        for part in text.as_bytes().chunks(1_000) {
            chunks.write_all(part).unwrap();
        }
        let page = chunks.into_page();
        let (last, full) = page.chunks.split_last().unwrap();
        assert!(full.iter().all(|chunk| chunk.len() == CHUNK_BYTES));
        assert!(last.len() <= CHUNK_BYTES);
        assert_eq!(page.len_bytes, text.len());
        assert_eq!(page.chunks.concat(), text.as_bytes());
    }
}
