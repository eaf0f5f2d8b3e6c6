//! A server as one of several that show the same rooms.
//!
//! Each server [announces](presence) itself to the [others] once a second, over the
//! [bus](crate::bus).

mod metrics;
mod others;
mod presence;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cubesync_protocol::ServerAddress;
use cubesync_protocol::limits::MAX_SERVERS;
use cubesync_relay::metrics::Metrics;
use cubesync_relay::room::Role;
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use self::metrics::{ClusterMetrics, LeaseChange};
use self::others::Others;
use self::presence::MAX_LISTED_ROOMS;
pub use self::presence::{Presence, RoomPresence, RoomRole, Rules, ServerProfile, host_and_port};
use crate::answers::AnswerBudget;
use crate::bus::{Bus, Received, ServerId, Topic, Traffic};
use crate::clock::now;
use crate::link::{Link, LinkId};

/// The maximum number of announcements that wait to be processed: two from each of as many servers
/// as anybody has tried.
const MAX_WAITING: usize = 256;

/// The interval at which a server announces itself.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);

/// The time after which it does so already when it has met a new server.
const ANSWER_AFTER: Duration = Duration::from_millis(50);

/// The maximum number of servers that a page's policy names. The policy is a header of every
/// response and has each address twice: 64 of the length of `eu1.game.example:8080` are 3.4 KiB,
/// and nginx passes on no headers of more than 4 or 8 KiB unless it is configured to.
const MAX_PAGES: usize = 64;

/// A server's membership in a cluster.
#[derive(Debug)]
pub struct Cluster {
    id: ServerId,
    bus: Arc<dyn Bus>,
    profile: ServerProfile,
    server_metrics: Metrics,
    metrics: ClusterMetrics,
    answers: Arc<AnswerBudget>,
    state: Mutex<State>,
}

/// What a server knows of the others and tells them.
#[derive(Debug, Default)]
struct State {
    others: Others,
    rooms: BTreeMap<String, RoomPresence>,
    /// This server's last announcement.
    own: Option<Presence>,
}

impl Cluster {
    /// Creates the membership of a server that has just started.
    pub fn new(bus: Arc<dyn Bus>, profile: ServerProfile, metrics: &Metrics) -> Arc<Self> {
        let cluster = Arc::new(Self {
            id: ServerId(fastrand::u32(1..)),
            bus,
            profile,
            server_metrics: metrics.clone(),
            metrics: ClusterMetrics::new(&metrics.set),
            answers: AnswerBudget::new(&metrics.set, now()),
            state: Mutex::default(),
        });
        metrics::register(&metrics.set, &cluster);
        cluster
    }

    /// Returns this server's id.
    pub fn id(&self) -> ServerId {
        self.id
    }

    /// Returns the bus that connects the servers.
    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.bus
    }

    /// Returns the rules that the servers must have in common.
    pub fn rules(&self) -> Rules {
        self.profile.rules
    }

    /// Returns the topic of a room's owner.
    pub(crate) fn topic(&self, room: &str) -> Topic {
        Topic::Room(self.rules().shared_name(room))
    }

    /// Returns the topic of a server that has a room.
    pub(crate) fn topic_at(&self, room: &str, server: ServerId) -> Topic {
        Topic::RoomAt(self.rules().shared_name(room), server)
    }

    /// Sends packets about a room to another server.
    pub(crate) fn send(
        &self,
        room: &str,
        server: ServerId,
        packets: impl IntoIterator<Item = Bytes>,
    ) {
        let topic = self.topic_at(room, server);
        for packet in packets {
            self.bus.publish(&topic, packet);
        }
    }

    /// Returns the metrics that rooms count in.
    pub fn metrics(&self) -> &ClusterMetrics {
        &self.metrics
    }

    /// Creates one side of a link.
    pub fn new_link(&self, id: LinkId, now: Instant) -> Link {
        let answers = self.answers.of_link(now);
        Link::new(id, self.metrics.resent.clone(), now).with_answers(answers)
    }

    /// Notes this server's part in a room, and the number of its players here.
    pub fn note_room(&self, name: &str, role: &Role, players: usize) {
        let room = RoomPresence {
            name: name.to_owned(),
            players: u32::try_from(players).unwrap_or(u32::MAX),
            role: role.into(),
        };
        self.state().rooms.insert(name.to_owned(), room);
    }

    /// Forgets a room that has ended here.
    pub fn forget_room(&self, name: &str) {
        self.state().rooms.remove(name);
    }

    /// Counts the rooms by this server's part in them.
    fn count_roles(&self) -> [(RoomRole, i64); 3] {
        let state = self.state();
        [RoomRole::Owner, RoomRole::Edge, RoomRole::Island].map(|role| {
            let rooms = state.rooms.values().filter(|room| room.role == role);
            (role, i64::try_from(rooms.count()).unwrap_or(i64::MAX))
        })
    }

    /// Returns where another server has its pages, or else its id.
    pub fn address_of(&self, id: ServerId) -> String {
        let state = self.state();
        let other = state.others.get(id).map(|other| &other.address.web);
        match other.filter(|web| !web.is_empty()) {
            Some(web) => web.clone(),
            None => id.to_string(),
        }
    }

    /// Returns other addresses of the same rooms, as many as players are told. The order differs
    /// each time so that players spread.
    pub fn others(&self) -> Vec<ServerAddress> {
        let mut addresses = self.state().others.addresses(&self.profile.rules);
        fastrand::shuffle(&mut addresses);
        addresses.truncate(MAX_SERVERS);
        addresses
    }

    /// Returns where the servers' pages are, as `host:port`. This server's come first, since a
    /// browser may know it only by a load balancer's name; then the others follow in alphabetical
    /// order.
    pub fn pages(&self) -> Vec<String> {
        let (own, state) = (&*self.profile.address.web, self.state());
        let others = state.others.pages().into_iter().filter(|page| *page != own);
        let pages = std::iter::once(own).chain(others).take(MAX_PAGES);
        pages.map(str::to_owned).collect()
    }

    /// Returns whether another server of the cluster has its pages at `host:port`, or had them
    /// there in the last day: they may still be open.
    pub fn has_page(&self, authority: &str) -> bool {
        self.state().others.have_page(authority, now())
    }

    /// Returns the presences of all servers. This server comes first, once it has announced itself.
    pub fn servers(&self) -> Vec<Presence> {
        let state = self.state();
        state
            .own
            .iter()
            .chain(state.others.all())
            .cloned()
            .collect()
    }

    /// Takes part in the cluster until `shutdown`, and then says goodbye.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let (inbox, mut received) = mpsc::channel(MAX_WAITING);
        let _subscription = self.bus.subscribe(&Topic::Servers, inbox);
        let (mut announced_at, mut traffic) = (now(), self.bus.traffic());
        let mut announce_at = announced_at;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = sleep_until(announce_at.into()) => {
                    let (now, before) = (now(), traffic);
                    self.forget_silent(now);
                    traffic = self.bus.traffic();
                    self.announce(before, traffic, now - announced_at);
                    // Without the bus nobody has heard it, and players are told of other servers only when
                    // they come in.
                    let every = match self.bus.is_connected() {
                        true => ANNOUNCE_EVERY,
                        false => ANSWER_AFTER,
                    };
                    (announced_at, announce_at) = (now, now + every);
                }
                Some(received) = received.recv() => {
                    // The new server should soon know of this one, but a flood of announcements must
                    // not cause a flood of answers.
                    if self.hear(&received) {
                        announce_at = announce_at.min(announced_at + ANSWER_AFTER);
                    }
                }
            }
        }
        let own = self.state().own.clone();
        if let Some(own) = own {
            let is_leaving = true;
            self.publish(&Presence { is_leaving, ..own });
        }
    }

    /// Announces this server, whose traffic was `before` when it did so last.
    fn announce(&self, before: Traffic, traffic: Traffic, since: Duration) {
        let per_s = |before: u64, after: u64| {
            let more = after.saturating_sub(before) as f64;
            // `as` saturates.
            (more / since.as_secs_f64().max(0.001)) as u64
        };
        let number = |gauge: i64| u32::try_from(gauge).unwrap_or_default();
        let mut state = self.state();
        let mut rooms: Vec<_> = state.rooms.values().cloned().collect();
        rooms.sort_by_key(|room| std::cmp::Reverse(room.players));
        rooms.truncate(MAX_LISTED_ROOMS);
        let own = Presence {
            id: self.id,
            rules: self.profile.rules,
            address: self.profile.address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            players: number(self.server_metrics.connections.get()),
            room_count: number(self.server_metrics.rooms.get()),
            rooms,
            sent_bytes_per_s: per_s(before.sent_bytes, traffic.sent_bytes),
            received_bytes_per_s: per_s(before.received_bytes, traffic.received_bytes),
            is_leaving: false,
        };
        self.publish(&own);
        state.own = Some(own);
    }

    fn publish(&self, own: &Presence) {
        if self.bus.is_connected() {
            self.bus.publish(&Topic::Servers, own.encode());
        }
    }

    fn forget_silent(&self, now: Instant) {
        for silent in self.state().others.remove_silent(now) {
            let (id, players) = (silent.id, silent.address.tcp);
            warn!(%id, players, "a server of the cluster is silent");
        }
    }

    /// Processes an announcement, and returns whether it is a new server's.
    fn hear(&self, received: &Received) -> bool {
        let presence = match Presence::decode(&received.payload) {
            Ok(presence) => presence,
            Err(error) => {
                warn!(%error, "somebody on the bus speaks otherwise than this version");
                return false;
            }
        };
        let (id, rules) = (presence.id, presence.rules);
        let (players, version) = (presence.address.tcp.clone(), presence.version.clone());
        if id == self.id {
            error!(%id, "another server has drawn the same number: start one of them again");
            return false;
        }
        if presence.is_leaving {
            if self.state().others.remove(id, now()).is_some() {
                info!(%id, players, "a server has left the cluster");
            }
            return false;
        }
        if !self.state().others.hear(presence, now()) {
            return false;
        }
        info!(%id, players, version, "a server of the cluster is there");
        if rules != self.profile.rules {
            error!(
                %id,
                players,
                theirs = ?rules,
                ours = ?self.profile.rules,
                "that server has another --tick or --view-distance, or another version: it cannot share rooms"
            );
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
