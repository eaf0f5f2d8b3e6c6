//! The physics of loose cubes, by rapier3d: [`create`] makes a room's mechanics, and [`arrangement`] says how a room's
//! cubes stand when it begins.

mod arrangement;
mod bodies;

pub use arrangement::arrangement;
pub use bodies::create;
