//! Bad peers that speak our protocol, nearly.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use cubesync_protocol::limits::{MAX_CLIENT_PAYLOAD_BYTES, PROTOCOL_VERSION};
use cubesync_protocol::{
    ClientMessage, CloseCode, CubeId, CubePose, Hello, Message, Position, RejectCode, ResumeToken,
    ServerMessage, Welcome,
};

use crate::fault::{Fault, Outcome, Setup};
use crate::harness::crowd::{Crowd, CrowdPlan, Habit, sample};
use crate::harness::peer::{Heard, Peer, RED};
use crate::harness::process::comes_true;
use crate::harness::scene::{PATIENCE, Scene, hello};
use crate::harness::web::{self, End};

/// Nothing came for so long: nothing comes.
const QUIET: Duration = Duration::from_millis(300);

/// A server that asks for a key.
const WITH_KEY: Setup = Setup {
    flags: &["--tick", "60", "--join-key", "sesame"],
    join_key: Some("sesame"),
    ..Setup::PLAIN
};

/// A server that forgets players soon.
const FORGETFUL: Setup = Setup {
    flags: &["--tick", "60", "--resume-within", "300ms"],
    ..Setup::PLAIN
};

/// A server that waits long for a greeting, so that it is the frame's deadline that ends it.
const PATIENT: Setup = Setup {
    flags: &["--tick", "60", "--hello-deadline", "30s"],
    ..Setup::PLAIN
};

pub(crate) const FAULTS: &[Fault] = &[
    Fault::new("length-0", &["bad_message"], |scene| {
        scene.player_says(&[0; 4], CloseCode::BadMessage)
    }),
    Fault::new("length-max-plus-1", &["frame_too_long"], |scene| {
        let length = MAX_CLIENT_PAYLOAD_BYTES as u32 + 1;
        scene.player_says(&length.to_be_bytes(), CloseCode::BadMessage)
    }),
    Fault::new("length-ffffffff", &["frame_too_long"], |scene| {
        scene.player_says(&[0xFF; 4], CloseCode::BadMessage)
    }),
    Fault::new("length-ffffffff-first", &["not_hello"], |scene| {
        scene.stranger_says(&[0xFF; 4], RejectCode::NotHello)
    }),
    Fault::new("truncated-then-fin", &["lost"], |scene| {
        let (mut peer, _) = scene.player("bad")?;
        peer.send_raw(&[0, 0, 0, 9, 1])?;
        peer.stream.shutdown(std::net::Shutdown::Write)?;
        Ok(Outcome::one(peer.ending(PATIENCE)?.over()?))
    }),
    Fault::new("truncated-then-silence", &["frame_too_slow"], |scene| {
        scene.player_says(&[0, 0, 0, 9, 1], CloseCode::BadMessage)
    }),
    Fault::new("hello-byte-by-byte", &[], |scene| {
        let mut peer = scene.peer()?;
        drip(&mut peer, Duration::from_millis(5))?;
        peer.welcomed()?;
        peer.leave()?;
        Ok(Outcome::of(0, "let in: it took less than the deadline"))
    }),
    Fault::new(
        "hello-byte-by-byte-too-slow",
        &["frame_too_slow"],
        |scene| {
            let mut peer = scene.peer()?;
            // The server ends it before the last byte.
            let _ = drip(&mut peer, Duration::from_millis(100));
            Ok(Outcome::one(peer.ending(PATIENCE)?.over()?))
        },
    )
    .on(&PATIENT),
    Fault::new(
        "1000-frames-in-a-segment",
        &["too_many_messages"],
        |scene| scene.player_says(&pings(1_000), CloseCode::TooManyMessages),
    ),
    Fault::new("wrong-magic", &["not_hello"], |scene| {
        let wrong = Hello {
            magic: *b"CUBA",
            ..hello("bad")
        };
        scene.stranger_says(
            &ClientMessage::Hello(wrong).to_frame(),
            RejectCode::NotHello,
        )
    }),
    Fault::new("tls-on-the-tcp-port", &["not_hello"], |scene| {
        let client_hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3][..], &[7; 506]].concat();
        scene.stranger_says(&client_hello, RejectCode::NotHello)
    }),
    Fault::new("http-on-the-tcp-port", &["not_hello"], |scene| {
        scene.stranger_says(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", RejectCode::NotHello)
    }),
    Fault::new("wrong-version", &["wrong_version"], |scene| {
        let version = PROTOCOL_VERSION + 1;
        let newer = ClientMessage::Hello(Hello {
            version,
            ..hello("bad")
        });
        scene.stranger_says(&newer.to_frame(), RejectCode::Version)
    }),
    Fault::new("data-before-hello", &["not_hello"], |scene| {
        scene.stranger_says(&pings(1), RejectCode::NotHello)
    }),
    Fault::new("second-hello", &["bad_message"], |scene| {
        let again = ClientMessage::Hello(hello("twice"));
        scene.player_says(&again.to_frame(), CloseCode::BadMessage)
    }),
    Fault::new("unknown-tag", &["bad_message"], |scene| {
        scene.player_says(&framed(&[200]), CloseCode::BadMessage)
    }),
    Fault::new("bad-utf8", &["not_hello"], |scene| {
        let mut frame = ClientMessage::Hello(hello("NAME")).to_frame().to_vec();
        let at = frame.windows(4).position(|four| four == b"NAME");
        frame[at.unwrap_or(0)] = 0xFF;
        scene.stranger_says(&frame, RejectCode::NotHello)
    }),
    Fault::new("trailing-bytes", &["bad_message"], |scene| {
        let ping = ClientMessage::Ping { sent_us: 1 }.to_frame();
        let longer = framed(&[&ping[4..], &[0]].concat());
        scene.player_says(&longer, CloseCode::BadMessage)
    }),
    Fault::new("non-canonical-varint", &["bad_message"], |scene| {
        // A Ping whose 5 is written in three bytes.
        scene.player_says(&framed(&[4, 251, 5, 0]), CloseCode::BadMessage)
    }),
    Fault::new("2^60-cubes-claimed", &["bad_message"], |scene| {
        let claim = [&[1, 1, 253][..], &(1u64 << 60).to_le_bytes()].concat();
        scene.player_says(&framed(&claim), CloseCode::BadMessage)
    }),
    Fault::new("junk-surprises", &["bad_message"], |scene| {
        let surprises = vec![0xFF; 4_000].into();
        let junk = ClientMessage::Sample {
            tick: 1,
            placed: vec![],
            surprises,
        };
        scene.player_says(&junk.to_frame(), CloseCode::BadMessage)
    }),
    Fault::new("extreme-coordinates", &["correction speed"], |scene| {
        let far = |x, y, z| Position { x, y, z };
        let corners = [
            far(i32::MIN, i32::MIN, i32::MIN),
            far(i32::MAX, i32::MAX, i32::MAX),
        ];
        corrected(scene, &corners)
    }),
    Fault::new("teleport", &["correction speed"], |scene| {
        corrected(
            scene,
            &[Position {
                x: 100_000,
                y: 100_000,
                z: 256,
            }],
        )
    }),
    Fault::new(
        "someone-elses-cube",
        &["correction authority"],
        someone_elses_cube,
    ),
    Fault::new("repeated-tick", &["bad_message"], |scene| {
        ticks(scene, &[1, 1])
    }),
    Fault::new("old-tick", &["bad_message"], |scene| ticks(scene, &[5, 2])),
    Fault::new("wrapping-tick", &["bad_message"], |scene| {
        let (mut peer, welcome) = scene.player("bad")?;
        for tick in [u64::MAX, 0] {
            peer.send(&sample(tick, welcome.cube, welcome.pose.position))?;
        }
        let ending = peer.ending(PATIENCE)?;
        Ok(Outcome::one(ending.closed_with(CloseCode::BadMessage)?))
    }),
    Fault::new("forged-token", &["resume unknown"], |scene| {
        let (mut victim, victims) = scene.player("victim")?;
        let forged = ResumeToken([7; 16]);
        let saw = not_resumed(scene, "lobby", forged, victims.cube)?;
        still_there(&mut victim)?;
        victim.leave()?;
        Ok(Outcome::one(saw))
    }),
    Fault::new("token-of-another-room", &["resume unknown"], |scene| {
        let (mut victim, victims) = scene.player("victim")?;
        let mut thief = scene.peer()?;
        let resume = Some(victims.resume);
        let hello = Hello {
            resume,
            ..Hello::new("attic", "thief", RED)
        };
        let welcome = thief.join(hello)?;
        still_there(&mut victim)?;
        thief.leave()?;
        victim.leave()?;
        Ok(Outcome::one(format!(
            "a new player in {}; the owner plays on",
            welcome.room
        )))
    }),
    Fault::new("expired-token", &["resume unknown"], |scene| {
        let (peer, welcome) = scene.player("late")?;
        peer.reset()?;
        gone(scene, welcome.cube)?;
        Ok(Outcome::one(not_resumed(
            scene,
            "lobby",
            welcome.resume,
            welcome.cube,
        )?))
    })
    .also(&["lost"])
    .on(&FORGETFUL),
    Fault::new("replayed-token", &["resume unknown"], |scene| {
        let (peer, first) = scene.player("owner")?;
        peer.reset()?;
        let mut owner = scene.peer()?;
        let resume = Some(first.resume);
        let second = owner.join(Hello {
            resume,
            ..hello("owner")
        })?;
        ensure!(
            second.cube == first.cube,
            "the owner did not get the cube back"
        );
        let saw = not_resumed(scene, "lobby", first.resume, first.cube)?;
        still_there(&mut owner)?;
        owner.leave()?;
        Ok(Outcome::one(saw))
    })
    .also(&["lost", "replaced"]),
    Fault::new("missing-key", &["wrong_key"], |scene| {
        let hello = ClientMessage::Hello(hello("stranger"));
        scene.stranger_says(&hello.to_frame(), RejectCode::JoinKey)
    })
    .on(&WITH_KEY),
    Fault::new("wrong-key", &["wrong_key"], |scene| {
        scene.stranger_says(&with_key("sesamE"), RejectCode::JoinKey)
    })
    .on(&WITH_KEY),
    Fault::new("ten-times-the-rate", &["too_many_messages"], |scene| {
        let pause = Duration::from_secs(10) / (10 * 256);
        let (mut peer, _) = scene.player("bad")?;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            peer.send_raw(&pings(10))?;
            let ending = peer.ending(pause)?;
            if ending.end != End::Open {
                let saw = ending.closed_with(CloseCode::TooManyMessages)?;
                let after_ms = began.elapsed().as_millis();
                return Ok(Outcome::one(format!("after {after_ms} ms: {saw}")));
            }
        }
        bail!("nobody minds")
    }),
    Fault::new("1000-joins-a-second", &["left"], |scene| {
        let count = scene.pick(300, 3_000);
        let began = Instant::now();
        let crowd = Crowd::send(CrowdPlan {
            server: scene.server.tcp,
            count,
            rooms: 1,
            habit: Habit::JoinAndLeave,
            is_websocket: false,
            returns: false,
            over: Duration::from_secs(1) * count as u32 / 1_000,
        })?;
        let is_over = || crowd.tally.ended.load(Ordering::Relaxed) == count as u64;
        ensure!(comes_true(3 * PATIENCE, is_over), "some never end");
        let welcomes = crowd.tally.welcomes.load(Ordering::Relaxed);
        ensure!(
            welcomes == count as u64,
            "only {welcomes} of {count} were let in"
        );
        let rate = count as f64 / began.elapsed().as_secs_f64();
        Ok(Outcome::of(
            welcomes,
            format!("{welcomes} let in and out, {rate:.0} a second"),
        ))
    }),
];

fn framed(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes()[..], payload].concat()
}

fn pings(count: usize) -> BytesMut {
    let mut frames = BytesMut::new();
    for _ in 0..count {
        ClientMessage::Ping { sent_us: 0 }.append_frame(&mut frames);
    }
    frames
}

fn with_key(key: &str) -> bytes::Bytes {
    let join_key = Some(key.to_owned());
    ClientMessage::Hello(Hello {
        join_key,
        ..hello("guesser")
    })
    .to_frame()
}

/// Sends a greeting a byte at a time.
fn drip(peer: &mut Peer, pause: Duration) -> Result<()> {
    for byte in ClientMessage::Hello(hello("dripping")).to_frame() {
        peer.send_raw(&[byte])?;
        std::thread::sleep(pause);
    }
    Ok(())
}

/// Samples of these ticks after the join's; the last one must end it.
fn ticks(scene: &mut Scene<'_>, after: &[u64]) -> Result<Outcome> {
    let (mut peer, welcome) = scene.player("bad")?;
    for tick in after {
        peer.send(&sample(
            welcome.tick + tick,
            welcome.cube,
            welcome.pose.position,
        ))?;
    }
    let ending = peer.ending(PATIENCE)?;
    Ok(Outcome::one(ending.closed_with(CloseCode::BadMessage)?))
}

/// Moves the own cube to places where it cannot be: it must be told each time where it is.
fn corrected(scene: &mut Scene<'_>, places: &[Position]) -> Result<Outcome> {
    let (mut peer, welcome) = scene.player("bad")?;
    let mut tick = welcome.tick;
    for place in places {
        tick += 60;
        peer.send(&sample(tick, welcome.cube, *place))?;
        let pose = correction(&mut peer, welcome.cube)?.pose;
        let is_home = pose.position.distance(welcome.pose.position) == 0;
        ensure!(is_home, "corrected to {:?}", pose.position);
    }
    peer.leave()?;
    let saw = format!("corrected {} time(s), and plays on", places.len());
    Ok(Outcome::of(places.len() as u64, saw))
}

fn correction(peer: &mut Peer, of: CubeId) -> Result<CubePose> {
    peer.find(PATIENCE, |message| match message {
        ServerMessage::Correction(told) if told.cube == of => Some(*told),
        _ => None,
    })
}

fn someone_elses_cube(scene: &mut Scene<'_>) -> Result<Outcome> {
    let (mut victim, victims) = scene.player("victim")?;
    let (mut thief, own) = scene.player("thief")?;
    let elsewhere = Position {
        x: 9_000,
        y: 9_000,
        z: 256,
    };
    thief.send(&sample(own.tick + 1, victims.cube, elsewhere))?;
    let told = correction(&mut thief, victims.cube)?;
    ensure!(told.pose == victims.pose, "the thief was told {told:?}");
    still_there(&mut victim)?;
    thief.leave()?;
    victim.leave()?;
    Ok(Outcome::one(
        "corrected to where the cube is; its owner was told nothing",
    ))
}

/// A connection that shows a bad token: it must be a new player.
fn not_resumed(
    scene: &Scene<'_>,
    room: &str,
    token: ResumeToken,
    wanted: CubeId,
) -> Result<String> {
    let mut peer = scene.peer()?;
    let hello = Hello {
        resume: Some(token),
        ..Hello::new(room, "thief", RED)
    };
    let Welcome { cube, .. } = peer.join(hello)?;
    ensure!(cube != wanted, "the token was good");
    peer.leave()?;
    Ok("a new player with a cube of its own".into())
}

/// Whoever this is has been neither corrected nor closed.
fn still_there(peer: &mut Peer) -> Result<()> {
    let until = Instant::now() + QUIET;
    while Instant::now() < until {
        match peer.hear(QUIET)? {
            Heard::Message(ServerMessage::Correction(_) | ServerMessage::Closing { .. }) => {
                bail!("a good player had to pay")
            }
            Heard::Message(_) => {}
            Heard::End(End::Open) => break,
            Heard::End(end) => bail!("a good player's connection is {end:?}"),
        }
    }
    Ok(())
}

/// Waits until a cube has left the room.
fn gone(scene: &Scene<'_>, cube: CubeId) -> Result<()> {
    let is_gone = || cubes(scene).is_ok_and(|cubes| !cubes.contains(&cube.0));
    ensure!(comes_true(PATIENCE, is_gone), "the ghost does not go");
    Ok(())
}

/// The ids of the lobby's cubes.
fn cubes(scene: &Scene<'_>) -> Result<Vec<u64>> {
    let page = web::get(scene.server.http, "/cubes.json")?;
    let room: serde_json::Value = serde_json::from_slice(&page.body)?;
    let cubes = room["cubes"].as_array().context("no cubes")?;
    Ok(cubes
        .iter()
        .filter_map(|cube| cube["id"].as_u64())
        .collect())
}
