//! A room that a busy machine has held up, and that leaves out the ticks that it missed.

use super::*;

/// Ends tick `tick`, and lets the clients read. The ticks before it that have not ended are left out.
fn end(test: &mut TestRoom, tick: u64) {
    let begins = test.room.clock.begins(tick);
    test.room.take_events(begins);
    test.room.tick(begins);
    for (&own, client) in &mut test.clients {
        client.read(own, tick, &test.room, &mut test.found);
    }
}

/// Returns where a walker is who turns at right angles, 8 m/s, every fourth tick.
fn on_the_way(tick: u64) -> Pose {
    let step = METRE * 8 / i32::from(HZ);
    let along = |side: u64| (0..tick).filter(|at| at / 4 % 2 == side).count() as i32;
    let mut pose = pose_at(along(0) * step);
    pose.position.y = along(1) * step;
    pose
}

/// Returns a room with a walker, who has walked until tick 20, and a viewer.
fn room() -> (TestRoom, [CubeId; 2]) {
    let mut test = TestRoom::new(None, 9);
    let [walker, viewer] = [(); 2].map(|()| test.enter_at(None, None));
    end(&mut test, 1);
    for tick in 2..=20 {
        test.say_pose(walker, tick, (walker, on_the_way(tick)));
        end(&mut test, tick);
    }
    (test, [walker, viewer])
}

/// Returns the distance from a pose to where a viewer has a cube.
fn off(test: &TestRoom, viewer: CubeId, cube: CubeId, pose: Pose) -> u64 {
    let seen = test.clients[&viewer].seen.pose(cube).unwrap();
    seen.position.distance(pose.position)
}

#[test]
fn after_ticks_that_were_left_out_the_next_one_is_right_and_of_them_only_the_prediction_is_known() {
    for missed in [1, 5, 9, 18] {
        let (mut test, [walker, viewer]) = room();
        let next = 21 + missed;
        test.clients.get_mut(&viewer).unwrap().heard.clear();
        // The samples have come, but the room has not run.
        for tick in 21..=next {
            test.say_pose(walker, tick, (walker, on_the_way(tick)));
        }
        let mut predicted = test.clients[&viewer].seen.clone();
        end(&mut test, next);
        let ticks = test.clients[&viewer]
            .heard
            .iter()
            .map(|message| match message {
                ServerMessage::Snapshot(snapshot) => snapshot.tick,
                other => panic!("{other:?}"),
            });
        assert!(ticks.eq([next]), "of what was missed nothing is sent");
        assert!(off(&test, viewer, walker, on_the_way(next)) <= 5);
        if missed == 5 {
            predicted.heartbeat(next - 1).unwrap();
            let seen = predicted.pose(walker).unwrap().position;
            let off = seen.distance(on_the_way(next - 1).position);
            assert!(off > 400, "{off}");
        }
    }
}

#[test]
fn after_a_stall_in_which_nothing_was_read_either_cubes_are_as_if_the_ticks_had_run() {
    for missed in [1, 5, 9, 12, 18, 60] {
        let (mut test, [walker, viewer]) = room();
        let (mut busy, _) = room();
        let next = 21 + missed;
        for tick in 21..=next {
            end(&mut busy, tick);
        }
        end(&mut test, next);
        let expected = busy.room.world.pose(walker).unwrap();
        assert_eq!(test.room.world.pose(walker), Some(expected), "{missed}");
        assert!(off(&test, viewer, walker, expected) <= 5);
        // What has come meanwhile counts at the next tick.
        for tick in 21..=next {
            test.say_pose(walker, tick, (walker, on_the_way(tick)));
        }
        test.say_pose(walker, next + 1, (walker, on_the_way(next + 1)));
        end(&mut test, next + 1);
        let off = off(&test, viewer, walker, on_the_way(next + 1));
        assert!(off <= 5, "{off} after {missed}");
    }
}

#[test]
fn samples_that_waited_for_longer_than_a_second_are_not_taken_for_early_ones() {
    let (mut test, [walker, viewer]) = room();
    let next = 21 + 3 * u64::from(HZ);
    let handle = test.handle.clone();
    for tick in 21..=next + 1 {
        let (placed, residuals) =
            test.clients
                .get_mut(&walker)
                .unwrap()
                .writer
                .sample(tick, walker, on_the_way(tick));
        let message = ClientMessage::Sample {
            tick,
            placed,
            residuals: residuals.into(),
        };
        let from = test.room.players[&walker];
        handle.send_later(RoomEvent::Message { from, message });
    }
    end(&mut test, next);
    end(&mut test, next + 1);
    let off = off(&test, viewer, walker, on_the_way(next + 1));
    assert!(off <= 5, "{off}");
}
