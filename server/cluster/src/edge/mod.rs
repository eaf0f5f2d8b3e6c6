//! An edge of a room: it shows the room to players of this server, as the room's owner publishes it.
//!
//! It runs no world and encodes no tick. The owner's frames go unchanged into the log, from which the
//! audience writes them to the players. Replicas of what the owner sends are the source of keyframes and
//! views, and of the room's state when this server becomes the owner.

mod owner_clock;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use cubesync_protocol::cells::{Grid, Sight};
use cubesync_protocol::limits::FRAME_HEADER_BYTES;
use cubesync_protocol::motion::Codec;
use cubesync_protocol::replica::{Change, ReplicaError};
use cubesync_protocol::{
    CellId, CubeId, CubeInfo, DecodeError, Event, Message, Pose, ResumeToken, ServerMessage,
    Snapshot, Welcome,
};
use cubesync_relay::ending::{Ending, Problem};
use cubesync_relay::room::connections::Admission;
use cubesync_relay::room::log::{LogFrame, StreamId};
use cubesync_relay::room::world::{Cube, RoomFull};
use cubesync_relay::room::{
    self, Connections, Crowd, CubeState, Entered, Entrance, ForPlayer, MemberId, RemoteEntrance,
    Role, Room, RoomEvent, RoomState, RoomSummary, RoomView, TokenDigest,
};
use cubesync_relay::room_places::Occupants;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use self::owner_clock::OwnerClock;
use self::source::Streams;
use crate::Cluster;
use crate::bus::{Holder, LEASE_AGE, Received, ServerId};
use crate::clock::now;
use crate::link::{Link, LinkEnd, LinkId, Packet};
use crate::message::{
    Announcement, Attach, Attached, Down, Envelope, FromPlayer, MAX_BATCH, PlayerId, TickFrames, Up,
};
use crate::roster::Roster;
use crate::task::{Incoming, Next, Shown, Task};
use crate::tenure::{Tenure, TenureChange};

/// Time for which what a player says waits for more of it.
const FLUSH_AFTER: Duration = Duration::from_millis(3);

/// Silence of the owner after which this server asks who has the lease: twice as long as a link is
/// silent at most.
const SILENT_AFTER: Duration = Duration::from_millis(500);

/// Time between two requests to attach, and the time after which the lease is asked for again.
const ATTACH_EVERY: Duration = Duration::from_millis(200);
const ATTACH_WITHIN: Duration = Duration::from_millis(600);

/// Time within which a room opens for which there is no lease: the bucket of a new cluster gives none for
/// a second and a half.
const OPEN_WITHIN: Duration = Duration::from_millis(2_500);

/// Time within which a player must be let in. A client waits as long for its welcome.
const LET_IN_WITHIN: Duration = Duration::from_secs(5);

/// The time of the first room there ever was: the beginning of 2024.
const FIRST_ROOM_UNIX_S: u64 = 1_704_067_200;

/// Players cannot go on in a room whose ticks are further back than this.
const MAX_BACK_S: u64 = 2;

/// An edge of a room, or a server that is about to be one.
#[derive(Debug)]
pub(crate) struct Edge {
    cluster: Arc<Cluster>,
    connections: Connections,
    tenure: Tenure,
    owner: Option<OwnerLink>,
    /// Whether somebody has announced that they own the room now. Only the lease tells.
    is_in_doubt: bool,
    /// When the owner was heard last, or when this began.
    heard_at: Instant,
    streams: Streams,
    roster: Roster,
    clock: OwnerClock,
    /// The room's state of before the present link.
    state: Option<RoomState>,
    players: BTreeMap<PlayerId, Player>,
    numbers: BTreeMap<MemberId, PlayerId>,
    next_player: u64,
    /// What players have said since it was sent last.
    batch: Vec<(PlayerId, FromPlayer)>,
    /// When the batch is due, if there is one.
    flush_at: Option<Instant>,
    /// The newest tick that was served to players.
    served_tick: u64,
    /// When the waiting players were looked at last.
    looked_at: Instant,
}

/// The link to the room's owner.
#[derive(Debug)]
struct OwnerLink {
    server: ServerId,
    term: u64,
    link: Link,
    begun: Instant,
    /// When the owner was asked last to let this server attach; `None`: it has done so.
    asked_at: Option<Instant>,
    /// Whether the players have been entered at this owner.
    has_entered: bool,
}

/// The way to tell a session that its player has entered.
type Reply = oneshot::Sender<Result<Entered, RoomFull>>;

/// A player at this edge.
#[derive(Debug)]
enum Player {
    /// The owner has not answered yet.
    Waiting(Waiting),
    /// The player is in the room.
    Member(MemberId),
}

/// A player whom the owner has not let in yet.
#[derive(Debug)]
struct Waiting {
    entrance: Box<Entrance>,
    /// The token with which the player may come back.
    token: ResumeToken,
    reply: Reply,
    since: Instant,
    /// Whether an owner may know the token already.
    is_sent: bool,
}

impl Edge {
    /// Creates the edge of a room that another server is to own.
    pub(crate) fn new(cluster: Arc<Cluster>, shown: Shown) -> Self {
        let Shown {
            connections,
            state,
            owner,
            tenure,
        } = shown;
        let now = now();
        let mut edge = Self {
            clock: OwnerClock::new(connections.settings.tick_hz),
            served_tick: state.as_ref().map_or(0, |state| state.tick),
            cluster,
            connections,
            tenure,
            owner: None,
            is_in_doubt: false,
            heard_at: now,
            streams: Streams::default(),
            roster: Roster::default(),
            state,
            players: BTreeMap::new(),
            numbers: BTreeMap::new(),
            next_player: 0,
            batch: Vec::new(),
            flush_at: None,
            looked_at: now,
        };
        let members: Vec<_> = edge.connections.members().map(|(id, _)| id).collect();
        for member in members {
            edge.add_player(Player::Member(member));
        }
        edge.connections.suspend_members();
        // What receivers see already is wanted from the owner too.
        let source = &mut edge.streams.at(edge.served_tick);
        edge.connections.open_streams(source);
        edge.connections.role = Role::Edge {
            owner: String::new(),
        };
        if let Some(owner) = owner {
            edge.attach_to(owner, now);
        }
        edge
    }

    /// Begins to attach to an owner.
    fn attach_to(&mut self, holder: Holder, now: Instant) {
        self.end_link();
        self.owner = Some(OwnerLink {
            server: holder.server,
            term: holder.term,
            link: self.cluster.new_link(LinkId(fastrand::u32(..)), now),
            begun: now,
            asked_at: None,
            has_entered: false,
        });
        self.ask(now);
    }

    /// Shows the room until it ends, or until this server owns it.
    pub(crate) async fn run(mut self, task: &mut Task) -> Next {
        loop {
            let is_seeking = self.is_seeking(now());
            // A server that knows the room and has players, who may be on their way in, is a better owner.
            let is_known = self.state.is_some() || self.roster.cubes().len() > 0;
            let has_players = is_known && !self.players.is_empty();
            self.tenure
                .set_modest(!self.connections.has_members() && !has_players);
            let turn_at = self.turn_at(now());
            tokio::select! {
                biased;
                () = task.shutdown.cancelled() => {
                    task.retire();
                    self.end_link();
                    self.connections.drain().await;
                    return Next::End;
                }
                incoming = task.inbox.recv() => match incoming {
                    Incoming::Announcement(owner) => self.announced(owner),
                    Incoming::Packet(received) => {
                        self.received(received);
                        for received in task.inbox.take_some() {
                            self.received(received);
                        }
                    }
                },
                () = self.connections.urgent() => {}
                () = tokio::time::sleep_until(turn_at.into()) => {}
                change = self.tenure.changed(), if is_seeking || self.tenure.is_asking() => {
                    if let Some(TakesOver) = self.tenure_changed(change, is_seeking) {
                        return self.take_over(now());
                    }
                }
            }
            let now = now();
            // While some wait to be sent, what players say wakes nobody.
            let is_due = self.flush_at.is_some_and(|at| now >= at);
            if is_due || self.flush_at.is_none() {
                self.connections.wake_for_next();
            }
            for event in self.connections.take_events() {
                self.handle(event, now);
            }
            if is_due {
                self.flush(now);
            }
            self.turn(now);
            if self.is_abandoned(now) {
                task.retire();
                self.end_link();
                return Next::End;
            }
        }
    }

    /// Returns whether nobody at this server needs the room any more, or its place has gone to another one.
    fn is_abandoned(&mut self, now: Instant) -> bool {
        let occupants = match self.players.is_empty() {
            true => Occupants::Nobody,
            false => Occupants::Players,
        };
        let goes_on = self.connections.note_occupants(occupants);
        !goes_on || (self.connections.is_abandoned(now) && self.players.is_empty())
    }

    /// Returns whether it has to be asked who owns the room.
    fn is_seeking(&self, now: Instant) -> bool {
        match &self.owner {
            _ if self.is_in_doubt => true,
            None => true,
            Some(owner) if owner.asked_at.is_some() => now - owner.begun >= ATTACH_WITHIN,
            Some(owner) => now - owner.link.heard_at() >= SILENT_AFTER,
        }
    }

    /// Returns when there is something to do at the latest.
    fn turn_at(&self, now: Instant) -> Instant {
        let link_at = self.owner.as_ref().map(|owner| owner.link.turn_at());
        let due = [link_at, self.flush_at].into_iter().flatten();
        due.fold(now + ATTACH_EVERY / 4, Instant::min)
    }

    /// Does what is due.
    fn turn(&mut self, now: Instant) {
        if let Some(owner) = &self.owner
            && owner.asked_at.is_some_and(|at| now - at >= ATTACH_EVERY)
        {
            self.ask(now);
        }
        if now >= self.looked_at + ATTACH_EVERY {
            self.looked_at = now;
            self.give_up_waiting(now);
        }
        if let Some(owner) = &mut self.owner
            && let Err(end) = owner.link.turn(now)
        {
            self.link_ended(end);
        }
        self.send_packets();
    }

    /// Sends what players have said.
    fn flush(&mut self, now: Instant) {
        self.flush_at = None;
        let mut batch = std::mem::take(&mut self.batch);
        while !batch.is_empty() {
            let rest = batch.split_off(batch.len().min(MAX_BATCH));
            self.push(&Up::FromPlayers(std::mem::replace(&mut batch, rest)), now);
        }
    }

    fn tenure_changed(&mut self, change: TenureChange, is_seeking: bool) -> Option<TakesOver> {
        let now = now();
        self.is_in_doubt &= change == TenureChange::Unreachable;
        match change {
            TenureChange::Acquired => Some(TakesOver),
            // The owner was heard again before this answer came.
            TenureChange::Taken(_) if !is_seeking => None,
            TenureChange::Taken(holder) => {
                // An owner that has just been asked, or that is silent for a moment, may yet answer.
                let is_in_doubt = self.owner.as_ref().is_none_or(|owner| {
                    let is_same = (owner.server, owner.term) == (holder.server, holder.term);
                    let since = owner.begun.max(owner.link.heard_at());
                    !is_same || now - since >= LEASE_AGE
                });
                if is_in_doubt {
                    self.attach_to(holder, now);
                }
                None
            }
            TenureChange::Unreachable if now - self.heard_at >= self.patience() => {
                warn!(
                    room = self.name(),
                    "the room's owner cannot be reached: this server goes on alone"
                );
                Some(TakesOver)
            }
            TenureChange::Unreachable | TenureChange::Lost => None,
        }
    }

    /// Returns for how long an owner is waited for while nobody can say who it is.
    fn patience(&self) -> Duration {
        let is_new = self.state.is_none() && self.roster.cubes().len() == 0;
        match is_new && self.cluster.bus().is_connected() {
            true => OPEN_WITHIN,
            false => LEASE_AGE,
        }
    }

    /// Makes this server the room's owner, or an island if it has no lease.
    fn take_over(mut self, now: Instant) -> Next {
        self.end_link();
        let state = self.state();
        let mut room = match state {
            Some(state) => Room::take_over(self.connections, state, now),
            None => Room::new(self.connections),
        };
        for player in self.players.into_values() {
            if let Player::Waiting(Waiting {
                entrance, reply, ..
            }) = player
            {
                let entrance = *entrance;
                room.handle(RoomEvent::Enter { entrance, reply }, now);
            }
        }
        Next::Own(Box::new(room), self.tenure)
    }

    /// Returns the room's state at the newest tick, as far as this edge knows it.
    fn state(&mut self) -> Option<RoomState> {
        let is_known = self.roster.cubes().len() > 0;
        let Some((tick, began)) = self.clock.newest().filter(|_| is_known) else {
            return self.state.take();
        };
        let cubes = self.roster.cubes().map(|cube| {
            let mut cube = cube.clone();
            if let Some(motion) = self.streams.state_at(cube.info.cube, tick) {
                cube.info.motion = motion;
            }
            cube
        });
        Some(RoomState {
            tick: tick.max(self.served_tick),
            began,
            last_id: self.roster.last_id(),
            cubes: cubes.collect(),
        })
    }

    fn name(&self) -> &str {
        &self.connections.settings.name
    }

    /// Asks the owner to let this server show the room.
    fn ask(&mut self, now: Instant) {
        let (from, rules) = (self.cluster.id(), self.cluster.rules());
        if let Some(owner) = &mut self.owner {
            owner.asked_at = Some(now);
            let link = owner.link.id();
            let attach = Envelope::Attach(Attach { from, link, rules });
            let server = owner.server;
            self.publish(server, [attach.encode()]);
        }
    }

    /// Ends the link to the owner, if there is one. Players wait for another one.
    fn end_link(&mut self) {
        if let Some(owner) = self.owner.take() {
            if owner.has_entered {
                self.state = self.state().or(self.state.take());
            }
            self.publish(owner.server, [Packet::end(owner.link.id())]);
            self.connections.suspend_members();
        }
    }

    fn link_ended(&mut self, end: LinkEnd) {
        self.cluster.metrics().link_ends.count(end);
        debug!(room = self.name(), ?end, "the link to the owner has ended");
        self.end_link();
    }

    fn push(&mut self, up: &Up, now: Instant) {
        if let Some(owner) = self.owner.as_mut().filter(|owner| owner.asked_at.is_none()) {
            owner.link.push(up, now);
        }
    }

    fn send_packets(&mut self) {
        if let Some(owner) = &mut self.owner {
            let (server, packets) = (owner.server, owner.link.take_packets());
            self.publish(server, packets);
        }
    }

    fn publish(&self, server: ServerId, packets: impl IntoIterator<Item = Bytes>) {
        self.cluster.send(self.name(), server, packets);
    }

    /// Takes in the announcement of an owner. Anybody on the bus can announce anything, so it is only a reason
    /// to ask who has the lease.
    fn announced(&mut self, announcement: Announcement) {
        let Announcement { owner, term } = announcement;
        let is_known = self.owner.as_ref();
        let is_known = is_known.is_some_and(|known| (known.server, known.term) == (owner, term));
        if !is_known && owner != self.cluster.id() {
            self.is_in_doubt = true;
            self.tenure.hurry();
        }
    }

    /// Takes in a packet of another server.
    fn received(&mut self, received: Received) {
        let at = received.at;
        let Ok(Envelope::Packet(packet)) = Envelope::decode(received.payload) else {
            return;
        };
        let Some(owner) = &mut self.owner else {
            return;
        };
        if packet.link != owner.link.id() {
            return;
        }
        match owner.link.receive(packet, at) {
            Ok(content) => {
                self.heard_at = at;
                if let Some(content) = content {
                    let applied = Down::decode(&content)
                        .map_err(Impossible::from)
                        .and_then(|down| self.down(down, at));
                    if let Err(error) = applied {
                        warn!(room = self.name(), %error, "the owner sent something impossible");
                        self.link_ended(LinkEnd::Malformed);
                    }
                }
            }
            Err(end) => self.link_ended(end),
        }
    }

    fn down(&mut self, down: Down, now: Instant) -> Result<(), Impossible> {
        let is_first = matches!(down, Down::Attached(_));
        let is_attached = self
            .owner
            .as_ref()
            .is_some_and(|owner| owner.asked_at.is_none());
        if is_first == is_attached {
            return Err(Impossible::Order);
        }
        match down {
            Down::Attached(attached) => self.attached(&attached, now)?,
            Down::Roster(update) => {
                for moved in &update.moved {
                    self.streams.move_viewpoint(moved.cube, moved.pose.position);
                }
                self.roster.apply(update)?;
                let tick = self.clock.newest().map_or(0, |(tick, _)| tick);
                let tick_hz = self.connections.settings.tick_hz;
                if !self.roster.has_possible_ids(tick, tick_hz) {
                    return Err(crate::roster::RosterError.into());
                }
            }
            Down::ForPlayers(words) => {
                for (player, word) in words {
                    self.for_player(player, word, now);
                }
            }
            Down::Tick(frames) => self.tick(frames, now)?,
            Down::HandOver { successor } => {
                let is_here = successor == Some(self.cluster.id());
                self.end_link();
                if !is_here {
                    // The successor is to be first.
                    self.tenure.wait(ATTACH_EVERY);
                }
            }
        }
        Ok(())
    }

    fn note_room(&self) {
        let players = self.connections.members().count();
        let role = &self.connections.role;
        self.cluster.note_room(self.name(), role, players);
    }

    /// Begins to show the room as this owner publishes it.
    fn attached(&mut self, attached: &Attached, now: Instant) -> Result<(), Impossible> {
        let Some(owner) = &mut self.owner else {
            return Ok(());
        };
        if attached.tick > newest_tick(self.connections.settings.tick_hz) {
            return Err(Impossible::Tick);
        }
        owner.asked_at = None;
        let server = owner.server;
        info!(room = self.name(), owner = %server, "this server shows the room of its owner");
        self.connections.role = Role::Edge {
            owner: self.cluster.address_of(server),
        };
        self.note_room();
        self.streams.restart();
        self.roster = Roster::default();
        self.clock = OwnerClock::new(self.connections.settings.tick_hz);
        self.clock.began(
            attached.tick,
            now.checked_sub(Duration::from_micros(attached.since_tick_us.into()))
                .unwrap_or(now),
        );
        self.connections.restart_observers();
        let hz = u64::from(self.connections.settings.tick_hz);
        if attached.tick + MAX_BACK_S * hz < self.served_tick {
            // A player's room never goes back in time.
            for member in self.numbers.keys().copied().collect::<Vec<_>>() {
                self.dismiss(member, Ending::Lost, now);
            }
            self.served_tick = attached.tick;
        }
        self.enter_all(attached.tick, now);
        Ok(())
    }

    /// Enters all players at the owner, once its ticks are later than those that they have seen.
    fn enter_all(&mut self, tick: u64, now: Instant) {
        let served = self.served_tick;
        let Some(owner) = &mut self.owner else {
            return;
        };
        if owner.has_entered || tick <= served {
            return;
        }
        owner.has_entered = true;
        let players: Vec<_> = self.players.keys().copied().collect();
        self.enter(players, now);
        self.ask_for_view(now);
    }

    /// Asks the owner to let players in.
    fn enter(&mut self, players: impl IntoIterator<Item = PlayerId>, now: Instant) {
        let mut entrances = Vec::new();
        for number in players {
            let player = self.players.get(&number);
            let Some(entrance) = player.and_then(|player| self.entrance(player)) else {
                continue;
            };
            entrances.push((number, entrance));
            if let Some(Player::Waiting(waiting)) = self.players.get_mut(&number) {
                waiting.is_sent = true;
            }
        }
        for some in entrances.chunks(MAX_BATCH) {
            self.push(&Up::Enter(some.to_vec()), now);
        }
    }

    /// Gives up the players whom no owner has let in for long: their clients have given up, too.
    fn give_up_waiting(&mut self, now: Instant) {
        let is_over = |player: &Player| match player {
            Player::Waiting(waiting) => now - waiting.since >= LET_IN_WITHIN,
            Player::Member(_) => false,
        };
        let over = self.players.iter().filter(|(_, player)| is_over(player));
        for number in over.map(|(number, _)| *number).collect::<Vec<_>>() {
            if let Some(Player::Waiting(waiting)) = self.players.remove(&number) {
                let ending = Ending::Lost;
                self.push(&Up::Left(number, ending), now);
                // The session may have stopped waiting.
                let _ = waiting.reply.send(Err(RoomFull));
            }
        }
    }

    /// Returns what the owner must know of a player to let them in.
    fn entrance(&self, player: &Player) -> Option<RemoteEntrance> {
        Some(match player {
            Player::Waiting(Waiting {
                entrance,
                token,
                is_sent,
                ..
            }) => {
                // An owner whose answer was lost has given the player a cube.
                let tokens = [is_sent.then_some(*token), entrance.resume];
                RemoteEntrance {
                    name: entrance.name.clone(),
                    colour: entrance.colour,
                    rule: entrance.rule,
                    tokens: tokens.iter().flatten().map(TokenDigest::of).collect(),
                    next_token: TokenDigest::of(token),
                    pose: entrance.pose,
                    goes_on: false,
                }
            }
            Player::Member(id) => {
                let member = self.connections.member(*id)?;
                let tokens = [Some(member.token), member.earlier];
                RemoteEntrance {
                    name: member.name.clone(),
                    colour: member.colour,
                    rule: member.rule,
                    tokens: tokens.iter().flatten().map(TokenDigest::of).collect(),
                    next_token: TokenDigest::of(&member.token),
                    pose: self.last_pose(member.cube),
                    goes_on: true,
                }
            }
        })
    }

    fn last_pose(&self, cube: CubeId) -> Option<Pose> {
        let near = &self.streams.near;
        let state = self.state.as_ref();
        let before = || {
            let cubes = &state?.cubes;
            let found = cubes.binary_search_by_key(&cube, |known| known.info.cube);
            Some(cubes[found.ok()?].info.motion.pose(&Codec::LIVE))
        };
        near.pose(cube).or_else(before)
    }

    /// Passes on what the owner says to a player.
    fn for_player(&mut self, number: PlayerId, word: ForPlayer, now: Instant) {
        let Some(player) = self.players.get(&number) else {
            return;
        };
        match (player, word) {
            (_, ForPlayer::Message(ServerMessage::Welcome(welcome))) => {
                self.welcomed(number, welcome, now);
            }
            (Player::Member(id), ForPlayer::Message(message)) => {
                self.connections.send(*id, &message, now);
            }
            (Player::Member(id), ForPlayer::Ended(ending)) => {
                let id = *id;
                self.dismiss(id, ending, now);
            }
            (Player::Waiting(..), ForPlayer::Ended(_)) => {
                if let Some(Player::Waiting(Waiting { reply, .. })) = self.players.remove(&number) {
                    // The session may have stopped waiting.
                    let _ = reply.send(Err(RoomFull));
                }
            }
            (Player::Waiting(..), ForPlayer::Message(_)) => {}
        }
    }

    /// Passes on the owner's welcome, with what only this server knows.
    fn welcomed(&mut self, number: PlayerId, mut welcome: Welcome, now: Instant) {
        let (cube, position) = (welcome.cube, welcome.pose.position);
        welcome.servers = self.connections.servers();
        match self.players.remove(&number) {
            Some(Player::Waiting(Waiting {
                entrance,
                token,
                reply,
                ..
            })) => {
                welcome.resume = token;
                let entered = self.connections.add_member(*entrance, welcome, now);
                let id = entered.id;
                self.numbers.insert(id, number);
                self.players.insert(number, Player::Member(id));
                if reply.send(Ok(entered)).is_err() {
                    self.leave(id, Ending::Lost, now);
                    return;
                }
            }
            Some(Player::Member(id)) => {
                self.players.insert(number, Player::Member(id));
                if let Some(member) = self.connections.member(id) {
                    welcome.resume = member.token;
                }
                self.connections.restart_member(id, welcome, now);
            }
            None => return,
        }
        self.streams.set_viewpoint(cube, position);
    }

    /// Takes in a tick of the owner, and writes it to the players.
    fn tick(&mut self, frames: TickFrames, now: Instant) -> Result<(), Impossible> {
        let TickFrames { tick, near, far } = frames;
        if !self.clock.can_be(tick, now) {
            return Err(Impossible::Tick);
        }
        self.clock.began(tick, now);
        let cells = self.connections.settings.grid.cells();
        let mut logged = Vec::with_capacity(near.len() + far.len());
        for (sight, frames) in [(Sight::Near, near), (Sight::Far, far)] {
            for frame in frames {
                let payload = frame.slice(FRAME_HEADER_BYTES.min(frame.len())..);
                let message = ServerMessage::decode(&payload)?;
                if cell_of(&message).is_some_and(|cell| usize::from(cell.0) >= cells) {
                    return Err(Impossible::Cell);
                }
                let changes = self.streams.replica_mut(sight).take_in(&message)?;
                self.note_unseen(&changes);
                match message {
                    ServerMessage::Snapshot(snapshot) => {
                        let sole = sole(&snapshot, &changes);
                        let stream = StreamId::new(snapshot.cell, sight);
                        logged.push((stream, LogFrame { bytes: frame, sole }));
                    }
                    // Somebody may want to see them again since this server has let go of them.
                    ServerMessage::OutOfSight { cells } => {
                        for cell in cells {
                            self.connections.restart_seeing(cell, sight);
                            if sight == Sight::Near {
                                self.connections.restart_seeing(cell, Sight::Plain);
                            }
                        }
                    }
                    _ => {}
                }
            }
            let changes = self.streams.replica_mut(sight).heartbeat(tick)?;
            self.note_unseen(&changes);
        }
        self.enter_all(tick, now);
        if tick <= self.served_tick {
            return Ok(());
        }
        self.served_tick = tick;
        logged.extend(self.streams.plain_frames(tick));
        self.connections.count_cubes(self.roster.cubes().len());
        if tick.is_multiple_of(self.connections.settings.tick_hz.into()) {
            self.note_room();
        }
        if !logged.is_empty() {
            self.connections.log(tick, logged);
        }
        let may_choose = self.connections.audience().may_change_views(tick);
        if may_choose {
            self.streams.begin_choice();
        }
        let mut source = self.streams.at(tick);
        if may_choose && self.connections.settings.grid != Grid::WHOLE {
            source = source.with_held_cubes();
        }
        let over = self.connections.serve(tick, &mut source, now);
        for (member, ending) in over {
            self.leave(member, ending, now);
        }
        if may_choose {
            self.ask_for_view(now);
        }
        Ok(())
    }

    /// Keeps where cubes were that are out of sight now.
    fn note_unseen(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::Disappeared(CubeInfo { cube, motion, .. }) = change {
                self.roster.set_pose(*cube, motion.pose(&Codec::LIVE));
            }
        }
    }

    fn ask_for_view(&mut self, now: Instant) {
        let is_attached = self.owner.as_ref().is_some_and(|owner| owner.has_entered);
        if is_attached && let Some(view) = self.streams.view_to_ask() {
            let of = |wanted| {
                view.iter()
                    .filter(move |(_, sight)| *sight == wanted)
                    .map(|(cell, _)| *cell)
            };
            let (near, far) = (of(Sight::Near).collect(), of(Sight::Far).collect());
            self.push(&Up::View { near, far }, now);
        }
    }

    /// Handles what a session or an observer of this server wants.
    fn handle(&mut self, event: RoomEvent, now: Instant) {
        match event {
            RoomEvent::Enter { entrance, reply } => {
                // Dropping the reply says that the room has ended.
                if !self.connections.note_occupants(Occupants::Players) {
                    return;
                }
                let is_open = self.owner.as_ref().is_some_and(|owner| owner.has_entered);
                let waiting = Waiting {
                    entrance: Box::new(entrance),
                    token: room::draw_token(),
                    reply,
                    since: now,
                    is_sent: false,
                };
                let number = self.add_player(Player::Waiting(waiting));
                if is_open {
                    self.enter([number], now);
                }
            }
            RoomEvent::Message { from, message } => match self.connections.admit(from, &message) {
                Admission::Pass => self.say(from, FromPlayer::Message(message)),
                Admission::Drop => {}
                Admission::Refuse => self.leave(from, Ending::BadMessage, now),
            },
            RoomEvent::Leave { from, reason } => self.leave(from, reason, now),
            RoomEvent::OpenDatagrams { from, opened } => {
                self.connections
                    .open_datagrams(from, opened, self.served_tick, now);
            }
            RoomEvent::Datagram { from, uplink } => {
                self.connections.heard(from, &uplink, self.served_tick);
                if self.connections.admits_datagrams(from) {
                    self.say(from, FromPlayer::Datagram(uplink));
                }
            }
            RoomEvent::Summary { reply } => {
                let cubes = self.roster.cubes();
                // The asking task may be gone.
                let _ = reply.send(RoomSummary {
                    name: self.name().to_owned(),
                    tick_hz: self.connections.settings.tick_hz,
                    role: self.connections.role.clone(),
                    crowd: Crowd::of(cubes.map(|cube| (cube.info.kind, &*cube.info.name))),
                });
            }
            RoomEvent::View { reply } => {
                // The asking task may be gone.
                let _ = reply.send(self.view());
            }
            RoomEvent::Players { reply } => {
                let cubes = self.roster.cubes().map(|cube| &cube.info);
                let cubes = cubes.map(|info| (info.cube, info.kind, info.name.clone()));
                // The asking task may be gone.
                let _ = reply.send(self.connections.players(cubes));
            }
            RoomEvent::Remove { cube, why, reply } => {
                let _ = reply.send(self.remove_player(cube, &why, now));
            }
            RoomEvent::Observe { outlet, reply } => {
                let tick = self.served_tick;
                let welcome = self.connections.observers_welcome(tick);
                let observer = self.connections.observe(outlet, welcome, now);
                // The observer may have stopped waiting in the meantime.
                if reply.send(observer).is_err() {
                    self.connections
                        .end_observer(observer, &mut self.streams.at(tick));
                }
            }
            // The owner's players move them.
            RoomEvent::Place(_) => {}
            RoomEvent::EndObserver(observer) => {
                let tick = self.served_tick;
                self.connections
                    .end_observer(observer, &mut self.streams.at(tick));
            }
        }
    }

    fn add_player(&mut self, player: Player) -> PlayerId {
        let number = PlayerId(self.next_player);
        self.next_player += 1;
        if let Player::Member(member) = player {
            self.numbers.insert(member, number);
        }
        self.players.insert(number, player);
        number
    }

    fn say(&mut self, from: MemberId, word: FromPlayer) {
        if let Some(&number) = self.numbers.get(&from) {
            self.batch.push((number, word));
            self.flush_at.get_or_insert_with(|| now() + FLUSH_AFTER);
        }
    }

    /// Ends a player's stay, and tells the owner.
    fn leave(&mut self, member: MemberId, ending: Ending, now: Instant) {
        let number = self.numbers.get(&member).copied();
        // What the player said before comes first.
        self.flush(now);
        self.dismiss(member, ending, now);
        if let Some(player) = number {
            self.push(&Up::Left(player, ending), now);
        }
    }

    /// Removes a player of this server at its operator's wish, also at the owner. Returns whether there was
    /// one.
    fn remove_player(&mut self, cube: CubeId, why: &Problem, now: Instant) -> bool {
        let mut members = self.connections.members();
        let Some((id, _)) = members.find(|(_, member)| member.cube == cube) else {
            return false;
        };
        drop(members);
        if let Some(closing) = why.closing() {
            self.connections.send(id, &closing, now);
        }
        self.leave(id, why.ending, now);
        true
    }

    /// Ends a player's connection.
    fn dismiss(&mut self, member: MemberId, ending: Ending, now: Instant) {
        if let Some(number) = self.numbers.remove(&member) {
            self.players.remove(&number);
        }
        let source = &mut self.streams.at(self.served_tick);
        if let Some(cube) = self.connections.dismiss(member, ending, source, now) {
            self.streams.forget(cube);
        }
    }

    fn view(&self) -> RoomView {
        let near = &self.streams.near;
        let cube = |CubeState { info, .. }: &CubeState| Cube {
            cube: info.cube,
            kind: info.kind,
            name: info.name.clone(),
            colour: info.colour,
            width: info.width,
            pose: near
                .pose(info.cube)
                .unwrap_or_else(|| info.motion.pose(&Codec::LIVE)),
        };
        RoomView {
            name: self.name().to_owned(),
            tick: self.served_tick,
            tick_hz: self.connections.settings.tick_hz,
            cubes: self.roster.cubes().map(cube).collect(),
            role: self.connections.role.clone(),
        }
    }
}

/// Why an owner cannot have sent this.
#[derive(Debug, thiserror::Error)]
enum Impossible {
    #[error(transparent)]
    Message(#[from] DecodeError),
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    #[error(transparent)]
    Roster(#[from] crate::roster::RosterError),
    #[error("the room has no such cell")]
    Cell,
    #[error("no room has such a tick now")]
    Tick,
    #[error("a link does not begin so, or begins twice")]
    Order,
}

/// Returns the newest tick that a room can be in: none is older than the program. This bound rises as ticks do,
/// so what passes it once never stops a later owner.
fn newest_tick(tick_hz: u8) -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let age_s = since.map_or(0, |since| since.as_secs().saturating_sub(FIRST_ROOM_UNIX_S));
    age_s.saturating_mul(tick_hz.into())
}

/// This server is to own the room.
#[derive(Debug)]
struct TakesOver;

/// Returns the cell whose cubes a message has.
fn cell_of(message: &ServerMessage) -> Option<CellId> {
    match message {
        ServerMessage::Keyframe(keyframe) => Some(keyframe.cell),
        ServerMessage::Snapshot(snapshot) => Some(snapshot.cell),
        _ => None,
    }
}

/// Returns the only cube that a snapshot is about, if there is only one and nothing but its motion.
fn sole(snapshot: &Snapshot, changes: &[Change]) -> Option<CubeId> {
    let is_motion = |event: &Event| matches!(event, Event::Placed { .. });
    if !snapshot.events.iter().all(is_motion) {
        return None;
    }
    let moved = changes.iter().find_map(|change| match change {
        Change::Moved { states, .. } => Some(states),
        _ => None,
    })?;
    let (sole, _) = moved.first()?;
    moved.iter().all(|(cube, _)| cube == sole).then_some(*sole)
}
