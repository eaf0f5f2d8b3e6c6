//! A server on ports of its own, and a client that says exactly what a test wants.

use std::time::Duration;

use bytes::BytesMut;
use clap::Parser;
use cubesync_protocol::{
    ClientMessage, Colour, CubeId, CubeInfo, CubePose, Event, Hello, Keyframe, Message, Pose,
    ServerMessage, Snapshot, Welcome, frame,
};
use cubesync_server::{Addresses, Config, StartError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A test that waits longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const COLOUR: Colour = Colour {
    red: 10,
    green: 200,
    blue: 30,
};

/// Waits for something that must happen.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it should have happened by now")
}

/// A configuration on free ports of loopback, with further flags. Who leaves is gone at once,
/// unless a flag says otherwise.
pub fn config(flags: &[&str]) -> Config {
    let mut config = Config::parse_from(["cubesync-server"].iter().chain(flags));
    let given = |flag| flags.contains(&flag);
    if !given("--listen") {
        config.listen = "127.0.0.1:0".parse().unwrap();
    }
    if !given("--http") {
        config.http = "127.0.0.1:0".parse().unwrap();
    }
    if !given("--resume-within") {
        config.resume_within = Duration::ZERO.into();
    }
    config
}

/// A running server; dropping it stops it.
pub struct Server {
    pub addresses: Addresses,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), StartError>>,
}

impl Server {
    pub async fn start(flags: &[&str]) -> Self {
        let shutdown = CancellationToken::new();
        let (ready, addresses) = oneshot::channel();
        let run = cubesync_server::run(config(flags), shutdown.clone(), move |addresses| {
            ready.send(addresses).unwrap();
        });
        let task = tokio::spawn(run);
        let addresses = soon(addresses).await.expect("the server should start");
        Self {
            addresses,
            shutdown,
            task,
        }
    }

    pub fn begin_stop(&self) {
        self.shutdown.cancel();
    }

    pub async fn stopped(mut self) {
        soon(&mut self.task).await.unwrap().unwrap();
    }

    /// A connection that has said nothing yet.
    pub async fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.addresses.tcp).await.unwrap())
    }

    /// A client in the lobby.
    pub async fn join(&self, name: &str) -> Player {
        self.join_room("lobby", name).await
    }

    pub async fn join_room(&self, room: &str, name: &str) -> Player {
        self.connect().await.join(room, name).await
    }

    /// Waits until a line stands in `/metrics`.
    pub async fn counts(&self, line: &str) {
        let mut metrics = String::new();
        let wait = async {
            loop {
                metrics = super::http::get(self.addresses.http, "/metrics").await.body;
                if metrics.lines().any(|other| other == line) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("{line} never came; the last was:\n{metrics}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// One TCP connection.
pub struct Client {
    pub stream: TcpStream,
    received: BytesMut,
}

impl Client {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            received: BytesMut::new(),
        }
    }

    pub async fn send(&mut self, message: &ClientMessage) {
        self.send_bytes(&message.to_frame()).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next message; `None` when the server has closed, cleanly or not.
    pub async fn receive(&mut self) -> Option<ServerMessage> {
        soon(async {
            loop {
                let limit = ServerMessage::MAX_PAYLOAD_BYTES;
                if let Some(payload) = frame::split(&mut self.received, limit).unwrap() {
                    return Some(ServerMessage::decode(&payload).unwrap());
                }
                match self.stream.read_buf(&mut self.received).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return None,
                }
            }
        })
        .await
    }

    /// The first message that `pick` wants; the ones before it are dropped.
    pub async fn find<T>(&mut self, mut pick: impl FnMut(ServerMessage) -> Option<T>) -> T {
        loop {
            let message = self.receive().await.expect("the connection should be open");
            if let Some(found) = pick(message) {
                return found;
            }
        }
    }

    pub async fn join(mut self, room: &str, name: &str) -> Player {
        self.send(&ClientMessage::Hello(Hello::new(room, name, COLOUR)))
            .await;
        self.welcomed().await
    }

    /// Waits for the answer to a good hello.
    pub async fn welcomed(mut self) -> Player {
        let Some(ServerMessage::Welcome(welcome)) = self.receive().await else {
            panic!("no welcome");
        };
        let Some(ServerMessage::Keyframe(keyframe)) = self.receive().await else {
            panic!("no keyframe after the welcome");
        };
        Player {
            client: self,
            welcome,
            keyframe,
        }
    }
}

/// A client that has been let in.
pub struct Player {
    pub client: Client,
    pub welcome: Welcome,
    pub keyframe: Keyframe,
}

impl Player {
    pub fn cube(&self) -> CubeId {
        self.welcome.cube
    }

    /// Says that a cube is somewhere.
    pub async fn sample(&mut self, cube: CubeId, pose: Pose) {
        let cubes = vec![CubePose { cube, pose }];
        self.client.send(&ClientMessage::Sample { cubes }).await;
    }

    /// Moves the own cube a little: returns the new pose.
    pub async fn step(&mut self, x: i32) -> Pose {
        self.welcome.pose.position.x += x;
        let pose = self.welcome.pose;
        self.sample(self.welcome.cube, pose).await;
        pose
    }

    pub async fn next_snapshot(&mut self) -> Snapshot {
        self.client
            .find(|message| match message {
                ServerMessage::Snapshot(snapshot) => Some(snapshot),
                _ => None,
            })
            .await
    }

    /// Waits until a cube's pose arrives in a snapshot.
    pub async fn sees(&mut self, cube: CubeId, pose: Pose) {
        let expected = CubePose { cube, pose };
        while !self.next_snapshot().await.cubes.contains(&expected) {}
    }

    /// The next `count` events, in order.
    pub async fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            events.extend(self.next_snapshot().await.events);
        }
        assert_eq!(events.len(), count, "{events:?}");
        events
    }

    /// What the keyframe says about a cube.
    pub fn knows(&self, cube: CubeId) -> Option<&CubeInfo> {
        self.keyframe.cubes.iter().find(|info| info.cube == cube)
    }
}
