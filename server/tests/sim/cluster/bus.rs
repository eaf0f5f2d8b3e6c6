//! A simulated bus between the servers. It delivers each message at most once, keeps the order of one
//! sender's messages to one topic, and has the faults that the seed decides.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cubesync_cluster::bus::{
    Bus, InboxSender, Leases, MemoryLeases, Received, Subscription, Topic,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// A fault of the bus.
#[derive(Debug, Clone, PartialEq)]
pub enum BusFault {
    /// Every message takes up to this time.
    Slow(Duration),
    /// This percentage of the messages is lost.
    Loss(u8),
    /// These servers are disconnected, and they know it.
    Gone(Vec<usize>),
    /// These servers and the others do not reach each other.
    Cut(Vec<usize>),
    /// The first server does not reach the second.
    OneWay(usize, usize),
    /// Messages to and from a server wait.
    Held(usize),
}

/// Largest latency without faults.
const FAST: Duration = Duration::from_millis(2);

/// Largest time by which a message may overtake an earlier one to another topic.
const REORDER: Duration = Duration::from_millis(4);

/// The simulated bus, shared by all servers.
#[derive(Debug, Clone)]
pub struct SimulatedBus(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    random: fastrand::Rng,
    faults: Vec<(usize, BusFault)>,
    nodes: Vec<Node>,
    next_subscription: u64,
    leases: MemoryLeases,
}

#[derive(Debug, Default)]
struct Node {
    /// The number of programs that the server has had.
    program: u64,
    subscriptions: Vec<(u64, Topic, InboxSender)>,
    /// The inboxes by sender.
    inboxes: Vec<Inbox>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Inbox {
    /// The messages by their time of delivery.
    messages: VecDeque<Message>,
    /// The time of arrival of the last message sent.
    last: Duration,
}

#[derive(Debug)]
struct Message {
    due: Duration,
    topic: Topic,
    payload: Bytes,
}

/// The bus as one server's program sees it.
struct Connection {
    bus: SimulatedBus,
    node: usize,
    program: u64,
}

impl SimulatedBus {
    pub fn new(servers: usize, seed: u64) -> Self {
        let node = || Node {
            inboxes: (0..servers).map(|_| Inbox::default()).collect(),
            ..Node::default()
        };
        Self(Arc::new(Mutex::new(Inner {
            random: fastrand::Rng::with_seed(seed),
            faults: Vec::new(),
            nodes: (0..servers).map(|_| node()).collect(),
            next_subscription: 0,
            leases: MemoryLeases::default(),
        })))
    }

    /// Connects a server's new program. Messages for the previous program are lost.
    pub fn join(&self, node: usize) -> Arc<dyn Bus> {
        let mut inner = self.0.lock().unwrap();
        let there = &mut inner.nodes[node];
        there.program += 1;
        there.subscriptions.clear();
        there.inboxes.fill_with(Inbox::default);
        Arc::new(Connection {
            bus: self.clone(),
            node,
            program: there.program,
        })
    }

    /// Delivers a server's messages as long as its program runs.
    pub async fn deliver(self, node: usize) {
        let changed = self.0.lock().unwrap().nodes[node].changed.clone();
        loop {
            let now = turmoil::sim_elapsed().unwrap();
            let next = self.0.lock().unwrap().deliver(node, now);
            match next {
                Some(due) => tokio::select! {
                    biased;
                    () = changed.notified() => {}
                    () = sleep(due - now) => {}
                },
                None => changed.notified().await,
            }
        }
    }

    /// Begins a fault, which its number identifies.
    pub fn begin(&self, number: usize, fault: BusFault) {
        self.0.lock().unwrap().faults.push((number, fault));
    }

    /// Ends a fault. Messages that waited are delivered.
    pub fn end(&self, number: usize) {
        let mut inner = self.0.lock().unwrap();
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

    fn is_gone(&self, node: usize) -> bool {
        self.has(|fault| matches!(fault, BusFault::Gone(set) if set.contains(&node)))
    }

    fn is_held(&self, from: usize, to: usize) -> bool {
        self.has(|fault| matches!(fault, BusFault::Held(node) if [from, to].contains(node)))
    }

    fn is_lost(&mut self, from: usize, to: usize) -> bool {
        let percent = self.faults.iter().map(|(_, fault)| match fault {
            BusFault::Gone(set) if set.contains(&from) || set.contains(&to) => 100,
            BusFault::Cut(set) if set.contains(&from) != set.contains(&to) => 100,
            BusFault::OneWay(a, b) if (*a, *b) == (from, to) => 100,
            BusFault::Loss(percent) => *percent,
            _ => 0,
        });
        let percent = percent.max().unwrap_or(0);
        percent > 0 && self.random.u8(..100) < percent
    }

    fn latency(&mut self) -> Duration {
        let most = self.faults.iter().map(|(_, fault)| match fault {
            BusFault::Slow(most) => *most,
            _ => FAST,
        });
        let most = most.max().unwrap_or(FAST);
        Duration::from_micros(self.random.u64(100..=most.as_micros() as u64))
    }

    fn send(&mut self, from: usize, topic: &Topic, payload: &Bytes, now: Duration) {
        for to in 0..self.nodes.len() {
            // The subscriptions at the time of arrival count. With NATS, too, they take a moment.
            if to == from || self.is_lost(from, to) {
                continue;
            }
            let arrives = now + self.latency();
            let extra = Duration::from_micros(self.random.u64(..=REORDER.as_micros() as u64));
            let node = &mut self.nodes[to];
            node.inboxes[from].put(arrives, extra, topic, payload);
            node.changed.notify_one();
        }
    }

    /// Delivers the messages that are due. Returns when the next one is due.
    fn deliver(&mut self, node: usize, now: Duration) -> Option<Duration> {
        let mut next = None;
        for from in 0..self.nodes.len() {
            if self.is_held(from, node) {
                continue;
            }
            let there = &mut self.nodes[node];
            let messages = &mut there.inboxes[from].messages;
            while let Some(message) = messages.front() {
                if message.due > now {
                    let sooner = next.is_none_or(|next| message.due < next);
                    next = if sooner { Some(message.due) } else { next };
                    break;
                }
                let message = messages.pop_front().expect("there is a first message");
                let at = Instant::now().into_std();
                for (_, topic, sender) in &there.subscriptions {
                    let payload = message.payload.clone();
                    if *topic == message.topic {
                        // A full channel loses the message.
                        let _ = sender.try_send(Received { payload, at });
                    }
                }
            }
        }
        next
    }
}

impl Inbox {
    fn put(&mut self, arrives: Duration, extra: Duration, topic: &Topic, payload: &Bytes) {
        self.last = self.last.max(arrives);
        let mut due = self.last + extra;
        if let Some(before) = self
            .messages
            .iter()
            .rev()
            .find(|other| other.topic == *topic)
        {
            due = due.max(before.due);
        }
        let place = self.messages.partition_point(|other| other.due <= due);
        let (topic, payload) = (topic.clone(), payload.clone());
        self.messages.insert(
            place,
            Message {
                due,
                topic,
                payload,
            },
        );
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({}, {})", self.node, self.program)
    }
}

impl Bus for Connection {
    fn publish(&self, topic: &Topic, payload: Bytes) {
        // A program that is being killed is outside of the simulation and sends nothing.
        let Some(now) = turmoil::sim_elapsed() else {
            return;
        };
        let mut inner = self.bus.0.lock().unwrap();
        if inner.nodes[self.node].program == self.program {
            inner.send(self.node, topic, &payload, now);
        }
    }

    fn subscribe(&self, topic: &Topic, sender: InboxSender) -> Subscription {
        let mut inner = self.bus.0.lock().unwrap();
        if inner.nodes[self.node].program != self.program {
            return Subscription::new(|| {});
        }
        let number = inner.next_subscription;
        inner.next_subscription += 1;
        inner.nodes[self.node]
            .subscriptions
            .push((number, topic.clone(), sender));
        let (bus, node) = (self.bus.clone(), self.node);
        Subscription::new(move || {
            let mut inner = bus.0.lock().unwrap();
            inner.nodes[node]
                .subscriptions
                .retain(|(other, ..)| *other != number);
        })
    }

    fn is_connected(&self) -> bool {
        !self.bus.0.lock().unwrap().is_gone(self.node)
    }

    fn leases(&self) -> Arc<dyn Leases> {
        Arc::new(self.bus.0.lock().unwrap().leases.clone())
    }
}
