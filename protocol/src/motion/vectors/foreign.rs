//! Ticks that no encoder of ours writes: what is impossible in them is an error or has one meaning.

use std::collections::VecDeque;

use super::super::model::{Decide, FEATURES, Modelled, Rows};
use super::super::number::number;
use super::super::range::RangeEncoder;
use super::Trace;
use crate::motion::Codec;
use crate::quantize::{Pose, Position, Rotation};

/// Answers to the questions of a tick, in their order: it takes down what it is given.
#[derive(Default)]
struct Answers(VecDeque<u32>);

impl Answers {
    fn yes(self) -> Self {
        self.raw_bits(1, 1)
    }

    fn no(self) -> Self {
        self.raw_bits(0, 1)
    }

    fn raw_bits(mut self, bits: u32, count: u32) -> Self {
        self.raw(bits, count);
        self
    }

    fn number(mut self, value: i32) -> Self {
        number(&mut self, &[0; FEATURES], value);
        self
    }

    /// The residual of a settled cube that is off by these, with the same component left out.
    fn off(self, position: [i32; 3], rotation: [i32; 3]) -> Self {
        let asked = position.into_iter().fold(self.no(), Self::number);
        rotation.into_iter().fold(asked.no(), Self::number)
    }
}

impl Decide for Answers {
    fn decide(&mut self, _: &Rows, _: usize, bit: bool) -> bool {
        self.raw(bit.into(), 1) == 1
    }

    fn raw(&mut self, bits: u32, count: u32) -> u32 {
        self.0.push_back(bits & ((1 << count) - 1));
        bits
    }
}

/// Writes the answers, whatever the questions are; behind the last one all are no.
struct Forced<'a> {
    answers: Answers,
    modelled: Modelled<RangeEncoder<'a>>,
}

impl Decide for Forced<'_> {
    fn decide(&mut self, rows: &Rows, node: usize, _: bool) -> bool {
        let answer = self.answers.0.pop_front() == Some(1);
        self.modelled.decide(rows, node, answer)
    }

    fn raw(&mut self, _: u32, count: u32) -> u32 {
        let answer = self.answers.0.pop_front().unwrap_or(0);
        self.modelled.raw(answer, count)
    }
}

impl Trace {
    /// The bytes of a tick with these answers, and whether a decoder takes them.
    fn forced(&self, answers: Answers) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let mut forced = Forced {
            answers,
            modelled: Modelled {
                coder: RangeEncoder::new(&mut bytes),
                table: Codec::LIVE.table,
            },
        };
        let is_taken = self
            .receiver
            .clone()
            .read_from(&mut forced, &mut |_| {})
            .is_ok();
        forced.modelled.coder.finish();
        (bytes, is_taken)
    }

    fn take(&mut self, answers: Answers) {
        let (bytes, is_taken) = self.forced(answers);
        assert!(is_taken);
        self.take_bytes(&bytes);
    }

    fn take_bytes(&mut self, bytes: &[u8]) {
        self.foreign(bytes);
        self.poses();
        self.keyframe();
    }

    fn refuse(&mut self, answers: Answers) {
        let (bytes, is_taken) = self.forced(answers);
        assert!(!is_taken);
        self.wrong(&bytes);
    }
}

impl Trace {
    /// The answers of a tick in which no active cube has a residual, so far.
    fn quiet(&self) -> Answers {
        let active = self.receiver.active();
        active.fold(Answers::default(), |asked, _| asked.no())
    }

    /// One settled cube wakes: so many pairs of cubes before it, and one more or not.
    fn woken(&self, pairs: i32, one: u32) -> Answers {
        self.quiet().number(1).number(pairs).raw_bits(one, 1)
    }
}

fn still(x: i32, rotation: [u8; 4]) -> Pose {
    Pose {
        position: Position { x, y: 0, z: 256 },
        rotation: rotation.into(),
    }
}

pub(super) fn foreign() -> String {
    let mut trace = Trace::begin("foreign");
    let identity = Rotation::IDENTITY.into();
    trace.tick(1);
    for id in 0..9 {
        trace.join(id, still(600 * id as i32, identity));
    }
    trace.end([]);

    trace.tick(2);
    // All nine are settled. Ten wake, or one behind the last.
    trace.refuse(trace.quiet().number(10));
    trace.refuse(trace.woken(4, 1));
    // Fewer than none is none.
    trace.take(trace.quiet().number(-2));
    // Every answer is no: cube 2 wakes.
    trace.tick(3);
    trace.take(Answers::default());
    trace.tick(4);
    // It cannot wake again. A distance below 0 is 0, and none is longer than what is left, in pairs: eight of nine.
    trace.refuse(trace.woken(1, 0));
    trace.take(trace.woken(-3, 0).off([1, -1, 2], [1, -2, 3]));
    trace.tick(5);
    trace.take(trace.woken(100, 0).off([0; 3], [0; 3]));

    // Further than a jump, as far as a number goes, and out of the world.
    const FAR: i32 = 1 << 19;
    trace.tick(100);
    trace.take(trace.woken(0, 1).off([2_049, -2_049, 2_050], [0; 3]));
    trace.tick(200);
    trace.take(trace.woken(1, 1).off([FAR, -FAR, FAR], [FAR, -FAR, 500]));
    trace.tick(300);
    trace.take(
        trace
            .woken(2, 0)
            .off([-300_000, 300_000, -20_000], [-700, 700, -FAR]),
    );

    // Jumps out of the world, to a rotation beyond ten bits, and from one that is none.
    let jump = |asked: Answers, turns| {
        let to = [(turns, 1), (65_535, 16), (52_430, 16), (4_095, 12)];
        let put = |asked: Answers, (bits, count)| asked.raw_bits(bits, count);
        to.into_iter().fold(asked.yes(), put)
    };
    trace.tick(400);
    let turned = jump(trace.woken(2, 1), 1).raw_bits(2, 2);
    trace.take(turned.raw_bits(255, 8).raw_bits(147, 8).raw_bits(146, 8));
    trace.tick(500);
    trace.leave(6);
    trace.join(6, still(1_800, [255; 4]));
    trace.take(jump(trace.woken(3, 0), 0));

    // Bytes that are missing read as zeros, up to three more than are needed are not noticed, and damage seldom is.
    for tick in 602..606 {
        trace.tick(tick);
        trace.end((4..9).map(|id| {
            (
                id,
                still((600 * id + 90 * u64::from(tick - 601)) as i32, identity),
            )
        }));
    }
    trace.tick(606);
    let active = trace.receiver.active().len();
    let first_stops = Answers::default().yes().yes();
    let others = (1..active).fold(first_stops, |asked, _| asked.no());
    let (bytes, _) = trace.forced(others.number(0));
    let longest = trace.longest(&bytes);
    trace.take_bytes(&longest);
    for (tick, bytes) in (607..).zip([&bytes[..1], &[0], &[0xff; 9], &[0x55; 9]]) {
        trace.tick(tick);
        if trace.accepts(bytes) {
            trace.take_bytes(bytes);
        } else {
            trace.wrong(bytes);
            trace.truth = trace.receiver.poses().collect();
            trace.poses();
        }
    }
    trace.text
}
