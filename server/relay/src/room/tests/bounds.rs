//! How far from where its owner had it a cube is shown, all roundings added.

use cubesync_protocol::{CubePose, Position, Rotation};

use super::*;

/// A cube that walks, jumps and tumbles at random, in metres and as a quaternion.
struct Tumbler {
    position: [f32; 3],
    quaternion: [f32; 4],
    pace: [f32; 3],
    spin: [f32; 4],
}

/// The largest distances: along an axis in quanta, and by rotation in degrees.
#[derive(Debug, Default, Clone, Copy)]
struct Off {
    quanta: f32,
    degrees: f32,
}

impl Tumbler {
    fn step(&mut self, random: &mut fastrand::Rng) {
        let mut near_0 = |size: f32| (random.f32() - 0.5) * size;
        if near_0(1.0) > 0.4 {
            self.pace = [near_0(0.8), near_0(0.8), near_0(0.3)];
            self.spin = [near_0(0.4), near_0(0.4), near_0(0.4), 0.0];
        }
        if near_0(1.0) > 0.49 {
            self.position[0] += near_0(20.0);
        }
        for axis in 0..3 {
            self.position[axis] += self.pace[axis];
        }
        self.position[0] = self.position[0].clamp(-8.0, 8.0);
        self.position[1] = self.position[1].clamp(-8.0, 8.0);
        self.position[2] = self.position[2].clamp(0.0, 32.0);
        for part in 0..4 {
            self.quaternion[part] += self.spin[part];
        }
        let length = self.quaternion.iter().map(|part| part * part).sum::<f32>();
        let length = length.sqrt().max(0.1);
        self.quaternion = self.quaternion.map(|part| part / length);
    }

    fn pose(&self) -> Pose {
        Pose {
            position: Position::from_metres(self.position),
            rotation: Rotation::from_quaternion(self.quaternion),
        }
    }

    /// Measures how far from it a pose is.
    fn measure(&self, shown: Pose, off: &mut Off) {
        let shown_m = shown.position.to_metres();
        for (shown_m, true_m) in shown_m.into_iter().zip(self.position) {
            off.quanta = off.quanta.max((shown_m - true_m).abs() * METRE as f32);
        }
        let shown = shown.rotation.to_quaternion().map(f64::from);
        let own = self.quaternion.map(f64::from);
        let apart = |sign: f64| {
            let squares = shown.iter().zip(own).map(|(a, b)| (a - sign * b).powi(2));
            4.0 * (squares.sum::<f64>().sqrt() / 2.0).asin()
        };
        let degrees = apart(1.0).min(apart(-1.0)).to_degrees() as f32;
        off.degrees = off.degrees.max(degrees);
    }
}

/// Returns how far off a viewer so many metres away ever saw three cubes.
fn worst(view_distance_m: Option<u32>, away_m: i32, every: u64) -> Off {
    let mut test = TestRoom::new(view_distance_m, 3);
    let owners = [(); 3].map(|()| test.enter_at(None, None));
    let viewer = test.enter_at(None, None);
    let mut random = fastrand::Rng::with_seed(5);
    let mut cubes: Vec<_> = (0..3)
        .map(|_| Tumbler {
            position: [0.0, 0.0, 1.0],
            quaternion: [0.0, 0.0, 0.0, 1.0],
            pace: [0.0; 3],
            spin: [0.0; 4],
        })
        .collect();
    let (mut off, mut compared) = (Off::default(), 0);
    for tick in 1..2_000u64 {
        for (cube, owner) in cubes.iter_mut().zip(owners) {
            cube.step(&mut random);
            test.say_pose(owner, tick, (owner, cube.pose()));
        }
        test.say_pose(viewer, tick, (viewer, pose_at(away_m * METRE)));
        let begins = test.room.clock.begins(tick);
        test.room.tick(begins);
        for (&own, client) in &mut test.clients {
            client.read(own, tick, &test.room, &mut test.found);
        }
        if tick < 100 || !tick.is_multiple_of(every) {
            continue;
        }
        let mut seen = test.clients[&viewer].seen.clone();
        seen.heartbeat(tick).unwrap();
        for (cube, owner) in cubes.iter().zip(owners) {
            cube.measure(seen.pose(owner).unwrap(), &mut off);
            compared += 1;
        }
    }
    assert!(compared > 1_000, "{compared}");
    off
}

#[test]
fn a_cube_is_shown_within_the_bounds_of_where_its_owner_had_it() {
    // Half a quantum by the owner's own rounding, and 2 by the way up.
    let near = worst(None, 40, 1);
    assert!(near.quanta <= 2.51 && near.degrees <= 1.9, "{near:?}");
    // The stream of every fourth tick adds 2.
    let far = worst(Some(64), 84, FAR);
    assert!(far.quanta <= 4.51 && far.degrees <= 3.6, "{far:?}");
    assert!(far.quanta > 3.0, "it was no far cell: {far:?}");
}

/// Returns the bytes that each of 20 players who walk in circles costs in a tick: up, and down to each player.
fn cost_of_walkers(places_always: bool) -> (f32, f32) {
    let mut test = TestRoom::new(None, 9);
    let walkers: Vec<_> = (0..20).map(|_| test.enter_at(None, None)).collect();
    let viewer = walkers[0];
    let (mut up_bytes, mut down_bytes, mut count) = (0, 0, 0);
    for tick in 1..=300u64 {
        for (number, &cube) in walkers.iter().enumerate() {
            let angle = tick as f32 / 25.0 + number as f32;
            let mut pose = pose_at(number as i32 * 3_000 + (angle.cos() * 4_000.0) as i32);
            pose.position.y = (angle.sin() * 4_000.0) as i32;
            let (placed, residuals) = match places_always {
                true => (vec![CubePose { cube, pose }], Vec::new()),
                false => {
                    let writer = &mut test.clients.get_mut(&cube).unwrap().writer;
                    writer.sample(tick, cube, pose)
                }
            };
            if placed.is_empty() && residuals.is_empty() {
                continue;
            }
            let sample = ClientMessage::Sample {
                tick,
                placed,
                residuals: residuals.into(),
            };
            up_bytes += sample.to_frame().len() * usize::from(tick > 50);
            test.say(cube, sample);
        }
        let begins = test.room.clock.begins(tick);
        test.room.tick(begins);
        for (&own, client) in &mut test.clients {
            client.heard.clear();
            client.read(own, tick, &test.room, &mut test.found);
        }
        if tick > 50 {
            let heard = test.clients[&viewer].heard.iter();
            down_bytes += heard.map(|message| message.to_frame().len()).sum::<usize>();
            count += walkers.len();
        }
    }
    let each = |len_bytes: usize| len_bytes as f32 / count as f32;
    (each(up_bytes), each(down_bytes))
}

#[test]
fn a_cube_that_is_placed_in_every_sample_costs_what_the_page_says() {
    let (up, down) = cost_of_walkers(false);
    assert!(
        (up - 5.9).abs() < 0.2 && (down - 1.1).abs() < 0.1,
        "{up} and {down}"
    );
    let (up, down) = cost_of_walkers(true);
    assert!(
        (up - 23.0).abs() < 0.5 && (down - 17.0).abs() < 0.5,
        "{up} and {down}"
    );
}
