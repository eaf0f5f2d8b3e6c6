//! A room on several servers. Each server sends the others what happens to its own cubes, and shows
//! theirs.
//!
//! Each server is the home of its own players' cubes: it owns them and has the authority over them.
//! After each tick it sends, by cell, what has happened to them and how they deviated from the
//! prediction, as it does to its clients. The other servers subscribe to the cells that their
//! players see. Lost updates are found by comparison, and asked for. The greatest [`Claim`] decides
//! which server owns a cube; in the end all servers know the same claims.

mod export;
pub mod fuzzing;
mod home;
mod lateness;
mod message;
mod peer;
mod talk;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use cubesync_protocol::cells::Grid;
use cubesync_protocol::limits::MAX_CUBES_PER_ROOM;
use cubesync_protocol::{CellId, CubeId, Pose, ResumeToken, ServerAddress};
use cubesync_relay::room::RoomSettings;
use cubesync_relay::room::backplane::{Backplane, Outcome, Peers, TimeSource};
use cubesync_relay::room::world::{Changes, Ids, World};
use tokio::sync::mpsc;
use tracing::{debug, info};

use self::export::Export;
use self::home::own_free_cube;
use self::message::{Said, Seat, TokenDigest, Word};
use self::peer::{LOST_AFTER, Peer, Touch};
use crate::bus::{Received, ServerId, Subscription, Topic};
use crate::cluster::{Cluster, PeerMetrics};

/// The maximum number of messages that wait for the room. Further ones are lost, and then asked
/// for.
const INBOX: usize = 8_192;

/// The maximum number of messages that are applied at once, since players wait meanwhile.
const MAX_RECEIVED: usize = 1_024;

/// The time within which other servers answer a room that asks, when it opens, which servers are
/// there.
const SETTLED_AFTER: Duration = Duration::from_millis(500);

/// The interval of beats in a room in which nothing moves, or whose updates are beats: servers that
/// receive no updates receive these.
const IDLE_BEAT: Duration = Duration::from_millis(250);

/// The interval at which everything that was sent is listed.
const INVENTORY_INTERVAL: Duration = Duration::from_secs(1);

/// The time after its last update during which a server sends a beat at every tick.
const STEADY_FOR: Duration = Duration::from_secs(1);

/// The time for which a cell stays subscribed after the last player has looked away.
const LINGER: Duration = Duration::from_secs(2);

/// The maximum time for which a cube that gets another owner is shown as before, until that owner
/// sends it.
const MOVE_GRACE: Duration = Duration::from_millis(500);

/// The time after which a request for another server's free cube counts as refused.
const TAKE_DEADLINE: Duration = Duration::from_secs(1);

/// The part of a tick, and the time, for which a room waits at most for other servers' updates of
/// it.
const WAIT_PART: u32 = 4;
const MAX_WAIT: Duration = Duration::from_millis(10);

/// The maximum number of cubes in one answer. With their names, they fit the largest payload of
/// NATS.
const ANSWER_CUBES: usize = 2_000;

/// The maximum number of servers that share a room. More make no sense, since each receives the
/// messages of all others.
const MAX_PEERS: usize = 1_024;

/// The maximum number of cubes whose owner is known: those of a full room, and as many again that
/// other servers may believe to be there.
const MAX_CLAIMS: usize = 2 * MAX_CUBES_PER_ROOM;

/// A room's view of its other servers.
#[derive(Debug)]
pub(crate) struct SharedRoom {
    cluster: Arc<Cluster>,
    room: String,
    tick_hz: u8,
    grid: Grid,
    keep_lost: Duration,
    opened: Instant,
    tick: u64,
    export: Export,
    peers: BTreeMap<ServerId, Peer>,
    /// Servers that did not come back. What other servers say of them is outdated.
    forgotten: VecDeque<ServerId>,
    /// Servers whose rooms are of another kind. Their messages are ignored until they announce a
    /// room of this kind.
    strangers: BTreeSet<ServerId>,
    claims: BTreeMap<CubeId, Seat>,
    roster: Roster,
    free_cube: FreeCube,
    /// The silence after which a server counts as lost.
    lost_after: Duration,
    /// Cubes that this room may show in an outdated state.
    touched: BTreeMap<CubeId, Touch>,
    /// Cubes that have just got another owner.
    moving: BTreeMap<CubeId, Instant>,
    /// Requests for free cubes of other servers: the player, the cube, and the deadline of the
    /// answer.
    asked: Vec<(CubeId, CubeId, Instant)>,
    outcomes: Vec<Outcome>,
    news_at: Option<Instant>,
    /// Whether the other servers expect a beat at every tick.
    is_steady: bool,
    beat_at: Option<Instant>,
    inventory_at: Option<Instant>,
    inbox: mpsc::Receiver<Received>,
    /// The first received message, which is not applied yet.
    received: Option<Received>,
    /// The sender through which subscriptions fill the inbox.
    to_inbox: mpsc::Sender<Received>,
    cells: BTreeMap<CellId, Listening>,
    metrics: PeerMetrics,
    _room: [Subscription; 2],
}

/// A subscribed cell.
#[derive(Debug)]
struct Listening {
    _subscription: Subscription,
    /// The time since which nobody here sees it.
    unseen_since: Option<Instant>,
}

/// The own cubes as the other servers know them, and the changes that are not sent yet.
#[derive(Debug, Default)]
struct Roster {
    version: u64,
    changed: BTreeSet<CubeId>,
}

/// The knowledge that is needed to find a new owner for the free cube.
#[derive(Debug, Default)]
struct FreeCube {
    /// The highest term of any claim.
    term: u32,
    /// The last position that its owner sent.
    pose: Option<Pose>,
    /// The time since which it has an owner that has not confirmed it.
    unconfirmed_since: Option<Instant>,
    /// The time since which this server reaches the bus.
    connected_since: Option<Instant>,
}

impl SharedRoom {
    /// Connects a room that opens `now`.
    pub(crate) fn new(cluster: Arc<Cluster>, settings: &RoomSettings, now: Instant) -> Self {
        let metrics = cluster.peer_metrics.clone();
        let (to_inbox, inbox) = mpsc::channel(INBOX);
        let room = settings.name.clone();
        let bus = cluster.bus();
        let at = Topic::RoomAt(room.clone(), cluster.id());
        let listening = [
            bus.subscribe(&at, to_inbox.clone()),
            bus.subscribe(&Topic::Room(room.clone()), to_inbox.clone()),
        ];
        let peers = Self {
            tick_hz: settings.tick_hz,
            grid: settings.grid,
            keep_lost: settings.resume_within,
            opened: now,
            tick: 0,
            export: Export::new(settings.grid, settings.tick_hz),
            peers: BTreeMap::new(),
            forgotten: VecDeque::new(),
            strangers: BTreeSet::new(),
            claims: BTreeMap::new(),
            roster: Roster::default(),
            free_cube: FreeCube::default(),
            lost_after: LOST_AFTER.max(4 * Duration::from_secs(1) / u32::from(settings.tick_hz)),
            touched: BTreeMap::new(),
            moving: BTreeMap::new(),
            asked: Vec::new(),
            outcomes: Vec::new(),
            news_at: None,
            is_steady: false,
            beat_at: None,
            inventory_at: None,
            inbox,
            received: None,
            to_inbox,
            cells: BTreeMap::new(),
            metrics,
            _room: listening,
            cluster,
            room,
        };
        peers.say(
            &Topic::Room(peers.room.clone()),
            Word::Ask {
                roster: true,
                cells: Vec::new(),
            },
        );
        peers
    }

    /// Returns whether other servers' updates of the tick are still to come, and somebody here
    /// should see them.
    fn is_waiting(&self) -> bool {
        let mut peers = self.peers.values();
        !self.cells.is_empty() && peers.any(|peer| peer.is_awaited(self.tick))
    }

    /// Applies a message of a peer server.
    fn heard(&mut self, heard: &Received, world: &mut World, now: Instant) {
        let said = match Said::from_payload(&heard.payload) {
            Ok(said) => said,
            Err(error) => {
                debug!(room = self.room, %error, "not understood on the bus");
                return;
            }
        };
        let from = said.from;
        if from == self.cluster.id() || self.is_strange(from, &said.word) {
            return;
        }
        if self.is_sign_of_life(&said.word) || self.is_first_roster(from, &said.word) {
            self.lives(from, now);
        }
        let is_live = self.peers.get(&from).is_some_and(Peer::is_live);
        // A message from before a silence may arrive at its end. A question is answered in any
        // case, and a cube that was given away must not be lost.
        if is_live || matches!(said.word, Word::Ask { .. } | Word::Given { .. }) {
            self.take_in(from, said.word, world, now);
        }
    }

    /// Ends the wait for the other servers' updates of a tick, and shows what they sent.
    fn show(&mut self, world: &mut World, now: Instant) {
        if self.is_waiting() {
            self.metrics.late_ticks.inc();
        }
        self.listen_to_each(now);
        self.mind_free_cube(world, now);
        self.moving
            .retain(|_, since| now.saturating_duration_since(*since) < MOVE_GRACE);
        for (cube, touch) in std::mem::take(&mut self.touched) {
            self.show_cube(cube, touch, world, now);
        }
        let outcomes = &mut self.outcomes;
        self.asked.retain(|&(player, cube, until)| {
            let is_over = now >= until;
            if is_over {
                let holder = None;
                outcomes.push(Outcome::Refused {
                    player,
                    cube,
                    holder,
                });
            }
            !is_over
        });
    }

    /// Subscribes to the cells that somebody here sees, in ascending order.
    fn look(&mut self, seen: &mut dyn Iterator<Item = CellId>, now: Instant) {
        for listening in self.cells.values_mut() {
            listening.unseen_since = listening.unseen_since.or(Some(now));
        }
        for cell in seen {
            if let Some(listening) = self.cells.get_mut(&cell) {
                listening.unseen_since = None;
                continue;
            }
            let topic = Topic::Cell(self.room.clone(), cell);
            let listening = Listening {
                _subscription: self.cluster.bus().subscribe(&topic, self.to_inbox.clone()),
                unseen_since: None,
            };
            self.cells.insert(cell, listening);
            for peer in self.peers.values_mut() {
                peer.look(cell);
            }
        }
        let (peers, touched) = (&mut self.peers, &mut self.touched);
        self.cells.retain(|&cell, listening| {
            let stays = listening
                .unseen_since
                .is_none_or(|since| now.saturating_duration_since(since) < LINGER);
            if !stays {
                for peer in peers.values_mut() {
                    peer.look_away(cell, touched);
                }
            }
            stays
        });
    }

    /// Returns whether a message was sent a moment ago, and not held up somewhere.
    fn is_sign_of_life(&self, word: &Word) -> bool {
        let tick = match word {
            Word::Beat { tick, .. } => *tick,
            Word::News { snapshot, .. } if self.news_are_beats() => snapshot.tick,
            _ => return false,
        };
        tick.saturating_add(self.lost_ticks()) >= self.tick
    }

    /// Returns whether a message is the first roster of a server that was unknown until now: an
    /// answer, or the last roster of a server that leaves.
    fn is_first_roster(&self, from: ServerId, word: &Word) -> bool {
        let is_whole = matches!(word, Word::Roster { changes: None, .. });
        is_whole && !self.peers.contains_key(&from) && !self.forgotten.contains(&from)
    }

    /// Returns [`lost_after`](Self::lost_after) in ticks.
    fn lost_ticks(&self) -> u64 {
        self.lost_after.as_millis() as u64 * u64::from(self.tick_hz) / 1_000
    }

    /// Notes that a server is there.
    fn lives(&mut self, server: ServerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&server) else {
            if self.peers.len() < MAX_PEERS {
                self.meet(server, now);
            }
            return;
        };
        if !peer.has_just_left(now) && peer.heard(now) {
            info!(room = self.room, %server, "is there again");
            self.touch_all_of(server);
        }
    }

    fn meet(&mut self, server: ServerId, now: Instant) {
        info!(room = self.room, %server, "another server shows this room");
        self.forgotten.retain(|known| *known != server);
        self.peers.insert(server, Peer::new(now));
        // The new server does not know of this one, either.
        self.inventory_at = None;
        self.beat_at = None;
    }
}

impl Backplane for Cluster {
    fn open_room(self: Arc<Self>, settings: &RoomSettings, now: Instant) -> Box<dyn Peers> {
        Box::new(SharedRoom::new(self, settings, now))
    }
}

impl Peers for SharedRoom {
    fn cube_ids(&self) -> Ids {
        self.cluster.cube_ids()
    }

    fn time(&self) -> Arc<dyn TimeSource> {
        Arc::clone(&self.cluster) as Arc<dyn TimeSource>
    }

    fn addresses(&self) -> Vec<ServerAddress> {
        self.cluster.others()
    }

    fn is_settled(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.opened) >= SETTLED_AFTER
    }

    fn cube_count(&self) -> usize {
        self.claims.len()
    }

    fn token_issued(&mut self, cube: CubeId, token: ResumeToken) {
        let claim = self.own_claim(0, true);
        let seat = self.claims.entry(cube).or_insert(Seat {
            cube,
            claim,
            token: None,
        });
        seat.token = Some(TokenDigest::of(token));
        self.roster.changed.insert(cube);
    }

    fn migrate(&mut self, token: ResumeToken) -> Option<CubeId> {
        let token = Some(TokenDigest::of(token));
        let mut seats = self.claims.values();
        let Seat { cube, claim, .. } = *seats.find(|seat| seat.token == token)?;
        if claim.server == self.cluster.id() {
            return None;
        }
        self.claim_as(cube, claim.term.saturating_add(1), true);
        Some(cube)
    }

    fn request(&mut self, player: CubeId, cube: CubeId, now: Instant) -> bool {
        let home = self.claims.get(&cube).map(|seat| seat.claim.server);
        let Some(home) = home.filter(|home| self.peers.get(home).is_some_and(Peer::is_live)) else {
            return false;
        };
        self.asked.retain(|&(by, of, _)| (by, of) != (player, cube));
        self.asked.push((player, cube, now + TAKE_DEADLINE));
        self.say_to(home, Word::Take { cube, by: player });
        true
    }

    fn publish(&mut self, tick: u64, changes: &mut Changes, world: &World, now: Instant) {
        let slept = tick - self.tick.min(tick);
        // Cubes of other servers stop after half of that time.
        if slept > self.lost_ticks() / 2 {
            for peer in self.peers.values_mut() {
                peer.excuse(now);
            }
        }
        self.tick = tick;
        let events = std::mem::take(&mut changes.own_events);
        for event in &events {
            self.note(event, world);
        }
        self.tell_roster();
        let touched = changes.touched.iter().copied();
        let own = Changes {
            events,
            touched: touched.filter(|&cube| world.owns(cube)).collect(),
            own_events: Vec::new(),
        };
        let news: Vec<_> = self.export.tick(tick, own, world).collect();
        if !news.is_empty() {
            self.news_at = Some(now);
        }
        let mut told = Vec::with_capacity(news.len());
        for (cell, word) in news {
            told.push(cell);
            self.say(&Topic::Cell(self.room.clone(), cell), word);
        }
        self.beat(told, world, now);
    }

    fn wait(&self) -> Option<Duration> {
        let tick = Duration::from_secs(1) / u32::from(self.tick_hz);
        self.is_waiting().then(|| (tick / WAIT_PART).min(MAX_WAIT))
    }

    fn poll_received(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.received.is_none() {
            // The room has a sender of its own, so the channel never ends.
            self.received = ready!(self.inbox.poll_recv(context));
        }
        Poll::Ready(())
    }

    fn apply_received(&mut self, world: &mut World, now: Instant) -> Vec<Outcome> {
        let first = self.received.take();
        let mut count = 0;
        let mut next = first.or_else(|| self.inbox.try_recv().ok());
        while let Some(heard) = next {
            self.heard(&heard, world, now);
            count += 1;
            next = match count <= MAX_RECEIVED {
                true => self.inbox.try_recv().ok(),
                false => None,
            };
        }
        std::mem::take(&mut self.outcomes)
    }

    fn finish_tick(
        &mut self,
        visible: &mut dyn Iterator<Item = CellId>,
        changes: &mut Changes,
        world: &mut World,
        now: Instant,
    ) -> Vec<Outcome> {
        self.look(visible, now);
        self.show(world, now);
        let Changes {
            events, touched, ..
        } = world.finish_remote();
        changes.events.extend(events);
        changes.touched.extend(touched);
        std::mem::take(&mut self.outcomes)
    }

    /// Leaves the room. The roster goes before the goodbye, since it names the players who have
    /// come since the last tick: they may show other servers a token that only this server knows.
    fn leave(&self, world: &World) {
        let room = Topic::Room(self.room.clone());
        let own = self.cluster.id();
        self.say(&room, self.whole_roster(|seat| seat.claim.server == own));
        let free_cube = own_free_cube(world);
        self.say(&room, Word::Bye { free_cube });
    }
}

#[cfg(test)]
mod tests;
