//! A client that does what the judge of clients asks for (`cargo judge`): it moves its own cube to wherever the cube
//! with a name is, and while that one is lower than 10 m it also carries the free cube called "prize".

use std::time::{Duration, Instant};

use cubesync_client::protocol::{CubeId, CubeKind};
use cubesync_client::{Client, ClientOptions, Status};

/// The free cube's name, and the height above which it is let go.
const PRIZE: &str = "prize";
const HEIGHT_M: f32 = 10.0;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or("localhost:14900".into());
    let follow = arguments.next().unwrap_or("target".into());
    let mut client = Client::new(ClientOptions::new(server, "Drill"), 1);
    let start = Instant::now();
    let (mut status, mut has_asked) = (String::new(), false);
    loop {
        let now = start.elapsed();
        client.poll(now);
        while client.next_event().is_some() {}
        let named = |name: &str| {
            let cubes = client.cubes(now);
            let cube = cubes.iter().find(|view| view.name == name)?;
            Some((cube.cube, cube.kind))
        };
        // Where the newest message has it, and not where it is drawn a moment later.
        let target = named(&follow).and_then(|(cube, _)| client.server_pose(cube));
        let prize: Option<(CubeId, CubeKind)> = named(PRIZE);
        if let (Some(own), Some(pose)) = (client.own_cube(), target) {
            client.set_pose(own, pose);
            let is_low = pose.position.to_metres()[2] < HEIGHT_M;
            match prize {
                Some((cube, CubeKind::Free { holder: Some(by) })) if by == own => match is_low {
                    true => client.set_pose(cube, pose),
                    false => client.release(cube),
                },
                Some((cube, CubeKind::Free { holder: None })) if is_low && !has_asked => {
                    client.take(cube)
                }
                _ => {}
            }
            has_asked = is_low && (has_asked || prize.is_some());
        }
        client.send(now);
        let shown = match client.trouble() {
            Some(trouble) => format!("{}: {trouble}", client.status()),
            None => client.status().to_string(),
        };
        if status != shown {
            println!("{shown}");
            status = shown;
        }
        if matches!(client.status(), Status::Failed { .. }) {
            return;
        }
        std::thread::sleep(Duration::from_millis(8));
    }
}
