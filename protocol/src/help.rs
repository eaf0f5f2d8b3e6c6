//! Addresses of `docs/TROUBLESHOOTING.md`, to which programs refer when they cannot go on.
//!
//! A test in `tools/xtask` checks that each heading which is named anywhere in the repository exists.

/// The section for players, whatever they play in.
pub const FOR_PLAYERS: &str = concat!(
    env!("CARGO_PKG_REPOSITORY"),
    "/blob/main/docs/TROUBLESHOOTING.md#a-player-is-stuck"
);

/// The section about the native window.
pub const FOR_THE_WINDOW: &str = concat!(
    env!("CARGO_PKG_REPOSITORY"),
    "/blob/main/docs/TROUBLESHOOTING.md#the-window"
);

/// The section for operators of servers.
pub const FOR_OPERATORS: &str = concat!(
    env!("CARGO_PKG_REPOSITORY"),
    "/blob/main/docs/TROUBLESHOOTING.md#the-server"
);
