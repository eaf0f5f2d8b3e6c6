//! Joins a room, says what it sees and walks its cube in a circle:
//! `cargo run -p cubesync-client --example join -- localhost:14900`

use std::time::{Duration, Instant};

use cubesync_client::{Client, ClientEvent, ClientOptions, Controller, Input, Status};

fn main() {
    let server = std::env::args().nth(1).unwrap_or("localhost:14900".into());
    let mut client = Client::new(ClientOptions::new(server, "Example"), 1);
    let (start, mut cube) = (Instant::now(), Controller::new(Default::default()));
    for frame in 0.. {
        let now = start.elapsed();
        client.poll(now); // Reads and sends; never waits.
        while let Some(event) = client.next_event() {
            match event {
                ClientEvent::Joined(welcome) => cube.set_pose(welcome.pose),
                ClientEvent::Corrected(to) => cube.set_pose(to.pose), // Its only cube.
                ClientEvent::CubeJoined(info) => println!("{} joined", info.name),
                ClientEvent::CubeLeft(info) => println!("{} left", info.name),
                other => println!("{other:?}"),
            }
        }
        if let Some(own) = client.own_cube() {
            cube.step(Input::towards(now.as_secs_f32()), 1.0 / 60.0);
            client.set_pose(own, cube.pose());
        }
        if frame % 60 == 0 {
            println!("{}", client.status());
            for view in client.cubes(now) {
                println!("  {} is at {:.1?}", view.name, view.position);
            }
        }
        if let Status::Failed { .. } = client.status() {
            std::process::exit(1); // Refused for good; the line above says why.
        }
        std::thread::sleep(Duration::from_millis(16));
    }
}
