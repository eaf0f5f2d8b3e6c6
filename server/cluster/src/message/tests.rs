use cubesync_protocol::limits::MAX_CLIENT_PAYLOAD_BYTES;
use cubesync_protocol::motion::MotionState;
use cubesync_protocol::{
    Colour, CubeId, CubeInfo, CubeKind, Message, Pose, Position, ServerMessage,
};
use cubesync_relay::label::Label;
use cubesync_relay::room::speed::SpeedRule;
use cubesync_relay::room::{CubeState, TokenDigest};
use proptest::prelude::*;

use super::*;

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

fn entrance() -> RemoteEntrance {
    RemoteEntrance {
        name: "Anna".into(),
        colour: Colour::from([1, 2, 3]),
        rule: SpeedRule::Unlimited,
        tokens: vec![TokenDigest([7; 16]), TokenDigest([8; 16])],
        next_token: TokenDigest([9; 16]),
        pose: Some(Pose::default()),
        goes_on: true,
    }
}

fn frames(near: Vec<Bytes>, far: Vec<Bytes>) -> Down {
    let tick = 7;
    Down::Tick(TickFrames { tick, near, far })
}

fn downs() -> Vec<(Down, &'static str)> {
    let attached = Attached {
        term: 7,
        tick: 300,
        since_tick_us: 9,
    };
    let message = ForPlayer::Message(ServerMessage::Heartbeat { tick: 5 });
    let for_players = vec![
        (PlayerId(1), message),
        (PlayerId(2), ForPlayer::Ended(Ending::Closed)),
    ];
    let (first, second) = (heartbeat(1), heartbeat(2));
    let successor = Some(ServerId(3));
    vec![
        (frames(vec![], vec![]), "00 07 00 00"),
        (
            frames(vec![first.clone()], vec![second, first]),
            "00 07 01 06000000020401 02 06000000020402 06000000020401",
        ),
        (Down::ForPlayers(for_players), "01 02 01000405 020101"),
        (Down::Roster(RosterUpdate::default()), "02 00 00 00 00 00"),
        (Down::Attached(attached), "03 07 fb2c01 09"),
        (Down::HandOver { successor }, "04 01 03"),
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
    vec![
        (Up::FromPlayers(messages), "00 02 010005 02010000000000"),
        (view, "01 0101 020102"),
        (
            Up::Enter(vec![(PlayerId(1), entrance())]),
            "02 01 01 04416e6e61 010203 01 \
             02 07070707070707070707070707070707 08080808080808080808080808080808 \
             09090909090909090909090909090909 01 000000 fffdf7df 01",
        ),
        (Up::Left(PlayerId(9), Ending::Lost), "03 09 02"),
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
    let attached = read(Envelope::Attach(attach).encode());
    assert!(matches!(attached, Envelope::Attach(read) if read == attach));
    let announced = read(Envelope::Announcement(announcement).encode());
    assert!(matches!(announced, Envelope::Announcement(read) if read == announcement));
    let ended = read(Packet::end(LinkId(2)));
    assert!(matches!(ended, Envelope::Packet(packet) if packet.link == LinkId(2)));
    for wrong in [&[][..], &[2], &[255; 20]] {
        assert!(Envelope::decode(Bytes::copy_from_slice(wrong)).is_err());
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
    let up = |entrance| Up::decode(&write(&Up::Enter(vec![(PlayerId(1), entrance)])));
    assert!(up(entrance()).is_ok());
    for name in ["", " Anna", "a\nb", &"a".repeat(25)] {
        let name = name.to_owned();
        let named = RemoteEntrance { name, ..entrance() };
        assert!(up(named).is_err());
    }
    let x = i32::MAX;
    let position = Position { x, y: 0, z: 0 };
    let pose = Some(Pose {
        position,
        ..Pose::default()
    });
    assert!(up(RemoteEntrance { pose, ..entrance() }).is_err());
    let tokens = vec![TokenDigest([0; 16]); MAX_TOKENS + 1];
    let many = RemoteEntrance {
        tokens,
        ..entrance()
    };
    assert!(up(many).is_err());
    let attached = Attached {
        term: 1,
        tick: LAST_TICK + 1,
        since_tick_us: 0,
    };
    assert!(Down::decode(&write(&Down::Attached(attached))).is_err());
}

#[test]
fn what_is_no_frame_does_not_reach_players() {
    let is_read = |frame: &[u8]| {
        let bad = Bytes::copy_from_slice(frame);
        let down = frames(vec![heartbeat(1)], vec![bad]);
        Down::decode(&write(&down)).is_ok()
    };
    assert!(is_read(&[0, 0, 0, 1, 9]));
    for wrong in [
        &[][..],
        &[0, 0, 0],
        &[0, 0, 0, 0],
        &[0, 0, 0, 2, 9],
        &[0, 0, 0, 1, 9, 9],
    ] {
        assert!(!is_read(wrong), "{wrong:?}");
    }
}

#[test]
fn lists_have_bounds() {
    let is_read = |up: &Up| Up::decode(&write(up)).is_ok();
    let cells = |count| Up::View {
        near: vec![],
        far: vec![CellId(0); count],
    };
    assert!(is_read(&cells(MAX_CELLS)) && !is_read(&cells(MAX_CELLS + 1)));
    let left = || FromPlayer::Message(ClientMessage::Leave);
    let batch = |count| Up::FromPlayers((0..count).map(|_| (PlayerId(0), left())).collect());
    assert!(is_read(&batch(50_000)) && !is_read(&batch(MAX_UP_BYTES / 3)));
    // What players may say at once fits.
    let residuals = Bytes::from(vec![0; MAX_CLIENT_PAYLOAD_BYTES]);
    let sample = ClientMessage::Sample {
        tick: MAX_TICK,
        placed: vec![],
        residuals,
    };
    let longest = (PlayerId(u64::MAX), FromPlayer::Message(sample));
    assert!(is_read(&Up::FromPlayers(vec![longest; MAX_BATCH])));
    let entrance = RemoteEntrance {
        name: "𝓐".repeat(24),
        ..entrance()
    };
    assert!(is_read(&Up::Enter(vec![
        (PlayerId(u64::MAX), entrance);
        MAX_BATCH
    ])));
    // A claimed length takes no memory.
    let claim = [&[0, 253][..], &(1_u64 << 40).to_le_bytes()].concat();
    assert!(Up::decode(&claim).is_err() && Down::decode(&claim).is_err());
}

#[test]
fn the_longest_roster_is_a_message() {
    let info = CubeInfo {
        cube: CubeId(1 << 52),
        kind: CubeKind::Player,
        name: "𝓐".repeat(32),
        colour: Colour::from([1, 2, 3]),
        width: Default::default(),
        motion: MotionState::at_rest(Pose::default()),
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
        which in 0..10_usize, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), cut in 0..9_usize,
    ) {
        let downs = downs().into_iter().map(|(down, _)| write(&down));
        let messages: Vec<_> = downs.chain(ups().into_iter().map(|(up, _)| write(&up))).collect();
        let mut bytes = messages[which].to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(bytes.len().saturating_sub(cut).max(1));
        if let Ok(down) = Down::decode(&bytes) {
            prop_assert_eq!(&write(&down)[..], &bytes);
        }
        if let Ok(up) = Up::decode(&bytes) {
            prop_assert_eq!(&write(&up)[..], &bytes);
        }
    }
}

#[test]
fn no_absurd_time_is_read() {
    let tick_of = |tick| {
        Down::Tick(TickFrames {
            tick,
            ..TickFrames::default()
        })
    };
    let attached = |tick, since_tick_us| {
        Down::Attached(Attached {
            term: u64::MAX,
            tick,
            since_tick_us,
        })
    };
    let is_read = |down: &Down| Down::decode(&write(down)).is_ok();
    for (tick, expected) in [
        (0, true),
        (LAST_TICK, true),
        (1 << 63, false),
        (u64::MAX, false),
    ] {
        assert_eq!(is_read(&tick_of(tick)), expected);
        assert_eq!(is_read(&attached(tick, 0)), expected);
    }
    for (since_us, expected) in [(33_333, true), (2_000_001, false), (u32::MAX, false)] {
        assert_eq!(is_read(&attached(1, since_us)), expected);
    }
}
