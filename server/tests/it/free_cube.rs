//! The free cube: it has one holder at a time, and the server decides on the order.

use cubesync_protocol::{ClientMessage, CubeId, CubeKind, Event, ServerMessage};

use crate::support::{Player, Server, is_near, pose_of};

const FREE: CubeId = CubeId(0);

async fn take(player: &mut Player) {
    player
        .client
        .send(&ClientMessage::Take { cube: FREE })
        .await;
}

async fn release(player: &mut Player) {
    player
        .client
        .send(&ClientMessage::Release { cube: FREE })
        .await;
}

fn refused(message: ServerMessage) -> Option<Option<CubeId>> {
    match message {
        ServerMessage::Refused { cube, holder } => {
            assert_eq!(cube, FREE);
            Some(holder)
        }
        _ => None,
    }
}

/// Waits for a change of the holder.
async fn holder_change(player: &mut Player) -> Event {
    loop {
        for event in player.next_update().await.events {
            if matches!(event, Event::Taken { .. } | Event::Freed { .. }) {
                return event;
            }
        }
    }
}

#[tokio::test]
async fn taking_moving_and_releasing_are_visible_to_everybody() {
    let server = Server::start(&["--tick", "60"]).await;
    let mut anna = server.join("Anna").await;
    let mut watcher = server.join("watcher").await;
    take(&mut anna).await;
    assert_eq!(
        holder_change(&mut watcher).await,
        Event::Taken {
            cube: FREE,
            by: anna.cube()
        }
    );
    let mut pose = pose_of(anna.knows(FREE).unwrap());
    pose.position.x += 900;
    anna.sample(FREE, pose).await;
    watcher.sees(FREE, pose).await;
    release(&mut anna).await;
    assert_eq!(
        holder_change(&mut watcher).await,
        Event::Freed { cube: FREE }
    );

    let late = server.join("late").await;
    let free = late.knows(FREE).unwrap();
    assert_eq!(
        (free.kind, is_near(pose_of(free), pose)),
        (CubeKind::Free { holder: None }, true)
    );
}

#[tokio::test]
async fn of_many_players_that_take_it_exactly_one_gets_it() {
    let server = Server::start(&["--tick", "30"]).await;
    let mut players = Vec::new();
    for number in 0..8 {
        players.push(server.join(&format!("p{number}")).await);
    }
    for player in &mut players {
        take(player).await;
    }
    let mut watcher = server.join("watcher").await;
    let holder = match watcher.knows(FREE).unwrap().kind {
        CubeKind::Free {
            holder: Some(holder),
        } => holder,
        _ => match holder_change(&mut watcher).await {
            Event::Taken { by, .. } => by,
            other => panic!("{other:?}"),
        },
    };
    for player in &mut players {
        if player.cube() != holder {
            assert_eq!(player.find(refused).await, Some(holder));
        }
    }
}

#[tokio::test]
async fn it_is_freed_in_place_when_its_holders_connection_is_lost() {
    let server = Server::start(&["--tick", "60"]).await;
    let mut anna = server.join("Anna").await;
    let mut boris = server.join("Boris").await;
    take(&mut anna).await;
    let mut pose = pose_of(anna.knows(FREE).unwrap());
    pose.position.y -= 600;
    anna.sample(FREE, pose).await;
    boris.sees(FREE, pose).await;
    let gone = anna.cube();
    drop(anna);
    let events = boris.events(2).await;
    assert_eq!(
        events,
        [Event::Freed { cube: FREE }, Event::Left { cube: gone }]
    );
    take(&mut boris).await;
    assert_eq!(
        holder_change(&mut boris).await,
        Event::Taken {
            cube: FREE,
            by: boris.cube()
        }
    );
    let late = server.join("late").await;
    assert!(is_near(pose_of(late.knows(FREE).unwrap()), pose));
}

#[tokio::test]
async fn a_players_own_cube_cannot_be_taken() {
    let server = Server::start(&[]).await;
    let anna = server.join("Anna").await;
    let mut boris = server.join("Boris").await;
    boris
        .client
        .send(&ClientMessage::Take { cube: anna.cube() })
        .await;
    let refused = |message| match message {
        ServerMessage::Refused { cube, holder } => Some((cube, holder)),
        _ => None,
    };
    assert_eq!(boris.find(refused).await, (anna.cube(), None));
}
