//! The differences between the ticks of the servers of a cluster, measured from outside.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use cubesync_protocol::limits::FRAME_HEADER_BYTES;
use cubesync_protocol::{ClientMessage, Colour, Hello, Message, ServerMessage};
use serde::Serialize;

use crate::measure::is_stopped;
use crate::process::Server;
use crate::row::Row;

/// The measurement fails if servers that were just started do not find each other in this time.
const FOUND_WITHIN: Duration = Duration::from_secs(20);
/// Ticks that begin this near each other are the same one.
const SAME_TICK_MS: f64 = 5.0;
/// Number of pings to a server at each measurement; the fastest one counts.
const PINGS: usize = 20;
/// Number of measurements of all servers.
const LOOKS: usize = 30;
/// The time between two measurements.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The room of the probes, which every server keeps open. Another room would still exist, with its beats
/// on the bus, when the players are measured.
const ROOM: &str = "lobby";
/// A server answers a ping within a millisecond.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Figures of how far apart the servers' ticks begin.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Alignment {
    /// Number of players at all servers.
    pub(crate) players: usize,
    /// Number of servers.
    pub(crate) servers: usize,
    /// The median of the time from the first server's tick to the last one's.
    pub(crate) spread_p50_ms: f64,
    /// The longest of these times.
    pub(crate) spread_max_ms: f64,
    /// Half of the longest round trip that was used: the measurement is no more precise.
    pub(crate) uncertainty_ms: f64,
}

/// A player at each server that only sends pings.
struct Probe {
    players: Vec<Player>,
    hz: u32,
    began: Instant,
    uncertainty_ms: f64,
}

struct Player {
    stream: TcpStream,
    received: Vec<u8>,
}

/// Measures servers right after a run.
pub(crate) fn measure(servers: &[Server], row: &Row) -> Result<Alignment> {
    let mut probe = Probe::join(servers, row.hz)?;
    let mut spreads = Vec::with_capacity(LOOKS);
    for _ in 0..LOOKS {
        spreads.push(probe.spread_ms()?);
        std::thread::sleep(LOOK_EVERY);
    }
    spreads.sort_by(f64::total_cmp);
    let uncertainty_ms = probe.uncertainty_ms;
    probe.leave()?;
    Ok(Alignment {
        players: row.n,
        servers: servers.len(),
        spread_p50_ms: spreads[LOOKS / 2],
        spread_max_ms: spreads[LOOKS - 1],
        uncertainty_ms,
    })
}

/// Waits until servers that were just started are in the same tick.
pub(crate) fn wait(servers: &[Server], hz: u32) -> Result<()> {
    if servers.len() < 2 {
        return Ok(());
    }
    let mut probe = Probe::join(servers, hz)?;
    let deadline = Instant::now() + FOUND_WITHIN;
    loop {
        let spread_ms = probe.spread_ms()?;
        if spread_ms < SAME_TICK_MS {
            return probe.leave();
        }
        if is_stopped() {
            bail!("stopped");
        }
        if Instant::now() > deadline {
            bail!("the servers do not find each other: their ticks are {spread_ms:.0} ms apart");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

impl Probe {
    fn join(servers: &[Server], hz: u32) -> Result<Self> {
        let players = servers.iter().enumerate().map(|(number, server)| {
            let stream = TcpStream::connect(server.address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(ANSWER_WITHIN))?;
            let name = format!("probe {number}");
            let hello = Hello::new(ROOM, name, Colour::from([0x80; 3]));
            (&stream).write_all(&ClientMessage::Hello(hello).to_frame())?;
            Ok(Player {
                stream,
                received: Vec::new(),
            })
        });
        Ok(Self {
            players: players.collect::<Result<_>>()?,
            hz,
            began: Instant::now(),
            uncertainty_ms: 0.0,
        })
    }

    /// Lets the players leave, and waits until the servers have removed them, so that no ghosts stay. A
    /// second later, before anything is measured, all that is left of them on the bus is six bytes a second
    /// of each server, which lists their cell for ten seconds more.
    fn leave(mut self) -> Result<()> {
        for player in &mut self.players {
            player.stream.write_all(&ClientMessage::Leave.to_frame())?;
            // The server closes the connection when it has read that.
            io::copy(&mut player.stream, &mut io::sink())?;
        }
        Ok(())
    }

    /// Measures the time from the first server's tick to the last one's.
    fn spread_ms(&mut self) -> Result<f64> {
        let (mut first, mut last) = (f64::MAX, f64::MIN);
        for player in &mut self.players {
            let (origin_ms, uncertainty_ms) = player.origin_ms(self.began, self.hz)?;
            self.uncertainty_ms = self.uncertainty_ms.max(uncertainty_ms);
            (first, last) = (first.min(origin_ms), last.max(origin_ms));
        }
        Ok(last - first)
    }
}

impl Player {
    /// Returns the time of the server's tick 0 by the fastest of a few pings, and its uncertainty.
    fn origin_ms(&mut self, began: Instant, hz: u32) -> Result<(f64, f64)> {
        let mut best = (0.0, f64::MAX);
        for _ in 0..PINGS {
            let sent_us = began.elapsed().as_micros() as u64;
            let ping = ClientMessage::Ping { sent_us };
            self.stream.write_all(&ping.to_frame())?;
            let (tick, since_tick_us) = self.pong(sent_us)?;
            let now_us = began.elapsed().as_micros() as f64;
            let half_us = (now_us - sent_us as f64) / 2.0;
            let since_us = tick as f64 * 1e6 / f64::from(hz) + f64::from(since_tick_us);
            if half_us / 1e3 < best.1 {
                best = ((now_us - half_us - since_us) / 1e3, half_us / 1e3);
            }
        }
        Ok(best)
    }

    /// Reads until the answer to this ping arrives.
    fn pong(&mut self, ping_us: u64) -> Result<(u64, u32)> {
        loop {
            match self.next()? {
                ServerMessage::Pong {
                    sent_us,
                    tick,
                    since_tick_us,
                    ..
                } if sent_us == ping_us => return Ok((tick, since_tick_us)),
                ServerMessage::Reject { message, .. } | ServerMessage::Closing { message, .. } => {
                    bail!("the server said: {message}")
                }
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Result<ServerMessage> {
        loop {
            if let Some(header) = self.received.first_chunk::<FRAME_HEADER_BYTES>() {
                let end = FRAME_HEADER_BYTES + u32::from_be_bytes(*header) as usize;
                if let Some(payload) = self.received.get(FRAME_HEADER_BYTES..end) {
                    let message = ServerMessage::decode(payload)?;
                    self.received.drain(..end);
                    return Ok(message);
                }
            }
            let mut part = [0; 4096];
            match self.stream.read(&mut part)? {
                0 => bail!("the server closed the connection"),
                len_bytes => self.received.extend_from_slice(&part[..len_bytes]),
            }
        }
    }
}
