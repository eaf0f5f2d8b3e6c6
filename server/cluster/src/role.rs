//! The task of a room: it is the room's owner or an edge of it, by turns.

use std::sync::Arc;
use std::time::Instant;

use cubesync_relay::room::Connections;
use cubesync_relay::room::backplane::Retire;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Cluster;
use crate::bus::{Received, Subscription, Topic};
use crate::edge::Edge;
use crate::message::{Announcement, Envelope};
use crate::owner::Owner;
use crate::tenure::Tenure;

/// Largest number of packets of other servers that wait: about a second of thirty edges. What finds no place is
/// lost and asked for again.
const PACKET_QUEUE: usize = 1_024;

/// Largest number of announcements that wait.
const ANNOUNCEMENT_QUEUE: usize = 64;

/// What a server does next with a room.
#[derive(Debug)]
pub(crate) enum Next {
    /// It shows the room as its owner publishes it.
    Edge(Box<Edge>),
    /// It owns the room, or goes on alone.
    Owner(Box<Owner>),
    /// The room has ended here.
    Ended,
}

/// What a room's task has besides the room.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) shutdown: CancellationToken,
    pub(crate) inbox: Inbox,
    retire: Option<Retire>,
}

/// What other servers send about a room.
#[derive(Debug)]
pub(crate) struct Inbox {
    packets: mpsc::Receiver<Received>,
    announcements: mpsc::Receiver<Received>,
    _subscriptions: [Subscription; 2],
}

/// A message of another server.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A packet for this server alone.
    Packet(Received),
    /// The announcement of the room's owner.
    Announcement(Announcement),
}

/// Runs a room to its end here.
pub(crate) async fn run(
    cluster: Arc<Cluster>,
    connections: Connections,
    shutdown: CancellationToken,
    retire: Retire,
) {
    let name = connections.settings.name.clone();
    let mut task = Task {
        shutdown,
        inbox: Inbox::open(&cluster, &name),
        retire: Some(retire),
    };
    let tenure = Tenure::wanted(&cluster, &name);
    let edge = Edge::new(Arc::clone(&cluster), connections, None, tenure);
    let mut next = Next::Edge(Box::new(edge));
    loop {
        next = match next {
            Next::Edge(edge) => edge.run(&mut task).await,
            Next::Owner(owner) => owner.run(&mut task).await,
            Next::Ended => return cluster.forget_room(&name),
        };
    }
}

impl Task {
    /// Takes the room off the list of rooms, before it stops listening.
    pub(crate) fn retire(&mut self) {
        self.retire = None;
    }
}

impl Inbox {
    fn open(cluster: &Cluster, room: &str) -> Self {
        let (packet_sender, packets) = mpsc::channel(PACKET_QUEUE);
        let (announcement_sender, announcements) = mpsc::channel(ANNOUNCEMENT_QUEUE);
        let here = Topic::RoomAt(room.into(), cluster.id());
        let everywhere = Topic::Room(room.into());
        let bus = cluster.bus();
        Self {
            packets,
            announcements,
            _subscriptions: [
                bus.subscribe(&here, packet_sender),
                bus.subscribe(&everywhere, announcement_sender),
            ],
        }
    }

    /// Waits for the next message. Cancelling it loses nothing.
    pub(crate) async fn recv(&mut self) -> Incoming {
        loop {
            // The subscriptions hold the senders.
            let received = tokio::select! {
                biased;
                Some(received) = self.announcements.recv() => received,
                Some(received) = self.packets.recv() => return Incoming::Packet(received),
                else => std::future::pending().await,
            };
            if let Ok(Envelope::Announcement(announcement)) = Envelope::decode(received.payload) {
                return Incoming::Announcement(announcement);
            }
        }
    }

    /// Takes a packet that is there.
    pub(crate) fn try_recv(&mut self) -> Option<Received> {
        self.packets.try_recv().ok()
    }
}

/// Returns the runtime's time, which a simulation may control.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
