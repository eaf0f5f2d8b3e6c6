//! The cubes that came, left or changed hands since the last tick.
//!
//! However often a cube does so within a tick, receivers learn the outcome, by one event at most.

use std::collections::BTreeMap;

use cubesync_protocol::{CubeId, CubeInfo, CubeKind, Event};

/// The cubes that have changed since the last tick, with what receivers know of them.
#[derive(Debug, Default)]
pub(super) struct Changed {
    cubes: BTreeMap<CubeId, Known>,
    /// The number of changes so far.
    count: u64,
}

/// What receivers know of a cube that has changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Its kind; `None`: they do not know the cube.
    kind: Option<CubeKind>,
    /// The number of its last change.
    last: u64,
}

impl Changed {
    /// Notes that a cube changes, which has been of this kind until now; `None`: it comes.
    pub(super) fn note(&mut self, cube: CubeId, before: Option<CubeKind>) {
        self.count += 1;
        let last = self.count;
        let kind = before;
        self.cubes.entry(cube).or_insert(Known { kind, last }).last = last;
    }

    /// Returns whether there are none since the last tick.
    pub(super) fn is_empty(&self) -> bool {
        self.cubes.is_empty()
    }

    /// Takes the changes since the last call, in the order of each cube's last one.
    pub(super) fn take(&mut self) -> Vec<(CubeId, Known)> {
        let mut changed: Vec<_> = std::mem::take(&mut self.cubes).into_iter().collect();
        changed.sort_unstable_by_key(|(_, known)| known.last);
        changed
    }
}

impl Known {
    /// Returns the event by which receivers learn what has become of a cube. A player who asked for a
    /// free cube gets an answer even if everything is as before.
    pub(super) fn event(self, cube: CubeId, now: Option<CubeInfo>) -> Option<Event> {
        let Some(info) = now else {
            return self.kind.map(|_| Event::Left { cube });
        };
        let Some(before) = self.kind else {
            return Some(Event::Joined(info));
        };
        match info.kind {
            CubeKind::Free { holder: Some(by) } => Some(Event::Taken { cube, by }),
            CubeKind::Free { holder: None } => Some(Event::Freed { cube }),
            now if now == before => None,
            CubeKind::Ghost => Some(Event::Ghost { cube }),
            CubeKind::Player => Some(Event::Returned { cube }),
        }
    }
}
