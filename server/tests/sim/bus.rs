//! A simulated bus between the servers. It delivers each message at most once, keeps the order of one
//! sender's messages to one topic and no other, and has the faults that the seed decides.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cubesync_cluster::bus::{Bus, InboxSender, Leases, Received, Subscription, Topic};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::leases::Store;

/// A fault of the bus.
#[derive(Debug, Clone, PartialEq)]
pub enum BusFault {
    /// Every message takes up to this time.
    Slow(Duration),
    /// This percentage of the messages is lost.
    Loss(u8),
    /// These servers are disconnected, and they know it.
    Gone(Vec<usize>),
    /// All servers are disconnected, and they know it. The leases are lost meanwhile.
    Restart,
    /// These servers and the others do not reach each other. The leases are with the others.
    Cut(Vec<usize>),
    /// The first server does not reach the second.
    OneWay(usize, usize),
    /// Messages to and from a server wait.
    Held(usize),
}

/// Largest latency without faults.
const FAST: Duration = Duration::from_millis(4);

/// The simulated bus, shared by all servers.
#[derive(Debug, Clone)]
pub struct SimulatedBus(Arc<Mutex<Inner>>);

#[derive(Debug)]
pub struct Inner {
    pub random: fastrand::Rng,
    pub store: Store,
    faults: Vec<(usize, BusFault)>,
    nodes: Vec<Node>,
    /// The number of messages and subscriptions so far, which makes each of them unique.
    last_number: u64,
}

#[derive(Debug, Default)]
struct Node {
    subscriptions: Vec<(u64, Topic, InboxSender)>,
    /// The messages on their way to the server, by their time of delivery and their number.
    messages: BTreeMap<(Duration, u64), Message>,
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct Message {
    from: usize,
    topic: Topic,
    payload: Bytes,
}

/// The bus as one server's program sees it.
#[derive(Clone)]
pub struct Connection {
    bus: SimulatedBus,
    pub node: usize,
}

impl SimulatedBus {
    pub fn new(servers: usize, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            random: fastrand::Rng::with_seed(seed),
            store: Store::default(),
            faults: Vec::new(),
            nodes: (0..servers).map(|_| Node::default()).collect(),
            last_number: 0,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        // A check that fails must not abort the tests.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects a server's new program. Messages for the previous program are lost.
    pub fn join(&self, node: usize) -> Arc<Connection> {
        let there = &mut self.lock().nodes[node];
        there.subscriptions.clear();
        there.messages.clear();
        let bus = self.clone();
        Arc::new(Connection { bus, node })
    }

    /// Delivers a server's messages as long as its program runs.
    pub async fn deliver(self, node: usize) {
        let changed = self.lock().nodes[node].changed.clone();
        loop {
            let now = turmoil::sim_elapsed().unwrap();
            let next = self.lock().deliver(node, now);
            tokio::select! {
                biased;
                () = changed.notified() => {}
                () = sleep(next.unwrap_or(Duration::MAX).saturating_sub(now)) => {}
            }
        }
    }

    /// Begins a fault, which its number identifies.
    pub fn begin(&self, number: usize, fault: BusFault) {
        let mut inner = self.lock();
        if fault == BusFault::Restart {
            inner.store.clear();
        }
        inner.faults.push((number, fault));
    }

    /// Ends a fault. Messages that waited are delivered.
    pub fn end(&self, number: usize) {
        let mut inner = self.lock();
        inner.faults.retain(|(other, _)| *other != number);
        for node in &inner.nodes {
            node.changed.notify_one();
        }
    }
}

impl Inner {
    fn has(&self, wanted: impl Fn(&BusFault) -> bool) -> bool {
        self.faults.iter().any(|(_, fault)| wanted(fault))
    }

    pub fn is_gone(&self, node: usize) -> bool {
        self.has(|fault| match fault {
            BusFault::Gone(set) => set.contains(&node),
            fault => *fault == BusFault::Restart,
        })
    }

    pub fn is_held(&self, node: usize) -> bool {
        self.has(|fault| *fault == BusFault::Held(node))
    }

    /// Returns whether a message is lost on its way to a server, or to the leases if that is `None`.
    pub fn is_lost(&mut self, from: usize, to: Option<usize>) -> bool {
        let is_gone = self.is_gone(from) || to.is_some_and(|to| self.is_gone(to));
        let percent = self.faults.iter().map(|(_, fault)| match fault {
            _ if is_gone => 100,
            BusFault::Cut(set) => {
                let is_there = to.is_some_and(|to| set.contains(&to));
                100 * u8::from(set.contains(&from) != is_there)
            }
            BusFault::OneWay(a, b) => 100 * u8::from((*a, Some(*b)) == (from, to)),
            BusFault::Loss(percent) => *percent,
            _ => 0,
        });
        let percent = percent.max().unwrap_or(0);
        percent > 0 && self.random.u8(..100) < percent
    }

    pub fn latency(&mut self, most: Duration) -> Duration {
        let slow = self.faults.iter().map(|(_, fault)| match fault {
            BusFault::Slow(slow) => (*slow).min(most),
            _ => FAST,
        });
        let most = slow.max().unwrap_or(FAST);
        Duration::from_micros(self.random.u64(100..=most.as_micros() as u64))
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn send(&mut self, from: usize, topic: &Topic, payload: &Bytes, now: Duration) {
        for to in 0..self.nodes.len() {
            // The subscriptions at the time of arrival count. With NATS, too, they take a moment.
            if to == from || self.is_lost(from, Some(to)) {
                continue;
            }
            let (due, number) = (now + self.latency(Duration::MAX), self.number());
            let node = &mut self.nodes[to];
            let mut waiting = node.messages.iter().rev();
            let before = waiting.find(|(_, other)| (other.from, &other.topic) == (from, topic));
            let due = before.map_or(due, |((before, _), _)| due.max(*before));
            let (topic, payload) = (topic.clone(), payload.clone());
            let message = Message {
                from,
                topic,
                payload,
            };
            node.messages.insert((due, number), message);
            node.changed.notify_one();
        }
    }

    /// Delivers the messages that are due. Returns when the next one is due.
    fn deliver(&mut self, to: usize, now: Duration) -> Option<Duration> {
        let held: Vec<_> = (0..self.nodes.len())
            .map(|node| self.is_held(node))
            .collect();
        let Node {
            messages,
            subscriptions,
            ..
        } = &mut self.nodes[to];
        let mut next = None;
        messages.retain(|(due, _), message| {
            if held[to] || held[message.from] {
                return true;
            }
            if *due > now {
                next = next.or(Some(*due));
                return true;
            }
            let at = Instant::now().into_std();
            for (_, topic, inbox) in &*subscriptions {
                // A full channel loses the message.
                if *topic == message.topic {
                    let payload = message.payload.clone();
                    let _ = inbox.try_send(Received { payload, at });
                }
            }
            false
        });
        next
    }
}

impl Connection {
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.bus.lock()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.node)
    }
}

impl Bus for Connection {
    fn publish(&self, topic: &Topic, payload: Bytes) {
        // A program that is being killed is outside of the simulation and sends nothing.
        if let Some(now) = turmoil::sim_elapsed() {
            self.lock().send(self.node, topic, &payload, now);
        }
    }

    fn subscribe(&self, topic: &Topic, inbox: InboxSender) -> Subscription {
        let mut inner = self.lock();
        let number = inner.number();
        let subscriptions = &mut inner.nodes[self.node].subscriptions;
        subscriptions.push((number, topic.clone(), inbox));
        let (bus, node) = (self.bus.clone(), self.node);
        Subscription::new(move || {
            let subscriptions = &mut bus.lock().nodes[node].subscriptions;
            subscriptions.retain(|(other, ..)| *other != number);
        })
    }

    fn is_connected(&self) -> bool {
        !self.lock().is_gone(self.node)
    }

    fn leases(&self) -> Arc<dyn Leases> {
        Arc::new(self.clone())
    }
}

#[cfg(test)]
pub mod tests {
    use tokio::sync::mpsc;
    use turmoil::Builder;

    use super::*;

    /// Runs a future on a simulated network with a bus of two servers.
    pub fn simulate<F: Future<Output = ()> + 'static>(work: impl Fn(SimulatedBus) -> F + 'static) {
        let mut sim = Builder::new().build();
        let work = work(SimulatedBus::new(2, 1));
        sim.client("test", async move {
            work.await;
            Ok(())
        });
        sim.run().unwrap();
    }

    #[test]
    fn messages_overtake_others_of_another_topic_only() {
        simulate(|bus| async move {
            let [here, there] = [0, 1].map(|node| bus.join(node));
            tokio::task::spawn_local(bus.deliver(1));
            let (inbox, mut received) = mpsc::channel(200);
            let topics = ["a", "b"].map(|room| Topic::Room(room.to_owned()));
            let _subscriptions = [0, 1].map(|topic| there.subscribe(&topics[topic], inbox.clone()));
            for number in 0..200 {
                let payload = Bytes::copy_from_slice(&[number]);
                here.publish(&topics[usize::from(number % 2)], payload);
            }
            let mut order = Vec::new();
            for _ in 0..200 {
                order.push(received.recv().await.unwrap().payload[0]);
            }
            assert!(!order.is_sorted());
            let of = |topic| order.iter().filter(move |number| *number % 2 == topic);
            assert!(of(0).is_sorted() && of(1).is_sorted());
        });
    }
}
