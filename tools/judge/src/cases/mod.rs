//! The cases, by the part of the protocol that they are about.

mod broken;
mod cells;
mod endings;
mod events;
mod greeting;
mod motion;
mod samples;
mod taking;
mod web;

use clap::ValueEnum;

use crate::trial::{Outcome, Trial};
use cubesync_protocol::Encoding;

/// Something that a client can do besides what every client must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ability {
    /// Moves its own cube to where the cube is that it is told to follow
    Follow,
    /// Takes the free cube "prize" and moves it as well, while the followed cube is lower than 10 m
    Take,
    /// Comes back by itself after a lost connection, with its token
    Return,
    /// Goes on at another server, which the Welcome has named, when its own is gone
    Move,
    /// Asks for a way for datagrams
    Datagrams,
    /// Prints the server's messages for the person
    Say,
    /// Ends the connection also at what it need not have noticed: in parts of messages that it has no use for, and in
    /// the order of messages
    Strict,
}

/// A condition under which a case applies to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Can(Ability),
    Uses(Encoding),
    /// The client connects to a WebSocket.
    Web,
}

pub(crate) const FOLLOW: Need = Need::Can(Ability::Follow);
pub(crate) const TAKE: Need = Need::Can(Ability::Take);
pub(crate) const RETURN: Need = Need::Can(Ability::Return);
pub(crate) const MOVE: Need = Need::Can(Ability::Move);
pub(crate) const DATAGRAMS: Need = Need::Can(Ability::Datagrams);
pub(crate) const SAY: Need = Need::Can(Ability::Say);
pub(crate) const STRICT: Need = Need::Can(Ability::Strict);
pub(crate) const PREDICTED: Need = Need::Uses(Encoding::Predicted);
pub(crate) const WEB: Need = Need::Web;

/// A script, and what it expects.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// Its name, in the words of a file's.
    pub(crate) name: &'static str,
    /// The deeds of a right client, in one line.
    pub(crate) expects: &'static str,
    /// The anchor of the section of `docs/PROTOCOL.md` that says so.
    pub(crate) section: &'static str,
    pub(crate) needs: &'static [Need],
    pub(crate) run: fn(&mut Trial<'_>) -> Outcome,
}

/// Returns all cases.
pub(crate) fn all() -> Vec<Case> {
    [
        greeting::CASES,
        samples::CASES,
        cells::CASES,
        events::CASES,
        motion::CASES,
        taking::CASES,
        endings::CASES,
        broken::CASES,
        web::CASES,
    ]
    .concat()
}

/// Makes a case, in the order of a table's columns.
const fn case(
    name: &'static str,
    expects: &'static str,
    section: &'static str,
    needs: &'static [Need],
    run: fn(&mut Trial<'_>) -> Outcome,
) -> Case {
    Case {
        name,
        expects,
        section,
        needs,
        run,
    }
}
