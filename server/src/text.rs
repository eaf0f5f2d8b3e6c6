//! The tutorial's text protocol, for `nc` and telnet: a name, then lines of coordinates.
//!
//! The first line is the player's name. After it, each line `x y z`, in metres, moves the player's
//! cube there, and the server sends each change of any cube as `name x y z`. It answers a wrong line
//! with a line that starts with `error:`. To the room, a text client is an ordinary player: its
//! frames are decoded here and written as lines.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cubesync_protocol::limits::{MAX_HEIGHT_QUANTA, MAX_HORIZONTAL_QUANTA};
use cubesync_protocol::quantize::QUANTA_PER_METRE;
use cubesync_protocol::replica::Change;
use cubesync_protocol::{
    ClientMessage, Colour, CubeId, CubePose, Message, Pose, Position, Replica, Rotation,
    ServerMessage, clean_name, frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;
use cubesync_relay::admission::Admitted;
use cubesync_relay::ending::Ending;
use cubesync_relay::room::audience::Outlet;
use cubesync_relay::room::speed::SpeedRule;
use cubesync_relay::room::{Entrance, Membership, SightRule};
use cubesync_relay::rooms::DEFAULT_ROOM;
use cubesync_relay::token_bucket::TokenBucket;

/// Longest line that is read; a longer one is answered with an error.
const MAX_LINE_BYTES: usize = 256;

/// Time to type a name.
const NAME_DEADLINE: Duration = Duration::from_secs(60);

/// Number of frames, and of answers, that wait for the socket. A slower reader continues with a
/// keyframe.
const OUTPUT_QUEUE: usize = 8;

/// Pause before another line of a client over the limit is considered.
const RETRY: Duration = Duration::from_millis(10);

/// A client may send as many lines at once as it may send in this time.
const BURST: Duration = Duration::from_secs(1);

/// A connection that does not take a write in this time is closed.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// The colour of text clients' cubes.
const TEXT_COLOUR: Colour = Colour {
    red: 0xD8,
    green: 0xD8,
    blue: 0xD8,
};

/// Serves one connection until it ends.
pub(crate) async fn serve(shared: &Shared, stream: TcpStream, admitted: Admitted) {
    let open = shared.host.metrics.connected();
    if let Some(reason) = converse(shared, stream, &admitted).await {
        shared.host.metrics.disconnects.count(reason);
    }
    drop((open, admitted));
}

/// Returns why the conversation ended, unless the room has counted that already.
async fn converse(shared: &Shared, stream: TcpStream, admitted: &Admitted) -> Option<Ending> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = Lines {
        reader,
        received: BytesMut::new(),
        skipping: false,
    };
    let name = tokio::select! {
        name = tokio::time::timeout(NAME_DEADLINE, read_name(&mut lines, &mut writer)) => name,
        () = shared.host.shutdown.cancelled() => return Some(Ending::ShuttingDown),
    };
    let name = match name {
        Ok(Some(name)) => name,
        Ok(None) => return Some(Ending::Left),
        Err(_) => return Some(Ending::HelloTimeout),
    };
    let (frame_sender, frames) = mpsc::channel(OUTPUT_QUEUE);
    let (answer_sender, answers) = mpsc::channel(OUTPUT_QUEUE);
    let entrance = Entrance {
        name,
        colour: TEXT_COLOUR,
        rule: SpeedRule::Unlimited,
        sight: SightRule::Everything,
        resume: None,
        pose: None,
        outlet: Outlet::Frames(frame_sender),
        ended: CancellationToken::new(),
    };
    admitted.has_joined();
    let rooms = &shared.host.rooms;
    let entered = rooms.enter(DEFAULT_ROOM, entrance, admitted.address());
    let membership = match entered.await {
        Ok(membership) => membership,
        Err(ending) => {
            // Best effort: the connection ends either way.
            let _ = write_line(&mut writer, &format!("error: {}", ending.message())).await;
            return Some(ending);
        }
    };
    // Two whole loops side by side; whichever ends first ends the conversation.
    let reason = tokio::select! {
        reason = read_coordinates(shared, &mut lines, &membership, answer_sender) => Some(reason),
        reason = write_changes(&mut writer, frames, answers) => reason,
    };
    membership.end(reason).await;
    None
}

async fn read_name(lines: &mut Lines, writer: &mut OwnedWriteHalf) -> Option<String> {
    loop {
        let problem = match lines.next().await? {
            Line::Whole(line) => match clean_name(&line) {
                Ok(name) => return Some(name),
                Err(error) => error.to_string(),
            },
            Line::TooLong => "a name is short".into(),
        };
        write_line(writer, &format!("error: {problem}; type your name again"))
            .await
            .ok()?;
    }
}

async fn read_coordinates(
    shared: &Shared,
    lines: &mut Lines,
    membership: &Membership,
    answers: mpsc::Sender<String>,
) -> Ending {
    let cube = membership.cube();
    let rate = shared.config.max_messages;
    let mut budget = TokenBucket::per_second(rate, BURST, Instant::now().into_std());
    while let Some(line) = lines.next().await {
        // A file sent through `nc` arrives at once. It is read at the rate that clients may send at.
        while !budget.take(1, Instant::now().into_std()) {
            tokio::time::sleep(RETRY).await;
        }
        let position = match line {
            Line::Whole(line) => parse_position(&line),
            Line::TooLong => Err("the line is too long".into()),
        };
        match position {
            Ok(position) => {
                let pose = Pose {
                    position,
                    rotation: Rotation::IDENTITY,
                };
                let sample = ClientMessage::Sample {
                    tick: 0,
                    placed: vec![CubePose { cube, pose }],
                    residuals: Bytes::new(),
                };
                if membership.message(sample).await.is_err() {
                    return Ending::ShuttingDown;
                }
            }
            Err(problem) => {
                let expected = "expected three numbers \"x y z\" in metres, such as \"3 -2.5 0.5\"";
                if answers
                    .send(format!("error: {problem}; {expected}"))
                    .await
                    .is_err()
                {
                    return Ending::Lost;
                }
            }
        }
    }
    Ending::Left
}

/// Writes changes and answers. Returns `None` when the room has ended the connection and its last
/// frames are written.
async fn write_changes(
    writer: &mut OwnedWriteHalf,
    mut frames: mpsc::Receiver<Bytes>,
    mut answers: mpsc::Receiver<String>,
) -> Option<Ending> {
    let mut positions = Positions::default();
    loop {
        let text = tokio::select! {
            frames = frames.recv() => positions.lines(frames?),
            Some(answer) = answers.recv() => answer + "\n",
        };
        let write = writer.write_all(text.as_bytes());
        match tokio::time::timeout(WRITE_DEADLINE, write).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Some(Ending::Lost),
            Err(_) => return Some(Ending::SlowReader),
        }
    }
}

async fn write_line(writer: &mut OwnedWriteHalf, line: &str) -> std::io::Result<()> {
    let write = async {
        writer.write_all(line.as_bytes()).await?;
        writer.write_all(b"\n").await
    };
    tokio::time::timeout(WRITE_DEADLINE, write).await?
}

fn parse_position(line: &str) -> Result<Position, String> {
    let numbers = line
        .split_whitespace()
        .map(|word| {
            word.parse::<f32>()
                .map_err(|_| format!("{word:?} is no number"))
        })
        .collect::<Result<Vec<_>, _>>()?;
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

/// A decoder of the room's frames into lines of positions.
#[derive(Debug, Default)]
struct Positions {
    replica: Replica,
    /// The position last written for each cube.
    written: BTreeMap<CubeId, Position>,
}

impl Positions {
    /// Returns a line for each change of a cube's position in these frames.
    fn lines(&mut self, frames: Bytes) -> String {
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
                push_line(text, &info.name, pose.position);
            }
        }
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

/// A reader of lines of bounded length. tokio-util's `LinesCodec` ends the stream at bytes that are
/// not UTF-8. Here the client gets an error and may go on.
struct Lines {
    reader: OwnedReadHalf,
    received: BytesMut,
    /// Whether the rest of a line that is too long is being dropped.
    skipping: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Whole(String),
    TooLong,
}

impl Lines {
    /// Returns the next line without its line end, or `None` when the stream has ended or failed.
    /// The last line needs no line end. Cancelling this loses nothing.
    async fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(line) = take_line(&mut self.received, &mut self.skipping) {
                return Some(line);
            }
            if self.reader.read_buf(&mut self.received).await.ok()? == 0 {
                let rest = self.received.split();
                return (!rest.is_empty()).then(|| whole(&rest));
            }
        }
    }
}

fn take_line(received: &mut BytesMut, skipping: &mut bool) -> Option<Line> {
    loop {
        let end = received.iter().position(|&byte| byte == b'\n');
        match end {
            Some(end) if *skipping => {
                let _rest = received.split_to(end + 1);
                *skipping = false;
            }
            Some(end) if end <= MAX_LINE_BYTES => {
                let line = received.split_to(end + 1);
                return Some(whole(&line));
            }
            None if *skipping => {
                received.clear();
                return None;
            }
            None if received.len() <= MAX_LINE_BYTES => return None,
            _ => {
                *skipping = true;
                return Some(Line::TooLong);
            }
        }
    }
}

/// A received line, as the fuzz targets see it.
#[derive(Debug, PartialEq, Eq)]
pub struct TypedLine {
    /// The line without its line end; `None` for a line that is too long.
    pub line: Option<String>,
    /// The position, or the error that the client gets.
    pub position: Option<Result<Position, String>>,
}

/// Returns the lines of a stream that arrives in pieces, for `tools/fuzz/`.
pub fn read_typed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<TypedLine> {
    let (mut received, mut skipping) = (BytesMut::new(), false);
    let mut lines = Vec::new();
    for piece in pieces {
        received.extend_from_slice(piece);
        while let Some(line) = take_line(&mut received, &mut skipping) {
            let line = match line {
                Line::Whole(line) => Some(line),
                Line::TooLong => None,
            };
            let position = line.as_deref().map(parse_position);
            lines.push(TypedLine { line, position });
        }
        assert!(received.len() <= MAX_LINE_BYTES, "the buffer is bounded");
    }
    lines
}

fn whole(line: &[u8]) -> Line {
    Line::Whole(
        String::from_utf8_lossy(line)
            .trim_end_matches(['\r', '\n'])
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
    use cubesync_protocol::{CellId, CubeInfo, CubeKind, Event, Keyframe, Snapshot};

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
    fn a_line_that_is_too_long_is_reported_once_and_not_kept() {
        let mut skipping = false;
        let mut received = BytesMut::from(&b"one\r\ntw"[..]);
        let mut next = |received: &mut BytesMut| take_line(received, &mut skipping);
        assert_eq!(next(&mut received), Some(Line::Whole("one".into())));
        assert_eq!(next(&mut received), None);
        received.extend_from_slice(b"o\n");
        assert_eq!(next(&mut received), Some(Line::Whole("two".into())));
        received.extend_from_slice(&[b'x'; MAX_LINE_BYTES + 1]);
        assert_eq!(next(&mut received), Some(Line::TooLong));
        for _ in 0..100 {
            received.extend_from_slice(&[b'x'; 10_000]);
            assert_eq!(next(&mut received), None);
            assert!(received.is_empty(), "a long line takes no memory");
        }
        received.extend_from_slice(b"end\nthree\n");
        assert_eq!(next(&mut received), Some(Line::Whole("three".into())));
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
            colour: TEXT_COLOUR,
            motion: rest(512),
        };
        let keyframe = Keyframe {
            cell: CellId(0),
            interval_ticks: 1,
            tick: 1,
            cubes: vec![info(1, "Anna")],
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
        let text = Positions::default().lines(frames.freeze());
        assert_eq!(
            text,
            "Anna 1 0 0.5\nAnna 2 0 0.5\nAnna 1 0 0.5\nВася 1 0 0.5\n"
        );
    }
}
