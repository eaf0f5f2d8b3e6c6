//! cubesync's client side for thousands of clients: it joins, sends samples at the ticks, and compares the
//! replica of every client with the truth.
//!
//! This, its [`pace`](crate::pace), its [`cells`](crate::client_cells), the [`head`](crate::head) of
//! messages and [`state`](crate::cell_state) are all that knows our messages.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use cubesync_protocol::limits::{FRAME_HEADER_BYTES, MAX_SERVER_PAYLOAD_BYTES, PING_INTERVAL};
use cubesync_protocol::uplink::{Sample, UplinkSender, heartbeat_ticks};
use cubesync_protocol::{
    CellId, ClientMessage, Colour, CubeId, Hello, Message, Pose, ServerMessage,
};

use crate::audit::Audit;
use crate::cell_state::{CellState, CellStates};
use crate::client_cells::ClientCells;
use crate::dialect::{Dialect, Schedule};
use crate::head::Head;
use crate::pace::Pace;
use crate::progress::Timeline;
use crate::room::Room;
use crate::tally::Tally;
use crate::truth::Run;
use crate::workload::Workload;

/// The room of the clients.
pub(crate) const ROOM: &str = "bench";
/// The CPU time that one sample costs the generator and the reading side of the server. The clients of
/// one process cannot send at the same time, as thousands of machines would.
const SAMPLE_COST: Duration = Duration::from_micros(8);
/// Largest part of a tick over which samples are spread.
const LARGEST_SPREAD: f64 = 0.6;
/// Number of quick pings of a client that learns a lead, and how many there are in a second: as in the
/// library, so that the lead is known when the measurement begins.
const QUICK_PINGS: usize = 5;
const QUICK_PINGS_PER_S: usize = 5;

/// Lets a client join that never reads.
pub(crate) fn join_deaf(number: usize, server: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(server)?;
    stream.write_all(&hello(&format!("deaf {number}")).to_frame())?;
    Ok(stream)
}

fn hello(name: &str) -> ClientMessage {
    ClientMessage::Hello(Hello::new(ROOM, name, Colour::from([0x80; 3])))
}

/// The clients of one thread.
pub(crate) struct Ours {
    run: Run,
    states: CellStates,
    /// For each server, the client that has joined last, and its lead once it was welcomed.
    last: Vec<(usize, Option<Pace>)>,
    /// The number of the server that owns the room.
    owner: usize,
    /// The check of what clients receive, if there is a view distance.
    audit: Option<Audit>,
    /// The tick of step 0, set with the schedule.
    first_tick: u64,
    frame: BytesMut,
}

/// One client.
pub(crate) struct OurClient {
    number: usize,
    /// Its cube, once it was welcomed.
    cube: Option<CubeId>,
    uplink: UplinkSender,
    /// The tick of the last sample.
    sent_tick: u64,
    /// Whether the last sample had updates. An empty one follows it, as in the library.
    ends_with_updates: bool,
    cells: ClientCells,
}

impl Ours {
    /// Returns the clients of one thread, whose server has a view distance in quanta.
    pub(crate) fn new(
        workload: Arc<Workload>,
        room: Arc<Room>,
        view_distance: Option<u32>,
    ) -> Self {
        Self {
            last: vec![(0, None); workload.servers],
            owner: 0,
            audit: view_distance.map(|distance| Audit::new(distance, workload.clients)),
            run: Run {
                workload,
                room,
                ticks: 0..0,
            },
            states: CellStates::default(),
            first_tick: 0,
            frame: BytesMut::new(),
        }
    }

    /// Returns the pace that a client learns for those of its server, if it is the one that does.
    fn pace_of(&mut self, client: usize) -> Option<&mut Pace> {
        let (last, pace) = &mut self.last[self.run.workload.server(client)];
        pace.as_mut().filter(|_| client == *last)
    }

    fn append(&mut self, message: &ClientMessage, out: &mut Vec<u8>) {
        self.frame.clear();
        message.append_frame(&mut self.frame);
        out.extend_from_slice(&self.frame);
    }

    fn receive_payload(
        &mut self,
        client: &mut OurClient,
        payload: &[u8],
        now_us: u64,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        match Head::read(payload)? {
            Head::Snapshot { cell } => self.snapshot(client, cell, payload, now_us, tally),
            Head::Keyframe {
                cell,
                interval_ticks,
            } => self.keyframe(client, (cell, interval_ticks), payload, now_us, tally),
            _ => self.others(client, ServerMessage::decode(payload)?, now_us, tally, out),
        }
    }

    fn snapshot(
        &mut self,
        client: &mut OurClient,
        cell: CellId,
        payload: &[u8],
        now_us: u64,
        tally: &mut Tally,
    ) -> Result<()> {
        let known = client.cells.state(cell);
        let known = known.context("a snapshot came of a cell that is not in sight")?;
        let next = match known.known_next(payload) {
            Some(next) => next,
            None => {
                let ServerMessage::Snapshot(snapshot) = ServerMessage::decode(payload)? else {
                    bail!("a snapshot turned out to be another message");
                };
                self.states.snapshot(known, payload, snapshot, &self.run)?
            }
        };
        self.audit(client, next.tick, tally);
        self.count(client, &next, now_us, tally);
        client.cells.set(next)
    }

    fn keyframe(
        &mut self,
        client: &mut OurClient,
        (cell, interval_ticks): (CellId, u8),
        payload: &[u8],
        now_us: u64,
        tally: &mut Tally,
    ) -> Result<()> {
        let known = self.states.known_keyframe(cell, interval_ticks, payload);
        let next = match known {
            Some(next) => next,
            None => {
                let ServerMessage::Keyframe(keyframe) = ServerMessage::decode(payload)? else {
                    bail!("a keyframe turned out to be another message");
                };
                self.states.keyframe(payload, keyframe, &self.run)?
            }
        };
        let known = client.cells.state(cell);
        if let Some(known) = known {
            tally.score += known.silent_until(next.tick.saturating_sub(1), &self.run);
        }
        let is_new = known.is_none_or(|known| known.tick < next.tick);
        self.audit(client, next.tick, tally);
        if is_new {
            self.count(client, &next, now_us, tally);
        }
        client.cells.set(next)
    }

    fn others(
        &mut self,
        client: &mut OurClient,
        message: ServerMessage,
        now_us: u64,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        match message {
            ServerMessage::Welcome(welcome) => {
                self.run
                    .room
                    .observe(now_us, welcome.tick, welcome.since_tick_us);
                self.run.room.set_owner(welcome.cube, client.number);
                // All cubes begin in the same place; fewer clients see them at their homes.
                client.cube = Some(welcome.cube);
                client.uplink.gain(welcome.cube, welcome.pose);
                let home = self.run.workload.pose(client.number, 0);
                if let Some(sample) = client.sample(welcome.tick + 1, home, welcome.tick_hz) {
                    self.append(&sample, out);
                }
                let (last, pace) = &mut self.last[self.run.workload.server(client.number)];
                if client.number == *last {
                    *pace = Some(Pace::new(&welcome, now_us));
                }
            }
            ServerMessage::Pong {
                sent_us,
                tick,
                since_tick_us,
                late_samples,
            } => {
                self.run.room.observe(now_us, tick, since_tick_us);
                if let Some(pace) = self.pace_of(client.number) {
                    pace.ping_answered(now_us, sent_us, (tick, since_tick_us), late_samples);
                }
            }
            ServerMessage::Heartbeat { tick } => {
                self.audit(client, tick + 1, tally);
                client.cells.advance_to(tick)?;
            }
            ServerMessage::OutOfSight { cells } => {
                let until = client.cells.tick().saturating_sub(1);
                for cell in cells {
                    let state = client.cells.remove(cell)?;
                    tally.score += state.silent_until(until, &self.run);
                }
            }
            // The next sample of the workload moves the cube again.
            ServerMessage::Correction { .. } | ServerMessage::Refused { .. } => {}
            ServerMessage::Reject { message, .. } | ServerMessage::Closing { message, .. } => {
                bail!("the server said: {message}")
            }
            ServerMessage::Keyframe(_) | ServerMessage::Snapshot(_) => {
                bail!("a message turned out to be about a cell")
            }
            ServerMessage::Datagrams(_) | ServerMessage::PlainSnapshot(_) => {
                bail!("the server answers what nobody asked for")
            }
        }
        Ok(())
    }

    /// Counts the states that a client received with `state` at `now_us`.
    fn count(&self, client: &OurClient, state: &CellState, now_us: u64, tally: &mut Tally) {
        tally.score += state.measured;
        let own = self.run.workload.server(client.number);
        for sampled in &state.sampled {
            let ends = [sampled.server, own];
            let hops = ends.iter().filter(|&&end| end != self.owner).count();
            tally.latency(hops, now_us, sampled.at_us, sampled.count);
        }
    }

    /// Checks what a client receives before it applies a message of tick `next`.
    fn audit(&mut self, client: &OurClient, next: u64, tally: &mut Tally) {
        if let Some(audit) = &mut self.audit
            && let Some(tick) = Audit::due(client.number, &client.cells, next)
            && self.run.ticks.contains(&tick)
        {
            tally.findings += audit.look(client.number, &client.cells, tick, &self.run);
        }
    }
}

impl OurClient {
    /// Returns what is sent when the cube is at a pose at a tick, in a room of `tick_hz` ticks a second;
    /// `None` if the server predicts the cube there.
    fn sample(&mut self, tick: u64, pose: Pose, tick_hz: u8) -> Option<ClientMessage> {
        // Ticks as instants: the cube is exactly at this pose then, and not on the way from the last one.
        let instant = Duration::from_secs(tick);
        self.uplink.set_pose(self.cube?, pose, instant);
        let is_silent = tick - self.sent_tick >= heartbeat_ticks(tick_hz.into());
        let sample = self.uplink.take_sample(tick, instant, is_silent);
        let tail = || self.ends_with_updates.then(|| Sample::heartbeat(tick));
        let sample = sample.or_else(tail)?;
        self.ends_with_updates = sample.updates > 0;
        self.sent_tick = tick;
        Some(ClientMessage::Sample {
            tick,
            placed: sample.placed,
            residuals: sample.residuals,
        })
    }
}

impl Dialect for Ours {
    type Client = OurClient;

    fn connected(&mut self, client: usize, out: &mut Vec<u8>) -> OurClient {
        self.append(&hello(&format!("bench {client}")), out);
        self.last[self.run.workload.server(client)].0 = client;
        OurClient {
            number: client,
            cube: None,
            uplink: UplinkSender::default(),
            sent_tick: 0,
            ends_with_updates: false,
            cells: ClientCells::default(),
        }
    }

    fn is_ready(&self, state: &OurClient) -> bool {
        !state.cells.is_empty()
    }

    fn schedule(&mut self, timeline: &Timeline) -> Schedule {
        let clients = self.run.workload.clients;
        let period = self.run.workload.period();
        let spread = (SAMPLE_COST * clients as u32).min(period.mul_f64(LARGEST_SPREAD));
        for (_, pace) in &mut self.last {
            if let Some(pace) = pace {
                pace.start(self.run.workload.now_us());
            }
        }
        self.owner = timeline.owner;
        let before_us = (period + spread).as_micros() as u64;
        self.first_tick = self.run.room.set_first_tick(timeline.start_us + before_us);
        self.run.ticks = self.run.room.ticks(&timeline.window_us);
        Schedule {
            start_us: self.run.room.begins_us(self.first_tick) - spread.as_micros() as u64,
            period,
            spread,
            clients,
        }
    }

    fn lead_us(&mut self, server: usize, now_us: u64) -> u64 {
        let pace = self.last[server].1.as_mut();
        pace.map_or(0, |pace| pace.lead_us(now_us))
    }

    fn sample(&mut self, client: usize, state: &mut OurClient, step: usize, out: &mut Vec<u8>) {
        let pose = self.run.workload.pose(client, step);
        let tick = self.first_tick + step as u64;
        let hz = self.run.workload.hz;
        if let Some(sample) = state.sample(tick, pose, hz as u8) {
            self.append(&sample, out);
            if let Some(pace) = self.pace_of(client) {
                pace.sample_sent();
            }
        }
        let ping_steps = PING_INTERVAL.as_secs() as usize * hz as usize;
        let quick_steps = (hz as usize / QUICK_PINGS_PER_S).max(1);
        let is_quick = self.pace_of(client).is_some() && step < QUICK_PINGS * quick_steps;
        if step % ping_steps == client % ping_steps || is_quick && step.is_multiple_of(quick_steps)
        {
            let sent_us = self.run.workload.now_us();
            self.append(&ClientMessage::Ping { sent_us }, out);
        }
    }

    fn receive(
        &mut self,
        state: &mut OurClient,
        received: &[u8],
        now_us: u64,
        tally: &mut Tally,
        out: &mut Vec<u8>,
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
            self.receive_payload(state, payload, now_us, tally, out)?;
            taken = start + len_bytes;
        }
        Ok(taken)
    }

    fn finish(&mut self, state: &mut OurClient, tally: &mut Tally) {
        let Some(last) = self.run.ticks.clone().last() else {
            return;
        };
        let received = state.cells.tick().min(last);
        for cell in state.cells.states() {
            tally.score += cell.silent_until(received, &self.run);
            tally.score += cell.lost_after(received, last, &self.run);
        }
    }
}
