//! Ghosts of players whose connection is lost, and the tokens with which players come back.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use cubesync_protocol::{CubeId, ResumeToken};
use ring::rand::{SecureRandom, SystemRandom};

/// The tokens of players and ghosts, and the time that is left to ghosts.
#[derive(Debug, Default)]
pub(super) struct Resumption {
    /// The ghosts, with the time until which their players may come back.
    ghosts: BTreeMap<CubeId, Instant>,
    /// The one valid token of each player and ghost.
    tokens: HashMap<CubeId, ResumeToken>,
    cubes: HashMap<ResumeToken, CubeId>,
}

impl Resumption {
    /// Creates a token for a cube. The cube's earlier token is no longer valid.
    pub(super) fn issue(&mut self, cube: CubeId) -> ResumeToken {
        let mut token = ResumeToken([0; 16]);
        SystemRandom::new()
            .fill(&mut token.0)
            .expect("the system has random numbers");
        if let Some(before) = self.tokens.insert(cube, token) {
            self.cubes.remove(&before);
        }
        self.cubes.insert(token, cube);
        token
    }

    /// Returns the cube that a token stands for.
    pub(super) fn cube(&self, token: ResumeToken) -> Option<CubeId> {
        self.cubes.get(&token).copied()
    }

    /// Notes that a player's connection is lost, and until when they may come back.
    pub(super) fn lost(&mut self, cube: CubeId, until: Instant) {
        self.ghosts.insert(cube, until);
    }

    /// Notes that a player is back.
    pub(super) fn returned(&mut self, cube: CubeId) {
        self.ghosts.remove(&cube);
    }

    /// Forgets a player, who cannot come back any more.
    pub(super) fn forget(&mut self, cube: CubeId) {
        self.ghosts.remove(&cube);
        if let Some(token) = self.tokens.remove(&cube) {
            self.cubes.remove(&token);
        }
    }

    /// Returns the ghost whose time is over next.
    pub(super) fn first_to_expire(&self) -> Option<CubeId> {
        let first = self.ghosts.iter().min_by_key(|(_, until)| **until);
        first.map(|(cube, _)| *cube)
    }

    /// Returns the ghosts whose time is over.
    pub(super) fn expired(&self, now: Instant) -> Vec<CubeId> {
        let expired = self.ghosts.iter().filter(|(_, until)| **until <= now);
        expired.map(|(cube, _)| *cube).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_the_newest_token_is_valid_until_its_player_is_forgotten() {
        let (cube, mut resumption) = (CubeId(7), Resumption::default());
        let first = resumption.issue(cube);
        let second = resumption.issue(cube);
        assert_eq!(
            (resumption.cube(first), resumption.cube(second)),
            (None, Some(cube))
        );
        resumption.forget(cube);
        assert_eq!(resumption.cube(second), None);
    }

    #[test]
    fn a_ghost_expires_at_its_time_unless_its_player_returned() {
        let (now, mut resumption) = (Instant::now(), Resumption::default());
        let until = now + Duration::from_secs(15);
        for cube in [CubeId(7), CubeId(8)] {
            resumption.lost(cube, until);
        }
        resumption.returned(CubeId(8));
        assert_eq!(resumption.expired(until - Duration::from_millis(1)), []);
        assert_eq!(resumption.expired(until), [CubeId(7)]);
    }
}
