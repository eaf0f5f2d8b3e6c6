//! The log of a run's events.

use std::cell::RefCell;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

/// An event that must occur in some run, so that the runs are known to cover it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Count {
    /// A player resumed with their cube.
    Resumed,
    /// A player resumed with their cube at another server.
    ResumedElsewhere,
    /// A player came back with a new cube.
    Rejoined,
    /// A player went on at another server on the same connection.
    Continued,
    /// A player did so with a new cube.
    ContinuedAnew,
    /// The server corrected a player's pose.
    Corrected,
    /// A player was too late to take the free cube.
    Refused,
    /// A player held the free cube.
    Held,
    /// A player left for good and came again.
    Left,
    /// A player's cube was a ghost.
    Ghost,
    /// The server told a player to come back later.
    RetryAfter,
    /// A player gave up on a silent server.
    Silence,
    /// A cube appeared or disappeared at the limit of the view distance.
    Sight,
    /// A datagram has brought a player a snapshot before the stream did.
    SnapshotByDatagram,
    /// A datagram has brought the server a sample before the stream did.
    SampleByDatagram,
    /// A server became the owner of the room.
    Owner,
    /// A server became an edge.
    Edge,
    /// A server without contact went on alone.
    Island,
}

impl Count {
    /// The events expected with one server.
    pub const ALONE: &[Self] = &[
        Self::Resumed,
        Self::Rejoined,
        Self::Corrected,
        Self::Refused,
        Self::Held,
        Self::Left,
        Self::Ghost,
        Self::RetryAfter,
        Self::Silence,
        Self::Sight,
        Self::SnapshotByDatagram,
        Self::SampleByDatagram,
    ];

    /// The events expected with several servers.
    pub const CLUSTER: &[Self] = &[
        Self::Resumed,
        Self::ResumedElsewhere,
        Self::Rejoined,
        Self::Continued,
        Self::ContinuedAnew,
        Self::Refused,
        Self::Held,
        Self::Left,
        Self::Ghost,
        Self::RetryAfter,
        Self::Sight,
        Self::SnapshotByDatagram,
        Self::SampleByDatagram,
        Self::Owner,
        Self::Edge,
        Self::Island,
    ];
}

/// A log that all parts of a run share.
#[derive(Clone)]
pub struct EventLog(Rc<RefCell<Inner>>);

struct Inner {
    is_printed: bool,
    hash: DefaultHasher,
    counts: Vec<Count>,
}

impl EventLog {
    pub fn new(is_printed: bool) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            is_printed,
            hash: DefaultHasher::new(),
            counts: Vec::new(),
        })))
    }

    /// Adds an event.
    pub fn record(&self, at: Duration, who: &str, what: impl Debug) {
        let line = format!("{:9.4} {who}: {what:?}", at.as_secs_f64());
        let mut inner = self.0.borrow_mut();
        line.hash(&mut inner.hash);
        if inner.is_printed {
            eprintln!("{line}");
        }
    }

    pub fn count(&self, what: Count) {
        self.0.borrow_mut().counts.push(what);
    }

    pub fn hash(&self) -> u64 {
        self.0.borrow().hash.finish()
    }

    pub fn counts(&self) -> Vec<Count> {
        self.0.borrow().counts.clone()
    }
}

/// Returns how often each expected event occurred.
pub fn summary(counts: &[Count], expected: &[Count]) -> String {
    let number = |expected| counts.iter().filter(|&&count| count == expected).count();
    let parts = expected
        .iter()
        .map(|&expected| format!("{expected:?} {}", number(expected)));
    parts.collect::<Vec<_>>().join(", ")
}
