//! The owner of a room: it runs the room, and serves the servers that show it to players of their own.
//!
//! Without a valid lease the room is an island: it has no edges, and goes on for its own players.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cubesync_protocol::cells::{Grid, Sight, View};
use cubesync_protocol::limits::FAR_INTERVAL_TICKS;
use cubesync_protocol::{CellId, CubeId, CubePose};
use cubesync_relay::room::{EdgeId, ForPlayer, MemberId, RemoteEntrance, Role, Room};
use tracing::{debug, info, warn};

use crate::answers::Request;
use crate::bus::{Holder, Received, ServerId};
use crate::clock::now;
use crate::link::{Link, LinkEnd, LinkId, Packet};
use crate::message::{
    Announcement, Attach, Attached, Down, Envelope, FromPlayer, PlayerId, TickFrames, Up,
};
use crate::roster::RosterSender;
use crate::task::{Incoming, Next, Shown, Task};
use crate::tenure::{Tenure, TenureChange};
use crate::{Cluster, LeaseChange};

/// Time after which an owner without players of its own yields the room to a server that has some.
const YIELD_AFTER: Duration = Duration::from_secs(5);

/// Time between two announcements of the owner on the room's subject.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);

/// A tick whose number is a multiple of this goes to the edges even if nothing happened.
const SILENT_TICKS: u64 = 4;

/// Largest number of edges: as many machines as anybody would give one room. Each has a copy of the roster
/// and what the link keeps, a few megabytes at most.
const MAX_EDGES: usize = 64;

/// Time for which an owner that has yielded the room leaves it to its successor.
const YIELDED_FOR: Duration = Duration::from_secs(1);

/// Time within which a server has been heard that is there: a link is silent for half as long at most.
const HEARD_WITHIN: Duration = Duration::from_millis(500);

/// Largest number of messages for players in one message to their edge: far less than its decoder takes.
const MAX_WORDS: usize = 1_024;

/// The owner of a room.
#[derive(Debug)]
pub(crate) struct Owner {
    cluster: Arc<Cluster>,
    room: Room,
    tenure: Tenure,
    /// The term in which the edges came; `None` on an island.
    term: Option<u64>,
    links: BTreeMap<LinkId, EdgeLink>,
    announced_at: Instant,
    /// Since when all players are at other servers.
    alone_since: Option<Instant>,
}

/// An edge of the room.
#[derive(Debug)]
struct EdgeLink {
    server: ServerId,
    edge: EdgeId,
    link: Link,
    /// The edge's players by their number on the link, and back.
    players: BTreeMap<PlayerId, MemberId>,
    numbers: BTreeMap<MemberId, PlayerId>,
    roster: RosterSender,
    /// The cells whose streams of every tick the edge gets.
    sees: BTreeSet<CellId>,
    /// The view that it has asked for and waits for.
    wants: Option<View>,
}

impl Owner {
    /// Creates the owner of a room, with a lease that it has or wants.
    pub(crate) fn new(cluster: Arc<Cluster>, room: Room, tenure: Tenure) -> Self {
        let term = tenure.term(now());
        Self {
            cluster,
            room,
            tenure,
            term,
            links: BTreeMap::new(),
            announced_at: now(),
            alone_since: None,
        }
    }

    /// Runs the room until it ends, or until another server owns it.
    pub(crate) async fn run(mut self, task: &mut Task) -> Next {
        self.tenure.set_modest(false);
        self.begin_term();
        self.announce(now());
        let timer = tokio::time::sleep_until(self.next_turn().into());
        tokio::pin!(timer);
        loop {
            let links_at = self.links.values().map(|known| known.link.turn_at()).min();
            let turn_at = self.next_turn().into();
            if timer.deadline() != turn_at {
                timer.as_mut().reset(turn_at);
            }
            tokio::select! {
                biased;
                () = task.shutdown.cancelled() => {
                    task.retire();
                    return self.stop().await;
                }
                // It is pending nearly always, and an owner that is busy must hear that it is still one.
                change = self.tenure.changed() => match change {
                    TenureChange::Acquired | TenureChange::Lost => {
                        self.check_term(now());
                        self.announce(now());
                    }
                    TenureChange::Taken(holder) => {
                        info!(room = self.name(), owner = %holder.server, "another server owns the room");
                        return self.hand_over(Some(holder), now());
                    }
                    TenureChange::Unreachable => {}
                },
                () = &mut timer => {
                    let now = now();
                    self.check_term(now);
                    self.room.take_events(now);
                    for received in task.inbox.take_some() {
                        self.received(received);
                    }
                    self.room.tick(now);
                    self.send_tick(now);
                    if let Some(successor) = self.yields_to(now) {
                        return self.yield_room(successor).await;
                    }
                    if now - self.announced_at >= ANNOUNCE_EVERY {
                        self.announce(now);
                    }
                }
                () = self.room.urgent() => {
                    let now = now();
                    self.catch_up(now);
                    self.room.take_events(now);
                    self.send_outbox(now);
                }
                incoming = task.inbox.recv() => {
                    if let Incoming::Packet(received) = incoming {
                        self.catch_up(now());
                        self.received(received);
                        for received in task.inbox.take_some() {
                            self.received(received);
                        }
                        self.send_outbox(now());
                    }
                }
                // At most rates the ticks come first.
                () = sleep_until(links_at) => self.turn_links(now()),
            }
            let is_revoked = self.room.connections().is_revoked();
            if is_revoked || (self.links.is_empty() && self.room.is_abandoned(now())) {
                task.retire();
                self.release(None).await;
                return Next::End;
            }
        }
    }

    /// Returns when the room or its announcement is due next.
    fn next_turn(&self) -> Instant {
        let announce_at = self.announced_at + ANNOUNCE_EVERY;
        let room_at = match self.links.is_empty() {
            true => self.room.next_turn(),
            false => self.room.next_tick(),
        };
        room_at.min(announce_at.max(self.room.next_tick()))
    }

    /// Begins the tick that it is by now, if the room has rested. With edges it never rests.
    fn catch_up(&mut self, now: Instant) {
        if self.links.is_empty() {
            self.room.catch_up(now);
        }
    }

    /// Lets go of the edges if the lease in which they came is over.
    fn check_term(&mut self, now: Instant) {
        let term = self.tenure.term(now);
        if term == self.term {
            return;
        }
        if self.term.is_some() {
            warn!(
                room = self.name(),
                "the room's lease is lost: this server goes on alone"
            );
            self.count_lease(LeaseChange::Lost);
            self.end_links(now);
        }
        self.term = term;
        self.begin_term();
    }

    /// Notes that this server has the lease now, or is an island.
    fn begin_term(&mut self) {
        if self.term.is_some() {
            info!(room = self.name(), "this server owns the room now");
            self.count_lease(LeaseChange::Acquired);
        }
        self.room.connections_mut().role = match self.term {
            Some(_) => Role::Owner,
            None => Role::Island,
        };
        self.note_room();
    }

    fn count_lease(&self, change: LeaseChange) {
        self.cluster.metrics().lease_changes.count(change);
    }

    fn note_room(&self) {
        let connections = self.room.connections();
        let players = connections.members().count();
        self.cluster
            .note_room(self.name(), &connections.role, players);
    }

    fn end_links(&mut self, now: Instant) {
        for (id, link) in std::mem::take(&mut self.links) {
            self.room.detach_edge(link.edge, now);
            self.publish(link.server, [Packet::end(id)]);
        }
    }

    /// Tells all servers with the room that this one owns it.
    fn announce(&mut self, now: Instant) {
        self.announced_at = now;
        self.note_room();
        if let Some(term) = self.term {
            let owner = self.cluster.id();
            let topic = self.cluster.topic(self.name());
            let announcement = Envelope::Announcement(Announcement { owner, term });
            self.cluster.bus().publish(&topic, announcement.encode());
        }
    }

    fn received(&mut self, received: Received) {
        let at = received.at;
        let packet = match Envelope::decode(received.payload) {
            Ok(Envelope::Attach(attach)) => return self.attach(&attach, at),
            Ok(Envelope::Packet(packet)) => packet,
            Ok(Envelope::Announcement(_)) => return,
            Err(error) => return debug!(%error, "no packet of a server"),
        };
        let id = packet.link;
        let Some(known) = self.links.get_mut(&id) else {
            return;
        };
        let content = match known.link.receive(packet, at) {
            Ok(content) => content,
            Err(end) => {
                self.cluster.metrics().link_ends.count(end);
                return self.detach(id, at);
            }
        };
        if let Some(content) = content {
            match Up::decode(&content) {
                Ok(up) => self.up(id, up, at),
                Err(error) => {
                    warn!(room = self.name(), %error, "an edge sent something impossible");
                    self.cluster.metrics().link_ends.count(LinkEnd::Malformed);
                    return self.detach(id, at);
                }
            }
        }
        self.send_packets(id);
    }

    /// Lets a server show the room, if this one may decide that.
    fn attach(&mut self, attach: &Attach, now: Instant) {
        let Some(term) = self
            .tenure
            .term(now)
            .filter(|term| self.term == Some(*term))
        else {
            return;
        };
        if attach.rules != self.cluster.rules() || self.links.contains_key(&attach.link) {
            return;
        }
        let earlier = self.links.iter();
        let earlier = earlier.filter(|(_, link)| link.server == attach.from);
        // A server that is heard needs no other link: somebody else asks in its name. It asks again.
        let is_heard = |link: &EdgeLink| now < link.link.heard_at() + HEARD_WITHIN;
        if earlier.clone().any(|(_, link)| is_heard(link)) {
            return;
        }
        let mut link = self.cluster.new_link(attach.link, now);
        if !link.answers().may_answer(Request::Attach, now) {
            return;
        }
        for id in earlier.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.detach(id, now);
        }
        if self.links.len() >= MAX_EDGES {
            warn!(room = self.name(), edge = %attach.from, "there are too many edges");
            return self.publish(attach.from, [Packet::end(attach.link)]);
        }
        info!(room = self.name(), edge = %attach.from, "another server shows the room");
        let state = self.room.state();
        let (roster, whole) = RosterSender::new(state.cubes, state.last_id, now);
        let link = EdgeLink {
            server: attach.from,
            edge: self.room.attach_edge(),
            link,
            players: BTreeMap::new(),
            numbers: BTreeMap::new(),
            roster,
            sees: BTreeSet::new(),
            wants: None,
        };
        self.links.insert(attach.link, link);
        let attached = Attached {
            tick: state.tick,
            since_tick_us: since_us(state.began, now),
            term,
        };
        self.push(attach.link, &Down::Attached(attached), now);
        self.push(attach.link, &Down::Roster(whole), now);
        let len_bytes = self.send_packets(attach.link);
        if let Some(known) = self.links.get_mut(&attach.link) {
            known.link.answers().spend(len_bytes, now);
        }
    }

    /// Ends an edge's link. Its players may come back by another one.
    fn detach(&mut self, id: LinkId, now: Instant) {
        if let Some(link) = self.links.remove(&id) {
            info!(room = self.name(), edge = %link.server, "another server shows the room no more");
            self.room.detach_edge(link.edge, now);
            self.publish(link.server, [Packet::end(id)]);
        }
    }

    /// Applies what an edge or one of its players says.
    fn up(&mut self, id: LinkId, up: Up, now: Instant) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        match up {
            Up::Enter(entrances) => {
                for (player, entrance) in entrances {
                    self.enter(id, player, entrance, now);
                }
            }
            Up::View { near, far } => {
                link.sees = near.iter().copied().collect();
                let sighted = |sight| move |cell| (cell, sight);
                let near = near.into_iter().map(sighted(Sight::Near));
                let view = near.chain(far.into_iter().map(sighted(Sight::Far)));
                link.wants = Some(view.collect());
                self.set_view(id, now);
            }
            Up::FromPlayers(words) => {
                for (number, word) in words {
                    let Some(&member) = link.players.get(&number) else {
                        continue;
                    };
                    match word {
                        FromPlayer::Message(message) => self.room.message(member, message, now),
                        FromPlayer::Datagram(uplink) => self.room.datagram(member, uplink, now),
                    }
                }
            }
            Up::Left(player, ending) => {
                if let Some(member) = link.players.remove(&player) {
                    link.numbers.remove(&member);
                    self.room.leave(member, ending, now);
                }
            }
        }
    }

    /// Lets an edge see what it wants, once its last wishes have not drawn too much.
    fn set_view(&mut self, id: LinkId, now: Instant) {
        if let Some(known) = self.links.get_mut(&id)
            && known.wants.is_some()
            && known.link.answers().may_answer(Request::View, now)
        {
            let view = known.wants.take().unwrap_or_default();
            self.room.set_edge_view(known.edge, view);
        }
    }

    fn enter(&mut self, id: LinkId, number: PlayerId, entrance: RemoteEntrance, now: Instant) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.players.contains_key(&number) {
            return;
        }
        match self.room.enter_remote(link.edge, entrance, now) {
            Ok(member) => {
                link.players.insert(number, member);
                link.numbers.insert(member, number);
            }
            Err(ending) => {
                let ended = ForPlayer::Ended(ending);
                self.push(id, &Down::ForPlayers(vec![(number, ended)]), now);
            }
        }
    }

    /// Sends the edges what the room has for their players.
    fn send_outbox(&mut self, now: Instant) {
        let mut words: BTreeMap<LinkId, Vec<_>> = BTreeMap::new();
        for (edge, member, word) in self.room.take_outbox() {
            let link = self.links.iter_mut().find(|(_, link)| link.edge == edge);
            let Some((&id, link)) = link else {
                continue;
            };
            let Some(&number) = link.numbers.get(&member) else {
                continue;
            };
            if let ForPlayer::Ended(_) = word {
                link.numbers.remove(&member);
                link.players.remove(&number);
            }
            words.entry(id).or_default().push((number, word));
        }
        for (id, words) in words {
            for part in words.chunks(MAX_WORDS) {
                self.push(id, &Down::ForPlayers(part.to_vec()), now);
            }
            self.send_packets(id);
        }
    }

    /// Sends the edges a tick: what their players see of it.
    fn send_tick(&mut self, now: Instant) {
        if self.links.is_empty() {
            return;
        }
        let changes = self.room.roster_changes();
        let has_changes = !changes.changed.is_empty() || !changes.removed.is_empty();
        let Self { room, links, .. } = self;
        let (tick, grid) = (room.tick_number(), room.connections().settings.grid);
        for known in links.values_mut() {
            if has_changes {
                let (changed, removed) = (changes.changed.clone(), changes.removed.clone());
                let update = known.roster.changes(changed, removed, changes.last_id);
                known.link.push(&Down::Roster(update), now);
            }
            let sees = &known.sees;
            // An edge whose player has gone farther than it sees must know where to look.
            if grid != Grid::WHOLE && tick.is_multiple_of(FAR_INTERVAL_TICKS.into()) {
                let own = known.numbers.keys();
                let own = own.filter_map(|member| room.remote_cube(*member));
                if let Some(update) = known.roster.poses_at_once(unseen(room, grid, sees, own)) {
                    known.link.push(&Down::Roster(update), now);
                }
            }
            let all = room.world().cubes().map(|cube| cube.cube);
            if let Some(update) = known.roster.poses(unseen(room, grid, sees, all), now) {
                known.link.push(&Down::Roster(update), now);
            }
        }
        self.send_outbox(now);
        let is_due = self.room.is_moving() || tick.is_multiple_of(SILENT_TICKS);
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            self.set_view(id, now);
            let Some(known) = self.links.get_mut(&id) else {
                continue;
            };
            let frames = self.room.take_edge_frames(known.edge);
            known.link.answers().spend(frames.keyframe_bytes, now);
            if is_due || !frames.near.is_empty() || !frames.far.is_empty() {
                let (near, far) = (frames.near, frames.far);
                let frames = TickFrames { tick, near, far };
                known.link.push(&Down::Tick(frames), now);
            }
        }
        self.turn_links(now);
    }

    /// Does what is due on the links, and sends what they have.
    fn turn_links(&mut self, now: Instant) {
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            let turned = self.links.get_mut(&id).map(|known| known.link.turn(now));
            if let Some(Err(end)) = turned {
                self.cluster.metrics().link_ends.count(end);
                self.detach(id, now);
            }
            self.send_packets(id);
        }
    }

    fn push(&mut self, id: LinkId, down: &Down, now: Instant) {
        if let Some(known) = self.links.get_mut(&id) {
            known.link.push(down, now);
        }
    }

    /// Sends what a link has, and returns the number of bytes.
    fn send_packets(&mut self, id: LinkId) -> usize {
        let Some(known) = self.links.get_mut(&id) else {
            return 0;
        };
        let (server, packets) = (known.server, known.link.take_packets());
        let len_bytes = packets.iter().map(Bytes::len).sum();
        self.publish(server, packets);
        len_bytes
    }

    fn publish(&self, server: ServerId, packets: impl IntoIterator<Item = Bytes>) {
        self.cluster.send(self.name(), server, packets);
    }

    fn name(&self) -> &str {
        &self.room.connections().settings.name
    }

    /// Returns the server that is to own the room because all players have long been elsewhere.
    fn yields_to(&mut self, now: Instant) -> Option<ServerId> {
        let most = self.links.values().max_by_key(|link| link.players.len());
        let most = most.filter(|link| !link.players.is_empty());
        let is_alone = !self.room.connections().has_members() && self.term.is_some();
        let Some(most) = most.filter(|_| is_alone) else {
            self.alone_since = None;
            return None;
        };
        let since = *self.alone_since.get_or_insert(now);
        (now - since >= YIELD_AFTER).then_some(most.server)
    }

    /// Gives the lease back, and names the server that is to have it.
    async fn release(&mut self, successor: Option<ServerId>) {
        if self.term.is_some() {
            self.count_lease(LeaseChange::Released);
        }
        let tenure = Tenure::wanted(&self.cluster, self.name());
        std::mem::replace(&mut self.tenure, tenure).release().await;
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            self.push(id, &Down::HandOver { successor }, now());
            self.send_packets(id);
        }
    }

    async fn yield_room(mut self, successor: ServerId) -> Next {
        info!(room = self.name(), %successor, "all players are at another server, which gets the room");
        self.release(Some(successor)).await;
        self.tenure.wait(YIELDED_FOR);
        self.hand_over(None, now())
    }

    /// Leaves the room to another server, and shows it from now on.
    fn hand_over(mut self, owner: Option<Holder>, now: Instant) -> Next {
        self.end_links(now);
        let (connections, state) = self.room.hand_over();
        Next::Show(Box::new(Shown {
            connections,
            state: Some(state),
            owner,
            tenure: self.tenure,
        }))
    }

    async fn stop(mut self) -> Next {
        let most = self.links.values().max_by_key(|link| link.players.len());
        let successor = most.map(|link| link.server);
        self.release(successor).await;
        self.room.drain().await;
        Next::End
    }
}

/// Returns where those of the cubes are whose cells an edge does not see.
fn unseen(
    room: &Room,
    grid: Grid,
    sees: &BTreeSet<CellId>,
    cubes: impl Iterator<Item = CubeId>,
) -> impl Iterator<Item = CubePose> {
    cubes.filter_map(move |cube| {
        let pose = room.world().pose(cube)?;
        let is_seen = sees.contains(&grid.cell(pose.position));
        (!is_seen).then_some(CubePose { cube, pose })
    })
}

/// Waits until a time, or for ever if there is none.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn since_us(began: Instant, now: Instant) -> u32 {
    let since = now.saturating_duration_since(began).as_micros();
    u32::try_from(since).unwrap_or(u32::MAX)
}
