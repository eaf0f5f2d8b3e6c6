//! A room that goes on at another server, behind the connection that the client has.

use std::net::TcpListener;

use cubesync_client::protocol::{
    ClientMessage, CubeId, CubeKind, Keyframe, ResumeToken, ServerAddress, ServerMessage, Welcome,
};
use cubesync_client::{ClientEvent, Status};

use crate::is_routine;
use crate::trial::{FREE, HERE, OTHER, ServerEnd, Trial, info, keyframe, pose, welcome};

const OWN: CubeId = CubeId(7);

impl ServerEnd {
    /// Lets the room go on at tick 200, with the free cube held by `holder`.
    fn go_on(&mut self, own: CubeId, holder: Option<CubeId>) {
        self.send(&ServerMessage::Welcome(welcome(own, 200)));
        self.send(&ServerMessage::Keyframe(Keyframe {
            cell: HERE,
            interval_ticks: 1,
            tick: 201,
            cubes: vec![
                info(FREE, CubeKind::Free { holder }),
                info(OTHER, CubeKind::Player),
                info(own, CubeKind::Player),
            ],
        }));
    }

    /// Returns what a client says after its answer that it does not say anyway.
    fn after_continue(&mut self) -> ClientMessage {
        let answer = ClientMessage::Continue { releases: 1 };
        while self.receive() != answer {}
        let said = std::iter::repeat_with(|| self.receive());
        let mut said = said.filter(|message| !is_routine(message));
        said.next().expect("the client plays on")
    }
}

#[test]
fn an_application_whose_cube_is_the_same_notices_nothing() {
    let mut trial = Trial::new();
    let mut peer = trial.join(OWN);
    trial.client.set_pose(OWN, pose(5.0));
    let before = trial.events.len();
    peer.go_on(OWN, None);
    trial.until(|trial| trial.client.options().resume == Some(ResumeToken([8; 16])));
    assert_eq!(trial.events[before..], []);
    assert_eq!(trial.client.own_cube(), Some(OWN));
    assert_eq!(trial.drawn(OWN), (5.0, false));
    let sent = trial.client.statistics().updates_out;
    trial.until(|trial| trial.client.statistics().updates_out > sent);
}

#[test]
fn after_a_loss_the_servers_of_the_newest_welcome_are_tried_with_its_token() {
    let mut trial = Trial::new();
    let mut peer = trial.join(OWN);
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    peer.send(&ServerMessage::Welcome(Welcome {
        servers: vec![ServerAddress {
            tcp: address.clone(),
            web: address,
        }],
        ..welcome(OWN, 200)
    }));
    trial.until(|trial| trial.client.options().resume == Some(ResumeToken([8; 16])));
    drop(peer);
    trial.listener = other;
    let mut peer = trial.accept();
    trial.poll();
    assert_eq!(peer.welcome(OWN).resume, Some(ResumeToken([8; 16])));
    trial.until(|trial| matches!(trial.events.last(), Some(ClientEvent::Rejoined(_))));
}

#[test]
fn a_take_without_an_answer_is_asked_again() {
    let mut trial = Trial::new();
    let mut peer = trial.join(OWN);
    trial.client.take(FREE);
    trial.client.set_pose(FREE, pose(3.0));
    trial.poll();
    peer.go_on(OWN, None);
    trial.until(|trial| trial.client.options().resume == Some(ResumeToken([8; 16])));
    assert_eq!(peer.after_continue(), ClientMessage::Take { cube: FREE });
    assert_eq!(trial.drawn(FREE), (3.0, false));
    peer.send(&ServerMessage::Refused {
        cube: FREE,
        holder: Some(OTHER),
    });
    trial.until(|trial| matches!(trial.events.last(), Some(ClientEvent::Refused { .. })));
}

#[test]
fn an_own_cube_with_another_id_goes_on_from_where_it_is_shown() {
    let (mut trial, new) = (Trial::new(), CubeId(9));
    let mut peer = trial.join(OWN);
    trial.client.set_pose(OWN, pose(5.0));
    peer.go_on(new, Some(new));
    trial.until(|trial| trial.events.len() == 3);
    assert_eq!(trial.client.own_cube(), Some(new));
    let (cube, by) = (FREE, new);
    let expected = [
        ClientEvent::Rejoined(welcome(new, 200)),
        ClientEvent::CubeTaken { cube, by },
    ];
    assert_eq!(trial.events[1..], expected);
    assert_eq!(trial.drawn(new), (5.0, false));
    trial.client.set_pose(FREE, pose(6.0));
    assert_eq!(trial.drawn(FREE), (6.0, false));
    peer.send(&ServerMessage::Heartbeat { tick: 210 });
    trial.until(|trial| trial.client.cubes(trial.now()).len() == 3);
}

#[test]
fn a_pushed_cube_is_where_it_was_if_the_other_server_has_no_mechanics() {
    let mut trial = Trial::new();
    let mut peer = trial.accept();
    trial.poll();
    assert!(matches!(peer.receive(), ClientMessage::Hello(_)));
    peer.send(&ServerMessage::Welcome(Welcome {
        physics: true,
        resume: ResumeToken([7; 16]),
        ..welcome(OWN, 100)
    }));
    peer.send(&keyframe(OWN));
    trial.until(|trial| trial.client.status() == Status::Joined);
    trial.client.set_pose(OWN, pose(0.8));
    trial.until(|trial| {
        trial.client.send(trial.now());
        trial.drawn(FREE).0 != 0.0
    });
    peer.go_on(OWN, None);
    trial.until(|trial| trial.client.options().resume == Some(ResumeToken([8; 16])));
    trial.client.send(trial.now());
    assert_eq!(trial.drawn(FREE), (0.0, false));
}
