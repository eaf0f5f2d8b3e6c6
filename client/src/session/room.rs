//! The state of a session that the server has welcomed: the replica, the clock, the cubes that the
//! client controls, and when a sample and a ping are due.

use std::time::Duration;

use cubesync_protocol::datagram::{Downlink, Gate};
use cubesync_protocol::limits::{MOVING_HEARTBEAT_INTERVAL, PING_INTERVAL, TICK_HZ_RANGE};
use cubesync_protocol::replica::{Change, ReplicaError};
use cubesync_protocol::uplink::{Sample, UplinkSender};
use cubesync_protocol::{CubeId, CubeInfo, Pose, Replica, ServerMessage, Welcome};

use super::clock::Clock;
use super::lead::Lead;

/// Number of pings right after the join, so that the clock and the jitter are known soon, and the time
/// between them.
const FIRST_PINGS: u32 = 16;
const FIRST_PING_INTERVAL: Duration = Duration::from_millis(200);

/// The client's state of the room that it is in.
#[derive(Debug)]
pub(crate) struct RoomState {
    /// The server's welcome.
    pub(crate) welcome: Welcome,
    /// The client's copy of the room's streams, with the cubes in sight.
    pub(crate) replica: Replica,
    gate: Gate,
    /// Whether the own cube has been in sight.
    pub(crate) shows_own_cube: bool,
    /// The clock of the server's ticks.
    pub(crate) clock: Clock,
    /// The own cube and the held ones, and what must be sent of them.
    pub(crate) uplink: UplinkSender,
    /// The time by which a sample is taken before its tick.
    lead: Lead,
    /// Whether a sample without updates follows each one with some, so that TCP notices a loss soon.
    pub(crate) sends_tail: bool,
    /// Whether the last sample had updates.
    ends_with_updates: bool,
    began: Duration,
    /// When the newest welcome came, or the last ping was sent whose answer measures nothing.
    unmeasured_until: Duration,
    /// The newest tick that has a sample or needs none.
    sampled_tick: u64,
    /// When a sample was sent last.
    sent_at: Duration,
    /// When the current poses were set: the time of the last poll.
    posed_at: Duration,
    /// Whether the poses of this frame were sampled in it, and not by the next poll.
    is_prompt: bool,
    /// The number of pings since the join or since the network changed.
    pings: u32,
    /// When the next ping is due.
    ping_at: Duration,
}

/// Why a welcome or a pong is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RoomError {
    /// The tick rate is one that no room has.
    #[error("{0} ticks per second are outside of 1 to 128")]
    TickRate(u8),
    /// A second welcome contradicts what came before it.
    #[error("a second welcome is not of the same room at a later tick")]
    Welcome,
    /// The time in the pong is not the time of a ping.
    #[error("a ping was answered that was never sent")]
    Pong,
}

impl RoomState {
    /// Creates the state of a client that has just been welcomed.
    ///
    /// # Errors
    /// [`RoomError::TickRate`].
    pub(crate) fn new(welcome: Welcome, now: Duration) -> Result<Self, RoomError> {
        if !TICK_HZ_RANGE.contains(&welcome.tick_hz) {
            return Err(RoomError::TickRate(welcome.tick_hz));
        }
        let mut uplink = UplinkSender::default();
        uplink.gain(welcome.cube, welcome.pose);
        Ok(Self {
            clock: Clock::new(welcome.tick_hz, welcome.tick, welcome.since_tick_us, now),
            replica: Replica::default(),
            gate: Gate::default(),
            shows_own_cube: false,
            uplink,
            lead: Lead::new(welcome.tick_hz, welcome.tick, welcome.since_tick_us, now),
            sends_tail: true,
            ends_with_updates: false,
            began: now,
            unmeasured_until: now,
            sampled_tick: welcome.tick,
            sent_at: now,
            posed_at: now,
            is_prompt: false,
            pings: 0,
            ping_at: now,
            welcome,
        })
    }

    /// Goes on with the room at another server, by its second welcome. The replica stays as it is until
    /// keyframes come; what this client moves is placed anew. Returns the cubes that this client has let go
    /// and the room still shows as held: they are to be released again.
    ///
    /// # Errors
    /// [`RoomError::Welcome`].
    pub(crate) fn go_on(
        &mut self,
        welcome: Welcome,
        now: Duration,
    ) -> Result<Vec<CubeId>, RoomError> {
        let Welcome {
            tick, cube: own, ..
        } = welcome;
        if tick <= self.replica.tick() || welcome.tick_hz != self.welcome.tick_hz {
            return Err(RoomError::Welcome);
        }
        let shown = self.own_pose();
        let before = std::mem::take(&mut self.uplink);
        self.uplink.gain(own, welcome.pose);
        if let Some(pose) = shown.filter(|&pose| can_go_on_from(pose, &welcome)) {
            self.set_pose(own, pose);
        }
        // Keyframes tell under another id what it holds.
        let is_held = |info: &&CubeInfo| own == self.welcome.cube && info.holder() == Some(own);
        let mut let_go = Vec::new();
        for held in self.replica.cubes().filter(is_held) {
            match before.pose(held.cube) {
                Some(pose) => self.uplink.keep(held.cube, pose),
                None => let_go.push(held.cube),
            }
        }
        self.gate.welcomed(tick);
        let step_s = self.clock.welcomed(tick, welcome.since_tick_us, now);
        self.lead.welcomed(step_s);
        self.ends_with_updates = false;
        (self.sampled_tick, self.sent_at) = (tick, now);
        (self.pings, self.ping_at, self.unmeasured_until) = (0, now, now);
        self.welcome = welcome;
        Ok(let_go)
    }

    /// Applies a message about the cubes in sight and returns what changed. Until the own cube is in
    /// sight this is nothing, and then everything at once.
    ///
    /// # Errors
    /// [`ReplicaError`]; the room is not to be used any further.
    pub(crate) fn take_in(&mut self, message: &ServerMessage) -> Result<Vec<Change>, ReplicaError> {
        let changes = self.gate.message(message, &mut self.replica)?;
        Ok(self.changed(changes))
    }

    /// Applies what is new in a datagram and returns what changed; `None` when nothing is new, or when
    /// something before the datagram has not come yet.
    ///
    /// # Errors
    /// [`ReplicaError`]; the room is not to be used any further.
    pub(crate) fn take_in_datagram(
        &mut self,
        downlink: &Downlink,
    ) -> Result<Option<Vec<Change>>, ReplicaError> {
        let changes = self.gate.datagram(downlink, &mut self.replica)?;
        Ok(changes.map(|changes| self.changed(changes)))
    }

    fn changed(&mut self, changes: Vec<Change>) -> Vec<Change> {
        if self.shows_own_cube {
            self.change_control(&changes);
            return changes;
        }
        self.shows_own_cube = self.replica.cube(self.welcome.cube).is_some();
        let everything = self.shows_own_cube.then(|| self.replica.everything());
        everything.into_iter().collect()
    }

    /// Gains and loses the cubes that changes give to this client and take from it.
    fn change_control(&mut self, changes: &[Change]) {
        let own = self.welcome.cube;
        for change in changes {
            match change {
                Change::Taken { cube, by } if *by == own => self.gain(*cube),
                Change::Appeared(info) if info.holder() == Some(own) => {
                    self.gain(info.cube);
                }
                Change::Taken { cube, .. } | Change::Freed { cube } => {
                    self.uplink.lose(*cube);
                }
                Change::Left(info) | Change::Disappeared(info) if info.cube != own => {
                    self.uplink.lose(info.cube);
                }
                _ => {}
            }
        }
    }

    /// Notes that a tick has begun at the server.
    pub(crate) fn tick_began(&mut self, tick: u64, now: Duration) {
        if self.clock.tick_began(tick, now) {
            self.lead.forget(Some((tick, now)));
            self.ping_often();
        }
    }

    /// Handles the answer to a ping.
    ///
    /// # Errors
    /// [`RoomError::Pong`].
    pub(crate) fn pong(
        &mut self,
        now: Duration,
        sent_us: u64,
        tick: u64,
        since_tick_us: u32,
        late_samples: u32,
    ) -> Result<(), RoomError> {
        let sent = Duration::from_micros(sent_us);
        // The ping's time was rounded down to microseconds.
        let is_before = |since| sent + Duration::from_micros(1) <= since;
        if is_before(self.began) || sent > now {
            return Err(RoomError::Pong);
        }
        if is_before(self.unmeasured_until) {
            // It waited for the server that answered it, or its answer for keyframes.
            return Ok(());
        }
        self.clock.ping_answered(sent, now, tick, since_tick_us);
        let server = (tick, since_tick_us);
        if self.lead.ping_answered(sent, now, server, late_samples) {
            // Another ping soon tells whether the margin is long enough now.
            self.ping_at = self.ping_at.min(now + FIRST_PING_INTERVAL);
        }
        Ok(())
    }

    /// Moves a cube if it is one of this client's, and returns whether it is.
    pub(crate) fn set_pose(&mut self, cube: CubeId, pose: Pose) -> bool {
        self.uplink.set_pose(cube, pose, self.posed_at)
    }

    /// Returns the newest pose of the own cube.
    pub(crate) fn own_pose(&self) -> Option<Pose> {
        self.uplink.pose(self.welcome.cube)
    }

    /// Releases a held cube, or returns `None` if the cube is not held. The returned sample is to be
    /// sent before the release.
    pub(crate) fn release(&mut self, cube: CubeId) -> Option<Option<Sample>> {
        if cube == self.welcome.cube {
            return None;
        }
        let tick = self.due(self.posed_at).0.max(self.sampled_tick + 1);
        let last = self.uplink.release(cube, tick, self.posed_at)?;
        if last.is_some() {
            // A tick has one sample, so this one also has the other cubes that moved.
            self.sampled_tick = tick;
            self.sent_at = self.posed_at;
        }
        Some(last)
    }

    /// Begins a frame. Returns the sample of the poses of the frame before, if it is due and they were
    /// not [sampled in that frame](Self::sample_at_once).
    pub(crate) fn begin_frame(&mut self, now: Duration, can_be_sent: bool) -> Option<Sample> {
        let posed_at = std::mem::replace(&mut self.posed_at, now);
        let is_prompt = std::mem::take(&mut self.is_prompt);
        let frame = now.saturating_sub(posed_at);
        self.lead
            .advance(frame, is_prompt, !self.uplink.is_moving());
        self.sample_when_due(posed_at, now, can_be_sent)
    }

    /// Returns the sample of the poses of this frame, if it is due. The lead becomes a frame shorter
    /// when it is called in every frame.
    pub(crate) fn sample_at_once(&mut self, now: Duration, can_be_sent: bool) -> Option<Sample> {
        self.is_prompt = true;
        self.sample_when_due(self.posed_at, now, can_be_sent)
    }

    /// Returns the sample that is due, at most one a tick and only if it `can_be_sent`. Poses are
    /// known up to `posed_at`.
    fn sample_when_due(
        &mut self,
        posed_at: Duration,
        now: Duration,
        can_be_sent: bool,
    ) -> Option<Sample> {
        let (tick, instant) = self.due(posed_at);
        if tick <= self.sampled_tick || !can_be_sent {
            return None;
        }
        self.sampled_tick = tick;
        let is_silent = now.saturating_sub(self.sent_at) >= MOVING_HEARTBEAT_INTERVAL;
        let sample = self.uplink.take_sample(tick, instant, is_silent);
        let has_tail = self.sends_tail && self.ends_with_updates;
        let sample = sample.or_else(|| has_tail.then(|| Sample::heartbeat(tick)))?;
        self.ends_with_updates = sample.updates > 0;
        self.sent_at = now;
        self.lead.sample_sent();
        Some(sample)
    }

    /// Adds a cube to those that this client moves, from the newest known pose on.
    fn gain(&mut self, cube: CubeId) {
        let known = self.replica.pose(cube);
        self.uplink.gain(cube, known.unwrap_or_default());
    }

    /// Returns the newest tick whose sample can be taken, and the instant of that sample. Poses are
    /// known up to `posed_at`.
    fn due(&self, posed_at: Duration) -> (u64, Duration) {
        let tick_hz = f64::from(self.welcome.tick_hz);
        let arrival_tick = self.lead.tick_at(posed_at);
        let tick = arrival_tick.floor();
        let since_s = (arrival_tick - tick) / tick_hz;
        let instant = posed_at.saturating_sub(Duration::from_secs_f64(since_s));
        (tick as u64, instant)
    }

    /// Returns the lead.
    pub(crate) fn lead(&self) -> Duration {
        self.lead.duration(self.posed_at, &self.clock)
    }

    /// Measures the way to the server again, because the network has changed.
    pub(crate) fn measure_again(&mut self) {
        self.lead.forget(None);
        self.ping_often();
    }

    /// Pings as often as after the join.
    fn ping_often(&mut self) {
        self.pings = 0;
        self.ping_at = self.ping_at.min(self.posed_at + FIRST_PING_INTERVAL);
    }

    /// Returns the time to put into a ping while the first keyframe arrives, when one is due to show that the
    /// client lives. Its answer comes behind the keyframe and measures nothing.
    pub(crate) fn sign_of_life_when_due(&mut self, now: Duration) -> Option<u64> {
        if now < self.unmeasured_until + PING_INTERVAL {
            return None;
        }
        self.unmeasured_until = now + Duration::from_micros(1);
        u64::try_from(now.as_micros()).ok()
    }

    /// Returns the time to put into a ping, when one is due.
    pub(crate) fn ping_when_due(&mut self, now: Duration) -> Option<u64> {
        if now < self.ping_at {
            return None;
        }
        self.pings = self.pings.saturating_add(1);
        self.ping_at = now
            + if self.pings < FIRST_PINGS {
                FIRST_PING_INTERVAL
            } else {
                PING_INTERVAL
            };
        u64::try_from(now.as_micros()).ok()
    }
}

/// Whether the own cube can go on from a pose: it can have come there within half a second from where the
/// server has it. A server accepts a second's way at once.
pub(crate) fn can_go_on_from(pose: Pose, welcome: &Welcome) -> bool {
    let way = pose.position.distance(welcome.pose.position);
    welcome.max_speed == 0 || way <= u64::from(welcome.max_speed / 2)
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::limits::PROTOCOL_VERSION;
    use cubesync_protocol::motion::{Codec, MotionState};
    use cubesync_protocol::uplink::UplinkReceiver;
    use cubesync_protocol::{CellId, Colour, CubeKind, Keyframe, ResumeToken};

    use super::*;
    use crate::testing::pose;

    const OWN: CubeId = CubeId(7);

    fn room(tick_hz: u8) -> Result<RoomState, RoomError> {
        let welcome = Welcome {
            version: PROTOCOL_VERSION,
            room: "lobby".into(),
            name: "Anna".into(),
            cube: OWN,
            pose: Pose::default(),
            tick_hz,
            tick: 100,
            since_tick_us: 0,
            max_speed: 0,
            physics: false,
            resume: ResumeToken([0; 16]),
            servers: Vec::new(),
        };
        RoomState::new(welcome, Duration::from_secs(1))
    }

    /// Returns the times of frames of 1/60 s from the join on.
    fn frames() -> impl Iterator<Item = Duration> {
        (0u64..).map(|frame| Duration::from_secs(1) + Duration::from_micros(frame * 16_667))
    }

    /// Moves the own cube in frames of these lengths. Returns its samples, and its place at each tick
    /// from the first one on as the server predicts it.
    fn play(
        tick_hz: u8,
        frames_us: impl Iterator<Item = u64>,
        x_m: impl Fn(f32) -> f32,
    ) -> (Vec<Sample>, Vec<f32>) {
        let mut room = room(tick_hz).unwrap();
        let mut now = Duration::from_secs(1);
        let mut receiver = UplinkReceiver::new(tick_hz.into());
        let mut newest = None;
        let (mut samples, mut predicted_m) = (Vec::new(), Vec::new());
        for frame_us in frames_us {
            now += Duration::from_micros(frame_us);
            let before = room.sampled_tick;
            let sample = room.begin_frame(now, true);
            if room.sampled_tick > before {
                let tick = room.sampled_tick;
                if let Some(sample) = sample {
                    let (placed, residuals) = (&sample.placed, &sample.residuals);
                    let received = receiver.sample(tick - 1, tick, placed, residuals, |_| true);
                    received.unwrap();
                    // A heartbeat has no state of a cube that stands.
                    let due = receiver.next_due(tick);
                    newest = due.filter(|due| !due.states.is_empty()).or(newest);
                    samples.push(sample);
                }
                predicted_m.extend(newest.as_ref().map(|newest| {
                    let (cube, state) = newest.states[0];
                    assert_eq!(cube, OWN);
                    let state = state.advanced(newest.tick, tick);
                    state.pose(&Codec::LIVE).position.to_metres()[0]
                }));
            }
            room.set_pose(OWN, pose(x_m(now.as_secs_f32() - 1.0)));
        }
        (samples, predicted_m)
    }

    #[test]
    fn a_cube_that_always_has_an_update_is_sampled_once_in_each_tick() {
        for (tick_hz, expected) in [(10, 100), (30, 300), (128, 600)] {
            let frames_us = std::iter::repeat_n(16_667, 600);
            let (samples, _) = play(tick_hz, frames_us, |s| (s * 997.0).sin());
            let count = samples.len();
            assert!(count.abs_diff(expected) <= 5, "{count} at {tick_hz} Hz");
        }
    }

    #[test]
    fn an_even_motion_is_even_to_the_server_whatever_the_frames() {
        let uneven = (0..1_000).map(|frame| 12_000 + frame * 7_919 % 9_000);
        let (_, predicted_m) = play(20, uneven, |s| 6.0 * s);
        assert!(predicted_m.len() > 300);
        // While the frame's time is being learnt, the instants still shift.
        for pair in predicted_m[60..].windows(2) {
            let step_m = pair[1] - pair[0];
            assert!((step_m - 0.3).abs() < 0.02, "{step_m}");
        }
    }

    #[test]
    fn a_cube_that_moves_as_predicted_costs_a_few_heartbeats_and_one_that_rests_nothing() {
        let frames_us = || std::iter::repeat_n(16_667, 6_000);
        // Along the floor's side, 256 m away, one can walk for 100 s at 5 m/s.
        let (walking, _) = play(30, frames_us(), |s| 5.0 * s - 250.0);
        let (heartbeats, updates): (Vec<_>, Vec<_>) =
            walking.iter().partition(|sample| sample.updates == 0);
        assert!(updates.len() < 60, "{}", updates.len());
        let tails = updates.len();
        let heartbeats = heartbeats.len();
        assert!((400..500 + tails).contains(&heartbeats), "{heartbeats}");
        let longest = walking.windows(2).map(|pair| pair[1].tick - pair[0].tick);
        assert!(longest.max().unwrap() <= 8);
        let (resting, _) = play(30, frames_us(), |_| 3.0);
        let (ticks, updates): (Vec<_>, Vec<_>) = resting
            .iter()
            .map(|sample| (sample.tick, sample.updates))
            .unzip();
        assert_eq!(updates, [1, 0], "the first sample and its tail");
        assert_eq!(ticks[1], ticks[0] + 1);
    }

    #[test]
    fn a_cube_that_appears_held_by_this_client_can_be_moved_until_it_disappears() {
        let mut room = room(30).unwrap();
        let held = CubeInfo {
            cube: CubeId(0),
            kind: CubeKind::Free { holder: Some(OWN) },
            name: String::new(),
            colour: Colour::from([1, 2, 3]),
            width: Default::default(),
            motion: MotionState::at_rest(pose(2.0)),
        };
        room.change_control(&[Change::Appeared(held.clone())]);
        assert!(room.set_pose(CubeId(0), pose(3.0)));
        room.change_control(&[Change::Disappeared(held)]);
        assert!(!room.set_pose(CubeId(0), pose(3.0)));
    }

    #[test]
    fn nothing_is_reported_before_the_own_cube_is_in_sight() {
        let player = |cube| CubeInfo {
            cube,
            kind: CubeKind::Player,
            name: String::new(),
            colour: Colour::from([1, 2, 3]),
            width: Default::default(),
            motion: MotionState::at_rest(Pose::default()),
        };
        let keyframe = |cell, tick, cube| {
            ServerMessage::Keyframe(Keyframe {
                cell: CellId(cell),
                interval_ticks: 1,
                tick,
                cubes: vec![player(cube)],
            })
        };
        let mut room = room(30).unwrap();
        assert_eq!(room.take_in(&keyframe(0, 5, CubeId(2))), Ok(vec![]));
        let heartbeat = ServerMessage::Heartbeat { tick: 5 };
        assert_eq!(room.take_in(&heartbeat), Ok(vec![]));
        assert!(!room.shows_own_cube);
        let changes = room.take_in(&keyframe(1, 6, OWN)).unwrap();
        assert!(room.shows_own_cube);
        let states = [CubeId(2), OWN].map(|cube| (cube, player(cube).motion));
        let everything = Change::Moved {
            tick: 6,
            known_until: 6,
            states: states.to_vec(),
        };
        assert_eq!(changes, [everything]);
        let changes = room.take_in(&keyframe(2, 6, CubeId(3))).unwrap();
        assert_eq!(changes[0], Change::Appeared(player(CubeId(3))));
    }

    #[test]
    fn quick_pings_are_followed_by_slow_ones() {
        let mut room = room(30).unwrap();
        let sent = frames()
            .take(60 * 20)
            .filter_map(|now| room.ping_when_due(now));
        let sent: Vec<_> = sent.map(|sent_us| sent_us as f64 / 1e6).collect();
        let quick = (0..FIRST_PINGS).map(|ping| 1.0 + 0.2 * f64::from(ping));
        let expected: Vec<_> = quick.chain([9.0, 14.0, 19.0]).collect();
        assert_eq!(sent.len(), expected.len(), "{sent:?}");
        for (sent, expected) in sent.into_iter().zip(expected) {
            assert!(
                (sent - expected).abs() < 0.3,
                "{sent} instead of {expected}"
            );
        }
    }

    #[test]
    fn a_changed_network_is_measured_by_quick_pings() {
        let mut room = room(30).unwrap();
        let sent = frames()
            .take(60 * 15)
            .enumerate()
            .filter_map(|(frame, now)| {
                room.begin_frame(now, true);
                if frame == 600 {
                    room.measure_again();
                }
                room.ping_when_due(now)
            });
        let after = sent.filter(|&sent_us| sent_us > 11_000_000).count();
        assert_eq!(after, FIRST_PINGS as usize);
    }

    #[test]
    fn an_impossible_tick_rate_and_a_pong_without_a_ping_are_errors() {
        assert_eq!(room(0).unwrap_err(), RoomError::TickRate(0));
        assert_eq!(room(129).unwrap_err(), RoomError::TickRate(129));
        let mut room = room(30).unwrap();
        let now = Duration::from_secs(2);
        for sent_us in [0, 999_998, 2_000_001, u64::MAX] {
            assert_eq!(room.pong(now, sent_us, 100, 0, 0), Err(RoomError::Pong));
        }
        assert_eq!(room.pong(now, 1_900_000, 100, 0, 0), Ok(()));
        assert_eq!(room.clock.round_trip(), Some(Duration::from_millis(100)));
    }
}
