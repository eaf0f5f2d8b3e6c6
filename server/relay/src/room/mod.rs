//! A room: one task that owns a world and writes to all of the room's connections.
//!
//! Events come in through one bounded channel. Players' samples go through
//! [`uplink`](cubesync_protocol::uplink) into the [`world`]. Once a tick the [`publisher`] encodes
//! the changes into the [`log`], and the [`audience`] writes the log to the room's receivers.

pub mod audience;
pub mod backplane;
mod clock;
mod drain;
mod handle;
pub mod log;
mod members;
mod membership;
pub mod publisher;
mod resumption;
pub mod speed;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod track;
pub mod world;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cubesync_protocol::cells::Grid;
use cubesync_protocol::datagram::Uplink;
use cubesync_protocol::quantize::QUANTA_PER_METRE;
use cubesync_protocol::{ClientMessage, CubeId, DatagramAnswer, ServerMessage};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::audience::{Audience, ReceiverId, SentDatagrams, Written};
use self::backplane::{Backplane, Outcome, Peers};
use self::clock::TickClock;
pub use self::handle::{Entrance, RoomEnded, RoomHandle, RoomView, SightRule};
use self::handle::{RoomEvent, RoomEvents};
use self::log::SnapshotLog;
use self::members::Member;
use self::membership::MemberId;
pub use self::membership::{Membership, Observer};
use self::publisher::Publisher;
use self::resumption::Resumption;
use self::world::{Changes, RoomFull, SampleCounts, World};
use crate::datagram::OpenedPath;
use crate::ending::Ending;
use crate::metrics::{BrokenRule, DatagramUse, Metrics, SampleTiming};

/// Time for which an empty room is kept, so that a player who returns finds the free cube where it was.
const EMPTY_ROOM_LINGER: Duration = Duration::from_secs(60);

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
    /// Largest number of cubes, the free one included.
    pub max_cubes: usize,
    /// Whether the room goes on when nobody is in it.
    pub permanent: bool,
    /// The room's connection with the rooms of that name on other servers.
    pub backplane: Arc<dyn Backplane>,
}

/// A room. [`run`](Self::run) is its task; a test that decides about the time calls the steps itself.
#[derive(Debug)]
pub struct Room {
    settings: RoomSettings,
    metrics: Metrics,
    /// The number of cubes that the metrics have counted.
    counted: i64,
    world: World,
    publisher: Publisher,
    log: SnapshotLog,
    audience: Audience,
    members: BTreeMap<CubeId, Member>,
    /// The number of observers that have come so far.
    observers: u64,
    /// The number of times that a player has come in so far.
    stays: u64,
    resumption: Resumption,
    events: RoomEvents,
    clock: TickClock,
    opened: Instant,
    /// The tick that has begun and that waits for updates of other servers.
    open: Option<OpenTick>,
    peers: Box<dyn Peers>,
    /// Players who come back while it is not yet known which other servers have their cubes.
    waiting: Vec<(Entrance, oneshot::Sender<Result<MemberId, RoomFull>>)>,
    /// When the last player left; observers do not count.
    empty_since: Option<Instant>,
}

/// A tick between its beginning and its end.
#[derive(Debug)]
struct OpenTick {
    changes: Changes,
    /// When the tick ends even if updates are missing.
    until: Instant,
    /// Time that the room has worked on the tick so far.
    worked: Duration,
}

impl Room {
    /// Creates a room with only the free cube, and a handle to it. The room's time begins now.
    pub fn new(settings: RoomSettings, metrics: Metrics) -> (RoomHandle, Self) {
        let (handle, events) = RoomHandle::new();
        let now = clock::now();
        let mut peers = Arc::clone(&settings.backplane).open_room(&settings, now);
        let clock = TickClock::new(peers.time(), settings.tick_hz, now);
        let mut world = World::new(settings.tick_hz, settings.top_speed, peers.cube_ids());
        let mut publisher = Publisher::new(settings.grid);
        let mut changes = world.tick(clock.tick());
        peers.publish(clock.tick(), &mut changes, &world, now);
        publisher.tick(clock.tick(), changes, &world);
        let mut room = Self {
            log: SnapshotLog::new(publisher.streams()),
            world,
            publisher,
            audience: Audience::new(settings.grid, settings.tick_hz),
            members: BTreeMap::new(),
            observers: 0,
            stays: 0,
            resumption: Resumption::default(),
            events,
            clock,
            opened: now,
            open: None,
            peers,
            waiting: Vec::new(),
            empty_since: Some(now),
            settings,
            metrics,
            counted: 0,
        };
        room.count_cubes();
        (handle, room)
    }

    /// Runs until `shutdown`, or until the room had no player for a while and is not permanent;
    /// `retire` is called before the room stops listening, also when it panics.
    pub async fn run(mut self, shutdown: CancellationToken, retire: impl FnOnce()) {
        // Arguments are dropped after local variables, so the room is dropped last.
        let retire = Retire(Some(retire));
        let timer = tokio::time::sleep_until(self.next_timer());
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
                    if self.open.is_some() {
                        self.end_tick(clock::now());
                    } else {
                        self.tick(clock::now());
                    }
                    if self.is_abandoned(clock::now()) {
                        self.peers.leave(&self.world);
                        return drop(retire);
                    }
                    timer.as_mut().reset(self.next_timer());
                }
                () = self.events.urgent() => self.take_events(clock::now()),
                () = poll_fn(|context| self.peers.poll_received(context)) => {
                    self.apply_received(clock::now());
                    if self.open.is_some() {
                        self.end_tick_if_complete(clock::now());
                        if self.open.is_none() {
                            timer.as_mut().reset(self.next_timer());
                        }
                    }
                }
            }
        }
    }

    /// Returns the time at which the open tick must end, or else the next one begins.
    fn next_timer(&self) -> tokio::time::Instant {
        let next = self.clock.begins(self.clock.tick() + 1);
        let open = self.open.as_ref();
        open.map_or(next, |open| open.until).into()
    }

    /// Returns the room's truth.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Returns the other servers that show the room.
    pub fn peers(&self) -> &dyn Peers {
        &*self.peers
    }

    /// Returns when a tick begins.
    pub fn begins(&self, tick: u64) -> Instant {
        self.clock.begins(tick)
    }

    /// Applies what other servers have sent.
    pub fn apply_received(&mut self, now: Instant) {
        let outcomes = self.peers.apply_received(&mut self.world, now);
        self.apply_outcomes(outcomes, now);
    }

    fn apply_outcomes(&mut self, outcomes: Vec<Outcome>, now: Instant) {
        for outcome in outcomes {
            match outcome {
                Outcome::Migrated(cube) => self.migrated(cube, now),
                Outcome::Refused {
                    player,
                    cube,
                    holder,
                } => self.send_to_player(player, &ServerMessage::Refused { cube, holder }, now),
            }
        }
    }

    /// Handles the events that handles have sent.
    pub fn take_events(&mut self, now: Instant) {
        for event in self.events.take().collect::<Vec<_>>() {
            self.handle(event, now);
        }
    }

    fn handle(&mut self, event: RoomEvent, now: Instant) {
        match event {
            RoomEvent::Enter { entrance, reply } if self.must_wait(&entrance, now) => {
                self.waiting.push((entrance, reply));
            }
            RoomEvent::Enter { entrance, reply } => {
                let entered = self.enter(entrance, now);
                // The session may have stopped waiting in the meantime.
                if let (Ok(id), Err(_)) = (entered, reply.send(entered)) {
                    self.remove(id.cube, Ending::Lost, now);
                }
            }
            // The sender was removed, or came back, while its event was in the queue.
            RoomEvent::Message { from, .. }
            | RoomEvent::Leave { from, .. }
            | RoomEvent::OpenDatagrams { from, .. }
            | RoomEvent::Datagram { from, .. }
                if !self.is_member(from) => {}
            RoomEvent::Message { from, message } => self.message(from.cube, message, now),
            RoomEvent::Leave { from, reason } => self.remove(from.cube, reason, now),
            RoomEvent::OpenDatagrams { from, opened } => {
                self.open_datagrams(from.cube, opened, now)
            }
            RoomEvent::Datagram { from, uplink } => self.datagram(from.cube, uplink, now),
            RoomEvent::View { reply } => {
                // The asking task may be gone.
                let _ = reply.send(RoomView {
                    name: self.settings.name.clone(),
                    tick: self.clock.tick(),
                    tick_hz: self.settings.tick_hz,
                    cubes: self.world.cubes().collect(),
                    owned: self.world.owned().collect(),
                });
            }
            RoomEvent::Observe { outlet, reply } => {
                let observer = self.observe(outlet, now);
                // The observer may have stopped waiting in the meantime.
                if reply.send(observer).is_err() {
                    self.end(observer, Ending::Lost, now);
                }
            }
            RoomEvent::EndObserver(observer) => self.end(observer, Ending::Left, now),
            #[cfg(test)]
            RoomEvent::Panic => panic!("the test asked for it"),
        }
    }

    /// Handles a message from a player's client.
    fn message(&mut self, from: CubeId, message: ClientMessage, now: Instant) {
        match message {
            ClientMessage::Sample {
                tick,
                placed,
                residuals,
            } => {
                if let Err(error) = self.world.sample(from, tick, &placed, &residuals) {
                    debug!(cube = %from, %error, "bad sample");
                    self.remove(from, Ending::BadMessage, now);
                }
            }
            ClientMessage::Take { cube } => {
                if let Err(refusal) = self.world.take(from, cube) {
                    let is_elsewhere = !self.world.owns(cube);
                    if is_elsewhere && self.peers.request(from, cube, now) {
                        return;
                    }
                    let holder = refusal.holder;
                    self.send_to_player(from, &ServerMessage::Refused { cube, holder }, now);
                }
            }
            ClientMessage::Release { cube } => self.world.release(from, cube),
            ClientMessage::Ping { sent_us } => {
                let pong = ServerMessage::Pong {
                    sent_us,
                    tick: self.clock.tick(),
                    since_tick_us: self.clock.since_tick_us(now),
                    late_samples: self.world.late_samples(from),
                };
                self.send_to_player(from, &pong, now);
            }
            // Nobody was welcomed a second time.
            ClientMessage::Continue { .. } => self.remove(from, Ending::BadMessage, now),
            // The session handles these itself.
            ClientMessage::Hello(_) | ClientMessage::Leave | ClientMessage::OpenDatagrams(_) => {}
        }
    }

    /// Answers a player's request for a way for datagrams.
    fn open_datagrams(&mut self, player: CubeId, opened: Option<OpenedPath>, now: Instant) {
        let (answer, path) = match opened {
            Some(OpenedPath { answer, path }) => (answer, Some(path)),
            None => (DatagramAnswer::Unavailable, None),
        };
        let (receiver, tick) = (ReceiverId::Player(player), self.clock.tick());
        let has_ended = self.open.is_none();
        let knows_all = has_ended && self.audience.is_up_to_date(receiver, &self.log);
        self.send_to_player(player, &ServerMessage::Datagrams(answer), now);
        if let Some(path) = path {
            self.audience.open_path(receiver, path, tick);
            if knows_all {
                // With it, the client can use the first datagram even if nothing moves.
                self.send_to_player(player, &ServerMessage::Heartbeat { tick }, now);
            }
        }
    }

    /// Takes in a datagram of a player.
    fn datagram(&mut self, player: CubeId, uplink: Uplink, now: Instant) {
        let receiver = ReceiverId::Player(player);
        self.audience.heard(receiver, &uplink, self.clock.tick());
        match self.world.datagram(player, &uplink) {
            Ok(0) => self.metrics.received_datagrams.count(DatagramUse::Nothing),
            Ok(_) => self.metrics.received_datagrams.count(DatagramUse::New),
            Err(error) => {
                debug!(cube = %player, %error, "bad datagram");
                self.remove(player, Ending::BadMessage, now);
            }
        }
    }

    /// Begins the next tick, and ends it unless it must wait for updates of other servers.
    pub fn tick(&mut self, now: Instant) {
        let tick = self.clock.advance(now);
        for ghost in self.resumption.expired(now) {
            self.forget(ghost);
        }
        if self.peers.is_settled(now) {
            for (entrance, reply) in std::mem::take(&mut self.waiting) {
                self.handle(RoomEvent::Enter { entrance, reply }, now);
            }
        }
        let mut changes = self.world.tick(tick);
        self.peers.publish(tick, &mut changes, &self.world, now);
        self.open = Some(OpenTick {
            changes,
            until: now + self.peers.wait().unwrap_or_default(),
            worked: Duration::ZERO,
        });
        self.end_tick_if_complete(now);
        if let Some(open) = &mut self.open {
            open.worked = now.elapsed();
        }
    }

    fn end_tick_if_complete(&mut self, now: Instant) {
        if self.peers.wait().is_none() {
            self.end_tick(now);
        }
    }

    /// Ends the tick that has begun, if it has not ended yet: publishes its changes and serves them.
    pub fn end_tick(&mut self, now: Instant) {
        let Some(OpenTick {
            mut changes,
            worked,
            ..
        }) = self.open.take()
        else {
            return;
        };
        let tick = self.clock.tick();
        let cells = self.audience.cells();
        let mut visible = cells.filter(|cell| self.audience.is_seen(*cell));
        let outcomes = self
            .peers
            .finish_tick(&mut visible, &mut changes, &mut self.world, now);
        drop(visible);
        self.apply_outcomes(outcomes, now);
        self.count_cubes();
        let snapshots = self.publisher.tick(tick, changes, &self.world);
        let corrections = self.world.corrections();
        self.metrics.ticks.inc();
        count_samples(&self.metrics, self.world.take_sample_counts());
        if self.audience.is_empty() {
            return;
        }
        if !snapshots.is_empty() {
            self.log.push(tick, publisher::frames(snapshots));
        }
        for (player, pose) in corrections {
            self.send_to_player(player, &ServerMessage::Correction(pose), now);
        }
        self.serve(tick, now);
        // A room that only a page or a recording looks at would hide how long the others take.
        if !self.members.is_empty() {
            let worked = worked + now.elapsed();
            self.metrics.tick_duration.observe(worked.as_secs_f64());
        }
    }

    /// Writes a tick to the audience, and ends the receivers that are lost or too slow.
    fn serve(&mut self, tick: u64, now: Instant) {
        let source = &mut self.publisher.with(&self.world);
        let over = self.audience.serve(tick, &self.log, source, now);
        self.count_written();
        let SentDatagrams { count, bytes } = self.audience.take_sent();
        if count > 0 {
            self.metrics.sent_datagrams.inc_by(count);
            self.metrics.sent_datagram_bytes.inc_by(bytes);
        }
        for (receiver, reason) in over {
            self.end(receiver, reason, now);
        }
    }

    /// Sends a message to a player.
    fn send_to_player(&mut self, player: CubeId, message: &ServerMessage, now: Instant) {
        self.send(ReceiverId::Player(player), message, now);
    }

    /// Sends a message to a receiver.
    fn send(&mut self, receiver: ReceiverId, message: &ServerMessage, now: Instant) {
        self.audience.send(receiver, message, &self.log, now);
        self.count_written();
    }

    fn count_written(&mut self) {
        let Written { bytes, frames } = self.audience.take_written();
        self.metrics.count_sent(bytes, frames);
    }

    /// Adds the cubes that came or left to the metrics.
    fn count_cubes(&mut self) {
        let count = i64::try_from(self.world.cube_count()).unwrap_or(i64::MAX);
        self.metrics.cubes.inc_by(count - self.counted);
        self.counted = count;
    }

    fn is_abandoned(&self, now: Instant) -> bool {
        !self.settings.permanent
            && self.events.is_empty()
            && self
                .empty_since
                .is_some_and(|since| now.saturating_duration_since(since) >= EMPTY_ROOM_LINGER)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.metrics.cubes.dec_by(self.counted);
        debug!(room = self.settings.name, "the room has ended");
    }
}

/// Calls a function when it is dropped.
struct Retire<Call: FnOnce()>(Option<Call>);

impl<Call: FnOnce()> Drop for Retire<Call> {
    fn drop(&mut self) {
        if let Some(retire) = self.0.take() {
            retire();
        }
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
