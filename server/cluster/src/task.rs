//! What the task of a room has besides the room, whatever this server's part in it is.

use cubesync_relay::room::backplane::Retire;
use cubesync_relay::room::{Connections, Room, RoomState};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Cluster;
use crate::bus::{Holder, Received, Subscription};
use crate::message::{Announcement, Envelope};
use crate::tenure::Tenure;

/// Largest number of packets of other servers that wait: about a second of thirty edges. What finds no place is
/// lost and asked for again.
const PACKET_QUEUE: usize = 1_024;

/// Largest number of packets that are handled before it is looked whether a tick is due.
const PACKETS_AT_ONCE: usize = 64;

/// Largest number of announcements that wait.
const ANNOUNCEMENT_QUEUE: usize = 64;

/// What a server does next with a room.
#[derive(Debug)]
pub(crate) enum Next {
    /// It shows the room as its owner publishes it.
    Show(Box<Shown>),
    /// It owns the room, or goes on alone.
    Own(Box<Room>, Tenure),
    /// The room has ended here.
    End,
}

/// A room that another server is to own.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) connections: Connections,
    /// The room's state when this server owned it.
    pub(crate) state: Option<RoomState>,
    /// The owner, if it is known.
    pub(crate) owner: Option<Holder>,
    pub(crate) tenure: Tenure,
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

impl Task {
    pub(crate) fn new(shutdown: CancellationToken, inbox: Inbox, retire: Retire) -> Self {
        let retire = Some(retire);
        Self {
            shutdown,
            inbox,
            retire,
        }
    }

    /// Takes the room off the list of rooms, before it stops listening.
    pub(crate) fn retire(&mut self) {
        self.retire = None;
    }
}

impl Inbox {
    pub(crate) fn open(cluster: &Cluster, room: &str) -> Self {
        let (packet_sender, packets) = mpsc::channel(PACKET_QUEUE);
        let (announcement_sender, announcements) = mpsc::channel(ANNOUNCEMENT_QUEUE);
        let here = cluster.topic_at(room, cluster.id());
        let everywhere = cluster.topic(room);
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

    /// Takes some of the packets that are there. A flood of more must leave time for ticks.
    pub(crate) fn take_some(&mut self) -> Vec<Received> {
        let received = std::iter::from_fn(|| self.packets.try_recv().ok());
        received.take(PACKETS_AT_ONCE).collect()
    }
}
