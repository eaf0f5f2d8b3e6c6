//! Motion as people and things have it, and some that nothing has.
//!
//! The truth is made with additions, products and square roots only: every machine gets the
//! same, which a sine does not promise.

use super::Trace;
use crate::quantize::{Pose, Position, Rotation};

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
pub(super) fn people() -> String {
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
pub(super) fn crowd() -> String {
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
pub(super) fn spinning() -> String {
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
pub(super) fn wild() -> String {
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
