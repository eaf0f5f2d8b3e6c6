//! The movement of cubes: by their players' samples, within the rules.

use cubesync_protocol::datagram::Uplink;
use cubesync_protocol::limits::MAX_CUBES_PER_SAMPLE;
use cubesync_protocol::motion::Codec;
use cubesync_protocol::uplink::{Arrival, SampleError, TimedStates, grace_ticks, heartbeat_ticks};
use cubesync_protocol::{CubeId, CubeKind, CubePose, ServerMessage};

use super::{Tracked, World};
use crate::room::speed::SpeedRule;
use crate::room::track::Track;

/// Largest number of corrections of a player in a tick that are about cubes of others: as many cubes as one
/// sample can name. Further ones are not answered.
const MAX_FOREIGN_CORRECTIONS: usize = MAX_CUBES_PER_SAMPLE;

/// Counts of samples by the time at which they came, and of corrections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SampleCounts {
    /// Samples that came within the tick before their own, as they should.
    pub on_time: u64,
    /// Samples that came more than a tick too early.
    pub early: u64,
    /// Samples that came after their tick had begun.
    pub late: u64,
    /// Ticks at which a moving cube had no sample for longer than a heartbeat.
    pub missing: u64,
    /// Corrections because a cube went faster than the top speed.
    pub too_fast: u64,
    /// Corrections because the player may not move the cube.
    pub not_theirs: u64,
}

impl SampleCounts {
    fn add(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::OnTime => self.on_time += 1,
            Arrival::Early => self.early += 1,
            Arrival::Late => self.late += 1,
            Arrival::Duplicate => {}
        }
    }
}

impl World {
    /// Takes a player's sample of where their cubes are at a tick. It counts at that tick, or at the
    /// next one when it comes late. What the rules do not allow changes nothing, and the player is sent
    /// the true pose ([`corrections`](Self::corrections)).
    ///
    /// # Errors
    /// [`SampleError`]: the player's further samples cannot be decoded either.
    pub fn sample(
        &mut self,
        player: CubeId,
        tick: u64,
        placed: &[CubePose],
        residuals: &[u8],
    ) -> Result<(), SampleError> {
        let now = self.tick;
        let Some(known) = self.players.get_mut(&player) else {
            return Ok(());
        };
        self.waiting.insert(player);
        let mut refused = Vec::new();
        let may_move = |cube| admit(player, (cube, tick), self.cubes.get(&cube), &mut refused);
        let uplink = &mut known.uplink;
        match known.rule {
            SpeedRule::TopSpeed => {
                let arrival = uplink.sample(now, tick, placed, residuals, may_move)?;
                self.counts.add(arrival);
            }
            SpeedRule::Plain | SpeedRule::Unlimited => {
                uplink.place(now, tick, placed, may_move)?;
            }
        }
        self.refuse(player, refused);
        Ok(())
    }

    /// Takes the samples of a player's datagram that have not come before, and returns their number. They
    /// count as those of the stream.
    ///
    /// # Errors
    /// [`SampleError`]: the player's further samples cannot be decoded either.
    pub fn datagram(&mut self, player: CubeId, uplink: &Uplink) -> Result<usize, SampleError> {
        let now = self.tick;
        let known = self.players.get_mut(&player);
        let Some(known) = known.filter(|known| known.rule == SpeedRule::TopSpeed) else {
            return Ok(0);
        };
        let samples = known.uplink.new_samples(uplink);
        if !samples.is_empty() {
            self.waiting.insert(player);
        }
        let mut refused = Vec::new();
        for sample in samples {
            let refused = &mut refused;
            let may_move =
                |cube| admit(player, (cube, sample.tick), self.cubes.get(&cube), refused);
            let arrival = known.uplink.datagram_sample(now, sample, may_move)?;
            self.counts.add(arrival);
        }
        self.refuse(player, refused);
        Ok(samples.len())
    }

    /// Counts a player's samples that have come after their tick.
    pub fn late_samples(&self, player: CubeId) -> u32 {
        let player = self.players.get(&player);
        player.map_or(0, |player| player.uplink.late_samples())
    }

    /// Takes the counts since the last call.
    pub fn take_sample_counts(&mut self) -> SampleCounts {
        std::mem::take(&mut self.counts)
    }

    /// Takes the corrections since the last call: a player, and the true pose of a cube, once.
    pub fn corrections(&mut self) -> Vec<(CubeId, ServerMessage)> {
        let corrections = std::mem::take(&mut self.corrections).into_iter();
        let each = corrections
            .flat_map(|(player, cubes)| cubes.into_iter().map(move |refused| (player, refused)));
        let truth = |(player, (cube, tick)): (CubeId, (CubeId, u64))| {
            let pose = self.pose(cube)?;
            let corrected = CubePose { cube, pose };
            Some((player, ServerMessage::Correction { tick, corrected }))
        };
        each.filter_map(truth).collect()
    }

    /// Applies a player's samples whose tick has come.
    pub(super) fn apply_samples(&mut self, player: CubeId, until: u64) {
        let Some(known) = self.players.get_mut(&player) else {
            return;
        };
        let mut refused = Vec::new();
        while let Some(TimedStates { tick, states }) = known.uplink.next_due(until) {
            for (id, state) in states {
                // It may have changed hands, or have left, since the sample came.
                if !admit(player, (id, tick), self.cubes.get(&id), &mut refused) {
                    continue;
                }
                if let Some(cube) = self.cubes.get_mut(&id) {
                    cube.track = match cube.rule {
                        SpeedRule::TopSpeed => Track::sampled(state, tick),
                        SpeedRule::Plain | SpeedRule::Unlimited => {
                            Track::standing(state.pose(&Codec::LIVE))
                        }
                    };
                    self.awake.insert(id);
                }
            }
        }
        if known.uplink.has_pending() {
            self.waiting.insert(player);
        }
        self.refuse(player, refused);
    }

    /// Corrects a player about cubes that they may not move.
    fn refuse(&mut self, player: CubeId, refused: Vec<(CubeId, u64)>) {
        if refused.is_empty() {
            return;
        }
        let corrections = self.corrections.entry(player).or_default();
        for (cube, tick) in refused {
            if let Some(known) = corrections.get_mut(&cube) {
                *known = tick.max(*known);
            } else if corrections.len() < MAX_FOREIGN_CORRECTIONS {
                corrections.insert(cube, tick);
                self.counts.not_theirs += 1;
            }
        }
    }

    /// Moves cubes to the tick, and lets those sleep that stand now.
    pub(super) fn follow_all(&mut self, awake: Vec<CubeId>) -> Vec<CubeId> {
        for &cube in &awake {
            self.follow(cube, self.tick);
        }
        for cube in &awake {
            if self.is_still(*cube) {
                self.awake.remove(cube);
            }
        }
        awake
    }

    /// Returns whether a cube stays where it is until the next tick.
    pub(super) fn is_still(&self, cube: CubeId) -> bool {
        let known = self.cubes.get(&cube);
        known.is_none_or(|cube| !cube.track.is_moving())
    }

    /// Moves a cube to where its authority has it at a tick, as far as the rules allow.
    pub(super) fn follow(&mut self, id: CubeId, tick: u64) {
        let Some(cube) = self.cubes.get_mut(&id) else {
            return;
        };
        let authority = match cube.kind {
            CubeKind::Player => Some(id),
            CubeKind::Free { holder } => holder,
            CubeKind::Ghost => None,
        };
        let Some((authority, player)) =
            authority.and_then(|authority| Some((authority, self.players.get(&authority)?)))
        else {
            return;
        };
        if cube.track.is_moving() && cube.rule == SpeedRule::TopSpeed {
            let silent_ticks = player.uplink.silent_ticks(self.tick);
            // A player of another server has sent the newest sample there.
            let silent_ticks = silent_ticks.min(self.tick.saturating_sub(cube.track.tick()));
            if silent_ticks > heartbeat_ticks(self.tick_hz) {
                self.counts.missing += 1;
            }
            if silent_ticks > grace_ticks(self.tick_hz) {
                return self.stand(id);
            }
        }
        let pose = cube.track.pose(tick);
        let distance = cube.pose.position.distance(pose.position);
        let may_go = match (self.top_speed, &mut cube.budget) {
            (Some(top_speed), Some(budget)) if cube.rule != SpeedRule::Unlimited => {
                budget.spend(distance, top_speed, self.tick)
            }
            _ => true,
        };
        if may_go {
            cube.pose = pose;
        } else {
            self.counts.too_fast += 1;
            let refused = cube.track.tick();
            self.stand(id);
            let corrections = self.corrections.entry(authority).or_default();
            corrections.insert(id, refused);
        }
    }

    /// Stops a cube where it is: nobody moves it, or not within the rules.
    pub(super) fn stand(&mut self, id: CubeId) {
        if let Some(cube) = self.cubes.get_mut(&id) {
            cube.track = Track::standing(cube.pose);
            self.awake.insert(id);
        }
    }
}

/// Returns whether a player may move a cube by a sample of this tick. Adds one that is there and that they may
/// not move to `refused`.
fn admit(
    player: CubeId,
    (cube, tick): (CubeId, u64),
    known: Option<&Tracked>,
    refused: &mut Vec<(CubeId, u64)>,
) -> bool {
    let Some(known) = known else {
        return false;
    };
    let may_move = may_move(cube, known.kind, player);
    if !may_move {
        refused.push((cube, tick));
    }
    may_move
}

fn may_move(cube: CubeId, kind: CubeKind, player: CubeId) -> bool {
    match kind {
        CubeKind::Player => cube == player,
        CubeKind::Free { holder } => holder == Some(player),
        CubeKind::Ghost => false,
    }
}
