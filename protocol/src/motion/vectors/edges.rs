//! The edges of every clamp and class, which motion as it is seldom comes to.

use super::{Trace, bytes, from_hex, hex};
use crate::cube::{CubeId, CubePose};
use crate::motion::{Codec, MotionSet, MotionState};
use crate::quantize::{Pose, Position, Rotation};

/// A state, a number of ticks, and where the cube is after them.
type Case = (&'static str, u32, [i32; 3], [u8; 4]);

/// Found by a search for what tells codecs with a mistake from those without, one mistake at a time: ages of more than 64, 255 and
/// 65,536 ticks, ties, rotations that no encoder writes, the world's edge, the largest numbers of every kind.
#[rustfmt::skip]
const CASES: &[Case] = &[
    ("01fb0002fcfeff0300fba201b22abf19fcfeff1f00fbfd000000fb0f14fcefff030000fbfeffbffb0001541003bf0800fe004101080101", 1, [133118, -15874, 0], [46, 254, 175, 19]),
    ("01fce9450100fcdee80100fbfe7f98239726fc8d160600fbfe0000fbfd03fb0804fc00000400000000fbefff02ff4181ff011011fefe00fc7f", 16, [-131072, 131095, 16388], [0, 250, 255, 255]),
    ("01fbfc02fb0002fb0868fffdefdf000dfbff0200fcefff03000000000000ff7f81050000ff00085505fefe", 60, [313, -131069, 13237], [3, 32, 8, 0]),
    ("01fb1a02fb0002fa5633527100fb0003fbfe0000000000ec300e011000092e8180fdfe00094010", 1, [-131071, 250, 13717], [86, 51, 82, 113]),
    ("01fc00000400fb000200152dfbbf0000000000000000000d057f8103fc05084008ff038000", 0, [129024, 261, -2048], [26, 45, 251, 191]),
    ("01fb3602fc00000100fbc40319abf59600fb020100fb6b0100fb3c0107000014b5fc02008100047f030004feff", 3, [8671, 187, 11653], [24, 203, 213, 150]),
    ("01fcfdff0300fb0002fb0e4bfffdef7f00fb000519fbff0300000600fbefff06030009087f81fd80810300a781", 3, [-131071, 256, 9607], [252, 249, 175, 127]),
    ("01fb8389fcfdff030000d4b2f90800fcffff1f00fb000300fcfeff0300fb3b08001dfb1739fcfeffffff0241040800ff111109d4fe4104", 1, [-15555, 131077, 3], [29, 146, 169, 191]),
    ("01fbfb00fc7ed9030000feff7fc8fbfd00000000000000000016038180ff800800000405008003", 3, [-126, 126143, 0], [150, 248, 255, 31]),
    ("01fc00000400fb0002fb000201f80f80fb300200fbb0e1fcffff0300fcfeff030000fbff7f2bfbfeff1703097f02000101040805000300", 1, [-22506, 131073, 2961], [255, 55, 242, 191]),
    ("00fb0002fb000200c9057b99", 5, [1126, 254, 2049], [202, 17, 107, 153]),
    ("01fbd603fb0e0202fffde73f0000000000000000340005fe007f5aff080008080081aa", 31, [491, 261, 1], [3, 254, 71, 126]),
    ("01d6fc01000100fb3e03fffd17c0fbff0400fbff0000020a00fb00800010041140491008fc4108fdfd40ff", 0, [107, -32769, 415], [142, 94, 122, 193]),
    ("01fc83eb0300fb0002fb000219931dcce4a40000fc0d930200fb371200fb00800100fffffffd81030400fc80800002", 1, [-128515, 1975, 247], [210, 149, 254, 63]),
    ("00fb0804fcfeff0300fbbe019b61210e", 1, [521, 131071, 226], [166, 119, 204, 192]),
    ("00fcfdff0300fcfeff0300fb0002b6feeff6", 1, [200000, -200000, -200000], [182, 254, 239, 246]),
    ("01fcfeff0300fb0002fb008096581200000000000000fbfeff0031e803fcfe00808100001010100904", 24, [133120, 259, 16386], [150, 88, 18, 0]),
    ("01fcfdff0300fcfdff03000060ae89e700fcbfb4010008fbff03ca000000000004fc040408057f0940000981fc", 0, [-130122, -131073, -3], [148, 37, 99, 57]),
    ("01fcfdff0300fbf4d8fb7c72fffd0700000007fb7a040000000000fcfeffffff02fe097f10014181ffff80fdfc", 1, [131081, 27772, -2], [255, 241, 23, 0]),
    ("01f9fb000200fea3fd3ffb6e0c00fcfeff1f00fbef02fb0104fcfeff03000000f90d01ff01800009414105804156fd", 1, [-183, 51, 16336], [51, 243, 175, 227]),
    ("01fcffff0300fcfdff0300fb0002773677f7fca1a90c0000fbff04000000000000fc6f1101000400030009018040ff1100fd01", 1, [-131072, -131071, 256], [125, 54, 71, 247]),
    ("010000fb000292d9e917000000000000fb5245fb8721fbce460000000000000000000000000000", 1, [0, 0, 256], [128, 137, 100, 195]),
    ("010000fb0002c7a6559e000000000000fb063afb6d11fb6c390000000000000000000000000000", 1, [0, 0, 256], [123, 25, 113, 162]),
    ("010000fb0002febd6d760000000000001649010000000000000000000000000000", 1, [0, 0, 256], [142, 12, 144, 201]),
    ("000000fb0002fff9efff", 1, [0, 0, 256], [254, 255, 231, 255]),
    ("010000fb0002ffffffff000000000000fb8504fbae0cfbc00a0000000000000000000000000000", 1, [0, 0, 256], [180, 217, 254, 127]),
];

/// Where a cube at (0, 0, 256) jumps to.
#[rustfmt::skip]
const JUMPS: &[([i32; 3], [u8; 4])] = &[
    ([35495, 120084, 0], [255, 253, 247, 223]),
    ([52331, -39210, 5115], [141, 58, 127, 167]),
    ([-82714, 11624, 16265], [225, 104, 79, 77]),
];

pub(super) fn states() -> String {
    let mut trace = Trace::begin("states");
    let mut tick = 1;
    for (state, ticks, [x, y, z], rotation) in CASES.iter().copied() {
        trace.tick(tick);
        trace.enter(1, &from_hex(state));
        tick += ticks;
        trace.tick(tick);
        let position = Position { x, y, z };
        let rotation = rotation.into();
        trace.end([(1, Pose { position, rotation })]);
        trace.keyframe();
    }
    // A reader forces these into bounds.
    let (least, most) = ([i32::MIN; 3], [i32::MAX; 3]);
    let (velocity, acceleration) = (1 << 20, 1 << 17);
    for (base, velocity, acceleration) in [
        (upright([i32::MIN, i32::MAX, -125]), least, most),
        (upright([i32::MAX, i32::MIN, 32_767]), most, least),
        (
            upright([131_073, -131_073, 16_385]),
            [velocity, velocity + 1, -velocity - 1],
            [acceleration + 1, -acceleration - 1, acceleration],
        ),
    ] {
        tick += 1;
        trace.tick(tick);
        trace.enter(1, &moving(base, velocity, acceleration, 7));
        trace.end([]);
        trace.keyframe();
    }
    // No age is larger.
    trace.enter(1, &moving(upright([5; 3]), [1, 0, 0], [0; 3], u32::MAX - 1));
    for _ in 0..2 {
        tick += 1;
        trace.tick(tick);
        trace.end([]);
        trace.keyframe();
    }
    refused(&mut trace);
    trace.text
}

fn refused(trace: &mut Trace) {
    let state = moving(upright([5; 3]), [1, 2, 3], [0; 3], 300);
    trace.wrong_state(&state[..state.len() - 1]);
    trace.wrong_state(&[&state[..], &[0]].concat());
    trace.wrong_state(&[&[2], &state[1..]].concat());
    let settled = bytes(&MotionState::at_rest(upright([5; 3])));
    trace.wrong_state(&[&[2], &settled[1..]].concat());
    // An age in a longer form than it needs, and a settled state in the form of a moving one.
    let at = state.len() - 16;
    assert_eq!(state[at..at + 3], [0xfb, 0x2c, 1]);
    trace.wrong_state(&[&state[..at], &[0xfc, 0x2c, 1, 0, 0], &state[at + 3..]].concat());
    trace.wrong_state(&moving(upright([5; 3]), [0; 3], [0; 3], 24));
    // A number of 64 bits, of each kind; a spin of 17.
    let mut too_long = |place: usize, number: &[u8]| {
        trace.wrong_state(&[&state[..place], number, &state[place + 1..]].concat());
    };
    let [x, velocity, acceleration, spin] = [1, 8, 11, 14];
    for place in [x, velocity, acceleration] {
        too_long(place, &[0xfd, 0, 0, 0, 0, 1, 0, 0, 0]);
    }
    too_long(spin, &[0xfc, 0, 0, 1, 0]);
    trace.wrong_state(
        &[
            &state[..at],
            &[0xfd, 0, 0, 0, 0, 1, 0, 0, 0],
            &state[at + 3..],
        ]
        .concat(),
    );
}

/// More cubes that are not settled than the model counts, of which nearly all are as predicted, against its odds.
pub(super) fn many() -> String {
    let mut trace = Trace::begin("many");
    trace.tick(1);
    let place = |id: u64| upright([id as i32, 0, 0]);
    for (tick, ids) in (2..).zip([0..17, 17..40, 40..70, 70..130]) {
        trace.tick(tick);
        let last = ids.end - 1;
        for id in ids {
            trace.enter(id, &busy(place(id), 1, u8::MAX, [9, 5, 0]));
        }
        let mut far = place(last);
        far.position.x = 77_777;
        far.rotation = [3, 150, 60, 77].into();
        trace.end([(last, far)]);
    }
    trace.text
}

/// Jumps, whose bits go into the range coder as they are: with a carry through `ff` bytes, a range of exactly 2^24 at the end, an end
/// that the last byte just reaches, zeros that are left out.
pub(super) fn jumps() -> String {
    let mut trace = Trace::begin("jumps");
    trace.asks_for_longer = true;
    let jump = |([x, y, z], rotation): ([i32; 3], [u8; 4])| Pose {
        position: Position { x, y, z },
        rotation: rotation.into(),
    };
    for (tick, to) in (1..).zip(JUMPS) {
        trace.tick(tick);
        trace.join(9, upright([0, 0, 256]));
        trace.end([(9, jump(*to))]);
    }
    trace.tick(9);
    for (id, (age, history, error)) in (0..).zip([(5, 0x24, 18), (10, 0xc3, 6), (9, 0x4e, 6)]) {
        trace.enter(
            id,
            &busy(upright([id as i32, 0, 0]), age, history, [error, 0, 0]),
        );
    }
    trace.join(9, upright([9, 0, 0]));
    trace.end([(9, upright([77_777, -55_555, 300]))]);
    trace.text
}

/// A cell that is seen from afar: cubes come from other cells and go there while they move, and there is a tick every four.
pub(super) fn cell() -> String {
    let mut near = MotionSet::new(&Codec::LIVE);
    let path = |id: u64, tick: u32| {
        let along = 95 * tick as i32;
        upright([
            along * (id as i32 - 3),
            40 * tick as i32 * tick as i32 / 30,
            256,
        ])
    };
    for id in [2, 4] {
        near.insert(CubeId(id), MotionState::at_rest(path(id, 0)));
    }
    let mut trace = Trace::begin("cell");
    trace.tick(40);
    trace.join(3, path(3, 0));
    trace.end([]);
    for tick in 41..=72 {
        near.advance_to(tick.into());
        near.encode_tick(|id| path(id.0, tick - 40), &mut Vec::new());
        if !tick.is_multiple_of(4) {
            continue;
        }
        trace.tick(tick);
        for (enters, leaves, id) in [(48, 64, 2), (52, 72, 4)] {
            if tick == enters {
                trace.enter(id, &bytes(near.get(CubeId(id)).unwrap()));
            } else if tick == leaves {
                trace.leave(id);
            }
        }
        if tick == 60 {
            // The cube is placed: what was known of its motion is void.
            trace.join(4, path(4, 19));
        }
        let seen: Vec<u64> = trace.receiver.iter().map(|(id, _)| id.0).collect();
        let moving = seen.into_iter().filter(|&id| id != 3);
        trace.end(moving.map(|id| (id, path(id, tick - 40))));
        trace.keyframe();
    }
    trace.text
}

/// The samples of a client of its own cube and of one that it holds.
pub(super) fn samples() -> String {
    const OWN: u64 = 7;
    const HELD: u64 = 12_345_678_901;
    let mut trace = Trace::begin("samples");
    let at = |x: i32| upright([x, -x / 3, 256]);
    trace.sample(70_000, &[(OWN, at(1_000))], &[]);
    trace.sample(70_001, &[], &[(OWN, at(1_060))]);
    trace.sample(70_002, &[(HELD, at(3_000))], &[(OWN, at(1_170))]);
    trace.sample(70_003, &[], &[(OWN, at(1_290)), (HELD, at(3_100))]);
    // A heartbeat: both are as predicted.
    let poses: Vec<_> = trace.predicted_at(70_007);
    trace.sample(70_007, &[], &poses);
    // Placed again, outside the world, while the other one moves on.
    trace.sample(
        70_008,
        &[(OWN, upright([-200_000, 0, -9]))],
        &[(HELD, at(3_800))],
    );
    // Placed in every sample: at rest each time.
    for tick in 70_009..70_012 {
        let x = 60 * (tick - 70_009) as i32;
        trace.sample(tick, &[(OWN, at(x)), (HELD, at(x + 700))], &[]);
    }
    trace.leave(HELD);
    trace.sample(140_000, &[], &[(OWN, at(5))]);
    trace.text
}

impl Trace {
    fn predicted_at(&self, tick: u64) -> Vec<(u64, Pose)> {
        let mut later = self.receiver.clone();
        later.advance_to(tick);
        later.poses().map(|(id, pose)| (id.0, pose)).collect()
    }

    fn sample(&mut self, tick: u64, placed: &[(u64, Pose)], moved: &[(u64, Pose)]) {
        let cube_pose = |&(id, pose)| CubePose {
            cube: CubeId(id),
            pose,
        };
        for set in [&mut self.sender, &mut self.receiver] {
            set.advance_to(tick);
            for &(id, pose) in placed {
                set.insert(CubeId(id), MotionState::at_rest(pose));
            }
        }
        let residuals = self.encode(placed.iter().chain(moved).copied());
        let residuals = residuals.unwrap_or_default();
        let placed: Vec<CubePose> = placed.iter().map(cube_pose).collect();
        // The number of the message, and its fields.
        let message = bytes(&(1u8, tick, placed, &residuals));
        self.line(format_args!("sample {}", hex(&message)));
        if !residuals.is_empty() {
            self.receiver.decode_tick(&residuals, |_| {}).unwrap();
        }
        self.poses();
    }
}

fn upright([x, y, z]: [i32; 3]) -> Pose {
    let position = Position { x, y, z };
    let rotation = Rotation::IDENTITY;
    Pose { position, rotation }
}

/// The bytes of a state without spin and errors, whose numbers may be any.
fn moving(base: Pose, velocity: [i32; 3], acceleration: [i32; 3], age: u32) -> Vec<u8> {
    let spin = [0i16; 3];
    let history = 5u8;
    let errors = [[0i8; 3]; 4];
    bytes(&(
        1u8,
        base,
        velocity,
        acceleration,
        spin,
        age,
        history,
        errors,
    ))
}

/// The bytes of the state of a cube that stands, but had residuals lately.
fn busy(base: Pose, age: u8, history: u8, newer: [i8; 3]) -> Vec<u8> {
    let still = [[0i32; 3]; 3];
    let errors = [newer, [0; 3], [0; 3], [0; 3]];
    bytes(&(1u8, base, still, age, history, errors))
}
