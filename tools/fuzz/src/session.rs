//! A client's session after a valid `Welcome`, to which the server sends anything at any time, another
//! `Welcome` too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::BytesMut;
use cubesync_client::playout::View;
use cubesync_client::session::{Session, SessionEvent};
use cubesync_protocol::datagram::{self, Downlink, Uplink};
use cubesync_protocol::limits::{MAX_CLIENT_PAYLOAD_BYTES, PROTOCOL_VERSION};
use cubesync_protocol::motion::MotionState;
use cubesync_protocol::replica::Change;
use cubesync_protocol::uplink::UplinkReceiver;
use cubesync_protocol::{
    CellId, ClientMessage, Colour, CubeId, CubeInfo, CubeKind, CubePose, DatagramAnswer,
    DatagramKey, DatagramRequest, Event, Hello, Keyframe, Message, PathId, Pose, ResumeToken,
    ServerMessage, Snapshot, Welcome, frame,
};

use crate::input::Input;

const OWN: CubeId = CubeId(1);
const FREE: CubeId = CubeId(0);
const COLOUR: Colour = Colour {
    red: 1,
    green: 2,
    blue: 3,
};
/// Largest number of bytes that may wait to be written: the session ends above 64 KiB, which it checks once
/// a poll.
const MAX_WAITING_BYTES: usize = 80 * 1024;

/// Checks that the session accepts the messages or ends, that its events and cubes are consistent, that
/// cubes are drawn in the world, and that a server accepts what it sends.
pub fn check(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut table = Table::new(&mut input);
    while !input.is_empty() {
        table.go_on(&mut input);
        table.look();
    }
}

/// A session at the table with the fuzzer.
pub(crate) struct Table {
    now: Duration,
    session: Session,
    view: View,
    received: BytesMut,
    /// The newest tick of any message.
    tick: u64,
    tick_hz: u8,
    /// The cubes in the events of the session.
    told: BTreeSet<CubeId>,
    has_joined: bool,
    is_over: bool,
    /// The tick of the newest sample on the stream since the newest welcome.
    sampled_tick: u64,
    /// What a server makes of the stream's samples.
    receiver: UplinkReceiver,
    /// The number of releases and answers to second welcomes.
    releases: u32,
    /// The samples that went by datagram while the stream waits with them, by tick.
    ahead: BTreeMap<u64, datagram::Sample>,
}

impl Table {
    pub(crate) fn new(input: &mut Input<'_>) -> Self {
        let now = Duration::from_secs(100);
        let tick_hz = input.byte();
        let since_tick_us = u32::from_le_bytes(input.array()) >> 8;
        let welcome = welcome(OWN, Pose::default(), tick_hz, 1_000, since_tick_us);
        let info = |cube, kind| info(cube, kind, MotionState::at_rest(Pose::default()));
        let keyframe = Keyframe {
            cell: CellId(0),
            interval_ticks: 1,
            tick: 1_000,
            cubes: vec![
                info(FREE, CubeKind::Free { holder: None }),
                info(OWN, CubeKind::Player),
            ],
        };
        let mut table = Self {
            now,
            session: Session::new(Hello::new("lobby", "a", COLOUR), now),
            view: View::new(tick_hz.max(1)),
            received: BytesMut::new(),
            tick: 1_000,
            tick_hz,
            told: BTreeSet::new(),
            has_joined: false,
            is_over: false,
            sampled_tick: 0,
            receiver: UplinkReceiver::new(tick_hz.into()),
            releases: 0,
            ahead: BTreeMap::new(),
        };
        table.say(&ServerMessage::Welcome(welcome));
        table.say(&ServerMessage::Keyframe(keyframe));
        table.look();
        table
    }

    pub(crate) fn go_on(&mut self, input: &mut Input<'_>) {
        let operation = input.byte();
        let argument = input.byte();
        match operation % 12 {
            // From a microsecond to two days.
            0 => self.now += Duration::from_micros(u64::from(argument) << (operation / 12 * 2)),
            1 => self.now += Duration::from_millis(argument.into()),
            2 => {
                let payload = input.short_bytes();
                let length = (payload.len() as u32).to_be_bytes();
                self.received.extend_from_slice(&length);
                self.received.extend_from_slice(payload);
            }
            3 => self.received.extend_from_slice(input.short_bytes()),
            4 => {
                let cube = CubeId(u64::from(argument) % 4);
                let pose = input.near_pose();
                if self.session.set_pose(cube, pose) {
                    self.view.gain(cube, pose);
                }
            }
            5 if argument.is_multiple_of(2) => {
                self.session.take(CubeId(u64::from(argument) % 8 / 2))
            }
            5 => self.session.release(CubeId(u64::from(argument) % 8 / 2)),
            6 if argument.is_multiple_of(2) => self.session.measure_again(),
            6 => self.session.send(self.now),
            _ => {
                let message = self.message(operation, argument, input);
                self.say(&message);
            }
        }
    }

    /// Lets the session ask for a way for datagrams, and get it.
    pub(crate) fn open_datagrams(&mut self) {
        self.session.open_datagrams(DatagramRequest::Udp);
        self.say(&ServerMessage::Datagrams(DatagramAnswer::Udp {
            port: 1,
            path: PathId(1),
            key: DatagramKey([1; 32]),
        }));
        self.look();
    }

    pub(crate) fn datagram(&mut self, datagram: &[u8]) {
        self.session.receive_datagram(self.now, datagram);
    }

    /// Receives a datagram that a server could send, with ticks relative to the newest one.
    pub(crate) fn any_downlink(&mut self, input: &mut Input<'_>) {
        let [base, complete, number, lost, count] = input.array();
        let newest = self.tick;
        let mut snapshots = Vec::new();
        for _ in 0..count % 5 {
            let [operation, argument] = input.array();
            let operation = 8 + operation / 128;
            if let ServerMessage::Snapshot(snapshot) = self.message(operation, argument, input) {
                snapshots.push(snapshot);
            }
        }
        let downlink = Downlink {
            complete: newest.saturating_add((complete % 8).into()),
            base: newest.saturating_sub((base % 8).into()),
            number,
            lost,
            snapshots,
        };
        self.datagram(&downlink.encode());
    }

    fn say(&mut self, message: &ServerMessage) {
        message.append_frame(&mut self.received);
    }

    /// Returns a message that a server could send, with a tick relative to the newest one.
    fn message(&mut self, operation: u8, argument: u8, input: &mut Input<'_>) -> ServerMessage {
        let cell = CellId(u16::from(argument >> 4));
        let tick = match argument % 16 {
            15 => u64::MAX,
            14 => u64::from_le_bytes(input.array()),
            step => self.tick.saturating_add(step.into()).saturating_sub(3),
        };
        if tick < 1 << 40 {
            self.tick = self.tick.max(tick);
        }
        match operation % 12 {
            7 => ServerMessage::Keyframe(Keyframe {
                cell,
                interval_ticks: operation / 12,
                tick,
                cubes: (0..input.byte() % 5).map(|_| any_info(input)).collect(),
            }),
            8 | 9 => ServerMessage::Snapshot(Snapshot {
                cell,
                tick,
                events: (0..input.byte() % 5).map(|_| any_event(input)).collect(),
                residuals: input.short_bytes().to_vec().into(),
            }),
            10 => ServerMessage::Pong {
                sent_us: u64::try_from(self.now.as_micros())
                    .unwrap_or(u64::MAX)
                    .wrapping_sub(u64::from(u32::from_le_bytes(input.array()))),
                tick,
                since_tick_us: u32::from_le_bytes(input.array()),
                late_samples: input.byte().into(),
            },
            _ => match operation / 12 % 5 {
                0 => ServerMessage::Heartbeat { tick },
                1 => ServerMessage::OutOfSight { cells: vec![cell] },
                2 => ServerMessage::Correction {
                    tick,
                    corrected: CubePose {
                        cube: CubeId(u64::from(argument) % 4),
                        pose: input.any_pose(),
                    },
                },
                3 => ServerMessage::Refused {
                    cube: CubeId(u64::from(argument) % 4),
                    holder: None,
                },
                _ => {
                    let cube = CubeId(u64::from(argument >> 4) % 4);
                    let (pose, since_tick_us) = (input.near_pose(), u32::from(input.byte()) << 8);
                    let again = welcome(cube, pose, self.tick_hz, tick, since_tick_us);
                    ServerMessage::Welcome(again)
                }
            },
        }
    }

    /// Does what a client does once a frame.
    pub(crate) fn look(&mut self) {
        self.session.receive(self.now, &mut self.received);
        assert!(self.received.len() <= 1 << 20);
        self.session.poll(self.now);
        let clock_tick = self.session.clock().map(|clock| clock.tick_at(self.now));
        while let Some(event) = self.session.next_event() {
            assert!(!self.is_over, "{event:?} after the end");
            match event {
                SessionEvent::Joined(_) => {
                    assert!(!std::mem::replace(&mut self.has_joined, true));
                }
                SessionEvent::Continued { welcome, before } => {
                    assert!(self.has_joined);
                    self.view.go_on(welcome.tick);
                    if welcome.cube != before {
                        self.view.lose(before);
                    }
                }
                SessionEvent::Changed(change) => self.hear(change, clock_tick),
                SessionEvent::Corrected(corrected) => {
                    if self.view.is_controlled(corrected.cube) {
                        self.view.set_pose(corrected.cube, corrected.pose);
                    }
                }
                SessionEvent::Refused { .. } | SessionEvent::Datagrams(_) => {}
                SessionEvent::Ended { .. } => self.is_over = true,
            }
        }
        if let (Some(replica), Some(tick)) = (self.session.replica(), clock_tick) {
            assert!(tick.is_finite());
            self.view.advance(tick);
            let known = replica.cubes().map(|info| info.cube);
            assert!(self.is_over || known.eq(self.told.iter().copied()));
            for info in replica.cubes() {
                assert!(self.is_over || replica.pose(info.cube).is_some());
                let drawn = self.view.pose_at(info, tick);
                let numbers = drawn.position.iter().chain(&drawn.rotation);
                assert!(
                    numbers.into_iter().all(|number| number.is_finite()),
                    "{drawn:?}"
                );
            }
        }
        self.send();
    }

    fn hear(&mut self, change: Change, clock_tick: Option<f64>) {
        match change {
            Change::Joined(info) | Change::Appeared(info) => {
                assert!(self.told.insert(info.cube));
            }
            Change::Left(info) | Change::Disappeared(info) => {
                assert!(self.told.remove(&info.cube));
                self.view.remove(info.cube);
            }
            Change::Taken { cube, .. } => assert!(self.told.contains(&cube)),
            Change::Freed { cube } => {
                assert!(self.told.contains(&cube));
                self.view.lose(cube);
            }
            Change::Moved {
                tick,
                known_until,
                states,
            } => {
                if self.told.is_empty() {
                    self.told = states.iter().map(|(cube, _)| *cube).collect();
                }
                assert!(states.iter().all(|(cube, _)| self.told.contains(cube)));
                let clock_tick = clock_tick.unwrap_or(tick as f64);
                self.view.moved(clock_tick, tick, known_until, &states);
            }
        }
    }

    /// Checks that the session sends nothing for which a server would close the connection.
    fn send(&mut self) {
        let outgoing = self.session.outgoing();
        assert!(outgoing.len() <= MAX_WAITING_BYTES);
        while let Some(payload) =
            frame::split(outgoing, MAX_CLIENT_PAYLOAD_BYTES).expect("whole frames")
        {
            let message = ClientMessage::decode(&payload).expect("a message of ours");
            match message {
                ClientMessage::Sample {
                    tick,
                    placed,
                    residuals,
                } => {
                    assert!(tick > self.sampled_tick, "samples' ticks rise");
                    self.sampled_tick = tick;
                    let later = self.ahead.split_off(&tick);
                    assert!(self.ahead.is_empty(), "the stream left a sample out");
                    self.ahead = later;
                    self.receiver
                        .sample(tick, tick, &placed, &residuals, |_| true)
                        .expect("a server decodes it");
                    if let Some(sample) = self.ahead.remove(&tick) {
                        assert_eq!((sample.placed, sample.residuals), (placed, residuals));
                    }
                }
                ClientMessage::Release { cube } => {
                    self.releases += 1;
                    self.receiver.release(cube);
                }
                ClientMessage::Continue { releases } => {
                    self.releases += 1;
                    assert_eq!(releases, self.releases);
                    self.receiver = UplinkReceiver::continued(self.tick_hz.into(), releases);
                    self.sampled_tick = 0;
                    self.ahead.clear();
                }
                _ => {}
            }
        }
        assert!(outgoing.is_empty());
        while let Some(datagram) = self.session.next_datagram() {
            let uplink = Uplink::decode(&datagram).expect("a datagram of ours");
            assert_eq!(uplink.releases, self.releases);
            let mut before = uplink.base;
            for sample in uplink.samples {
                assert!(sample.tick > before, "samples' ticks rise");
                before = sample.tick;
                if sample.tick > self.sampled_tick {
                    self.ahead.insert(sample.tick, sample);
                }
            }
        }
    }
}

fn welcome(cube: CubeId, pose: Pose, tick_hz: u8, tick: u64, since_tick_us: u32) -> Welcome {
    Welcome {
        version: PROTOCOL_VERSION,
        room: "lobby".into(),
        name: "a".into(),
        cube,
        pose,
        tick_hz,
        tick,
        since_tick_us,
        max_speed: 20_480,
        physics: false,
        resume: ResumeToken([7; 16]),
        servers: Vec::new(),
    }
}

fn info(cube: CubeId, kind: CubeKind, motion: MotionState) -> CubeInfo {
    CubeInfo {
        cube,
        kind,
        name: "b".into(),
        colour: COLOUR,
        width: Default::default(),
        motion,
    }
}

fn any_info(input: &mut Input<'_>) -> CubeInfo {
    let [cube, kind] = input.array();
    // An id may come with another cube.
    let name = if kind < 192 { "b" } else { "c" };
    let kind = match kind % 4 {
        0 => CubeKind::Player,
        1 => CubeKind::Ghost,
        2 => CubeKind::Free { holder: None },
        _ => CubeKind::Free {
            holder: Some(CubeId(u64::from(kind) / 4 % 6)),
        },
    };
    let motion = MotionState::at_rest(input.near_pose());
    CubeInfo {
        name: name.into(),
        ..info(CubeId(u64::from(cube) % 6), kind, motion)
    }
}

fn any_event(input: &mut Input<'_>) -> Event {
    let [kind, cube] = input.array();
    let by = CubeId(u64::from(cube) / 6 % 6);
    let cube = CubeId(u64::from(cube) % 6);
    match kind % 9 {
        0 => Event::Joined(any_info(input)),
        1 => Event::Left { cube },
        2 => Event::Entered(any_info(input)),
        3 => Event::Exited { cube },
        4 => Event::Taken { cube, by },
        5 => Event::Freed { cube },
        6 => Event::Ghost { cube },
        7 => Event::Returned { cube },
        _ => Event::Placed {
            cube,
            motion: MotionState::at_rest(input.near_pose()),
        },
    }
}
