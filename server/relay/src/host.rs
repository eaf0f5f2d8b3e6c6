//! Rooms and sessions without listeners, for a program that accepts its players' connections itself and
//! for simulated networks.

use std::num::NonZeroU32;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, Admitted, Count};
use crate::bans::Bans;
use crate::budget::{Budgets, WorkLimits};
use crate::by_address::Address;
use crate::contain::contain;
use crate::datagram::DatagramPaths;
use crate::ending::Ending;
use crate::key::{Key, RoomKey};
use crate::metrics::{Metrics, Task};
use crate::pace::Pace;
use crate::room::RoomView;
use crate::room::backplane::Backplane;
use crate::rooms::{Rooms, RoomsSettings};
use crate::session::{Keys, SessionSettings, Sessions, Stream};

/// A host's settings.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// The settings of rooms.
    pub rooms: RoomsSettings,
    /// The settings of sessions.
    pub sessions: SessionSettings,
    /// Largest number of connections.
    pub connections: Count,
    /// Largest number of connections from one address.
    pub connections_per_address: Count,
    /// Largest number of new connections a second from one address.
    pub arrivals_per_address: NonZeroU32,
    /// The work that one address may give with all of its connections.
    pub work_per_address: WorkLimits,
    /// The key that players must show; `None`: anybody may join.
    pub join_key: Option<Key>,
    /// The keys of rooms that have their own, which replace the server's key there.
    pub room_keys: Vec<RoomKey>,
}

/// Rooms whose players come in through any stream of bytes. A host reads the time from tokio's clock.
/// Clones are the same host.
#[derive(Debug, Clone)]
pub struct Host {
    /// The admission of connections, within the limits.
    pub admission: Arc<Admission>,
    /// The work that each address may give.
    pub budgets: Arc<Budgets>,
    /// The addresses that the operator has banned.
    pub bans: Arc<Bans>,
    /// The rooms.
    pub rooms: Arc<Rooms>,
    /// The sessions that serve players' connections.
    pub sessions: Arc<Sessions>,
    /// The host's metrics.
    pub metrics: Metrics,
    /// The tasks of rooms and connections. A host has [stopped](Self::stopped) when all of them have
    /// ended.
    pub tasks: TaskTracker,
    /// Stops the host when it is cancelled.
    pub shutdown: CancellationToken,
}

impl Host {
    /// Opens a host that stops when `shutdown` is cancelled. Its players may use the ways of
    /// `datagrams`, if there are any.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(
        settings: HostSettings,
        backplane: Arc<dyn Backplane>,
        datagrams: Option<Arc<dyn DatagramPaths>>,
        metrics: Metrics,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        let arrivals = Pace::new(settings.arrivals_per_address);
        let bans = Arc::<Bans>::default();
        let admission = Admission::new(
            settings.connections,
            settings.connections_per_address,
            Some(arrivals),
            Arc::clone(&bans),
        );
        admission.register_metrics(&metrics.set);
        let rooms = Rooms::new(
            settings.rooms,
            metrics.clone(),
            backplane,
            shutdown.clone(),
            tasks.clone(),
        );
        let keys = Keys::new(settings.join_key, settings.room_keys);
        let in_rooms = Arc::clone(&rooms);
        let sessions = Sessions::new(
            settings.sessions,
            keys,
            in_rooms,
            datagrams,
            metrics.clone(),
            shutdown.clone(),
        );
        Self {
            admission,
            budgets: Arc::new(Budgets::new(settings.work_per_address, &metrics.set)),
            bans,
            rooms,
            sessions: Arc::new(sessions),
            metrics,
            tasks,
            shutdown,
        }
    }

    /// Admits a connection of a player from an address.
    ///
    /// # Errors
    /// The limit that is reached, or that the address is banned. The metrics have counted it.
    pub fn admit(&self, peer: impl Into<Address>) -> Result<Admitted, Ending> {
        self.counted(self.admission.admit(peer))
    }

    /// Admits a connection of a player to a port with a limit on arrivals of its own.
    ///
    /// # Errors
    /// The limit that is reached, or that the address is banned. The metrics have counted it.
    pub fn admit_by(&self, arrivals: &Pace, peer: impl Into<Address>) -> Result<Admitted, Ending> {
        self.counted(self.admission.admit_by(Some(arrivals), peer.into()))
    }

    fn counted(&self, admitted: Result<Admitted, Ending>) -> Result<Admitted, Ending> {
        let admitted = admitted.map(|admitted| admitted.with_budget(&self.budgets));
        admitted.inspect_err(|&ending| self.metrics.disconnects.count(ending))
    }

    /// Serves a player's connection to its end. A panic in it ends nothing else. `peer` is the address that
    /// counts towards the limits.
    pub fn serve(&self, stream: impl Stream, peer: impl Into<Address>) {
        if let Ok(admitted) = self.admit(peer) {
            let sessions = Arc::clone(&self.sessions);
            self.spawn(async move { sessions.serve_stream(stream, admitted).await });
        }
    }

    /// Spawns the task that serves a connection.
    pub fn spawn(&self, serving: impl Future<Output = ()> + Send + 'static) {
        let contained = contain(&self.metrics, Task::Connection, serving);
        self.tasks.spawn(contained);
    }

    /// Returns a room as it is now; `None` when there is none of that name.
    pub async fn view(&self, room: &str) -> Option<RoomView> {
        self.rooms.find(room)?.view().await.ok()
    }

    /// Waits, after `shutdown`, until all rooms and connections have ended.
    pub async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
