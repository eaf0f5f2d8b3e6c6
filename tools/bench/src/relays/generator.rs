//! The load generator: one epoll loop per thread with hundreds or thousands of clients.
//!
//! It notices when it is itself the bottleneck: each thread measures its own CPU time and how late it
//! sends.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cubesync_harness::usage::thread_cpu;
use mio::{Events, Interest, Poll, Token};

use crate::connection::{Connection, Scratch};
use crate::dialect::{Dialect, Schedule};
use crate::pace::FRAME;
use crate::progress::{Outcome, Progress, Timeline};
use crate::tally::{Tally, histogram};
use crate::workload::Workload;

/// Number of clients that connect before the generator reads again. The servers' backlogs are 1,000 or
/// more.
const CONNECT_BATCH: usize = 64;
/// The run fails if clients need longer to join. 5,000 need some seconds.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for a socket while the generator waits for others.
const IDLE_POLL: Duration = Duration::from_millis(2);
/// The sleep of a thread between two polls, for each of its clients, so that many sockets are ready at
/// once: waking up for every message costs CPU time here and in the server.
const REST_PER_CLIENT: Duration = Duration::from_nanos(250);
/// The longest sleep between two polls: it adds to the latencies.
const LONGEST_REST: Duration = Duration::from_micros(500);
/// Largest number of reads of one socket in a row.
const READS_IN_A_ROW: usize = 4;
/// The largest lateness that is distinguished, in microseconds.
const LATEST_US: u64 = 10_000_000;

/// Runs the clients of one thread from connecting to the timeline's end.
pub(crate) fn run<D: Dialect>(
    dialect: D,
    clients: Range<usize>,
    servers: &[SocketAddr],
    workload: &Workload,
    progress: &Progress,
) -> Result<Outcome> {
    let mut generator = Generator {
        poll: Poll::new()?,
        dialect,
        first: clients.start,
        connections: Vec::with_capacity(clients.len()),
        unfinished: Vec::new(),
        scratch: Scratch::new(),
        out: Vec::new(),
        workload,
        outcome: Outcome {
            tally: Tally::new(),
            lateness_us: histogram(LATEST_US),
            cpu_share: 0.0,
            unsent: 0,
            lost: 0,
            loss: None,
        },
    };
    let mut events = Events::with_capacity(1024);
    generator.join(clients, servers, progress, &mut events)?;
    let timeline = loop {
        if let Some(timeline) = progress.timeline.get() {
            break timeline;
        }
        if progress.stop.load(Ordering::Relaxed) {
            bail!("stopped");
        }
        generator.receive(&mut events, IDLE_POLL, None)?;
    };
    generator.play(timeline, progress, &mut events)?;
    Ok(generator.outcome)
}

struct Generator<'run, D: Dialect> {
    poll: Poll,
    dialect: D,
    /// The number of this thread's first client.
    first: usize,
    connections: Vec<Connection<D::Client>>,
    /// Sockets that had more to read after the last poll.
    unfinished: Vec<usize>,
    scratch: Scratch,
    out: Vec<u8>,
    workload: &'run Workload,
    outcome: Outcome,
}

/// The next sample to be taken for a server. Its clients' turns come in the order of their numbers.
struct Turn {
    server: usize,
    schedule: Schedule,
    index: usize,
    step: usize,
}

impl<D: Dialect> Generator<'_, D> {
    fn join(
        &mut self,
        clients: Range<usize>,
        servers: &[SocketAddr],
        progress: &Progress,
        events: &mut Events,
    ) -> Result<()> {
        let deadline = Instant::now() + JOIN_TIMEOUT;
        let count = clients.len();
        for client in clients {
            let server = servers[self.workload.server(client)];
            let mut connection = Connection::connect(&mut self.dialect, client, server)?;
            let index = self.connections.len();
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registry = self.poll.registry();
            registry.register(&mut connection.stream, Token(index), interest)?;
            self.connections.push(connection);
            if index.is_multiple_of(CONNECT_BATCH) {
                self.receive(events, Duration::ZERO, None)?;
                self.check(progress)?;
            }
        }
        let mut ready = 0;
        while ready < count {
            self.receive(events, IDLE_POLL, None)?;
            self.check(progress)?;
            if Instant::now() > deadline {
                bail!("only {ready} of {count} clients could join");
            }
            let is_ready = |connection: &Connection<_>| self.dialect.is_ready(&connection.state);
            // In the order of joining, so that the count goes on where it stopped.
            ready += self.connections[ready..]
                .iter()
                .take_while(|c| is_ready(c))
                .count();
        }
        progress.joined.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    fn play(
        &mut self,
        timeline: &Timeline,
        progress: &Progress,
        events: &mut Events,
    ) -> Result<()> {
        self.outcome.tally.window_us = timeline.window_us.clone();
        let schedule = self.dialect.schedule(timeline);
        let turn = |server| Turn {
            server,
            schedule,
            index: self.first_index(server),
            step: 0,
        };
        let mut turns: Vec<_> = (0..self.workload.servers).map(turn).collect();
        let rest = (REST_PER_CLIENT * self.connections.len() as u32).min(LONGEST_REST);
        let mut cpu_before = None;
        let mut is_measured = false;
        loop {
            let now_us = self.workload.now_us();
            if cpu_before.is_none() && now_us >= timeline.window_us.start {
                cpu_before = Some((thread_cpu()?, now_us));
            }
            if let Some((cpu, from_us)) = cpu_before
                && !is_measured
                && now_us >= timeline.window_us.end
            {
                let wall = Duration::from_micros(now_us - from_us);
                let used = thread_cpu()?.saturating_sub(cpu);
                self.outcome.cpu_share = used.as_secs_f64() / wall.as_secs_f64();
                is_measured = true;
            }
            if now_us >= timeline.end_us || progress.stop.load(Ordering::Relaxed) {
                self.finish();
                return Ok(());
            }
            std::thread::sleep(rest);
            let due_us = self.send_due(&mut turns)?;
            let wait = Duration::from_micros(due_us.saturating_sub(self.workload.now_us()));
            self.receive(events, wait.min(FRAME), Some(&mut turns))?;
        }
    }

    fn finish(&mut self) {
        for connection in &mut self.connections {
            let tally = &mut self.outcome.tally;
            self.dialect.finish(&mut connection.state, tally);
        }
    }

    /// Returns the index of this thread's first client of a server.
    fn first_index(&self, server: usize) -> usize {
        let is_first = |&index: &usize| self.workload.server(self.first + index) == server;
        let mut indices = 0..self.connections.len();
        indices.find(is_first).unwrap_or(indices.end)
    }

    /// Sends every sample that is due, and returns the time of the next one.
    fn send_due(&mut self, turns: &mut [Turn]) -> Result<u64> {
        let mut next_us = u64::MAX;
        for turn in turns {
            next_us = next_us.min(self.send_due_to(turn)?);
        }
        Ok(next_us)
    }

    fn send_due_to(&mut self, turn: &mut Turn) -> Result<u64> {
        // A thread may have no client of a server.
        while turn.index < self.connections.len() {
            let client = self.first + turn.index;
            let scheduled_us = turn.schedule.due_us(client, turn.step);
            let now_us = self.workload.now_us();
            let lead_us = self.dialect.lead_us(turn.server, now_us);
            let due_us = scheduled_us.saturating_sub(lead_us);
            if now_us < due_us {
                return Ok(due_us);
            }
            let late_us = now_us - due_us;
            if late_us > turn.schedule.period.as_micros() as u64 {
                // Its next step is due too: catching up would make everything later still.
                self.outcome.unsent += 1;
            } else {
                self.send(client, turn, late_us)?;
            }
            turn.index += self.workload.servers;
            if turn.index >= self.connections.len() {
                turn.index = self.first_index(turn.server);
                turn.step += 1;
            }
        }
        Ok(u64::MAX)
    }

    fn send(&mut self, client: usize, turn: &Turn, late_us: u64) -> Result<()> {
        let now_us = self.workload.now_us();
        let connection = &mut self.connections[turn.index];
        if !connection.is_open {
            return Ok(());
        }
        if self.outcome.tally.window_us.contains(&now_us) {
            self.outcome.lateness_us.saturating_record(late_us);
        }
        if !connection.is_flushed() {
            self.outcome.unsent += 1;
            return Ok(());
        }
        self.workload.mark_sampled(client, turn.step, now_us);
        self.out.clear();
        self.dialect
            .sample(client, &mut connection.state, turn.step, &mut self.out);
        if !self.out.is_empty()
            && let Err(error) = connection.send(&self.out)
        {
            self.lose(turn.index, &error.into())?;
        }
        Ok(())
    }

    /// Waits for sockets and handles what they received, and sends due samples in between.
    fn receive(
        &mut self,
        events: &mut Events,
        wait: Duration,
        mut turns: Option<&mut [Turn]>,
    ) -> Result<()> {
        let unfinished = std::mem::take(&mut self.unfinished);
        let wait = if unfinished.is_empty() {
            wait
        } else {
            Duration::ZERO
        };
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                return Err(error.into());
            }
            _ => {}
        }
        let ready = events
            .iter()
            .map(|event| (event.token().0, event.is_writable()));
        for (index, is_writable) in unfinished
            .into_iter()
            .map(|index| (index, false))
            .chain(ready)
        {
            if !self.connections[index].is_open {
                continue;
            }
            if is_writable && let Err(error) = self.connections[index].flush() {
                self.lose(index, &error.into())?;
                continue;
            }
            self.read(index)?;
            if let Some(turns) = &mut turns {
                self.send_due(turns)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let workload = self.workload;
        for _ in 0..READS_IN_A_ROW {
            let more = self.connections[index].read(
                &mut self.dialect,
                &mut self.scratch,
                || workload.now_us(),
                &mut self.outcome.tally,
            );
            match more {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => return self.lose(index, &error),
            }
        }
        self.unfinished.push(index);
        Ok(())
    }

    fn lose(&mut self, index: usize, error: &anyhow::Error) -> Result<()> {
        let connection = &mut self.connections[index];
        connection.is_open = false;
        self.poll.registry().deregister(&mut connection.stream)?;
        self.outcome.lost += 1;
        self.outcome
            .loss
            .get_or_insert_with(|| format!("{error:#}"));
        Ok(())
    }

    /// Fails if a connection was lost while clients join.
    fn check(&self, progress: &Progress) -> Result<()> {
        if progress.stop.load(Ordering::Relaxed) {
            bail!("stopped");
        }
        match &self.outcome.loss {
            Some(reason) => Err(anyhow::anyhow!("{reason}")).context("a client could not join"),
            None => Ok(()),
        }
    }
}
