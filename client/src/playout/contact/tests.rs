use proptest::prelude::*;

use super::touched::GRAVITY_MPS2;
use super::*;

const OWN: CubeId = CubeId(100);
const CUBE: CubeId = CubeId(0);
const FRAME_S: f64 = 1.0 / 60.0;
const WALK_MPS: f32 = 6.0;
const RUN_MPS: f32 = 11.0;

fn body(cube: CubeId, width_m: f32, [x, y]: [f32; 2]) -> Body {
    Body {
        cube,
        width_m,
        pose: DrawnPose {
            position: [x, y, width_m / 2.0],
            rotation: [0.0, 0.0, 0.0, 1.0],
        },
        is_loose: true,
    }
}

/// Returns where a cube is shown.
fn shown_m(contacts: &Contacts, body: &Body) -> [f32; 3] {
    let offset_m = contacts.offset_m(body.cube).unwrap_or_default();
    std::array::from_fn(|axis| body.pose.position[axis] + offset_m[axis])
}

fn overlap_m(contacts: &Contacts, own: &Body, other: &Body) -> f32 {
    let mut solid = Solid::new(other.width_m, &other.pose);
    solid.shift(contacts.offset_m(other.cube).unwrap_or_default());
    Solid::new(own.width_m, &own.pose).overlap_m(&solid)
}

/// Moves a player's cube from `from_m` along x at a speed for a time, beside cubes that stand where they are
/// published, and calls `look` after each frame.
fn push(
    loose: &[Body],
    from_m: f32,
    speed_mps: f32,
    seconds: f64,
    mut look: impl FnMut(&Contacts, &Body),
) -> Contacts {
    let mut contacts = Contacts::default();
    for frame in 1..=(seconds / FRAME_S) as u32 {
        let time_s = f64::from(frame) * FRAME_S;
        let own = body(OWN, 1.0, [from_m + speed_mps * time_s as f32, 0.0]);
        contacts.step(time_s, &[own], loose);
        look(&contacts, &own);
    }
    contacts
}

#[test]
fn a_touched_cube_moves_in_the_same_frame() {
    let cube = body(CUBE, 0.625, [1.0, 0.1]);
    let mut last_m = 1.0;
    push(&[cube], 0.0, WALK_MPS, 0.3, |contacts, own| {
        assert!(overlap_m(contacts, own, &cube) < LEFT_M + 1e-4);
        let [x_m, ..] = shown_m(contacts, &cube);
        assert!(
            (0.0..0.15).contains(&(x_m - last_m)),
            "from {last_m} to {x_m}"
        );
        last_m = x_m;
    });
    assert!(last_m > 2.5, "{last_m}");
}

#[test]
fn nobody_passes_through_a_cube_however_small_and_fast() {
    for width_m in [0.125, 0.625, 2.5, 4.0] {
        for speed_mps in [WALK_MPS, RUN_MPS] {
            let cube = body(CUBE, width_m, [2.5 + width_m / 2.0, 0.05]);
            push(&[cube], 0.0, speed_mps, 0.5, |contacts, own| {
                let ahead_m = shown_m(contacts, &cube)[0] - own.pose.position[0];
                assert!(ahead_m > (1.0 + width_m) / 2.0 - 0.05, "{ahead_m}");
            });
        }
    }
}

#[test]
fn a_cube_comes_back_to_the_bit_within_a_bound_of_time() {
    let cube = body(CUBE, 0.625, [1.0, 0.0]);
    let mut contacts = push(&[cube], 0.0, WALK_MPS, 0.2, |_, _| {});
    let mut off_m = contacts.offset_m(CUBE).map(length).unwrap();
    assert!(off_m > 0.5);
    for frame in 1..=60 {
        let time_s = 0.2 + f64::from(frame) * FRAME_S;
        contacts.step(time_s, &[body(OWN, 1.0, [-9.0, 0.0])], &[cube]);
        if frame > 15 {
            assert_eq!(contacts.offset_m(CUBE), None, "after {frame} frames");
        }
        let now_m = contacts.offset_m(CUBE).map_or(0.0, length);
        assert!((now_m - off_m).abs() < 0.2, "from {off_m} to {now_m}");
        off_m = now_m;
    }
}

#[test]
fn what_is_out_of_reach_or_only_touched_stays_where_it_is() {
    let beside = body(CUBE, 1.0, [3.0, 1.0]);
    let far = body(CubeId(1), 1.0, [5.0, -4.0]);
    push(&[beside, far], 0.0, WALK_MPS, 1.0, |contacts, _| {
        assert!(contacts.touched.is_empty());
    });
}

#[test]
fn a_cube_that_somebody_holds_is_not_pushed() {
    let mut held = body(CUBE, 1.0, [2.0, 0.0]);
    held.is_loose = false;
    push(&[held], 0.0, WALK_MPS, 1.0, |contacts, _| {
        assert!(!contacts.is_touched(CUBE));
    });
    // One that is taken while it is pushed goes back as any other.
    let cube = body(CUBE, 1.0, [1.0, 0.0]);
    let mut contacts = push(&[cube], 0.0, WALK_MPS, 0.2, |_, _| {});
    for frame in 1..=18 {
        let time_s = 0.2 + f64::from(frame) * FRAME_S;
        let own = body(OWN, 1.0, [1.2 + 0.1 * frame as f32, 0.0]);
        contacts.step(time_s, &[own], &[held]);
    }
    assert!(!contacts.is_touched(CUBE));
}

#[test]
fn a_pushed_cube_pushes_the_next_ones_up_to_a_bound() {
    let row: Vec<_> = (0..6)
        .map(|place| body(CubeId(place), 0.5, [1.0 + 0.5 * place as f32, 0.0]))
        .collect();
    let contacts = push(&row, 0.0, WALK_MPS, 0.1, |_, _| {});
    let pushed = row.iter().map(|body| contacts.is_touched(body.cube));
    assert_eq!(
        pushed.collect::<Vec<_>>(),
        [true, true, true, true, false, false]
    );
}

#[test]
fn a_cube_that_is_put_elsewhere_is_shown_there() {
    let cube = body(CUBE, 1.0, [1.0, 0.0]);
    let mut contacts = push(&[cube], 0.0, WALK_MPS, 0.2, |_, _| {});
    let put = body(CUBE, 1.0, [60.0, 0.0]);
    for frame in 1..=18 {
        let time_s = 0.2 + f64::from(frame) * FRAME_S;
        contacts.step(time_s, &[body(OWN, 1.0, [1.2, 0.0])], &[put]);
        assert!((shown_m(&contacts, &put)[0] - 60.0).abs() < 1.5);
    }
    assert!(!contacts.is_touched(CUBE));
}

#[test]
fn a_thrown_cube_flies_at_once_and_comes_to_agree_with_what_is_published_of_its_flight() {
    const LATE: u32 = 12;
    let at = |frame: u32| {
        let time_s = frame as f32 * FRAME_S as f32;
        let mut cube = body(CUBE, 1.0, [WALK_MPS * time_s, 0.0]);
        cube.pose.position[2] = (2.0 - GRAVITY_MPS2 / 2.0 * time_s * time_s).max(0.5);
        cube
    };
    let mut contacts = Contacts::default();
    for frame in 0..4 {
        let mut carried = body(
            CUBE,
            1.0,
            [WALK_MPS * FRAME_S as f32 * (frame as f32 - 3.0), 0.0],
        );
        carried.pose.position[2] = 2.0;
        contacts.step(f64::from(frame) * FRAME_S, &[carried], &[]);
    }
    contacts.let_go(CUBE, at(0).pose);
    let mut last_m = 0.0;
    for frame in 1..50 {
        let published = at(frame.max(LATE) - LATE);
        contacts.step(f64::from(3 + frame) * FRAME_S, &[], &[published]);
        let [x_m, ..] = shown_m(&contacts, &published);
        assert!(
            (0.001..0.15).contains(&(x_m - last_m)),
            "{frame}: from {last_m} to {x_m}"
        );
        last_m = x_m;
    }
    assert!(!contacts.is_touched(CUBE));
}

#[test]
fn a_player_inside_a_wall_does_not_burst_it() {
    let places = (0..25).map(|index| [index % 5 - 2, index / 5 - 2].map(|place| place as f32));
    let wall: Vec<_> = (0..)
        .zip(places)
        .map(|(id, place)| body(CubeId(id), 0.625, place.map(|part| part * 0.64)))
        .collect();
    let mut contacts = Contacts::default();
    let mut ways_m = vec![0.0; wall.len()];
    let mut shown: Vec<_> = wall.iter().map(|it| shown_m(&contacts, it)).collect();
    for frame in 1..=150 {
        let x_m = if frame < 100 { 0.0 } else { 50.0 };
        contacts.step(
            f64::from(frame) * FRAME_S,
            &[body(OWN, 1.0, [x_m, 0.0])],
            &wall,
        );
        for ((it, before), way_before_m) in wall.iter().zip(&mut shown).zip(&mut ways_m) {
            let now = shown_m(&contacts, it);
            let way_m = length(difference(now, *before));
            assert!(way_m - *way_before_m < PARTING_MPS / 60.0 + 1e-3, "{way_m}");
            assert!(length(difference(now, it.pose.position)) < 1.5, "{now:?}");
            (*before, *way_before_m) = (now, way_m);
        }
        if frame == 99 {
            let own = body(OWN, 1.0, [0.0; 2]);
            assert!(wall.iter().all(|it| overlap_m(&contacts, &own, it) < 0.05));
        }
    }
    assert!(contacts.touched.is_empty());
}

#[test]
fn a_cube_that_leaves_while_it_is_pushed_is_forgotten() {
    let cube = body(CUBE, 1.0, [1.0, 0.0]);
    let mut contacts = push(&[cube], 0.0, WALK_MPS, 0.2, |_, _| {});
    assert!(contacts.is_touched(CUBE));
    contacts.step(0.21, &[body(OWN, 1.0, [1.2, 0.0])], &[]);
    assert!(!contacts.is_touched(CUBE));
    contacts.step(0.22, &[body(OWN, 1.0, [-9.0, 0.0])], &[cube]);
    assert_eq!(shown_m(&contacts, &cube), cube.pose.position);
}

#[test]
fn a_thrown_cube_that_somebody_else_takes_goes_to_them() {
    let mut contacts = Contacts::default();
    let carried = |frame: u32| body(CUBE, 1.0, [0.1 * frame as f32, 0.0]);
    for frame in 0..4 {
        contacts.step(f64::from(frame) * FRAME_S, &[carried(frame)], &[]);
    }
    contacts.let_go(CUBE, carried(3).pose);
    let mut last_m = carried(3).pose.position;
    for frame in 4..64 {
        let mut held = body(CUBE, 1.0, [0.3, 0.05 * (frame as f32 - 4.0)]);
        held.is_loose = false;
        contacts.step(f64::from(frame) * FRAME_S, &[], &[held]);
        let now_m = shown_m(&contacts, &held);
        assert!(length(difference(now_m, last_m)) < 0.2, "{frame}");
        last_m = now_m;
    }
    assert!(!contacts.is_touched(CUBE));
}

#[test]
fn a_cube_that_was_put_far_away_and_let_go_has_no_speed() {
    let mut contacts = Contacts::default();
    for frame in 0..4 {
        let carried = body(CUBE, 1.0, [60.0 * frame as f32, 0.0]);
        contacts.step(f64::from(frame) * FRAME_S, &[carried], &[]);
    }
    let there = body(CUBE, 1.0, [180.0, 0.0]);
    contacts.let_go(CUBE, there.pose);
    contacts.step(4.0 * FRAME_S, &[], &[there]);
    assert!((shown_m(&contacts, &there)[0] - 180.0).abs() < 1e-3);
}

fn any_body(cube: CubeId) -> impl Strategy<Value = Body> {
    let position = (-3.0_f32..3.0, -3.0_f32..3.0, 0.0_f32..2.0);
    let turn = prop::array::uniform4(-1.0_f32..1.0).prop_filter_map("a length", |parts| {
        let length = parts.iter().map(|part| part * part).sum::<f32>().sqrt();
        (length > 0.1).then(|| parts.map(|part| part / length))
    });
    (0.125_f32..4.0, position, turn, prop::bool::ANY).prop_map(
        move |(width_m, (x, y, z), rotation, is_loose)| Body {
            cube,
            width_m,
            pose: DrawnPose {
                position: [x, y, z],
                rotation,
            },
            is_loose,
        },
    )
}

fn any_bodies(first: u64) -> impl Strategy<Value = Vec<Body>> {
    (first..first + 5)
        .map(|id| any_body(CubeId(id)))
        .collect::<Vec<_>>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_happens_cubes_stay_near_and_come_back(
        frames in prop::collection::vec((any_bodies(0), any_bodies(100), -0.1_f64..1.0), 1..8),
    ) {
        let mut contacts = Contacts::default();
        let mut clock_s = 0.0;
        for (loose, pushers, passed_s) in &frames {
            clock_s += passed_s;
            contacts.step(clock_s, pushers, loose);
            for offset_m in contacts.touched.values().map(|it| it.offset_m) {
                prop_assert!(offset_m.iter().all(|part| part.is_finite()));
                prop_assert!(length(offset_m) < 40.0, "{offset_m:?}");
            }
        }
        let Some((loose, ..)) = frames.last() else { return Ok(()) };
        // What is far away comes back no faster than it may start.
        for _ in 0..30 {
            clock_s += 0.1;
            contacts.step(clock_s, &[], loose);
        }
        prop_assert!(contacts.touched.is_empty());
    }
}
