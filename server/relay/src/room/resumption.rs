//! Ghosts of players whose connection is lost, and the tokens with which players come back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Instant;

use cubesync_protocol::{CubeId, ResumeToken};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

/// A part of a resume token's SHA-256. It shows that somebody has the token without revealing it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenDigest(pub [u8; 16]);

impl TokenDigest {
    /// Returns the digest of a token.
    pub fn of(token: &ResumeToken) -> Self {
        let mut short = Self([0; 16]);
        let whole = digest(&SHA256, &token.0);
        short.0.copy_from_slice(&whole.as_ref()[..16]);
        short
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

/// Draws a token with which a player may come back.
pub fn draw_token() -> ResumeToken {
    let mut token = ResumeToken([0; 16]);
    SystemRandom::new()
        .fill(&mut token.0)
        .expect("the system has random numbers");
    token
}

/// The tokens of players and ghosts, and the time that is left to ghosts and absent players.
#[derive(Debug, Default)]
pub(super) struct Resumption {
    /// The ghosts, with the time until which their players may come back.
    ghosts: Deadlines,
    /// The players whose server is to enter them again, with the time until which it may.
    absent: Deadlines,
    /// The one valid token of each player and ghost.
    tokens: HashMap<CubeId, TokenDigest>,
    cubes: HashMap<TokenDigest, CubeId>,
    /// The token before that one.
    replaced: HashMap<CubeId, TokenDigest>,
    /// The cubes of those tokens.
    replaced_of: HashMap<TokenDigest, CubeId>,
}

/// Cubes, and the time that each of them has.
#[derive(Debug, Default)]
struct Deadlines {
    until: BTreeMap<CubeId, Instant>,
    in_order: BTreeSet<(Instant, CubeId)>,
}

impl Deadlines {
    fn insert(&mut self, cube: CubeId, until: Instant) {
        self.remove(cube);
        self.until.insert(cube, until);
        self.in_order.insert((until, cube));
    }

    fn remove(&mut self, cube: CubeId) {
        if let Some(until) = self.until.remove(&cube) {
            self.in_order.remove(&(until, cube));
        }
    }

    /// Returns the cubes whose time is over, the first one first.
    fn over(&self, now: Instant) -> Vec<CubeId> {
        let over = self.in_order.iter().take_while(|(until, _)| *until <= now);
        over.map(|(_, cube)| *cube).collect()
    }
}

impl Resumption {
    /// Creates a token for a cube. The cube's earlier token is no longer valid.
    pub(super) fn issue(&mut self, cube: CubeId) -> ResumeToken {
        let token = draw_token();
        self.adopt(cube, TokenDigest::of(&token));
        token
    }

    /// Lets the player of a cube come back with a token. The cube's earlier token is no longer valid.
    pub(super) fn adopt(&mut self, cube: CubeId, token: TokenDigest) {
        if let Some(before) = self
            .tokens
            .insert(cube, token)
            .filter(|before| *before != token)
        {
            self.cubes.remove(&before);
            self.forget_replaced(cube);
            self.replaced.insert(cube, before);
            self.replaced_of.insert(before, cube);
        }
        if let Some(other) = self
            .cubes
            .insert(token, cube)
            .filter(|other| *other != cube)
        {
            self.tokens.remove(&other);
        }
    }

    /// Returns the cube that a token stands for.
    pub(super) fn cube(&self, token: TokenDigest) -> Option<CubeId> {
        self.cubes.get(&token).copied()
    }

    /// Returns whether the player who had one of the tokens has come back with it by another connection.
    pub(super) fn has_replaced(&self, tokens: &[TokenDigest]) -> bool {
        tokens
            .iter()
            .any(|token| self.replaced_of.contains_key(token))
    }

    /// Returns the token of a cube.
    pub(super) fn token(&self, cube: CubeId) -> Option<TokenDigest> {
        self.tokens.get(&cube).copied()
    }

    /// Notes that a player's connection is lost, and until when they may come back.
    pub(super) fn lost(&mut self, cube: CubeId, until: Instant) {
        self.absent.remove(cube);
        self.ghosts.insert(cube, until);
    }

    /// Notes that a player's server is to enter them again, and until when it may.
    pub(super) fn absent(&mut self, cube: CubeId, until: Instant) {
        self.absent.insert(cube, until);
    }

    /// Notes that a player is back.
    pub(super) fn returned(&mut self, cube: CubeId) {
        self.ghosts.remove(cube);
        self.absent.remove(cube);
    }

    /// Forgets a player, who cannot come back any more.
    pub(super) fn forget(&mut self, cube: CubeId) {
        self.returned(cube);
        self.forget_replaced(cube);
        if let Some(token) = self.tokens.remove(&cube) {
            self.cubes.remove(&token);
        }
    }

    /// Returns whether nobody may come back.
    pub(super) fn is_empty(&self) -> bool {
        self.ghosts.in_order.is_empty() && self.absent.in_order.is_empty()
    }

    /// Returns when the time of a ghost or an absent player is over next.
    pub(super) fn next_end(&self) -> Option<Instant> {
        let ends = [&self.ghosts, &self.absent].map(|of| of.in_order.first());
        ends.into_iter().flatten().map(|(until, _)| *until).min()
    }

    /// Returns the ghost whose time is over next.
    pub(super) fn first_to_expire(&self) -> Option<CubeId> {
        let first = self.ghosts.in_order.first();
        first.map(|(_, cube)| *cube)
    }

    /// Returns the ghosts whose time is over.
    pub(super) fn expired(&self, now: Instant) -> Vec<CubeId> {
        self.ghosts.over(now)
    }

    /// Returns the players whose server has not entered them in time.
    pub(super) fn given_up(&self, now: Instant) -> Vec<CubeId> {
        self.absent.over(now)
    }

    fn forget_replaced(&mut self, cube: CubeId) {
        if let Some(token) = self.replaced.remove(&cube) {
            self.replaced_of.remove(&token);
        }
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
        let of = |resumption: &Resumption, token| resumption.cube(TokenDigest::of(token));
        assert_eq!(
            (of(&resumption, &first), of(&resumption, &second)),
            (None, Some(cube))
        );
        resumption.forget(cube);
        assert_eq!(of(&resumption, &second), None);
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

    #[test]
    fn a_digest_does_not_show_the_token() {
        let token = ResumeToken(*b"0123456789abcdef");
        let digest = TokenDigest::of(&token);
        assert_ne!(digest.0, token.0);
        assert_ne!(digest, TokenDigest::of(&ResumeToken([0; 16])));
        assert_eq!(format!("{digest:?}"), "TokenDigest(..)");
    }

    #[test]
    fn a_token_stands_for_one_cube_and_an_absent_player_is_given_up_at_their_time() {
        let (now, mut resumption) = (Instant::now(), Resumption::default());
        let token = TokenDigest([7; 16]);
        for cube in [CubeId(7), CubeId(8)] {
            resumption.adopt(cube, token);
            resumption.absent(cube, now);
        }
        assert_eq!(resumption.cube(token), Some(CubeId(8)));
        resumption.forget(CubeId(7));
        assert_eq!(resumption.cube(token), Some(CubeId(8)));
        assert_eq!(resumption.given_up(now - Duration::from_millis(1)), []);
        assert_eq!(resumption.given_up(now), [CubeId(8)]);
        resumption.returned(CubeId(8));
        assert_eq!(resumption.given_up(now), []);
    }
}
