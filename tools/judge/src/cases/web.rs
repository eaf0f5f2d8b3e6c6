//! The differences of a WebSocket.

use cubesync_protocol::ServerMessage;

use super::{Case, FOLLOW, WEB, case};
use crate::room::{TARGET, at};
use crate::trial::{Outcome, Trial};

const FRAMES: &str = "transport-and-frames";

pub(super) const CASES: &[Case] = &[
    case(
        "web-message-in-parts",
        "puts a WebSocket message together that comes in two parts",
        FRAMES,
        &[WEB, FOLLOW],
        message_in_parts,
    ),
    case(
        "web-frame-a-message",
        "takes a message for each frame as well as several in one",
        FRAMES,
        &[WEB, FOLLOW],
        frame_a_message,
    ),
    case(
        "web-ping",
        "stays when the server pings the WebSocket itself",
        FRAMES,
        &[WEB, FOLLOW],
        ping,
    ),
    case(
        "web-text",
        "ends the connection, or ignores it, when the server sends a text message",
        FRAMES,
        &[WEB],
        text,
    ),
];

fn message_in_parts(trial: &mut Trial<'_>) -> Outcome {
    trial.hello()?;
    trial.welcome()?;
    let (cubes, tick) = (trial.everybody(), trial.message_tick());
    let keyframe = trial.room.keyframe(crate::room::HERE, 1, tick, cubes);
    let frame = trial.frame(keyframe)?;
    trial.link()?.send_in_parts(&frame);
    trial.follows("the keyframe that came in two parts of a WebSocket message")
}

fn frame_a_message(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    for step in 0..20 {
        trial.room.put(TARGET, at(0.2 * step as f32, 2.0, 0.5));
        trial.tick()?;
    }
    let tick = trial.message_tick();
    let one = trial.frame(ServerMessage::Heartbeat { tick })?;
    let both = [&one[..], &one[..]].concat();
    trial.link()?.send(&both);
    trial.settle()?;
    trial.follows("frames in messages of their own, and two in one")
}

fn ping(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.link()?.write(&[0x89, 4, 1, 2, 3, 4]);
    trial.room.put(TARGET, at(2.0, 4.0, 0.5));
    trial.settle()?;
    trial.follows("the snapshots after a ping of the WebSocket")
}

fn text(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.link()?.write(&[0x81, 2, b'h', b'i']);
    trial.does_not_fail()
}
