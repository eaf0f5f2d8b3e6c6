//! Tests of a room that goes on at another server: a second welcome on the same connection.

use super::*;

const OTHER_OWN: CubeId = CubeId(9);

/// Returns a second welcome that goes on as if no time had passed unnoticed: tick 120 begins after a second.
fn again() -> Welcome {
    Welcome {
        tick: 120,
        resume: ResumeToken([8; 16]),
        ..welcome()
    }
}

fn held_by(tick: u64, own: CubeId, holder: Option<CubeId>) -> ServerMessage {
    ServerMessage::Keyframe(Keyframe {
        cell: CellId(0),
        interval_ticks: 1,
        tick,
        cubes: vec![
            info(FREE, CubeKind::Free { holder }),
            info(own, CubeKind::Player),
        ],
    })
}

/// Welcomes a session again a second after the join.
fn go_on(session: &mut Session, welcome: Welcome) {
    receive(session, ms(1_000), &[ServerMessage::Welcome(welcome)]);
}

/// Returns a session that holds the free cube, and has put it at 1 m and itself at 2 m.
fn holding() -> Session {
    let mut session = joined();
    let taken = Event::Taken {
        cube: FREE,
        by: OWN,
    };
    receive(&mut session, ms(50), &[snapshot(101, vec![taken])]);
    session.poll(ms(100));
    assert!(session.set_pose(FREE, pose(1.0)));
    assert!(session.set_pose(OWN, pose(2.0)));
    session.poll(ms(200));
    events(&mut session);
    sent(&mut session);
    session
}

/// Returns the cubes that the next samples place, with their x in metres.
fn placed(messages: &[ClientMessage]) -> Vec<(CubeId, f32)> {
    let samples = messages.iter().filter_map(|message| match message {
        ClientMessage::Sample { placed, .. } => Some(placed),
        _ => None,
    });
    let x_m = |placed: &CubePose| (placed.cube, placed.pose.position.to_metres()[0]);
    samples.flatten().map(x_m).collect()
}

fn changes(session: &mut Session) -> Vec<Change> {
    let changed = |event| match event {
        SessionEvent::Changed(Change::Moved { .. }) => None,
        SessionEvent::Changed(change) => Some(change),
        event => panic!("{event:?}"),
    };
    events(session).into_iter().filter_map(changed).collect()
}

#[test]
fn the_answer_goes_out_at_once_and_all_cubes_are_placed_again() {
    let mut session = holding();
    go_on(&mut session, again());
    let expected = SessionEvent::Continued {
        welcome: again(),
        before: OWN,
    };
    assert_eq!(events(&mut session), [expected]);
    assert_eq!(session.token(), Some(ResumeToken([8; 16])));
    assert_eq!(
        sent(&mut session),
        [ClientMessage::Continue { releases: 1 }]
    );
    receive(&mut session, ms(1_010), &[held_by(121, OWN, Some(OWN))]);
    assert_eq!(changes(&mut session), [], "the cube stays held");
    session.poll(ms(1_010));
    session.poll(ms(1_060));
    let messages = sent(&mut session);
    assert_eq!(placed(&messages), [(OWN, 2.0), (FREE, 1.0)]);
    let sent_us = 1_010_000;
    assert!(messages.contains(&ClientMessage::Ping { sent_us }));
    assert!(session.set_pose(FREE, pose(3.0)));

    let third = Welcome {
        tick: 122,
        ..again()
    };
    go_on(&mut session, third);
    let answered = sent(&mut session).pop();
    assert_eq!(answered, Some(ClientMessage::Continue { releases: 2 }));
}

#[test]
fn a_held_cube_is_lost_if_the_other_server_does_not_know_its_holder() {
    for holder in [None, Some(OTHER_OWN)] {
        let mut session = holding();
        go_on(&mut session, again());
        events(&mut session);
        receive(&mut session, ms(1_010), &[held_by(121, OWN, holder)]);
        let freed = Change::Freed { cube: FREE };
        assert_eq!(changes(&mut session)[0], freed);
        assert!(!session.set_pose(FREE, pose(1.0)));
    }
    let mut session = holding();
    go_on(&mut session, again());
    events(&mut session);
    let alone = ServerMessage::Keyframe(Keyframe {
        cell: CellId(0),
        interval_ticks: 1,
        tick: 121,
        cubes: vec![info(OWN, CubeKind::Player)],
    });
    let later = ServerMessage::Heartbeat { tick: 130 };
    receive(&mut session, ms(1_010), &[alone, later]);
    let gone = changes(&mut session);
    assert!(
        matches!(&gone[..], [Change::Disappeared(info)] if info.cube == FREE),
        "{gone:?}"
    );
    assert!(!session.set_pose(FREE, pose(1.0)));
}

#[test]
fn the_own_cube_may_have_another_id_and_what_it_holds_comes_with_it() {
    let mut session = holding();
    let welcome = Welcome {
        cube: OTHER_OWN,
        ..again()
    };
    go_on(&mut session, welcome.clone());
    let continued = SessionEvent::Continued {
        welcome,
        before: OWN,
    };
    assert_eq!(events(&mut session), [continued]);
    assert_eq!(session.own_pose(), Some(pose(2.0)));
    receive(
        &mut session,
        ms(1_010),
        &[held_by(121, OTHER_OWN, Some(OTHER_OWN))],
    );
    let (cube, by) = (FREE, OTHER_OWN);
    let changes = changes(&mut session);
    assert_eq!(changes[0], Change::Appeared(info(by, CubeKind::Player)));
    assert_eq!(
        changes[1..],
        [Change::Freed { cube }, Change::Taken { cube, by }]
    );
    assert!(!session.set_pose(OWN, pose(5.0)));
    assert!(session.set_pose(OTHER_OWN, pose(5.0)) && session.set_pose(FREE, pose(6.0)));
    session.poll(ms(1_060));
    session.poll(ms(1_110));
    let expected = [(OTHER_OWN, 5.0), (FREE, 6.0)];
    assert_eq!(placed(&sent(&mut session)), expected);
}

#[test]
fn a_release_that_no_server_has_answered_is_said_again() {
    let mut session = holding();
    session.release(FREE);
    let lost = sent(&mut session);
    assert_eq!(lost.last(), Some(&ClientMessage::Release { cube: FREE }));
    go_on(&mut session, again());
    assert_eq!(
        sent(&mut session),
        [
            ClientMessage::Continue { releases: 2 },
            ClientMessage::Release { cube: FREE }
        ]
    );
    // Once the room shows it, there is nothing to say.
    let mut session = holding();
    session.release(FREE);
    let freed = snapshot(102, vec![Event::Freed { cube: FREE }]);
    receive(&mut session, ms(250), &[freed]);
    sent(&mut session);
    go_on(&mut session, again());
    let answer = ClientMessage::Continue { releases: 2 };
    assert_eq!(sent(&mut session), [answer]);
}

#[test]
fn a_cube_that_is_too_far_from_where_the_other_server_has_it_is_corrected() {
    let limited = |x_m| Welcome {
        max_speed: 20_480,
        physics: false,
        pose: pose(x_m),
        ..again()
    };
    for (x_m, is_kept) in [(20.0, true), (24.0, false)] {
        let mut session = holding();
        go_on(&mut session, limited(x_m));
        let corrected = SessionEvent::Corrected(CubePose {
            cube: OWN,
            pose: pose(x_m),
        });
        let events = events(&mut session);
        assert_eq!(events[1..].is_empty(), is_kept);
        assert!(is_kept || events[1..] == [corrected]);
        let expected = if is_kept { pose(2.0) } else { pose(x_m) };
        assert_eq!(session.own_pose(), Some(expected));
    }
}

#[test]
fn a_welcome_that_is_not_later_or_has_another_tick_rate_ends_the_session_with_a_retry() {
    for (tick, tick_hz) in [(99, 20), (101, 20), (120, 30)] {
        let mut session = holding();
        let second = Welcome {
            tick,
            tick_hz,
            ..again()
        };
        go_on(&mut session, second);
        let (reason, retry) = ended(&mut session);
        assert!(reason.contains("second welcome"), "{reason}");
        assert_eq!(retry, Retry::Backoff);
        assert_eq!(sent(&mut session), []);
    }
}

#[test]
fn the_clock_and_the_lead_go_on_unless_the_ticks_are_numbered_otherwise() {
    // The ticks pass on as before; they begin anew after the newest one; they are far ahead.
    for (tick, shift) in [(119, 0.0), (120, 0.0), (102, -18.0), (400, 280.0)] {
        let mut session = holding();
        let before = session.clock().unwrap().tick_at(ms(1_000));
        assert_eq!(before, 120.0);
        let lead = session.statistics().lead;
        go_on(&mut session, Welcome { tick, ..again() });
        let after = session.clock().unwrap().tick_at(ms(1_000));
        assert_eq!(after - before, shift);
        session.poll(ms(1_010));
        session.set_pose(OWN, pose(3.0));
        session.poll(ms(1_060));
        assert_eq!(session.statistics().lead, lead);
        let samples = sent(&mut session);
        let sampled = samples.iter().find_map(|message| match message {
            ClientMessage::Sample { tick, .. } => Some(*tick),
            _ => None,
        });
        let sampled = sampled.expect("the cube is placed");
        assert!((tick + 1..=tick + 3).contains(&sampled), "{sampled}");
    }
}

#[test]
fn a_pong_from_before_says_nothing_and_late_samples_add_up() {
    let pong = |sent_us, late_samples| ServerMessage::Pong {
        sent_us,
        tick: 121,
        since_tick_us: 0,
        late_samples,
    };
    let mut session = joined();
    receive(&mut session, ms(300), &[pong(200_000, 4)]);
    go_on(&mut session, again());
    let before = session.statistics();
    assert_eq!(before.late_samples, 4);
    receive(&mut session, ms(1_010), &[pong(100_000, 4)]);
    assert_eq!(session.statistics().round_trip, before.round_trip);
    receive(&mut session, ms(1_200), &[pong(1_100_000, 1)]);
    assert_eq!(session.statistics().late_samples, 5);
    assert!(session.is_joined());
}

/// Receives a datagram that moves the free cube in a tick. Returns where the cube is then.
fn moved_by_datagram(session: &mut Session, tick: u64, x_m: f32) -> Pose {
    let (cube, motion) = (FREE, MotionState::at_rest(pose(x_m)));
    let downlink = Downlink {
        complete: tick,
        base: tick - 1,
        number: 1,
        lost: 0,
        snapshots: vec![Snapshot {
            tick,
            events: vec![Event::Placed { cube, motion }],
            ..Snapshot::default()
        }],
    };
    session.receive_datagram(ms(1_020), &downlink.encode());
    let replica = session.replica().unwrap();
    replica.pose(FREE).unwrap()
}

#[test]
fn datagrams_start_anew_and_count_from_the_keyframes_on() {
    let now = ms(1_000);
    let mut session = with_datagrams(now);
    session.poll(now);
    session.set_pose(OWN, pose(1.0));
    session.send(now);
    assert_eq!(uplink(&mut session).unwrap().samples.len(), 1);
    let is_sample = |message: &ClientMessage| matches!(message, ClientMessage::Sample { .. });
    assert!(!sent(&mut session).iter().any(is_sample), "it waits");

    // Everything of tick 100 has come, so a datagram of 101 is of use until the second welcome.
    receive(&mut session, now, &[ServerMessage::Heartbeat { tick: 100 }]);
    go_on(&mut session, again());
    let answer = ClientMessage::Continue { releases: 1 };
    assert_eq!(sent(&mut session), [answer], "what waits is of before");
    events(&mut session);
    // A late one of before, and one that has overtaken the keyframe.
    assert_eq!(moved_by_datagram(&mut session, 101, 5.0), pose(0.0));
    assert_eq!(moved_by_datagram(&mut session, 122, 6.0), pose(0.0));
    let heartbeat = ServerMessage::Heartbeat { tick: 121 };
    receive(&mut session, ms(1_020), &[keyframe(121), heartbeat]);
    assert_eq!(moved_by_datagram(&mut session, 122, 6.0), pose(6.0));
    session.poll(ms(1_100));
    session.set_pose(OWN, pose(2.0));
    session.send(ms(1_100));
    let first = uplink(&mut session).expect("the cube is placed again");
    assert_eq!((first.releases, first.base), (1, 0));
    assert_eq!(first.samples[0].placed.len(), 1);
    assert!(session.datagrams_work(ms(1_100)), "the way is the same");
}

#[test]
fn a_client_that_does_not_see_its_cube_yet_answers_and_joins_at_the_other_server() {
    let mut session = new();
    receive(&mut session, ms(10), &[ServerMessage::Welcome(welcome())]);
    sent(&mut session);
    go_on(&mut session, again());
    assert_eq!(
        sent(&mut session),
        [ClientMessage::Continue { releases: 1 }]
    );
    receive(&mut session, ms(1_010), &[keyframe(120)]);
    let joined = SessionEvent::Joined(again());
    assert_eq!(events(&mut session)[0], joined);
    assert!(session.is_joined());
}
