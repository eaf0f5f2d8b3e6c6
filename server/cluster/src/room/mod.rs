//! A room on several servers: what is at home here is told to the others, what is at home there is
//! shown here.
//!
//! Each server is the home of its own players' cubes and the authority over them. After each tick
//! it tells, by cell, what has happened to them and how they surprised, as it tells its clients. The
//! others hear what their players see. What is lost on the way is found by comparing, and asked for.
//! Which home a cube has, the greatest [`Claim`] says; everybody knows the same claims in the end.

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
use crate::bus::{Heard, ServerId, Subscription, Topic};
use crate::cluster::{Cluster, PeerMetrics};

/// Messages that wait for the room, at most; more are lost, and then asked for.
const INBOX: usize = 8_192;

/// Messages that are applied at once, at most: players wait meanwhile.
const MAX_RECEIVED: usize = 1_024;

/// A room asks who else is there when it opens; who answers does so within this time.
const SETTLED_AFTER: Duration = Duration::from_millis(500);

/// Beats of a room in which nothing moves, or whose news are beats: who sees no news hears these.
const IDLE_BEAT: Duration = Duration::from_millis(250);

/// How often everything that was told is listed.
const INVENTORY_INTERVAL: Duration = Duration::from_secs(1);

/// For so long after its last news, a server beats at every tick.
const STEADY_FOR: Duration = Duration::from_secs(1);

/// A cell stays subscribed for this long after the last one has looked away.
const LINGER: Duration = Duration::from_secs(2);

/// A cube that comes to another home is shown as it was until that home tells of it, at most so long.
const MOVE_GRACE: Duration = Duration::from_millis(500);

/// Who asks for a free cube elsewhere and gets no answer is refused after this time.
const TAKE_DEADLINE: Duration = Duration::from_secs(1);

/// Part of a tick, and time, that a room waits at most for the others' news of a tick.
const WAIT_PART: u32 = 4;
const MAX_WAIT: Duration = Duration::from_millis(10);

/// Cubes in one answer, at most: names and all, they fit the largest payload of NATS.
const ANSWER_CUBES: usize = 2_000;

/// Servers that share a room, at most. More make no sense: each hears all others.
const MAX_PEERS: usize = 1_024;

/// Cubes of which a home is known, at most: those of a full room, and as many of which others believe
/// that they are there.
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
    /// Servers that did not come back: what others say of them is old.
    forgotten: VecDeque<ServerId>,
    /// Servers whose rooms are of another kind: they are not listened to, unless they say that this
    /// was a mistake.
    strangers: BTreeSet<ServerId>,
    claims: BTreeMap<CubeId, Seat>,
    roster: Roster,
    free_cube: FreeCube,
    /// Who is silent for so long is not there.
    lost_after: Duration,
    /// Cubes that may not be as this room shows them.
    touched: BTreeMap<CubeId, Touch>,
    /// Cubes that have just got another home.
    moving: BTreeMap<CubeId, Instant>,
    /// Who has asked for which free cube, and until when there is hope.
    asked: Vec<(CubeId, CubeId, Instant)>,
    outcomes: Vec<Outcome>,
    news_at: Option<Instant>,
    /// Whether the others expect a beat at every tick.
    is_steady: bool,
    beat_at: Option<Instant>,
    inventory_at: Option<Instant>,
    inbox: mpsc::Receiver<Heard>,
    /// What was received first and is not applied yet.
    received: Option<Heard>,
    /// Where subscriptions put what they receive.
    to_inbox: mpsc::Sender<Heard>,
    cells: BTreeMap<CellId, Listening>,
    metrics: PeerMetrics,
    _room: [Subscription; 2],
}

/// A subscribed cell.
#[derive(Debug)]
struct Listening {
    _subscription: Subscription,
    /// Since when nobody sees it.
    unseen_since: Option<Instant>,
}

/// The own cubes as the others know them, and how that will change.
#[derive(Debug, Default)]
struct Roster {
    version: u64,
    changed: BTreeSet<CubeId>,
}

/// What must be known to find the free cube a home.
#[derive(Debug, Default)]
struct FreeCube {
    /// The highest that any claim had.
    term: u32,
    /// Where it was when its home told that last.
    pose: Option<Pose>,
    /// Since when it has a home that did not say so itself.
    unconfirmed_since: Option<Instant>,
    /// Since when this server reaches the bus.
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

    /// Whether the others' news of the tick are still to come, and somebody here is to see them.
    fn is_waiting(&self) -> bool {
        let mut peers = self.peers.values();
        !self.cells.is_empty() && peers.any(|peer| peer.is_awaited(self.tick))
    }

    /// Takes in what one of the others said.
    fn heard(&mut self, heard: &Heard, world: &mut World, now: Instant) {
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
        // What is older than a silence may come at its end. A question is answered in any case, and
        // what was given away must not be lost.
        if is_live || matches!(said.word, Word::Ask { .. } | Word::Given { .. }) {
            self.take_in(from, said.word, world, now);
        }
    }

    /// Ends the wait for the others' news of a tick: shows what they told.
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

    /// Listens to the cells that somebody here sees, by rising number.
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

    /// Whether a word was said a moment ago, and not held up somewhere.
    fn is_sign_of_life(&self, word: &Word) -> bool {
        let tick = match word {
            Word::Beat { tick, .. } => *tick,
            Word::News { snapshot, .. } if self.news_are_beats() => snapshot.tick,
            _ => return false,
        };
        tick.saturating_add(self.lost_ticks()) >= self.tick
    }

    /// Whether a word is the roster of a server of which nothing was heard before: an answer, or the
    /// last word of one that leaves.
    fn is_first_roster(&self, from: ServerId, word: &Word) -> bool {
        let is_whole = matches!(word, Word::Roster { changes: None, .. });
        is_whole && !self.peers.contains_key(&from) && !self.forgotten.contains(&from)
    }

    /// The ticks of [`lost_after`](Self::lost_after).
    fn lost_ticks(&self) -> u64 {
        self.lost_after.as_millis() as u64 * u64::from(self.tick_hz) / 1_000
    }

    /// A server is there.
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
        // It does not know of this one, either.
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
        // Cubes of others stop after half of that.
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
            // It has a sender of its own, so that it never ends.
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

    /// Says before that who has come since the last tick: they show the others a token that only this
    /// server knows.
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
