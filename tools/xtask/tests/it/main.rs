//! What holds for the workspace as a whole: its dependencies, its packages and their modules.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod cargo;
mod dependencies;
mod modules;
mod packages;
mod source;
