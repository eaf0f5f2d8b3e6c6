//! Tests of a session: its messages, its deadlines and its reasons to end.

mod second_welcome;

use bytes::Bytes;
use cubesync_protocol::datagram::{Downlink, Uplink};
use cubesync_protocol::limits::{PING_INTERVAL, PROTOCOL_VERSION};
use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_protocol::{
    CellId, CloseCode, Colour, CubeInfo, CubeKind, CubePose, DatagramKey, Event, PathId,
    RejectCode, ServerAddress,
};
use proptest::prelude::*;

use super::*;
use crate::testing::pose;

const OWN: CubeId = CubeId(7);
const FREE: CubeId = CubeId(0);
const COLOUR: Colour = Colour {
    red: 1,
    green: 2,
    blue: 3,
};

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn info(cube: CubeId, kind: CubeKind) -> CubeInfo {
    CubeInfo {
        cube,
        kind,
        name: "name".into(),
        colour: COLOUR,
        width: Default::default(),
        motion: MotionState::at_rest(pose(0.0)),
    }
}

fn welcome() -> Welcome {
    Welcome {
        version: PROTOCOL_VERSION,
        room: "lobby".into(),
        name: "Anna".into(),
        cube: OWN,
        pose: pose(0.0),
        tick_hz: 20,
        tick: 100,
        since_tick_us: 0,
        max_speed: 0,
        physics: false,
        resume: ResumeToken([7; 16]),
        servers: Vec::new(),
    }
}

fn keyframe(tick: u64) -> ServerMessage {
    ServerMessage::Keyframe(Keyframe {
        cell: CellId(0),
        interval_ticks: 1,
        tick,
        cubes: vec![
            info(FREE, CubeKind::Free { holder: None }),
            info(OWN, CubeKind::Player),
        ],
    })
}

fn snapshot(tick: u64, events: Vec<Event>) -> ServerMessage {
    ServerMessage::Snapshot(Snapshot {
        tick,
        events,
        ..Snapshot::default()
    })
}

fn sample(tick: u64, placed: Vec<CubePose>, residuals: Bytes) -> ClientMessage {
    ClientMessage::Sample {
        tick,
        placed,
        residuals,
    }
}

/// Encodes the residual of the own cube that stands for `ticks` ticks and then jumps.
fn jump(from: Pose, to: Pose, ticks: u64) -> Bytes {
    let mut predicted = MotionSet::new(&Codec::LIVE);
    predicted.insert(OWN, MotionState::at_rest(from));
    predicted.advance_to(ticks);
    let mut residuals = Vec::new();
    assert_eq!(predicted.encode_tick(|_| to, &mut residuals), 1);
    residuals.into()
}

fn receive(session: &mut Session, now: Duration, messages: &[ServerMessage]) {
    let mut incoming = BytesMut::new();
    for message in messages {
        message.append_frame(&mut incoming);
    }
    session.receive(now, &mut incoming);
    assert!(incoming.is_empty());
}

/// Takes the session's outgoing messages as the server reads them.
fn sent(session: &mut Session) -> Vec<ClientMessage> {
    let mut messages = Vec::new();
    let outgoing = session.outgoing();
    while let Some(payload) = frame::split(outgoing, ClientMessage::MAX_PAYLOAD_BYTES).unwrap() {
        messages.push(ClientMessage::decode(&payload).unwrap());
    }
    messages
}

fn events(session: &mut Session) -> Vec<SessionEvent> {
    std::iter::from_fn(|| session.next_event()).collect()
}

fn new() -> Session {
    Session::new(Hello::new("lobby", "Anna", COLOUR), Duration::ZERO)
}

/// Returns a session that has joined, and whose events and messages until then were taken.
fn joined() -> Session {
    let mut session = new();
    receive(
        &mut session,
        Duration::ZERO,
        &[ServerMessage::Welcome(welcome()), keyframe(100)],
    );
    session.poll(Duration::ZERO);
    assert!(session.is_joined());
    events(&mut session);
    sent(&mut session);
    session
}

/// Takes the only event of a session that has just ended.
fn ended(session: &mut Session) -> (String, Retry) {
    let mut events = events(session);
    assert!(!session.is_joined());
    match (events.pop(), events.is_empty()) {
        (Some(SessionEvent::Ended { reason, retry }), true) => (reason, retry),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_sends_the_hello_first_and_is_joined_with_the_first_keyframe() {
    let mut session = new();
    let hello = Hello::new("lobby", "Anna", COLOUR);
    assert_eq!(sent(&mut session), [ClientMessage::Hello(hello)]);
    let welcomed = ServerMessage::Welcome(welcome());
    receive(&mut session, ms(10), &[welcomed]);
    assert!(!session.is_joined());
    assert_eq!(events(&mut session), []);
    receive(&mut session, ms(20), &[keyframe(100)]);
    assert!(session.is_joined());
    let events = events(&mut session);
    assert_eq!(events[0], SessionEvent::Joined(welcome()));
    assert!(matches!(
        events[1..],
        [SessionEvent::Changed(Change::Moved { tick: 100, .. })]
    ));
    session.poll(ms(20));
    let sent_us = 20_000;
    assert_eq!(sent(&mut session), [ClientMessage::Ping { sent_us }]);
}

#[test]
fn a_reject_is_final_unless_it_is_temporary() {
    for (code, expected) in [
        (RejectCode::JoinKey, Retry::Elsewhere),
        (RejectCode::Version, Retry::Elsewhere),
        (RejectCode::Full, Retry::Backoff),
        // The hello was correct, so the server must have given up before it arrived.
        (RejectCode::NotHello, Retry::Backoff),
    ] {
        let mut session = new();
        let message = "a \u{1b}\nreason".to_owned();
        receive(
            &mut session,
            ms(1),
            &[ServerMessage::Reject { code, message }],
        );
        assert_eq!(ended(&mut session), ("a reason".to_owned(), expected));
    }
}

#[test]
fn a_closing_server_tells_when_to_come_back() {
    let after = Retry::After(ms(1_500));
    for (retry_after_ms, expected) in [(Some(1_500), after), (None, Retry::Never)] {
        let mut session = joined();
        let closing = ServerMessage::Closing {
            code: CloseCode::ShuttingDown,
            message: "bye".into(),
            retry_after_ms,
        };
        receive(&mut session, ms(1), &[closing]);
        session.disconnected("the server closed the connection");
        assert_eq!(ended(&mut session), ("bye".to_owned(), expected));
    }
}

#[test]
fn an_invalid_message_ends_the_session_and_is_named() {
    let mut session = new();
    let http = &mut BytesMut::from(&b"HTTP/1.1 400 Bad Request\r\n"[..]);
    session.receive(ms(1), http);
    let (reason, retry) = ended(&mut session);
    assert!(
        reason.starts_with("this is no cubesync server: "),
        "{reason}"
    );
    assert_eq!(retry, Retry::Backoff);

    let mut session = new();
    receive(&mut session, ms(1), &[keyframe(100)]);
    let (reason, _) = ended(&mut session);
    assert!(
        reason.contains("neither a welcome nor a reject"),
        "{reason}"
    );

    for (message, part) in [
        (snapshot(99, vec![]), "tick 99 came after tick 100"),
        (ServerMessage::Welcome(welcome()), "second welcome"),
        (
            ServerMessage::OutOfSight {
                cells: vec![CellId(9)],
            },
            "cell 9",
        ),
        (ServerMessage::Heartbeat { tick: 99 }, "tick 99 came"),
        (
            ServerMessage::Heartbeat { tick: MAX_TICK + 1 },
            "a tick that no room reaches",
        ),
    ] {
        let mut session = joined();
        receive(&mut session, ms(1), &[message, keyframe(200)]);
        let (reason, _) = ended(&mut session);
        assert!(reason.contains(part), "{reason}");
        session.poll(ms(2));
        assert_eq!(sent(&mut session), []);
    }
}

#[test]
fn a_session_ends_when_the_server_does_not_let_it_in_or_is_silent() {
    let mut session = new();
    session.poll(JOIN_TIMEOUT - ms(1));
    assert_eq!(events(&mut session), []);
    session.poll(JOIN_TIMEOUT);
    assert!(ended(&mut session).0.contains("not let in"));

    let mut session = joined();
    receive(&mut session, ms(1_000), &[snapshot(101, vec![])]);
    events(&mut session);
    session.poll(ms(1_000) + DEAD_AFTER - ms(1));
    assert_eq!(events(&mut session), []);
    session.poll(ms(1_000) + DEAD_AFTER);
    assert_eq!(ended(&mut session).0, "nothing heard for 15 s");
}

/// Returns a keyframe that takes long on a thin line, as the bytes of its frame.
fn large_keyframe(tick: u64) -> BytesMut {
    let others = (0..5_000).map(|number| info(CubeId(1_000 + number), CubeKind::Player));
    let ServerMessage::Keyframe(mut keyframe) = keyframe(tick) else {
        unreachable!();
    };
    keyframe.cubes.extend(others);
    let mut frame = BytesMut::new();
    ServerMessage::Keyframe(keyframe).append_frame(&mut frame);
    frame
}

#[test]
fn a_large_room_is_joined_on_a_thin_line_while_its_bytes_arrive() {
    const BYTES_A_SECOND: usize = 8_000;
    let mut session = new();
    receive(&mut session, ms(0), &[ServerMessage::Welcome(welcome())]);
    sent(&mut session);
    let (mut frame, mut incoming) = (large_keyframe(100), BytesMut::new());
    let (mut now, mut signs) = (Duration::ZERO, Vec::new());
    while !frame.is_empty() {
        now += ms(100);
        let arrived = frame.split_to(frame.len().min(BYTES_A_SECOND / 10));
        incoming.unsplit(arrived);
        session.receive(now, &mut incoming);
        session.poll(now);
        signs.extend(sent(&mut session));
    }
    assert!(session.is_joined() && now > 2 * JOIN_TIMEOUT, "{now:?}");
    // The server hears of the client meanwhile, and the answers do not disturb the clock.
    let before_join = signs.len() - 1;
    assert_eq!(before_join as u64, now.as_secs() / PING_INTERVAL.as_secs());
    let tick = session.clock().unwrap().tick_at(now);
    for sign in &signs[..before_join] {
        let &ClientMessage::Ping { sent_us } = sign else {
            panic!("{sign:?}");
        };
        let pong = ServerMessage::Pong {
            sent_us,
            tick: 100,
            since_tick_us: 0,
            late_samples: 0,
        };
        receive(&mut session, now, &[pong]);
    }
    assert_eq!(session.clock().unwrap().tick_at(now), tick);
}

#[test]
fn a_join_ends_when_nothing_comes_any_more_or_after_too_long() {
    let (frame, mut incoming) = (large_keyframe(100), BytesMut::new());
    let mut session = new();
    receive(&mut session, ms(0), &[ServerMessage::Welcome(welcome())]);
    incoming.extend_from_slice(&frame[..1_000]);
    session.receive(ms(4_000), &mut incoming);
    session.poll(ms(4_000) + JOIN_TIMEOUT - ms(1));
    assert_eq!(events(&mut session), []);
    session.poll(ms(4_000) + JOIN_TIMEOUT);
    let reason = "connected, but not let in within 9 s";
    assert_eq!(ended(&mut session).0, reason);

    let mut session = new();
    incoming.clear();
    for (second, byte) in (1..).zip(&frame) {
        let now = Duration::from_secs(second);
        incoming.extend_from_slice(&[*byte]);
        session.receive(now, &mut incoming);
        session.poll(now);
        assert_eq!(session.is_over, now >= LONGEST_JOIN);
        if session.is_over {
            break;
        }
    }
    assert!(ended(&mut session).0.contains("within 120 s"));
}

#[test]
fn a_silent_server_is_left_sooner_when_other_servers_are_known() {
    let address = |tcp: &str| ServerAddress {
        tcp: tcp.into(),
        web: "b.example:8080".into(),
    };
    for (servers, used) in [
        (vec![address("b.example:14900")], 1),
        (vec![address("b")], 0),
    ] {
        let mut session = new();
        let welcome = ServerMessage::Welcome(Welcome {
            servers,
            ..welcome()
        });
        receive(&mut session, ms(0), &[welcome, keyframe(100)]);
        events(&mut session);
        assert_eq!(session.welcome().unwrap().servers.len(), used);
        session.poll(MOVE_ON_AFTER - ms(1));
        assert_eq!(events(&mut session), []);
        session.poll(MOVE_ON_AFTER);
        assert_eq!(session.is_joined(), used == 0);
    }
}

#[test]
fn a_pose_is_sent_in_its_own_frame_and_without_send_by_the_next_poll() {
    for is_prompt in [true, false] {
        let mut session = joined();
        let now = ms(100);
        session.poll(now);
        sent(&mut session);
        assert!(session.set_pose(OWN, pose(1.0)));
        if is_prompt {
            session.send(now);
            session.send(now);
        }
        let samples = |sent: Vec<ClientMessage>| {
            let is_sample =
                |message: &&ClientMessage| matches!(message, ClientMessage::Sample { .. });
            sent.iter().filter(is_sample).count()
        };
        assert_eq!(samples(sent(&mut session)), usize::from(is_prompt));
        session.poll(now);
        assert_eq!(samples(sent(&mut session)), usize::from(!is_prompt));
    }
}

#[test]
fn a_held_cube_is_sent_and_its_last_pose_goes_before_the_release() {
    let mut session = joined();
    assert!(!session.set_pose(FREE, pose(1.0)));
    session.take(FREE);
    assert_eq!(sent(&mut session), [ClientMessage::Take { cube: FREE }]);
    let taken = Event::Taken {
        cube: FREE,
        by: OWN,
    };
    receive(&mut session, ms(50), &[snapshot(101, vec![taken])]);
    assert!(session.set_pose(FREE, pose(1.0)));
    assert!(session.set_pose(OWN, pose(2.0)));
    session.release(FREE);
    let moved = |cube, x_m| CubePose {
        cube,
        pose: pose(x_m),
    };
    let placed = vec![moved(OWN, 2.0), moved(FREE, 1.0)];
    let expected = [
        sample(101, placed, Bytes::new()),
        ClientMessage::Release { cube: FREE },
    ];
    assert_eq!(sent(&mut session), expected);
    assert_eq!(session.statistics().updates_out, 2);
    session.release(OWN);
    session.release(FREE);
    assert_eq!(sent(&mut session), []);
    session.set_pose(OWN, pose(3.0));
    session.poll(ms(100));
    session.poll(ms(150));
    let residuals = jump(pose(2.0), pose(3.0), 1);
    assert!(sent(&mut session).contains(&sample(102, vec![], residuals)));
}

#[test]
fn a_corrected_cube_goes_on_from_there() {
    let mut session = joined();
    session.set_pose(OWN, pose(90.0));
    session.poll(ms(60));
    let corrected = CubePose {
        cube: OWN,
        pose: pose(3.0),
    };
    let placed = CubePose {
        cube: OWN,
        pose: pose(90.0),
    };
    assert_eq!(
        sent(&mut session),
        [sample(102, vec![placed], Bytes::new())]
    );
    receive(
        &mut session,
        ms(70),
        &[ServerMessage::Correction {
            tick: 102,
            corrected,
        }],
    );
    assert_eq!(events(&mut session), [SessionEvent::Corrected(corrected)]);
    session.poll(ms(110));
    let residuals = jump(pose(90.0), pose(3.0), 1);
    assert_eq!(sent(&mut session), [sample(103, vec![], residuals)]);
}

#[test]
fn samples_wait_while_the_connection_is_full() {
    let mut session = joined();
    for _ in 0..=BACKLOG_BYTES {
        session.take(FREE);
    }
    session.set_pose(OWN, pose(1.0));
    session.poll(ms(100));
    session.set_pose(OWN, pose(2.0));
    assert_eq!(session.statistics().updates_out, 0);
    session.outgoing().clear();
    session.poll(ms(116));
    assert_eq!(session.statistics().updates_out, 1);
    for _ in 0..MAX_OUTGOING_BYTES {
        session.take(FREE);
    }
    session.poll(ms(133));
    assert!(ended(&mut session).0.contains("does not take"));
}

/// Returns a server's bytes with every kind of message, and an invalid one at the end.
fn conversation() -> Vec<u8> {
    let mut bytes = BytesMut::new();
    let by = OWN;
    for message in [
        ServerMessage::Welcome(welcome()),
        keyframe(100),
        snapshot(101, vec![Event::Taken { cube: FREE, by }]),
        ServerMessage::Pong {
            sent_us: 0,
            tick: 101,
            since_tick_us: 9,
            late_samples: 1,
        },
        ServerMessage::Refused {
            cube: FREE,
            holder: Some(OWN),
        },
        ServerMessage::Correction {
            tick: 101,
            corrected: CubePose {
                cube: OWN,
                pose: pose(1.0),
            },
        },
        snapshot(102, vec![Event::Left { cube: FREE }]),
        keyframe(110),
        snapshot(109, vec![]),
    ] {
        message.append_frame(&mut bytes);
    }
    bytes.to_vec()
}

/// Returns the events of a new session that receives these pieces.
fn events_of(pieces: &[&[u8]]) -> Vec<SessionEvent> {
    let mut session = new();
    let mut incoming = BytesMut::new();
    for piece in pieces {
        incoming.extend_from_slice(piece);
        session.receive(Duration::ZERO, &mut incoming);
    }
    events(&mut session)
}

proptest! {
    #[test]
    fn any_split_of_the_stream_gives_the_same_events(
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let bytes = conversation();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        let whole = events_of(&[&bytes]);
        prop_assert_eq!(whole.len(), 11);
        prop_assert_eq!(events_of(&pieces), whole);
    }

    #[test]
    fn damaged_bytes_never_panic(
        at: prop::sample::Index, damage in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        let mut bytes = conversation();
        let at = at.index(bytes.len());
        for (byte, damage) in bytes[at..].iter_mut().zip(damage) {
            *byte = damage;
        }
        let mut session = new();
        session.receive(Duration::ZERO, &mut BytesMut::from(&bytes[..]));
        session.poll(ms(100));
        session.poll(ms(6_000));
    }
}

#[test]
fn a_stream_that_is_silent_while_datagrams_come_ends_the_session_by_its_own_limit() {
    let mut session = with_datagrams(ms(1_000));
    for second in 2..16 {
        session.receive_datagram(ms(second * 1_000), &downlink(second as u8, 0));
        session.poll(ms(second * 1_000));
        assert!(session.is_joined());
    }
    session.receive_datagram(ms(16_000), &downlink(16, 0));
    events(&mut session);
    session.poll(ms(16_000));
    let (reason, retry) = ended(&mut session);
    assert!(reason.contains("connection for 15 s"), "{reason}");
    assert_eq!(retry, Retry::OthersFirst);
}

/// Returns a datagram of the server in which nothing is new.
fn downlink(number: u8, lost: u8) -> Bytes {
    let downlink = Downlink {
        complete: 100,
        base: 99,
        number,
        lost,
        snapshots: Vec::new(),
    };
    downlink.encode()
}

fn uplink(session: &mut Session) -> Option<Uplink> {
    let datagram = session.next_datagram();
    datagram.map(|datagram| Uplink::decode(&datagram).unwrap())
}

/// Returns a session for which datagrams work at a time.
fn with_datagrams(now: Duration) -> Session {
    let mut session = joined();
    session.open_datagrams(DatagramRequest::Udp);
    session.open_datagrams(DatagramRequest::Udp);
    let asked = ClientMessage::OpenDatagrams(DatagramRequest::Udp);
    assert_eq!(sent(&mut session), [asked], "only once");
    let answer = DatagramAnswer::Udp {
        port: 1,
        path: PathId(2),
        key: DatagramKey([3; 32]),
    };
    receive(
        &mut session,
        now,
        &[ServerMessage::Datagrams(answer.clone())],
    );
    assert_eq!(events(&mut session), [SessionEvent::Datagrams(answer)]);
    let first = uplink(&mut session).expect("a datagram opens the way");
    assert_eq!((first.lost, first.samples.len()), (255, 0));
    session.receive_datagram(now, &downlink(0, 0));
    assert!(session.datagrams_work(now));
    let confirms = uplink(&mut session).expect("the server waits for it");
    assert_eq!((confirms.lost, confirms.samples.len()), (0, 0));
    session
}

#[test]
fn a_sample_goes_out_by_datagram_at_once_and_on_the_stream_before_a_release_or_a_moment_later() {
    let mut session = with_datagrams(ms(1_000));
    let mut newest = None;
    let mut samples = Vec::new();
    for frame in 0..30u16 {
        let now = ms(1_000 + 16 * u64::from(frame));
        session.poll(now);
        session.set_pose(OWN, pose((f32::from(frame) / 3.0).sin()));
        session.send(now);
        newest = uplink(&mut session).or(newest);
        let is_sample = |message: &ClientMessage| matches!(message, ClientMessage::Sample { .. });
        samples.push(sent(&mut session).into_iter().filter(is_sample).count());
    }
    let newest = newest.expect("the cube moves");
    assert_eq!(newest.samples.len(), 2);
    assert!(newest.base > 0 && newest.base < newest.samples[0].tick);
    let writes = samples.iter().filter(|count| **count > 0).count();
    let all: usize = samples.iter().sum();
    assert!(writes <= 3 && all >= 6, "{samples:?}");

    let free = ServerMessage::Snapshot(Snapshot {
        tick: 101,
        events: vec![Event::Taken {
            cube: FREE,
            by: OWN,
        }],
        ..Snapshot::default()
    });
    receive(&mut session, ms(1_480), &[free]);
    session.set_pose(FREE, pose(9.0));
    session.release(FREE);
    let stream = sent(&mut session);
    assert_eq!(stream.last(), Some(&ClientMessage::Release { cube: FREE }));
    let ticks: Vec<_> = stream
        .iter()
        .filter_map(|message| match message {
            ClientMessage::Sample { tick, .. } => Some(*tick),
            _ => None,
        })
        .collect();
    assert!(ticks.is_sorted() && !ticks.is_empty());
    session.poll(ms(1_600));
    session.set_pose(OWN, pose(20.0));
    session.send(ms(1_600));
    let after = uplink(&mut session).expect("the cube has moved");
    assert_eq!((after.releases, after.samples.len()), (1, 1));
    assert_eq!(Some(&after.base), ticks.last());
}

#[test]
fn where_datagrams_are_lost_they_are_repeated_and_where_none_come_they_only_probe() {
    let mut session = with_datagrams(ms(1_000));
    session.receive_datagram(ms(1_000), &downlink(1, 20));
    session.set_pose(OWN, pose(5.0));
    session.send(ms(1_000));
    let mut times = Vec::new();
    for now in (1_000..9_000).step_by(10) {
        session.poll(ms(now));
        if let Some(uplink) = uplink(&mut session) {
            times.push((now, uplink.lost));
        }
    }
    // The sample, two repetitions a tick later each, and then one every second. Its tail is one too.
    let (soon, later): (Vec<_>, Vec<_>) = times.iter().partition(|(at, _)| *at < 1_300);
    assert!((3..=5).contains(&soon.len()), "{times:?}");
    assert!((6..=8).contains(&later.len()), "{times:?}");
    let reported: Vec<_> = later.iter().filter(|(_, lost)| *lost == 255).collect();
    assert!(reported.iter().all(|(at, _)| *at >= 4_000) && reported.len() >= 4);
    assert!(!session.datagrams_work(ms(9_000)));
}

#[test]
fn an_answer_that_nobody_asked_for_ends_the_session() {
    let mut session = joined();
    let answer = ServerMessage::Datagrams(DatagramAnswer::Unavailable);
    receive(&mut session, ms(1_000), &[answer]);
    assert!(!session.is_joined());
}
