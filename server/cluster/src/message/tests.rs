use cubesync_protocol::{Message, Position};
use cubesync_relay::room::CubeState;
use proptest::prelude::*;

use super::*;
use crate::link::Packet;

fn write(message: &impl Payload) -> Bytes {
    let mut buffer = BytesMut::new();
    message.write(&mut buffer);
    buffer.freeze()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn heartbeat(tick: u64) -> Bytes {
    ServerMessage::Heartbeat { tick }.to_frame()
}

fn entrance() -> Entrance {
    Entrance {
        name: "Anna".into(),
        colour: Colour::from([1, 2, 3]),
        is_unlimited: false,
        tokens: vec![TokenDigest([7; 16]), TokenDigest([8; 16])],
        next_token: TokenDigest([9; 16]),
        pose: Some(Pose::default()),
        goes_on: true,
    }
}

fn downs() -> Vec<(Down, &'static str)> {
    let attached = Attached {
        term: 7,
        tick: 300,
        since_tick_us: 9,
    };
    let frames = |near, far| {
        Down::Tick(TickFrames {
            tick: 258,
            near,
            far,
        })
    };
    let (first, second) = (heartbeat(1), heartbeat(2));
    let for_players = vec![
        (
            PlayerId(1),
            ForPlayer::Message(ServerMessage::Heartbeat { tick: 5 }),
        ),
        (PlayerId(2), ForPlayer::Ended(Ending::RoomFull)),
    ];
    vec![
        (Down::Attached(attached), "0007fb2c0109"),
        (
            Down::ForPlayers(for_players),
            "01020100040502010 9726f6f6d5f66756c6c",
        ),
        (Down::Roster(RosterUpdate::default()), "020000000000"),
        (
            Down::HandOver {
                successor: Some(ServerId(3)),
            },
            "030103",
        ),
        (frames(vec![], vec![]), "ff020100000000"),
        (
            frames(vec![first.clone()], vec![]),
            "ff020100000000 000000020401",
        ),
        (
            frames(vec![first.clone()], vec![second.clone(), first]),
            "ff020100000000 000000020401 00000000 000000020402 000000020401",
        ),
        (
            frames(vec![], vec![second]),
            "ff020100000000 00000000 000000020402",
        ),
    ]
}

fn ups() -> Vec<(Up, &'static str)> {
    let messages = vec![
        (PlayerId(1), FromPlayer::Message(ClientMessage::Leave)),
        (PlayerId(2), FromPlayer::Datagram(Uplink::default())),
    ];
    let view = Up::View {
        near: vec![CellId(1)],
        far: vec![CellId(1), CellId(2)],
    };
    let tokens = ["07", "08", "09"].map(|byte| byte.repeat(16)).concat();
    let tokens = format!("02{tokens}");
    let entrance_hex = format!("010104416e6e6101020300{tokens}01000000fffdf7df01");
    vec![
        (view, "000101020102"),
        (
            Up::Enter(PlayerId(1), entrance()),
            Box::leak(entrance_hex.into_boxed_str()),
        ),
        (Up::FromPlayers(messages), "0202010005 0201 0000000000"),
        (Up::Left(PlayerId(9), Ending::Lost), "0309046c6f7374"),
    ]
}

#[test]
fn messages_have_these_bytes_and_come_back_from_them() {
    for (down, expected) in downs() {
        let bytes = write(&down);
        assert_eq!(hex(&bytes), expected.replace(' ', ""), "{down:?}");
        assert_eq!(Down::decode(&bytes), Ok(down));
    }
    for (up, expected) in ups() {
        let bytes = write(&up);
        assert_eq!(hex(&bytes), expected.replace(' ', ""), "{up:?}");
        assert_eq!(Up::decode(&bytes), Ok(up));
    }
}

#[test]
fn envelopes_are_told_apart_by_their_first_byte() {
    let attach = Attach {
        from: ServerId(1),
        link: LinkId(2),
        rules: crate::testing::rules(),
    };
    let announcement = Announcement {
        owner: ServerId(1),
        term: 2,
    };
    let read = |payload: Bytes| Envelope::decode(payload).unwrap();
    assert!(matches!(read(attach.encode()), Envelope::Attach(read) if read == attach));
    let announced = read(announcement.encode());
    assert!(matches!(announced, Envelope::Announcement(read) if read == announcement));
    let ended = read(Packet::end(LinkId(2)));
    assert!(matches!(ended, Envelope::Packet(packet) if packet.link == LinkId(2)));
    assert!(Envelope::decode(Bytes::new()).is_err());
}

#[test]
fn frames_are_passed_on_without_a_copy() {
    let frame = heartbeat(1);
    let tick = TickFrames {
        tick: 1,
        near: vec![frame.clone()],
        far: vec![frame.clone()],
    };
    let bytes = write(&Down::Tick(tick));
    let Ok(Down::Tick(read)) = Down::decode(&bytes) else {
        panic!("it is a tick");
    };
    let range = bytes.as_ptr_range();
    for passed_on in [&read.near[0], &read.far[0]] {
        assert_eq!(*passed_on, frame);
        assert!(range.contains(&passed_on.as_ptr()));
    }
}

#[test]
fn every_ending_comes_through() {
    for ending in Ending::ALL {
        let left = Up::Left(PlayerId(1), *ending);
        assert_eq!(Up::decode(&write(&left)), Ok(left));
    }
}

#[test]
fn what_no_server_sends_is_refused() {
    let up = |entrance| Up::decode(&write(&Up::Enter(PlayerId(1), entrance)));
    assert!(up(entrance()).is_ok());
    for name in ["", " Anna", "a\nb", &"a".repeat(25)] {
        let name = name.to_owned();
        assert!(up(Entrance { name, ..entrance() }).is_err());
    }
    let x = i32::MAX;
    let position = Position { x, y: 0, z: 0 };
    let pose = Some(Pose {
        position,
        ..Pose::default()
    });
    assert!(up(Entrance { pose, ..entrance() }).is_err());
    let tokens = vec![TokenDigest([0; 16]); MAX_TOKENS + 1];
    assert!(
        up(Entrance {
            tokens,
            ..entrance()
        })
        .is_err()
    );
    let attached = Attached {
        term: 1,
        tick: MAX_TICK + 1,
        since_tick_us: 0,
    };
    assert!(Down::decode(&write(&Down::Attached(attached))).is_err());
}

#[test]
fn lists_and_frames_have_bounds() {
    let left = || FromPlayer::Message(ClientMessage::Leave);
    let batch = |count| Up::FromPlayers((0..count).map(|_| (PlayerId(0), left())).collect());
    let is_read = |up: &Up| Up::decode(&write(up)).is_ok();
    assert!(is_read(&batch(MAX_BATCH)) && !is_read(&batch(MAX_BATCH + 1)));
    let cells = |count| Up::View {
        near: vec![CellId(0); count],
        far: vec![],
    };
    assert!(is_read(&cells(MAX_CELLS)) && !is_read(&cells(MAX_CELLS + 1)));
    let tick = |count| {
        Down::Tick(TickFrames {
            near: vec![heartbeat(1); count],
            ..TickFrames::default()
        })
    };
    let is_read = |down: &Down| Down::decode(&write(down)).is_ok();
    assert!(is_read(&tick(MAX_FRAMES_PER_TICK)) && !is_read(&tick(MAX_FRAMES_PER_TICK + 1)));
    // A claimed length is refused before there is memory for it.
    let claim = [&[2, 253][..], &(1_u64 << 40).to_le_bytes()].concat();
    assert!(Up::decode(&claim.into()).is_err());
}

#[test]
fn the_longest_roster_is_a_message() {
    let info = cubesync_protocol::CubeInfo {
        cube: cubesync_protocol::CubeId(1 << 52),
        kind: cubesync_protocol::CubeKind::Player,
        name: "𝓐".repeat(32),
        colour: Colour::from([1, 2, 3]),
        motion: cubesync_protocol::motion::MotionState::at_rest(Pose::default()),
    };
    let token = Some(TokenDigest([7; 16]));
    let update = RosterUpdate {
        is_whole: true,
        changed: vec![CubeState { info, token }; 5_000],
        ..RosterUpdate::default()
    };
    let down = Down::Roster(update);
    let bytes = write(&down);
    assert!(bytes.len() < crate::link::MAX_MESSAGE_BYTES / 2);
    assert!(Down::decode(&bytes) == Ok(down));
}

proptest! {
    #[test]
    fn changed_messages_are_refused_or_other_messages(
        which in 0..12_usize, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), cut in 0..9_usize,
    ) {
        let downs = downs().into_iter().map(|(down, _)| write(&down));
        let messages: Vec<_> = downs.chain(ups().into_iter().map(|(up, _)| write(&up))).collect();
        let mut bytes = messages[which].to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(bytes.len().saturating_sub(cut).max(1));
        let bytes = Bytes::from(bytes);
        if let Ok(down) = Down::decode(&bytes) {
            prop_assert_eq!(write(&down), bytes.clone());
        }
        if let Ok(up) = Up::decode(&bytes) {
            prop_assert_eq!(write(&up), bytes);
        }
    }
}
