//! What happened in a run, in order.

use std::cell::RefCell;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

/// Something that must happen in some run, or the runs try less than they seem to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Count {
    /// A player got their cube back.
    Resumed,
    /// A player got their cube back at another server.
    Moved,
    /// A player came back as somebody new.
    Renewed,
    /// A player was put back.
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
    ToldWhen,
    /// A player gave up on a server of which nothing was heard.
    Silence,
    /// A cube came into or went out of sight.
    Sight,
    /// Servers that did not hear each other had a holder of the free cube each.
    TwoHolders,
    /// Two servers showed different rooms.
    Split,
}

impl Count {
    /// What happens with one server.
    pub const ALONE: &[Self] = &[
        Self::Resumed,
        Self::Renewed,
        Self::Corrected,
        Self::Refused,
        Self::Held,
        Self::Left,
        Self::Ghost,
        Self::ToldWhen,
        Self::Silence,
        Self::Sight,
    ];

    /// What happens with several.
    pub const CLUSTER: &[Self] = &[
        Self::Resumed,
        Self::Moved,
        Self::Renewed,
        Self::Refused,
        Self::Held,
        Self::Left,
        Self::Ghost,
        Self::ToldWhen,
        Self::Sight,
        Self::TwoHolders,
        Self::Split,
    ];
}

/// Shared by all of a run.
#[derive(Clone)]
pub struct Journal(Rc<RefCell<Inner>>);

struct Inner {
    is_told: bool,
    hash: DefaultHasher,
    counts: Vec<Count>,
}

impl Journal {
    pub fn new(is_told: bool) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            is_told,
            hash: DefaultHasher::new(),
            counts: Vec::new(),
        })))
    }

    /// Something happened.
    pub fn note(&self, at: Duration, who: &str, what: impl Debug) {
        let line = format!("{:9.4} {who}: {what:?}", at.as_secs_f64());
        let mut inner = self.0.borrow_mut();
        line.hash(&mut inner.hash);
        if inner.is_told {
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

/// How often each happened.
pub fn summary(counts: &[Count], wanted: &[Count]) -> String {
    let of = |wanted| counts.iter().filter(|&&count| count == wanted).count();
    let words = wanted
        .iter()
        .map(|&wanted| format!("{wanted:?} {}", of(wanted)));
    words.collect::<Vec<_>>().join(", ")
}
