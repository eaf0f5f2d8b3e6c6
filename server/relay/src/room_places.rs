//! The places for rooms: how many there are, how many one address may have, and which room makes place
//! for another.
//!
//! A room that nobody is in makes place for a newcomer's: empty ones first, each time the oldest of the address
//! that has the most, and then those of ghosts, the oldest first. A room with players never does. While places
//! are short, an address that has many rooms with players gets no further one, so that the last places are for
//! the others.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::by_address::{Address, Prefix};

/// Largest number of empty rooms that wait for a player to return. They have no ticks, but each is some memory,
/// and with a bus a lease that is renewed.
const MAX_EMPTY: usize = 64;

/// The share of all places below which they are short: one of so many.
const SHORT_SHARE: usize = 4;

/// The parts in which the empty rooms of a network count, a multiple of all [`Prefix::times`].
const PARTS: usize = 4;

/// The occupants of a room, by which it is kept when places are short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Occupants {
    /// Nobody.
    Nobody,
    /// Ghosts of players whose connection is lost.
    Ghosts,
    /// Players.
    Players,
}

/// Returned when there is no place for another room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no place for another room")]
pub struct NoPlace;

/// Returned when the room's place has gone to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the room's place has gone to another room")]
pub struct Revoked;

/// The places of a server's rooms.
#[derive(Debug)]
pub struct RoomPlaces {
    limit: usize,
    limit_per_address: usize,
    taken: Mutex<Taken>,
}

/// A room's place. Dropping it makes place for another room.
#[derive(Debug)]
pub struct RoomPlace {
    /// `None`: the room is on no list and never has to make place.
    places: Option<Arc<RoomPlaces>>,
    id: u64,
    occupants: Occupants,
    revoked: CancellationToken,
}

/// The rooms that have a place. Every operation takes logarithmic time.
#[derive(Debug, Default)]
struct Taken {
    rooms: HashMap<u64, Room>,
    /// All rooms but the permanent ones.
    order: BTreeSet<Rank>,
    by_network: HashMap<Network, Share>,
    /// The networks with empty rooms, of which the last one has the most.
    crowds: BTreeSet<Crowd>,
    /// The number of rooms with players, and of permanent ones.
    used: usize,
    empty: usize,
    /// The number of the last change.
    changes: u64,
}

#[derive(Debug)]
struct Room {
    /// The address that opened it, and its place in the order; `None`: the room is permanent.
    opened: Option<(Address, Rank)>,
    revoked: CancellationToken,
}

/// A room's place in an order: empty ones first, then those of ghosts, and the oldest of each first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    occupants: Occupants,
    /// The change since which it has been so.
    since: u64,
    id: u64,
}

/// A network that rooms were opened from; `None`: this machine.
type Network = Option<Prefix>;

/// The rooms of a network, which has at least one.
#[derive(Debug, Default)]
struct Share {
    order: BTreeSet<Rank>,
    /// The number of those with players.
    used: usize,
    empty: usize,
}

/// A network's place in the order of those that have the most empty rooms.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Crowd {
    /// The number of its empty rooms, in [`PARTS`] of what its share is.
    weight: usize,
    /// Its oldest empty room. Of networks with equally many, the one with the oldest is the last.
    oldest: Reverse<Rank>,
    network: Network,
}

impl RoomPlaces {
    /// Creates places for `limit` rooms, of which one address may open `limit_per_address`.
    pub fn new(limit: usize, limit_per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            limit_per_address,
            taken: Mutex::default(),
        })
    }

    /// Takes a place for a room that always exists.
    pub fn take_permanent(self: &Arc<Self>) -> RoomPlace {
        self.insert(&mut self.lock(), None)
    }

    /// Takes a place for the room of a player from an address, who is on the way into it. Another room may have
    /// to make place. This machine's own addresses have no limit but the whole.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub fn take(self: &Arc<Self>, by: Address) -> Result<RoomPlace, NoPlace> {
        let taken = &mut *self.lock();
        let left = self.limit.saturating_sub(taken.used);
        let is_short = left <= self.limit / SHORT_SHARE;
        let prefixes: Vec<_> = by.prefixes().collect();
        let is_over = |prefix: &Prefix| {
            let share = taken.by_network.get(&Some(*prefix));
            let used = share.map_or(0, |share| share.used);
            used > 0 && used >= left * prefix.times() as usize
        };
        if is_short && prefixes.iter().any(is_over) {
            return Err(NoPlace);
        }
        // The narrowest first: what makes place there makes place in the wider ones.
        for prefix in prefixes.iter().rev() {
            let limit = self
                .limit_per_address
                .saturating_mul(prefix.times() as usize);
            if let Some(share) = taken.by_network.get(&Some(*prefix))
                && share.order.len() >= limit
            {
                taken.end(share.order.first().copied())?;
            }
        }
        if taken.rooms.len() >= self.limit {
            taken.end(taken.first_to_end())?;
        }
        Ok(self.insert(taken, Some(by)))
    }

    fn insert(self: &Arc<Self>, taken: &mut Taken, by: Option<Address>) -> RoomPlace {
        let occupants = Occupants::Players;
        let id = taken.next_change();
        let since = id;
        let rank = Rank {
            occupants,
            since,
            id,
        };
        let revoked = CancellationToken::new();
        let room = Room {
            opened: by.map(|by| (by, rank)),
            revoked: revoked.clone(),
        };
        taken.enter(room.opened);
        taken.rooms.insert(id, room);
        RoomPlace {
            places: Some(Arc::clone(self)),
            id,
            occupants,
            revoked,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn next_change(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    /// Returns the room that makes place before all others.
    fn first_to_end(&self) -> Option<Rank> {
        let empty = self.crowds.last().map(|crowd| crowd.oldest.0);
        empty.or_else(|| self.order.first().copied())
    }

    /// Lets a room make place, if it is one that may.
    fn end(&mut self, rank: Option<Rank>) -> Result<(), NoPlace> {
        let rank = rank.filter(|rank| rank.occupants < Occupants::Players);
        let room = self.remove(rank.ok_or(NoPlace)?.id);
        room.ok_or(NoPlace)?.revoked.cancel();
        Ok(())
    }

    fn remove(&mut self, id: u64) -> Option<Room> {
        let room = self.rooms.remove(&id)?;
        self.leave(room.opened);
        Some(room)
    }

    /// Counts a room.
    fn enter(&mut self, opened: Option<(Address, Rank)>) {
        let Some((by, rank)) = opened else {
            self.used += 1;
            return;
        };
        let [used, empty] = counts(rank);
        self.used += used;
        self.empty += empty;
        self.order.insert(rank);
        self.change(by, |share| {
            share.used += used;
            share.empty += empty;
            share.order.insert(rank);
        });
    }

    /// Counts a room no more.
    fn leave(&mut self, opened: Option<(Address, Rank)>) {
        let Some((by, rank)) = opened else {
            self.used -= 1;
            return;
        };
        let [used, empty] = counts(rank);
        self.used -= used;
        self.empty -= empty;
        self.order.remove(&rank);
        self.change(by, |share| {
            share.used -= used;
            share.empty -= empty;
            share.order.remove(&rank);
        });
    }

    /// Changes the shares of an address, and their places among those with empty rooms.
    fn change(&mut self, by: Address, change: impl Fn(&mut Share)) {
        for network in networks(by) {
            let share = self.by_network.entry(network).or_default();
            if let Some(before) = share.crowd(network) {
                self.crowds.remove(&before);
            }
            change(share);
            self.crowds.extend(share.crowd(network));
            if share.order.is_empty() {
                self.by_network.remove(&network);
            }
        }
    }
}

/// Returns the networks to which the rooms of an address count.
fn networks(by: Address) -> impl Iterator<Item = Network> {
    let own = by.is_own().then_some(None);
    by.prefixes().map(Some).chain(own)
}

/// Returns what a room adds to the number of rooms with players, and to that of empty ones.
fn counts(rank: Rank) -> [usize; 2] {
    [Occupants::Players, Occupants::Nobody].map(|these| usize::from(rank.occupants == these))
}

impl Share {
    /// Returns its place among those with empty rooms, if it has any.
    fn crowd(&self, network: Network) -> Option<Crowd> {
        let oldest = *self.order.first().filter(|_| self.empty > 0)?;
        let times = network.map_or(1, Prefix::times) as usize;
        Some(Crowd {
            weight: self.empty * PARTS / times,
            oldest: Reverse(oldest),
            network,
        })
    }
}

impl RoomPlace {
    /// Returns the place of a room that is on no list, for a program that has no other.
    pub fn unlisted() -> Self {
        Self {
            places: None,
            id: 0,
            occupants: Occupants::Players,
            revoked: CancellationToken::new(),
        }
    }

    /// Notes who is in the room.
    ///
    /// # Errors
    /// [`Revoked`]: nobody may come in any more, and the room is to end.
    pub fn set(&mut self, occupants: Occupants) -> Result<(), Revoked> {
        let Some(places) = &self.places else {
            return Ok(());
        };
        if self.revoked.is_cancelled() {
            return Err(Revoked);
        }
        // A room that has players and keeps them is never revoked.
        if self.occupants == occupants {
            return Ok(());
        }
        let taken = &mut *places.lock();
        let since = taken.next_change();
        // It may have been revoked since.
        let room = taken.rooms.get_mut(&self.id).ok_or(Revoked)?;
        let before = room.opened;
        room.opened = before.map(|(by, before)| {
            let after = Rank {
                occupants,
                since,
                ..before
            };
            (by, after)
        });
        let after = room.opened;
        taken.leave(before);
        taken.enter(after);
        self.occupants = occupants;
        if taken.empty > MAX_EMPTY {
            // It is empty, so it may end.
            let _ = taken.end(taken.first_to_end());
        }
        Ok(())
    }

    /// Returns whether the room is to end, because its place has gone to another one.
    pub fn is_revoked(&self) -> bool {
        self.revoked.is_cancelled()
    }

    /// Waits until the place has gone to another room.
    pub async fn revoked(&self) {
        self.revoked.cancelled().await;
    }
}

impl Drop for RoomPlace {
    fn drop(&mut self) {
        if let Some(places) = &self.places {
            places.lock().remove(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    fn address(last: u8) -> Address {
        IpAddr::from([192, 0, 2, last]).into()
    }

    /// Takes a place, and lets the room have other occupants than its opener.
    fn take(places: &Arc<RoomPlaces>, last: u8, occupants: Occupants) -> RoomPlace {
        let mut place = places.take(address(last)).unwrap();
        place.set(occupants).unwrap();
        place
    }

    #[test]
    fn empty_rooms_make_place_first_and_rooms_with_players_never() {
        let places = RoomPlaces::new(5, 5);
        let mut lobby = places.take_permanent();
        lobby.set(Occupants::Nobody).unwrap();
        let ghosts = take(&places, 1, Occupants::Ghosts);
        let older = take(&places, 2, Occupants::Nobody);
        let newer = take(&places, 1, Occupants::Nobody);
        let mut players = take(&places, 3, Occupants::Players);
        let revoked = |places: [&RoomPlace; 3]| places.map(RoomPlace::is_revoked);
        let mut newcomers = Vec::new();
        for (last, expected) in [
            (4, [true, false, false]),
            (5, [true, true, false]),
            (6, [true, true, true]),
        ] {
            newcomers.push(take(&places, last, Occupants::Players));
            assert_eq!(revoked([&older, &newer, &ghosts]), expected);
        }
        assert_eq!(places.take(address(7)).unwrap_err(), NoPlace);
        assert!(!players.is_revoked() && !lobby.is_revoked());
        players.set(Occupants::Nobody).unwrap();
        let _next = take(&places, 7, Occupants::Players);
        assert!(players.is_revoked() && !lobby.is_revoked());
        assert_eq!(players.set(Occupants::Players), Err(Revoked));
    }

    #[test]
    fn an_address_makes_place_in_its_own_share() {
        let places = RoomPlaces::new(100, 2);
        let foreign = take(&places, 2, Occupants::Nobody);
        let first = take(&places, 1, Occupants::Nobody);
        let second = take(&places, 1, Occupants::Players);
        let _third = take(&places, 1, Occupants::Players);
        assert!(first.is_revoked() && !foreign.is_revoked());
        assert_eq!(places.take(address(1)).unwrap_err(), NoPlace);
        drop(second);
        let _fourth = places.take(address(1)).unwrap();
        // A household with many addresses is one, and this machine has no share.
        let [here, there, home] = ["2001:db8::1", "2001:db8::2", "::1"]
            .map(|text| Address::from(text.parse::<IpAddr>().unwrap()));
        let of = |address| places.take(address).unwrap();
        let _household = [of(here), of(there)];
        assert!(places.take(here).is_err());
        let _own: Vec<_> = (0..3).map(|_| of(home)).collect();
    }

    #[test]
    fn sixty_three_addresses_cannot_keep_everybody_else_out() {
        let places = RoomPlaces::new(1_000, 16);
        let _lobby = places.take_permanent();
        let mut held = Vec::new();
        for _ in 0..16 {
            held.extend((1..=63).filter_map(|last| places.take(address(last)).ok()));
        }
        assert!(held.len() > 63 * 15, "{}", held.len());
        // Newcomers still find places.
        for last in 64..70 {
            held.extend((0..2).map(|_| places.take(address(last)).unwrap()));
        }
        // The last place is for somebody who has none.
        let somebody = |number| IpAddr::from(Ipv4Addr::from_bits(number));
        while let Ok(place) = places.take(somebody(held.len() as u32).into()) {
            held.push(place);
        }
        assert_eq!(held.len(), 999);
    }

    #[test]
    fn a_few_addresses_with_many_empty_rooms_end_nobody_elses() {
        let numbers = 0..2 * MAX_EMPTY as u16;
        let four = numbers.clone().map(|number| address((number % 4) as u8));
        // All networks of a /48 have no more than four addresses together.
        let in_48 = numbers.map(|number| {
            let ip = Ipv6Addr::new(0x2001, 0xdb8, 7, number << 8, 0, 0, 0, 1);
            Address::from(IpAddr::from(ip))
        });
        for many in [four.collect::<Vec<_>>(), in_48.collect()] {
            let places = RoomPlaces::new(1_000, 16);
            let empty = |by: Address| {
                let mut place = places.take(by).unwrap();
                place.set(Occupants::Nobody).unwrap();
                place
            };
            let honest = empty(address(5));
            let own = empty(IpAddr::from(Ipv4Addr::LOCALHOST).into());
            let many: Vec<_> = many.into_iter().map(empty).collect();
            assert!(!honest.is_revoked() && !own.is_revoked());
            let empty = many.iter().filter(|place| !place.is_revoked());
            assert_eq!(empty.count(), MAX_EMPTY - 2);
        }
    }

    #[test]
    fn an_address_that_opens_and_leaves_rooms_has_its_share_of_them_and_leaves_no_trace() {
        let places = RoomPlaces::new(1_000, 16);
        let mut opened = Vec::new();
        for number in 0..10_000_u32 {
            let by = address((number % 63) as u8);
            let mut place = places.take(by).unwrap();
            place.set(Occupants::Nobody).unwrap();
            opened.push(place);
            let empty = opened.iter().filter(|place| !place.is_revoked());
            if number % 1_000 == 999 {
                assert_eq!(empty.count(), MAX_EMPTY);
            }
        }
        drop(opened);
        let taken = places.lock();
        assert!(taken.rooms.is_empty() && taken.order.is_empty());
        assert!(taken.by_network.is_empty() && taken.crowds.is_empty());
        assert_eq!((taken.used, taken.empty), (0, 0));
    }
}
