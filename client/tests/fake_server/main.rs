//! The whole client over a real socket, against a server that a test controls.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod elsewhere;
mod second_welcome;
mod trial;

use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use cubesync_client::lab::Conditions;
use cubesync_client::protocol::{
    CellId, ClientMessage, CloseCode, CubeId, CubeKind, CubePose, Event, Keyframe, RejectCode,
    ResumeToken, ServerMessage, Snapshot, Welcome,
};
use cubesync_client::{Client, ClientEvent, ClientOptions, Status};

use crate::trial::{FREE, HERE, OTHER, Trial, info, keyframe, pose, put, welcome};

/// Whether a message is one that every client sends by itself.
fn is_routine(message: &ClientMessage) -> bool {
    matches!(
        message,
        ClientMessage::Ping { .. } | ClientMessage::OpenDatagrams(_)
    )
}

#[test]
fn a_client_joins_moves_and_sees_others_move() {
    let mut trial = Trial::new();
    let own = CubeId(7);
    let mut peer = trial.join(own);
    assert!(matches!(trial.events[..], [ClientEvent::Joined(_)]));
    assert_eq!(trial.client.own_cube(), Some(own));
    assert_eq!(trial.drawn(own), (2.0, false));
    assert_eq!(trial.drawn(OTHER), (0.0, false));

    trial.client.set_pose(own, pose(3.0));
    trial.client.set_pose(OTHER, pose(9.0));
    assert_eq!(trial.drawn(own), (3.0, false));
    trial.until(|trial| trial.client.statistics().updates_out == 1);
    let sampled = std::iter::repeat_with(|| peer.receive()).find(|message| !is_routine(message));
    let moved = CubePose {
        cube: own,
        pose: pose(3.0),
    };
    assert!(
        matches!(
            &sampled,
            Some(ClientMessage::Sample { tick: 101.., placed, residuals })
                if *placed == [moved] && residuals.is_empty()
        ),
        "{sampled:?}"
    );

    peer.send(&ServerMessage::Snapshot(Snapshot {
        cell: HERE,
        tick: 101,
        events: vec![Event::Joined(info(CubeId(9), CubeKind::Player))],
        residuals: put(&[FREE, OTHER, own, CubeId(9)], OTHER, pose(5.0)),
    }));
    // Positions may be off by 4 mm.
    let is_there =
        |(x_m, is_stale): (f32, bool), expected| (x_m - 5.0).abs() < 0.005 && is_stale == expected;
    trial.until(|trial| is_there(trial.drawn(OTHER), false));
    assert!(matches!(&trial.events[1..], [ClientEvent::CubeJoined(info)] if info.cube.0 == 9));
    let statistics = trial.client.statistics();
    assert_eq!((statistics.players, statistics.updates_in), (3, 1));

    trial.skipped += Duration::from_millis(1_500);
    assert!(is_there(trial.drawn(OTHER), true));
    assert_eq!(trial.drawn(own), (3.0, false));
}

#[test]
fn cubes_in_sight_are_shown_and_only_new_players_are_events() {
    let mut trial = Trial::new();
    let own = CubeId(7);
    let mut peer = trial.join(own);
    let far = CellId(5);
    let held = CubeKind::Free { holder: Some(own) };
    peer.send(&ServerMessage::Keyframe(Keyframe {
        cell: far,
        interval_ticks: 4,
        tick: 101,
        cubes: vec![info(CubeId(3), held), info(CubeId(9), CubeKind::Player)],
    }));
    trial.until(|trial| trial.client.cubes(trial.now()).len() == 5);
    assert_eq!(trial.client.statistics().players, 3);
    trial.client.set_pose(CubeId(3), pose(4.0));
    assert_eq!(trial.drawn(CubeId(3)), (4.0, false));

    // One cube crosses into the near cell; the rest of the far cell goes out of sight.
    peer.send(&ServerMessage::Snapshot(Snapshot {
        cell: HERE,
        tick: 102,
        events: vec![Event::Entered(info(CubeId(9), CubeKind::Player))],
        ..Snapshot::default()
    }));
    peer.send(&ServerMessage::OutOfSight { cells: vec![far] });
    peer.send(&ServerMessage::Heartbeat { tick: 107 });
    trial.until(|trial| trial.client.cubes(trial.now()).len() == 4);
    let (cube, by) = (CubeId(3), own);
    assert_eq!(
        trial.events[1..],
        [
            ClientEvent::CubeTaken { cube, by },
            ClientEvent::CubeFreed { cube },
        ]
    );
    trial.client.set_pose(own, pose(3.0));
    trial.until(|trial| trial.client.statistics().updates_out > 0);
}

#[test]
fn a_client_comes_back_by_itself_and_shows_the_last_cubes_until_then() {
    let mut trial = Trial::new();
    let first = trial.join(CubeId(7));
    trial.client.set_pose(CubeId(7), pose(5.0));
    drop(first);
    trial.until(|trial| matches!(trial.client.status(), Status::Waiting { .. }));
    assert!(matches!(
        trial.events.last(),
        Some(ClientEvent::Disconnected { .. })
    ));
    assert_eq!(trial.drawn(OTHER), (0.0, false));
    trial.client.set_pose(CubeId(7), pose(6.0));
    assert_eq!(trial.drawn(CubeId(7)), (6.0, false));

    trial.skipped += Duration::from_secs(2);
    assert_eq!(trial.drawn(OTHER), (0.0, true));
    let mut again = trial.accept();
    trial.poll();
    // The server may have restarted and not know the token.
    let hello = again.welcome(CubeId(8));
    assert_eq!(hello.resume, Some(ResumeToken([7; 16])));
    assert_eq!(hello.pose, Some(pose(6.0)));
    trial.until(|trial| trial.client.status() == Status::Joined);
    assert!(matches!(
        trial.events.last(),
        Some(ClientEvent::Rejoined(_))
    ));
    assert_eq!(trial.client.own_cube(), Some(CubeId(8)));
    assert_eq!(trial.drawn(CubeId(8)), (6.0, false));
    assert_eq!(trial.client.cubes(trial.now()).len(), 3);
}

#[test]
fn what_was_pushed_comes_back_though_the_connection_is_lost() {
    let mut trial = Trial::new();
    let own = CubeId(7);
    let mut peer = trial.accept();
    trial.poll();
    peer.receive();
    peer.send(&ServerMessage::Welcome(Welcome {
        physics: true,
        ..welcome(own, 100)
    }));
    peer.send(&keyframe(own));
    trial.until(|trial| trial.client.status() == Status::Joined);
    let push = |trial: &mut Trial, x_m, frames| {
        trial.client.set_pose(own, pose(x_m));
        for _ in 0..frames {
            trial.skipped += Duration::from_millis(16);
            trial.client.send(trial.now());
        }
        trial.drawn(FREE).0
    };
    assert!(push(&mut trial, 0.8, 5) < -0.1);
    drop(peer);
    trial.until(|trial| matches!(trial.client.status(), Status::Waiting { .. }));
    assert!(push(&mut trial, 0.7, 5) < -0.2);
    assert_eq!(push(&mut trial, 9.0, 40), 0.0);
}

#[test]
fn after_a_long_absence_the_own_cube_begins_where_the_server_puts_it() {
    let mut trial = Trial::new();
    let first = trial.join(CubeId(7));
    trial.client.set_pose(CubeId(7), pose(5.0));
    trial.skipped += Duration::from_secs(6);
    drop(first);
    trial.until(|trial| trial.client.status() != Status::Joined);
    trial.skipped += Duration::from_secs(2);
    trial.join(CubeId(7));
    assert!(matches!(trial.events.last(), Some(ClientEvent::Joined(_))));
    assert_eq!(trial.drawn(CubeId(7)), (2.0, false));
}

#[test]
fn a_reject_for_good_is_not_tried_again() {
    let mut trial = Trial::new();
    let mut peer = trial.accept();
    peer.send(&ServerMessage::Reject {
        code: RejectCode::JoinKey,
        message: "the join key is wrong".into(),
    });
    drop(peer);
    let reason = "the join key is wrong".to_owned();
    let failed = Status::Failed { reason };
    trial.until(|trial| matches!(trial.client.status(), Status::Failed { .. }));
    assert_eq!(trial.client.status(), failed);
    trial.skipped += Duration::from_secs(60);
    trial.poll();
    assert_eq!(trial.client.status(), failed);
    trial.listener.set_nonblocking(true).unwrap();
    let nobody = trial.listener.accept().unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_client_waits_as_long_as_a_closing_server_asks() {
    let mut trial = Trial::new();
    let mut peer = trial.join(CubeId(7));
    peer.send(&ServerMessage::Closing {
        code: CloseCode::ShuttingDown,
        message: "the server stops".into(),
        retry_after_ms: Some(2_500),
    });
    drop(peer);
    trial.until(|trial| trial.client.status() != Status::Joined);
    let expected = Status::Waiting {
        retry_in: Duration::from_millis(2_500),
        reason: "the server stops".into(),
    };
    assert_eq!(trial.client.status(), expected);
}

#[test]
fn leaving_tells_the_server_and_is_final() {
    let mut trial = Trial::new();
    let mut peer = trial.join(CubeId(7));
    trial.client.close();
    let mut rest = Vec::new();
    peer.stream.read_to_end(&mut rest).unwrap();
    trial.skipped += Duration::from_secs(60);
    trial.poll();
    assert!(matches!(trial.client.status(), Status::Failed { .. }));
    assert!(trial.client.cubes(trial.now()).is_empty());
}

fn taken(tick: u64, by: CubeId) -> ServerMessage {
    ServerMessage::Snapshot(Snapshot {
        cell: HERE,
        tick,
        events: vec![Event::Taken { cube: FREE, by }],
        ..Snapshot::default()
    })
}

#[test]
fn a_cube_that_was_asked_for_follows_at_once_and_stays_when_it_is_given() {
    let mut trial = Trial::new();
    let own = CubeId(7);
    let mut peer = trial.join(own);
    trial.client.set_pose(FREE, pose(3.0));
    assert_eq!(trial.drawn(FREE), (0.0, false));
    trial.client.take(FREE);
    trial.client.set_pose(FREE, pose(3.0));
    assert_eq!(trial.drawn(FREE), (3.0, false));
    assert_eq!(trial.client.server_pose(FREE), Some(pose(0.0)));
    peer.send(&taken(101, own));
    let (event, now) = trial.next_event();
    let (cube, by) = (FREE, own);
    assert_eq!(event, ClientEvent::CubeTaken { cube, by });
    assert_eq!(trial.drawn_at(FREE, now), (3.0, false));
}

#[test]
fn a_cube_that_somebody_else_took_goes_back_smoothly() {
    let mut trial = Trial::new();
    let mut peer = trial.join(CubeId(7));
    trial.client.take(FREE);
    trial.client.set_pose(FREE, pose(3.0));
    peer.send(&taken(101, OTHER));
    peer.send(&ServerMessage::Refused {
        cube: FREE,
        holder: Some(OTHER),
    });
    let (_, now) = trial.next_event();
    trial.client.set_pose(FREE, pose(9.0));
    let drawn_m = [0, 50, 100, 150, 200, 250].map(|after_ms| {
        let at = now + Duration::from_millis(after_ms);
        trial.drawn_at(FREE, at).0
    });
    assert_eq!((drawn_m[0], drawn_m[5]), (3.0, 0.0));
    let steps = drawn_m.windows(2).map(|pair| pair[0] - pair[1]);
    steps.for_each(|step_m| assert!((0.5..0.7).contains(&step_m), "{drawn_m:?}"));
}

#[test]
fn a_correction_blends_in_within_a_tenth_of_a_second() {
    let mut trial = Trial::new();
    let own = CubeId(7);
    let mut peer = trial.join(own);
    let corrected = CubePose {
        cube: own,
        pose: pose(2.5),
    };
    peer.send(&ServerMessage::Correction { tick: 1, corrected });
    let (event, now) = trial.next_event();
    assert_eq!(event, ClientEvent::Corrected(corrected));
    for (after_ms, expected_m) in [(0, 2.0), (50, 2.25), (100, 2.5)] {
        let at = now + Duration::from_millis(after_ms);
        assert_eq!(trial.drawn_at(own, at), (expected_m, false));
    }
}

#[test]
fn the_lab_delays_both_ways_before_the_join_and_loses_nothing_at_the_end() {
    let latency = Duration::from_millis(40);
    let mut trial = Trial::with(Conditions {
        latency,
        ..Conditions::default()
    });
    let started = trial.now();
    let mut peer = trial.accept();
    let hello = thread::spawn(move || {
        peer.welcome(CubeId(7));
        peer
    });
    trial.until(|trial| trial.client.status() == Status::Joined);
    assert!(trial.now() >= started + 2 * latency);
    let mut peer = hello.join().unwrap();
    trial.client.close();
    let last = std::iter::repeat_with(|| peer.receive()).find(|message| !is_routine(message));
    assert_eq!(last, Some(ClientMessage::Leave));
}

#[test]
fn an_address_without_a_port_is_explained() {
    for server in ["localhost", ":14900", "localhost:port", "localhost:99999"] {
        let mut client = Client::new(ClientOptions::new(server, "Anna"), 1);
        client.poll(Duration::ZERO);
        match client.status() {
            Status::Failed { reason } => assert!(reason.contains("host:port"), "{reason}"),
            status => panic!("{status}"),
        }
    }
}

#[test]
fn why_a_try_failed_is_known_during_the_next_one_until_the_client_has_joined() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let mut client = Client::new(ClientOptions::new(address.to_string(), "Anna"), 1);
    assert_eq!(client.trouble(), None);
    while !matches!(client.status(), Status::Waiting { .. }) {
        client.poll(Duration::ZERO);
        thread::yield_now();
    }
    client.poll(Duration::from_secs(60));
    assert_eq!(client.status(), Status::Connecting);
    let reason = format!("no server runs at {address}");
    assert_eq!(client.trouble(), Some(reason.as_str()));

    let mut trial = Trial::new();
    let mut peer = trial.accept();
    let hello = thread::spawn(move || {
        peer.welcome(CubeId(7));
        peer
    });
    trial.until(|trial| trial.client.status() == Status::Joined);
    assert_eq!(trial.client.trouble(), None);
    drop(hello.join());
}
