//! `protocol/vectors/motion.txt`: motion as bytes and the poses that follow from them, for authors of
//! decoders in other languages. The file calls a predicted pose `believed`, and residuals
//! `surprises`.
//!
//! The truth is made with additions, products and square roots only: every machine gets the
//! same, which a sine does not promise.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Codec, MotionSet, MotionState};
use crate::cube::CubeId;
use crate::quantize::{Pose, Position, Rotation};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/motion.txt");

const HEAD: &str = "\
# Motion as bytes, and what everybody must believe then; docs/MOTION-CODEC.md explains it, decode_motion.py reads it.
# Written by a test; after a change of the codec: UPDATE_VECTORS=1 cargo test -p cubesync-protocol motion_vectors
#
# trace NAME           begins anew, without cubes
# tick N               advance all cubes to this tick
# left ID              take the cube out
# joined ID BYTES      put it in, with this MotionState
# wrong BYTES          of these a decoder must say that they are none; then go on as if they had not come
# surprises BYTES      decode them; without this line nobody surprised
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
}

impl Trace {
    fn begin(name: &str) -> Self {
        Self {
            text: format!("\ntrace {name}\n"),
            sender: MotionSet::new(&Codec::LIVE),
            receiver: MotionSet::new(&Codec::LIVE),
            truth: BTreeMap::new(),
            written: BTreeMap::new(),
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
        let state = MotionState::at_rest(pose);
        self.line(format_args!("joined {id} {}", hex(&bytes(&state))));
        self.sender.insert(CubeId(id), state);
        self.receiver.insert(CubeId(id), state);
        self.truth.insert(CubeId(id), pose);
    }

    /// Ends the tick with the cubes that are elsewhere now.
    fn end(&mut self, moved: impl IntoIterator<Item = (u64, Pose)>) {
        self.truth
            .extend(moved.into_iter().map(|(id, pose)| (CubeId(id), pose)));
        let mut residuals = Vec::new();
        let truth = &self.truth;
        if self.sender.encode_tick(|id| truth[&id], &mut residuals) > 0 {
            let longer = [&residuals[..], &[0; 5]].concat();
            if self.sender.tick() == 2 {
                self.line(format_args!("wrong {}", hex(&longer)));
            }
            assert!(self.receiver.clone().decode_tick(&longer, |_| {}).is_err());
            self.line(format_args!("surprises {}", hex(&residuals)));
            self.receiver.decode_tick(&residuals, |_| {}).unwrap();
        }
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

fn bytes(state: &MotionState) -> Vec<u8> {
    bincode::serde::encode_to_vec(state, bincode::config::standard()).unwrap()
}

/// Something that moves, in quanta and ticks.
#[derive(Clone, Copy)]
struct Body {
    position: [f64; 3],
    velocity: [f64; 3],
    orientation: [f64; 4],
}

impl Body {
    fn at(x: f64, y: f64, z: f64) -> Self {
        Self {
            position: [x, y, z],
            velocity: [0.0; 3],
            orientation: [0.0, 0.0, 0.0, 1.0],
        }
    }

    fn pose(&self) -> Pose {
        let [x, y, z] = self.position.map(|place| place.round() as i32);
        Pose {
            position: Position { x, y, z }.clamped(),
            rotation: Rotation::from_quaternion(self.orientation.map(|part| part as f32)),
        }
    }

    fn go(&mut self) {
        for (place, speed) in self.position.iter_mut().zip(self.velocity) {
            *place += speed;
        }
    }

    /// Changes the velocity along the floor towards another by at most 23 quanta a tick, as fast
    /// as people do.
    fn steer(&mut self, wanted: [f64; 2]) {
        let [x, y] = [0, 1].map(|axis| wanted[axis] - self.velocity[axis]);
        let part = (23.0 / (x * x + y * y).sqrt().max(23.0)).min(1.0);
        self.velocity[0] += x * part;
        self.velocity[1] += y * part;
    }

    /// Turns by an axis times the tangent of half the angle.
    fn turn(&mut self, [ax, ay, az]: [f64; 3]) {
        let [bx, by, bz, bw] = self.orientation;
        let turned = [
            bx + ax * bw + ay * bz - az * by,
            by - ax * bz + ay * bw + az * bx,
            bz + ax * by - ay * bx + az * bw,
            bw - ax * bx - ay * by - az * bz,
        ];
        let length = turned.iter().map(|part| part * part).sum::<f64>().sqrt();
        self.orientation = turned.map(|part| part / length);
    }

    /// Falls under 20 m/s², and bounces from the floor.
    fn fall(&mut self, bounce: f64) {
        self.velocity[2] -= 11.4;
        self.go();
        if self.position[2] < 256.0 {
            self.position[2] = 256.0;
            self.velocity[2] *= -bounce;
            if self.velocity[2] < 30.0 {
                self.velocity[2] = 0.0;
            }
        }
    }
}

/// People at 30 Hz: 0 rests, 1 walks a bend and stops, 2 jumps, 3 is thrown and tumbles, 5 is
/// carried elsewhere, 40 comes and goes.
fn people() -> String {
    let mut trace = Trace::begin("people");
    let mut walker = Body::at(512.0, -1_024.0, 256.0);
    let mut jumper = Body::at(-2_000.0, 300.0, 256.0);
    let mut thrown = Body::at(4_000.0, 4_000.0, 900.0);
    let mut carried = Body::at(100_000.0, -7.0, 256.0);
    let mut guest = Body::at(-300.0, 9_000.0, 256.0);
    for tick in 1..=110u32 {
        // Nobody hears of some ticks.
        let is_silent = matches!(tick, 24..=26 | 70..=98);
        if !is_silent {
            trace.tick(tick);
        }
        match tick {
            1 => {
                trace.join(0, Body::at(0.0, 0.0, 256.0).pose());
                for (id, body) in [(1, walker), (2, jumper), (3, thrown), (5, carried)] {
                    trace.join(id, body.pose());
                }
                thrown.velocity = [90.0, -40.0, 60.0];
            }
            12 => trace.join(40, guest.pose()),
            44 => trace.leave(40),
            _ => {}
        }
        let wanted = match tick {
            2..18 => [102.0, 0.0],
            18..30 => {
                walker.turn([0.0, 0.0, 0.06]);
                let [x, y] = [walker.velocity[0], walker.velocity[1]];
                [x - 0.12 * y, y + 0.12 * x]
            }
            30..44 => [-60.0, 80.0],
            _ => [0.0, 0.0],
        };
        walker.steer(wanted);
        walker.go();
        if tick % 40 == 5 {
            jumper.velocity = [20.0, 0.0, 136.0];
        }
        jumper.fall(0.0);
        if jumper.velocity[2] == 0.0 {
            jumper.velocity = [0.0; 3];
        }
        thrown.fall(0.6);
        if thrown.velocity[2] == 0.0 {
            thrown.steer([0.0; 2]);
        } else {
            thrown.turn([0.09, -0.05, 0.02]);
        }
        match tick {
            8 => carried.position = [-120_000.0, 90_001.0, 16_384.0],
            20 => carried.position[0] += 3_333.0,
            33 => {
                carried.position = [40.0, 50.0, 256.0];
                carried.turn([0.9, 0.3, -0.4]);
            }
            // A step, and back again.
            36 => carried.position[1] += 60.0,
            37 => carried.position[1] -= 60.0,
            _ => {}
        }
        guest.steer([if tick > 15 { 190.0 } else { 0.0 }, 40.0]);
        guest.turn([0.0, 0.0, if tick > 30 { -0.03 } else { 0.0 }]);
        if tick > 13 {
            guest.go();
        }
        if !is_silent {
            let bodies = [(1, walker), (2, jumper), (3, thrown), (5, carried)];
            let guest = (12..44).contains(&tick).then_some((40, guest));
            trace.end(
                bodies
                    .into_iter()
                    .chain(guest)
                    .map(|(id, body)| (id, body.pose())),
            );
        }
        if matches!(tick, 23 | 40 | 69) {
            trace.keyframe();
        }
    }
    trace.text
}

/// Many that rest, of which some are pushed, and one that runs straight for long.
fn crowd() -> String {
    let mut trace = Trace::begin("crowd");
    let place = |id: u64| Body::at((id % 16) as f64 * 600.0, (id / 16) as f64 * 600.0, 256.0);
    let pushed = |id: u64, by: f64| {
        let mut body = place(id);
        body.position[0] += by;
        (id, body.pose())
    };
    trace.tick(1);
    for id in 0..160 {
        trace.join(id, place(id).pose());
    }
    trace.end([]);
    for tick in 2..7 {
        trace.tick(tick);
        let runner = pushed(5, f64::from(tick - 1) * 90.0);
        let others: &[u64] = match tick {
            2 => &[17, 18, 80, 159],
            3 => &[0],
            4 => &[1, 2, 3, 4, 6, 7, 8, 9, 10],
            _ => &[],
        };
        let others = others.iter().map(|&id| pushed(id, id as f64 - 70.5));
        trace.end([runner].into_iter().chain(others));
    }
    for tick in [60, 100, 101] {
        trace.tick(tick);
        trace.end([pushed(5, f64::from(tick - 1) * 90.0)]);
    }
    trace.text
}

/// One that spins fast, through a silence too, and turns over at once.
fn spinning() -> String {
    let mut trace = Trace::begin("spinning");
    let mut body = Body::at(5.0, 6.0, 7_000.0);
    for tick in 1..=50 {
        let is_silent = (9..=34).contains(&tick);
        if !is_silent {
            trace.tick(tick);
        }
        match tick {
            1 => trace.join(9, body.pose()),
            38 => body.turn([-3.0, 4.0, 1.0]),
            45.. => {}
            _ => body.turn([0.1, -0.05, 0.15]),
        }
        if !is_silent {
            trace.end([(9, body.pose())]);
        }
        if matches!(tick, 8 | 40) {
            trace.keyframe();
        }
    }
    trace.tick(80);
    trace.end([]);
    trace.keyframe();
    trace.text
}

/// Whatever is possible: no person moves like this.
fn wild() -> String {
    let mut trace = Trace::begin("wild");
    let mut seed = 1u32;
    let mut dice = |sides: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) % sides
    };
    let mut bodies = [0.0, 1.0, 2.0, 3.0].map(|index| Body::at(index * 2_000.0, 0.0, 3_000.0));
    trace.tick(1);
    for (id, body) in (0..).zip(&bodies) {
        trace.join(id, body.pose());
    }
    trace.end([]);
    let mut tick = 1;
    for _ in 0..60 {
        tick += 1 + dice(8) / 7;
        for body in &mut bodies {
            let size = 1 << dice(12);
            let mut part = || f64::from(dice(2 * size)) - f64::from(size);
            let push = [part(), part(), part()];
            match dice(5) {
                0 => body.velocity = push,
                1 => body.turn(push.map(|part| part / 2_048.0)),
                2 => body.turn([0.05, -0.02, 0.3]),
                _ => {}
            }
            body.go();
            if body.position[2] < 0.0 || body.position[2] > 16_000.0 {
                body.position[2] = 3_000.0;
                body.velocity[2] = 0.0;
            }
        }
        trace.tick(tick);
        trace.end((0..).zip(bodies.map(|body| body.pose())));
        if tick % 16 == 0 {
            trace.keyframe();
        }
    }
    trace.text
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
    let written = [HEAD.to_owned(), people(), crowd(), spinning(), wild()].concat();
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
