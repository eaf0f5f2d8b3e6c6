//! From the connection to the first move.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::BytesMut;
use cubesync_protocol::limits::{MAX_JOIN_KEY_BYTES, MAX_SERVERS, PING_INTERVAL};
use cubesync_protocol::{
    ClientMessage, CubeId, ServerAddress, ServerMessage, clean_name, clean_room,
};

use super::{Case, FOLLOW, case};
use crate::room::{HERE, TARGET, at, player};
use crate::trial::{Outcome, Trial};

const CONVERSATION: &str = "the-conversation";
const FRAMES: &str = "transport-and-frames";
const VALUES: &str = "how-values-are-written";
const SERVER: &str = "from-the-server";

pub(super) const CASES: &[Case] = &[
    case(
        "hello-first",
        "sends a well-formed Hello within 2 s of connecting, and nothing before it",
        "from-the-client",
        &[],
        hello_first,
    ),
    case(
        "hello-only",
        "sends nothing but its Hello until the Welcome comes, also when that takes 2.5 s",
        CONVERSATION,
        &[],
        hello_only,
    ),
    case(
        "join-and-follow",
        "joins and moves its own cube to where the followed one is",
        CONVERSATION,
        &[FOLLOW],
        join_and_follow,
    ),
    case(
        "stays",
        "stays in a room in which nothing happens, with a heartbeat every second",
        CONVERSATION,
        &[],
        stays,
    ),
    case(
        "byte-by-byte",
        "puts frames together that arrive in segments of one byte",
        FRAMES,
        &[FOLLOW],
        byte_by_byte,
    ),
    case(
        "three-bytes",
        "puts frames together whose length itself is cut",
        FRAMES,
        &[FOLLOW],
        three_bytes,
    ),
    case(
        "one-segment",
        "takes several frames apart that arrive in one segment",
        FRAMES,
        &[FOLLOW],
        one_segment,
    ),
    case(
        "frame-and-a-half",
        "keeps the beginning of a frame until its rest comes",
        FRAMES,
        &[FOLLOW],
        frame_and_a_half,
    ),
    case(
        "keyframe-later",
        "waits for the keyframe that comes 2 s after the Welcome",
        CONVERSATION,
        &[FOLLOW],
        keyframe_later,
    ),
    case(
        "thin-line",
        "sends a Ping at least every 5 s while the first keyframe takes 12 s to arrive",
        CONVERSATION,
        &[],
        thin_line,
    ),
    case(
        "names",
        "reads names of rooms and players in any script, and finds the cube by such a name",
        VALUES,
        &[FOLLOW],
        names,
    ),
    case(
        "similar-names",
        "tells the followed name from one that begins with it, and from one in capitals",
        "names",
        &[FOLLOW],
        similar_names,
    ),
    case(
        "large-ids",
        "reads ids of cubes up to 2^53 - 1",
        "building-blocks",
        &[FOLLOW],
        large_ids,
    ),
    case(
        "large-numbers",
        "reads ticks above 2^32 and a largest speed of 32 bits",
        VALUES,
        &[FOLLOW],
        large_numbers,
    ),
    case(
        "many-servers",
        "reads a Welcome that names 16 other servers, some of which are no addresses",
        "moving-to-another-server",
        &[FOLLOW],
        many_servers,
    ),
    case(
        "another-name",
        "accepts that the server gives it another name, pose and room",
        SERVER,
        &[FOLLOW],
        another_name,
    ),
    case(
        "physics-room",
        "joins a room with physics and a limit on speed",
        SERVER,
        &[FOLLOW],
        physics_room,
    ),
    case(
        "many-cubes",
        "reads a keyframe of 1,200 cubes in several segments",
        CONVERSATION,
        &[FOLLOW],
        many_cubes,
    ),
];

fn hello_first(trial: &mut Trial<'_>) -> Outcome {
    let hello = trial.hello()?;
    let name = clean_name(&hello.name);
    name.with_context(|| {
        format!(
            "its Hello has the name {:?}, which a server refuses",
            hello.name
        )
    })?;
    let room = clean_room(&hello.room);
    room.with_context(|| {
        format!(
            "its Hello has the room {:?}, which a server refuses",
            hello.room
        )
    })?;
    let key_bytes = hello.join_key.as_ref().map_or(1, String::len);
    ensure!(
        (1..=MAX_JOIN_KEY_BYTES).contains(&key_bytes),
        "its Hello has a join key of {key_bytes} bytes"
    );
    ensure!(
        hello.resume.is_none(),
        "its first Hello has a token, which no server has given it"
    );
    Ok(())
}

fn hello_only(trial: &mut Trial<'_>) -> Outcome {
    trial.hello()?;
    trial.stay(Duration::from_millis(2_500))?;
    if let Some(message) = trial.said.front() {
        anyhow::bail!("it sent {message:?} before the Welcome");
    }
    ensure!(
        trial.uplink.count == 0,
        "it sent a sample before the Welcome"
    );
    trial.welcome()?;
    trial.first_keyframe()?;
    trial.stay(Duration::from_millis(500))
}

fn join_and_follow(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")
}

fn stays(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.stay(Duration::from_secs(4))
}

/// Sends the welcome and the keyframe in pieces of a size.
fn in_pieces(trial: &mut Trial<'_>, piece_bytes: usize, pause: Duration) -> Outcome {
    trial.hello()?;
    let frames = opening(trial)?;
    trial.link()?.send_in_pieces(&frames, piece_bytes, pause);
    trial.follows("the first keyframe")
}

/// Returns the frames of a welcome and of the keyframe.
fn opening(trial: &mut Trial<'_>) -> anyhow::Result<BytesMut> {
    let welcome = trial.greeting.clone();
    let mut frames = trial.frame(ServerMessage::Welcome(welcome))?;
    trial.set_tick(trial.greeting.tick);
    frames.extend(first_keyframe(trial)?);
    Ok(frames)
}

fn first_keyframe(trial: &mut Trial<'_>) -> anyhow::Result<BytesMut> {
    let (cubes, tick) = (trial.everybody(), trial.message_tick());
    let keyframe = trial.room.keyframe(HERE, 1, tick, cubes);
    trial.frame(keyframe)
}

fn byte_by_byte(trial: &mut Trial<'_>) -> Outcome {
    in_pieces(trial, 1, Duration::from_micros(500))
}

fn three_bytes(trial: &mut Trial<'_>) -> Outcome {
    in_pieces(trial, 3, Duration::from_millis(2))
}

fn one_segment(trial: &mut Trial<'_>) -> Outcome {
    trial.hello()?;
    let mut frames = opening(trial)?;
    for step in 1..=3 {
        trial
            .room
            .put(TARGET, at(1.5 + 0.5 * step as f32, 2.0, 0.5));
        let tick = trial.greeting.tick + step;
        let snapshot = trial.room.snapshot(HERE, tick, Vec::new())?;
        frames.extend(trial.frame(snapshot.context("the script moves nothing")?)?);
    }
    trial.link()?.send(&frames);
    trial.settle()?;
    trial.follows("the snapshots that came in one segment with the Welcome")
}

fn frame_and_a_half(trial: &mut Trial<'_>) -> Outcome {
    trial.hello()?;
    let frames = opening(trial)?;
    let rest = frames.len() - 20;
    trial
        .link()?
        .send_in_pieces(&frames, rest, Duration::from_millis(700));
    trial.follows("the keyframe whose end came 0.7 s after its beginning")
}

fn keyframe_later(trial: &mut Trial<'_>) -> Outcome {
    trial.hello()?;
    trial.welcome()?;
    trial.stay(Duration::from_secs(2))?;
    trial.first_keyframe()?;
    trial.follows("the keyframe that came 2 s after the Welcome")
}

fn thin_line(trial: &mut Trial<'_>) -> Outcome {
    const PIECES: usize = 24;
    trial.hello()?;
    trial.welcome()?;
    let frames = first_keyframe(trial)?;
    // An answer in the middle of the keyframe would break it.
    (trial.is_lively, trial.answers) = (false, false);
    let bytes = trial.link()?.wrapped(&frames);
    for piece in bytes.chunks(bytes.len().div_ceil(PIECES)) {
        trial.link()?.write(piece);
        trial.stay(Duration::from_millis(500))?;
    }
    (trial.is_lively, trial.answers) = (true, true);
    pings_often(trial)
}

/// Checks the time between the client's pings.
pub(super) fn pings_often(trial: &mut Trial<'_>) -> Outcome {
    // A busy machine wakes a client late.
    let longest = PING_INTERVAL + Duration::from_millis(1_500);
    let mut last = trial.connected;
    for ping in trial
        .pings
        .iter()
        .copied()
        .chain([std::time::Instant::now()])
    {
        let pause = ping - last;
        ensure!(
            pause <= longest,
            "it sent no Ping for {:.1} s; it must send one at least every 5 s",
            pause.as_secs_f32()
        );
        last = ping;
    }
    Ok(())
}

fn names(trial: &mut Trial<'_>) -> Outcome {
    trial.follow = "Zoë 目标 \u{1F469}\u{200D}\u{1F680}".to_owned();
    trial.greeting.room = "комната № 5".to_owned();
    trial.greeting.name = "Ångström".to_owned();
    trial.join()?;
    trial.follows("the keyframe with names in several scripts")
}

fn similar_names(trial: &mut Trial<'_>) -> Outcome {
    trial.hello()?;
    trial.welcome()?;
    let mut cubes = trial.everybody();
    cubes.push(player(CubeId(1), "Target", at(-8.0, -8.0, 0.5)));
    cubes.push(player(CubeId(4), "target-2", at(-8.0, 8.0, 0.5)));
    cubes.push(player(CubeId(9), "targe", at(8.0, -8.0, 0.5)));
    trial.keyframe(HERE, 1, cubes)?;
    trial.follows("the keyframe, by the name and nothing like it")
}

fn large_ids(trial: &mut Trial<'_>) -> Outcome {
    trial.greeting.cube = CubeId((1 << 53) - 1);
    trial.hello()?;
    trial.welcome()?;
    let mut cubes = trial.everybody();
    cubes[1].cube = CubeId((1 << 52) + 1);
    cubes[2].cube = CubeId((1 << 32) + 5);
    cubes[0].cube = CubeId(70_000);
    trial.keyframe(HERE, 1, cubes)?;
    trial.follows("the keyframe")?;
    trial.room.put(CubeId((1 << 52) + 1), at(-2.0, 5.0, 1.5));
    trial.settle()?;
    trial.follows("the snapshots about cubes with large ids")
}

fn large_numbers(trial: &mut Trial<'_>) -> Outcome {
    trial.greeting.tick = (1 << 40) + 3;
    trial.greeting.max_speed = u32::MAX;
    trial.greeting.since_tick_us = 33_000;
    trial.join()?;
    trial.follows("the keyframe of tick 2^40 + 3")?;
    trial.room.put(TARGET, at(2.0, -5.0, 1.5));
    trial.settle()?;
    trial.follows("snapshots of ticks above 2^40")
}

fn many_servers(trial: &mut Trial<'_>) -> Outcome {
    let address = |number: usize| ServerAddress {
        tcp: format!("192.0.2.{number}:14900"),
        web: format!("192.0.2.{number}:8080"),
    };
    let mut servers: Vec<_> = (1..=MAX_SERVERS).map(address).collect();
    servers[3].tcp = "no address".to_owned();
    servers[4].web = format!("{}:1", "a".repeat(255));
    servers[5] = ServerAddress {
        tcp: "[2001:db8::1]:14900".to_owned(),
        web: "[2001:db8::1]:8080".to_owned(),
    };
    trial.greeting.servers = servers;
    trial.join()?;
    trial.follows("the first keyframe")
}

fn another_name(trial: &mut Trial<'_>) -> Outcome {
    trial.greeting.name = "Judged-2".to_owned();
    trial.greeting.room = "hall".to_owned();
    trial.greeting.pose = at(100.0, -100.0, 20.0);
    trial.join()?;
    trial.follows("the first keyframe")
}

fn physics_room(trial: &mut Trial<'_>) -> Outcome {
    trial.greeting.physics = true;
    trial.greeting.max_speed = 20 * 512;
    trial.join()?;
    trial.follows("the first keyframe")
}

fn many_cubes(trial: &mut Trial<'_>) -> Outcome {
    trial.hello()?;
    trial.welcome()?;
    let mut cubes = trial.everybody();
    let others = (0..1_200u64).map(|number| {
        let place = at((number % 40) as f32, (number / 40) as f32, 0.5);
        player(CubeId(100 + number), &format!("Player {number}"), place)
    });
    cubes.extend(others);
    trial.keyframe(HERE, 1, cubes)?;
    trial.follows("the keyframe of 1,204 cubes")?;
    trial.room.put(TARGET, at(-2.0, 5.0, 1.5));
    for moved in [100, 517, 1_299] {
        trial.room.put(CubeId(moved), at(-9.0, 9.0, 2.0));
    }
    trial.settle()?;
    trial.follows("snapshots in a cell of 1,204 cubes")
}

/// Whether a message is a take.
pub(super) fn is_take(message: &ClientMessage) -> Option<CubeId> {
    match message {
        ClientMessage::Take { cube } => Some(*cube),
        _ => None,
    }
}
