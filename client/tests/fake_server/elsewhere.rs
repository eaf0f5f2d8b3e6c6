//! A client that loses its server and goes on at another one.

use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

use cubesync_client::protocol::{
    ClientMessage, CloseCode, CubeId, CubeKind, Event, Message, RejectCode, ResumeToken,
    ServerMessage, Snapshot,
};
use cubesync_client::{ClientEvent, Status};

use crate::trial::{HERE, OTHER, ServerEnd, Trial, info, keyframe, pose};

const OWN: CubeId = CubeId(7);

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn joined(tick: u64, cube: CubeId) -> ServerMessage {
    ServerMessage::Snapshot(Snapshot {
        cell: HERE,
        tick,
        events: vec![Event::Joined(info(cube, CubeKind::Player))],
        ..Snapshot::default()
    })
}

impl Trial {
    /// Stops to listen as the server that is gone, and listens as another one from now on.
    fn kill(&mut self, other: TcpListener) {
        self.listener = other;
    }
}

#[test]
fn a_client_that_loses_its_server_goes_on_at_another_one_without_old_events() {
    let (mut trial, other) = (Trial::new(), listener());
    let mut peer = trial.join_naming(OWN, &[&other]);
    peer.send(&joined(101, CubeId(9)));
    trial.until(|trial| trial.events.len() == 2);
    trial.client.set_pose(OWN, pose(5.0));
    drop(peer);
    trial.kill(other);
    trial.until(|trial| trial.client.status() != Status::Joined);
    // Meanwhile the own cube can be moved, and the other cubes stay.
    trial.client.set_pose(OWN, pose(5.5));
    assert_eq!(trial.drawn(OWN), (5.5, false));
    assert_eq!(trial.drawn(OTHER), (0.0, false));

    let mut peer = trial.accept();
    trial.client.set_pose(OWN, pose(6.0));
    trial.poll();
    let hello = peer.welcome(OWN);
    assert_eq!(hello.resume, Some(ResumeToken([7; 16])));
    assert_eq!(hello.pose, Some(pose(5.5)));
    trial.until(|trial| trial.client.status() == Status::Joined);
    assert_eq!(trial.drawn(OWN), (6.0, false));
    peer.send(&joined(101, CubeId(9)));
    peer.send(&joined(102, CubeId(10)));
    trial.until(|trial| trial.events.len() == 5);
    assert!(
        matches!(
            &trial.events[2..],
            [
                ClientEvent::Disconnected { .. },
                ClientEvent::Rejoined(_),
                ClientEvent::CubeJoined(new),
            ] if new.cube == CubeId(10)
        ),
        "{:?}",
        trial.events
    );
    let sent = trial.client.statistics().updates_out;
    trial.client.set_pose(OWN, pose(6.5));
    trial.until(|trial| trial.client.statistics().updates_out > sent);
    let mut has_asked = false;
    let sample = std::iter::repeat_with(|| peer.receive()).find(|message| {
        has_asked |= matches!(message, ClientMessage::OpenDatagrams(_));
        matches!(message, ClientMessage::Sample { .. })
    });
    assert!(has_asked, "each session has datagrams of its own");
    assert!(
        matches!(&sample, Some(ClientMessage::Sample { placed, .. })
            if placed.len() == 1 && placed[0].cube == OWN && placed[0].pose != pose(2.0)),
        "{sample:?}"
    );
}

#[test]
fn a_server_that_takes_the_token_has_three_seconds_to_let_the_player_in() {
    let (mut trial, silent, other) = (Trial::new(), listener(), listener());
    drop(trial.join_naming(OWN, &[&silent, &other]));
    trial.kill(silent);
    trial.until(|trial| trial.is_joining_here());
    for _ in 0..2 {
        assert!(trial.is_joining_here());
        trial.skipped += Duration::from_millis(1_500);
        trial.poll();
    }
    let silent = std::mem::replace(&mut trial.listener, other);
    let mut peer = trial.accept();
    trial.poll();
    peer.welcome(OWN);
    trial.until(|trial| trial.client.status() == Status::Joined);
    drop(silent);
}

/// Returns a client whose server is gone, at the next server, which has welcomed it and not shown its cube yet, and
/// the one after that.
fn welcomed_elsewhere() -> (Trial, ServerEnd, TcpListener) {
    let (mut trial, next, other) = (Trial::new(), listener(), listener());
    drop(trial.join_naming(OWN, &[&next, &other]));
    trial.kill(next);
    let mut peer = trial.accept();
    trial.poll();
    peer.welcome_alone(OWN, ResumeToken([8; 16]));
    (trial, peer, other)
}

#[test]
fn a_server_whose_keyframe_is_on_its_way_has_longer() {
    let (mut trial, mut peer, _other) = welcomed_elsewhere();
    let keyframe = keyframe(OWN).to_frame();
    for part in keyframe.chunks(keyframe.len().div_ceil(3)) {
        trial.skipped += Duration::from_secs(2);
        let before = trial.client.statistics().bytes_in;
        peer.stream.write_all(part).unwrap();
        trial.until(|trial| trial.client.statistics().bytes_in > before);
    }
    trial.until(|trial| trial.client.status() == Status::Joined);
}

#[test]
fn a_token_from_a_session_that_ended_right_after_the_welcome_is_used_next() {
    let (mut trial, peer, other) = welcomed_elsewhere();
    drop(peer);
    trial.kill(other);
    let mut peer = trial.accept();
    trial.poll();
    assert_eq!(peer.welcome(OWN).resume, Some(ResumeToken([8; 16])));
}

#[test]
fn a_refusal_by_another_server_is_not_the_end() {
    let (mut trial, strict, other) = (Trial::new(), listener(), listener());
    drop(trial.join_naming(OWN, &[&strict, &other]));
    trial.kill(strict);
    let mut peer = trial.accept();
    peer.send(&ServerMessage::Reject {
        code: RejectCode::JoinKey,
        message: "the join key is wrong".into(),
    });
    trial.kill(other);
    trial.join(OWN);
}

#[test]
fn a_client_of_a_stopping_server_goes_to_another_one_at_once() {
    let (mut trial, other) = (Trial::new(), listener());
    let mut peer = trial.join_naming(OWN, &[&other]);
    peer.send(&ServerMessage::Closing {
        code: CloseCode::ShuttingDown,
        message: "the server stops".into(),
        retry_after_ms: Some(2_500),
    });
    // The old server still listens.
    let _stopping = std::mem::replace(&mut trial.listener, other);
    trial.join(OWN);
}
