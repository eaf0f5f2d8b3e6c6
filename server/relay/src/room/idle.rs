//! A room without players: how it rests, and when it ends.

use std::time::{Duration, Instant};

use super::Room;
use super::audience::Moving;
use super::loose::LooseCubes;
use crate::room_places::Occupants;

/// Time after which a room that rests is served although nothing is due.
const LONGEST_REST: Duration = Duration::from_secs(60 * 60);

impl Room {
    /// Returns when the room must be served next, unless an event comes: at the next tick or, where nobody
    /// receives anything and nothing moves, when the time of a ghost or of the room is over. Its tick goes on
    /// meanwhile, as one that leaves out the ticks before it.
    pub fn next_turn(&self) -> Instant {
        let next_tick = self.next_tick();
        let nobody_receives = self.connections.audience().is_empty() && self.edges.is_empty();
        if self.ticking.is_some() || !nobody_receives {
            return next_tick;
        }
        // The room does not end before its last ghost.
        let next_end = self.resumption.next_end();
        match next_end.or_else(|| self.connections.ends_at()) {
            Some(at) => at.max(next_tick),
            None => next_tick + LONGEST_REST,
        }
    }

    /// Begins the tick that it is by now, if the room has rested for longer than one.
    pub fn catch_up(&mut self, now: Instant) {
        if now >= self.next_tick() {
            self.tick(now);
        }
    }

    /// Returns whether the room is to end: it had no player for a while, nobody may come back to a cube in it,
    /// and it is not permanent; or its place has gone to another room.
    pub fn is_abandoned(&self, now: Instant) -> bool {
        self.connections.is_revoked()
            || (!self.edges.has_members()
                && self.resumption.is_empty()
                && self.connections.is_abandoned(now))
    }

    /// Ends a tick that nobody receives.
    pub(super) fn rest(&mut self) {
        self.connections.log.clear();
        self.connections.audience.rest();
        let loose_rest = self.loose.as_ref().is_none_or(LooseCubes::is_at_rest);
        if loose_rest && self.world.is_at_rest() && self.publisher.moving() == Moving::Nobody {
            // Nothing else is noted until somebody comes.
            if self.ticking.take().is_some() {
                self.keep();
            }
        }
    }

    /// Ends the room's rest.
    pub(super) fn begin_ticking(&mut self) {
        let metrics = &self.connections.metrics;
        self.ticking.get_or_insert_with(|| metrics.ticking());
    }

    pub(super) fn note_occupants(&mut self) {
        let has_players = self.connections.has_members() || self.edges.has_members();
        let occupants = match (has_players, self.resumption.is_empty()) {
            (true, _) => Occupants::Players,
            (false, false) => Occupants::Ghosts,
            (false, true) => Occupants::Nobody,
        };
        // A room that is revoked ends right after.
        self.connections.note_occupants(occupants);
    }
}
