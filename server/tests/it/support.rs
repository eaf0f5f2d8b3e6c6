//! A server on ports of its own, and a client that sends exactly what a test wants.

use std::fs;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bytes::BytesMut;
use clap::Parser;
use cubesync_protocol::motion::{Codec, MotionState};
use cubesync_protocol::replica::Change;
use cubesync_protocol::uplink::UplinkSender;
use cubesync_protocol::{
    ClientMessage, Colour, CubeId, CubeInfo, CubePose, Event, Hello, Keyframe, Message, Pose,
    Position, Replica, ServerMessage, Welcome, frame,
};
use cubesync_server::{Addresses, Config, StartError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
#[cfg(unix)]
use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Time after which a waiting test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const COLOUR: Colour = Colour {
    red: 10,
    green: 200,
    blue: 30,
};

/// Waits for something that must happen, with a deadline.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it should have happened by now")
}

/// Flags for ports that the system chooses.
pub const PORTS: [&str; 4] = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];

/// Returns a command that runs the real program, whose output the test reads.
pub fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cubesync-server"));
    command.env("CUBESYNC_CUBES", "0");
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Sends a signal to a program.
#[cfg(unix)]
pub async fn signal(child: &Child, signal: &str) {
    let pid = child.id().unwrap().to_string();
    let sent = Command::new("kill").args(["-s", signal, &pid]).status();
    assert!(sent.await.unwrap().success());
}

/// Makes a pipe in a file's place, which hangs whoever opens one end until somebody opens the other.
#[cfg(unix)]
pub fn make_pipe(path: impl AsRef<Path>) {
    let _ = fs::remove_file(&path);
    let made = std::process::Command::new("mkfifo")
        .arg(path.as_ref())
        .status();
    assert!(made.unwrap().success());
}

/// A folder for a test's files, which is removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// Creates an empty one.
    pub fn new() -> Self {
        let name = format!("cubesync-test-{:016x}", fastrand::u64(..));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// Returns its path.
    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Writes a file, and returns its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns a configuration on free ports of loopback, with further flags. By default a lost connection
/// leaves no ghost.
pub fn config(flags: &[&str]) -> Config {
    let given = |flag| flags.contains(&flag);
    // Most tests are about the room with one free cube, which nothing moves but its holder.
    let cubes: &[&str] = if given("--cubes") {
        &[]
    } else {
        &["--cubes=0"]
    };
    let program = ["cubesync-server"];
    let mut config = Config::parse_from(program.iter().chain(cubes).chain(flags));
    if !given("--listen") {
        config.listen = "127.0.0.1:0".parse().unwrap();
    }
    if !given("--http") {
        config.http = "127.0.0.1:0".parse().unwrap();
    }
    if !given("--resume-within") {
        config.resume_within = Duration::ZERO;
    }
    config
}

/// A running server. Dropping it stops it.
pub struct Server {
    pub addresses: Addresses,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), StartError>>,
}

impl Server {
    pub async fn start(flags: &[&str]) -> Self {
        Self::start_with(config(flags)).await
    }

    pub async fn start_with(config: Config) -> Self {
        let shutdown = CancellationToken::new();
        let (ready, addresses) = oneshot::channel();
        let run = cubesync_server::run(config, shutdown.clone(), move |addresses| {
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

    /// Connects without sending anything.
    pub async fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.addresses.tcp).await.unwrap())
    }

    /// Joins the lobby.
    pub async fn join(&self, name: &str) -> Player {
        self.join_room("lobby", name).await
    }

    pub async fn join_room(&self, room: &str, name: &str) -> Player {
        self.connect().await.join(room, name).await
    }

    /// Waits until `/metrics` has a line.
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

    /// Returns the next message, or `None` when the connection has ended, cleanly or not.
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

    /// Returns what `pick` finds in the first message in which it finds something.
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

    /// Waits for the welcome and the first keyframe.
    pub async fn welcomed(mut self) -> Player {
        let Some(ServerMessage::Welcome(welcome)) = self.receive().await else {
            panic!("no welcome");
        };
        let Some(ServerMessage::Keyframe(keyframe)) = self.receive().await else {
            panic!("no keyframe after the welcome");
        };
        Player::new(self, welcome, keyframe)
    }
}

/// Connects with a socket that buffers as little as possible.
pub async fn tight_stream(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(address).await.unwrap()
}

/// A client that has joined a room.
pub struct Player {
    pub client: Client,
    pub welcome: Welcome,
    /// The newest keyframe.
    pub keyframe: Keyframe,
    replica: Replica,
    uplink: UplinkSender,
    /// The tick of the last sample.
    sent_tick: u64,
}

/// A snapshot or a heartbeat after the replica has taken it in.
#[derive(Debug)]
pub struct Update {
    pub tick: u64,
    /// All but [`Event::Placed`].
    pub events: Vec<Event>,
    /// The poses of the cubes that came in, were placed or had a residual.
    pub cubes: Vec<CubePose>,
}

impl Player {
    fn new(client: Client, welcome: Welcome, keyframe: Keyframe) -> Self {
        let mut replica = Replica::default();
        replica.keyframe(&keyframe).unwrap();
        Self {
            client,
            welcome,
            keyframe,
            replica,
            uplink: UplinkSender::default(),
            sent_tick: 0,
        }
    }

    /// Returns where the replica has a cube, if it is in sight.
    pub fn pose(&self, cube: CubeId) -> Option<Pose> {
        self.replica.pose(cube)
    }

    /// Returns whether the replica has a cube at a pose, within the codec's bound.
    pub fn has(&self, cube: CubeId, pose: Pose) -> bool {
        let known = self.pose(cube);
        known.is_some_and(|known| is_near(known, pose))
    }

    pub fn cube(&self) -> CubeId {
        self.welcome.cube
    }

    /// Sends that a cube moves to a pose, at the tick after the newest known one or later, and that
    /// it stands there. It may be anybody's cube.
    pub async fn sample(&mut self, cube: CubeId, pose: Pose) {
        if self.uplink.pose(cube).is_none() {
            let known = self.replica.pose(cube).unwrap_or_default();
            self.uplink.gain(cube, known);
        }
        self.uplink.set_pose(cube, pose, Duration::ZERO);
        assert!(self.send_sample().await, "{cube} is at {pose:?} already");
        self.send_sample().await;
    }

    /// Sends what is not as predicted at the next tick. False if everything is.
    async fn send_sample(&mut self) -> bool {
        let tick = self.sent_tick.max(self.replica.tick()) + 1;
        let Some(sample) = self.uplink.take_sample(tick, Duration::ZERO, false) else {
            return false;
        };
        self.sent_tick = tick;
        let sample = ClientMessage::Sample {
            tick,
            placed: sample.placed,
            residuals: sample.residuals,
        };
        self.client.send(&sample).await;
        true
    }

    /// Lets go of a cube that was sampled last.
    pub async fn release(&mut self, cube: CubeId) {
        let tick = self.sent_tick + 1;
        self.uplink.release(cube, tick, Duration::ZERO);
        self.client.send(&ClientMessage::Release { cube }).await;
    }

    /// Moves the own cube farther than the codec's bound. Returns the new pose.
    pub async fn step(&mut self, x: i32) -> Pose {
        self.welcome.pose.position.x += x;
        let pose = self.welcome.pose;
        self.sample(self.welcome.cube, pose).await;
        pose
    }

    /// Receives the next message; the replica takes it in.
    pub async fn receive(&mut self) -> (ServerMessage, Option<Update>) {
        let message = self.client.receive().await;
        let message = message.expect("the connection should be open");
        let mut changes = self.replica.take_in(&message).unwrap();
        let update = match &message {
            ServerMessage::Snapshot(snapshot) => {
                let mut events = snapshot.events.clone();
                events.retain(|event| !matches!(event, Event::Placed { .. }));
                Some(events)
            }
            ServerMessage::Heartbeat { .. } => Some(Vec::new()),
            // The client was too slow for a moment.
            ServerMessage::Keyframe(keyframe) => {
                self.keyframe = keyframe.clone();
                None
            }
            _ => None,
        };
        let update = update.map(|events| {
            let Some(Change::Moved { tick, states, .. }) = changes.pop() else {
                panic!("no motion after {changes:?}");
            };
            let pose = |(cube, state): (CubeId, MotionState)| CubePose {
                cube,
                pose: state.pose(&Codec::LIVE),
            };
            let cubes = states.into_iter().map(pose).collect();
            Update {
                tick,
                events,
                cubes,
            }
        });
        (message, update)
    }

    /// Returns what `pick` finds in the first message in which it finds something.
    pub async fn find<T>(&mut self, mut pick: impl FnMut(ServerMessage) -> Option<T>) -> T {
        loop {
            if let Some(found) = pick(self.receive().await.0) {
                return found;
            }
        }
    }

    /// Waits for the next snapshot or heartbeat.
    pub async fn next_update(&mut self) -> Update {
        loop {
            if let (_, Some(update)) = self.receive().await {
                return update;
            }
        }
    }

    /// Waits until the replica has a cube at a pose that is as wanted, and returns it.
    pub async fn sees_that(&mut self, cube: CubeId, wanted: impl Fn(Pose) -> bool) -> Pose {
        loop {
            let pose = self.replica.pose(cube).filter(|pose| wanted(*pose));
            match pose {
                Some(pose) => return pose,
                None => drop(self.next_update().await),
            }
        }
    }

    /// Waits for a player of a name, and returns their cube.
    pub async fn sees_player(&mut self, name: &str) -> CubeId {
        loop {
            let known = self.replica.cubes().find(|cube| cube.name == name);
            match known {
                Some(known) => return known.cube,
                None => drop(self.next_update().await),
            }
        }
    }

    /// Waits until the replica has a cube at a pose, within the codec's bound.
    pub async fn sees(&mut self, cube: CubeId, pose: Pose) {
        while !self.has(cube, pose) {
            self.next_update().await;
        }
    }

    /// Returns the next `count` events, in order.
    pub async fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            events.extend(self.next_update().await.events);
        }
        assert_eq!(events.len(), count, "{events:?}");
        events
    }

    /// Closes without a message and reads to the end. Dropping a connection with unread bytes would
    /// reset it, and the server would count it as lost.
    pub async fn hang_up(mut self) {
        self.client.stream.shutdown().await.unwrap();
        while self.client.receive().await.is_some() {}
    }

    /// Returns what the newest keyframe says about a cube.
    pub fn knows(&self, cube: CubeId) -> Option<&CubeInfo> {
        self.keyframe.cubes.iter().find(|info| info.cube == cube)
    }
}

/// Returns the pose in a keyframe's or a join's data of a cube.
pub fn pose_of(info: &CubeInfo) -> Pose {
    info.motion.pose(&Codec::LIVE)
}

/// Returns whether two poses are within the codec's bound: 2 quanta along each axis, and a degree.
pub fn is_near(a: Pose, b: Pose) -> bool {
    let apart = |a: i32, b: i32| a.abs_diff(b) <= Codec::LIVE.position_bound as u32;
    let [p, q] = [a.rotation, b.rotation].map(|rotation| rotation.to_quaternion());
    let cosine = p.iter().zip(q).map(|(p, q)| p * q).sum::<f32>().abs();
    let (a, b) = (a.position, b.position);
    apart(a.x, b.x) && apart(a.y, b.y) && apart(a.z, b.z) && cosine > 0.9999
}

/// Players that jump to random places, so that each tick is large. Needs `--max-speed 0`.
pub struct Crowd {
    pub players: Vec<Player>,
}

impl Crowd {
    pub async fn join(server: &Server, count: usize) -> Self {
        let mut players = Vec::new();
        for number in 0..count {
            players.push(server.join(&format!("jumper {number}")).await);
        }
        Self { players }
    }

    /// Lets all players jump again and again until `done`.
    pub async fn jump_until(&mut self, done: impl Future<Output = ()>) {
        let jumping = async {
            loop {
                self.jump().await;
            }
        };
        tokio::select! {
            () = jumping => {}
            () = done => {}
        }
    }

    /// Lets all players jump once, and waits until the server has relayed the jumps.
    pub async fn jump(&mut self) {
        for player in &mut self.players {
            let place = || fastrand::i32(-100_000..100_000);
            player.welcome.pose.position = Position {
                x: place(),
                y: place(),
                z: 256,
            };
            player.step(0).await;
        }
        // When the first jump has come back, the server has most others too, so that they are not
        // merged with the next ones.
        let first = &mut self.players[0];
        first.sees(first.cube(), first.welcome.pose).await;
        for player in &mut self.players[1..] {
            while player.client.stream.try_read(&mut [0; 65_536]).is_ok() {}
        }
    }
}
