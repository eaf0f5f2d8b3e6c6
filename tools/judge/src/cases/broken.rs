//! Bytes that no server sends: the client must end the connection, and must not fail inside.

use anyhow::ensure;
use bytes::Bytes;
use cubesync_protocol::limits::MAX_SERVER_PAYLOAD_BYTES;
use cubesync_protocol::{CellId, Message, ServerMessage, Snapshot, Welcome};

use super::{Case, PREDICTED, STRICT, case};
use crate::room::{HERE, TARGET, at};
use crate::trial::{Outcome, Trial};

const FRAMES: &str = "transport-and-frames";
const VALUES: &str = "how-values-are-written";
const CLOCKS: &str = "ticks-and-clocks";
const CELLS: &str = "cells";

pub(super) const CASES: &[Case] = &[
    case(
        "empty-frame",
        "ends the connection at a frame without a payload",
        FRAMES,
        &[],
        |trial| joined(trial, &[0; 4], "an empty frame"),
    ),
    case(
        "long-frame",
        "ends the connection at a frame above the limit, without waiting for its bytes",
        FRAMES,
        &[],
        |trial| {
            let header = (MAX_SERVER_PAYLOAD_BYTES as u32 + 1).to_be_bytes();
            joined(trial, &header, "a frame of 1 MiB and a byte")
        },
    ),
    case(
        "endless-frame",
        "ends the connection at a frame of 4 GiB",
        FRAMES,
        &[],
        |trial| joined(trial, &[0xFF; 4], "a frame of 4 GiB"),
    ),
    case(
        "truncated",
        "ends the connection at a message that its payload cuts",
        VALUES,
        &[],
        |trial| {
            changed(
                trial,
                "a message of a cell without its last byte",
                |payload| payload.truncate(payload.len() - 1),
            )
        },
    ),
    case(
        "trailing",
        "ends the connection at a message with a byte behind it",
        VALUES,
        &[],
        |trial| {
            changed(
                trial,
                "a message of a cell with a byte behind it",
                |payload| payload.push(0),
            )
        },
    ),
    case(
        "long-cell",
        "ends the connection at a cell whose number is longer than it need be",
        VALUES,
        &[],
        |trial| {
            changed(
                trial,
                "a message of cell 0 that writes it in three bytes",
                |payload| {
                    payload.splice(1..2, [0xFB, 0, 0]);
                },
            )
        },
    ),
    case(
        "long-varint",
        "ends the connection at a number that is longer than it need be",
        VALUES,
        &[STRICT],
        |trial| {
            payload(
                trial,
                &[4, 0xFB, 5, 0],
                "a Heartbeat whose tick 5 has three bytes",
            )
        },
    ),
    case(
        "longer-varint",
        "ends the connection at a number of nine bytes that fits three",
        VALUES,
        &[STRICT],
        |trial| {
            payload(
                trial,
                &[4, 0xFD, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0],
                "a Heartbeat whose tick 65,535 has nine bytes",
            )
        },
    ),
    case(
        "unknown-varint",
        "ends the connection at a number that begins with fe or ff",
        VALUES,
        &[STRICT],
        |trial| {
            payload(
                trial,
                &[&[4, 0xFE][..], &[9; 16]].concat(),
                "a Heartbeat whose tick has 128 bits",
            )
        },
    ),
    case(
        "unknown-message",
        "ends the connection at a message with an unknown number",
        VALUES,
        &[],
        |trial| payload(trial, &[99, 1, 2, 3], "message number 99"),
    ),
    case(
        "unknown-variant",
        "ends the connection at an unknown code of a Closing",
        VALUES,
        &[STRICT],
        |trial| {
            payload(
                trial,
                &[9, 77, 2, b'o', b'k', 0],
                "Closing with the unknown code 77",
            )
        },
    ),
    case(
        "boolean-2",
        "ends the connection at a Welcome with a boolean of 2",
        VALUES,
        &[STRICT],
        boolean_2,
    ),
    case(
        "option-2",
        "ends the connection at an optional value that is neither there nor not",
        VALUES,
        &[STRICT],
        |trial| {
            payload(
                trial,
                &[9, 0, 2, b'o', b'k', 2],
                "Closing whose time is marked by 2",
            )
        },
    ),
    case(
        "bad-utf-8",
        "ends the connection at a text that is not UTF-8",
        VALUES,
        &[],
        |trial| {
            payload(
                trial,
                &[9, 0, 3, b'o', 0xC3, b'k', 0],
                "Closing with a text that is not UTF-8",
            )
        },
    ),
    case(
        "long-text",
        "ends the connection at a text that is longer than its payload",
        VALUES,
        &[],
        |trial| {
            payload(
                trial,
                &[9, 0, 250, b'o', b'k', 0],
                "Closing with a text of 250 bytes in a payload of six",
            )
        },
    ),
    case(
        "endless-list",
        "ends the connection at a list of 2^62 items, and takes no memory for it",
        VALUES,
        &[],
        |trial| {
            let list = [&[5, 0xFD][..], &(1u64 << 62).to_le_bytes(), &[1, 2, 3]].concat();
            payload(trial, &list, "OutOfSight with 2^62 cells")
        },
    ),
    case(
        "foreign-protocol",
        "ends the connection to a server of another protocol",
        FRAMES,
        &[],
        foreign_protocol,
    ),
    case(
        "nothing-first",
        "ends the connection when the first message is no Welcome",
        "the-conversation",
        &[STRICT],
        nothing_first,
    ),
    case(
        "tick-rate-0",
        "ends the connection at a Welcome with 0 ticks a second, or never divides by them",
        "from-the-server",
        &[STRICT],
        tick_rate_0,
    ),
    case(
        "cut-connection",
        "does not take the beginning of a frame for a message when the connection ends",
        FRAMES,
        &[],
        cut_connection,
    ),
    case(
        "ticks-fall",
        "ends the connection at a tick before that of an earlier message",
        CLOCKS,
        &[STRICT],
        ticks_fall,
    ),
    case(
        "same-tick-twice",
        "ends the connection at a second snapshot of a cell for the same tick",
        CLOCKS,
        &[STRICT, PREDICTED],
        same_tick_twice,
    ),
    case(
        "unknown-cell",
        "ends the connection at a snapshot of a cell that is not in sight",
        CELLS,
        &[STRICT, PREDICTED],
        unknown_cell,
    ),
    case(
        "garbage",
        "ends the connection at residuals that are none",
        CELLS,
        &[PREDICTED],
        |trial| residuals(trial, &[0xA5; 40]),
    ),
    case(
        "more-garbage",
        "ends the connection at residuals of zeros",
        CELLS,
        &[PREDICTED],
        |trial| residuals(trial, &[0; 40]),
    ),
    case(
        "left-over",
        "ends the connection at residuals with bytes behind them",
        CELLS,
        &[PREDICTED],
        left_over,
    ),
];

/// Lets the client in, sends bytes, and expects that it ends the connection.
fn joined(trial: &mut Trial<'_>, bytes: &[u8], cause: &str) -> Outcome {
    trial.join()?;
    trial.stay(std::time::Duration::from_millis(200))?;
    trial.send_bytes(bytes)?;
    trial.ends(cause)
}

/// Does the same with a payload in a frame.
fn payload(trial: &mut Trial<'_>, payload: &[u8], cause: &str) -> Outcome {
    let length = u32::try_from(payload.len())?.to_be_bytes();
    joined(trial, &[&length[..], payload].concat(), cause)
}

/// Does the same with a changed message of all cubes of a cell, which is right but for that.
fn changed(trial: &mut Trial<'_>, cause: &str, change: impl Fn(&mut Vec<u8>)) -> Outcome {
    trial.join()?;
    trial.tick()?;
    let (cubes, tick) = (trial.everybody(), trial.message_tick());
    let message = trial.room.keyframe(HERE, 1, tick, cubes);
    let mut payload = trial.frame(message)?[4..].to_vec();
    change(&mut payload);
    trial.send_payload(&payload)?;
    trial.ends(cause)
}

fn boolean_2(trial: &mut Trial<'_>) -> Outcome {
    trial.hello()?;
    let frame = ServerMessage::Welcome(trial.greeting.clone()).to_frame();
    let mut payload = frame[4..].to_vec();
    // Behind it are the token and an empty list.
    let place = payload.len() - 18;
    payload[place] = 2;
    trial.send_payload(&payload)?;
    trial.ends("a Welcome whose physics is 2")
}

fn foreign_protocol(trial: &mut Trial<'_>) -> Outcome {
    trial.hello()?;
    trial.send_bytes(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")?;
    trial.ends("an answer in HTTP")
}

fn nothing_first(trial: &mut Trial<'_>) -> Outcome {
    trial.hello()?;
    trial.send_payload(&[4, 5])?;
    trial.ends("a Heartbeat instead of a Welcome")
}

fn tick_rate_0(trial: &mut Trial<'_>) -> Outcome {
    trial.hello()?;
    let welcome = Welcome {
        tick_hz: 0,
        ..trial.greeting.clone()
    };
    trial.send_payload(&ServerMessage::Welcome(welcome).to_frame()[4..])?;
    trial.ends("a Welcome with 0 ticks a second")
}

fn cut_connection(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.stay(std::time::Duration::from_millis(200))?;
    trial.send_bytes(&[0, 0, 0, 9, 4])?;
    trial.hang_up();
    trial.does_not_hurry()
}

fn ticks_fall(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.room.put(TARGET, at(3.0, 3.0, 0.5));
    trial.settle()?;
    let tick = trial.room.replica.tick() - 2;
    trial.send_payload(&ServerMessage::Heartbeat { tick }.to_frame()[4..])?;
    trial.ends("a Heartbeat of the past")
}

/// Sends a snapshot as it is, and expects that the client ends the connection.
fn snapshot(
    trial: &mut Trial<'_>,
    cell: CellId,
    tick: u64,
    residuals: &[u8],
    cause: &str,
) -> Outcome {
    let snapshot = Snapshot {
        cell,
        tick,
        residuals: Bytes::copy_from_slice(residuals),
        events: Vec::new(),
    };
    trial.note(&format!("< {snapshot:?}"));
    trial.send_payload(&ServerMessage::Snapshot(snapshot).to_frame()[4..])?;
    trial.ends(cause)
}

fn same_tick_twice(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.room.put(TARGET, at(3.0, 3.0, 0.5));
    trial.tick()?;
    let tick = trial.room.replica.tick();
    snapshot(
        trial,
        HERE,
        tick,
        &[],
        "a second snapshot of a cell for the same tick",
    )
}

fn unknown_cell(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    let tick = trial.message_tick() + 1;
    snapshot(
        trial,
        CellId(99),
        tick,
        &[],
        "a snapshot of a cell that was never in sight",
    )
}

fn residuals(trial: &mut Trial<'_>, residuals: &[u8]) -> Outcome {
    trial.join()?;
    let tick = trial.message_tick() + 1;
    let mut set = trial.room.motion_at(HERE, tick)?;
    ensure!(
        set.decode_tick(residuals, |_| {}).is_err(),
        "the script's garbage can be decoded"
    );
    snapshot(trial, HERE, tick, residuals, "residuals that are none")
}

fn left_over(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    let tick = trial.message_tick() + 1;
    let mut set = trial.room.motion_at(HERE, tick)?;
    let mut copy = set.clone();
    let mut residuals = Vec::new();
    set.encode_tick(|_| at(3.0, 3.0, 3.0), &mut residuals);
    residuals.extend([1; 9]);
    ensure!(
        copy.decode_tick(&residuals, |_| {}).is_err(),
        "the script's bytes can be decoded"
    );
    snapshot(
        trial,
        HERE,
        tick,
        &residuals,
        "residuals with nine bytes behind them",
    )
}
