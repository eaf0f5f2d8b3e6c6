//! What holds for the workspace as a whole: its dependencies, its packages and their modules, and the page that
//! helps people.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod cargo;
mod dependencies;
mod help;
mod modules;
mod packages;
mod source;
mod variables;
