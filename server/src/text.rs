//! The tutorial's text protocol, for `nc` and telnet: a name, then lines of coordinates.
//!
//! The first line is the player's name. After it, each line `x y z`, in metres, moves the player's
//! cube there, and the server sends each change of any cube as `name x y z`. It answers a wrong line
//! with a line that starts with `error:`. To the room, a text client is an ordinary player: its
//! frames are decoded here and written as lines.

mod lines;
mod positions;

use std::time::Duration;

use bytes::Bytes;
use cubesync_protocol::{ClientMessage, Colour, CubePose, Pose, Rotation, clean_name};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::lines::{Line, Lines};
pub use self::lines::{TypedLine, read_typed};
use self::positions::{Positions, parse_position};
use crate::shared::Shared;
use cubesync_relay::admission::Admitted;
use cubesync_relay::ending::Ending;
use cubesync_relay::room::audience::Outlet;
use cubesync_relay::room::speed::SpeedRule;
use cubesync_relay::room::{Entrance, Membership, SightRule};
use cubesync_relay::rooms::DEFAULT_ROOM;
use cubesync_relay::token_bucket::TokenBucket;

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
    let mut lines = Lines::new(reader);
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
