//! Players whose room goes on at another owner behind their connections: the real room and the real
//! session, on a network that delays, and loses datagrams.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cubesync_client::session::{Session, SessionEvent};
use cubesync_protocol::cells::Grid;
use cubesync_protocol::{
    ClientMessage, Colour, CubeId, CubeKind, DatagramAnswer, DatagramKey, DatagramRequest, Hello,
    Message, PathId, Pose, Position, frame,
};
use cubesync_relay::datagram::{DatagramInbox, DatagramPath, OpenedPath};
use cubesync_relay::metrics::Metrics;
use cubesync_relay::room::audience::Outlet;
use cubesync_relay::room::backplane::Alone;
use cubesync_relay::room::speed::SpeedRule;
use cubesync_relay::room::{
    Connections, Entrance, Membership, Room, RoomHandle, RoomSettings, SightRule,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const FREE: CubeId = CubeId(0);
const STEP: Duration = Duration::from_millis(1);
const FRAME_MS: u64 = 16;
/// When the first player takes the free cube, the owner goes, another one comes, everybody stands, and all
/// is compared.
const TAKES_MS: u64 = 1_500;
const STANDS_MS: u64 = 7_000;
const END_MS: u64 = 8_500;

/// What was sent on one way, with the time at which it arrives.
struct Way<T> {
    waiting: VecDeque<(u64, T)>,
    delay_ms: (u64, u64),
    /// Nothing overtakes on a stream.
    is_ordered: bool,
    newest_ms: u64,
}

impl<T> Way<T> {
    fn new(delay_ms: (u64, u64), is_ordered: bool) -> Self {
        Self {
            waiting: VecDeque::new(),
            delay_ms,
            is_ordered,
            newest_ms: 0,
        }
    }

    fn send(&mut self, now_ms: u64, sent: T, random: &mut fastrand::Rng) {
        let arrives_ms = now_ms + random.u64(self.delay_ms.0..=self.delay_ms.1);
        match self.is_ordered {
            true => self.newest_ms = self.newest_ms.max(arrives_ms),
            false if random.u8(..10) == 0 => return,
            false => self.newest_ms = arrives_ms,
        }
        self.waiting.push_back((self.newest_ms, sent));
    }

    fn arrived(&mut self, now_ms: u64) -> Option<T> {
        let place = self.waiting.iter().position(|(at, _)| *at <= now_ms)?;
        self.waiting.remove(place).map(|(_, sent)| sent)
    }
}

/// The datagrams that the room has sent to a player.
#[derive(Debug, Default)]
struct Path(Mutex<Vec<Bytes>>);

impl DatagramPath for Path {
    fn send(&self, datagram: &[u8]) -> bool {
        let mut sent = self.0.lock().unwrap();
        sent.push(Bytes::copy_from_slice(datagram));
        true
    }
}

struct Player {
    session: Session,
    number: u8,
    membership: Membership,
    inbox: DatagramInbox,
    outlet: mpsc::Receiver<Bytes>,
    path: Arc<Path>,
    up: Way<Bytes>,
    down: Way<Bytes>,
    datagrams_up: Way<Bytes>,
    datagrams_down: Way<Bytes>,
    has_taken: bool,
    continued: u32,
}

impl Player {
    async fn enter(room: &mut Room, handle: &RoomHandle, number: u8) -> Self {
        let (frames, outlet) = mpsc::channel(256);
        let colour = Colour::from([number; 3]);
        let entrance = Entrance {
            name: format!("player {number}"),
            colour,
            rule: SpeedRule::TopSpeed,
            sight: SightRule::Surroundings,
            resume: None,
            pose: None,
            outlet: Outlet::Frames(frames),
            ended: CancellationToken::new(),
            peer: None,
        };
        let work = async { room.take_events(Instant::now().into_std()) };
        let (entered, ()) = tokio::join!(handle.enter(entrance), work);
        let membership = entered.unwrap().unwrap();
        let mut session = Session::new(Hello::new("lobby", "player", colour), Duration::ZERO);
        // The entrance has said as much.
        session.outgoing().clear();
        Self {
            session,
            number,
            inbox: membership.inbox(),
            membership,
            outlet,
            path: Arc::default(),
            up: Way::new((20, 90), true),
            down: Way::new((20, 90), true),
            datagrams_up: Way::new((20, 50), false),
            datagrams_down: Way::new((20, 50), false),
            has_taken: false,
            continued: 0,
        }
    }

    /// Where the player's cube is, and the one that the first player carries.
    fn poses(&self, now_ms: u64) -> [Pose; 2] {
        let turn = now_ms.min(STANDS_MS) as f32 / 700.0 + f32::from(self.number);
        let pose = |height_m| Pose {
            position: Position::from_metres([3.0 * turn.cos(), 3.0 * turn.sin(), height_m]),
            ..Pose::default()
        };
        [pose(0.5), pose(1.75)]
    }

    /// Passes on what arrives at the server, and what the server has sent.
    async fn carry(&mut self, now_ms: u64, random: &mut fastrand::Rng) {
        while let Some(payload) = self.up.arrived(now_ms) {
            match ClientMessage::decode(&payload).unwrap() {
                ClientMessage::OpenDatagrams(_) => {
                    let answer = DatagramAnswer::Udp {
                        port: 0,
                        path: PathId(0),
                        key: DatagramKey([0; 32]),
                    };
                    let path = Arc::clone(&self.path) as Arc<dyn DatagramPath>;
                    let opened = OpenedPath { answer, path };
                    self.membership.open_datagrams(Some(opened)).await.unwrap();
                }
                message => self.membership.message(message).await.unwrap(),
            }
        }
        while let Some(datagram) = self.datagrams_up.arrived(now_ms) {
            self.inbox.deliver(&datagram);
        }
        while let Ok(frames) = self.outlet.try_recv() {
            self.down.send(now_ms, frames, random);
        }
        for datagram in self.path.0.lock().unwrap().drain(..) {
            self.datagrams_down.send(now_ms, datagram, random);
        }
    }

    /// Plays a frame.
    fn frame(&mut self, now_ms: u64, random: &mut fastrand::Rng) {
        let now = Duration::from_millis(now_ms);
        while let Some(datagram) = self.datagrams_down.arrived(now_ms) {
            self.session.receive_datagram(now, &datagram);
        }
        while let Some(frames) = self.down.arrived(now_ms) {
            self.session.receive(now, &mut BytesMut::from(&frames[..]));
        }
        self.session.poll(now);
        while let Some(event) = self.session.next_event() {
            match event {
                SessionEvent::Continued { welcome, before } => {
                    assert_eq!(welcome.cube, before, "the token is known");
                    self.continued += 1;
                }
                SessionEvent::Ended { reason, .. } => panic!("after {now_ms} ms: {reason}"),
                SessionEvent::Corrected(corrected) => panic!("after {now_ms} ms: {corrected:?}"),
                SessionEvent::Refused { .. } => panic!("nobody else takes the cube"),
                _ => {}
            }
        }
        let Some(own) = self.session.welcome().map(|welcome| welcome.cube) else {
            return;
        };
        self.session.open_datagrams(DatagramRequest::Udp);
        if self.number == 0 && now_ms >= TAKES_MS && !std::mem::replace(&mut self.has_taken, true) {
            self.session.take(FREE);
        }
        let [pose, carried] = self.poses(now_ms);
        assert!(self.session.set_pose(own, pose));
        self.session.set_pose(FREE, carried);
        self.session.send(now);
        let outgoing = self.session.outgoing();
        while let Some(payload) = frame::split(outgoing, ClientMessage::MAX_PAYLOAD_BYTES).unwrap()
        {
            self.up.send(now_ms, payload, random);
        }
        while let Some(datagram) = self.session.next_datagram() {
            self.datagrams_up.send(now_ms, datagram, random);
        }
    }

    /// Checks that everybody is where they say, and that the free cube is held.
    fn check(&self, others: &[Player]) {
        let by_datagram = self.session.statistics().snapshots_by_datagram;
        assert!(by_datagram > 50, "{by_datagram}");
        let replica = self.session.replica().unwrap();
        let holder = others[0].session.welcome().unwrap().cube;
        let free = replica.cube(FREE).unwrap();
        let held = CubeKind::Free {
            holder: Some(holder),
        };
        assert_eq!(free.kind, held);
        let mut expected = vec![(FREE, others[0].poses(END_MS)[1])];
        for other in others {
            let cube = other.session.welcome().unwrap().cube;
            expected.push((cube, other.poses(END_MS)[0]));
            assert_eq!(replica.cube(cube).unwrap().kind, CubeKind::Player);
        }
        assert_eq!(replica.cubes().count(), expected.len());
        for (cube, pose) in expected {
            let shown = replica.pose(cube).unwrap();
            let off = shown.position.distance(pose.position);
            assert!(off <= 6, "cube {cube} is {off} quanta off");
        }
    }
}

/// Plays a room whose owner goes twice, for so long.
async fn play(grid: Grid, pause_ms: u64, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let settings = RoomSettings {
        name: "lobby".into(),
        tick_hz: 30,
        top_speed: Some(20_480),
        grid,
        slow_reader_after: Duration::from_secs(5),
        resume_within: Duration::from_secs(15),
        drain: Duration::ZERO,
        max_cubes: 10,
        field: None,
        permanent: true,
        backplane: Arc::new(Alone),
    };
    let (handle, connections) = Connections::new(settings, Metrics::default());
    let mut owner = Ok(Room::new(connections));
    let mut players = Vec::new();
    for number in 0..3 {
        let room = owner.as_mut().ok().unwrap();
        players.push(Player::enter(room, &handle, number).await);
    }
    // After a pause, the new owner knows a little less than the players.
    let mut known = VecDeque::new();
    let goes_ms = [2_500, 4_500].map(|at| at + random.u64(..200));
    for now_ms in 0..END_MS {
        tokio::time::advance(STEP).await;
        let now = Instant::now().into_std();
        for player in &mut players {
            player.carry(now_ms, &mut random).await;
            if now_ms % FRAME_MS == u64::from(player.number) {
                player.frame(now_ms, &mut random);
            }
        }
        owner = match owner {
            Ok(room) if goes_ms.contains(&now_ms) => {
                let (connections, newest) = room.hand_over();
                let older = known.pop_front().filter(|_| pause_ms > 100);
                Err((connections, older.unwrap_or(newest)))
            }
            Err((connections, state)) if goes_ms.iter().any(|goes| goes + pause_ms == now_ms) => {
                Ok(Room::take_over(connections, state, now))
            }
            Ok(mut room) => {
                room.take_events(now);
                if room.next_tick() <= now {
                    room.tick(now);
                    known.push_back(room.state());
                    known.drain(..known.len().saturating_sub(3));
                }
                Ok(room)
            }
            none => none,
        };
    }
    for player in &players {
        assert_eq!(player.continued, 2);
        player.check(&players);
    }
}

#[tokio::test(start_paused = true)]
async fn players_go_on_with_what_they_hold_whenever_their_rooms_owner_changes() {
    for seed in 0..4 {
        let grid = match seed % 2 {
            0 => Grid::WHOLE,
            _ => Grid::new(20 * 512),
        };
        for pause_ms in [1, 70, 1_300] {
            println!("seed {seed}, a pause of {pause_ms} ms");
            play(grid, pause_ms, seed).await;
        }
    }
}
