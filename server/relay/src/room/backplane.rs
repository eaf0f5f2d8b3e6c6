//! A room's view of the other servers that show it, and its trivial implementation for a server alone.
//!
//! The room's task knows other servers only through these traits, whose methods it calls a few times a
//! tick, never once a cube.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cubesync_protocol::{CellId, CubeId, ResumeToken, ServerAddress};

use super::RoomSettings;
use super::world::{Changes, Ids, World};

/// The connection between servers that have rooms of the same names.
pub trait Backplane: fmt::Debug + Send + Sync {
    /// Connects a room that opens `now`.
    fn open_room(self: Arc<Self>, settings: &RoomSettings, now: Instant) -> Box<dyn Peers>;
}

/// The other servers that show a room.
pub trait Peers: Any + fmt::Debug + Send {
    /// Returns the numbers for the cubes of players who come in here.
    fn cube_ids(&self) -> Ids;

    /// Returns the time by which the room's ticks are numbered.
    fn time(&self) -> Arc<dyn TimeSource>;

    /// Returns the addresses of the other servers that show the room.
    fn addresses(&self) -> Vec<ServerAddress>;

    /// Returns whether this server has had time to learn which others show the room.
    fn is_settled(&self, now: Instant) -> bool;

    /// Counts the cubes that all servers together are known to have; 0 where nobody counts.
    fn cube_count(&self) -> usize;

    /// Notes the token with which the player of a cube that this server owns may come back.
    fn token_issued(&mut self, cube: CubeId, token: ResumeToken);

    /// Makes this server the owner of the cube whose player has a token, if another server owns it.
    fn migrate(&mut self, token: ResumeToken) -> Option<CubeId>;

    /// Asks the owner of a free cube to give it to a player here. False if there is nobody to ask; else
    /// the player gets it, or an [`Outcome`] refuses it.
    fn request(&mut self, player: CubeId, cube: CubeId, now: Instant) -> bool;

    /// Sends what happened in a tick to the cubes that this server owns.
    fn publish(&mut self, tick: u64, changes: &mut Changes, world: &World, now: Instant);

    /// Returns the longest time that the present tick waits for updates of other servers; `None` if it need
    /// not wait.
    fn wait(&self) -> Option<Duration>;

    /// Becomes ready when there is something to [apply](Self::apply_received).
    fn poll_received(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Applies what other servers have sent, as far as it need not wait for its tick.
    fn apply_received(&mut self, world: &mut World, now: Instant) -> Vec<Outcome>;

    /// Ends the wait for a tick: moves the cubes that other servers own, of the cells that a receiver
    /// here sees, and adds what changed about them.
    fn finish_tick(
        &mut self,
        visible: &mut dyn Iterator<Item = CellId>,
        changes: &mut Changes,
        world: &mut World,
        now: Instant,
    ) -> Vec<Outcome>;

    /// Announces to the other servers that this one no longer shows the room.
    fn leave(&self, world: &World);
}

/// The time by which ticks are numbered.
pub trait TimeSource: fmt::Debug + Send + Sync {
    /// Returns the time at an instant, in nanoseconds.
    fn time_ns(&self, now: Instant) -> u64;

    /// Returns the first instant at which the time is at least `time_ns`.
    fn instant(&self, time_ns: u64) -> Instant;
}

/// A change for a room's players that another server has caused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A player of this server has moved to another one.
    Migrated(CubeId),
    /// A player does not get a free cube.
    Refused {
        /// The player who asked for it.
        player: CubeId,
        /// The free cube.
        cube: CubeId,
        /// The player who holds it, if that is known.
        holder: Option<CubeId>,
    },
}

/// The backplane of a server that is alone.
#[derive(Debug, Clone, Copy)]
pub struct Alone;

impl Backplane for Alone {
    fn open_room(self: Arc<Self>, _: &RoomSettings, now: Instant) -> Box<dyn Peers> {
        Box::new(NoPeers { opened: now })
    }
}

/// No other servers. The time begins when the room opens.
#[derive(Debug)]
struct NoPeers {
    opened: Instant,
}

impl Peers for NoPeers {
    fn cube_ids(&self) -> Ids {
        Ids::counted()
    }

    fn time(&self) -> Arc<dyn TimeSource> {
        Arc::new(TimeSince(self.opened))
    }

    fn addresses(&self) -> Vec<ServerAddress> {
        Vec::new()
    }

    fn is_settled(&self, _: Instant) -> bool {
        true
    }

    fn cube_count(&self) -> usize {
        0
    }

    fn token_issued(&mut self, _: CubeId, _: ResumeToken) {}

    fn migrate(&mut self, _: ResumeToken) -> Option<CubeId> {
        None
    }

    fn request(&mut self, _: CubeId, _: CubeId, _: Instant) -> bool {
        false
    }

    fn publish(&mut self, _: u64, _: &mut Changes, _: &World, _: Instant) {}

    fn wait(&self) -> Option<Duration> {
        None
    }

    fn poll_received(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn apply_received(&mut self, _: &mut World, _: Instant) -> Vec<Outcome> {
        Vec::new()
    }

    fn finish_tick(
        &mut self,
        _: &mut dyn Iterator<Item = CellId>,
        _: &mut Changes,
        _: &mut World,
        _: Instant,
    ) -> Vec<Outcome> {
        Vec::new()
    }

    fn leave(&self, _: &World) {}
}

/// The time since an instant.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeSince(pub(super) Instant);

impl TimeSource for TimeSince {
    fn time_ns(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.0);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn instant(&self, time_ns: u64) -> Instant {
        self.0 + Duration::from_nanos(time_ns)
    }
}
