//! A room: one task that owns a world and writes to all of the room's connections.
//!
//! Events come in through one bounded channel. Players' samples go through
//! [`uplink`](cubesync_protocol::uplink) into the [`world`]. Once a tick the [`publisher`] encodes
//! the changes into the [`log`], and the [`audience`] writes the log to the room's receivers.
//!
//! Of several servers with a room, one owns it and runs it like that. The others have its
//! [`connections`] only: to the owner they are [`edges`]. A [`takeover`] makes one of them the owner.

mod answers;
pub mod audience;
pub mod backplane;
mod clock;
pub mod connections;
mod drain;
pub mod edges;
mod glide;
mod handle;
mod idle;
mod kept;
pub mod log;
mod loose;
mod members;
mod membership;
pub mod plain;
pub mod publisher;
mod resumption;
pub mod speed;
mod summary;
pub mod takeover;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod track;
pub mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cubesync_protocol::cells::Grid;
use cubesync_protocol::datagram::Uplink;
use cubesync_protocol::quantize::QUANTA_PER_METRE;
use cubesync_protocol::{ClientMessage, CubeId, Event, ResumeToken, ServerMessage};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::answers::{Answers, Due};
pub use self::audience::MemberId;
use self::audience::Moving;
use self::backplane::{Backplane, Retire};
use self::clock::TickClock;
pub use self::connections::{Admission, Connections, Member};
use self::edges::Edges;
pub use self::edges::{CubeState, EdgeFrames, EdgeId, ForPlayer, RemoteEntrance, RosterChanges};
pub use self::handle::{
    Entered, Entrance, PlayerPlace, PlayerSeen, Role, RoomEnded, RoomEvent, RoomHandle,
    RoomPlayers, RoomView, SightRule,
};
use self::loose::LooseCubes;
pub use self::membership::{Membership, Observer};
use self::publisher::Publisher;
use self::resumption::Resumption;
pub use self::resumption::{TokenDigest, draw_token};
pub use self::summary::{Crowd, RoomSummary};
pub use self::takeover::RoomState;
use self::world::{FREE_CUBE, SampleCounts, World};
use crate::ending::Ending;
use crate::mechanics::Field;
use crate::metrics::{BrokenRule, Counted, DatagramUse, Metrics, SampleTiming};
use crate::room_places::Occupants;

/// A room's settings.
#[derive(Debug, Clone)]
pub struct RoomSettings {
    /// The room's name.
    pub name: String,
    /// Ticks per second.
    pub tick_hz: u8,
    /// Top speed of a cube in quanta per second; `None`: unlimited.
    pub top_speed: Option<u32>,
    /// The division of the floor into cells.
    pub grid: Grid,
    /// Time after which a connection that takes no bytes is cut.
    pub slow_reader_after: Duration,
    /// Time for which the cube of a player whose connection is lost stays as a ghost.
    pub resume_within: Duration,
    /// Time for which a stopping room tries to deliver its last frames.
    pub drain: Duration,
    /// Largest number of cubes; all free ones count as one.
    pub max_cubes: usize,
    /// The loose cubes; `None`: nothing moves the free cube but its holder.
    pub field: Option<Field>,
    /// Whether the room goes on when nobody is in it.
    pub permanent: bool,
    /// The server's connection with other servers that have the room.
    pub backplane: Arc<dyn Backplane>,
}

impl RoomSettings {
    /// Returns whether loose cubes fall and roll by themselves.
    pub fn has_physics(&self) -> bool {
        self.field
            .as_ref()
            .is_some_and(|field| field.create.is_some())
    }
}

/// A room. [`run`](Self::run) is its task; a test that decides about the time calls the steps itself.
#[derive(Debug)]
pub struct Room {
    connections: Connections,
    world: World,
    publisher: Publisher,
    /// The players of cubes.
    players: BTreeMap<CubeId, MemberId>,
    resumption: Resumption,
    clock: TickClock,
    opened: Instant,
    edges: Edges,
    answers: Answers,
    loose: Option<LooseCubes>,
    /// `None`: the room is at rest. Nobody received the last tick, and nothing moves or waits for the next one.
    ticking: Option<Counted>,
}

impl Room {
    /// Creates a room with only the free cube. The room's time begins now.
    pub fn new(connections: Connections) -> Self {
        let now = clock::now();
        let settings = &connections.settings;
        let clock = TickClock::new(settings.tick_hz, 0, now);
        let answers = Answers::new(settings.tick_hz);
        let mut world = World::new(settings.tick_hz, settings.top_speed);
        if let Some(field) = &settings.field {
            world.scatter(&field.cubes);
            if let Some(kept) = &field.kept {
                world.put_back(&kept.borrow());
            }
        }
        let loose = LooseCubes::of(settings, &world, &connections.metrics.steps);
        let mut publisher = Publisher::new(settings.grid);
        let changes = world.tick(clock.tick());
        publisher.tick(clock.tick(), changes, &world);
        let mut room = Self {
            world,
            publisher,
            connections,
            players: BTreeMap::new(),
            resumption: Resumption::default(),
            clock,
            opened: now,
            edges: Edges::default(),
            answers,
            loose,
            ticking: None,
        };
        room.begin_ticking();
        room.count_cubes();
        room
    }

    /// Runs until `shutdown`, or until the room is [abandoned](Self::is_abandoned); `retire` is dropped before
    /// the room stops listening, even if it panics.
    pub async fn run(mut self, shutdown: CancellationToken, retire: Retire) {
        // Arguments are dropped in reverse order, and local variables before them.
        let timer = tokio::time::sleep_until(self.next_turn().into());
        tokio::pin!(timer);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    drop(retire);
                    return self.drain().await;
                }
                () = &mut timer => {
                    self.take_events(clock::now());
                    self.tick(clock::now());
                }
                () = self.connections.urgent() => self.take_urgent_events(clock::now()),
            }
            if self.is_abandoned(clock::now()) {
                return drop(retire);
            }
            let turn_at = self.next_turn().into();
            if timer.deadline() != turn_at {
                timer.as_mut().reset(turn_at);
            }
        }
    }

    /// Returns the time at which the next tick begins.
    pub fn next_tick(&self) -> Instant {
        self.clock.begins(self.clock.tick() + 1)
    }

    /// Returns when a tick begins.
    pub fn begins(&self, tick: u64) -> Instant {
        self.clock.begins(tick)
    }

    /// Returns the tick that the room is in.
    pub fn tick_number(&self) -> u64 {
        self.clock.tick()
    }

    /// Returns the room's truth.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Returns whether a cube is predicted to move.
    pub fn is_moving(&self) -> bool {
        self.publisher.moving() != Moving::Nobody
    }

    /// Returns the connections to this server.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Returns the connections to this server.
    pub fn connections_mut(&mut self) -> &mut Connections {
        &mut self.connections
    }

    /// Waits until there is an event that cannot wait for the next tick.
    pub async fn urgent(&self) {
        self.connections.urgent().await;
    }

    /// Sends everybody that the server stops, and waits until they have taken it.
    pub async fn drain(self) {
        self.keep();
        self.connections.drain().await;
    }

    /// Handles the events that handles have sent. After a stall of more than a second they wait for the tick
    /// that is due: the world, which is in the one before, would take samples for ones that came too early.
    pub fn take_events(&mut self, now: Instant) {
        let latest = self.clock.tick() + u64::from(self.connections.settings.tick_hz);
        if now >= self.clock.begins(latest + 1) {
            return;
        }
        let events = self.connections.take_events();
        self.handle_all(events, now);
    }

    /// Handles the events that handles have sent, of which one cannot wait for the next tick. A room that rests
    /// begins the tick that it is by now, but not for a summary, which names none.
    fn take_urgent_events(&mut self, now: Instant) {
        let events = self.connections.take_events();
        let is_summary = |event: &RoomEvent| matches!(event, RoomEvent::Summary { .. });
        if !events.iter().all(is_summary) {
            self.catch_up(now);
        }
        self.handle_all(events, now);
    }

    fn handle_all(&mut self, events: Vec<RoomEvent>, now: Instant) {
        for event in events {
            self.handle(event, now);
        }
        self.note_occupants();
    }

    /// Handles an event.
    pub fn handle(&mut self, event: RoomEvent, now: Instant) {
        if !matches!(event, RoomEvent::View { .. } | RoomEvent::Summary { .. }) {
            self.begin_ticking();
        }
        match event {
            RoomEvent::Enter { entrance, reply } => {
                // Dropping the reply says that the room has ended.
                if !self.connections.note_occupants(Occupants::Players) {
                    return;
                }
                let entered = self.enter(entrance, now);
                // The session may have stopped waiting in the meantime.
                if let (Ok(entered), Err(_)) = (entered, reply.send(entered)) {
                    self.remove(entered.id, Ending::Lost, now);
                }
            }
            RoomEvent::Message { from, message } => self.message(from, message, now),
            RoomEvent::Leave { from, reason } => self.remove(from, reason, now),
            RoomEvent::OpenDatagrams { from, opened } => {
                let tick = self.clock.tick();
                // The sender may have been removed while its event was in the queue.
                if self.connections.member(from).is_some() {
                    self.connections.open_datagrams(from, opened, tick, now);
                }
            }
            RoomEvent::Datagram { from, uplink } => self.datagram(from, uplink, now),
            RoomEvent::Summary { reply } => {
                // The asking task may be gone.
                let _ = reply.send(RoomSummary {
                    name: self.connections.settings.name.clone(),
                    tick_hz: self.connections.settings.tick_hz,
                    role: self.connections.role.clone(),
                    crowd: Crowd::of(self.world.names()),
                });
            }
            RoomEvent::View { reply } => {
                // The asking task may be gone.
                let _ = reply.send(RoomView {
                    name: self.connections.settings.name.clone(),
                    tick: self.clock.tick(),
                    tick_hz: self.connections.settings.tick_hz,
                    cubes: self.world.cubes().collect(),
                    role: self.connections.role.clone(),
                });
            }
            RoomEvent::Players { reply } => {
                let cubes = self.world.cubes();
                let cubes = cubes.map(|cube| (cube.cube, cube.kind, cube.name));
                // The asking task may be gone.
                let _ = reply.send(self.connections.players(cubes));
            }
            RoomEvent::Remove { cube, why, reply } => {
                let _ = reply.send(self.remove_player(cube, &why, now));
            }
            RoomEvent::Observe { outlet, reply } => {
                let mut welcome = self.welcome(FREE_CUBE, ResumeToken([0; 16]), now);
                welcome.name.clear();
                let observer = self.connections.observe(outlet, welcome, now);
                // The observer may have stopped waiting in the meantime.
                if reply.send(observer).is_err() {
                    let source = &mut self.publisher.with(&self.world);
                    self.connections.end_observer(observer, source);
                }
            }
            RoomEvent::Place(cubes) => self.world.settle(u64::MAX, &cubes),
            RoomEvent::EndObserver(observer) => {
                let source = &mut self.publisher.with(&self.world);
                self.connections.end_observer(observer, source);
            }
            #[cfg(test)]
            RoomEvent::Panic => panic!("the test asked for it"),
        }
    }

    /// Handles a message from a player's client.
    pub fn message(&mut self, id: MemberId, message: ClientMessage, now: Instant) {
        let admitted = self.connections.admit_from(id, &message);
        let admitted = admitted.or_else(|| self.edges.admit(id, &message));
        let from = match admitted {
            Some((cube, Admission::Pass)) => cube,
            Some((_, Admission::Refuse)) => return self.remove(id, Ending::BadMessage, now),
            // The sender may have been removed, or have come back, while its message was on the way.
            Some((_, Admission::Drop)) | None => return,
        };
        match message {
            ClientMessage::Sample {
                tick,
                placed,
                residuals,
            } => {
                if let Err(error) = self.world.sample(from, tick, &placed, &residuals) {
                    debug!(cube = %from, %error, "bad sample");
                    self.remove(id, Ending::BadMessage, now);
                }
            }
            ClientMessage::Take { cube } => match self.world.take(from, cube) {
                Ok(()) => self.answers.grant(id, cube),
                Err(refusal) => self.answers.refuse(id, cube, refusal.holder),
            },
            ClientMessage::Release { cube } => self.world.release(from, cube),
            ClientMessage::Ping { sent_us } => {
                if self.answers.ping(id, sent_us) {
                    let pong = self.pong(from, sent_us, now);
                    self.send(id, &pong, now);
                }
            }
            ClientMessage::Continue { releases } => self.world.restart(from, releases),
            // The session handles these itself.
            ClientMessage::Hello(_) | ClientMessage::Leave | ClientMessage::OpenDatagrams(_) => {}
        }
    }

    /// Takes in a datagram of a player.
    pub fn datagram(&mut self, id: MemberId, uplink: Uplink, now: Instant) {
        let (player, counts) = match self.connections.member(id) {
            Some(member) => (member.cube, member.is_heard()),
            None => match self.edges.admit_datagram(id) {
                Some(cube) => (cube, true),
                None => return,
            },
        };
        self.connections.heard(id, &uplink, self.clock.tick());
        let used = match counts {
            true => self.world.datagram(player, &uplink),
            false => Ok(0),
        };
        let received = &self.connections.metrics.received_datagrams;
        match used {
            Ok(0) => received.count(DatagramUse::Nothing),
            Ok(_) => received.count(DatagramUse::New),
            Err(error) => {
                debug!(cube = %player, %error, "bad datagram");
                self.remove(id, Ending::BadMessage, now);
            }
        }
    }

    /// Begins the next tick: moves the cubes, and sends what has changed.
    pub fn tick(&mut self, now: Instant) {
        let tick = self.clock.advance(now);
        for ghost in self.resumption.expired(now) {
            self.forget(ghost);
        }
        self.give_up_absent(now);
        if let Some(loose) = &mut self.loose {
            loose.finish(&mut self.world);
        }
        let changes = self.world.tick(tick);
        if let Some(loose) = &mut self.loose {
            loose.begin(&mut self.world);
        }
        self.keep_when_due();
        self.edges.note(changes.events.iter().map(Event::cube));
        self.count_cubes();
        let snapshots = self.publisher.tick(tick, changes, &self.world);
        let corrections = self.world.corrections();
        let answers = self.answers.take(tick);
        self.connections.metrics.ticks.inc();
        count_samples(&self.connections.metrics, self.world.take_sample_counts());
        let has_audience = !self.connections.audience().is_empty();
        self.note_occupants();
        if !has_audience && self.edges.is_empty() {
            return self.rest();
        }
        self.begin_ticking();
        let frames = publisher::frames(snapshots);
        if !self.edges.is_empty() {
            let source = &mut self.publisher.with(&self.world);
            let audience = &mut self.connections.audience;
            self.edges.serve(tick, &frames, audience, source);
        }
        if has_audience && !frames.is_empty() {
            self.connections.log(tick, frames);
        }
        for (player, correction) in corrections {
            if let Some(&id) = self.players.get(&player) {
                self.send_with_tick(id, &correction);
            }
        }
        self.answer(answers, now);
        let source = &mut self.publisher.with(&self.world);
        for (player, reason) in self.connections.serve(tick, source, now) {
            self.remove(player, reason, now);
        }
        // A room that only a page or a recording looks at would hide how long the others take.
        if self.connections.has_members() || self.edges.has_members() {
            let ticks = &self.connections.metrics.tick_duration;
            ticks.observe(now.elapsed().as_secs_f64());
        }
    }

    /// Sends a message to a player, here or at an edge.
    fn send(&mut self, id: MemberId, message: &ServerMessage, now: Instant) {
        match self.connections.member(id) {
            Some(_) => self.connections.send(id, message, now),
            None => self.edges.send(id, message),
        }
    }

    /// Sends a message to a player, here or at an edge, with what the tick has for them.
    fn send_with_tick(&mut self, id: MemberId, message: &ServerMessage) {
        match self.connections.member(id) {
            Some(_) => self.connections.send_with_tick(id, message),
            None => self.edges.send(id, message),
        }
    }

    /// Sends players the answers that have waited for the tick.
    fn answer(&mut self, due: Due, now: Instant) {
        for (id, refusals) in due.refusals {
            for (cube, holder) in refusals {
                self.send_with_tick(id, &ServerMessage::Refused { cube, holder });
            }
        }
        for (id, pings) in due.pings {
            let member = self.connections.member(id).map(|member| member.cube);
            if let Some(cube) = member.or_else(|| self.remote_cube(id)) {
                for sent_us in pings {
                    let pong = self.pong(cube, sent_us, now);
                    self.send_with_tick(id, &pong);
                }
            }
        }
    }

    fn pong(&self, player: CubeId, sent_us: u64, now: Instant) -> ServerMessage {
        ServerMessage::Pong {
            sent_us,
            tick: self.clock.tick(),
            since_tick_us: self.clock.since_tick_us(now),
            late_samples: self.world.late_samples(player),
        }
    }

    /// Adds the cubes that came or left to the metrics.
    fn count_cubes(&mut self) {
        self.connections.count_cubes(self.world.cube_count());
    }
}

/// Adds a tick's counts of samples to the metrics.
fn count_samples(metrics: &Metrics, counts: SampleCounts) {
    let SampleCounts {
        on_time,
        early,
        late,
        missing,
        too_fast,
        not_theirs,
    } = counts;
    for (timing, count) in [
        (SampleTiming::OnTime, on_time),
        (SampleTiming::Early, early),
        (SampleTiming::Late, late),
        (SampleTiming::Missing, missing),
    ] {
        if count > 0 {
            metrics.samples.add(timing, count);
        }
    }
    for (rule, count) in [
        (BrokenRule::Speed, too_fast),
        (BrokenRule::Authority, not_theirs),
    ] {
        if count > 0 {
            metrics.corrections.add(rule, count);
        }
    }
}

/// Converts a distance or a speed from metres to quanta.
pub fn quanta(metres: f32) -> u32 {
    // `as` saturates.
    (metres * QUANTA_PER_METRE).round() as u32
}
