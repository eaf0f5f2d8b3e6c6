//! One TCP connection: the handshake, then frames in, messages to the room.
//!
//! The session only reads; from the moment the room has let it in, the room writes. So no write
//! ever waits for a read or is cut off by one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cubesync_protocol::limits::{MAX_CLIENT_PAYLOAD_BYTES, MAX_CUBES_PER_SAMPLE, PROTOCOL_VERSION};
use cubesync_protocol::{
    ClientMessage, CubeId, Hello, Message, RejectCode, ServerMessage, clean_name, clean_room,
    codec, frame,
};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use socket2::SockRef;
use subtle::ConstantTimeEq;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::admission::Admitted;
use crate::metrics::Disconnect;
use crate::room::fanout::Outlet;
use crate::room::world::SpeedRule;
use crate::room::{Entrance, RoomHandle};
use crate::rooms::EnterError;
use crate::run::Shared;

/// What the kernel may hold for a client, in bytes (Linux doubles it): a second of a crowded
/// room's snapshots. The default would let a reader that stopped hide behind megabytes.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// Bytes read at once: the longest frame.
const READ_BYTES: usize = MAX_CLIENT_PAYLOAD_BYTES;

/// How long a peer has to take its last frame and close. Closing while bytes of the peer are
/// unread would reset the connection and could destroy that frame (RFC 2525, 2.17).
const LINGER: Duration = Duration::from_secs(1);

/// A refusal: for the program, and for the person.
type Refusal = (RejectCode, String);

/// Serves a connection to its end.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    admitted: Admitted,
) {
    shared.metrics.connections.inc();
    if let Err(error) = converse(&shared, stream).await {
        debug!(%peer, %error, "connection broke");
    }
    shared.metrics.connections.dec();
    drop(admitted);
}

/// Tells a peer that it is not admitted, where that needs no waiting.
pub(crate) fn turn_away(stream: &TcpStream, reason: &impl std::fmt::Display) {
    let message = reason.to_string();
    let reject = ServerMessage::Reject {
        code: RejectCode::Full,
        message,
    }
    .to_frame();
    // A peer that cannot take a hundred bytes at once sees a closed connection instead.
    let _ = stream.try_write(&reject);
}

async fn converse(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES)?;

    let mut received = BytesMut::new();
    let deadline = *shared.config.hello_deadline;
    let hello = match tokio::time::timeout(deadline, greet(shared, &stream, &mut received)).await {
        Err(_) => {
            shared.metrics.disconnected(Disconnect::HelloTimeout);
            return Ok(());
        }
        Ok(Err(error)) => {
            shared.metrics.disconnected(Disconnect::Lost);
            return Err(error);
        }
        Ok(Ok(None)) => {
            shared.metrics.disconnected(Disconnect::Closed);
            return Ok(());
        }
        Ok(Ok(Some(Err(refusal)))) => return reject(shared, &mut stream, refusal).await,
        Ok(Ok(Some(Ok(hello)))) => hello,
    };

    let stream = Arc::new(stream);
    let ended = CancellationToken::new();
    let entrance = Entrance {
        name: hello.name,
        colour: hello.colour,
        rule: SpeedRule::TopSpeed,
        resume: hello.resume,
        outlet: Outlet::Tcp(Arc::clone(&stream)),
        ended: ended.clone(),
    };
    match shared.rooms.enter(&hello.room, entrance).await {
        Ok((room, cube)) => {
            let reading = read_messages(shared, &stream, &mut received, &room, cube);
            if let Some(reason) = ended.run_until_cancelled(reading).await {
                // A room that has ended has said goodbye already.
                let _ = room.leave(cube, reason).await;
            }
            linger(&stream).await;
            Ok(())
        }
        Err(error) => {
            let code = match error {
                EnterError::ShuttingDown => RejectCode::ShuttingDown,
                EnterError::RoomFull | EnterError::TooManyRooms => RejectCode::Full,
            };
            // The room that refused may still be dropping its half.
            let refused = ServerMessage::Reject {
                code,
                message: error.to_string(),
            }
            .to_frame();
            shared.metrics.disconnected(Disconnect::Rejected);
            stream.try_write(&refused)?;
            SockRef::from(&*stream).shutdown(std::net::Shutdown::Write)?;
            linger(&stream).await;
            Ok(())
        }
    }
}

/// Reads the first message. `None`: the peer closed without a word.
async fn greet(
    shared: &Shared,
    stream: &TcpStream,
    received: &mut BytesMut,
) -> io::Result<Option<Result<Hello, Refusal>>> {
    loop {
        match frame::split(received, MAX_CLIENT_PAYLOAD_BYTES) {
            Ok(Some(payload)) => {
                count_frame(shared, &payload);
                return Ok(Some(check_hello(shared, &payload)));
            }
            Ok(None) => {}
            Err(error) => return Ok(Some(Err(not_hello(&error)))),
        }
        if read_some(stream, received).await? == 0 {
            return Ok(None);
        }
    }
}

fn check_hello(shared: &Shared, payload: &[u8]) -> Result<Hello, Refusal> {
    match codec::hello_version(payload) {
        Some(PROTOCOL_VERSION) => {}
        Some(version) => {
            let message = format!(
                "the client speaks protocol version {version}, this server serves version \
                 {PROTOCOL_VERSION}: use a client and a server of the same release"
            );
            return Err((RejectCode::Version, message));
        }
        None => return Err(not_hello(&"the first message is no Hello")),
    }
    let mut hello = match ClientMessage::decode(payload) {
        Ok(ClientMessage::Hello(hello)) => hello,
        Ok(_) => return Err(not_hello(&"the first message is no Hello")),
        Err(error) => return Err(not_hello(&error)),
    };
    let name_error = |error: cubesync_protocol::TextError| (RejectCode::Name, error.to_string());
    hello.name = clean_name(&hello.name).map_err(name_error)?.to_owned();
    hello.room = clean_room(&hello.room).map_err(name_error)?.to_owned();
    check_join_key(shared.config.join_key.as_deref(), hello.join_key.as_deref())?;
    Ok(hello)
}

fn check_join_key(expected: Option<&str>, given: Option<&str>) -> Result<(), Refusal> {
    let Some(expected) = expected else {
        return Ok(());
    };
    // In constant time, so that answers do not tell how much of a guess was right.
    let right = given.is_some_and(|given| given.as_bytes().ct_eq(expected.as_bytes()).into());
    if right {
        return Ok(());
    }
    let problem = if given.is_some() {
        "is wrong"
    } else {
        "is missing"
    };
    Err((
        RejectCode::JoinKey,
        format!("this server asks for a join key, and it {problem}"),
    ))
}

fn not_hello(error: &impl std::fmt::Display) -> Refusal {
    (
        RejectCode::NotHello,
        format!("this is a cubesync server, and the greeting is wrong: {error}"),
    )
}

async fn reject(shared: &Shared, stream: &mut TcpStream, refusal: Refusal) -> io::Result<()> {
    let (code, message) = refusal;
    debug!(?code, message, "rejected");
    shared.metrics.disconnected(Disconnect::Rejected);
    let frame = ServerMessage::Reject { code, message }.to_frame();
    shared.metrics.sent_bytes.inc_by(frame.len() as u64);
    shared.metrics.sent_frames.inc();
    stream.write_all(&frame).await?;
    stream.shutdown().await?;
    linger(stream).await;
    Ok(())
}

/// Passes on messages until the connection ends, and says why it did.
async fn read_messages(
    shared: &Shared,
    stream: &TcpStream,
    received: &mut BytesMut,
    room: &RoomHandle,
    cube: CubeId,
) -> Disconnect {
    let per_second = shared.config.max_messages;
    let burst = per_second.saturating_mul(TWO);
    let limiter = RateLimiter::direct(Quota::per_second(per_second).allow_burst(burst));
    loop {
        while let Some(message) = match next_message(shared, received, &limiter) {
            Ok(message) => message,
            Err(reason) => return reason,
        } {
            if room.message(cube, message).await.is_err() {
                return Disconnect::ShuttingDown;
            }
        }
        let read = read_some(stream, received);
        match tokio::time::timeout(*shared.config.dead_after, read).await {
            Err(_) => return Disconnect::Silent,
            Ok(Err(_)) => return Disconnect::Lost,
            // An end inside a frame is a connection that broke.
            Ok(Ok(0)) if received.is_empty() => return Disconnect::Closed,
            Ok(Ok(0)) => return Disconnect::Lost,
            Ok(Ok(_)) => {}
        }
    }
}

const TWO: std::num::NonZeroU32 = std::num::NonZeroU32::new(2).expect("two is not zero");

/// The next whole message that was received, if there is one and it is allowed.
fn next_message(
    shared: &Shared,
    received: &mut BytesMut,
    limiter: &DefaultDirectRateLimiter,
) -> Result<Option<ClientMessage>, Disconnect> {
    let bad_message = |error: &dyn std::error::Error| {
        debug!(%error, "bad message");
        Disconnect::BadMessage
    };
    let Some(payload) =
        frame::split(received, MAX_CLIENT_PAYLOAD_BYTES).map_err(|error| bad_message(&error))?
    else {
        return Ok(None);
    };
    count_frame(shared, &payload);
    limiter.check().map_err(|_| Disconnect::TooManyMessages)?;
    match ClientMessage::decode(&payload).map_err(|error| bad_message(&error))? {
        ClientMessage::Hello(_) => Err(Disconnect::BadMessage),
        ClientMessage::Leave => Err(Disconnect::Left),
        ClientMessage::Sample { cubes } if cubes.len() > MAX_CUBES_PER_SAMPLE => {
            Err(Disconnect::BadMessage)
        }
        message => Ok(Some(message)),
    }
}

fn count_frame(shared: &Shared, payload: &Bytes) {
    let len_bytes = payload.len() + cubesync_protocol::limits::FRAME_HEADER_BYTES;
    shared.metrics.received_frames.inc();
    shared.metrics.received_bytes.inc_by(len_bytes as u64);
}

/// Waits for bytes and appends them; 0 is the end of the stream. Cancelling it loses nothing.
async fn read_some(stream: &TcpStream, received: &mut BytesMut) -> io::Result<usize> {
    // An idle connection holds no memory for reading.
    if received.is_empty() {
        *received = BytesMut::new();
    }
    loop {
        stream.readable().await?;
        match try_read(stream, received) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// The buffer stands on the stack of this call, so it is no part of the waiting task.
fn try_read(stream: &TcpStream, received: &mut BytesMut) -> io::Result<usize> {
    let mut chunk = [0; READ_BYTES];
    let count = stream.try_read(&mut chunk)?;
    received.extend_from_slice(&chunk[..count]);
    Ok(count)
}

/// Reads and drops what still comes until the peer closes, at most for [`LINGER`].
async fn linger(stream: &TcpStream) {
    let drain = async {
        let mut dropped = BytesMut::new();
        while matches!(read_some(stream, &mut dropped).await, Ok(1..)) {
            dropped.clear();
        }
    };
    // Who does not close in time is closed.
    let _ = tokio::time::timeout(LINGER, drain).await;
}
