//! The status page's data: a sample of the server each second, and those of the last two minutes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::sample::{Counters, Sample, TickTimes, unix_time_s};
use super::viewers::RETRY;
use crate::cluster::{ClusterNow, RoomServers};
use crate::shared::Shared;
use cubesync_relay::label::Label;
use cubesync_relay::metrics::Metrics;
use cubesync_relay::room::{Crowd, Role, RoomSummary};

/// Time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Number of samples that are kept for new viewers: two minutes.
const MAX_SAMPLES: usize = 120;

/// Number of samples whose tick times are evaluated together. One second of one room has 30 ticks,
/// which are too few for a 99th percentile.
const TICK_SAMPLES: usize = 10;

/// Largest number of rooms whose players are listed by name, the fullest first. With the names that a
/// summary has it bounds an event to about 100 KB.
pub(super) const MAX_ROOMS: usize = 20;

/// Largest number of rooms whose number of players is kept: as many as one chart can show.
const MAX_CHARTED_ROOMS: usize = 6;

/// Time after which a room whose task does not answer is left out.
const ROOM_DEADLINE: Duration = Duration::from_millis(500);

/// The data that viewers get.
#[derive(Debug)]
pub(super) struct Feed {
    tick_hz: u8,
    samples: VecDeque<Sample>,
    /// The newest [`Now`] as an event, encoded once for all.
    pub(super) now: Bytes,
    /// The first event of a viewer who comes now, encoded for the first of them.
    history: OnceLock<Bytes>,
}

/// The first event for a viewer: the server and every kept sample, the oldest first.
#[derive(Debug, Serialize)]
struct History<'a> {
    version: &'static str,
    tick_hz: u8,
    samples: &'a VecDeque<Sample>,
}

/// The newest sample, and data without a history.
#[derive(Debug, Serialize)]
struct Now<'a> {
    sample: &'a Sample,
    uptime_s: u64,
    /// The fullest rooms.
    rooms: &'a [RoomNow],
    /// Ended connections by reason since the start.
    disconnects: BTreeMap<&'static str, u64>,
    /// The cluster that the server belongs to, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterNow>,
}

/// One room.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct RoomNow {
    pub(super) name: String,
    pub(super) players: usize,
    /// Number of players whose connection is lost and who may return.
    pub(super) ghosts: usize,
    /// The names of the first players.
    pub(super) names: Vec<String>,
    /// The servers of the room, if the server is one of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) servers: Option<RoomServers>,
    /// Whether another server owns it.
    #[serde(skip)]
    pub(super) is_foreign: bool,
}

impl Feed {
    /// Starts without samples.
    pub(super) fn new(tick_hz: u8) -> Self {
        Self {
            tick_hz,
            samples: VecDeque::new(),
            now: Bytes::new(),
            history: OnceLock::new(),
        }
    }

    /// Returns the first event for a viewer.
    pub(super) fn history(&self) -> Bytes {
        let make = || {
            let history = json(&History {
                version: env!("CARGO_PKG_VERSION"),
                tick_hz: self.tick_hz,
                samples: &self.samples,
            });
            let retry_ms = RETRY.as_millis();
            format!("event: history\nretry: {retry_ms}\ndata: {history}\n\n").into()
        };
        self.history.get_or_init(make).clone()
    }

    fn push(&mut self, sample: Sample, now: &str) {
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        self.now = format!("event: now\ndata: {now}\n\n").into();
        self.history = OnceLock::new();
    }
}

/// Samples the server until `stop`. Rooms are watched only while `is_viewed`.
pub(super) async fn sample_server(
    shared: Arc<Shared>,
    publish: watch::Sender<Feed>,
    is_viewed: impl Fn() -> bool,
    stop: CancellationToken,
) {
    let start = Instant::now();
    let sampling = async {
        let mut timer = interval(SAMPLE_INTERVAL);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        timer.tick().await;
        let mut before = Counters::read(&shared.host.metrics, &shared.metrics.datagrams);
        let mut ticks_us = VecDeque::new();
        loop {
            timer.tick().await;
            let counters = Counters::read(&shared.host.metrics, &shared.metrics.datagrams);
            ticks_us.push_back(shared.host.metrics.tick_duration.take_recent_us());
            if ticks_us.len() > TICK_SAMPLES {
                ticks_us.pop_front();
            }
            let rooms = match is_viewed() {
                true => watched_rooms(&shared).await,
                false => rooms(&shared).await,
            };
            let sample = Sample {
                time_s: unix_time_s(),
                connections: shared.host.metrics.connections.get(),
                datagram_paths: shared.metrics.datagrams.paths.get(),
                rooms: rooms.len(),
                players: rooms.iter().map(|room| room.players).sum(),
                players_by_room: charted(&rooms),
                tick: TickTimes::of(ticks_us.iter().flatten().copied().collect()),
                received: counters.received_since(&before),
                sent: counters.sent_since(&before),
            };
            let now = json(&Now {
                sample: &sample,
                uptime_s: start.elapsed().as_secs(),
                rooms: rooms.get(..MAX_ROOMS).unwrap_or(&rooms),
                disconnects: disconnects(&shared.host.metrics),
                cluster: shared.neighbours.now(),
            });
            publish.send_modify(|feed| feed.push(sample, &now));
            before = counters;
        }
    };
    stop.run_until_cancelled(sampling).await;
}

/// Returns all rooms, the fullest first. A room of another server is listed as its receivers see it, and
/// then has the players of all servers.
pub(super) async fn watched_rooms(shared: &Shared) -> Vec<RoomNow> {
    let mut rooms = rooms(shared).await;
    let foreign = rooms
        .iter_mut()
        .take(MAX_ROOMS)
        .filter(|room| room.is_foreign);
    let seen = foreign.map(async |room| {
        let crowd = shared.watches.crowd(&shared.host, &room.name);
        if let Ok(Ok(crowd)) = timeout(ROOM_DEADLINE, crowd).await {
            room.show(crowd);
        }
    });
    join_all(seen).await;
    sort(&mut rooms);
    rooms
}

/// Returns all rooms, the fullest first, as their tasks know them.
async fn rooms(shared: &Shared) -> Vec<RoomNow> {
    let mut rooms = Vec::new();
    for room in shared.host.rooms.all() {
        // A room that has just ended is left out too.
        if let Ok(Ok(summary)) = timeout(ROOM_DEADLINE, room.summary()).await {
            let servers = shared.neighbours.room(&summary.name, &summary.role);
            rooms.push(RoomNow::new(summary, servers));
        }
    }
    sort(&mut rooms);
    rooms
}

fn sort(rooms: &mut [RoomNow]) {
    rooms.sort_by(|a, b| b.players.cmp(&a.players).then_with(|| a.name.cmp(&b.name)));
}

fn charted(rooms: &[RoomNow]) -> BTreeMap<String, usize> {
    let fullest = rooms.iter().take(MAX_CHARTED_ROOMS);
    fullest
        .map(|room| (room.name.clone(), room.players))
        .collect()
}

fn disconnects(metrics: &Metrics) -> BTreeMap<&'static str, u64> {
    metrics
        .disconnects
        .counts()
        .map(|(reason, count)| (reason.as_str(), count))
        .collect()
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("numbers, texts and lists have a JSON form")
}

impl RoomNow {
    fn new(summary: RoomSummary, servers: Option<RoomServers>) -> Self {
        let RoomSummary {
            name, role, crowd, ..
        } = summary;
        Self {
            name,
            players: crowd.players,
            ghosts: crowd.ghosts,
            names: crowd.names,
            servers,
            is_foreign: matches!(role, Role::Edge { .. }),
        }
    }

    fn show(&mut self, crowd: Crowd) {
        self.players = crowd.players;
        self.ghosts = crowd.ghosts;
        self.names = crowd.names;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::status::sample::Traffic;

    fn sample(number: u32) -> Sample {
        Sample {
            time_s: number.into(),
            connections: 1,
            datagram_paths: 1,
            rooms: 1,
            players: 1,
            players_by_room: BTreeMap::new(),
            tick: None,
            received: Traffic::default(),
            sent: Traffic::default(),
        }
    }

    #[test]
    fn a_new_viewer_gets_the_last_two_minutes_and_no_more() {
        let mut feed = Feed::new(30);
        for number in 0..=MAX_SAMPLES as u32 {
            feed.push(sample(number), "");
        }
        let history = feed.history();
        let data = history.split(|byte| *byte == b'\n').nth(2).unwrap();
        let data = data.strip_prefix(b"data: ").unwrap();
        let history: serde_json::Value = serde_json::from_slice(data).unwrap();
        let samples = history["samples"].as_array().unwrap();
        assert_eq!(samples.len(), MAX_SAMPLES);
        assert_eq!(samples[0]["time_s"], 1.0);
    }

    #[test]
    fn the_fullest_rooms_come_first() {
        let room = |name: &str, players| RoomNow {
            name: name.into(),
            players,
            ghosts: 0,
            names: Vec::new(),
            servers: None,
            is_foreign: false,
        };
        let mut rooms = [room("b", 1), room("c", 9), room("a", 1)];
        sort(&mut rooms);
        assert_eq!(
            rooms.each_ref().map(|room| room.name.as_str()),
            ["c", "a", "b"]
        );
        assert_eq!(charted(&rooms).len(), 3);
    }
}
