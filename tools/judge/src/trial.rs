//! One case's run: a client under test, and the scripted server that it has connected to.

mod expect;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use cubesync_protocol::limits::{
    HEARTBEAT_INTERVAL, MAGIC, MOVING_HEARTBEAT_INTERVAL, PROTOCOL_VERSION,
};
use cubesync_protocol::{
    CellId, ClientMessage, CubeInfo, DatagramAnswer, Encoding, Event, Hello, Message, Pose,
    ResumeToken, ServerAddress, ServerMessage, Welcome,
};

use crate::client::{Client, Start, Task};
use crate::link::{Link, Received};
use crate::room::{HERE, OTHER, OWN, PRIZE, PRIZE_NAME, Room, TARGET, at, free, player};
use crate::uplink::{Uplink, hex};

/// Longest wait for a client to start and to connect: interpreters are slow on a busy machine.
pub(crate) const STARTS_WITHIN: Duration = Duration::from_secs(15);
/// Longest wait for what a client should do at once: long enough for the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(12);
/// The name of the cube that a client follows, unless a case chooses another.
pub(crate) const FOLLOWED: &str = "target";
/// The first tick of a scripted room, and its rate.
const FIRST_TICK: u64 = 1_000;
const TICK_HZ: u8 = 30;
/// Largest number of lines of a conversation that is kept.
const MAX_LINES: usize = 60;
/// Longest line of a message.
const MAX_LINE_CHARS: usize = 320;
/// Most messages and bytes of a client in a second, twice as many at once.
const MAX_MESSAGES_PER_SECOND: f64 = 256.0;
const MAX_BYTES_PER_SECOND: f64 = 65_536.0;

/// A case's outcome: the words say what the client did wrong.
pub(crate) type Outcome = Result<()>;

/// Everything that a case has to do with.
pub(crate) struct Trial<'a> {
    start: &'a Start,
    /// How the client wants to be told where cubes are, and whether it uses WebSockets.
    pub(crate) encoding: Encoding,
    is_web: bool,
    listener: TcpListener,
    pub(crate) follow: String,
    client: Option<Box<dyn Client>>,
    link: Option<Link>,
    /// The welcome that [`welcome`](Self::welcome) sends.
    pub(crate) greeting: Welcome,
    pub(crate) room: Room,
    pub(crate) uplink: Uplink,
    /// Messages of the client other than samples and pings, which no expectation has taken yet.
    pub(crate) said: VecDeque<ClientMessage>,
    /// When the connection was made, and when the client's pings came since then.
    pub(crate) connected: Instant,
    pub(crate) pings: Vec<Instant>,
    pub(crate) lateness: Lateness,
    /// The answer to a client that asks for a way for datagrams, and how often it has asked.
    pub(crate) datagrams: DatagramAnswer,
    pub(crate) asked: usize,
    /// Where the followed cube has been, by tick.
    targets: Vec<(u64, Pose)>,
    /// Whether heartbeats are sent, and pings answered.
    pub(crate) is_lively: bool,
    pub(crate) answers: bool,
    /// The instant of the tick `greeting.tick`.
    epoch: Instant,
    sent_at: Instant,
    budget: (f64, f64, Instant),
    lines: VecDeque<String>,
    begun: Instant,
}

impl<'a> Trial<'a> {
    /// Listens on a port of its own. No client is started yet.
    pub(crate) fn new(start: &'a Start, encoding: Encoding, is_web: bool) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let now = Instant::now();
        Ok(Self {
            start,
            encoding,
            is_web,
            listener,
            follow: FOLLOWED.to_owned(),
            client: None,
            link: None,
            greeting: greeting(),
            room: Room::new(),
            uplink: Uplink::new(encoding, OWN),
            said: VecDeque::new(),
            connected: now,
            pings: Vec::new(),
            lateness: Lateness::default(),
            datagrams: DatagramAnswer::Unavailable,
            asked: 0,
            targets: Vec::new(),
            is_lively: true,
            answers: true,
            epoch: now,
            sent_at: now,
            budget: (0.0, 0.0, now),
            lines: VecDeque::new(),
            begun: now,
        })
    }

    /// Starts the client, if it does not run yet, and waits for its connection.
    pub(crate) fn accept(&mut self) -> Outcome {
        if self.client.is_none() {
            let port = self.listener.local_addr()?.port();
            let follow = self.follow.clone();
            self.client = Some((self.start)(&Task { port, follow })?);
        }
        let until = Instant::now() + STARTS_WITHIN;
        while !self.try_accept()? {
            if let Some(end) = self.client().ended() {
                bail!("it ended ({end}) and did not connect");
            }
            let seconds = STARTS_WITHIN.as_secs();
            ensure!(
                Instant::now() < until,
                "it did not connect within {seconds} s"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Takes the next connection of the client, if there is one.
    fn try_accept(&mut self) -> Result<bool> {
        let Ok((stream, _)) = self.listener.accept() else {
            return Ok(false);
        };
        self.note("the client connected");
        self.connected = Instant::now();
        self.link = Some(Link::new(stream, self.is_web)?);
        (self.room, self.uplink) = (Room::new(), Uplink::new(self.encoding, self.greeting.cube));
        self.said.clear();
        self.asked = 0;
        self.pings.clear();
        (self.is_lively, self.answers) = (true, true);
        self.budget = (0.0, 0.0, Instant::now());
        Ok(true)
    }

    /// Waits for the client's `Hello`, which must be the first message.
    pub(crate) fn hello(&mut self) -> Result<Hello> {
        self.accept()?;
        self.hello_here()
    }

    /// Does the same on a connection that has been accepted.
    pub(crate) fn hello_here(&mut self) -> Result<Hello> {
        let within = cubesync_protocol::limits::HELLO_DEADLINE;
        // A busy machine starts threads late.
        self.until(2 * within, |trial| {
            !trial.said.is_empty() || trial.uplink.count > 0
        })?;
        let Some(ClientMessage::Hello(hello)) = self.said.pop_front() else {
            bail!(
                "its first message is no Hello within {} s",
                within.as_secs()
            );
        };
        ensure!(
            hello.magic == MAGIC,
            "its Hello begins with {:02x?} instead of CUBE",
            hello.magic
        );
        ensure!(
            hello.encoding == self.encoding,
            "its Hello asks for the {:?} encoding; the judge was told that it uses the {:?} one",
            hello.encoding,
            self.encoding
        );
        ensure!(
            hello.version == PROTOCOL_VERSION,
            "its Hello has version {} instead of {PROTOCOL_VERSION}",
            hello.version
        );
        Ok(hello)
    }

    /// Lets the client in, with the followed cube, another player's and a free one in one cell.
    pub(crate) fn join(&mut self) -> Result<Hello> {
        let hello = self.hello()?;
        self.welcome()?;
        self.first_keyframe()?;
        Ok(hello)
    }

    /// Sends the welcome.
    pub(crate) fn welcome(&mut self) -> Outcome {
        let welcome = self.greeting.clone();
        self.set_tick(welcome.tick);
        self.uplink = Uplink::new(self.encoding, welcome.cube);
        self.send(ServerMessage::Welcome(welcome))
    }

    /// Sends the keyframe that follows a welcome.
    pub(crate) fn first_keyframe(&mut self) -> Outcome {
        let cubes = self.everybody();
        self.keyframe(HERE, 1, cubes)
    }

    /// Returns the cubes of the room at its beginning.
    pub(crate) fn everybody(&self) -> Vec<CubeInfo> {
        vec![
            free(PRIZE, PRIZE_NAME, at(-2.0, 3.0, 0.5)),
            player(TARGET, &self.follow, at(1.5, 2.0, 0.5)),
            player(OTHER, "Ben", at(4.0, -1.0, 0.5)),
            player(self.greeting.cube, &self.greeting.name, self.greeting.pose),
        ]
    }

    /// Sends the keyframe of a cell.
    pub(crate) fn keyframe(
        &mut self,
        cell: CellId,
        interval_ticks: u8,
        cubes: Vec<CubeInfo>,
    ) -> Outcome {
        let tick = self.message_tick();
        let message = self.room.keyframe(cell, interval_ticks, tick, cubes);
        self.send(message)
    }

    /// Waits for the next tick and sends these events of a cell, with what has moved in it.
    pub(crate) fn events(&mut self, cell: CellId, events: Vec<Event>) -> Outcome {
        let tick = self.next_tick()?;
        if let Some(message) = self.room.snapshot(cell, tick, events)? {
            self.send(message)?;
        }
        Ok(())
    }

    /// Waits for the next tick and sends what has moved in each cell; in far ones at every fourth tick.
    pub(crate) fn tick(&mut self) -> Outcome {
        let tick = self.next_tick()?;
        let streams = self.room.replica.streams();
        let due = streams.filter(|(_, stream)| {
            let interval = u64::from(stream.interval_ticks());
            tick / interval > stream.tick() / interval
        });
        for cell in due.map(|(cell, _)| cell).collect::<Vec<_>>() {
            if let Some(message) = self.room.snapshot(cell, tick, Vec::new())? {
                self.send(message)?;
            }
        }
        self.keep_alive()
    }

    /// Goes on until all cubes that the script has moved stand where it put them.
    pub(crate) fn settle(&mut self) -> Outcome {
        const LONGEST_TICKS: usize = 200;
        self.tick()?;
        for _ in 0..LONGEST_TICKS {
            if self.room.is_settled() {
                return Ok(());
            }
            self.tick()?;
        }
        bail!("the script's cubes do not come to rest")
    }

    /// Sends a message that the room takes in as well.
    pub(crate) fn send(&mut self, message: ServerMessage) -> Outcome {
        let frame = self.frame(message)?;
        self.link()?.send(&frame);
        Ok(())
    }

    /// Returns the frame of a message that the room takes in, for a case that sends it in its own way. A client that asked
    /// for the plain encoding gets the same in that.
    pub(crate) fn frame(&mut self, message: ServerMessage) -> Result<BytesMut> {
        self.room.take_in(&message)?;
        let messages = match self.encoding {
            Encoding::Plain => self.room.plain(message),
            Encoding::Predicted => vec![message],
        };
        let mut frames = BytesMut::new();
        for message in &messages {
            self.note_message("<", message);
            message.append_frame(&mut frames);
        }
        let name = self.follow.clone();
        if let Some(pose) = self.room.named(&name) {
            self.targets.push((self.room.replica.tick(), pose));
        }
        self.sent_at = Instant::now();
        Ok(frames)
    }

    /// Sends a payload in a frame, whatever it is.
    pub(crate) fn send_payload(&mut self, payload: &[u8]) -> Outcome {
        let length = u32::try_from(payload.len())?.to_be_bytes();
        self.send_bytes(&[&length[..], payload].concat())
    }

    /// Sends bytes, whatever they are.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> Outcome {
        self.note(&format!("< the bytes {}", hex(bytes)));
        self.link()?.send(bytes);
        Ok(())
    }

    /// Answers the client until `is_done`, for `within` at most. Returns whether it was, and fails when
    /// the client does something that no client may.
    pub(crate) fn until(
        &mut self,
        within: Duration,
        is_done: impl Fn(&Self) -> bool,
    ) -> Result<bool> {
        let until = Instant::now() + within;
        loop {
            if is_done(self) {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            ensure!(
                self.receive()?,
                "it closed the connection{}",
                self.parting()
            );
            self.keep_alive()?;
        }
    }

    /// Answers the client for a while, in which it must stay.
    pub(crate) fn stay(&mut self, time: Duration) -> Outcome {
        self.until(time, |_| false).map(|_| ())
    }

    /// Handles the client's next message. Returns false when the connection is closed.
    pub(crate) fn receive(&mut self) -> Result<bool> {
        let payload = match self.link()?.receive()? {
            Received::Payload(payload) => payload,
            Received::Nothing => return Ok(true),
            Received::Closed => return Ok(false),
        };
        self.count(payload.len())?;
        let message = ClientMessage::decode(&payload)
            .with_context(|| format!("it sent a payload that is no message: {}", hex(&payload)))?;
        self.note_message(">", &message);
        match message {
            ClientMessage::Ping { sent_us } => {
                self.pings.push(Instant::now());
                if self.answers {
                    let (tick, since_tick_us) = self.clock();
                    self.send(ServerMessage::Pong {
                        sent_us,
                        tick,
                        since_tick_us,
                        late_samples: 0,
                    })?;
                }
            }
            ClientMessage::Sample {
                tick,
                placed,
                residuals,
            } => {
                self.lateness
                    .count(tick, self.clock().0, self.greeting.tick_hz.into());
                self.uplink.sample(tick, &placed, &residuals)?;
            }
            ClientMessage::OpenDatagrams(_) => {
                self.asked += 1;
                ensure!(
                    self.asked == 1,
                    "it asked for a way for datagrams twice in a session"
                );
                let answer = self.datagrams.clone();
                self.send(ServerMessage::Datagrams(answer))?;
            }
            ClientMessage::Release { cube } => {
                self.uplink.released(cube);
                self.said.push_back(message);
            }
            ClientMessage::Continue { releases } => {
                self.uplink = Uplink::new(self.encoding, self.greeting.cube);
                self.uplink.releases = releases;
                self.said.push_back(message);
            }
            _ => self.said.push_back(message),
        }
        Ok(true)
    }

    /// Returns the room's tick and the microseconds since it began.
    pub(crate) fn clock(&self) -> (u64, u32) {
        let hz = f64::from(self.greeting.tick_hz);
        let ticks = self.epoch.elapsed().as_secs_f64() * hz;
        let since_us = (ticks.fract() / hz * 1e6) as u32;
        (self.greeting.tick + ticks as u64, since_us)
    }

    /// Sets the clock to the beginning of a tick; later ticks follow from there.
    pub(crate) fn set_tick(&mut self, tick: u64) {
        self.greeting.tick = tick;
        self.epoch = Instant::now();
    }

    /// Returns the tick of a message that is sent now.
    pub(crate) fn message_tick(&self) -> u64 {
        self.clock().0.max(self.room.replica.tick())
    }

    /// Returns the connection's link.
    pub(crate) fn link(&mut self) -> Result<&mut Link> {
        self.link.as_mut().context("the client is not connected")
    }

    /// Names another server in the next welcome. Returns its listener.
    pub(crate) fn name_another_server(&mut self) -> Result<TcpListener> {
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        other.set_nonblocking(true)?;
        let address = other.local_addr()?.to_string();
        self.greeting.servers = vec![ServerAddress {
            tcp: address.clone(),
            web: address,
        }];
        Ok(other)
    }

    /// Lets the server be gone, and the other one go on.
    pub(crate) fn move_to(&mut self, other: TcpListener) {
        self.listener = other;
        self.hang_up();
    }

    /// Resets the connection.
    pub(crate) fn reset(&mut self) -> Outcome {
        self.note("the server reset the connection");
        self.link
            .take()
            .context("the client is not connected")?
            .reset()
    }

    /// Ends the connection from the server's side, both directions.
    pub(crate) fn hang_up(&mut self) {
        self.note("the server closed the connection");
        self.link = None;
    }

    /// Adds a line to the conversation.
    pub(crate) fn note(&mut self, line: &str) {
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
        }
        let line: String = line.chars().take(MAX_LINE_CHARS).collect();
        let at = self.begun.elapsed().as_secs_f32();
        self.lines.push_back(format!("{at:7.3} s  {line}"));
    }

    /// Returns the last lines of the conversation, and of what the client has printed.
    pub(crate) fn transcript(&self) -> Vec<String> {
        let printed = self
            .client
            .as_ref()
            .map(|client| client.output())
            .unwrap_or_default();
        let printed: Vec<_> = printed
            .lines()
            .rev()
            .take(8)
            .map(|line| format!("it printed: {line}"))
            .collect();
        self.lines
            .iter()
            .cloned()
            .chain(printed.into_iter().rev())
            .collect()
    }

    fn client(&mut self) -> &mut dyn Client {
        &mut **self
            .client
            .as_mut()
            .expect("a client is started before anything is asked of it")
    }

    fn note_message(&mut self, direction: &str, message: &impl Debug) {
        self.note(&format!("{direction} {message:?}"));
    }

    /// Waits until a tick begins that is later than that of every message, and returns it. Ticks are skipped if the
    /// machine is busy, as a server skips them.
    fn next_tick(&mut self) -> Result<u64> {
        let next = self.room.replica.tick().max(self.clock().0) + 1;
        // A heartbeat of the tick would contradict what comes in it.
        let is_lively = std::mem::replace(&mut self.is_lively, false);
        self.until(PATIENCE, |trial| trial.clock().0 >= next)?;
        self.is_lively = is_lively;
        Ok(next.max(self.clock().0))
    }

    /// Sends the heartbeat that is due.
    fn keep_alive(&mut self) -> Outcome {
        let is_joined = self.room.replica.streams().next().is_some();
        let silence = if self.room.moves() {
            MOVING_HEARTBEAT_INTERVAL
        } else {
            HEARTBEAT_INTERVAL
        };
        if is_joined && self.is_lively && self.sent_at.elapsed() >= silence {
            let tick = self.message_tick();
            self.send(ServerMessage::Heartbeat { tick })?;
        }
        Ok(())
    }

    /// Counts a message against what a client may send.
    fn count(&mut self, payload_bytes: usize) -> Outcome {
        let (messages, bytes, at) = self.budget;
        let seconds = at.elapsed().as_secs_f64();
        let messages = (messages - seconds * MAX_MESSAGES_PER_SECOND).max(0.0) + 1.0;
        let bytes = (bytes - seconds * MAX_BYTES_PER_SECOND).max(0.0) + payload_bytes as f64;
        self.budget = (messages, bytes, Instant::now());
        ensure!(
            messages <= 2.0 * MAX_MESSAGES_PER_SECOND,
            "it sent more than {MAX_MESSAGES_PER_SECOND} messages a second"
        );
        ensure!(
            bytes <= 2.0 * MAX_BYTES_PER_SECOND,
            "it sent more than {MAX_BYTES_PER_SECOND} bytes a second"
        );
        Ok(())
    }
}

/// When samples came, compared with their ticks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lateness {
    pub(crate) late: usize,
    pub(crate) on_time: usize,
    /// By more than a second.
    pub(crate) early: usize,
}

impl Lateness {
    fn count(&mut self, tick: u64, now: u64, tick_hz: u64) {
        *match tick {
            _ if tick <= now => &mut self.late,
            _ if tick > now + tick_hz => &mut self.early,
            _ => &mut self.on_time,
        } += 1;
    }
}

fn greeting() -> Welcome {
    Welcome {
        version: PROTOCOL_VERSION,
        room: "lobby".to_owned(),
        name: "Judged".to_owned(),
        cube: OWN,
        pose: at(-3.0, 0.0, 0.5),
        tick_hz: TICK_HZ,
        tick: FIRST_TICK,
        since_tick_us: 0,
        max_speed: 0,
        physics: false,
        resume: ResumeToken([1; 16]),
        servers: Vec::new(),
    }
}
