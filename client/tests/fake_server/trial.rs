//! A server that a test controls, and a client of it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use cubesync_client::lab::Conditions;
use cubesync_client::protocol::limits::PROTOCOL_VERSION;
use cubesync_client::protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_client::protocol::{
    CellId, ClientMessage, CubeId, CubeInfo, CubeKind, Hello, Keyframe, Message, Pose, Position,
    ResumeToken, ServerAddress, ServerMessage, Welcome, frame,
};
use cubesync_client::{Client, ClientEvent, ClientOptions, Status};

pub(crate) const FREE: CubeId = CubeId(0);
pub(crate) const OTHER: CubeId = CubeId(1);
pub(crate) const HERE: CellId = CellId(0);

/// Longest wait in a test: longer than any of these tests takes on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn pose(x_m: f32) -> Pose {
    Pose {
        position: Position::from_metres([x_m, 0.0, 0.5]),
        ..Pose::default()
    }
}

pub(crate) fn info(cube: CubeId, kind: CubeKind) -> CubeInfo {
    CubeInfo {
        cube,
        kind,
        name: format!("name {cube}"),
        colour: [1, 2, 3].into(),
        width: Default::default(),
        motion: MotionState::at_rest(pose(0.0)),
    }
}

pub(crate) fn welcome(own: CubeId, tick: u64) -> Welcome {
    Welcome {
        version: PROTOCOL_VERSION,
        room: "lobby".into(),
        name: "Anna".into(),
        cube: own,
        pose: pose(2.0),
        tick_hz: 30,
        tick,
        since_tick_us: 0,
        max_speed: 0,
        physics: false,
        resume: ResumeToken([8; 16]),
        servers: Vec::new(),
    }
}

/// Encodes a tick in which one of these cubes, which all rest at the origin, jumps to a pose.
pub(crate) fn put(cubes: &[CubeId], moved: CubeId, there: Pose) -> Bytes {
    let mut set = MotionSet::new(&Codec::LIVE);
    for &cube in cubes {
        set.insert(cube, MotionState::at_rest(pose(0.0)));
    }
    set.advance_to(set.tick() + 1);
    let truth = |cube| if cube == moved { there } else { pose(0.0) };
    let mut bytes = Vec::new();
    assert_eq!(set.encode_tick(truth, &mut bytes), 1);
    bytes.into()
}

/// Returns the room's first keyframe, with a free cube and another player.
pub(crate) fn keyframe(own: CubeId) -> ServerMessage {
    let free = CubeKind::Free { holder: None };
    ServerMessage::Keyframe(Keyframe {
        cell: HERE,
        interval_ticks: 1,
        tick: 100,
        cubes: vec![
            info(FREE, free),
            info(OTHER, CubeKind::Player),
            info(own, CubeKind::Player),
        ],
    })
}

/// The server's end of one connection.
pub(crate) struct ServerEnd {
    pub(crate) stream: TcpStream,
    pub(crate) read: BytesMut,
}

impl ServerEnd {
    pub(crate) fn send(&mut self, message: &ServerMessage) {
        self.stream.write_all(&message.to_frame()).unwrap();
    }

    pub(crate) fn receive(&mut self) -> ClientMessage {
        loop {
            if let Some(payload) =
                frame::split(&mut self.read, ClientMessage::MAX_PAYLOAD_BYTES).unwrap()
            {
                return ClientMessage::decode(&payload).unwrap();
            }
            let mut bytes = [0; 1024];
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "the client went away");
            self.read.extend_from_slice(&bytes[..count]);
        }
    }

    /// Sends a welcome, and nothing about the room.
    pub(crate) fn welcome_alone(&mut self, own: CubeId, resume: ResumeToken) {
        self.answer_hello(own, resume, Vec::new());
    }

    fn answer_hello(
        &mut self,
        own: CubeId,
        resume: ResumeToken,
        servers: Vec<ServerAddress>,
    ) -> Hello {
        let ClientMessage::Hello(hello) = self.receive() else {
            panic!("no hello");
        };
        self.send(&ServerMessage::Welcome(Welcome {
            resume,
            servers,
            ..welcome(own, 100)
        }));
        hello
    }

    /// Lets the client in, with a free cube and another player. Returns the client's hello.
    pub(crate) fn welcome(&mut self, own: CubeId) -> Hello {
        self.welcome_naming(own, &[])
    }

    /// Lets the client in as one of several servers, and names the others.
    pub(crate) fn welcome_naming(&mut self, own: CubeId, others: &[&TcpListener]) -> Hello {
        let address = |other: &&TcpListener| other.local_addr().unwrap().to_string();
        let servers = others.iter().map(|other| ServerAddress {
            tcp: address(other),
            web: address(other),
        });
        let hello = self.answer_hello(own, ResumeToken([7; 16]), servers.collect());
        self.send(&keyframe(own));
        hello
    }
}

/// A client, a listener for it, and a clock that can be put forward.
pub(crate) struct Trial {
    pub(crate) listener: TcpListener,
    pub(crate) client: Client,
    pub(crate) start: Instant,
    pub(crate) skipped: Duration,
    pub(crate) events: Vec<ClientEvent>,
}

impl Trial {
    pub(crate) fn new() -> Self {
        Self::with(Conditions::default())
    }

    /// Creates a trial whose client has a network lab with these conditions.
    pub(crate) fn with(lab: Conditions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().to_string();
        let options = ClientOptions {
            lab,
            ..ClientOptions::new(server, "Anna")
        };
        Self {
            listener,
            client: Client::new(options, 1),
            start: Instant::now(),
            skipped: Duration::ZERO,
            events: Vec::new(),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed() + self.skipped
    }

    pub(crate) fn poll(&mut self) {
        let now = self.now();
        self.client.poll(now);
        self.events
            .extend(std::iter::from_fn(|| self.client.next_event()));
    }

    /// Polls until `is_reached`.
    pub(crate) fn until(&mut self, is_reached: impl Fn(&mut Self) -> bool) {
        while !is_reached(self) {
            let status = self.client.status();
            assert!(
                self.start.elapsed() < PATIENCE,
                "{status}; {:?}",
                self.events
            );
            self.poll();
            thread::yield_now();
        }
    }

    /// Whether the client is connected to the address at which the trial listens.
    pub(crate) fn is_joining_here(&self) -> bool {
        let here = self.listener.local_addr().unwrap().to_string();
        self.client.status() == Status::Joining && self.client.server() == here
    }

    pub(crate) fn accept(&mut self) -> ServerEnd {
        self.until(|trial| trial.is_joining_here());
        ServerEnd {
            stream: self.listener.accept().unwrap().0,
            read: BytesMut::new(),
        }
    }

    pub(crate) fn join(&mut self, own: CubeId) -> ServerEnd {
        self.join_naming(own, &[])
    }

    pub(crate) fn join_naming(&mut self, own: CubeId, others: &[&TcpListener]) -> ServerEnd {
        let mut peer = self.accept();
        self.poll();
        peer.welcome_naming(own, others);
        self.until(|trial| trial.client.status() == Status::Joined);
        peer
    }

    /// Returns where a cube is drawn, and whether it is stale.
    pub(crate) fn drawn(&self, cube: CubeId) -> (f32, bool) {
        self.drawn_at(cube, self.now())
    }

    pub(crate) fn drawn_at(&self, cube: CubeId, now: Duration) -> (f32, bool) {
        let views = self.client.cubes(now);
        let view = views.iter().find(|view| view.cube == cube).unwrap();
        (view.position[0], view.stale)
    }

    /// Polls until there is an event, and returns it with its time.
    pub(crate) fn next_event(&mut self) -> (ClientEvent, Duration) {
        loop {
            assert!(self.start.elapsed() < PATIENCE);
            let now = self.now();
            self.client.poll(now);
            if let Some(event) = self.client.next_event() {
                return (event, now);
            }
            thread::yield_now();
        }
    }
}
