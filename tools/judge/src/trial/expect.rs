//! The expectations of a case, and the words that say how it did something else.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cubesync_harness::wait::wait_for;
use cubesync_protocol::uplink::grace_ticks;
use cubesync_protocol::{ClientMessage, CubeId, Pose};

use super::{Outcome, PATIENCE, STARTS_WITHIN, Trial};
use crate::room::is_near;

/// Longest time until a client has closed a connection that is of no use any more.
const ENDS_WITHIN: Duration = Duration::from_secs(6);
/// Longest time until a client has failed inside after what made it fail.
const FAILS_WITHIN: Duration = Duration::from_millis(400);
/// Time in which a client that must not come back is watched.
const WATCHED: Duration = Duration::from_secs(4);
/// Most tries to connect within a second, by the protocol's limits.
const MAX_TRIES_PER_SECOND: usize = 4;

impl Trial<'_> {
    /// Expects that the client's own cube comes to where the followed one is. `cause` says what has put that
    /// there: "the keyframe of the second cell".
    pub(crate) fn follows(&mut self, cause: &str) -> Outcome {
        let name = self.follow.clone();
        let target = self
            .room
            .named(&name)
            .context("the script has no cube to follow")?;
        let comes = |trial: &Self| trial.own().is_some_and(|own| is_near(own, target));
        if self.until(PATIENCE, comes)? {
            return Ok(());
        }
        let tick = self.message_tick();
        let seconds = PATIENCE.as_secs();
        let target = words(target);
        match self.own() {
            None => bail!(
                "at tick {tick} the cube to follow is at {target}, but for {seconds} s the client has sent no sample \
                 of its own cube: it seems not to have applied {cause}"
            ),
            Some(own) if self.was_at(own).is_some() => bail!(
                "at tick {tick} the cube to follow is at {target}, but for {seconds} s the client has left its own cube \
                 at {}, where the cube to follow was at tick {}: it seems not to have applied {cause}",
                words(own),
                self.was_at(own).unwrap_or_default()
            ),
            Some(own) => bail!(
                "at tick {tick} the cube to follow is at {target}, but after {seconds} s the client has put its own cube at \
                 {}: it seems to have applied {cause} wrongly",
                words(own)
            ),
        }
    }

    /// Returns the last tick at which the followed cube was at a pose.
    fn was_at(&self, place: Pose) -> Option<u64> {
        let near = self
            .targets
            .iter()
            .rev()
            .find(|(_, pose)| is_near(*pose, place));
        near.map(|(tick, _)| *tick)
    }

    /// Returns where the client's own cube is by its samples.
    pub(crate) fn own(&self) -> Option<Pose> {
        self.pose(self.greeting.cube)
    }

    /// Returns where a cube is by the client's samples. It stands when none has come for half a second.
    pub(crate) fn pose(&self, cube: CubeId) -> Option<Pose> {
        let longest = self.uplink.tick + grace_ticks(self.greeting.tick_hz.into());
        self.uplink.pose(cube, self.clock().0.min(longest))
    }

    /// Expects a message; all others before it are dropped.
    pub(crate) fn says<T>(
        &mut self,
        what: &str,
        pick: impl Fn(&ClientMessage) -> Option<T>,
    ) -> Result<T> {
        let is_said = |trial: &Self| trial.said.iter().any(|message| pick(message).is_some());
        let is_in_time = self.until(PATIENCE, is_said)?;
        ensure!(
            is_in_time,
            "it sent no {what} within {} s",
            PATIENCE.as_secs()
        );
        while let Some(message) = self.said.pop_front() {
            if let Some(found) = pick(&message) {
                return Ok(found);
            }
        }
        bail!("it sent no {what}")
    }

    /// Expects that the client closes the connection. `cause` says why it must.
    pub(crate) fn ends(&mut self, cause: &str) -> Outcome {
        let until = Instant::now() + ENDS_WITHIN;
        while self.receive().unwrap_or(true) {
            let seconds = ENDS_WITHIN.as_secs();
            ensure!(
                Instant::now() < until,
                "it kept the connection open for {seconds} s after {cause}"
            );
        }
        self.note("the client closed the connection");
        self.link = None;
        self.is_sound()
    }

    /// Waits until the client sends such a message, or closes the connection. Returns whether it has closed it.
    pub(crate) fn answers_or_closes(
        &mut self,
        is_answer: impl Fn(&ClientMessage) -> bool,
    ) -> Result<bool> {
        let until = Instant::now() + PATIENCE;
        while !self.said.iter().any(&is_answer) {
            ensure!(
                Instant::now() < until,
                "it neither answered nor closed the connection"
            );
            // What it sends before it has read the message counts for the session before.
            if !self.receive()? {
                self.link = None;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Expects that the client, whether it stays or not, does not fail inside.
    pub(crate) fn does_not_fail(&mut self) -> Outcome {
        let until = Instant::now() + WATCHED;
        while Instant::now() < until && self.receive().unwrap_or(false) {}
        self.is_sound()
    }

    /// Expects that the client does not come back.
    pub(crate) fn stays_away(&mut self, cause: &str) -> Outcome {
        let until = Instant::now() + WATCHED;
        while Instant::now() < until {
            ensure!(!self.try_accept()?, "it came back after {cause}");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.is_sound()
    }

    /// Expects that the client, if it comes back, does not try more often than a server allows; each try is
    /// closed at once.
    pub(crate) fn does_not_hurry(&mut self) -> Outcome {
        let until = Instant::now() + WATCHED;
        let mut tries = Vec::new();
        while Instant::now() < until {
            if self.listener.accept().is_ok() {
                tries.push(Instant::now());
                let hasty = tries
                    .iter()
                    .filter(|at| at.elapsed() < Duration::from_secs(1))
                    .count();
                ensure!(
                    hasty <= MAX_TRIES_PER_SECOND,
                    "it tried to connect {hasty} times within a second; a server allows {MAX_TRIES_PER_SECOND}"
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.is_sound()
    }

    /// Expects that the client comes back.
    pub(crate) fn comes_back(&mut self) -> Outcome {
        self.accept()
            .with_context(|| format!("it did not come back within {} s", STARTS_WITHIN.as_secs()))
    }

    /// Expects that the client has printed a text.
    pub(crate) fn prints(&mut self, text: &str) -> Outcome {
        let until = Instant::now() + PATIENCE;
        while !self.client().output().contains(text) {
            ensure!(
                Instant::now() < until,
                "it did not show the server's message {text:?} to the person"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Expects that the client has not failed inside.
    pub(crate) fn is_sound(&mut self) -> Outcome {
        // It may fail a moment after it has closed the connection.
        match wait_for(FAILS_WITHIN, || self.client().crash()) {
            Some(crash) => bail!("{crash}"),
            None => Ok(()),
        }
    }

    /// Returns how the client ended, as the end of a sentence.
    pub(super) fn parting(&mut self) -> String {
        let end = self.client().ended();
        end.map(|end| format!(" and ended ({end})"))
            .unwrap_or_default()
    }
}

/// Returns a pose in metres, as people read it.
fn words(pose: Pose) -> String {
    let [x, y, z] = pose.position.to_metres();
    let [qx, qy, qz, qw] = pose.rotation.to_quaternion();
    let place = format!("({x:.3}, {y:.3}, {z:.3}) m");
    match qw.abs() > 0.9999 {
        true => place,
        false => format!("{place} turned by ({qx:.2}, {qy:.2}, {qz:.2}, {qw:.2})"),
    }
}
