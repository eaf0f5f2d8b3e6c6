//! A client that predicts nothing, compared with what the others predict.

use cubesync_protocol::{CubePose, Event, PlainCube, PlainSnapshot};

use super::*;

/// The least that a client keeps: the cubes, each with the cell that named it last.
struct PlainClient {
    own: CubeId,
    frames: mpsc::Receiver<Bytes>,
    received: BytesMut,
    cubes: BTreeMap<CubeId, (CellId, PlainCube)>,
    corrections: Vec<CubePose>,
    snapshots: u64,
}

impl PlainClient {
    fn enter(test: &mut TestRoom) -> Self {
        let (outlet, frames) = mpsc::channel(64);
        Self {
            own: test.let_in(outlet, SpeedRule::Plain, None, None),
            frames,
            received: BytesMut::new(),
            cubes: BTreeMap::new(),
            corrections: Vec::new(),
            snapshots: 0,
        }
    }

    fn place(&self, test: &mut TestRoom, tick: u64, cube: CubeId, position: Position) {
        let pose = Pose {
            position,
            ..Pose::default()
        };
        let sample = ClientMessage::Sample {
            tick,
            placed: vec![CubePose { cube, pose }],
            residuals: Bytes::new(),
        };
        test.say(self.own, sample);
    }

    fn read(&mut self) {
        while let Ok(frames) = self.frames.try_recv() {
            self.received.extend_from_slice(&frames);
        }
        while let Some(payload) =
            frame::split(&mut self.received, ServerMessage::MAX_PAYLOAD_BYTES).unwrap()
        {
            match ServerMessage::decode(&payload).unwrap() {
                ServerMessage::PlainSnapshot(snapshot) => self.take_in(snapshot),
                ServerMessage::OutOfSight { cells } => {
                    self.cubes.retain(|_, (cell, _)| !cells.contains(cell));
                }
                ServerMessage::Correction { corrected, .. } => self.corrections.push(corrected),
                ServerMessage::Keyframe(_) | ServerMessage::Snapshot(_) => {
                    panic!("a client that does not predict got a stream of predictions")
                }
                _ => {}
            }
        }
    }

    fn take_in(&mut self, snapshot: PlainSnapshot) {
        self.snapshots += 1;
        let named = snapshot.cell;
        if snapshot.is_whole {
            self.cubes.retain(|_, (cell, _)| *cell != named);
        }
        for cube in snapshot.cubes {
            self.cubes.insert(cube.cube, (named, cube));
        }
        for gone in snapshot.gone {
            if self
                .cubes
                .get(&gone)
                .is_some_and(|(cell, _)| *cell == named)
            {
                self.cubes.remove(&gone);
            }
        }
        for CubePose { cube, pose } in snapshot.moved {
            self.cubes
                .get_mut(&cube)
                .expect("the cube was named")
                .1
                .pose = pose;
        }
    }

    /// Compares what the client has with what others predict, right after a tick at which views may change.
    fn check(&self, test: &TestRoom) {
        let tick = test.tick();
        for cube in self.cubes.keys() {
            let is_here = test.room.world.cube(*cube).is_some();
            assert!(
                is_here,
                "tick {tick}: {cube} is gone, and the client has it"
            );
        }
        let viewpoints: Vec<_> = test.room.world.viewpoints(self.own).collect();
        for cube in test.room.world.cubes() {
            let distance = |from: &Position| from.distance(cube.pose.position);
            let distance = viewpoints.iter().map(distance).min().unwrap();
            let reach = test.view_distance.map_or(u64::MAX, u64::from);
            let Some((_, known)) = self.cubes.get(&cube.cube) else {
                assert!(distance > reach, "tick {tick}: the client lacks {cube:?}");
                continue;
            };
            assert_eq!(
                (known.kind, &known.name),
                (cube.kind, &cube.name),
                "tick {tick}"
            );
            let predicted = test.room.publisher.predicted(cube.cube).unwrap();
            assert_eq!(
                known.pose,
                predicted.pose(&Codec::LIVE),
                "tick {tick}: {cube:?}"
            );
        }
    }
}

#[test]
fn a_client_that_predicts_nothing_has_every_cube_where_the_others_predict_it() {
    for (view_distance_m, seed) in [(None, 1), (Some(40), 2), (Some(90), 3)] {
        let mut test = TestRoom::new(view_distance_m, seed);
        for _ in 0..6 {
            test.enter(None);
        }
        let mut client = PlainClient::enter(&mut test);
        let mut position = test.room.world.pose(client.own).unwrap().position;
        let mut seen = BTreeSet::new();
        for step in 0..900 {
            // It goes through the middle of the world, where the others are, and back.
            position.x += if step % 300 < 150 {
                METRE / 2
            } else {
                -METRE / 2
            };
            client.place(&mut test, 0, client.own, position);
            test.step();
            client.read();
            if test.tick().is_multiple_of(FAR) {
                client.check(&test);
            }
            seen.extend(client.cubes.keys().copied());
        }
        assert!(
            client.snapshots > 300 && seen.len() > 6,
            "{} {}",
            client.snapshots,
            seen.len()
        );
        assert!(client.corrections.is_empty());
        let before = test.cubes();
        let (from, reason) = (test.room.players[&client.own], Ending::Left);
        let now = test.now();
        test.room.handle(RoomEvent::Leave { from, reason }, now);
        test.end_tick(&before);
        assert!(
            !test.room.publisher.has_plain_streams(),
            "nobody wants them any more"
        );
    }
}

#[test]
fn poses_without_predictions_cost_the_others_no_more_than_residuals() {
    let mut test = TestRoom::new(None, 1);
    let client = PlainClient::enter(&mut test);
    let viewer = test.enter_at(None, None);
    let mut position = test.room.world.pose(client.own).unwrap().position;
    for _ in 0..100 {
        position.x += METRE / 4;
        client.place(&mut test, 0, client.own, position);
        let before = test.cubes();
        test.end_tick(&before);
    }
    let heard = &test.clients[&viewer].heard;
    let snapshots = heard.iter().filter_map(|message| match message {
        ServerMessage::Snapshot(snapshot) => Some(snapshot),
        _ => None,
    });
    let snapshots: Vec<_> = snapshots.collect();
    let placed = snapshots.iter().flat_map(|it| &it.events);
    let placed = placed.filter(|event| matches!(event, Event::Placed { .. }));
    assert_eq!(placed.count(), 0);
    // It goes straight on: after a few ticks the others predict that.
    assert!(
        snapshots.len() < 20,
        "{} ticks had something",
        snapshots.len()
    );
    assert_eq!(test.room.world.pose(client.own).unwrap().position, position);
}

#[test]
fn samples_of_a_client_that_predicts_nothing_need_no_order_and_keep_to_the_rules() {
    let mut test = TestRoom::new(None, 1);
    test.room.world = World::new(HZ, Some(20 * METRE as u32));
    let mut client = PlainClient::enter(&mut test);
    let own = client.own;
    let start = test.room.world.pose(own).unwrap().position;
    let mut end_tick = |test: &mut TestRoom| {
        let begins = test.room.clock.begins(test.tick() + 1);
        test.room.tick(begins);
        client.read();
        test.room.world.pose(own).unwrap().position
    };
    let at = |metres: i32| Position {
        x: start.x + metres * METRE,
        ..start
    };
    let place = |test: &mut TestRoom, tick: u64, position: Position| {
        let pose = Pose {
            position,
            ..Pose::default()
        };
        let placed = vec![CubePose { cube: own, pose }];
        let residuals = Bytes::new();
        test.say(
            own,
            ClientMessage::Sample {
                tick,
                placed,
                residuals,
            },
        );
    };
    for (tick, metres) in [(9, 1), (0, 2), (3, 3), (0, 4)] {
        place(&mut test, tick, at(metres));
    }
    assert_eq!(end_tick(&mut test), at(4), "the last one counts");
    for _ in 0..30 {
        assert_eq!(
            end_tick(&mut test),
            at(4),
            "the cube stays where it was put"
        );
    }
    place(&mut test, 0, at(400));
    assert_eq!(end_tick(&mut test), at(4));
    place(&mut test, 0, at(5));
    assert_eq!(end_tick(&mut test), at(5));
    assert_eq!(client.corrections.len(), 1);
    let many = vec![
        CubePose {
            cube: own,
            pose: Pose::default()
        };
        9
    ];
    let sample = ClientMessage::Sample {
        tick: 0,
        placed: many,
        residuals: Bytes::new(),
    };
    test.say(own, sample);
    assert!(
        !test.room.players.contains_key(&own),
        "nobody moves nine cubes"
    );
}
