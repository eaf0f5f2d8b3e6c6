//! Clients that predict nothing, among others that do.

use std::process::{Child, Command, Stdio};

use cubesync_protocol::{
    ClientMessage, CloseCode, Colour, CubeId, CubePose, DatagramAnswer, DatagramRequest, Encoding,
    Hello, Pose, Position, ServerMessage,
};

use super::support::{Client, Server, is_near};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/plain.py");
const METRE: i32 = 512;

/// Joins without predictions, and returns the own cube.
async fn join_plain(server: &Server) -> (Client, CubeId) {
    let mut client = server.connect().await;
    let hello = Hello {
        encoding: Encoding::Plain,
        ..Hello::new("lobby", "Plain", Colour::from([1, 2, 3]))
    };
    client.send(&ClientMessage::Hello(hello)).await;
    let own = client.find(|message| match message {
        ServerMessage::Welcome(welcome) => Some(welcome.cube),
        _ => None,
    });
    let own = own.await;
    (client, own)
}

fn at(x: i32) -> Pose {
    Pose {
        position: Position {
            x,
            y: METRE,
            z: METRE / 2,
        },
        ..Pose::default()
    }
}

fn sample(placed: Vec<CubePose>) -> ClientMessage {
    ClientMessage::Sample {
        tick: 0,
        placed,
        residuals: Default::default(),
    }
}

#[tokio::test]
async fn a_client_without_predictions_and_one_with_them_see_each_other() {
    let server = Server::start(&[]).await;
    let mut anna = server.join("Anna").await;
    let (mut client, own) = join_plain(&server).await;
    let pose = at(3 * METRE);
    client
        .send(&sample(vec![CubePose { cube: own, pose }]))
        .await;
    anna.sees(own, pose).await;

    let stepped = anna.step(2 * METRE).await;
    let of_anna = anna.cube();
    client
        .find(|message| match message {
            ServerMessage::PlainSnapshot(snapshot) => {
                let placed = snapshot.cubes.iter().map(|cube| (cube.cube, cube.pose));
                let moved = snapshot.moved.iter().map(|moved| (moved.cube, moved.pose));
                placed
                    .chain(moved)
                    .any(|(cube, pose)| cube == of_anna && is_near(pose, stepped))
                    .then_some(())
            }
            ServerMessage::Keyframe(_) | ServerMessage::Snapshot(_) => panic!("{message:?}"),
            _ => None,
        })
        .await;
    let asked = ClientMessage::OpenDatagrams(DatagramRequest::Udp);
    client.send(&asked).await;
    let answer = client.find(|message| match message {
        ServerMessage::Datagrams(answer) => Some(answer),
        _ => None,
    });
    assert_eq!(answer.await, DatagramAnswer::Unavailable);
}

#[tokio::test]
async fn a_client_without_predictions_that_moves_nine_cubes_loses_its_connection() {
    let server = Server::start(&[]).await;
    let (mut client, own) = join_plain(&server).await;
    let placed = CubePose {
        cube: own,
        pose: at(0),
    };
    client.send(&sample(vec![placed; 9])).await;
    let code = client.find(|message| match message {
        ServerMessage::Closing { code, .. } => Some(code),
        _ => None,
    });
    assert_eq!(code.await, CloseCode::BadMessage);
}

/// The client of docs/examples. It is ended with its test.
struct Example(Child);

impl Example {
    fn start(server: &Server, follows: &str) -> Self {
        let address = server.addresses.tcp;
        let child = Command::new("python3")
            .arg(EXAMPLE)
            .args([address.ip().to_string(), address.port().to_string()])
            .arg(follows)
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("python3 should start"))
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
#[ignore = "needs python3"]
async fn the_example_in_python_follows_somebody_and_walks_in_a_circle() {
    let server = Server::start(&["--cubes", "20"]).await;
    let mut anna = server.join("Anna").await;
    let _follower = Example::start(&server, "Anna");
    let cube = anna.sees_player("Python").await;
    for _ in 0..3 {
        let stepped = anna.step(METRE / 2).await.position;
        // Up to 2 quanta on the way to it, and as many on the way back.
        anna.sees_that(cube, |pose| pose.position.distance(stepped) < 8)
            .await;
    }
    let _walker = Example::start(&server, "");
    let walker = anna.sees_player("Python-2").await;
    for side in [-1, 1] {
        anna.sees_that(walker, |pose| {
            let [x, y] = [pose.position.x, pose.position.y].map(|quanta| f64::from(quanta) / 512.0);
            (x.hypot(y) - 3.0).abs() < 0.1 && x * f64::from(side) > 0.0
        })
        .await;
    }
}
