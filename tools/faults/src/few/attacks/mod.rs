//! The attacks, in the order in which they are tried.

mod encrypted;
mod pages;
mod players;
mod readers;
mod strangers;

use super::attack::Attack;

/// Returns all attacks.
pub(super) fn all() -> impl Iterator<Item = &'static Attack> {
    [
        players::ATTACKS,
        readers::ATTACKS,
        pages::ATTACKS,
        strangers::ATTACKS,
        encrypted::ATTACKS,
    ]
    .into_iter()
    .flatten()
}
