//! A room on several servers: who owns it, and what players see meanwhile.

mod servers;

use std::sync::Arc;
use std::time::Duration;

use cubesync_protocol::cells::Grid;
use cubesync_protocol::{ClientMessage, CubeKind, ServerMessage};
use cubesync_relay::room::Role;

use self::servers::{FREE, METRE, Player, Server, Wire, all_see_all, play, until};
use crate::bus::{LEASE_AGE, ServerId, Topic};
use crate::cluster::testing::rules;
use crate::link::LinkId;
use crate::message::{Announcement, Attach, Envelope};

const TAKE: ClientMessage = ClientMessage::Take { cube: FREE };
const SOON: Duration = Duration::from_millis(500);
const SECOND: Duration = Duration::from_secs(1);

/// Starts servers one after the other, so that the first one owns the lobby.
async fn start(wire: &Arc<Wire>, count: u32, grid: Grid) -> Vec<Server> {
    let mut servers = Vec::new();
    for number in 1..=count {
        servers.push(Server::start(wire, number, grid));
        tokio::time::sleep(SOON).await;
    }
    assert!(servers[0].owns().await);
    for edge in &servers[1..] {
        assert!(matches!(edge.view().await.role, Role::Edge { .. }));
    }
    servers
}

/// Lets one player join at each server, and go apart.
async fn join(servers: &[Server]) -> Vec<Player> {
    let mut players = Vec::new();
    for (number, server) in servers.iter().enumerate() {
        let mut player = server.join(&format!("player {number}")).await;
        player.go(5 * number as i32, 7);
        players.push(player);
    }
    players
}

/// Returns what a player was told at the end, which must be said once.
fn told(player: &Player) -> &str {
    let closings = player.heard.iter().filter_map(|message| match message {
        ServerMessage::Closing { message, .. } => Some(&**message),
        _ => None,
    });
    let [told] = closings.collect::<Vec<_>>()[..] else {
        panic!("{:?}", player.heard);
    };
    told
}

#[tokio::test(start_paused = true)]
async fn the_owners_operator_removes_any_player_and_an_edges_only_their_own() {
    let wire = Arc::default();
    let servers = start(&wire, 3, Grid::WHOLE).await;
    let mut players = join(&servers).await;
    let [here, second, third] = &mut players[..] else {
        unreachable!();
    };
    until(&mut [here, second, third], SECOND, all_see_all).await;
    assert!(!servers[1].kick(third.cube()).await);
    assert!(!servers[1].kick(here.cube()).await);
    assert!(servers[1].kick(second.cube()).await);
    assert!(servers[0].kick(third.cube()).await);
    play(&mut [second, third], SOON).await;
    for kicked in [second, third] {
        assert!(told(kicked).ends_with(": too loud"));
    }
    until(&mut [here], SECOND, all_see_all).await;
    assert_eq!(servers[2].view().await.cubes.len(), 2);
}

fn holds_free(player: &Player, holder: &Player) -> bool {
    let free = player.replica.cube(FREE).map(|free| free.kind);
    let holder = Some(holder.cube());
    free == Some(CubeKind::Free { holder })
}

#[tokio::test(start_paused = true)]
async fn players_of_all_servers_are_in_one_room() {
    let wire = Arc::default();
    let servers = start(&wire, 3, Grid::WHOLE).await;
    let mut players = join(&servers).await;
    let [first, second, third] = &mut players[..] else {
        unreachable!();
    };
    until(&mut [first, second, third], SECOND, all_see_all).await;
    // The edge's player takes the free cube, and the owner's is refused.
    second.say(TAKE).await;
    play(&mut [first, second, third], SOON).await;
    first.say(TAKE).await;
    second.say(ClientMessage::Ping { sent_us: 7 }).await;
    play(&mut [first, second, third], SOON).await;
    let (cube, holder) = (FREE, Some(second.cube()));
    let refused = ServerMessage::Refused { cube, holder };
    assert!(first.heard.contains(&refused));
    assert!(holds_free(third, second));
    let is_pong =
        |message: &ServerMessage| matches!(message, ServerMessage::Pong { sent_us: 7, .. });
    assert!(second.heard.iter().any(is_pong));
    assert!(
        [first, second, third]
            .iter()
            .all(|player| player.welcomes.len() == 1)
    );
    let elsewhere = &second.welcome().servers;
    assert_eq!(
        elsewhere.len(),
        2,
        "the edge's players are told the other servers"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_predicts_nothing_sees_everybody_from_an_edge_and_after_a_takeover() {
    for grid in [Grid::WHOLE, Grid::new(100 * METRE as u32)] {
        let wire: Arc<Wire> = Arc::default();
        let servers = start(&wire, 3, grid).await;
        let mut players = join(&servers).await;
        let mut plain = [
            servers[0].join_plain("plain 0").await,
            servers[1].join_plain("plain 1").await,
        ];
        let [first, second, third] = &mut players[..] else {
            unreachable!();
        };
        let [here, there] = &mut plain;
        for round in 1..6 {
            wire.lose(round % 3 + 1, 3);
            here.go(-5, round as i32);
            there.go(-9, round as i32);
            until(
                &mut [first, second, third, here, there],
                2 * SECOND,
                all_see_all,
            )
            .await;
        }
        servers[0].stop().await;
        there.go(20, -5);
        let sees = |players: &[&mut Player]| {
            let [second, third, plain] = players else {
                unreachable!();
            };
            let name = |player: &Player| player.welcome().name.clone();
            let all = [second, third, plain];
            let sees_all = |viewer: &&&mut Player| {
                let mut seen = all.iter();
                seen.all(|seen| viewer.sees_at(&name(seen), seen.pose.position))
            };
            all.iter().all(sees_all)
        };
        let took = until(&mut [second, third, there], 3 * SECOND, sees).await;
        assert!(took < 2 * SECOND, "{took:?}");
        assert_eq!(there.welcomes.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_bus_loses_is_sent_again_and_nobody_begins_anew() {
    let wire: Arc<Wire> = Arc::default();
    let servers = start(&wire, 2, Grid::WHOLE).await;
    let mut players = join(&servers).await;
    let [first, second] = &mut players[..] else {
        unreachable!();
    };
    until(&mut [first, second], SECOND, all_see_all).await;
    for round in 1..6 {
        // Down to the edge, or up to the owner.
        wire.lose(round % 2 + 1, 3);
        first.go(round as i32, 20);
        second.go(round as i32, -20);
        let took = until(&mut [first, second], SECOND, all_see_all).await;
        assert!(took < Duration::from_millis(500), "{took:?}");
    }
    assert_eq!((first.welcomes.len(), second.welcomes.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn when_the_owner_stops_another_server_goes_on_at_once_with_the_same_cubes() {
    let wire = Arc::default();
    let servers = start(&wire, 3, Grid::WHOLE).await;
    let mut players = join(&servers).await;
    let gone = players.remove(0);
    let [second, third] = &mut players[..] else {
        unreachable!();
    };
    second.say(TAKE).await;
    play(&mut [second, third], SECOND).await;
    let cubes = [second.cube(), third.cube()];
    servers[0].stop().await;
    // The player of the stopped server comes back by token, with the same cube.
    let mut back = servers[2]
        .join_with("player 0", Some(gone.welcome().resume))
        .await;
    back.go(30, 0);
    let took = until(&mut [second, third, &mut back], 2 * SECOND, all_see_all).await;
    assert!(took < SECOND, "{took:?}");
    assert_eq!([second.cube(), third.cube()], cubes);
    assert_eq!(back.cube(), gone.cube());
    assert!(holds_free(third, second));
    let owners = [servers[1].owns().await, servers[2].owns().await];
    assert_eq!(owners.iter().filter(|owns| **owns).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_the_owner_is_killed_another_server_goes_on_within_the_leases_age_and_a_second() {
    let wire: Arc<Wire> = Arc::default();
    let servers = start(&wire, 3, Grid::WHOLE).await;
    let mut players = join(&servers).await;
    let gone = players.remove(0);
    let [second, third] = &mut players[..] else {
        unreachable!();
    };
    second.say(TAKE).await;
    play(&mut [second, third], SECOND).await;
    let cubes = [second.cube(), third.cube()];
    wire.cut_off(1);
    second.go(40, 0);
    let moved = |players: &[&mut Player]| {
        let at = players[0].pose.position;
        players[1].sees_at("player 1", at)
    };
    let took = until(&mut [second, third], 5 * SECOND, moved).await;
    assert!(took <= LEASE_AGE + SECOND, "{took:?}");
    assert_eq!([second.cube(), third.cube()], cubes);
    assert!(holds_free(third, second));
    // The dead server's player is awaited, then a ghost, then gone.
    play(&mut [second, third], 20 * SECOND).await;
    assert!(all_see_all(&[second, third]), "{:?}", third.sees());
    let late = servers[1]
        .join_with("player 0", Some(gone.welcome().resume))
        .await;
    assert_ne!(late.cube(), gone.cube());
}

#[tokio::test(start_paused = true)]
async fn both_sides_of_a_split_go_on_and_are_one_room_again_within_two_seconds() {
    // The owner is cut off, or the edge.
    for cut_off in [1, 2] {
        let wire: Arc<Wire> = Arc::default();
        let servers = start(&wire, 2, Grid::WHOLE).await;
        let mut players = join(&servers).await;
        let [first, second] = &mut players[..] else {
            unreachable!();
        };
        play(&mut [first, second], SECOND).await;
        wire.cut_off(cut_off);
        play(&mut [first, second], 5 * SECOND).await;
        let roles = [servers[0].view().await.role, servers[1].view().await.role];
        let island = roles[cut_off as usize - 1].clone();
        assert_eq!(island, Role::Island);
        assert!(roles.contains(&Role::Owner));
        // Newcomers of both sides, whose cubes have the same id.
        let mut newcomers = [
            servers[0].join("player 2").await,
            servers[1].join("player 3").await,
        ];
        assert_eq!(newcomers[0].cube(), newcomers[1].cube());
        let [third, fourth] = &mut newcomers;
        third.go(0, 60);
        fourth.go(0, -60);
        first.go(-30, 1);
        second.go(-40, 1);
        play(&mut [first, second, third, fourth], 5 * SECOND).await;
        wire.heal();
        let all = &mut [first, second, third, fourth];
        let took = until(all, 5 * SECOND, all_see_all).await;
        assert!(took <= 2 * SECOND, "{took:?}");
        let owners = [servers[0].owns().await, servers[1].owns().await];
        assert_eq!(owners.iter().filter(|owns| **owns).count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_without_players_yields_the_room_to_a_server_that_has_some() {
    let wire = Arc::default();
    let servers = start(&wire, 2, Grid::WHOLE).await;
    let mut player = servers[1].join("player 0").await;
    player.go(9, 9);
    let cube = player.cube();
    play(&mut [&mut player], 8 * SECOND).await;
    assert!(servers[1].owns().await && !servers[0].owns().await);
    assert_eq!((player.welcomes.len(), player.cube()), (2, cube));
    assert!(all_see_all(&[&mut player]));
    // It stays there.
    play(&mut [&mut player], 20 * SECOND).await;
    assert_eq!(player.welcomes.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_edge_gets_the_cells_that_its_players_come_to_see() {
    let wire = Arc::default();
    let grid = Grid::new(32 * METRE as u32);
    let servers = start(&wire, 2, grid).await;
    let mut players = join(&servers).await;
    let [first, second] = &mut players[..] else {
        unreachable!();
    };
    until(&mut [first, second], 2 * SECOND, all_see_all).await;
    second.go(200, 0);
    let is_alone = |players: &[&mut Player]| players[1].sees().len() == 1;
    until(&mut [first, second], 2 * SECOND, is_alone).await;
    // Then both go to a place that nobody has seen before, and meet from afar.
    for (x, y) in [(-200, 100), (180, -140)] {
        first.go(x, y);
        second.go(x + 20, y);
        let meet = |players: &[&mut Player]| {
            let [first, second] = players else {
                unreachable!();
            };
            first.sees_at("player 1", second.pose.position)
                && second.sees_at("player 0", first.pose.position)
        };
        let took = until(&mut [first, second], 5 * SECOND, meet).await;
        assert!(took < 2 * SECOND, "{took:?}");
    }
    assert_eq!((first.welcomes.len(), second.welcomes.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_starts_when_the_owner_dies_does_not_begin_the_room_anew() {
    for pause_ms in [0, 500].into_iter().chain((740..1_040).step_by(20)) {
        let wire: Arc<Wire> = Arc::default();
        let servers = start(&wire, 2, Grid::WHOLE).await;
        let mut player = servers[1].join("player 0").await;
        player.go(9, 9);
        player.say(TAKE).await;
        play(&mut [&mut player], SECOND).await;
        let cube = player.cube();
        wire.cut_off(1);
        play(&mut [&mut player], Duration::from_millis(pause_ms)).await;
        let _fresh = Server::start(&wire, 3, Grid::WHOLE);
        play(&mut [&mut player], 4 * SECOND).await;
        assert_eq!(player.cube(), cube, "after {pause_ms} ms");
        assert!(holds_free(&player, &player), "after {pause_ms} ms");
        assert!(all_see_all(&[&mut player]), "{:?}", player.sees());
    }
}

#[tokio::test(start_paused = true)]
async fn false_announcements_and_requests_to_attach_disturb_nobody() {
    let wire: Arc<Wire> = Arc::default();
    let servers = start(&wire, 2, Grid::WHOLE).await;
    let mut players = join(&servers).await;
    let [first, second] = &mut players[..] else {
        unreachable!();
    };
    until(&mut [first, second], 2 * SECOND, all_see_all).await;
    let ((room, owner), (_, edge)) = (wire.lobby_at(1), wire.lobby_at(2));
    let (everywhere, at_owner) = (Topic::Room(room.clone()), Topic::RoomAt(room, owner));
    for round in 0..50 {
        for term in [0, 1 << 63, u64::MAX] {
            let owner = ServerId(77);
            wire.intrude(
                &everywhere,
                &Envelope::Announcement(Announcement { owner, term }),
            );
        }
        for from in [edge, ServerId(1_000 + round)] {
            let link = LinkId(5_000 + round);
            let rules = rules();
            let attach = Attach { from, link, rules };
            wire.intrude(&at_owner, &Envelope::Attach(attach));
        }
        let x = round as i32 % 7;
        first.go(x, 3);
        second.go(-x, 5);
        play(&mut [first, second], SECOND / 10).await;
    }
    let took = until(&mut [first, second], SECOND, all_see_all).await;
    assert!(took < SECOND / 2, "{took:?}");
    assert_eq!((first.welcomes.len(), second.welcomes.len()), (1, 1));
}
