//! The answers of the room's task to single players.
//!
//! A write to a socket costs more than all else that a message makes the task do, so players decide about few
//! of them: besides a pong now and then, answers go out with a tick, in one write.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cubesync_protocol::CubeId;

use super::audience::MemberId;

/// Time in which a player gets [`PROMPT_PONGS`] at once. Our client pings every 200 ms at first, then every 5 s.
pub(super) const PROMPT_PONG_INTERVAL: Duration = Duration::from_millis(100);

/// Largest number of pongs that a player gets at once in that time. After a stall of the network the pings of
/// half a second come together, and a pong that waited would make the client's clock worse.
pub(super) const PROMPT_PONGS: u8 = 3;

/// Largest number of pongs that a player gets with a tick, 2 KiB. Of more pings the newest are answered.
const MAX_PONGS: usize = 64;

/// Largest number of refusals that a player gets at a tick. A person asks for one cube.
const MAX_REFUSALS: usize = 8;

/// The answers that wait for a tick.
#[derive(Debug)]
pub(super) struct Answers {
    /// The number of ticks in which a player gets [`PROMPT_PONGS`] at once.
    interval_ticks: u64,
    /// The tick from which on the others are answered.
    next: u64,
    /// The players who have had some of those pongs, and how many.
    prompted: BTreeMap<MemberId, u8>,
    /// The newest pings of players that have no answer yet.
    pings: BTreeMap<MemberId, VecDeque<u64>>,
    /// The players who have asked for a cube in vain, and its holder.
    refusals: BTreeMap<MemberId, BTreeMap<CubeId, Option<CubeId>>>,
}

/// The answers of a tick.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// The pings to answer.
    pub(super) pings: BTreeMap<MemberId, VecDeque<u64>>,
    /// The refusals: a cube, and its holder.
    pub(super) refusals: BTreeMap<MemberId, BTreeMap<CubeId, Option<CubeId>>>,
}

impl Answers {
    /// Creates the answers of a room of that many ticks a second.
    pub(super) fn new(tick_hz: u8) -> Self {
        let ticks = PROMPT_PONG_INTERVAL.as_millis() as u64 * u64::from(tick_hz);
        Self {
            interval_ticks: ticks.div_ceil(1_000),
            next: 0,
            prompted: BTreeMap::new(),
            pings: BTreeMap::new(),
            refusals: BTreeMap::new(),
        }
    }

    /// Notes a ping. Returns whether it is to be answered at once.
    pub(super) fn ping(&mut self, player: MemberId, sent_us: u64) -> bool {
        let prompted = self.prompted.entry(player).or_default();
        let is_prompt = *prompted < PROMPT_PONGS;
        if is_prompt {
            *prompted += 1;
        } else {
            let pings = self.pings.entry(player).or_default();
            if pings.len() == MAX_PONGS {
                pings.pop_front();
            }
            pings.push_back(sent_us);
        }
        is_prompt
    }

    /// Notes that a player has asked for a cube in vain.
    pub(super) fn refuse(&mut self, player: MemberId, cube: CubeId, holder: Option<CubeId>) {
        let refusals = self.refusals.entry(player).or_default();
        if refusals.len() < MAX_REFUSALS || refusals.contains_key(&cube) {
            refusals.insert(cube, holder);
        }
    }

    /// Notes that a player has got a cube, which makes an earlier refusal untrue.
    pub(super) fn grant(&mut self, player: MemberId, cube: CubeId) {
        if let Some(refusals) = self.refusals.get_mut(&player) {
            refusals.remove(&cube);
        }
    }

    /// Takes the answers that are due at a tick.
    pub(super) fn take(&mut self, tick: u64) -> Due {
        let refusals = std::mem::take(&mut self.refusals);
        if tick < self.next {
            let pings = BTreeMap::new();
            return Due { pings, refusals };
        }
        self.next = tick + self.interval_ticks;
        self.prompted.clear();
        let pings = std::mem::take(&mut self.pings);
        Due { pings, refusals }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: MemberId = MemberId(1);
    const BORIS: MemberId = MemberId(2);

    #[test]
    fn of_many_pings_the_first_are_answered_at_once_and_the_newest_later_together() {
        let mut answers = Answers::new(30);
        answers.take(7);
        for sent_us in 0..1_000 {
            assert_eq!(answers.ping(ANNA, sent_us), sent_us < PROMPT_PONGS.into());
        }
        assert!(answers.ping(BORIS, 5));
        assert!(answers.take(8).pings.is_empty() && answers.take(9).pings.is_empty());
        let newest = 1_000 - MAX_PONGS as u64..1_000;
        assert_eq!(
            answers.take(10).pings,
            BTreeMap::from([(ANNA, newest.collect())])
        );
        assert!(answers.ping(ANNA, 1_000) && answers.take(13).pings.is_empty());
    }

    #[test]
    fn a_player_is_refused_a_cube_once_a_tick_and_not_if_they_get_it_after_all() {
        let mut answers = Answers::new(30);
        for holder in [None, Some(CubeId(3)), Some(CubeId(4))] {
            answers.refuse(ANNA, CubeId(0), holder);
        }
        answers.refuse(BORIS, CubeId(0), None);
        answers.grant(BORIS, CubeId(0));
        let refusals = answers.take(1).refusals;
        assert_eq!(
            refusals[&ANNA],
            BTreeMap::from([(CubeId(0), Some(CubeId(4)))])
        );
        assert!(refusals[&BORIS].is_empty());
        (0..1_000).for_each(|cube| answers.refuse(ANNA, CubeId(cube), None));
        assert_eq!(answers.take(2).refusals[&ANNA].len(), MAX_REFUSALS);
    }
}
