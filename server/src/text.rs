//! The tutorial's text protocol, for `nc` and telnet: a name, then lines of coordinates.
//!
//! The first line is the player's name. After it, each line `x y z`, in metres, moves the player's
//! cube there, and the server sends each change of any cube as `name x y z`. It answers a wrong line
//! with a line that starts with `error:`. To the room, a text client is an ordinary player: its
//! frames are decoded here and written as lines.

mod foreign;
mod lines;
mod positions;

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use cubesync_protocol::{ClientMessage, Colour, CubePose, Pose, Position, Rotation, clean_name};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::lines::{Input, Lines};
pub use self::lines::{TypedLine, read_typed};
use self::positions::{Positions, is_position, parse_position};
use crate::shared::Shared;
use cubesync_relay::admission::Admitted;
use cubesync_relay::budget::Budget;
use cubesync_relay::ending::{Ending, Problem};
use cubesync_relay::peer::{Peer, Transport};
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

/// Time to show a client that has ended its own side what it asked for. The next tick shows it.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// Time for a client to take the last lines and close. Closing while lines of it are unread would reset the
/// connection and could destroy them (RFC 2525, 2.17).
const LINGER: Duration = Duration::from_secs(1);

/// The colour of text clients' cubes.
const TEXT_COLOUR: Colour = Colour {
    red: 0xD8,
    green: 0xD8,
    blue: 0xD8,
};

/// Serves one connection until it ends.
pub(crate) async fn serve(shared: &Shared, stream: TcpStream, admitted: Admitted) {
    let open = shared.host.metrics.connected();
    let (reader, mut writer) = stream.into_split();
    let mut lines = Lines::new(reader, admitted.budget().cloned());
    if let Some(reason) = converse(shared, &mut lines, &mut writer, &admitted).await {
        shared.host.metrics.disconnects.count(reason);
    }
    if writer.shutdown().await.is_ok() {
        // A client that does not close in time is closed.
        let _ = tokio::time::timeout(LINGER, lines.drain()).await;
    }
    drop((open, admitted));
}

/// Returns why the conversation ended, unless the room has counted that already.
async fn converse(
    shared: &Shared,
    lines: &mut Lines,
    writer: &mut OwnedWriteHalf,
    admitted: &Admitted,
) -> Option<Ending> {
    let name = tokio::select! {
        name = tokio::time::timeout(NAME_DEADLINE, read_name(shared, lines, writer)) => name,
        () = shared.host.shutdown.cancelled() => {
            let line = format!("error: {}\n", Ending::ShuttingDown.message());
            // Best effort: the connection ends either way.
            let _ = write(writer, line).await;
            return Some(Ending::ShuttingDown);
        }
    };
    let name = match name {
        Ok(Ok(name)) => name,
        Ok(Err(ending)) => return Some(ending),
        Err(_) => {
            let seconds = NAME_DEADLINE.as_secs();
            // Best effort: the connection ends either way.
            let _ = write(writer, format!("error: no name came within {seconds} s\n")).await;
            return Some(Ending::HelloTimeout);
        }
    };
    let (frame_sender, frames) = mpsc::channel(OUTPUT_QUEUE);
    let (answer_sender, answers) = mpsc::channel(OUTPUT_QUEUE);
    let positions = Positions::new(&name);
    let entrance = Entrance {
        name,
        colour: TEXT_COLOUR,
        rule: SpeedRule::Unlimited,
        sight: SightRule::Everything,
        resume: None,
        pose: None,
        outlet: Outlet::Frames(frame_sender),
        ended: CancellationToken::new(),
        peer: Some(Peer {
            address: admitted.address(),
            transport: Transport::Text,
        }),
    };
    admitted.has_joined();
    let rooms = &shared.host.rooms;
    let entered = rooms.enter(DEFAULT_ROOM, entrance, admitted.address());
    let membership = match entered.await {
        Ok(membership) => membership,
        Err(ending) => {
            let _ = write(writer, format!("error: {}\n", ending.message())).await;
            return Some(ending);
        }
    };
    // Whoever was on their way in is not among the players that a ban of the address ends.
    if let Err(banned) = admitted.check_ban() {
        membership.remove(Problem::removal(banned, None)).await;
    }
    let reading = read_coordinates(shared, lines, &membership, admitted.budget(), answer_sender);
    let mut writing = pin!(write_changes(writer, positions, frames, answers));
    // Two whole loops side by side; whichever ends first ends the conversation.
    let reason = tokio::select! {
        reason = reading => match reason {
            // What was asked is answered before the connection ends.
            Ending::Left => {
                let _ = tokio::time::timeout(ANSWER_DEADLINE, &mut writing).await;
                Some(Ending::Left)
            }
            other => Some(other),
        },
        reason = &mut writing => reason,
    };
    membership.end(reason).await;
    None
}

/// Reads lines until one can be a name.
async fn read_name(
    shared: &Shared,
    lines: &mut Lines,
    writer: &mut OwnedWriteHalf,
) -> Result<String, Ending> {
    let first = lines.first_bytes(&foreign::BEGINNINGS).await;
    if let Some(answer) = foreign::answer_to_bytes(first, &shared.addresses) {
        write(writer, answer).await?;
        return Err(Ending::NotHello);
    }
    let mut is_first = true;
    loop {
        let line = match lines.next().await.ok_or(Ending::Left)? {
            Input::Negotiation(answer) => {
                write(writer, answer).await?;
                continue;
            }
            Input::Line(line) => Ok(line),
            Input::Unreadable(reason) => Err(reason.to_string()),
        };
        if let Ok(line) = &line
            && std::mem::take(&mut is_first)
            && let Some(answer) = foreign::answer_to_line(line, &shared.addresses)
        {
            write(writer, answer).await?;
            return Err(Ending::NotHello);
        }
        let problem = match line.and_then(|line| name_from(&line)) {
            Ok(name) => return Ok(name),
            Err(problem) => problem,
        };
        let next = "type your name again: the next line is taken for it";
        write(writer, format!("error: {problem}; {next}\n")).await?;
    }
}

/// Returns the name in a line.
fn name_from(line: &str) -> Result<String, String> {
    // A client whose name was refused may go on with its positions.
    if is_position(line) {
        return Err("this is a position, and a name comes first".to_owned());
    }
    clean_name(line).map_err(|error| error.to_string())
}

/// A line for the client, from the loop that reads.
enum Answer {
    Text(Bytes),
    /// The last one: the client has ended its side, and waits to see its cube, here if it moved it.
    Last(Option<Position>),
}

async fn read_coordinates(
    shared: &Shared,
    lines: &mut Lines,
    membership: &Membership,
    budget: Option<&Budget>,
    answers: mpsc::Sender<Answer>,
) -> Ending {
    let cube = membership.cube();
    let rate = shared.config.max_messages;
    let mut own = TokenBucket::per_second(rate, BURST, Instant::now().into_std());
    let mut asked = None;
    while let Some(input) = lines.next().await {
        // A file sent through `nc` arrives at once. It is read at the rate that clients may send at.
        while !own.take(1, Instant::now().into_std()) {
            tokio::time::sleep(RETRY).await;
        }
        if let Some(budget) = budget {
            budget.pay_message().await;
        }
        let position = match input {
            Input::Line(line) => parse_position(&line),
            Input::Unreadable(reason) => Err(reason.to_string()),
            Input::Negotiation(answer) => {
                let answer = Bytes::copy_from_slice(&answer);
                if answers.send(Answer::Text(answer)).await.is_err() {
                    return Ending::Lost;
                }
                continue;
            }
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
                asked = Some(position);
            }
            Err(problem) => {
                let expected = "expected three numbers \"x y z\" in metres, such as \"3 -2.5 0.5\"";
                let answer = format!("error: {problem}; {expected}\n");
                if answers.send(Answer::Text(answer.into())).await.is_err() {
                    return Ending::Lost;
                }
            }
        }
    }
    // The loop that writes may have ended.
    let _ = answers.send(Answer::Last(asked)).await;
    Ending::Left
}

/// Writes changes and answers. Returns `None` when the room has ended the connection and its last
/// frames are written, and `Left` when the client that has ended its side has everything.
async fn write_changes(
    writer: &mut OwnedWriteHalf,
    mut positions: Positions,
    mut frames: mpsc::Receiver<Bytes>,
    mut answers: mpsc::Receiver<Answer>,
) -> Option<Ending> {
    let mut last = None;
    loop {
        if last.is_some_and(|asked| positions.has_shown(asked)) {
            return Some(Ending::Left);
        }
        let text = tokio::select! {
            frames = frames.recv() => positions.lines(frames?).into(),
            Some(answer) = answers.recv() => match answer {
                Answer::Text(text) => text,
                Answer::Last(asked) => {
                    last = Some(asked);
                    continue;
                }
            },
        };
        if let Err(ending) = write(writer, text).await {
            return Some(ending);
        }
    }
}

async fn write(writer: &mut OwnedWriteHalf, text: impl AsRef<[u8]>) -> Result<(), Ending> {
    let write = writer.write_all(text.as_ref());
    match tokio::time::timeout(WRITE_DEADLINE, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Ending::Lost),
        Err(_) => Err(Ending::SlowReader),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_no_name() {
        assert_eq!(name_from(" Anna "), Ok("Anna".to_owned()));
        assert_eq!(name_from("7"), Ok("7".to_owned()));
        for position in ["1 2 3", " 1  -2.5\t0 ", "999 0 0"] {
            let problem = name_from(position).unwrap_err();
            assert!(problem.contains("a name comes first"), "{problem}");
        }
    }
}
