//! A bus between the simulated servers: at most once, those of one sender to one topic in order,
//! and as slow, deaf or torn as the seed wants it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cubesync_cluster::bus::{Bus, Ear, Heard, Subscription, Topic};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// What is wrong with the bus.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// Every way takes up to so long.
    Slow(Duration),
    /// So many of a hundred are lost.
    Loss(u8),
    /// Nothing goes to or from these servers, and they know.
    Gone(Vec<usize>),
    /// Those of the set do not reach the others, nor these them.
    Cut(Vec<usize>),
    /// One does not reach another.
    OneWay(usize, usize),
    /// What goes to or from a server waits.
    Held(usize),
}

/// A way takes so long when nothing is wrong, at most.
const FAST: Duration = Duration::from_millis(2);

/// What is about different topics is carried side by side: a word is overtaken by later ones of so long
/// after it, at most.
const ASIDE: Duration = Duration::from_millis(4);

/// The whole of it, shared by all servers.
#[derive(Debug, Clone)]
pub struct Net(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    dice: fastrand::Rng,
    troubles: Vec<(usize, Trouble)>,
    nodes: Vec<Node>,
    next_ear: u64,
}

#[derive(Debug, Default)]
struct Node {
    /// Counts the programs that were there.
    program: u64,
    ears: Vec<(u64, Topic, Ear)>,
    /// By sender.
    inboxes: Vec<Inbox>,
    bell: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Inbox {
    /// By when they are due.
    letters: VecDeque<Letter>,
    /// When the one that was sent last comes to the machine.
    last: Duration,
}

#[derive(Debug)]
struct Letter {
    due: Duration,
    topic: Topic,
    payload: Bytes,
}

/// One server's end of it.
struct End {
    net: Net,
    node: usize,
    program: u64,
}

impl Net {
    pub fn new(servers: usize, seed: u64) -> Self {
        let node = || Node {
            inboxes: (0..servers).map(|_| Inbox::default()).collect(),
            ..Node::default()
        };
        Self(Arc::new(Mutex::new(Inner {
            dice: fastrand::Rng::with_seed(seed),
            troubles: Vec::new(),
            nodes: (0..servers).map(|_| node()).collect(),
            next_ear: 0,
        })))
    }

    /// The end of a server's new program; what was meant for the one before is lost.
    pub fn join(&self, node: usize) -> Arc<dyn Bus> {
        let mut inner = self.0.lock().unwrap();
        let there = &mut inner.nodes[node];
        there.program += 1;
        there.ears.clear();
        there.inboxes.fill_with(Inbox::default);
        Arc::new(End {
            net: self.clone(),
            node,
            program: there.program,
        })
    }

    /// Brings a server what is for it, as long as its program runs.
    pub async fn deliver(self, node: usize) {
        let bell = self.0.lock().unwrap().nodes[node].bell.clone();
        loop {
            let now = turmoil::sim_elapsed().unwrap();
            let next = self.0.lock().unwrap().deliver(node, now);
            match next {
                Some(due) => tokio::select! {
                    biased;
                    () = bell.notified() => {}
                    () = sleep(due - now) => {}
                },
                None => bell.notified().await,
            }
        }
    }

    /// Something is wrong from now on. Faults are told apart by their numbers.
    pub fn begin(&self, number: usize, trouble: Trouble) {
        self.0.lock().unwrap().troubles.push((number, trouble));
    }

    /// It is over. What waited comes.
    pub fn end(&self, number: usize) {
        let mut inner = self.0.lock().unwrap();
        inner.troubles.retain(|(other, _)| *other != number);
        for node in &inner.nodes {
            node.bell.notify_one();
        }
    }
}

impl Inner {
    fn has(&self, wanted: impl Fn(&Trouble) -> bool) -> bool {
        self.troubles.iter().any(|(_, trouble)| wanted(trouble))
    }

    fn is_gone(&self, node: usize) -> bool {
        self.has(|trouble| matches!(trouble, Trouble::Gone(set) if set.contains(&node)))
    }

    fn is_held(&self, from: usize, to: usize) -> bool {
        self.has(|trouble| matches!(trouble, Trouble::Held(node) if [from, to].contains(node)))
    }

    fn is_lost(&mut self, from: usize, to: usize) -> bool {
        let percent = self.troubles.iter().map(|(_, trouble)| match trouble {
            Trouble::Gone(set) if set.contains(&from) || set.contains(&to) => 100,
            Trouble::Cut(set) if set.contains(&from) != set.contains(&to) => 100,
            Trouble::OneWay(a, b) if (*a, *b) == (from, to) => 100,
            Trouble::Loss(percent) => *percent,
            _ => 0,
        });
        let percent = percent.max().unwrap_or(0);
        percent > 0 && self.dice.u8(..100) < percent
    }

    fn latency(&mut self) -> Duration {
        let most = self.troubles.iter().map(|(_, trouble)| match trouble {
            Trouble::Slow(most) => *most,
            _ => FAST,
        });
        let most = most.max().unwrap_or(FAST);
        Duration::from_micros(self.dice.u64(100..=most.as_micros() as u64))
    }

    fn send(&mut self, from: usize, topic: &Topic, payload: &Bytes, now: Duration) {
        for to in 0..self.nodes.len() {
            // Who listens decides at the arrival; as with NATS, a subscription takes a moment.
            if to == from || self.is_lost(from, to) {
                continue;
            }
            let arrives = now + self.latency();
            let aside = Duration::from_micros(self.dice.u64(..=ASIDE.as_micros() as u64));
            let node = &mut self.nodes[to];
            node.inboxes[from].put(arrives, aside, topic, payload);
            node.bell.notify_one();
        }
    }

    /// Delivers what is due; when there will be more, as far as is known.
    fn deliver(&mut self, node: usize, now: Duration) -> Option<Duration> {
        let mut next = None;
        for from in 0..self.nodes.len() {
            if self.is_held(from, node) {
                continue;
            }
            let there = &mut self.nodes[node];
            let letters = &mut there.inboxes[from].letters;
            while let Some(letter) = letters.front() {
                if letter.due > now {
                    let sooner = next.is_none_or(|next| letter.due < next);
                    next = if sooner { Some(letter.due) } else { next };
                    break;
                }
                let letter = letters.pop_front().expect("it was looked at");
                let at = Instant::now().into_std();
                for (_, topic, ear) in &there.ears {
                    let payload = letter.payload.clone();
                    if *topic == letter.topic {
                        // A full one loses it.
                        let _ = ear.try_send(Heard { payload, at });
                    }
                }
            }
        }
        next
    }
}

impl Inbox {
    fn put(&mut self, arrives: Duration, aside: Duration, topic: &Topic, payload: &Bytes) {
        self.last = self.last.max(arrives);
        let mut due = self.last + aside;
        if let Some(before) = self
            .letters
            .iter()
            .rev()
            .find(|other| other.topic == *topic)
        {
            due = due.max(before.due);
        }
        let place = self.letters.partition_point(|other| other.due <= due);
        let (topic, payload) = (topic.clone(), payload.clone());
        self.letters.insert(
            place,
            Letter {
                due,
                topic,
                payload,
            },
        );
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "End({}, {})", self.node, self.program)
    }
}

impl Bus for End {
    fn publish(&self, topic: &Topic, payload: Bytes) {
        // Who is killed says nothing more.
        let Some(now) = turmoil::sim_elapsed() else {
            return;
        };
        let mut inner = self.net.0.lock().unwrap();
        if inner.nodes[self.node].program == self.program {
            inner.send(self.node, topic, &payload, now);
        }
    }

    fn subscribe(&self, topic: &Topic, ear: Ear) -> Subscription {
        let mut inner = self.net.0.lock().unwrap();
        if inner.nodes[self.node].program != self.program {
            return Subscription::new(|| {});
        }
        let number = inner.next_ear;
        inner.next_ear += 1;
        inner.nodes[self.node]
            .ears
            .push((number, topic.clone(), ear));
        let (net, node) = (self.net.clone(), self.node);
        Subscription::new(move || {
            let mut inner = net.0.lock().unwrap();
            inner.nodes[node]
                .ears
                .retain(|(other, ..)| *other != number);
        })
    }

    fn is_connected(&self) -> bool {
        !self.net.0.lock().unwrap().is_gone(self.node)
    }
}
