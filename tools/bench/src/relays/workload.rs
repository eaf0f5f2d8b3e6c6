//! The truth of a run: the pose of every client's cube at every step, and when it was sampled.
//!
//! It is the same for every system. All threads read it, so a receiver's state can be checked
//! against its sender's truth wherever the sender runs.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cubesync_protocol::{Pose, Position};

use crate::motions::{self, Motion};

/// Neighbouring homes are about this far apart, in metres.
const GOLDEN_ANGLE_RADIANS: f32 = 2.399_963;

/// The poses of the clients of a run.
#[derive(Debug)]
pub(crate) struct Workload {
    /// Samples per second of each client.
    pub(crate) hz: u32,
    /// Number of clients.
    pub(crate) clients: usize,
    /// Number of servers that share the clients.
    pub(crate) servers: usize,
    steps: usize,
    /// The poses of all clients, step by step: those that are compared together lie together.
    poses: Vec<Pose>,
    /// The sample times in the same order, in microseconds since `began`; 0 means not yet.
    sampled_us: Vec<AtomicU32>,
    began: Instant,
}

impl Workload {
    /// Returns the workload, which is the same for the same arguments. The clients' homes are spread over a disc,
    /// `spacing_m` apart.
    pub(crate) fn new(
        motion: Motion,
        clients: usize,
        hz: u32,
        duration: Duration,
        spacing_m: f32,
    ) -> Self {
        let steps = (duration.as_secs_f32() * hz as f32).ceil() as usize + 1;
        let mut poses = vec![Pose::default(); clients * steps];
        let mut trace = Vec::with_capacity(steps);
        for client in 0..clients {
            let radius_m = spacing_m * (client as f32).sqrt();
            let (sine, cosine) = (client as f32 * GOLDEN_ANGLE_RADIANS).sin_cos();
            let home = Position::from_metres([radius_m * cosine, radius_m * sine, 0.5]);
            trace.clear();
            motions::append_trace(&mut trace, motion, client as u64, home, hz, steps);
            for (step, &pose) in trace.iter().enumerate() {
                poses[step * clients + client] = pose;
            }
        }
        Self {
            hz,
            clients,
            servers: 1,
            steps,
            sampled_us: poses.iter().map(|_| AtomicU32::new(0)).collect(),
            poses,
            began: Instant::now(),
        }
    }

    /// Returns the length of a step.
    pub(crate) fn period(&self) -> Duration {
        Duration::from_secs(1) / self.hz
    }

    /// Returns the number of a client's server: clients are assigned by turns.
    pub(crate) fn server(&self, client: usize) -> usize {
        client % self.servers
    }

    /// Returns the pose of a client's cube at a step; after the last step it rests.
    pub(crate) fn pose(&self, client: usize, step: usize) -> Pose {
        self.poses[self.index(client, step)]
    }

    /// Returns the microseconds since the workload began: the clock of a run.
    pub(crate) fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// Returns the instant of a time of this workload.
    pub(crate) fn instant(&self, at_us: u64) -> Instant {
        self.began + Duration::from_micros(at_us)
    }

    /// Records the time at which a client's step was sampled.
    pub(crate) fn mark_sampled(&self, client: usize, step: usize, at_us: u64) {
        let at_us = u32::try_from(at_us).unwrap_or(u32::MAX);
        self.sampled_us[self.index(client, step)].store(at_us, Ordering::Relaxed);
    }

    /// Returns the time at which a client's step was sampled; `None` if it was not, or if there is no such
    /// client.
    pub(crate) fn sampled_us(&self, client: usize, step: usize) -> Option<u64> {
        if client >= self.clients {
            return None;
        }
        let at_us = self.sampled_us[self.index(client, step)].load(Ordering::Relaxed);
        (at_us > 0).then_some(at_us.into())
    }

    fn index(&self, client: usize, step: usize) -> usize {
        step.min(self.steps - 1) * self.clients + client
    }
}
