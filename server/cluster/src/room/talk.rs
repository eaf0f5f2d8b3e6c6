//! The messages that servers of a room exchange, and how received state is shown.

use std::collections::BTreeSet;
use std::time::Instant;

use cubesync_protocol::limits::MAX_TICK;
use cubesync_protocol::{CellId, CubeId, CubeKind};
use cubesync_relay::room::world::{EntryReason, World};
use tracing::{info, warn};

use super::home::own_free_cube;
use super::message::{Inventory, Said, Told, Word};
use super::peer::{Peer, Touch};
use super::{
    ANSWER_CUBES, IDLE_BEAT, INVENTORY_INTERVAL, MAX_PEERS, MOVE_GRACE, Outcome, STEADY_FOR,
    SharedRoom,
};
use crate::bus::{ServerId, Topic};

/// Returns what rooms must have in common to be one room: ticks per second, and number of cells.
fn kind_of(inventory: &Inventory) -> (u8, usize) {
    (inventory.tick_hz, inventory.cell_count.into())
}

impl SharedRoom {
    /// Sends a message about the room or one of its cells.
    pub(super) fn say(&self, topic: &Topic, word: Word) {
        let from = self.cluster.id();
        let said = Said { from, word };
        self.cluster.bus().publish(topic, said.to_payload());
    }

    pub(super) fn say_to(&self, server: ServerId, word: Word) {
        self.say(&Topic::RoomAt(self.room.clone(), server), word);
    }

    /// Sends a beat, which says that all updates of a tick have been sent, if a peer server may
    /// wait for it and the updates do not imply it. Now and then it includes an inventory of what
    /// was sent so far.
    pub(super) fn beat(&mut self, cells: Vec<CellId>, world: &World, now: Instant) {
        let is_due = |last: Option<Instant>, interval| {
            last.is_none_or(|at| now.saturating_duration_since(at) >= interval)
        };
        let is_steady = !is_due(self.news_at, STEADY_FOR);
        let has_inventory = is_due(self.inventory_at, INVENTORY_INTERVAL);
        // No server should wait for a beat that does not come.
        let was_steady = std::mem::replace(&mut self.is_steady, is_steady);
        let is_expected = (is_steady || was_steady) && (cells.is_empty() || !self.news_are_beats());
        if !is_expected && !has_inventory && !is_due(self.beat_at, IDLE_BEAT) {
            return;
        }
        self.beat_at = Some(now);
        let inventory = has_inventory.then(|| {
            self.inventory_at = Some(now);
            Inventory {
                tick_hz: self.tick_hz,
                cell_count: self.cell_count(),
                roster: self.roster.version,
                free_cube: own_free_cube(world),
                cells: self.export.list(self.tick),
            }
        });
        let tick = self.tick;
        let word = Word::Beat {
            tick,
            cells,
            is_steady,
            inventory,
        };
        self.say(&Topic::Room(self.room.clone()), word);
    }

    /// Returns whether an update implies that everything of its tick has been sent. This holds in a
    /// room of one cell, where there is nothing else to send.
    pub(super) fn news_are_beats(&self) -> bool {
        self.grid.cells() == 1
    }

    fn cell_count(&self) -> u16 {
        u16::try_from(self.grid.cells()).unwrap_or(u16::MAX)
    }

    /// Applies a message at once, or keeps it until its tick.
    pub(super) fn take_in(&mut self, from: ServerId, word: Word, world: &mut World, now: Instant) {
        // If a tick is farther ahead, one of the two clocks is wrong; they will agree later.
        let latest = (self.tick + 2 * u64::from(self.tick_hz)).min(MAX_TICK);
        let mut keep = |tick: u64, word: Word| {
            if let Some(peer) = self.peers.get_mut(&from)
                && tick <= latest
            {
                peer.receive(tick, word);
            }
        };
        match word {
            Word::Beat {
                tick,
                cells,
                is_steady,
                inventory,
            } => {
                let lies = inventory.as_ref().and_then(|told| told.free_cube);
                self.free_cube_lies(from, lies);
                let is_seen = |cell| self.cells.contains_key(&cell);
                if let Some(peer) = self.peers.get_mut(&from)
                    && tick <= latest
                {
                    peer.beat(tick, cells, is_steady, inventory, is_seen);
                }
            }
            Word::News { ref snapshot, .. } => {
                let (tick, cell) = (snapshot.tick, snapshot.cell);
                keep(tick, word);
                if self.news_are_beats()
                    && tick <= latest
                    && let Some(peer) = self.peers.get_mut(&from)
                {
                    let is_seen = |cell| self.cells.contains_key(&cell);
                    peer.beat(tick, vec![cell], true, None, is_seen);
                }
            }
            Word::Keyframes(ref told) => {
                let ticks = told.iter().map(|told| told.keyframe.tick);
                keep(ticks.max().unwrap_or_default(), word);
            }
            Word::Roster {
                version,
                changes,
                seats,
                gone,
            } => {
                if self.roster_changes(from, version, changes, &seats, &gone, now) {
                    for seat in seats {
                        self.consider(from, seat, world, now);
                    }
                }
            }
            Word::Ask { roster, cells } => self.answer(from, roster, &cells, world),
            Word::Take { cube, by } => self.give(from, cube, by, world, now),
            Word::Given { seat, by, pose } => self.given(from, seat, by, pose, world, now),
            Word::Refused { cube, by, holder } => {
                let before = self.asked.len();
                self.asked
                    .retain(|&(player, of, _)| (player, of) != (by, cube));
                if before > self.asked.len() {
                    let player = by;
                    self.outcomes.push(Outcome::Refused {
                        player,
                        cube,
                        holder,
                    });
                }
            }
            Word::Bye { free_cube } => {
                self.free_cube_lies(from, free_cube);
                info!(room = self.room, server = %from, "has left this room");
                if let Some(peer) = self.peers.get_mut(&from) {
                    peer.leave(self.tick, now);
                }
                self.touch_all_of(from);
            }
        }
    }

    /// Applies what each peer server has sent up to now, asks for what is missing, and gives up
    /// servers that are silent.
    pub(super) fn listen_to_each(&mut self, now: Instant) {
        for server in self.peers.keys().copied().collect::<Vec<_>>() {
            self.listen_to(server, now);
        }
    }

    fn listen_to(&mut self, server: ServerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&server) else {
            return;
        };
        let touched = &mut self.touched;
        while let Some(word) = peer.next_due(self.tick) {
            match word {
                Word::News {
                    since_ticks,
                    snapshot,
                } if self.cells.contains_key(&snapshot.cell) => {
                    peer.news(since_ticks, &snapshot, touched);
                }
                Word::Keyframes(told) => {
                    let seen = told
                        .into_iter()
                        .filter(|told| self.cells.contains_key(&told.keyframe.cell));
                    for told in seen {
                        peer.keyframe(told, touched);
                    }
                }
                _ => {}
            }
        }
        if let Some((tick, inventory)) = peer.next_inventory(self.tick) {
            let (theirs, ours) = (kind_of(&inventory), (self.tick_hz, self.grid.cells()));
            if theirs != ours {
                warn!(
                    room = self.room, %server, ?theirs, ?ours,
                    "has another --tick or --view-distance; it is left out"
                );
                if self.strangers.len() < MAX_PEERS {
                    self.strangers.insert(server);
                }
                return self.forget_peer(server);
            }
            let is_seen = |cell| self.cells.contains_key(&cell);
            peer.check(&inventory, tick, is_seen, touched);
        }
        if !self.cells.is_empty() {
            peer.awaited(self.tick, self.tick_hz.into(), touched);
        }
        let question = peer.question(now);
        let stops = peer.stop(self.tick, now, self.lost_after);
        let is_overdue = peer.is_overdue(now, self.lost_after);
        let is_over = peer
            .lost_since()
            .is_some_and(|since| now.saturating_duration_since(since) >= self.keep_lost);
        if let Some((roster, cells)) = question {
            self.metrics.questions.inc();
            self.say_to(server, Word::Ask { roster, cells });
        }
        if is_overdue {
            warn!(room = self.room, %server, "is silent: its cubes are ghosts now");
            if let Some(peer) = self.peers.get_mut(&server) {
                peer.lose(self.tick, now);
            }
            self.metrics.silences.inc();
        }
        if stops || is_overdue {
            self.touch_all_of(server);
        }
        if is_over {
            info!(room = self.room, %server, "did not come back: its cubes leave");
            self.forget_peer(server);
        }
    }

    /// Returns whether to ignore a message because the sender's room is of another kind.
    pub(super) fn is_strange(&mut self, from: ServerId, word: &Word) -> bool {
        if let Word::Beat {
            inventory: Some(inventory),
            ..
        } = word
            && kind_of(inventory) == (self.tick_hz, self.grid.cells())
        {
            self.strangers.remove(&from);
        }
        self.strangers.contains(&from)
    }

    /// Marks all cubes of a server as possibly to be shown differently.
    pub(super) fn touch_all_of(&mut self, server: ServerId) {
        let cubes = self.peers.get(&server).into_iter().flat_map(Peer::cubes);
        for cube in cubes {
            self.touched.entry(cube).or_insert(Touch::Moved);
        }
    }

    /// Answers a request with the whole roster, or with all own cubes of some cells.
    fn answer(&mut self, server: ServerId, roster: bool, cells: &[CellId], world: &World) {
        if roster {
            self.say_to(server, self.whole_roster(|_| true));
        }
        let mut told: Vec<Told> = Vec::new();
        let mut count = 0;
        let is_one = |cell: &CellId| usize::from(cell.0) < self.grid.cells();
        let cells: BTreeSet<_> = cells.iter().copied().filter(is_one).collect();
        for cell in cells {
            let whole = self.export.everything_in(cell, world);
            let cubes = whole.keyframe.cubes.len() + 1;
            if count + cubes > ANSWER_CUBES && !told.is_empty() {
                count = 0;
                self.say_to(server, Word::Keyframes(std::mem::take(&mut told)));
            }
            count += cubes;
            told.push(whole);
        }
        if !told.is_empty() {
            self.say_to(server, Word::Keyframes(told));
        }
    }

    /// Shows a cube as its owner described it, or hides it.
    pub(super) fn show_cube(
        &mut self,
        cube: CubeId,
        touch: Touch,
        world: &mut World,
        now: Instant,
    ) {
        let seat = self.claims.get(&cube);
        let home = seat.map(|seat| seat.claim.server);
        if home == Some(self.cluster.id()) || world.owns(cube) {
            return;
        }
        let peer = home.and_then(|home| self.peers.get(&home));
        if let Some(mut sighting) = peer.and_then(|peer| peer.sighting(cube)) {
            self.moving.remove(&cube);
            if world.name(cube).is_some_and(|name| name != sighting.name) {
                // At its new owner another cube already had that name.
                world.hide_remote(cube, EntryReason::Sight);
            }
            // A player who has left holds nothing, even if the message about that was lost.
            if let CubeKind::Free { holder } = &mut sighting.kind {
                *holder = holder.filter(|holder| self.claims.contains_key(holder));
            }
            if !world.update_remote(cube, sighting.kind, sighting.motion, sighting.tick) {
                let reason = match sighting.has_just_joined(self.tick, self.tick_hz) {
                    true => EntryReason::Room,
                    false => EntryReason::Sight,
                };
                // A full room shows no more cubes; there is nothing else to do.
                world.show_remote(sighting.info(cube), sighting.tick, reason);
            }
        } else if world.cube(cube).is_some() {
            let is_moving = self
                .moving
                .get(&cube)
                .is_some_and(|since| now.saturating_duration_since(*since) < MOVE_GRACE);
            if is_moving {
                self.touched.insert(cube, touch);
                return;
            }
            self.moving.remove(&cube);
            let has_left = home.is_none() || touch == Touch::Left;
            world.hide_remote(
                cube,
                match has_left {
                    true => EntryReason::Room,
                    false => EntryReason::Sight,
                },
            );
        }
    }
}
