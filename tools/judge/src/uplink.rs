//! The server's end of the client's samples: where its cubes are by them, and what no client may send.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use cubesync_protocol::limits::MAX_CUBES_PER_SAMPLE;
use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_protocol::{CubeId, CubePose, Encoding, Pose};

/// The cubes of a client, by what it has said of them on one connection.
pub(crate) struct Uplink {
    encoding: Encoding,
    /// The set that client and server share; empty for the plain encoding.
    set: MotionSet,
    plain: BTreeMap<CubeId, Pose>,
    /// The cubes that it may move.
    pub(crate) movable: BTreeSet<CubeId>,
    /// The number of samples.
    pub(crate) count: usize,
    /// The client's count of releases.
    pub(crate) releases: u32,
    /// The tick of the newest sample.
    pub(crate) tick: u64,
}

impl Uplink {
    pub(crate) fn new(encoding: Encoding, own: CubeId) -> Self {
        Self {
            encoding,
            set: MotionSet::new(&Codec::LIVE),
            plain: BTreeMap::new(),
            movable: [own].into(),
            count: 0,
            releases: 0,
            tick: 0,
        }
    }

    /// Takes in a sample.
    pub(crate) fn sample(
        &mut self,
        tick: u64,
        placed: &[CubePose],
        residuals: &[u8],
    ) -> Result<()> {
        self.count += 1;
        self.tick = tick;
        let count = placed.len();
        ensure!(
            count <= MAX_CUBES_PER_SAMPLE,
            "it placed {count} cubes in one sample; at most {MAX_CUBES_PER_SAMPLE} are allowed"
        );
        for placed in placed {
            self.check(placed.cube)?;
        }
        if self.encoding == Encoding::Plain {
            ensure!(
                residuals.is_empty(),
                "it asked for the plain encoding, but the sample of tick {tick} has residuals"
            );
            self.plain
                .extend(placed.iter().map(|placed| (placed.cube, placed.pose)));
            return Ok(());
        }
        let before = self.set.tick();
        ensure!(
            tick > before,
            "it sent the sample of tick {tick} after that of tick {before}; ticks must rise"
        );
        self.set.advance_to(tick);
        for placed in placed {
            self.set
                .insert(placed.cube, MotionState::at_rest(placed.pose));
        }
        if !residuals.is_empty() {
            let mut moved = Vec::new();
            let cubes = self.set.len();
            let decoded = self.set.decode_tick(residuals, |cube| moved.push(cube));
            decoded.with_context(|| {
                format!(
                    "the residuals of its sample of tick {tick} are none over the {cubes} cubes that it has placed: {}",
                    hex(residuals)
                )
            })?;
            for cube in moved {
                self.check(cube)?;
            }
        }
        Ok(())
    }

    /// Takes in that the client has let go of a cube.
    pub(crate) fn released(&mut self, cube: CubeId) {
        self.set.remove(cube);
        self.plain.remove(&cube);
        self.movable.remove(&cube);
        self.releases += 1;
    }

    /// Returns where a cube is by the samples so far, at a tick or at the newest sample's if that is later.
    pub(crate) fn pose(&self, cube: CubeId, tick: u64) -> Option<Pose> {
        match self.encoding {
            Encoding::Plain => self.plain.get(&cube).copied(),
            Encoding::Predicted => Some(
                self.set
                    .state_at(cube, tick.max(self.set.tick()))?
                    .pose(&Codec::LIVE),
            ),
        }
    }

    fn check(&self, cube: CubeId) -> Result<()> {
        ensure!(
            self.movable.contains(&cube),
            "it moved cube {cube}, which is not its own and not held by it"
        );
        Ok(())
    }
}

/// Returns bytes in hexadecimal, the first ones of many.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const SHOWN: usize = 48;
    let digits: String = bytes
        .iter()
        .take(SHOWN)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    match bytes.len() {
        ..=SHOWN => digits,
        count => format!("{digits}... ({count} bytes)"),
    }
}
