//! Which server is the home of which cube, and how cubes get another home.

use std::time::Instant;

use cubesync_protocol::{CubeId, CubeKind, Event, Pose};
use tracing::info;

use super::Peers;
use super::message::{Claim, Seat, Word};
use super::peer::{LOST_AFTER, Peer, Touch};
use crate::bus::{ServerId, Topic};
use crate::room::world::{FREE_CUBE, World};

impl Peers {
    /// A cube is at home here from now on.
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

    /// Takes in which of the own cubes came and went in a tick.
    pub(super) fn note(&mut self, event: &Event, world: &World) {
        let cube = event.cube();
        match event {
            Event::Joined(_) | Event::Entered(_) => {
                // It may have got another home before the tick was over.
                if !self.is_here(cube) && world.is_home(cube) {
                    // Who begins alone gives way to who was there before.
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

    /// Tells how the own cubes have changed since the last time.
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

    /// All cubes: the own ones, and those of others as they are known here. The home of some may have
    /// just died, and its players may turn up elsewhere.
    pub(super) fn whole_roster(&self) -> Word {
        let seats = self.claims.values().copied();
        Word::Roster {
            version: self.roster.version,
            changes: None,
            seats: seats.collect(),
            gone: Vec::new(),
        }
    }

    /// Takes in which cubes are not at home with a server any more; false if its roster is not known well
    /// enough for that.
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
                let listed: Vec<_> = seats.iter().map(|seat| seat.cube).collect();
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

    /// A server that is only known from what others say of it is gone.
    fn hear_of(&mut self, server: ServerId, now: Instant) {
        if server != self.cluster.id() && !self.peers.contains_key(&server) {
            let mut peer = Peer::new(now);
            peer.lose(self.tick, now);
            self.peers.insert(server, peer);
        }
    }

    /// A server is out of the room for good.
    pub(super) fn forget_peer(&mut self, server: ServerId) {
        self.touch_all_of(server);
        self.peers.remove(&server);
        let seats = self.claims.values();
        let cubes = seats.filter(|seat| seat.claim.server == server && seat.cube != FREE_CUBE);
        let cubes: Vec<_> = cubes.map(|seat| seat.cube).collect();
        self.forget(server, cubes.into_iter());
        // Others may have claims that seemed to be older than those.
        for peer in self.peers.values_mut() {
            peer.roster = None;
        }
    }

    /// These cubes are not at home with a server any more.
    fn forget(&mut self, server: ServerId, cubes: impl Iterator<Item = CubeId>) {
        for cube in cubes {
            let seat = self.claims.get(&cube);
            if seat.is_some_and(|seat| seat.claim.server == server) {
                self.claims.remove(&cube);
                self.touched.entry(cube).or_insert(Touch::Moved);
            }
        }
    }

    /// Takes in that a server says to be the home of a cube.
    pub(super) fn consider(&mut self, from: ServerId, seat: Seat, world: &mut World, now: Instant) {
        let (cube, claim) = (seat.cube, seat.claim);
        let own = self.cluster.id();
        let known = self.claims.get(&cube).map(|known| known.claim);
        let is_there = |server: ServerId| {
            let peer = self.peers.get(&server);
            server == own || peer.is_some_and(Peer::is_live)
        };
        let is_old = match known {
            // Its claim may never have reached the others, so that nobody makes a greater one.
            Some(known) if cube == FREE_CUBE && !is_there(known.server) => false,
            // Its home knows best.
            Some(known) if claim.server == from => known > claim,
            Some(known) => known >= claim,
            None => false,
        };
        if cube == FREE_CUBE && claim.server == own && !is_old && !world.is_home(cube) {
            if claim.term >= self.free_cube.term {
                // It was given here, and nobody here was told.
                self.claim_as(cube, claim.term, claim.is_firm);
                world.adopt_free_cube(None);
            }
            return;
        }
        if claim.server == own || is_old {
            if known.is_some_and(|known| known.server == own) {
                // It does not know yet that the cube is here.
                self.roster.changed.insert(cube);
            }
            return;
        }
        self.claims.insert(cube, seat);
        self.touched.entry(cube).or_insert(Touch::Moved);
        if cube == FREE_CUBE {
            self.free_cube.term = self.free_cube.term.max(claim.term);
            self.free_cube.unconfirmed_since = (claim.server != from).then_some(now);
        }
        if known.is_some_and(|known| known.server != claim.server) {
            self.moving.insert(cube, now);
        }
        if world.is_home(cube) {
            info!(room = self.room, %cube, home = %claim.server, "is at home elsewhere now");
            self.outcomes.push(super::Outcome::Moved(cube));
            world.surrender(cube);
        }
    }

    /// Gives a free cube to a player of another server who asks for it, if nobody has it.
    pub(super) fn give(
        &mut self,
        to: ServerId,
        cube: CubeId,
        by: CubeId,
        world: &mut World,
        now: Instant,
    ) {
        let known = world.cube(cube).filter(|_| world.is_home(cube));
        let holder = match known.as_ref().map(|known| known.kind) {
            Some(CubeKind::Free { holder }) => holder,
            _ => None,
        };
        let seat = self.claims.get(&cube);
        let (Some(known), Some(seat), None) = (known, seat, holder) else {
            return self.say_to(to, Word::Refused { cube, by, holder });
        };
        if !matches!(known.kind, CubeKind::Free { .. }) {
            return self.say_to(to, Word::Refused { cube, by, holder });
        }
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

    /// A free cube has got another home: perhaps here, since a player here wanted it.
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
        // Hearsay may have come first.
        let is_here = known == Some(claim) && is_asked;
        if cube != FREE_CUBE || known >= Some(claim) && !is_here {
            return;
        }
        if !is_here {
            self.claim_as(cube, claim.term, claim.is_firm);
            world.adopt_free_cube(Some(pose));
        }
        // Who is gone meanwhile has not taken it.
        let _ = world.take(by, cube);
    }

    /// Sees to it that the free cube has a home that is there. If it has none, the server with the lowest
    /// id is it; who hears nobody is it only until somebody says otherwise.
    pub(super) fn mind_free_cube(&mut self, world: &mut World, now: Instant) {
        let own = self.cluster.id();
        let is_past = |since: Option<Instant>| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= LOST_AFTER)
        };
        let connected_since = &mut self.free_cube.connected_since;
        *connected_since = match self.cluster.bus().is_connected() {
            true => connected_since.or(Some(now)),
            false => None,
        };
        let is_connected = is_past(*connected_since);
        let known = self.claims.get(&FREE_CUBE).map(|seat| seat.claim);
        if let Some(known) = known
            && known.server == own
        {
            // Who else claims it has been heard by now.
            if !known.is_firm && is_connected {
                let term = self.free_cube.term.saturating_add(1);
                self.claim_as(FREE_CUBE, term, true);
            }
            return;
        }
        let home = known.and_then(|known| self.peers.get(&known.server));
        let has_home = home.is_some_and(Peer::is_live);
        if has_home && !is_past(self.free_cube.unconfirmed_since) || !self.is_settled(now) {
            return;
        }
        let mut live = self.peers.iter().filter(|(_, peer)| peer.is_live());
        let hears_somebody = live.clone().next().is_some();
        if live.any(|(&server, _)| server < own) {
            return;
        }
        let term = self.free_cube.term.saturating_add(hears_somebody.into());
        self.claim_as(FREE_CUBE, term, hears_somebody);
        info!(room = self.room, "the free cube is at home here now");
        world.adopt_free_cube(None);
    }
}
