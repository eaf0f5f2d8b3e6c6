//! Residuals: how a cube's true pose differs from the predicted one.

use super::jump::Jump;

/// The correction that is sent for a cube whose true pose is not as predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// The cube is still where it was at its last update, and stays there.
    Stopped,
    /// The cube is near its predicted pose.
    Error(Correction),
    /// The cube is far away, at once.
    Jumped(Jump),
}

/// The difference from the predicted pose, in steps of the codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Correction {
    /// The difference along x, y and z.
    pub position: [i32; 3],
    /// The component that the true rotation leaves out, 0 ..= 3 for x, y, z and w.
    pub largest: usize,
    /// The differences of the other three components.
    pub rotation: [i32; 3],
}
