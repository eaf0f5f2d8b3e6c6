//! cubesync's client side, for thousands of clients: joins, samples at the ticks, and checks what
//! every client believes against the truth.
//!
//! This and [`belief`](crate::belief) are all that knows our messages.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use cubesync_protocol::limits::{FRAME_HEADER_BYTES, MAX_SERVER_PAYLOAD_BYTES};
use cubesync_protocol::motion::Codec;
use cubesync_protocol::{
    ClientMessage, Colour, CubeId, CubePose, Hello, Message, Pose, ServerMessage,
};

use crate::belief::{Belief, Beliefs, Truth};
use crate::dialect::{Dialect, Schedule};
use crate::error::Error;
use crate::margin::Margin;
use crate::room::Room;
use crate::tally::Tally;
use crate::workload::Workload;

/// What [`Codec::LIVE`] promises.
const BOUND: Error = Error {
    quanta: Codec::LIVE.position_bound as u32,
    degrees: 1.7,
};
/// What one sample costs the generator and the server's reading side; the clients of one process
/// cannot send at once as thousands of machines would.
const SAMPLE_COST: Duration = Duration::from_micros(8);
/// Samples are spread over this part of a tick at most.
const LARGEST_SPREAD: f64 = 0.6;
/// A client that has nothing to say pings this often.
const PING_EVERY: Duration = Duration::from_secs(4);

impl Truth for (&Workload, &Room) {
    fn bound(&self) -> Error {
        BOUND
    }

    fn client(&self, cube: CubeId) -> Option<usize> {
        self.1.owner(cube)
    }

    fn step(&self, tick: u64) -> Option<usize> {
        self.1.step(tick)
    }

    fn pose(&self, client: usize, step: usize) -> Pose {
        self.0.pose(client, step)
    }

    fn sampled_us(&self, client: usize, step: usize) -> Option<u64> {
        self.0.sampled_us(client, step)
    }
}

/// Joins and never reads.
pub(crate) fn join_deaf(number: usize, server: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(server)?;
    stream.write_all(&hello(&format!("deaf {number}")).to_frame())?;
    Ok(stream)
}

fn hello(name: &str) -> ClientMessage {
    ClientMessage::Hello(Hello::new("bench", name, Colour::from([0x80; 3])))
}

/// The clients of one thread.
pub(crate) struct Ours {
    workload: Arc<Workload>,
    room: Arc<Room>,
    beliefs: Beliefs,
    margin: Margin,
    /// The tick of step 0, once there is a schedule.
    first_tick: u64,
    frame: BytesMut,
}

/// One client.
pub(crate) struct OurClient {
    number: usize,
    cube: Option<CubeId>,
    belief: Option<Rc<Belief>>,
    sent: Option<Pose>,
    /// The last sample said that it moves; that it rests is yet to be said.
    is_moving: bool,
}

impl Ours {
    /// For one thread.
    pub(crate) fn new(workload: Arc<Workload>, room: Arc<Room>) -> Self {
        Self {
            margin: Margin::new(workload.period()),
            workload,
            room,
            beliefs: Beliefs::default(),
            first_tick: 0,
            frame: BytesMut::new(),
        }
    }

    fn append(&mut self, message: &ClientMessage, out: &mut Vec<u8>) {
        self.frame.clear();
        message.append_frame(&mut self.frame);
        out.extend_from_slice(&self.frame);
    }

    /// Takes in a payload that changes what a client believes; other messages are handled at
    /// once.
    fn take_in(
        &mut self,
        client: &mut OurClient,
        payload: &[u8],
        now_us: u64,
        tally: &mut Tally,
    ) -> Result<()> {
        let truth = (&*self.workload, &*self.room);
        let known = client.belief.as_ref();
        if let Some(next) = self.beliefs.known_next(known, payload) {
            self.count(&next, now_us, tally);
            client.belief = Some(next);
            return Ok(());
        }
        match ServerMessage::decode(payload)? {
            ServerMessage::Welcome(welcome) => {
                self.room
                    .observe(now_us, welcome.tick, welcome.since_tick_us);
                self.room.set_owner(welcome.cube, client.number)?;
                client.cube = Some(welcome.cube);
            }
            ServerMessage::Pong {
                tick,
                since_tick_us,
                ..
            } => {
                self.room.observe(now_us, tick, since_tick_us);
            }
            ServerMessage::Keyframe(keyframe) => {
                let next = self.beliefs.keyframe(known, payload, keyframe, &truth);
                self.count(&next, now_us, tally);
                client.belief = Some(next);
            }
            ServerMessage::Snapshot(snapshot) => {
                let known = known.context("a snapshot came before the keyframe")?;
                let next = self.beliefs.snapshot(known, payload, snapshot, &truth)?;
                if let Some(in_time) = next.score.in_time() {
                    self.margin.adapt(in_time);
                }
                self.count(&next, now_us, tally);
                client.belief = Some(next);
            }
            // The workload's next sample says the truth again.
            ServerMessage::Correction(_) | ServerMessage::Refused { .. } => {}
            ServerMessage::Reject { message, .. } | ServerMessage::Closing { message, .. } => {
                bail!("the server said: {message}")
            }
        }
        Ok(())
    }

    /// Counts what a client that reached `belief` at `now_us` was delivered with it.
    fn count(&self, belief: &Belief, now_us: u64, tally: &mut Tally) {
        let is_measured = |tick| tally.window_us.contains(&self.room.begins_us(tick));
        let silent = belief.silent.iter().filter(|&&(tick, _)| is_measured(tick));
        let silent: u64 = silent.map(|&(_, delivered)| delivered).sum();
        let is_measured = is_measured(belief.tick);
        tally.delivered += silent;
        if !is_measured {
            return;
        }
        let score = &belief.score;
        tally.delivered += score.delivered;
        tally.late += score.late;
        tally.wrong += score.wrong;
        tally.largest = tally.largest.max(score.largest);
        for &(sampled_us, count) in &score.sampled {
            tally.latency(now_us, sampled_us, count);
        }
    }
}

impl Dialect for Ours {
    type Client = OurClient;

    fn connected(&mut self, client: usize, out: &mut Vec<u8>) -> OurClient {
        self.append(&hello(&format!("bench {client}")), out);
        OurClient {
            number: client,
            cube: None,
            belief: None,
            sent: None,
            is_moving: false,
        }
    }

    fn is_ready(&self, state: &OurClient) -> bool {
        state.belief.is_some()
    }

    fn schedule(&mut self, earliest_us: u64) -> Schedule {
        let clients = self.workload.clients;
        let period = self.workload.period();
        let spread = (SAMPLE_COST * clients as u32).min(period.mul_f64(LARGEST_SPREAD));
        let lead_us = self.margin.most_us() + spread.as_micros() as u64;
        self.first_tick = self.room.set_first_tick(earliest_us + lead_us);
        Schedule {
            start_us: self.room.begins_us(self.first_tick) - spread.as_micros() as u64,
            period,
            spread,
            clients,
        }
    }

    fn lead_us(&self) -> u64 {
        self.margin.us()
    }

    fn sample(&mut self, client: usize, state: &mut OurClient, step: usize, out: &mut Vec<u8>) {
        let pose = self.workload.pose(client, step);
        let is_moving = state.sent != Some(pose);
        if let Some(cube) = state.cube
            && (is_moving || state.is_moving)
        {
            state.is_moving = is_moving;
            state.sent = Some(pose);
            let tick = self.first_tick + step as u64;
            let cubes = vec![CubePose { cube, pose }];
            self.append(&ClientMessage::Sample { tick, cubes }, out);
        }
        let ping_steps = PING_EVERY.as_secs() as usize * self.workload.hz as usize;
        if step % ping_steps == client % ping_steps {
            let sent_us = self.workload.now_us();
            self.append(&ClientMessage::Ping { sent_us }, out);
        }
    }

    fn receive(
        &mut self,
        state: &mut OurClient,
        received: &[u8],
        now_us: u64,
        tally: &mut Tally,
        _out: &mut Vec<u8>,
    ) -> Result<usize> {
        let mut taken = 0;
        while let Some(header) = received[taken..].first_chunk::<FRAME_HEADER_BYTES>() {
            let len_bytes = u32::from_be_bytes(*header) as usize;
            if len_bytes == 0 || len_bytes > MAX_SERVER_PAYLOAD_BYTES {
                bail!("the server sent a frame of {len_bytes} bytes");
            }
            let start = taken + FRAME_HEADER_BYTES;
            let Some(payload) = received.get(start..start + len_bytes) else {
                break;
            };
            self.take_in(state, payload, now_us, tally)?;
            taken = start + len_bytes;
        }
        Ok(taken)
    }
}
