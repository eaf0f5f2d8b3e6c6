//! Positions as lines of text, both ways.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::{Bytes, BytesMut};
use cubesync_protocol::limits::{MAX_HEIGHT_QUANTA, MAX_HORIZONTAL_QUANTA};
use cubesync_protocol::motion::Codec;
use cubesync_protocol::quantize::QUANTA_PER_METRE;
use cubesync_protocol::replica::Change;
use cubesync_protocol::{CubeId, CubeInfo, Message, Position, Replica, ServerMessage, frame};

/// Largest distance of a shown position from the one that was asked for, along each axis.
const SHOWN_WITHIN_QUANTA: u32 = Codec::LIVE.position_bound.unsigned_abs();

/// Returns whether a line has the form of a position.
pub(super) fn is_position(line: &str) -> bool {
    numbers(line).is_ok_and(|numbers| numbers.len() == 3)
}

/// Returns the position that a line names, or what is wrong with it.
pub(super) fn parse_position(line: &str) -> Result<Position, String> {
    let numbers = numbers(line)?;
    let &[x, y, z] = numbers.as_slice() else {
        return Err(format!("there are {} numbers", numbers.len()));
    };
    let horizontal = MAX_HORIZONTAL_QUANTA as f32 / QUANTA_PER_METRE;
    let height = MAX_HEIGHT_QUANTA as f32 / QUANTA_PER_METRE;
    // NaN is outside of every range.
    let inside = (-horizontal..=horizontal).contains(&x)
        && (-horizontal..=horizontal).contains(&y)
        && (0.0..=height).contains(&z);
    if !inside {
        return Err(format!(
            "that is outside the world: x and y go from -{horizontal} to {horizontal}, z from 0 \
             to {height}"
        ));
    }
    Ok(Position::from_metres([x, y, z]))
}

fn numbers(line: &str) -> Result<Vec<f32>, String> {
    let words = line.split_whitespace();
    let number = |word: &str| word.parse().map_err(|_| format!("{word:?} is no number"));
    words.map(number).collect()
}

/// A decoder of the room's frames into lines of positions.
#[derive(Debug)]
pub(super) struct Positions {
    replica: Replica,
    /// The position last written for each cube.
    written: BTreeMap<CubeId, Position>,
    /// The client's own cube, once the room has let it in.
    own: Option<CubeId>,
    /// The name that the client asked for, or the other one that it was told.
    name: String,
}

impl Positions {
    /// Decodes the frames of a client that asked for this name.
    pub(super) fn new(name: &str) -> Self {
        Self {
            replica: Replica::default(),
            written: BTreeMap::new(),
            own: None,
            name: name.to_owned(),
        }
    }

    /// Returns whether the client has seen its cube, at this position if there is one.
    pub(super) fn has_shown(&self, position: Option<Position>) -> bool {
        let shown = self.own.and_then(|own| self.written.get(&own));
        let is_near = |one: i32, other: i32| one.abs_diff(other) <= SHOWN_WITHIN_QUANTA;
        shown.is_some_and(|shown| {
            position.is_none_or(|asked| {
                is_near(asked.x, shown.x) && is_near(asked.y, shown.y) && is_near(asked.z, shown.z)
            })
        })
    }

    /// Returns a line for each change of a cube's position in these frames.
    pub(super) fn lines(&mut self, frames: Bytes) -> String {
        let mut text = String::new();
        let mut frames = BytesMut::from(frames);
        while let Ok(Some(payload)) = frame::split(&mut frames, ServerMessage::MAX_PAYLOAD_BYTES) {
            match ServerMessage::decode(&payload) {
                Ok(ServerMessage::Closing { message, .. }) => {
                    text.push_str(&format!("error: {message}\n"));
                }
                Ok(message) => self.take_in(&message, &mut text),
                Err(error) => {
                    debug_assert!(false, "our own frame does not decode: {error}");
                }
            }
        }
        text
    }

    fn take_in(&mut self, message: &ServerMessage, text: &mut String) {
        if let ServerMessage::Welcome(welcome) = message {
            self.own = Some(welcome.cube);
            if welcome.name != self.name {
                let (asked, name) = (written_name(&self.name), written_name(&welcome.name));
                writeln!(text, "error: the name {asked} is in use: you are {name}")
                    .expect("writing to a string cannot fail");
                self.name.clone_from(&welcome.name);
            }
        }
        let changes = self.replica.take_in(message);
        debug_assert!(changes.is_ok(), "our own message is refused: {changes:?}");
        let mut moved = Vec::new();
        for change in changes.unwrap_or_default() {
            match change {
                Change::Moved { states, .. } => moved = states,
                Change::Left(info) | Change::Disappeared(info) => {
                    self.written.remove(&info.cube);
                }
                // `Moved` lists new cubes too, and a new holder moves nothing.
                Change::Joined(_)
                | Change::Appeared(_)
                | Change::Taken { .. }
                | Change::Freed { .. } => {}
            }
        }
        let mut moved: Vec<_> = moved.into_iter().map(|(cube, _)| cube).collect();
        if let ServerMessage::Snapshot(snapshot) = message
            && let Some(stream) = self.replica.stream(snapshot.cell)
        {
            // Cubes that move as predicted have no residual, so `Moved` does not list them.
            moved.extend(stream.motion().active().map(|(cube, _)| cube));
        }
        moved.sort_unstable();
        moved.dedup();
        for cube in moved {
            if let (Some(info), Some(pose)) = (self.replica.cube(cube), self.replica.pose(cube))
                && self.written.insert(cube, pose.position) != Some(pose.position)
            {
                push_line(text, &line_name(info), pose.position);
            }
        }
    }
}

/// Returns what a cube's lines begin with: its name or, of a loose one, its number.
fn line_name(info: &CubeInfo) -> Cow<'_, str> {
    match info.name.is_empty() {
        true => format!("#{}", info.cube).into(),
        false => written_name(&info.name),
    }
}

/// Returns a name as lines have it. One that a reader could take for something else is quoted as in JSON:
/// one with blanks, quotation marks or backslashes, and one that begins as an error or a number of a loose cube does.
fn written_name(name: &str) -> Cow<'_, str> {
    let is_special = |character: char| character.is_whitespace() || "\"\\".contains(character);
    let begins_specially = ["error:", "#"].iter().any(|begin| name.starts_with(begin));
    match name.contains(is_special) || begins_specially {
        true => serde_json::Value::from(name).to_string().into(),
        false => name.into(),
    }
}

fn push_line(text: &mut String, name: &str, position: Position) {
    text.push_str(name);
    for metres in position.to_metres() {
        // Positions have a resolution of about 2 mm, so two decimals show nearly all of it.
        let number = format!("{metres:.2}");
        let number = number.trim_end_matches('0').trim_end_matches('.');
        text.push(' ');
        text.push_str(if number == "-0" { "0" } else { number });
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::motion::{MotionSet, MotionState};
    use cubesync_protocol::{CellId, Colour, CubeKind, Event, Keyframe, Pose, Snapshot};

    use super::*;

    #[test]
    fn coordinates_are_three_numbers_inside_the_world() {
        assert_eq!(
            parse_position(" 1 -2.5\t0.5 "),
            Ok(Position {
                x: 512,
                y: -1280,
                z: 256
            })
        );
        assert_eq!(parse_position("1 2"), Err("there are 2 numbers".into()));
        assert_eq!(parse_position(""), Err("there are 0 numbers".into()));
        assert_eq!(
            parse_position("1 two 3"),
            Err("\"two\" is no number".into())
        );
        for outside in ["257 0 0", "0 0 -1", "NaN 0 0", "0 inf 0", "0 0 32.1"] {
            let error = parse_position(outside).unwrap_err();
            assert!(error.contains("outside the world"), "{outside}: {error}");
        }
    }

    #[test]
    fn positions_are_written_without_trailing_zeros() {
        let mut text = String::new();
        push_line(
            &mut text,
            "Anna",
            Position {
                x: 512,
                y: -5,
                z: 0,
            },
        );
        assert_eq!(text, "Anna 1 -0.01 0\n");
    }

    #[test]
    fn no_name_can_be_taken_for_another_line() {
        for (name, expected) in [
            ("Anna", "Anna"),
            ("Вася-2", "Вася-2"),
            ("Anna B", "\"Anna B\""),
            ("Anna\u{3000}B", "\"Anna\u{3000}B\""),
            ("error: told", "\"error: told\""),
            ("error:", "\"error:\""),
            ("#17", "\"#17\""),
            ("\"Anna\"", r#""\"Anna\"""#),
            ("back\\slash", r#""back\\slash""#),
        ] {
            assert_eq!(written_name(name), expected);
        }
    }

    #[test]
    fn every_change_of_position_becomes_one_line() {
        let rest = |x: i32| {
            let position = Position { x, y: 0, z: 256 };
            MotionState::at_rest(Pose {
                position,
                ..Pose::default()
            })
        };
        let info = |cube, name: &str| CubeInfo {
            cube: CubeId(cube),
            kind: CubeKind::Player,
            name: name.into(),
            colour: Colour::from([0; 3]),
            width: Default::default(),
            motion: rest(512),
        };
        let keyframe = Keyframe {
            cell: CellId(0),
            interval_ticks: 1,
            tick: 1,
            cubes: vec![info(1, "Anna"), info(17, "")],
        };
        let mut sender = MotionSet::new(&Codec::LIVE);
        sender.insert(CubeId(1), rest(512));
        let mut snapshot = |tick, x, events| {
            sender.advance_to(sender.tick() + 1);
            let mut residuals = Vec::new();
            let truth = rest(x).pose(&Codec::LIVE);
            sender.encode_tick(|_| truth, &mut residuals);
            ServerMessage::Snapshot(Snapshot {
                cell: CellId(0),
                tick,
                events,
                residuals: residuals.into(),
            })
        };
        let mut frames = BytesMut::new();
        for message in [
            ServerMessage::Keyframe(keyframe.clone()),
            snapshot(2, 1024, vec![]),
            snapshot(3, 1024, vec![]),
            ServerMessage::Keyframe(Keyframe {
                tick: 4,
                ..keyframe
            }),
        ] {
            message.append_frame(&mut frames);
        }
        let joined = Snapshot {
            cell: CellId(0),
            tick: 5,
            events: vec![
                Event::Joined(info(2, "Вася")),
                Event::Left { cube: CubeId(1) },
            ],
            residuals: Bytes::new(),
        };
        ServerMessage::Snapshot(joined).append_frame(&mut frames);
        let text = Positions::new("Anna").lines(frames.freeze());
        assert_eq!(
            text,
            "Anna 1 0 0.5\n#17 1 0 0.5\nAnna 2 0 0.5\nAnna 1 0 0.5\nВася 1 0 0.5\n"
        );
    }
}
