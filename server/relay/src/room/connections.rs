//! The connections of a room on this server, and the log that they read: what a room's owner and a
//! server that only shows the room have in common.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use cubesync_protocol::cells::Sight;
use cubesync_protocol::datagram::Uplink;
use cubesync_protocol::limits::PROTOCOL_VERSION;
use cubesync_protocol::{
    CellId, ClientMessage, Colour, CubeId, CubeKind, DatagramAnswer, Pose, ResumeToken,
    ServerAddress, ServerMessage, Welcome, Width,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::RoomSettings;
use super::audience::{
    Audience, MemberId, Outlet, Receiver, ReceiverId, SentDatagrams, Source, Written,
};
use super::handle::{
    Entered, Entrance, PlayerPlace, PlayerSeen, Role, RoomEvent, RoomEvents, RoomHandle,
    RoomPlayers, SightRule,
};
use super::log::{LogFrame, SnapshotLog, StreamId};
use super::speed::SpeedRule;
use super::world::{Cube, FREE_CUBE};
use crate::datagram::OpenedPath;
use crate::ending::Ending;
use crate::label::Label;
use crate::metrics::Metrics;
use crate::peer::Peer;
use crate::room_places::{Occupants, RoomPlace};

/// Time for which an empty room is kept, so that a player who returns finds the free cube where it was.
const EMPTY_ROOM_LINGER: Duration = Duration::from_secs(60);

/// The players and observers of a room that are connected to this server, with the log that they read.
#[derive(Debug)]
pub struct Connections {
    /// The room's settings.
    pub settings: RoomSettings,
    /// The server's metrics.
    pub metrics: Metrics,
    /// The part of this server in the room.
    pub role: Role,
    pub(super) log: SnapshotLog,
    pub(super) audience: Audience,
    members: BTreeMap<MemberId, Member>,
    /// The number of observers that have come so far.
    observers: u64,
    /// The number of times that a player has come in so far.
    stays: u64,
    events: RoomEvents,
    place: RoomPlace,
    /// When the last player left; observers do not count.
    empty_since: Option<Instant>,
    /// The number of cubes that the metrics have counted.
    counted: i64,
    /// The newest tick that was written to receivers.
    newest_tick: u64,
}

/// A player with a connection to this server.
#[derive(Debug)]
pub struct Member {
    /// The player's own cube.
    pub cube: CubeId,
    /// The name above it.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// The limit of the player's speed.
    pub rule: SpeedRule,
    /// The token with which the player may come back.
    pub token: ResumeToken,
    /// The token before that one, with which the player has come back.
    pub earlier: Option<ResumeToken>,
    gate: Gate,
    /// The other end of the player's connection.
    peer: Option<Peer>,
    /// When the player connected.
    since: Instant,
    /// Cancelled when this is dropped.
    ended: CancellationToken,
}

/// What becomes of a message of a player.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It counts.
    Pass,
    /// It belongs to a session before the player's last `Welcome`.
    Drop,
    /// The client had no reason to send it.
    Refuse,
}

/// Lets no message of an earlier session of a connection pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Gate {
    /// The number of `Welcome`s that the client has not answered yet, besides its first one.
    unanswered: u32,
    /// Whether another `Welcome` is to come.
    is_closed: bool,
}

impl Gate {
    /// Waits for the answer to another `Welcome`. People who type coordinates give none, since each of
    /// their samples says all.
    pub(super) fn restart(&mut self, rule: SpeedRule) {
        self.unanswered += u32::from(rule != SpeedRule::Unlimited);
        self.is_closed = false;
    }

    /// Returns whether all that comes counts.
    pub(super) fn is_open(self) -> bool {
        self.unanswered == 0 && !self.is_closed
    }

    /// Judges a message, and opens at the answer to the last `Welcome`.
    pub(super) fn admit(&mut self, message: &ClientMessage) -> Admission {
        match message {
            ClientMessage::Continue { .. } => {
                let Some(unanswered) = self.unanswered.checked_sub(1) else {
                    return Admission::Refuse;
                };
                self.unanswered = unanswered;
                match self.is_open() {
                    true => Admission::Pass,
                    false => Admission::Drop,
                }
            }
            ClientMessage::Sample { .. }
            | ClientMessage::Take { .. }
            | ClientMessage::Release { .. }
                if !self.is_open() =>
            {
                Admission::Drop
            }
            _ => Admission::Pass,
        }
    }
}

impl Connections {
    /// Creates a room without connections, and a handle to it.
    pub fn new(settings: RoomSettings, metrics: Metrics) -> (RoomHandle, Self) {
        let (handle, events) = RoomHandle::new();
        let connections = Self {
            log: SnapshotLog::new(StreamId::count(settings.grid.cells())),
            audience: Audience::new(settings.grid, settings.tick_hz),
            role: Role::Owner,
            members: BTreeMap::new(),
            observers: 0,
            stays: 0,
            events,
            place: RoomPlace::unlisted(),
            empty_since: Some(super::clock::now()),
            counted: 0,
            newest_tick: 0,
            settings,
            metrics,
        };
        (handle, connections)
    }

    /// Gives the room a place that another room may need more.
    pub fn set_place(&mut self, place: RoomPlace) {
        self.place = place;
    }

    /// Waits until there is an event that cannot wait for the next tick, or the room is
    /// [revoked](Self::is_revoked).
    pub async fn urgent(&self) {
        tokio::select! {
            biased;
            () = self.events.urgent() => {}
            () = self.place.revoked() => {}
        }
    }

    /// Notes who is in the room, and returns whether it goes on: if not, its place has gone to another room,
    /// and nobody may come in.
    pub fn note_occupants(&mut self, occupants: Occupants) -> bool {
        self.place.set(occupants).is_ok()
    }

    /// Returns whether the room is to end at once, because its place has gone to another one. Nobody is in
    /// it.
    pub fn is_revoked(&self) -> bool {
        self.place.is_revoked()
    }

    /// Lets the next event end [`urgent`](Self::urgent), even one that can wait. Events that are there already
    /// do not.
    pub fn wake_for_next(&self) {
        self.events.wake_for_next();
    }

    /// Takes the events that handles have sent. One whose sender is no [`member`](Self::member) any more
    /// is to be ignored.
    pub fn take_events(&mut self) -> Vec<RoomEvent> {
        self.events.take().collect()
    }

    /// Returns the receivers.
    pub fn audience(&self) -> &Audience {
        &self.audience
    }

    /// Returns a player.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// Returns all players.
    pub fn members(&self) -> impl Iterator<Item = (MemberId, &Member)> {
        self.members.iter().map(|(&id, member)| (id, member))
    }

    /// Returns whether there are players.
    pub fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Tells the operator who the players of these cubes are.
    pub fn players(&self, cubes: impl Iterator<Item = (CubeId, CubeKind, String)>) -> RoomPlayers {
        let here: HashMap<_, _> = self.members.values().map(|it| (it.cube, it)).collect();
        let seen = |(cube, kind, name)| {
            let place = match (kind, here.get(&cube)) {
                (CubeKind::Free { .. }, _) => return None,
                (_, Some(member)) => PlayerPlace::Here {
                    peer: member.peer,
                    since: member.since,
                },
                (CubeKind::Ghost, None) => PlayerPlace::Nowhere,
                (CubeKind::Player, None) => PlayerPlace::Elsewhere,
            };
            Some(PlayerSeen { cube, name, place })
        };
        RoomPlayers {
            room: self.settings.name.clone(),
            role: self.role.clone(),
            players: cubes.filter_map(seen).collect(),
        }
    }

    /// Returns the newest tick that was written to receivers.
    pub(super) fn newest_tick(&self) -> u64 {
        self.newest_tick
    }

    /// Returns an id that no other stay in the room has.
    pub(super) fn next_id(&mut self) -> MemberId {
        self.stays += 1;
        MemberId(self.stays)
    }

    /// Creates the first message to a receiver whose own cube is `own`, in a tick that began so long ago. It
    /// names no other [servers](Self::servers).
    pub fn welcome(
        &self,
        own: &Cube,
        resume: ResumeToken,
        tick: u64,
        since_tick_us: u32,
    ) -> Welcome {
        let settings = &self.settings;
        Welcome {
            version: PROTOCOL_VERSION,
            room: settings.name.clone(),
            name: own.name.clone(),
            cube: own.cube,
            pose: own.pose,
            tick_hz: settings.tick_hz,
            tick,
            since_tick_us,
            max_speed: settings.top_speed.unwrap_or(0),
            physics: settings.has_physics(),
            resume,
            servers: Vec::new(),
        }
    }

    /// Creates the first message to an observer, which names the free cube.
    pub fn observers_welcome(&self, tick: u64) -> Welcome {
        let free = Cube {
            cube: FREE_CUBE,
            kind: CubeKind::Free { holder: None },
            name: String::new(),
            colour: Colour::from([0; 3]),
            width: Width::METRE,
            pose: Pose::default(),
        };
        self.welcome(&free, ResumeToken([0; 16]), tick, 0)
    }

    /// Returns the addresses of other servers that show the room.
    pub fn servers(&self) -> Vec<ServerAddress> {
        let settings = &self.settings;
        settings.backplane.servers(&settings.name)
    }

    /// Adds a player, whose cube, name and token are those of the `Welcome`.
    pub fn add_member(&mut self, entrance: Entrance, welcome: Welcome, now: Instant) -> Entered {
        let id = self.next_id();
        let cube = welcome.cube;
        let receiver = Receiver::new(entrance.outlet)
            .of_player(cube)
            .cut_after(self.settings.slow_reader_after)
            .with_tail();
        let receiver = match entrance.sight {
            SightRule::Everything => receiver,
            SightRule::Surroundings => receiver.with_surroundings(),
        };
        let receiver = match entrance.rule {
            SpeedRule::Plain => receiver.plain(),
            SpeedRule::TopSpeed | SpeedRule::Unlimited => receiver,
        };
        self.audience.add(ReceiverId::Player(id), receiver);
        let member = Member {
            cube,
            name: welcome.name.clone(),
            colour: entrance.colour,
            rule: entrance.rule,
            token: welcome.resume,
            earlier: entrance.resume,
            gate: Gate::default(),
            peer: entrance.peer,
            since: now,
            ended: entrance.ended,
        };
        self.members.insert(id, member);
        self.empty_since = None;
        self.send(id, &ServerMessage::Welcome(welcome), now);
        Entered { id, cube }
    }

    /// Begins a new session on a player's connection, because the room goes on at another owner: sends
    /// another `Welcome` and keyframes of everything in sight. Messages of before do not count.
    pub fn restart_member(&mut self, id: MemberId, welcome: Welcome, now: Instant) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        member.cube = welcome.cube;
        member.name.clone_from(&welcome.name);
        if member.token != welcome.resume {
            member.earlier = Some(member.token);
            member.token = welcome.resume;
        }
        member.gate.restart(member.rule);
        self.audience
            .restart(ReceiverId::Player(id), Some(welcome.cube));
        self.send(id, &ServerMessage::Welcome(welcome), now);
    }

    /// Lets nothing of the players count, and writes nothing of the log to them, until each is
    /// [restarted](Self::restart_member): the room's owner is gone.
    pub fn suspend_members(&mut self) {
        self.audience.suspend_players();
        for member in self.members.values_mut() {
            member.gate.is_closed = true;
        }
    }

    /// Begins the log of another owner, and sends all observers keyframes of everything. Players who are not
    /// [suspended](Self::suspend_members) get keyframes too.
    pub fn restart_observers(&mut self) {
        self.log.restart();
        for observer in self.audience.ids() {
            if let ReceiverId::Observer(_) = observer {
                self.audience.restart(observer, None);
            }
        }
    }

    /// Sends keyframes of everything that they see to the receivers of a stream that the source has lost,
    /// once it has it again.
    pub fn restart_seeing(&mut self, cell: CellId, sight: Sight) {
        self.audience.restart_seeing(cell, sight);
    }

    /// Begins all streams that receivers see at another source, right after its first tick.
    pub fn open_streams(&self, source: &mut impl Source) {
        self.audience.open_streams(source);
    }

    /// Judges a message of a player.
    pub fn admit(&mut self, id: MemberId, message: &ClientMessage) -> Admission {
        let admitted = self.admit_from(id, message);
        admitted.map_or(Admission::Drop, |(_, admission)| admission)
    }

    /// Judges a message of a player, and returns their cube; `None`: there is no such player.
    pub(super) fn admit_from(
        &mut self,
        id: MemberId,
        message: &ClientMessage,
    ) -> Option<(CubeId, Admission)> {
        let member = self.members.get_mut(&id)?;
        Some((member.cube, member.gate.admit(message)))
    }

    /// Returns whether datagrams of a player count.
    pub fn admits_datagrams(&self, id: MemberId) -> bool {
        self.member(id).is_some_and(Member::is_heard)
    }

    /// Adds a receiver of everything, which has no cube; its `Welcome` names another one instead.
    pub fn observe(&mut self, outlet: Outlet, welcome: Welcome, now: Instant) -> ReceiverId {
        self.observers += 1;
        let observer = ReceiverId::Observer(self.observers);
        self.audience.add(observer, Receiver::new(outlet));
        self.send_to(observer, &ServerMessage::Welcome(welcome), now);
        observer
    }

    /// Sends a message to a player.
    pub fn send(&mut self, member: MemberId, message: &ServerMessage, now: Instant) {
        self.send_to(ReceiverId::Player(member), message, now);
    }

    /// Sends a message to a player when the next tick is [served](Self::serve), in the same write.
    pub(super) fn send_with_tick(&mut self, member: MemberId, message: &ServerMessage) {
        let receiver = ReceiverId::Player(member);
        self.audience.send_with_tick(receiver, message);
    }

    pub(super) fn send_to(&mut self, receiver: ReceiverId, message: &ServerMessage, now: Instant) {
        self.audience.send(receiver, message, &self.log, now);
        self.count_written();
    }

    /// Ends a player's connection, and returns their cube. Returns `None` if there is no such player.
    pub fn dismiss(
        &mut self,
        id: MemberId,
        reason: Ending,
        source: &mut impl Source,
        now: Instant,
    ) -> Option<CubeId> {
        let member = self.members.remove(&id)?;
        // After an accident the cube waits for its player, who may come back at once.
        let retry_after_ms = reason.is_accident().then_some(0);
        if let Some(closing) = reason.closing(retry_after_ms) {
            self.send(id, &closing, now);
        }
        self.audience.remove(ReceiverId::Player(id), reason, source);
        self.note_end(&member, reason);
        self.note_empty(now);
        Some(member.cube)
    }

    /// Notes that a player has left, here or at another server.
    pub(super) fn note_empty(&mut self, now: Instant) {
        if self.members.is_empty() {
            self.empty_since = Some(now);
        }
    }

    /// Removes an observer.
    pub fn end_observer(&mut self, observer: ReceiverId, source: &mut impl Source) {
        self.audience.remove(observer, Ending::Left, source);
    }

    /// Answers a player's request for a way for datagrams, in a tick.
    pub fn open_datagrams(
        &mut self,
        member: MemberId,
        opened: Option<OpenedPath>,
        tick: u64,
        now: Instant,
    ) {
        let (answer, path) = match opened {
            Some(OpenedPath { answer, path }) => (answer, Some(path)),
            None => (DatagramAnswer::Unavailable, None),
        };
        let receiver = ReceiverId::Player(member);
        let knows_all = self.audience.is_up_to_date(receiver, &self.log);
        self.send(member, &ServerMessage::Datagrams(answer), now);
        if let Some(path) = path {
            self.audience.open_path(receiver, path, tick);
            if knows_all {
                // With it, the client can use the first datagram even if nothing moves.
                self.send(member, &ServerMessage::Heartbeat { tick }, now);
            }
        }
    }

    /// Notes that a datagram of a player has come in a tick.
    pub fn heard(&mut self, member: MemberId, uplink: &Uplink, tick: u64) {
        let receiver = ReceiverId::Player(member);
        self.audience.heard(receiver, uplink, tick);
    }

    /// Appends the frames of a tick to the log. Ticks rise.
    pub fn log(&mut self, tick: u64, frames: Vec<(StreamId, LogFrame)>) {
        let cubes = usize::try_from(self.counted).unwrap_or_default();
        self.log.push(tick, frames, cubes);
    }

    /// Writes the log to all receivers after a tick, and keyframes to those that need some. Returns the
    /// players whose connection is to end, with the reason.
    pub fn serve(
        &mut self,
        tick: u64,
        source: &mut impl Source,
        now: Instant,
    ) -> Vec<(MemberId, Ending)> {
        self.newest_tick = self.newest_tick.max(tick);
        let over = self.audience.serve(tick, &self.log, source, now);
        self.count_written();
        let SentDatagrams { count, bytes } = self.audience.take_sent();
        if count > 0 {
            self.metrics.sent_datagrams.inc_by(count);
            self.metrics.sent_datagram_bytes.inc_by(bytes);
        }
        let mut players = Vec::new();
        for (receiver, reason) in over {
            match receiver {
                ReceiverId::Player(member) => players.push((member, reason)),
                ReceiverId::Observer(_) => self.audience.remove(receiver, reason, source),
            }
        }
        players
    }

    /// Sets the number of cubes that the room adds to the metrics.
    pub fn count_cubes(&mut self, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.cubes.inc_by(count - self.counted);
        self.counted = count;
    }

    /// Returns whether the room had no player for a while and is not permanent.
    pub fn is_abandoned(&self, now: Instant) -> bool {
        self.events.is_empty() && self.ends_at().is_some_and(|at| now >= at)
    }

    /// Returns when a room without players ends; `None`: there are some, or it is permanent.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        let since = self.empty_since.filter(|_| !self.settings.permanent);
        since.map(|since| since + EMPTY_ROOM_LINGER)
    }

    /// Accepts no more events.
    pub(super) fn close(&mut self) {
        self.events.close();
    }

    /// Ends the connection of a receiver of a room that is over.
    pub(super) fn end(&mut self, receiver: ReceiverId, reason: Ending) {
        self.audience.end(receiver, reason);
        if let ReceiverId::Player(id) = receiver
            && let Some(member) = self.members.remove(&id)
        {
            self.note_end(&member, reason);
        }
    }

    fn note_end(&self, member: &Member, reason: Ending) {
        let (cube, name) = (member.cube, &member.name);
        info!(room = self.settings.name, %cube, name, reason = reason.as_str(), "left");
        self.metrics.disconnects.count(reason);
    }

    fn count_written(&mut self) {
        let Written { bytes, frames } = self.audience.take_written();
        self.metrics.count_sent(bytes, frames);
    }
}

impl Member {
    /// Returns whether all that the player sends counts.
    pub(super) fn is_heard(&self) -> bool {
        self.gate.is_open()
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.metrics.cubes.dec_by(self.counted);
        debug!(room = self.settings.name, "the room has ended");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}
