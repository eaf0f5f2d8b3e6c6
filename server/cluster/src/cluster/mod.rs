//! A server as one of several that show the same rooms: the other servers, and the time that all of
//! them share.
//!
//! The servers exchange [messages](words) over a [bus](crate::bus). Each announces itself once a
//! second ([`presence`]). Time begins when the first server starts; the others learn it from the
//! one that has been there for the longest time ([`clock`]), before they open a room.

mod clock;
mod member;
mod metrics;
mod presence;
mod profile;
#[cfg(test)]
mod simulation;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod timeline;
mod words;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use cubesync_protocol::ServerAddress;
use cubesync_protocol::limits::MAX_SERVERS;
use cubesync_relay::metrics::{MetricSet, Metrics};
use cubesync_relay::room::backplane::TimeSource;
use cubesync_relay::room::world::Ids;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::member::{Member, Said};
pub(crate) use self::metrics::PeerMetrics;
use self::profile::Load;
pub use self::profile::ServerProfile;
use self::words::Word;
pub use self::words::{Presence, Rules, host_and_port};
use crate::bus::{Bus, Received, ServerId, Topic};

/// The maximum number of messages that wait to be processed: two from each of as many servers as
/// anybody has tried.
const MAX_WAITING: usize = 256;

/// The number of low bits of a player's number that count players; the bits above them are the
/// server's. After a million players a server continues with the numbers of another one, which
/// hardly ever exists.
const COUNTER_BITS: u32 = 20;

/// A server's membership in a cluster.
#[derive(Debug)]
pub struct Cluster {
    id: ServerId,
    cube_ids: Ids,
    bus: Arc<dyn Bus>,
    member: Mutex<Member>,
    is_settled: watch::Sender<bool>,
    /// The metrics of rooms.
    pub(crate) peer_metrics: PeerMetrics,
}

impl Cluster {
    /// Creates the membership of a server that has just started: its time is 0.
    pub fn new(bus: Arc<dyn Bus>) -> Arc<Self> {
        let id = ServerId(fastrand::u32(1..));
        Arc::new(Self {
            id,
            cube_ids: Ids::after(u64::from(id.0) << COUNTER_BITS),
            bus,
            member: Mutex::new(Member::new(id, now())),
            is_settled: watch::Sender::new(false),
            peer_metrics: PeerMetrics::default(),
        })
    }

    /// Registers the metrics of this server as one of several.
    pub fn register_metrics(self: &Arc<Self>, set: &MetricSet) {
        metrics::register(set, self);
    }

    /// Returns this server's id.
    pub fn id(&self) -> ServerId {
        self.id
    }

    /// Returns the source of cube ids for all rooms here. A room that ends and is opened again must
    /// not reuse an id that is still in use on another server.
    pub(crate) fn cube_ids(&self) -> Ids {
        self.cube_ids.clone()
    }

    /// Returns the bus that connects the servers.
    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.bus
    }

    /// Waits until the time is known. This takes a second at most while [`run`](Self::run) runs.
    pub async fn settled(&self) {
        // Waiting fails only if the sender is gone, but this value owns it.
        let _ = self
            .is_settled
            .subscribe()
            .wait_for(|settled| *settled)
            .await;
    }

    /// Returns other addresses of the same rooms, as many as players are told. The order differs
    /// each time so that players spread.
    pub(crate) fn others(&self) -> Vec<ServerAddress> {
        let mut addresses = self.member().others.addresses();
        fastrand::shuffle(&mut addresses);
        addresses.truncate(MAX_SERVERS);
        addresses
    }

    /// Returns where the servers' pages are, as `host:port`. This server's come first, since a
    /// browser may know it only by a load balancer's name; then the others follow in alphabetical
    /// order.
    pub fn pages(&self) -> Vec<String> {
        self.member().pages()
    }

    /// Returns whether another server of the cluster has its pages at `host:port`, or had them
    /// there in the last day: they may still be open.
    pub fn has_page(&self, authority: &str) -> bool {
        self.member().others.have_page(authority, now())
    }

    /// Returns the presences of all servers. This server comes first, once it has announced itself.
    pub fn servers(&self) -> Vec<Presence> {
        let member = self.member();
        let own = member.spoken().into_iter();
        own.chain(member.others.all()).cloned().collect()
    }

    /// Returns the measured error of this server's time in seconds. The server that the others
    /// follow has no measured error.
    pub(crate) fn clock_offset_s(&self) -> f64 {
        self.member().clock.found_ns() as f64 / 1e9
    }

    /// Takes part in the cluster until `shutdown`, and then says goodbye.
    pub async fn run(
        self: Arc<Self>,
        profile: ServerProfile,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) {
        let (ear, mut heard) = mpsc::channel(MAX_WAITING);
        let _of_all = self.bus.subscribe(&Topic::Servers, ear.clone());
        let _of_this = self.bus.subscribe(&Topic::Server(self.id), ear);
        loop {
            let load = Load::now(&metrics, self.bus.traffic());
            let said = self.member().turn(&profile, load, now());
            self.say(said);
            let (turn_at, is_settled) = {
                let member = self.member();
                (member.turn_at(), member.is_settled())
            };
            self.is_settled
                .send_if_modified(|settled| std::mem::replace(settled, is_settled) != is_settled);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep_until(turn_at.into()) => {}
                Some(heard) = heard.recv() => self.hear(&heard, &profile),
            }
        }
        self.say(vec![(Topic::Servers, Word::Gone(self.id))]);
        self.is_settled.send_replace(true);
    }

    fn hear(&self, heard: &Received, profile: &ServerProfile) {
        match Word::decode(&heard.payload) {
            Ok(word) => {
                let said = self.member().hear(word, profile, heard.at, now());
                self.say(said);
            }
            Err(error) => {
                warn!(%error, "somebody on the bus speaks otherwise than this version");
            }
        }
    }

    fn say(&self, said: Said) {
        for (topic, word) in said {
            self.bus.publish(&topic, word.encode());
        }
    }

    fn member(&self) -> MutexGuard<'_, Member> {
        self.member.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time of the cluster, which is the same on all of its servers within a few milliseconds.
/// Later instants never have earlier times.
impl TimeSource for Cluster {
    fn time_ns(&self, now: Instant) -> u64 {
        self.member().clock.timeline().time_ns(now)
    }

    fn instant(&self, time_ns: u64) -> Instant {
        self.member().clock.timeline().instant(time_ns)
    }
}

/// Returns the presence that a payload announces, if it is one.
pub fn overheard(payload: &[u8]) -> Option<Presence> {
    match Word::decode(payload) {
        Ok(Word::Here(presence)) => Some(presence.clean()),
        _ => None,
    }
}

/// Returns the runtime's time, which runs as the system's does, or as a simulation lets it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
