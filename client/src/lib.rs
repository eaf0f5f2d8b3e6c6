//! Joining a cubesync server: everything that a game or a bot needs except drawing.
//!
//! [`Client`] is all that most programs use. Poll it once a frame, put your cube somewhere, send,
//! and ask where the others are; it never blocks, and connects again by itself. [`Controller`] moves a
//! cube the way a person expects. This one walks in a circle; the smallest game with a window is
//! `client/hello`.
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//!
//! use cubesync_client::{Client, ClientEvent, ClientOptions, Controller, Input};
//!
//! let mut client = Client::new(ClientOptions::new("localhost:14900", "Anna"), 1);
//! let (start, mut cube) = (Instant::now(), Controller::new(Default::default()));
//! loop {
//!     let now = start.elapsed();
//!     client.poll(now);
//!     while let Some(event) = client.next_event() {
//!         if let ClientEvent::Joined(welcome) = event {
//!             cube.set_pose(welcome.pose);
//!         }
//!     }
//!     if let Some(own) = client.own_cube() {
//!         cube.step(Input::towards(now.as_secs_f32()), 1.0 / 60.0);
//!         client.set_pose(own, cube.pose());
//!     }
//!     client.send(now);
//!     for view in client.cubes(now) {
//!         println!("{} is at {:.1?}; {}", view.name, view.position, client.status());
//!     }
//!     std::thread::sleep(Duration::from_millis(16));
//! }
//! ```
//!
//! The data takes this way, and so may a reader: bytes come from a [`socket`], the [`session`]
//! makes messages of them and keeps a [`Replica`](protocol::Replica) of the room, and [`playout`]
//! makes a smooth picture of it. After a lost connection [`reconnect`] says where to try again, and
//! when. On the way lie the [`lab`], which makes the network worse, and the [`recorder`], which
//! writes all bytes into a file for [`replay`]. Only the socket and the recorder do I/O, and only
//! the socket reads a clock: everywhere else the time is an argument.

#![cfg_attr(not(target_arch = "wasm32"), forbid(unsafe_code))]

pub mod lab;
pub mod playout;
pub mod reconnect;
pub mod recorder;
#[cfg(not(target_arch = "wasm32"))]
pub mod replay;
pub mod session;
pub mod socket;

mod client;
mod controller;
mod options;
mod report;
mod target;
#[cfg(not(target_arch = "wasm32"))]
mod trust;

pub use client::{ARRIVALS_KEPT, Client, TickArrival, Way};
pub use controller::{Controller, Input};
pub use cubesync_protocol as protocol;
pub use options::ClientOptions;
pub use report::{ClientEvent, CubeView, Statistics, Status};
pub use target::Target;
#[cfg(not(target_arch = "wasm32"))]
pub use trust::Trust;

#[cfg(test)]
mod testing {
    //! Helpers of several tests.

    use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
    use cubesync_protocol::{CubeId, Pose, Position};

    /// Returns a pose upright on the floor, `x_m` metres east of the origin.
    pub(crate) fn pose(x_m: f32) -> Pose {
        Pose {
            position: Position::from_metres([x_m, 0.0, 0.5]),
            ..Pose::default()
        }
    }

    /// Returns the state of a cube at `x_m` that is predicted to go on by `step_m` in each tick.
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
