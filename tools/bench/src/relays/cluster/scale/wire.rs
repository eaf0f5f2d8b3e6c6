//! A bus in this process that counts its messages.

use std::collections::HashMap;
use std::fmt;
use std::ops::Sub;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cubesync_cluster::bus::{
    Bus, InboxSender, Leases, MemoryLeases, Received, Subscription, Topic,
};
use tokio::time::Instant;

/// The bus of all servers.
#[derive(Clone, Default)]
pub(super) struct Wire(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    ears: HashMap<Topic, Vec<Listener>>,
    next_id: u64,
    subscriptions: u64,
    counts: Counts,
    leases: MemoryLeases,
}

struct Listener {
    id: u64,
    server: usize,
    ear: InboxSender,
}

/// The bus as one server sees it.
pub(super) struct End {
    wire: Wire,
    server: usize,
}

/// Counts since the start, or over some time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// Messages of cells: residuals.
    pub(super) cells: Traffic,
    /// Messages of rooms: beats and requests.
    pub(super) rooms: Traffic,
    /// Messages of servers: presence and clocks.
    pub(super) servers: Traffic,
    /// Messages lost at a full subscription.
    pub(super) lost: u64,
}

/// Counts of one kind of messages.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traffic {
    /// Number of published messages.
    pub(super) published: u64,
    /// Their payload.
    pub(super) published_bytes: u64,
    /// Number of delivered messages.
    pub(super) delivered: u64,
    /// Their payload.
    pub(super) delivered_bytes: u64,
}

impl Wire {
    /// Returns the bus as one server sees it.
    pub(super) fn end(&self, server: usize) -> Arc<End> {
        Arc::new(End {
            wire: self.clone(),
            server,
        })
    }

    /// Returns the counts so far.
    pub(super) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Returns the numbers of subscriptions and of their topics.
    pub(super) fn subscriptions(&self) -> (u64, usize) {
        let inner = self.lock();
        (inner.subscriptions, inner.ears.len())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bus for End {
    fn publish(&self, topic: &Topic, payload: Bytes) {
        let mut inner = self.wire.lock();
        let Inner { ears, counts, .. } = &mut *inner;
        let len_bytes = payload.len() as u64;
        let heard = Received {
            payload,
            at: Instant::now().into_std(),
        };
        let (mut delivered, mut lost) = (0, 0);
        for listener in ears.get(topic).into_iter().flatten() {
            if listener.server != self.server {
                match listener.ear.try_send(heard.clone()) {
                    Ok(()) => delivered += 1,
                    Err(_) => lost += 1,
                }
            }
        }
        counts.lost += lost;
        let traffic = match topic {
            Topic::Cell(..) => &mut counts.cells,
            Topic::Room(_) | Topic::RoomAt(..) => &mut counts.rooms,
            Topic::Servers | Topic::Server(_) => &mut counts.servers,
        };
        traffic.published += 1;
        traffic.published_bytes += len_bytes;
        traffic.delivered += delivered;
        traffic.delivered_bytes += delivered * len_bytes;
    }

    fn subscribe(&self, topic: &Topic, ear: InboxSender) -> Subscription {
        let mut inner = self.wire.lock();
        inner.next_id += 1;
        inner.subscriptions += 1;
        let id = inner.next_id;
        inner.ears.entry(topic.clone()).or_default().push(Listener {
            id,
            server: self.server,
            ear,
        });
        let (wire, topic) = (self.wire.clone(), topic.clone());
        Subscription::new(move || {
            let mut inner = wire.lock();
            inner.subscriptions -= 1;
            if let Some(listeners) = inner.ears.get_mut(&topic) {
                listeners.retain(|listener| listener.id != id);
                if listeners.is_empty() {
                    inner.ears.remove(&topic);
                }
            }
        })
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn leases(&self) -> Arc<dyn Leases> {
        Arc::new(self.wire.lock().leases.clone())
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "End of server {}", self.server)
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            cells: self.cells - before.cells,
            rooms: self.rooms - before.rooms,
            servers: self.servers - before.servers,
            lost: self.lost - before.lost,
        }
    }
}

impl Sub for Traffic {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            published: self.published - before.published,
            published_bytes: self.published_bytes - before.published_bytes,
            delivered: self.delivered - before.delivered,
            delivered_bytes: self.delivered_bytes - before.delivered_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn others_hear_what_one_says_and_it_is_counted() {
        let wire = Wire::default();
        let (one, other) = (wire.end(0), wire.end(1));
        let (ear, mut heard) = mpsc::channel(1);
        let topic = Topic::Room("den".to_owned());
        let subscription = other.subscribe(&topic, ear);
        assert_eq!(wire.subscriptions(), (1, 1));
        other.publish(&topic, Bytes::from_static(b"own"));
        one.publish(&topic, Bytes::from_static(b"beat"));
        one.publish(&topic, Bytes::from_static(b"too many"));
        assert_eq!(heard.try_recv().unwrap().payload, "beat");
        let counts = wire.counts();
        assert_eq!((counts.rooms.published, counts.rooms.delivered), (3, 1));
        assert_eq!((counts.rooms.delivered_bytes, counts.lost), (4, 1));
        drop(subscription);
        assert_eq!(wire.subscriptions(), (0, 0));
    }
}
