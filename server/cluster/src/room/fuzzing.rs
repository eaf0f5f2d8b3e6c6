//! A room that receives arbitrary messages on its bus, for tools/fuzz/.

use std::fmt;
use std::sync::Mutex;

use bytes::Bytes;
use cubesync_protocol::{Colour, CubePose};
use cubesync_relay::room::publisher::Publisher;
use cubesync_relay::room::speed::SpeedRule;
use cubesync_relay::room::world::Cube;

use super::*;
use crate::bus::{Bus, InboxSender, Leases};

const HZ: u8 = 20;

/// The messages that were sent, in order.
#[derive(Debug, Default)]
struct Record(Mutex<Vec<Bytes>>);

impl Bus for Record {
    fn publish(&self, _: &Topic, payload: Bytes) {
        let mut said = self.0.lock().expect("nobody panics with it");
        said.push(payload);
    }

    fn subscribe(&self, _: &Topic, _: InboxSender) -> Subscription {
        Subscription::new(|| {})
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn leases(&self) -> Arc<dyn Leases> {
        unreachable!("no room takes a lease")
    }
}

/// A server's room without players' connections and without a bus.
pub struct Overhearing {
    record: Arc<Record>,
    peers: SharedRoom,
    world: World,
    publisher: Publisher,
    opened: Instant,
    tick: u64,
}

impl Overhearing {
    /// Creates an empty room. The server's number comes from fastrand.
    pub fn new() -> Self {
        let record = Arc::new(Record::default());
        let cluster = Cluster::new(Arc::clone(&record) as Arc<dyn Bus>);
        let settings = RoomSettings {
            name: "fuzz".into(),
            tick_hz: HZ,
            top_speed: None,
            grid: Grid::WHOLE,
            slow_reader_after: Duration::from_secs(5),
            resume_within: Duration::from_secs(15),
            drain: Duration::ZERO,
            max_cubes: 64,
            permanent: true,
            backplane: Arc::clone(&cluster) as _,
        };
        let opened = Instant::now();
        let mut room = Self {
            record,
            world: World::new(HZ, None, cluster.cube_ids()),
            peers: SharedRoom::new(cluster, &settings, opened),
            publisher: Publisher::new(Grid::WHOLE),
            opened,
            tick: 0,
        };
        room.tick();
        room
    }

    /// Adds a player. Returns `None` if the room is full.
    pub fn join(&mut self, name: &str) -> Option<CubeId> {
        let colour = Colour::from([1, 2, 3]);
        let cube = self
            .world
            .join(name, colour, SpeedRule::Unlimited, None)
            .ok()?;
        self.peers
            .token_issued(cube, ResumeToken([name.len() as u8; 16]));
        Some(cube)
    }

    /// Moves a player, or tries to.
    pub fn place(&mut self, player: CubeId, placed: CubePose) {
        // A room removes players who send impossible positions; here they stay.
        let _ = self.world.sample(player, self.tick + 1, &[placed], &[]);
    }

    /// Receives a message from the bus.
    pub fn hear(&mut self, payload: Bytes) {
        let at = self.now();
        // Messages for the server are read elsewhere, and that must not fail either.
        let _ = crate::cluster::overheard(&payload);
        self.peers
            .heard(&Received { payload, at }, &mut self.world, at);
    }

    /// Advances time by a tick.
    pub fn tick(&mut self) {
        self.tick += 1;
        let (tick, now) = (self.tick, self.now());
        let mut changes = self.world.tick(tick);
        self.peers.publish(tick, &mut changes, &self.world, now);
        let mut visible = std::iter::once(CellId(0));
        self.peers
            .finish_tick(&mut visible, &mut changes, &mut self.world, now);
        self.publisher.tick(tick, changes, &self.world);
    }

    /// Returns the messages that the room has sent since the last call.
    pub fn said(&mut self) -> Vec<Bytes> {
        let mut said = self.record.0.lock().expect("nobody panics with it");
        std::mem::take(&mut said)
    }

    /// Returns the cubes that the room shows.
    pub fn cubes(&self) -> Vec<Cube> {
        self.world.cubes().collect()
    }

    fn now(&self) -> Instant {
        let ticks = u32::try_from(self.tick).unwrap_or(u32::MAX);
        self.opened + Duration::from_secs(1) / u32::from(HZ) * ticks
    }
}

impl Default for Overhearing {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Overhearing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overhearing").finish_non_exhaustive()
    }
}
