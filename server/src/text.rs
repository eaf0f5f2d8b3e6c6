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
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::lines::{Input, Lines};
pub use self::lines::{TypedLine, read_typed};
use self::positions::{Positions, is_position, parse_position};
use crate::shared::Shared;
use cubesync_relay::admission::Admitted;
use cubesync_relay::ending::{Ending, Problem};
use cubesync_relay::peer::{Peer, Transport};
use cubesync_relay::room::audience::Outlet;
use cubesync_relay::room::speed::SpeedRule;
use cubesync_relay::room::{Entrance, Membership, SightRule};
use cubesync_relay::rooms::DEFAULT_ROOM;
use cubesync_relay::session::tcp::{self, Socket};
use cubesync_relay::token_bucket::TokenBucket;

/// Places for clients that take in what they hear. When hundreds come at once, the room's task waits behind a
/// few of them only.
static TURNS: Semaphore = Semaphore::const_new(2);

/// Time to type a name.
const NAME_DEADLINE: Duration = Duration::from_secs(60);

/// Number of frames, and of answers, that wait for the socket. A slower reader continues with a
/// keyframe.
const OUTPUT_QUEUE: usize = 8;

/// Time without a line after which a player is gone. Somebody at a keyboard may think for minutes, but a
/// terminal that was closed with its computer says nothing for ever.
const SILENT_AFTER: Duration = Duration::from_secs(10 * 60);

/// Time before that at which the player is told.
const WARN_BEFORE: Duration = Duration::from_secs(60);

/// A client may send as many lines at once as it may send in this time.
const BURST: Duration = Duration::from_secs(1);

/// A connection that takes no bytes for this time is closed.
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
    if let Err(error) = tcp::prepare(&stream) {
        return debug!(%error, "connection broke");
    }
    let (reader, mut writer) = tokio::io::split(Socket::new(stream));
    let rate = shared.config.max_messages;
    let own = TokenBucket::per_second(rate, BURST, Instant::now().into_std());
    let mut lines = Lines::new(reader, own, admitted.budget().cloned());
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
    writer: &mut WriteHalf<Socket>,
    admitted: &Admitted,
) -> Option<Ending> {
    let name = tokio::select! {
        name = tokio::time::timeout(NAME_DEADLINE, read_name(shared, lines, writer)) => name,
        ending = shared.host.sessions.cut_short(admitted) => {
            let line = format!("error: {}\n", ending.message());
            // Best effort: the connection ends either way.
            let _ = write(writer, line).await;
            return Some(ending);
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
    // The ban ended the players of the address, and this one was still on the way in.
    if let Err(banned) = admitted.check_ban() {
        membership.remove(Problem::removal(banned, None)).await;
    }
    let reading = read_coordinates(lines, &membership, answer_sender);
    let mut writing = pin!(write_changes(writer, positions, frames, answers));
    // Two whole loops side by side; whichever ends first ends the conversation.
    let reason = tokio::select! {
        reason = reading => match reason {
            // What was asked is answered before the connection ends.
            Ending::Left => {
                let _ = tokio::time::timeout(ANSWER_DEADLINE, &mut writing).await;
                Some(Ending::Left)
            }
            // The room says why.
            Ending::Silent => {
                membership.end(Some(Ending::Silent)).await;
                let _ = tokio::time::timeout(ANSWER_DEADLINE, &mut writing).await;
                return None;
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
    writer: &mut WriteHalf<Socket>,
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
    lines: &mut Lines,
    membership: &Membership,
    answers: mpsc::Sender<Answer>,
) -> Ending {
    let cube = membership.cube();
    let mut asked = None;
    let mut line_at = Instant::now();
    loop {
        let input = match next_input(lines, line_at, &answers).await {
            Ok(Some(input)) => input,
            Ok(None) => break,
            Err(ending) => return ending,
        };
        if !matches!(input, Input::Negotiation(_)) {
            line_at = Instant::now();
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

/// Returns the next input of a client whose last line came at `line_at`, or `None` when it has ended its side.
///
/// # Errors
/// Nothing came for too long, of which the client was warned; or the loop that writes has ended.
async fn next_input(
    lines: &mut Lines,
    line_at: Instant,
    answers: &mpsc::Sender<Answer>,
) -> Result<Option<Input>, Ending> {
    let end_at = line_at + SILENT_AFTER;
    let warn_at = end_at - WARN_BEFORE;
    if Instant::now() < warn_at {
        if let Ok(input) = tokio::time::timeout_at(warn_at, lines.next()).await {
            return Ok(input);
        }
        let seconds = WARN_BEFORE.as_secs();
        let warning = format!("error: no line came for long: the connection ends in {seconds} s\n");
        let sent = answers.send(Answer::Text(warning.into())).await;
        sent.map_err(|_| Ending::Lost)?;
    }
    let input = tokio::time::timeout_at(end_at, lines.next()).await;
    input.map_err(|_| Ending::Silent)
}

/// Writes changes and answers. Returns `None` when the room has ended the connection and its last
/// frames are written, and `Left` when the client that has ended its side has everything.
async fn write_changes(
    writer: &mut WriteHalf<Socket>,
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
            frames = frames.recv() => {
                let frames = frames?;
                // It is never closed.
                let _turn = TURNS.acquire().await.ok();
                positions.lines(frames).into()
            }
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

async fn write(writer: &mut WriteHalf<Socket>, text: impl AsRef<[u8]>) -> Result<(), Ending> {
    let mut rest = text.as_ref();
    while !rest.is_empty() {
        match tokio::time::timeout(WRITE_DEADLINE, writer.write(rest)).await {
            Ok(Ok(count @ 1..)) => rest = &rest[count..],
            Ok(_) => return Err(Ending::Lost),
            Err(_) => return Err(Ending::SlowReader),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::num::NonZeroU32;

    use cubesync_relay::budget::{Budget, Budgets, WorkLimits};
    use cubesync_relay::metrics::MetricSet;
    use tokio::net::TcpListener;

    use super::*;

    /// Returns the lines that the server reads, at most `own` a second, and the client's end.
    async fn connection(own: NonZeroU32, budget: Option<Budget>) -> (Lines, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (stream, _) = listener.accept().await.unwrap();
        let (reader, _) = tokio::io::split(Socket::new(stream));
        let start = Instant::now().into_std();
        let own = TokenBucket::per_second(own, BURST, start);
        (Lines::new(reader, own, budget), client.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn who_types_no_line_is_told_and_ends() {
        let (mut lines, client) = connection(NonZeroU32::MIN, None).await;
        let (sender, mut answers) = mpsc::channel(OUTPUT_QUEUE);
        let began = Instant::now();
        let ended = next_input(&mut lines, began, &sender).await;
        assert_eq!(ended, Err(Ending::Silent));
        assert_eq!(began.elapsed().as_secs(), SILENT_AFTER.as_secs());
        let Some(Answer::Text(warning)) = answers.recv().await else {
            panic!("no warning came");
        };
        assert!(warning.starts_with(b"error: "));
        assert!(answers.try_recv().is_err(), "one warning is enough");
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_without_a_line_are_read_no_faster_than_lines() {
        let (mut lines, mut client) = connection(NonZeroU32::MIN, None).await;
        let began = Instant::now();
        client.write_all(&[b'x'; 2_560]).await.unwrap();
        client.write_all(b"\n1 2 3\n").await.unwrap();
        let too_long = lines.next().await;
        assert!(matches!(too_long, Some(Input::Unreadable(_))));
        let line = lines.next().await;
        assert_eq!(line, Some(Input::Line("1 2 3".into())));
        assert!(began.elapsed() >= Duration::from_secs(8));
    }

    #[tokio::test(start_paused = true)]
    async fn lines_of_an_address_share_its_budget_before_they_give_a_name() {
        let limits = WorkLimits {
            messages: NonZeroU32::MIN,
            bytes: NonZeroU32::MAX,
        };
        let budgets = Budgets::new(limits, &MetricSet::default());
        let address = IpAddr::from([192, 0, 2, 1]);
        let began = Instant::now();
        for _ in 0..2 {
            let budget = budgets.of(address.into());
            let (mut lines, mut client) = connection(NonZeroU32::MAX, budget).await;
            client.write_all(&[b'\n'; 6]).await.unwrap();
            for _ in 0..6 {
                assert_eq!(lines.next().await, Some(Input::Line(String::new())));
            }
        }
        // Two are the burst, and the first of each connection waits for no turn of an earlier one.
        assert!(began.elapsed() >= Duration::from_secs(8));
    }

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
