//! A server as one of several that show the same rooms.
//!
//! The servers exchange [messages](words) over a [bus](crate::bus). Each announces itself once a
//! second ([`presence`]).

mod member;
mod metrics;
mod presence;
mod profile;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod words;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use cubesync_protocol::ServerAddress;
use cubesync_protocol::limits::MAX_SERVERS;
use cubesync_relay::metrics::{MetricSet, Metrics};
use cubesync_relay::room::backplane::{Backplane, Retire, RoomFuture};
use cubesync_relay::room::{Connections, Room};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::member::{Member, Said};
use self::profile::Load;
pub use self::profile::ServerProfile;
use self::words::Word;
pub use self::words::{Presence, Rules, host_and_port};
use crate::bus::{Bus, Received, ServerId, Topic};

/// The maximum number of messages that wait to be processed: two from each of as many servers as
/// anybody has tried.
const MAX_WAITING: usize = 256;

/// A server's membership in a cluster.
#[derive(Debug)]
pub struct Cluster {
    id: ServerId,
    bus: Arc<dyn Bus>,
    member: Mutex<Member>,
}

impl Cluster {
    /// Creates the membership of a server that has just started.
    pub fn new(bus: Arc<dyn Bus>) -> Arc<Self> {
        let id = ServerId(fastrand::u32(1..));
        Arc::new(Self {
            id,
            bus,
            member: Mutex::new(Member::new(id, now())),
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

    /// Returns the bus that connects the servers.
    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.bus
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
            let turn_at = self.member().turn_at();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep_until(turn_at.into()) => {}
                Some(heard) = heard.recv() => self.hear(&heard, &profile),
            }
        }
        self.say(vec![(Topic::Servers, Word::Gone(self.id))]);
    }

    fn hear(&self, heard: &Received, profile: &ServerProfile) {
        match Word::decode(&heard.payload) {
            Ok(word) => {
                self.member().hear(word, profile, now());
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

impl Backplane for Cluster {
    fn run(
        self: Arc<Self>,
        connections: Connections,
        shutdown: CancellationToken,
        retire: Retire,
    ) -> RoomFuture {
        Box::pin(Room::new(connections).run(shutdown, retire))
    }

    fn servers(&self, _: &str) -> Vec<ServerAddress> {
        self.others()
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
