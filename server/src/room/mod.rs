//! Rooms: one task owns a world and everything that is written to its connections.
//!
//! Events come in through one bounded channel; a tick turns what they changed into one snapshot
//! frame in the [`log`], and the [`fanout`] writes it to everybody.

mod clock;
pub mod fanout;
mod handle;
pub mod log;
mod speed;
mod track;
pub mod world;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cubesync_protocol::limits::{HEARTBEAT_INTERVAL, MOVING_HEARTBEAT_INTERVAL, PROTOCOL_VERSION};
use cubesync_protocol::quantize::QUANTA_PER_METRE;
use cubesync_protocol::{
    ClientMessage, CloseCode, CubeId, Message, ResumeToken, ServerMessage, Snapshot, Welcome,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::clock::TickClock;
use self::fanout::{Connection, Flushed};
use self::handle::RoomEvent;
pub use self::handle::{Entrance, RoomEnded, RoomHandle, RoomView};
use self::log::SnapshotLog;
use self::world::{RoomFull, SpeedRule, World};
use crate::metrics::{Disconnect, Metrics};

/// How long an empty room is kept, so that the free cube is where it was when somebody returns.
const EMPTY_ROOM_LINGER: Duration = Duration::from_secs(60);

/// Clients of a stopping server come back spread over this time.
const RETURN_SPREAD_MS: u32 = 3_000;

/// How often a stopping room tries to write what is left.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// What a room needs to know about the server.
#[derive(Debug, Clone)]
pub struct RoomSettings {
    /// The room's name.
    pub name: String,
    /// Ticks per second.
    pub tick_hz: u8,
    /// Top speed of a cube in quanta per second; `None`: unlimited.
    pub top_speed: Option<u32>,
    /// A connection that takes nothing for this long is cut.
    pub slow_reader_after: Duration,
    /// A lost player's cube stays this long as a ghost.
    pub resume_within: Duration,
    /// How long a stopping room tries to deliver its last frames.
    pub drain: Duration,
    /// Whether the room stays when nobody is in it.
    pub permanent: bool,
}

/// A room before its task runs.
#[derive(Debug)]
pub struct Room {
    settings: RoomSettings,
    metrics: Metrics,
    world: World,
    log: SnapshotLog,
    members: BTreeMap<CubeId, Member>,
    /// Players who may come back, and until when.
    ghosts: BTreeMap<CubeId, Instant>,
    /// The one token that is good for each member and ghost.
    tokens: HashMap<ResumeToken, CubeId>,
    events: mpsc::Receiver<RoomEvent>,
    clock: TickClock,
    /// The tick of the newest frame in the log.
    published: u64,
    empty_since: Option<Instant>,
}

#[derive(Debug)]
struct Member {
    connection: Connection,
    ended: CancellationToken,
}

impl Room {
    /// A room with nothing but the free cube, and the way to talk to it. Its time begins now.
    pub fn new(settings: RoomSettings, metrics: Metrics) -> (RoomHandle, Self) {
        let (handle, events) = RoomHandle::new();
        let mut world = World::new(settings.tick_hz, settings.top_speed);
        world.tick(0);
        metrics
            .cubes
            .inc_by(i64::try_from(world.cube_count()).unwrap_or(i64::MAX));
        let now = Instant::now();
        let clock = TickClock::new(now, settings.tick_hz);
        let room = Self {
            world,
            log: SnapshotLog::default(),
            members: BTreeMap::new(),
            ghosts: BTreeMap::new(),
            tokens: HashMap::new(),
            events,
            clock,
            published: 0,
            empty_since: Some(now),
            settings,
            metrics,
        };
        (handle, room)
    }

    /// Runs until `shutdown`, or until the room was empty for a while and is not permanent;
    /// `retire` is called before the room stops listening.
    pub async fn run(mut self, shutdown: CancellationToken, retire: impl FnOnce()) {
        loop {
            let next_tick = self.clock.begins(self.clock.tick() + 1);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    retire();
                    self.drain().await;
                    break;
                }
                () = tokio::time::sleep_until(next_tick.into()) => {
                    self.tick(Instant::now());
                    if self.is_abandoned(Instant::now()) {
                        retire();
                        break;
                    }
                }
                event = self.events.recv() => match event {
                    Some(event) => self.handle(event, Instant::now()),
                    None => break,
                },
            }
        }
        self.metrics
            .cubes
            .dec_by(i64::try_from(self.world.cube_count()).unwrap_or(i64::MAX));
        debug!(room = self.settings.name, "the room has ended");
    }

    fn handle(&mut self, event: RoomEvent, now: Instant) {
        match event {
            RoomEvent::Enter { entrance, reply } => {
                let entered = self.enter(entrance, now);
                // The session may have given up in the meantime.
                if let (Ok(cube), Err(_)) = (entered, reply.send(entered)) {
                    self.remove(cube, Disconnect::Lost, now);
                }
            }
            RoomEvent::Message { from, message } => self.message(from, message, now),
            RoomEvent::Leave { from, reason } => self.remove(from, reason, now),
            RoomEvent::View { reply } => {
                // Who asked may be gone.
                let _ = reply.send(RoomView {
                    name: self.settings.name.clone(),
                    tick: self.clock.tick(),
                    tick_hz: self.settings.tick_hz,
                    cubes: self.world.cubes().collect(),
                });
            }
        }
    }

    fn enter(&mut self, entrance: Entrance, now: Instant) -> Result<CubeId, RoomFull> {
        let Entrance {
            name,
            colour,
            rule,
            resume,
            outlet,
            ended,
        } = entrance;
        let resumed = resume.and_then(|token| self.resume(token, rule, now));
        let cube = match resumed {
            Some(cube) => cube,
            None => {
                let cube = self.world.join(&name, colour, rule)?;
                self.metrics.cubes.inc();
                cube
            }
        };
        let token = self.new_token(cube);
        let info = self.world.cube(cube).expect("the cube has just come in");
        let welcome = ServerMessage::Welcome(Welcome {
            version: PROTOCOL_VERSION,
            room: self.settings.name.clone(),
            name: info.name.clone(),
            cube,
            pose: info.pose,
            tick_hz: self.settings.tick_hz,
            tick: self.clock.tick(),
            since_tick_us: self.clock.since_tick_us(now),
            max_speed: self.settings.top_speed.unwrap_or(0),
            resume: token,
        });
        let resumed = resumed.is_some();
        info!(room = self.settings.name, %cube, name = info.name, resumed, "joined");
        self.members.insert(
            cube,
            Member {
                connection: Connection::new(outlet),
                ended,
            },
        );
        self.empty_since = None;
        self.tell(cube, &welcome, now);
        Ok(cube)
    }

    fn message(&mut self, from: CubeId, message: ClientMessage, now: Instant) {
        // A message may still be in the queue when its sender has been removed.
        if !self.members.contains_key(&from) {
            return;
        }
        match message {
            ClientMessage::Sample { tick, cubes } => self.world.sample(from, tick, cubes),
            ClientMessage::Take { cube } => {
                if let Err(refusal) = self.world.take(from, cube) {
                    let holder = refusal.holder;
                    self.tell(from, &ServerMessage::Refused { cube, holder }, now);
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
                self.tell(from, &pong, now);
            }
            // The session keeps these to itself.
            ClientMessage::Hello(_) | ClientMessage::Leave => {}
        }
    }

    /// The cube a token stands for, which is now its bearer's. A connection that still has it is
    /// closed. What the player held was freed, so that client and server agree on it.
    fn resume(&mut self, token: ResumeToken, rule: SpeedRule, now: Instant) -> Option<CubeId> {
        let cube = *self.tokens.get(&token)?;
        self.remove(cube, Disconnect::Replaced, now);
        self.ghosts.remove(&cube);
        self.world.resume(cube, rule).then_some(cube)
    }

    /// Makes the token for a cube; the one before is no longer good.
    fn new_token(&mut self, cube: CubeId) -> ResumeToken {
        let mut token = ResumeToken([0; 16]);
        getrandom::fill(&mut token.0).expect("the system has random numbers");
        self.tokens.retain(|_, other| *other != cube);
        self.tokens.insert(token, cube);
        token
    }

    fn expire_ghosts(&mut self, now: Instant) {
        let expired = self.ghosts.iter().filter(|(_, until)| **until <= now);
        for cube in expired.map(|(cube, _)| *cube).collect::<Vec<_>>() {
            self.ghosts.remove(&cube);
            self.forget(cube);
        }
    }

    /// Takes a player's cube out of the world.
    fn forget(&mut self, player: CubeId) {
        self.world.leave(player);
        self.tokens.retain(|_, cube| *cube != player);
        self.metrics.cubes.dec();
    }

    fn tick(&mut self, now: Instant) {
        let tick = self.clock.advance(now);
        self.expire_ghosts(now);
        let snapshot = self.world.tick(tick);
        let corrections = self.world.corrections();
        self.metrics.ticks.inc();
        self.metrics.count_samples(self.world.take_sample_counts());
        if self.members.is_empty() {
            return;
        }
        if let Some(snapshot) = snapshot {
            self.publish(snapshot);
        } else if self.is_heartbeat_due(tick) {
            self.publish(Snapshot {
                tick,
                ..Snapshot::default()
            });
        }
        for (player, pose) in corrections {
            self.tell(player, &ServerMessage::Correction(pose), now);
        }
        self.fan_out(now);
        self.metrics
            .tick_duration
            .observe(now.elapsed().as_secs_f64());
    }

    fn is_heartbeat_due(&self, tick: u64) -> bool {
        let interval = if self.world.is_moving() {
            MOVING_HEARTBEAT_INTERVAL
        } else {
            HEARTBEAT_INTERVAL
        };
        let silent_ms = (tick - self.published) * 1_000 / u64::from(self.settings.tick_hz);
        u128::from(silent_ms) >= interval.as_millis()
    }

    fn publish(&mut self, snapshot: Snapshot) {
        self.published = snapshot.tick;
        self.log.push(ServerMessage::Snapshot(snapshot).to_frame());
        let readers = self.members.len() as u64;
        self.metrics.sent_frames.inc_by(readers);
    }

    fn fan_out(&mut self, now: Instant) {
        let mut over = Vec::new();
        for (&cube, member) in &mut self.members {
            let connection = &mut member.connection;
            if connection.catch_up(&mut self.log, || keyframe(&self.world)) {
                self.metrics.sent_frames.inc();
            }
            match connection.flush(&self.log, now) {
                Ok(Flushed::All) => {}
                Ok(Flushed::Blocked) => {
                    if connection.blocked_for(now) >= self.settings.slow_reader_after {
                        over.push((cube, Disconnect::SlowReader));
                    }
                }
                Err(_) => over.push((cube, Disconnect::Lost)),
            }
            self.metrics
                .sent_bytes
                .inc_by(connection.take_written_bytes());
        }
        for (cube, reason) in over {
            self.remove(cube, reason, now);
        }
    }

    /// Sends a frame to one player, at once where the socket takes it. A broken connection is
    /// noticed by the next tick.
    fn tell(&mut self, player: CubeId, message: &ServerMessage, now: Instant) {
        let Some(member) = self.members.get_mut(&player) else {
            return;
        };
        if member.connection.push_personal(message) {
            self.metrics.sent_frames.inc();
        }
        // An error comes again at the next tick, which removes the player.
        let _ = member.connection.flush(&self.log, now);
        self.metrics
            .sent_bytes
            .inc_by(member.connection.take_written_bytes());
    }

    fn remove(&mut self, player: CubeId, reason: Disconnect, now: Instant) {
        if let Some((code, message)) = farewell(reason) {
            self.tell(
                player,
                &ServerMessage::Closing {
                    code,
                    message: message.into(),
                    retry_after_ms: None,
                },
                now,
            );
        }
        let Some(member) = self.members.remove(&player) else {
            return;
        };
        if reason == Disconnect::SlowReader {
            member.connection.reset();
        } else {
            member.connection.finish();
        }
        member.ended.cancel();
        if let Some(info) = self.world.cube(player) {
            info!(room = self.settings.name, cube = %player, name = info.name, ?reason, "left");
        }
        if reason == Disconnect::Replaced
            || (reason.is_accident() && !self.settings.resume_within.is_zero())
        {
            self.world.ghost(player);
            self.ghosts
                .insert(player, now + self.settings.resume_within);
        } else {
            self.forget(player);
        }
        self.metrics.disconnected(reason);
        if self.members.is_empty() {
            self.empty_since = Some(now);
        }
    }

    fn is_abandoned(&self, now: Instant) -> bool {
        !self.settings.permanent
            && self.events.is_empty()
            && self
                .empty_since
                .is_some_and(|since| now.saturating_duration_since(since) >= EMPTY_ROOM_LINGER)
    }

    /// Tells everybody that the server stops, and waits until they have it.
    async fn drain(&mut self) {
        self.events.close();
        let start = Instant::now();
        for player in self.members.keys().copied().collect::<Vec<_>>() {
            let closing = ServerMessage::Closing {
                code: CloseCode::ShuttingDown,
                message: "the server is shutting down".into(),
                retry_after_ms: Some(fastrand::u32(0..RETURN_SPREAD_MS)),
            };
            self.tell(player, &closing, start);
        }
        while !self.members.is_empty() {
            let now = Instant::now();
            let out_of_time = now.saturating_duration_since(start) >= self.settings.drain;
            let mut done = Vec::new();
            for (&player, member) in &mut self.members {
                match member.connection.flush(&self.log, now) {
                    Ok(Flushed::Blocked) if !out_of_time => {}
                    _ => done.push(player),
                }
            }
            for player in done {
                self.remove(player, Disconnect::ShuttingDown, now);
            }
            if !self.members.is_empty() {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        }
        if start.elapsed() >= self.settings.drain {
            warn!(
                room = self.settings.name,
                "some clients did not read that the server stops"
            );
        }
    }
}

fn keyframe(world: &World) -> Bytes {
    ServerMessage::Keyframe(world.keyframe()).to_frame()
}

/// What a peer is told when its connection ends, where it can be told and does not know.
fn farewell(reason: Disconnect) -> Option<(CloseCode, &'static str)> {
    match reason {
        Disconnect::BadMessage => Some((
            CloseCode::BadMessage,
            "the server received something that is no message of this protocol",
        )),
        Disconnect::TooManyMessages => Some((
            CloseCode::TooManyMessages,
            "the client sent too many messages",
        )),
        Disconnect::Replaced => Some((
            CloseCode::Replaced,
            "the player came back on another connection",
        )),
        Disconnect::Silent => Some((CloseCode::Silent, "nothing was heard from the client")),
        _ => None,
    }
}

/// A speed as the wire has it.
pub fn quanta_per_second(metres_per_second: f32) -> u32 {
    // `as` saturates.
    (metres_per_second * QUANTA_PER_METRE).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_become_quanta() {
        assert_eq!(quanta_per_second(40.0), 20_480);
        assert_eq!(quanta_per_second(f32::INFINITY), u32::MAX);
    }
}
