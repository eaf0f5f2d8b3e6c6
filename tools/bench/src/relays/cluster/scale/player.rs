//! A simulated player: the client library's session, in a task of its own.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::BytesMut;
use cubesync_client::session::Session;
use cubesync_protocol::{Colour, Hello, Pose};
use cubesync_relay::Host;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, timeout_at};

/// Size of the pipe between a player and its server.
const PIPE_BYTES: usize = 1 << 20;
/// A client's frames per tick.
const FRAMES_PER_TICK: u32 = 3;

/// The plan of a player.
pub(super) struct PlayerPlan {
    /// Its server.
    pub(super) host: Host,
    /// Its room.
    pub(super) room: String,
    /// Its name.
    pub(super) name: String,
    /// The pose of its cube at each tick; after the last one it goes back the same way.
    pub(super) poses: Vec<Pose>,
    /// The length of a tick.
    pub(super) period: Duration,
}

/// Counts of a player.
#[derive(Debug, Default)]
pub(super) struct PlayerCounts {
    /// Number of players that it sees, itself included; 0 if it is not in the room.
    pub(super) in_sight: Cell<usize>,
    /// Number of bytes that it received.
    pub(super) bytes: Cell<u64>,
}

/// Plays until its server ends it or the runtime does.
pub(super) async fn play(plan: PlayerPlan, counts: &PlayerCounts) {
    let (mut stream, far) = duplex(PIPE_BYTES);
    plan.host.serve(far, IpAddr::V4(Ipv4Addr::LOCALHOST));
    let began = Instant::now();
    let hello = Hello::new(plan.room, plan.name, Colour::from([0x80; 3]));
    let mut session = Session::new(hello, Duration::ZERO);
    let mut incoming = BytesMut::new();
    for frame in 0.. {
        let now = began.elapsed();
        session.poll(now);
        if let Some(welcome) = session.welcome() {
            let cube = welcome.cube;
            let step = (frame / FRAMES_PER_TICK) as usize % (2 * plan.poses.len());
            let back = 2 * plan.poses.len() - 1 - step;
            session.set_pose(cube, plan.poses[step.min(back)]);
        }
        session.send(now);
        let sent = stream.write_all_buf(session.outgoing()).await;
        let until = began + plan.period * (frame + 1) / FRAMES_PER_TICK;
        while let Ok(read) = timeout_at(until, read(&mut stream, &mut incoming)).await {
            let Some(len_bytes) = read else {
                counts.in_sight.set(0);
                return;
            };
            counts.bytes.set(counts.bytes.get() + len_bytes);
            session.receive(began.elapsed(), &mut incoming);
        }
        let replica = session.replica().filter(|_| sent.is_ok());
        counts
            .in_sight
            .set(replica.map_or(0, |replica| replica.players()));
    }
}

/// Reads once and returns the number of bytes; `None` at the end.
async fn read(stream: &mut DuplexStream, incoming: &mut BytesMut) -> Option<u64> {
    let read = stream.read_buf(incoming).await;
    read.ok().filter(|&len| len > 0).map(|len| len as u64)
}
