//! Players whom the operator removes.

use super::*;
use crate::ending::Problem;

fn remove(test: &mut TestRoom, cube: CubeId, ending: Ending) -> bool {
    let why = Problem::removal(ending, Some("too loud"));
    let (reply, mut answer) = oneshot::channel();
    let now = test.now();
    let event = RoomEvent::Remove { cube, why, reply };
    test.room.handle(event, now);
    answer.try_recv().unwrap()
}

/// Returns what a player who is no longer in the room has heard at last.
fn last_words(mut client: Client) -> ServerMessage {
    while let Ok(frames) = client.frames.try_recv() {
        client.received.extend_from_slice(&frames);
    }
    assert!(client.frames.is_closed(), "the connection goes on");
    let mut last = None;
    let limit = ServerMessage::MAX_PAYLOAD_BYTES;
    while let Some(payload) = frame::split(&mut client.received, limit).unwrap() {
        last = Some(ServerMessage::decode(&payload).unwrap());
    }
    last.unwrap()
}

fn players(test: &mut TestRoom) -> Vec<PlayerSeen> {
    let (reply, mut answer) = oneshot::channel();
    let now = test.now();
    test.room.handle(RoomEvent::Players { reply }, now);
    answer.try_recv().unwrap().players
}

#[test]
fn a_removed_player_is_told_why_at_once_and_seen_by_nobody_at_the_next_tick() {
    for (ending, code) in [
        (Ending::Kicked, CloseCode::Kicked),
        (Ending::Banned, CloseCode::Banned),
    ] {
        let mut test = TestRoom::new(None, 1);
        let [loud, quiet] = [(); 2].map(|()| test.enter_at(None, None));
        for _ in 0..4 {
            test.end_tick(&test.cubes());
        }
        assert!(test.clients[&quiet].present.contains(&loud));
        let (token, ticks) = (test.token(loud), test.tick());
        let client = test.clients.remove(&loud).unwrap();

        let before = test.cubes();
        assert!(remove(&mut test, loud, ending));
        let ServerMessage::Closing {
            code: told,
            message,
            retry_after_ms,
        } = last_words(client)
        else {
            panic!("the player is not told");
        };
        assert_eq!((told, retry_after_ms), (code, None));
        assert!(message.ends_with(": too loud"), "{message}");
        test.end_tick(&before);
        assert_eq!(test.tick(), ticks + 1);
        assert!(!test.clients[&quiet].present.contains(&loud));
        assert_eq!(players(&mut test).len(), 1);
        assert!(!remove(&mut test, loud, ending), "it is gone already");

        // The token is void.
        assert_ne!(test.enter_at(Some(token), None), loud);
        let counted: Vec<_> = test.room.connections.metrics.disconnects.counts().collect();
        assert_eq!(counted, [(ending, 1)]);
    }
}

#[test]
fn a_ghost_is_removed_with_its_token_and_a_free_cube_never() {
    let mut test = TestRoom::new(None, 1);
    let gone = test.enter_at(None, None);
    let token = test.token(gone);
    test.leave(gone, Ending::Closed);
    let seen = players(&mut test);
    assert_eq!((seen[0].cube, seen[0].place), (gone, PlayerPlace::Nowhere));
    assert!(remove(&mut test, gone, Ending::Kicked));
    assert!(players(&mut test).is_empty());
    assert_ne!(test.enter_at(Some(token), None), gone);
    assert!(!remove(&mut test, FREE, Ending::Kicked));
}

#[test]
fn a_player_at_an_edge_is_told_there_before_their_connection_ends() {
    let mut test = TestRoom::new(None, 1);
    let edge = test.room.attach_edge();
    let entrance = RemoteEntrance {
        name: "afar".into(),
        colour: Colour::from([4, 5, 6]),
        rule: SpeedRule::TopSpeed,
        tokens: Vec::new(),
        next_token: TokenDigest([7; 16]),
        pose: None,
        goes_on: false,
    };
    let now = test.now();
    let id = test.room.enter_remote(edge, entrance, now).unwrap();
    test.room.take_outbox();
    let seen = players(&mut test);
    assert_eq!(seen[0].place, PlayerPlace::Elsewhere);
    assert!(remove(&mut test, seen[0].cube, Ending::Kicked));
    let told = Problem::removal(Ending::Kicked, Some("too loud")).closing();
    let expected = [
        (edge, id, ForPlayer::Message(told.unwrap())),
        (edge, id, ForPlayer::Ended(Ending::Kicked)),
    ];
    assert_eq!(test.room.take_outbox(), expected);
    assert!(players(&mut test).is_empty());
}
