//! The homes (owners) of cubes, and how a cube gets another one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cubesync_protocol::{CubeId, CubeKind, Event, Pose};
use cubesync_relay::room::backplane::Peers;
use cubesync_relay::room::world::{FREE_CUBE, World};
use tracing::info;

use super::message::{Claim, Seat, Word};
use super::peer::{Peer, Touch};
use super::{IDLE_BEAT, INVENTORY_INTERVAL, MAX_CLAIMS, MAX_PEERS, SharedRoom};
use crate::bus::{ServerId, Topic};

/// The time within which a server that was given the free cube confirms it: with its roster, or
/// with the next inventory, which reveals to others that they missed the roster.
const CONFIRMED_WITHIN: Duration = INVENTORY_INTERVAL.saturating_add(IDLE_BEAT);

/// The time after which a server that is alone counts as having been here before any that comes
/// later.
const ALONE_AFTER: Duration = Duration::from_secs(5);

impl SharedRoom {
    /// Makes this server the owner of a cube.
    pub(super) fn claim_as(&mut self, cube: CubeId, term: u32, is_firm: bool) {
        let claim = self.own_claim(term, is_firm);
        let token = None;
        self.claims.insert(cube, Seat { cube, claim, token });
        if cube == FREE_CUBE {
            self.free_cube.term = self.free_cube.term.max(term);
            self.free_cube.unconfirmed_since = None;
        }
        self.roster.changed.insert(cube);
    }

    pub(super) fn own_claim(&self, term: u32, is_firm: bool) -> Claim {
        Claim {
            term,
            is_firm,
            server: self.cluster.id(),
        }
    }

    fn is_here(&self, cube: CubeId) -> bool {
        let seat = self.claims.get(&cube);
        seat.is_some_and(|seat| seat.claim.server == self.cluster.id())
    }

    /// Notes which of the own cubes came and went in a tick.
    pub(super) fn note(&mut self, event: &Event, world: &World) {
        let cube = event.cube();
        match event {
            Event::Joined(_) | Event::Entered(_) => {
                // It may have got another owner before the tick was over.
                if !self.is_here(cube) && world.owns(cube) {
                    // A server that starts alone gives way to one that was there before.
                    self.claim_as(cube, 0, cube != FREE_CUBE);
                }
                self.roster.changed.insert(cube);
            }
            Event::Left { .. } => {
                if self.is_here(cube) {
                    self.claims.remove(&cube);
                }
                self.roster.changed.insert(cube);
            }
            Event::Exited { .. } => {
                self.roster.changed.insert(cube);
            }
            _ => {}
        }
    }

    /// Sends how the own cubes have changed since the last roster.
    pub(super) fn tell_roster(&mut self) {
        if self.roster.changed.is_empty() {
            return;
        }
        let before = self.roster.version;
        self.roster.version += 1;
        let changed = std::mem::take(&mut self.roster.changed);
        let (here, gone): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|&cube| self.is_here(cube));
        let seats = here
            .iter()
            .filter_map(|cube| self.claims.get(cube).copied());
        let word = Word::Roster {
            version: self.roster.version,
            changes: Some(before),
            seats: seats.collect(),
            gone,
        };
        self.say(&Topic::Room(self.room.clone()), word);
    }

    /// Returns a roster of the cubes that `is_told` selects. It may include cubes of other servers:
    /// an owner may have just died, and its players may turn up elsewhere.
    pub(super) fn whole_roster(&self, is_told: impl Fn(&Seat) -> bool) -> Word {
        let seats = self.claims.values().copied().filter(is_told);
        Word::Roster {
            version: self.roster.version,
            changes: None,
            seats: seats.collect(),
            gone: Vec::new(),
        }
    }

    /// Forgets the cubes that a server does not own any more. Returns false if its roster is not
    /// known well enough for that.
    pub(super) fn roster_changes(
        &mut self,
        from: ServerId,
        version: u64,
        changes: Option<u64>,
        seats: &[Seat],
        gone: &[CubeId],
        now: Instant,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else {
            return false;
        };
        match changes {
            Some(before) if peer.roster == Some(before) => {
                peer.roster = Some(version);
                self.forget(from, gone.iter().copied());
            }
            Some(_) => {
                peer.roster = None;
                return false;
            }
            None => {
                peer.roster = Some(version);
                let listed: BTreeSet<_> = seats.iter().map(|seat| seat.cube).collect();
                let is_gone =
                    |seat: &&Seat| seat.claim.server == from && !listed.contains(&seat.cube);
                let gone = self.claims.values().filter(is_gone);
                let gone: Vec<_> = gone.map(|seat| seat.cube).collect();
                self.forget(from, gone.into_iter());
                for seat in seats {
                    self.hear_of(seat.claim.server, now);
                }
            }
        }
        true
    }

    /// Adds a server that is known only from other servers' messages, as a lost one.
    fn hear_of(&mut self, server: ServerId, now: Instant) {
        let is_known = self.peers.contains_key(&server) || self.forgotten.contains(&server);
        // The remaining places are kept for servers that are in contact.
        let has_place = self.peers.len() < MAX_PEERS / 2;
        if server != self.cluster.id() && !is_known && has_place {
            let mut peer = Peer::new(now);
            peer.lose(self.tick, now);
            self.peers.insert(server, peer);
        }
    }

    /// Removes a server from the room for good.
    pub(super) fn forget_peer(&mut self, server: ServerId) {
        self.touch_all_of(server);
        self.peers.remove(&server);
        self.forgotten.push_front(server);
        self.forgotten.truncate(MAX_PEERS);
        let seats = self.claims.values();
        let cubes = seats.filter(|seat| seat.claim.server == server && seat.cube != FREE_CUBE);
        let cubes: Vec<_> = cubes.map(|seat| seat.cube).collect();
        self.forget(server, cubes.into_iter());
        // Other servers may have claims that seemed to be older than those.
        self.ask_everybody();
    }

    /// Asks all other servers to send their rosters again.
    fn ask_everybody(&mut self) {
        for peer in self.peers.values_mut() {
            peer.roster = None;
        }
    }

    /// Removes a server's claims to these cubes.
    fn forget(&mut self, server: ServerId, cubes: impl Iterator<Item = CubeId>) {
        for cube in cubes {
            let seat = self.claims.get(&cube);
            if seat.is_some_and(|seat| seat.claim.server == server) {
                self.claims.remove(&cube);
                self.touch(cube);
            }
        }
    }

    /// Considers a claim that a server owns a cube.
    pub(super) fn consider(&mut self, from: ServerId, seat: Seat, world: &mut World, now: Instant) {
        let (cube, claim) = (seat.cube, seat.claim);
        if cube != FREE_CUBE && claim.server != from && self.is_stale_hearsay(claim.server) {
            return;
        }
        let own = self.cluster.id();
        let known = self.claims.get(&cube).map(|known| known.claim);
        let is_there = |server: ServerId| {
            let peer = self.peers.get(&server);
            server == own || peer.is_some_and(Peer::is_live)
        };
        let is_old = match known {
            // Its claim may never have reached the other servers, in which case no server makes a
            // greater one.
            Some(known) if cube == FREE_CUBE && !is_there(known.server) => false,
            // The owner itself knows best.
            Some(known) if claim.server == from => known > claim,
            Some(known) => known >= claim,
            None => false,
        };
        if cube == FREE_CUBE && claim.server == own && !is_old && !world.owns(cube) {
            if claim.term >= self.free_cube.term {
                // The cube was given to this server, but the message was lost.
                self.claim_as(cube, claim.term, claim.is_firm);
                world.adopt_free_cube(self.free_cube.pose);
            }
            return;
        }
        if claim.server == own || is_old {
            if known.is_some_and(|known| known.server == own) {
                // The sender does not know yet that the cube is here.
                self.roster.changed.insert(cube);
            }
            return;
        }
        if known.is_none() && self.claims.len() >= MAX_CLAIMS {
            return;
        }
        self.claims.insert(cube, seat);
        self.touch(cube);
        if cube == FREE_CUBE {
            self.free_cube.term = self.free_cube.term.max(claim.term);
            self.free_cube.unconfirmed_since = (claim.server != from).then_some(now);
        }
        if known.is_some_and(|known| known.server != claim.server) {
            self.moving.insert(cube, now);
        }
        if world.owns(cube) {
            info!(room = self.room, %cube, home = %claim.server, "is at home elsewhere now");
            self.outcomes.push(super::Outcome::Migrated(cube));
            world.yield_cube(cube);
        }
    }

    /// Marks a cube, and what it holds, as possibly to be shown differently.
    fn touch(&mut self, cube: CubeId) {
        for cube in [cube, FREE_CUBE] {
            self.touched.entry(cube).or_insert(Touch::Moved);
        }
    }

    /// Returns whether to ignore what others report of a server, because it is gone or can be asked
    /// itself.
    fn is_stale_hearsay(&self, of: ServerId) -> bool {
        let peer = self.peers.get(&of);
        self.forgotten.contains(&of)
            || peer.is_some_and(|peer| peer.is_live() && peer.roster.is_some())
    }

    /// Gives a free cube to a player of another server who asks for it, if nobody holds it.
    pub(super) fn give(
        &mut self,
        to: ServerId,
        cube: CubeId,
        by: CubeId,
        world: &mut World,
        now: Instant,
    ) {
        let known = world.cube(cube).filter(|_| world.owns(cube));
        let holder = match known.as_ref().map(|known| known.kind) {
            Some(CubeKind::Free { holder }) => holder,
            _ => None,
        };
        let seat = self.claims.get(&cube);
        let free = known.filter(|known| matches!(known.kind, CubeKind::Free { holder: None }));
        let Some((known, seat)) = free.zip(seat) else {
            return self.say_to(to, Word::Refused { cube, by, holder });
        };
        let claim = Claim {
            term: seat.claim.term.saturating_add(1),
            is_firm: true,
            server: to,
        };
        let token = None;
        let seat = Seat { cube, claim, token };
        let pose = known.pose;
        self.consider(self.cluster.id(), seat, world, now);
        let word = Word::Given { seat, by, pose };
        self.say(&Topic::Room(self.room.clone()), word);
    }

    /// Takes in that a free cube has got another owner: perhaps this server, since a player here
    /// wanted it.
    pub(super) fn given(
        &mut self,
        from: ServerId,
        seat: Seat,
        by: CubeId,
        pose: Pose,
        world: &mut World,
        now: Instant,
    ) {
        let (cube, claim) = (seat.cube, seat.claim);
        if claim.server != self.cluster.id() {
            return self.consider(from, seat, world, now);
        }
        let before = self.asked.len();
        self.asked
            .retain(|&(player, of, _)| (player, of) != (by, cube));
        let is_asked = self.asked.len() < before;
        let known = self.claims.get(&cube).map(|known| known.claim);
        // Another server's report may have come first.
        let is_here = known == Some(claim) && is_asked;
        if cube != FREE_CUBE || known >= Some(claim) && !is_here {
            return;
        }
        if !is_here {
            self.claim_as(cube, claim.term, claim.is_firm);
            world.adopt_free_cube(Some(pose));
        }
        // A player who waited for too long has been refused already, and one who is gone has not
        // taken it.
        if is_asked {
            let _ = world.take(by, cube);
        }
    }

    /// Ensures that the free cube has an owner that is there. If it has none, the server with the
    /// lowest id becomes its owner. A server without contact to others owns it only until another
    /// one objects.
    pub(super) fn mind_free_cube(&mut self, world: &mut World, now: Instant) {
        let own = self.cluster.id();
        let is_past = |since: Option<Instant>, after| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= after)
        };
        let connected_since = &mut self.free_cube.connected_since;
        *connected_since = match self.cluster.bus().is_connected() {
            true => connected_since.or(Some(now)),
            false => None,
        };
        let is_alone = self.peers.is_empty();
        let listens_for = if is_alone {
            ALONE_AFTER
        } else {
            self.lost_after
        };
        let has_listened = is_past(*connected_since, listens_for);
        let known = self.claims.get(&FREE_CUBE).map(|seat| seat.claim);
        if let Some(known) = known
            && known.server == own
        {
            // Servers that are out of contact may claim it, and a server that is alone gives way to
            // them. But one that has been alone for a while does not give way to one that has just
            // come.
            let is_heard = |peer: &Peer| peer.is_live() && peer.roster.is_some();
            let hears_all = self.peers.values().all(is_heard);
            let was_first = is_alone && known.term > 0;
            if !known.is_firm && has_listened && hears_all && !was_first {
                let term = self.free_cube.term.saturating_add(1);
                self.claim_as(FREE_CUBE, term, !is_alone);
            }
            return;
        }
        let home = known.and_then(|known| self.peers.get(&known.server));
        let has_home = home.is_some_and(|home| !home.is_surely_gone(now));
        if is_past(self.free_cube.unconfirmed_since, CONFIRMED_WITHIN) {
            // Either no server has it, or its owner's claim seemed to be older than this one.
            self.claims.remove(&FREE_CUBE);
            self.free_cube.unconfirmed_since = None;
            self.ask_everybody();
        } else if has_home {
            return;
        }
        if !self.is_settled(now) {
            return;
        }
        let mut live = self.peers.iter().filter(|(_, peer)| peer.is_live());
        let hears_somebody = live.clone().next().is_some();
        if live.any(|(&server, _)| server < own) {
            return;
        }
        let term = self.free_cube.term.saturating_add(1);
        self.claim_as(FREE_CUBE, term, hears_somebody);
        info!(room = self.room, "the free cube is at home here now");
        world.adopt_free_cube(self.free_cube.pose);
    }

    /// Notes where the free cube is, if the sender owns it.
    pub(super) fn free_cube_lies(&mut self, from: ServerId, pose: Option<Pose>) {
        let home = self.claims.get(&FREE_CUBE).map(|seat| seat.claim.server);
        if home == Some(from) {
            self.free_cube.pose = pose.or(self.free_cube.pose);
        }
    }
}

/// Returns where the free cube is, if this server owns it.
pub(super) fn own_free_cube(world: &World) -> Option<Pose> {
    world.pose(FREE_CUBE).filter(|_| world.owns(FREE_CUBE))
}
