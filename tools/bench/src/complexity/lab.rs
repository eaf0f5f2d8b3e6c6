//! A room without its task, whose players and time the measurement controls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cubesync_protocol::cells::Grid;
use cubesync_protocol::datagram::Uplink;
use cubesync_protocol::limits::MAX_CUBES_PER_ROOM;
use cubesync_protocol::{ClientMessage, Colour, CubeId, Pose, ResumeToken};
use cubesync_relay::Ending;
use cubesync_relay::metrics::Metrics;
use cubesync_relay::room::audience::Outlet;
use cubesync_relay::room::backplane::Alone;
use cubesync_relay::room::speed::SpeedRule;
use cubesync_relay::room::testing::SampleWriter;
use cubesync_relay::room::{
    Connections, Entered, Entrance, MemberId, Room, RoomEvent, RoomSettings, SightRule,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

const HZ: u8 = 30;

/// A room and its players.
pub(crate) struct Lab {
    room: Room,
    pub(crate) players: Vec<Player>,
    now: Instant,
    /// The newest tick far ahead of the room's that a client has sampled.
    early: u64,
}

/// A player, and what their client has sent.
pub(crate) struct Player {
    id: MemberId,
    pub(crate) cube: CubeId,
    writer: SampleWriter,
    /// What the room writes.
    frames: mpsc::Receiver<Bytes>,
}

impl Lab {
    /// Creates a room with players of two kinds of names, whose floor is divided for a view distance in quanta.
    pub(crate) fn new(players: usize, view_distance: Option<u32>) -> Self {
        let settings = RoomSettings {
            name: "lab".into(),
            tick_hz: HZ,
            top_speed: None,
            grid: view_distance.map_or(Grid::WHOLE, Grid::new),
            slow_reader_after: Duration::from_secs(5),
            // All ghosts are gone before the next operation is measured.
            resume_within: Duration::from_secs(1),
            drain: Duration::ZERO,
            max_cubes: MAX_CUBES_PER_ROOM,
            field: None,
            permanent: true,
            backplane: Arc::new(Alone),
        };
        let (_, connections) = Connections::new(settings, Metrics::default());
        let room = Room::new(connections);
        let now = room.begins(room.tick_number());
        let mut lab = Self {
            room,
            players: Vec::new(),
            now,
            early: 1 << 40,
        };
        lab.fill(players);
        lab.rest(8);
        lab
    }

    /// Brings in or takes out players until there are so many. There is always place for those who come while
    /// it is measured.
    pub(crate) fn fill(&mut self, players: usize) {
        let players = players.min(MAX_CUBES_PER_ROOM - 200);
        while self.players.len() > players {
            self.leave(self.players.len() - 1, Ending::Left);
        }
        while self.players.len() < players {
            match self.players.len() % 2 {
                0 => self.join("Anna", None),
                number => self.join(&format!("player {number}"), None),
            }
        }
    }

    /// Lets a player come in, who is then the last one.
    pub(crate) fn join(&mut self, name: &str, resume: Option<ResumeToken>) {
        let (outlet, frames) = mpsc::channel(16);
        let entrance = Entrance {
            name: name.into(),
            colour: Colour::from([1, 2, 3]),
            rule: SpeedRule::TopSpeed,
            sight: SightRule::Surroundings,
            resume,
            pose: None,
            outlet: Outlet::Frames(outlet),
            ended: CancellationToken::new(),
            peer: None,
        };
        let (reply, mut answer) = oneshot::channel();
        let enters = RoomEvent::Enter { entrance, reply };
        self.room.handle(enters, self.now);
        let entered = answer.try_recv().expect("the room answers at once");
        let Entered { id, cube } = entered.expect("there is place");
        self.players.push(Player {
            id,
            cube,
            writer: SampleWriter::default(),
            frames,
        });
    }

    /// Takes a player out, and returns the token with which they may come back.
    pub(crate) fn leave(&mut self, number: usize, reason: Ending) -> ResumeToken {
        let from = self.players.swap_remove(number).id;
        let member = self.room.connections().member(from);
        let token = member.expect("they are in the room").token;
        self.room
            .handle(RoomEvent::Leave { from, reason }, self.now);
        token
    }

    /// Lets a player's client send a message.
    pub(crate) fn say(&mut self, number: usize, message: ClientMessage) {
        let from = self.players[number].id;
        let message = RoomEvent::Message { from, message };
        self.room.handle(message, self.now);
    }

    /// Lets a datagram of a player come.
    pub(crate) fn hear(&mut self, number: usize, uplink: Uplink) {
        let from = self.players[number].id;
        let datagram = RoomEvent::Datagram { from, uplink };
        self.room.handle(datagram, self.now);
    }

    /// Lets a player's client sample its cube at the next tick.
    pub(crate) fn sample(&mut self, number: usize, pose: Pose) {
        let tick = self.room.tick_number() + 1;
        let cube = self.players[number].cube;
        let (placed, residuals) = self.players[number].writer.sample(tick, cube, pose);
        let residuals = residuals.into();
        let sample = ClientMessage::Sample {
            tick,
            placed,
            residuals,
        };
        self.say(number, sample);
    }

    /// Returns a tick far ahead of the room's that nobody has sampled.
    pub(crate) fn early_tick(&mut self) -> u64 {
        self.early += 1;
        self.early
    }

    /// Returns where a player's cube is.
    pub(crate) fn pose(&self, number: usize) -> Pose {
        let pose = self.room.world().pose(self.players[number].cube);
        pose.expect("their cube is in the room")
    }

    /// Checks that the room has ended nobody's connection.
    pub(crate) fn check(&self, operation: &str) {
        let members = self.room.connections().members().count();
        assert_eq!(members, self.players.len(), "{operation} broke a rule");
    }

    /// Ends so many ticks, and lets all players read what the room has written.
    pub(crate) fn rest(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.tick();
            for player in &mut self.players {
                while player.frames.try_recv().is_ok() {}
            }
        }
    }

    /// Ends a tick.
    pub(crate) fn tick(&mut self) {
        self.now = self.room.next_tick();
        self.room.tick(self.now);
    }

    /// Returns whether views may change after the next tick.
    pub(crate) fn views_change_next(&self) -> bool {
        let audience = self.room.connections().audience();
        audience.may_change_views(self.room.tick_number() + 1)
    }
}
