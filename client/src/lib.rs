//! Joining a cubesync server: everything a client needs except drawing.
//!
//! [`Client`] is the whole of it for a game or a bot: poll it once a frame, move your cube, ask
//! where the others are. It never blocks and connects again by itself. `examples/join.rs` is the
//! shortest program that uses it, and [`Controller`] moves a cube the way a person expects.
//!
//! Read it in the order of the data. Bytes come from the [`socket`]; the [`session`] makes
//! messages of them. Once it is in a [`room`], that keeps the [`world`] of the cells in [`sight`]
//! and the server's [`clock`] and makes the samples of the cubes it controls, by a [`lead`]
//! ahead of their ticks. What is shown [`ahead`] of the server's word comes to agree with it. The [`snapshot_buffer`] holds the recent surprises; [`playout`] says which tick to
//! show, [`interpolation`](cubesync_protocol::interpolation) where a cube is at it, [`blend`] hides what came too late, and the
//! [`view`] is what comes of them. After a lost connection [`servers`] says where to try
//! again and [`backoff`] when. The [`client`] ties them together, and [`report`] is what it tells, [`arrivals`] for
//! a net graph; its [`lab`] makes the network worse; the [`recorder`] writes all bytes into a file.
//! Only the socket and the recorder do I/O, and only the socket reads a clock: everywhere else the time is an argument.

#![cfg_attr(not(target_arch = "wasm32"), forbid(unsafe_code))]

pub mod ahead;
pub mod arrivals;
pub mod backoff;
pub mod blend;
pub mod client;
pub mod clock;
pub mod controller;
pub mod lab;
pub mod lead;
pub mod options;
pub mod playout;
pub mod recorder;
#[cfg(not(target_arch = "wasm32"))]
pub mod replay;
pub mod report;
pub mod room;
pub mod servers;
pub mod session;
pub mod session_event;
pub mod sight;
pub mod snapshot_buffer;
pub mod socket;
#[cfg(not(target_arch = "wasm32"))]
pub mod trust;
pub mod view;
pub mod world;

pub use client::Client;
pub use controller::{Controller, Input};
pub use cubesync_protocol as protocol;
pub use options::ClientOptions;
pub use report::{ClientEvent, CubeView, Statistics, Status};
pub use session::Session;

#[cfg(test)]
mod testing {
    //! What several tests need.

    use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
    use cubesync_protocol::{CubeId, Pose, Position};

    use cubesync_protocol::uplink::sender::Sample;

    /// The server's side of a client's samples.
    pub(crate) struct Listener {
        pub(crate) believed: MotionSet,
    }

    impl Listener {
        pub(crate) fn new() -> Self {
            Self {
                believed: MotionSet::new(&Codec::LIVE),
            }
        }

        pub(crate) fn hear(&mut self, sample: &Sample) {
            assert!(sample.tick > self.believed.tick(), "{sample:?}");
            self.believed.advance_to(sample.tick);
            for placed in &sample.placed {
                let rest = MotionState::at_rest(placed.pose);
                assert_eq!(self.believed.insert(placed.cube, rest), None);
            }
            if !sample.surprises.is_empty() {
                let decoded = self.believed.decode_tick(&sample.surprises, |_| {});
                decoded.expect("an encoder wrote it");
            }
        }

        /// Where a cube is believed to be; `None` before it was placed.
        pub(crate) fn x_m(&self, cube: CubeId) -> Option<f32> {
            let pose = self.believed.pose(cube)?;
            Some(pose.position.to_metres()[0])
        }
    }

    /// Upright on the floor, `x_m` metres east of the origin.
    pub(crate) fn pose(x_m: f32) -> Pose {
        Pose {
            position: Position::from_metres([x_m, 0.0, 0.5]),
            ..Pose::default()
        }
    }
    /// At `x_m` and believed to go on by `step_m` in each tick.
    pub(crate) fn moving(x_m: f32, step_m: f32) -> MotionState {
        const EXACT: Codec = Codec {
            position_bound: 0,
            acceleration_gain: 0,
            ..Codec::LIVE
        };
        let cube = CubeId(0);
        let mut set = MotionSet::new(&EXACT);
        set.insert(cube, MotionState::at_rest(pose(x_m - 100.0)));
        // A jump has no speed; what follows in the next tick is all of it.
        for x_m in [x_m - step_m, x_m] {
            set.advance_to(set.tick() + 1);
            set.encode_tick(|_| pose(x_m), &mut Vec::new());
        }
        *set.get(cube).expect("the cube was inserted")
    }
}
