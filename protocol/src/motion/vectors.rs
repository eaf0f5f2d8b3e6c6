//! `protocol/vectors/motion.txt`: motion as bytes and the poses that follow from them, for authors of
//! decoders in other languages. The file calls a predicted pose `believed`, and residuals
//! `surprises`.

mod bodies;
mod edges;
mod foreign;

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::{Codec, MotionSet, MotionState};
use crate::cube::CubeId;
use crate::quantize::{Pose, Position};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/motion.txt");

const HEAD: &str = "\
# Motion as bytes, and what everybody must believe then; docs/MOTION-CODEC.md explains it, check_motion.py reads it.
# Written by a test; after a change of the codec: UPDATE_VECTORS=1 cargo test -p cubesync-protocol motion_vectors
#
# trace NAME           begins anew, without cubes: a cell, or what one client sends
# tick N               advance all cubes to this tick
# left ID              take the cube out
# joined ID BYTES      put it in, or in the place of the one that is there, with this MotionState
# sample BYTES         a client's message: advance to its tick, put what it places in at rest, and decode its residuals
# wrong BYTES          of these a decoder must say that they are none; then go on as if they had not come
# wrong state BYTES    the same of a MotionState
# surprises BYTES      decode them; without this line nobody surprised
# foreign BYTES        decode them, too: no encoder of ours writes them, but this is what they mean to everybody
# cube ID true X Y Z R believed X Y Z R   both poses now, where they are others than before: quanta, and the four bytes of the rotation
# end                  now every cube must be believed where its last line says
# state ID BYTES       a keyframe at this tick: the cube's MotionState
";

/// A trace as it is written: the inputs of a sender, and the poses of its receiver.
struct Trace {
    text: String,
    sender: MotionSet,
    receiver: MotionSet,
    truth: BTreeMap<CubeId, Pose>,
    /// The true and the predicted pose as last written.
    written: BTreeMap<CubeId, (Pose, Pose)>,
    /// Each tick is also written with one byte too many.
    asks_for_longer: bool,
}

impl Trace {
    fn begin(name: &str) -> Self {
        Self {
            text: format!("\ntrace {name}\n"),
            sender: MotionSet::new(&Codec::LIVE),
            receiver: MotionSet::new(&Codec::LIVE),
            truth: BTreeMap::new(),
            written: BTreeMap::new(),
            asks_for_longer: false,
        }
    }

    fn line(&mut self, line: std::fmt::Arguments) {
        writeln!(self.text, "{line}").unwrap();
    }

    fn tick(&mut self, tick: u32) {
        self.line(format_args!("tick {tick}"));
        for set in [&mut self.sender, &mut self.receiver] {
            set.advance_to(tick.into());
        }
    }

    fn leave(&mut self, id: u64) {
        self.line(format_args!("left {id}"));
        let id = CubeId(id);
        self.sender.remove(id).unwrap();
        self.receiver.remove(id).unwrap();
        self.truth.remove(&id);
        self.written.remove(&id);
    }

    fn join(&mut self, id: u64, pose: Pose) {
        self.enter(id, &bytes(&MotionState::at_rest(pose)));
        self.truth.insert(CubeId(id), pose);
    }

    /// Puts a cube in with the bytes of its state; it is where they say.
    fn enter(&mut self, id: u64, bytes: &[u8]) {
        self.line(format_args!("joined {id} {}", hex(bytes)));
        self.insert(id, state(bytes).unwrap());
    }

    fn insert(&mut self, id: u64, state: MotionState) {
        let id = CubeId(id);
        self.sender.insert(id, state);
        self.receiver.insert(id, state);
        self.truth.insert(id, state.pose(&Codec::LIVE));
    }

    fn wrong_state(&mut self, bytes: &[u8]) {
        assert_eq!(state(bytes), None);
        self.line(format_args!("wrong state {}", hex(bytes)));
    }

    fn accepts(&self, residuals: &[u8]) -> bool {
        self.receiver.clone().decode_tick(residuals, |_| {}).is_ok()
    }

    /// Returns residuals with as many zeros behind them as a decoder does not notice.
    fn longest(&self, residuals: &[u8]) -> Vec<u8> {
        let zeros = (1..16).find(|&zeros| !self.accepts(&[residuals, &vec![0; zeros]].concat()));
        let unnoticed =
            zeros.expect("a decoder reads four bytes ahead, and few zeros were left out") - 1;
        [residuals, &vec![0; unnoticed]].concat()
    }

    /// A tick's residuals that a decoder must refuse.
    fn wrong(&mut self, residuals: &[u8]) {
        assert!(!self.accepts(residuals));
        self.line(format_args!("wrong {}", hex(residuals)));
    }

    /// Residuals that the sender did not write; from then on all cubes are where they say.
    fn foreign(&mut self, residuals: &[u8]) {
        self.line(format_args!("foreign {}", hex(residuals)));
        for set in [&mut self.sender, &mut self.receiver] {
            set.decode_tick(residuals, |_| {}).unwrap();
        }
        self.truth = self.receiver.poses().collect();
    }

    /// Ends the tick with the cubes that are elsewhere now.
    fn end(&mut self, moved: impl IntoIterator<Item = (u64, Pose)>) {
        if let Some(residuals) = self.encode(moved) {
            self.line(format_args!("surprises {}", hex(&residuals)));
            self.receiver.decode_tick(&residuals, |_| {}).unwrap();
        }
        self.poses();
    }

    /// Returns the residuals of the tick. Too many bytes of one are wrong.
    fn encode(&mut self, moved: impl IntoIterator<Item = (u64, Pose)>) -> Option<Vec<u8>> {
        self.truth
            .extend(moved.into_iter().map(|(id, pose)| (CubeId(id), pose)));
        let mut residuals = Vec::new();
        let truth = &self.truth;
        if self.sender.encode_tick(|id| truth[&id], &mut residuals) == 0 {
            return None;
        }
        if self.sender.tick() == 2 || self.asks_for_longer {
            self.wrong(&[&self.longest(&residuals)[..], &[0]].concat());
        }
        Some(residuals)
    }

    /// Writes where the cubes are now, and ends the tick.
    fn poses(&mut self) {
        for (id, predicted) in self.receiver.poses() {
            let poses = (self.truth[&id], predicted);
            if self.written.insert(id, poses) != Some(poses) {
                let (true_pose, predicted) = (in_words(poses.0), in_words(poses.1));
                writeln!(self.text, "cube {id} true {true_pose} believed {predicted}").unwrap();
            }
        }
        self.line(format_args!("end"));
    }

    fn keyframe(&mut self) {
        for (id, state) in self.receiver.iter() {
            writeln!(self.text, "state {id} {}", hex(&bytes(state))).unwrap();
        }
    }
}

fn in_words(pose: Pose) -> String {
    let Position { x, y, z } = pose.position;
    format!("{x} {y} {z} {}", hex(&<[u8; 4]>::from(pose.rotation)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).unwrap()
}

/// The state that bytes stand for, as every message is read: all of them, and in the shortest form.
fn state(written: &[u8]) -> Option<MotionState> {
    let configuration = bincode::config::standard();
    let (state, length) = bincode::serde::decode_from_slice(written, configuration).ok()?;
    (length == written.len() && bytes(&state).len() == length).then_some(state)
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let byte = |two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

#[test]
fn the_table_has_the_documented_hash() {
    let hash = ring::digest::digest(&ring::digest::SHA256, Codec::LIVE.table.0);
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/MOTION-CODEC.md");
    let page = std::fs::read_to_string(page).unwrap();
    let hash = format!("Its SHA-256 is\n`{}`", hex(hash.as_ref()));
    assert!(page.contains(&hash), "{hash}: not what the page says");
}

#[test]
fn motion_vectors_are_what_the_codec_writes() {
    let written = [
        HEAD.to_owned(),
        bodies::people(),
        bodies::crowd(),
        bodies::spinning(),
        bodies::wild(),
        edges::states(),
        edges::many(),
        edges::jumps(),
        edges::cell(),
        edges::samples(),
        foreign::foreign(),
    ]
    .concat();
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(PATH, &written).unwrap();
    }
    let file = std::fs::read_to_string(PATH).unwrap();
    let lines = file.lines().zip(written.lines());
    for (number, (file, written)) in (1..).zip(lines) {
        assert_eq!(file, written, "line {number} of motion.txt");
    }
    assert_eq!(file.len(), written.len(), "motion.txt ends elsewhere");
}
