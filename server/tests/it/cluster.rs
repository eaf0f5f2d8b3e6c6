//! A room on several servers over a real nats-server: its owner and its edges.

use std::time::{Duration, Instant};

use cubesync_client::{Client, ClientEvent, ClientOptions, Status};
use cubesync_protocol::{CubeId, CubeKind, Pose, Position};
use tokio::time::sleep;

use crate::nats::NatsServer;
use crate::support::Server;

/// A player who walks, through the client library.
struct Walker {
    client: Client,
    start: Instant,
    at_m: [f32; 2],
    /// Distance that the player walks in 5 ms.
    step_m: f32,
    events: Vec<ClientEvent>,
}

impl Walker {
    fn new(server: &Server, name: &str, y_m: f32) -> Self {
        let address = server.addresses.tcp.to_string();
        Self {
            client: Client::new(ClientOptions::new(&address, name), 1),
            start: Instant::now(),
            at_m: [0.0, y_m],
            step_m: 0.02,
            events: Vec::new(),
        }
    }

    fn own(&self) -> Option<CubeId> {
        self.client.own_cube()
    }

    /// Returns the name, the kind and the place of every cube in sight.
    fn sees(&self) -> Vec<(String, CubeKind, [f32; 2])> {
        let seen = self.client.cubes(self.start.elapsed());
        let seen = seen.iter().map(|seen| {
            let [x, y, _] = seen.position;
            (seen.name.to_owned(), seen.kind, [x, y])
        });
        let mut cubes: Vec<_> = seen.collect();
        cubes.sort_by(|a, b| a.0.cmp(&b.0));
        cubes
    }

    /// Returns where a cube of a name is.
    fn place_of(&self, name: &str) -> Option<[f32; 2]> {
        let seen = self.sees().into_iter().find(|cube| cube.0 == name);
        seen.map(|(_, _, at)| at)
    }

    fn turn(&mut self) {
        self.client.poll(self.start.elapsed());
        self.events
            .extend(std::iter::from_fn(|| self.client.next_event()));
        if let Some(own) = self.client.own_cube() {
            self.at_m[0] += self.step_m;
            let pose = Pose {
                position: Position::from_metres([self.at_m[0], self.at_m[1], 0.5]),
                ..Pose::default()
            };
            self.client.set_pose(own, pose);
        }
    }
}

/// Lets players play until a condition holds.
async fn until<const N: usize>(
    walkers: [&mut Walker; N],
    what: &str,
    is_reached: impl Fn([&Walker; N]) -> bool,
) {
    let mut walkers = walkers;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        for walker in &mut walkers {
            walker.turn();
        }
        if is_reached(walkers.each_ref().map(|walker| &**walker)) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{what}: {:#?}",
            walkers.each_ref().map(|walker| walker.sees())
        );
        sleep(Duration::from_millis(5)).await;
    }
}

async fn start(nats: &NatsServer, cubes: &str) -> Server {
    let url = nats.url();
    let flags = ["--bus", &url, "--resume-within", "15s", "--cubes", cubes];
    Server::start(&flags).await
}

/// Waits until a server's status says that it has a part in the lobby.
async fn has_role(server: &Server, role: &str) {
    let line = format!("cubesync_room_roles{{role=\"{role}\"}} 1");
    server.counts(&line).await;
}

/// Waits until servers know each other, so that players are told of the others.
async fn know_each_other(servers: &[&Server]) {
    for server in servers {
        let line = format!("cubesync_cluster_servers {}", servers.len());
        server.counts(&line).await;
    }
}

/// Returns whether two players see each other near where they are.
fn see_each_other(a: &Walker, name_a: &str, b: &Walker, name_b: &str) -> bool {
    let is_near = |seen: Option<[f32; 2]>, at: [f32; 2]| {
        seen.is_some_and(|seen| (seen[0] - at[0]).hypot(seen[1] - at[1]) < 1.5)
    };
    is_near(a.place_of(name_b), b.at_m) && is_near(b.place_of(name_a), a.at_m)
}

/// Starts the room's owner, with so many loose cubes, with Anna and an edge with Ben, who walk and see each other.
async fn walk_together(nats: &NatsServer, cubes: &str) -> ([Server; 2], [Walker; 2]) {
    let first = start(nats, cubes).await;
    has_role(&first, "owner").await;
    let second = start(nats, cubes).await;
    has_role(&second, "edge").await;
    know_each_other(&[&first, &second]).await;
    let mut anna = Walker::new(&first, "Anna", 3.0);
    let mut ben = Walker::new(&second, "Ben", 6.0);
    until([&mut anna, &mut ben], "both walk", |[anna, ben]| {
        see_each_other(anna, "Anna", ben, "Ben") && anna.at_m[0] > 3.0
    })
    .await;
    ([first, second], [anna, ben])
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn players_of_two_servers_are_in_one_room() {
    let nats = NatsServer::start();
    let (_servers, [mut anna, mut ben]) = walk_together(&nats, "0").await;
    // The free cube goes to one of them, and both know to whom.
    ben.client.take(CubeId(0));
    let holder = |walker: &Walker| {
        let free = walker.sees().into_iter().find(|cube| cube.0 == "cube");
        match free.map(|(_, kind, _)| kind) {
            Some(CubeKind::Free { holder }) => holder,
            _ => None,
        }
    };
    until(
        [&mut anna, &mut ben],
        "Ben takes the cube",
        |[anna, ben]| {
            holder(anna).is_some() && holder(anna) == ben.own() && holder(ben) == ben.own()
        },
    )
    .await;
    // Neither server corrects an honest player.
    let corrected = |walker: &Walker| {
        let mut events = walker.events.iter();
        events.any(|event| matches!(event, ClientEvent::Corrected(_)))
    };
    assert!(!corrected(&anna) && !corrected(&ben));
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn an_edge_goes_on_with_the_room_of_an_owner_that_stops() {
    let nats = NatsServer::start();
    let ([first, second], [mut anna, mut ben]) = walk_together(&nats, "0").await;
    let own = [anna.own(), ben.own()];
    first.begin_stop();
    let second_address = second.addresses.tcp.to_string();
    until([&mut anna, &mut ben], "Anna comes over", |[anna, ben]| {
        anna.client.server() == second_address
            && anna.client.status() == Status::Joined
            && see_each_other(anna, "Anna", ben, "Ben")
            && ben.sees().iter().all(|cube| cube.1 != CubeKind::Ghost)
    })
    .await;
    first.stopped().await;
    assert_eq!([anna.own(), ben.own()], own, "the cubes are the same");
    assert_eq!(ben.sees().len(), 3, "{:?}", ben.sees());
    let disconnected = |walker: &Walker| {
        let mut events = walker.events.iter();
        events.any(|event| matches!(event, ClientEvent::Disconnected { .. }))
    };
    assert!(!disconnected(&ben), "{:?}", ben.events);
    has_role(&second, "owner").await;
}

/// Returns where a player has been told that the room's loose cubes are.
fn loose(walker: &Walker) -> Vec<Position> {
    let cubes = (0..60).filter_map(|id| walker.client.server_pose(CubeId(id)));
    cubes.map(|pose| pose.position).collect()
}

/// Counts the cubes that are farther from where they were than this.
fn farther(before: &[Position], after: &[Position], metres: f32) -> usize {
    let ways = before.iter().zip(after);
    let ways = ways.map(|(a, b)| a.distance(*b) as f32 / 512.0);
    ways.filter(|way| *way > metres).count()
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn a_wall_falls_on_and_heaps_rest_when_another_server_takes_the_room_over() {
    let nats = NatsServer::start();
    let ([first, second], [mut anna, mut ben]) = walk_together(&nats, "60").await;
    ben.step_m = 0.0;
    let standing = loose(&ben);
    assert_eq!(standing.len(), 60);
    // The wall stands across x = 0.
    anna.at_m = [-3.0, 7.0];
    until([&mut anna, &mut ben], "a wall falls", |[_, ben]| {
        farther(&standing, &loose(ben), 0.5) >= 3
    })
    .await;
    let falling = loose(&ben);
    let rests = |cube: usize| falling[cube] == standing[cube];
    let resting: Vec<_> = (0..60).filter(|cube| rests(*cube)).collect();
    assert!(resting.len() >= 20, "{resting:?}");
    first.begin_stop();
    let second_address = second.addresses.tcp.to_string();
    until([&mut anna, &mut ben], "Anna comes over", |[anna, _]| {
        anna.client.server() == second_address && anna.client.status() == Status::Joined
    })
    .await;
    first.stopped().await;
    has_role(&second, "owner").await;
    anna.step_m = 0.0;
    let tick = |walker: &Walker| walker.client.tick_at(walker.start.elapsed());
    let began = tick(&ben).unwrap();
    until([&mut anna, &mut ben], "two seconds pass", |[_, ben]| {
        tick(ben).is_some_and(|now| now > began + 60.0)
    })
    .await;
    let after = loose(&ben);
    let of_resting = |all: &[Position]| resting.iter().map(|cube| all[*cube]).collect::<Vec<_>>();
    assert_eq!(farther(&of_resting(&falling), &of_resting(&after), 0.01), 0);
    assert!(farther(&falling, &after, 0.1) > 0, "the wall falls on");
    assert_eq!(farther(&falling, &after, 12.0), 0, "nothing has burst");
    assert!(after.iter().all(|at| at.z > 0 && at.z < 4 * 512));
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn without_nats_servers_are_islands_and_with_it_one_room_again() {
    let mut nats = NatsServer::start();
    let (_servers, [mut anna, mut ben]) = walk_together(&nats, "0").await;
    nats.kill();
    let is_ghost = |walker: &Walker, name: &str| {
        let seen = walker.sees().into_iter().find(|cube| cube.0 == name);
        seen.is_some_and(|cube| cube.1 == CubeKind::Ghost)
    };
    until([&mut anna, &mut ben], "both are alone", |[anna, ben]| {
        is_ghost(anna, "Ben") && is_ghost(ben, "Anna")
    })
    .await;
    nats.restart();
    until([&mut anna, &mut ben], "both are together", |[anna, ben]| {
        see_each_other(anna, "Anna", ben, "Ben")
            && [anna, ben].iter().all(|walker| {
                walker.sees().len() == 3
                    && walker.sees().iter().all(|cube| cube.1 != CubeKind::Ghost)
            })
    })
    .await;
}
