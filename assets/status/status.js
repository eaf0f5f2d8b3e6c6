// The status page: receives /status/events and draws them.
//
//   event history: { version, tick_hz, samples: [sample, ...] }   once per connection, the last two minutes
//   event now:     { sample, uptime_s, rooms, disconnects }       every second; with `cluster` where there are several servers
//
// server/src/http/status/feed.rs defines the shapes.
"use strict";

const SPAN_S = 120;
const PING_EVERY_MS = 2000;
// Reconnecting is normal (the server ends each connection within a minute), so the page mentions it
// only when no event has come for longer.
const SILENT_AFTER_MS = 4000;
const RETRY_MS = 10000;

const element = (id) => document.getElementById(id);
const say = (id, text) => { element(id).textContent = text; };
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const COLOURS = ["one", "two", "three", "four", "five", "six"];

let tickMs = null;
let version = null;
let samples = [];
let trips = []; // { time_s, ms }

// ---- numbers for people ----

function milliseconds(ms) {
  if (ms == null) return "–";
  return `${ms < 1 ? ms.toFixed(2) : ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

function bytesPerSecond(bytes) {
  if (bytes < 1e3) return `${Math.round(bytes)} B/s`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(bytes < 1e4 ? 1 : 0)} kB/s`;
  return `${(bytes / 1e6).toFixed(1)} MB/s`;
}

function duration(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = Math.max(0, units.findIndex(([, length]) => seconds >= length));
  const start = first === -1 ? 3 : first;
  let rest = seconds;
  return units.slice(start, start + 2).map(([unit, length]) => {
    const count = Math.floor(rest / length);
    rest -= count * length;
    return `${count} ${unit}`;
  }).join(" ");
}

const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

// ---- charts ----

class Chart {
  // lines(): [{ label, value(sample) }]; points(): samples with time_s; floor: the least height of the y axis
  constructor(place, lines, points, format, floor) {
    Object.assign(this, { place: element(place), lines, points, format, floor, plot: null, labels: null });
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.place);
  }

  size() {
    return { width: Math.max(200, this.place.clientWidth), height: 200 };
  }

  draw() {
    const points = this.points();
    const lines = this.lines();
    const data = [points.map((point) => point.time_s)];
    for (const line of lines) data.push(points.map((point) => line.value(point) ?? null));
    const labels = lines.map((line) => line.label).join("\n");
    if (this.plot && labels === this.labels) {
      this.plot.setData(data);
    } else {
      this.remove();
      this.labels = labels;
      this.plot = new uPlot(this.options(lines), data, this.place);
    }
  }

  remove() {
    this.plot?.destroy();
    this.plot = null;
  }

  options(lines) {
    const axis = { stroke: colour("dim"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const clock = (time) => new Date(time * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
    // Without a finger or a mouse on the chart, its legend shows the newest values.
    const newest = (plot, index, at) => plot.data[index][at ?? plot.data[0].length - 1];
    const value = (plot, number, index, at) => {
      const shown = newest(plot, index, at);
      return shown == null ? "–" : this.format(shown);
    };
    return {
      ...this.size(),
      padding: [8, 26, 0, 0],
      cursor: { drag: { x: false, y: false }, y: false, points: { size: 6 } },
      legend: { live: true },
      scales: {
        x: { range: (plot, low, high) => [(high ?? 0) - SPAN_S, high ?? 0] },
        y: { range: (plot, low, high) => [0, Math.max((high ?? 0) * 1.1, this.floor)] },
      },
      axes: [
        { ...axis, space: 90, size: 28, values: (plot, times) => times.map(clock) },
        { ...axis, size: 48, space: 32, values: (plot, numbers) => numbers.map((number) => this.format(number)) },
      ],
      series: [
        { label: "at", value: (plot, time) => time == null ? "now" : clock(time) },
        ...lines.map((line, index) => ({ label: line.label, stroke: colour(COLOURS[index]), fill: `${colour(COLOURS[index])}14`, width: 2, spanGaps: false, points: { show: false }, value })),
      ],
    };
  }
}

const plain = (number) => `${Math.round(number * 100) / 100}`;
const kilobytes = (number) => number >= 100 ? `${Math.round(number)}` : `${Math.round(number * 10) / 10}`;

function roomLines() {
  // When a room is gone, its line is removed.
  const names = Object.keys(samples.at(-1)?.players_by_room ?? {});
  return names.map((name) => ({ label: name, value: (sample) => sample.players_by_room[name] }));
}

const line = (label, value) => ({ label, value });
const TICK_LINES = [
  line("half within", (sample) => sample.tick?.p50_ms),
  line("99 % within", (sample) => sample.tick?.p99_ms),
  line("slowest", (sample) => sample.tick?.max_ms),
];
const TRAFFIC_LINES = [
  line("to clients", (sample) => sample.sent.bytes_per_s / 1e3),
  line("from clients", (sample) => sample.received.bytes_per_s / 1e3),
];
const TRIP_LINES = [line("this page", (trip) => trip.ms)];

const charts = [
  new Chart("players-chart", roomLines, () => samples, plain, 4.4),
  new Chart("tick-chart", () => TICK_LINES, () => samples, plain, 0.2),
  new Chart("traffic-chart", () => TRAFFIC_LINES, () => samples, kilobytes, 1),
  new Chart("trip-chart", () => TRIP_LINES, () => trips, plain, 2),
];
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of charts) { chart.remove(); chart.draw(); }
});

function draw() {
  for (const chart of charts) chart.draw();
}

// ---- events ----

function onHistory(history) {
  if (version !== null && version !== history.version) {
    location.reload(); // the server was updated, and this page belongs to its old version
    return;
  }
  version = history.version;
  tickMs = 1000 / history.tick_hz;
  samples = history.samples;
  element("charts").hidden = false;
  draw();
}

function onNow(now) {
  const { sample } = now;
  // The history may have included this sample.
  if (!(samples.at(-1)?.time_s >= sample.time_s)) samples.push(sample);
  samples = samples.filter((other) => other.time_s > sample.time_s - SPAN_S);
  element("tiles").hidden = false;
  state("live", `live · version ${version} · up ${duration(now.uptime_s)}`);
  showTiles(sample);
  showRooms(now.rooms, sample.rooms);
  showServers(now.cluster);
  showDisconnects(now.disconnects);
  draw();
}

function showTiles(sample) {
  say("players", sample.players);
  say("players-note", `in ${plural(sample.rooms, "room")} · ${plural(sample.connections, "connection")}, ${sample.datagram_paths} with datagrams`);
  say("tick", milliseconds(sample.tick?.p99_ms));
  const share = (ms) => { const percent = ms / tickMs * 100; return percent < 10 ? percent.toFixed(1) : Math.round(percent); };
  say("tick-note", sample.tick ? `${share(sample.tick.p99_ms)} % of its ${milliseconds(tickMs)}` : sample.players > 0 ? "other servers own these rooms" : "nobody plays");
  say("sent", bytesPerSecond(sample.sent.bytes_per_s));
  say("sent-note", `${Math.round(sample.sent.frames_per_s)} frames/s · ${Math.round(sample.sent.datagrams_per_s)} datagrams/s`);
  say("received", bytesPerSecond(sample.received.bytes_per_s));
  say("received-note", `${Math.round(sample.received.frames_per_s)} frames/s · ${Math.round(sample.received.datagrams_per_s)} datagrams/s`);
}

function showRooms(rooms, count) {
  element("rooms").replaceChildren(...rooms.map((room) => {
    const row = document.createElement("tr");
    let names = room.names.join(", ");
    if (room.players > room.names.length) names += ` and ${room.players - room.names.length} more`;
    if (room.ghosts > 0) names += `${names && ", "}${room.ghosts} away for a moment`;
    for (const text of [room.name, room.players, names]) {
      const cell = document.createElement("td");
      cell.textContent = text;
      row.append(cell);
    }
    if (room.servers) {
      row.firstChild.append(note(...ownerOf(room.servers)));
      const places = room.servers.players;
      if (places.some((place) => place.web !== null)) row.lastChild.append(note(places.map(placeOf).join(" · ")));
    }
    return row;
  }));
  element("more-rooms").hidden = count <= rooms.length;
  say("more-rooms", `and ${plural(count - rooms.length, "more room")}`);
}

function note(...parts) {
  const small = document.createElement("small");
  small.append(...parts);
  return small;
}

// An owner without a known address is named by its id.
function serverLink(web) {
  const link = document.createElement(web.includes(":") ? "a" : "span");
  if (link.localName === "a") link.href = `${location.protocol}//${web}/status`;
  link.textContent = web;
  return link;
}

function ownerOf({ role, owner }) {
  if (role === "edge") return ["owned by ", serverLink(owner)];
  return [role === "island" ? "cut off from its owner" : "owned by this server"];
}

const placeOf = ({ web, players }) => `${players} ${web === null ? "here" : `at ${web || "another server"}`}`;

function showServers(cluster) {
  element("cluster").hidden = !cluster;
  if (!cluster) return;
  const reach = cluster.is_connected ? "" : " · no connection to the bus: this server is alone until it is back";
  say("cluster-note", `${plural(cluster.count, "server")} · ${plural(cluster.players, "connection")} on all of them · ${bytesPerSecond(cluster.sent_bytes_per_s)} between them${reach}`);
  element("servers").replaceChildren(...cluster.servers.map((server, index) => {
    const row = document.createElement("tr");
    const name = document.createElement("td");
    const address = server.web || "address unknown";
    name.append(index === 0 ? address : serverLink(address), note(`${index === 0 ? "this one · " : ""}version ${server.version}`));
    row.append(name);
    for (const text of [server.players, server.rooms, bytesPerSecond(server.sent_bytes_per_s), bytesPerSecond(server.received_bytes_per_s)]) {
      const cell = document.createElement("td");
      cell.textContent = text;
      row.append(cell);
    }
    return row;
  }));
  element("more-servers").hidden = cluster.count <= cluster.servers.length;
  say("more-servers", `and ${plural(cluster.count - cluster.servers.length, "more server")}`);
}

const REASONS = {
  left: "left", closed: "closed without leaving", replaced: "came back on another connection", lost: "lost their connection", silent: "fell silent", slow_reader: "read too slowly",
  bad_message: "sent a bad message", frame_too_long: "sent too long a frame", frame_too_slow: "did not finish a frame", too_many_messages: "sent too many messages", too_many_bytes: "sent too many bytes",
  hello_timeout: "sent no greeting", not_hello: "spoke another protocol", wrong_version: "spoke another version", bad_name: "had a name that cannot be used",
  wrong_key: "had a wrong key or none", too_many_tries: "guessed too many keys", tls_handshake: "failed in the TLS handshake",
  server_full: "found the server full", address_full: "were too many from one address", pending_full: "came while too many others were joining", too_many_arrivals: "came too often from one address", room_full: "found the room full", too_many_rooms: "asked for one room too many",
  shutting_down: "were here when the server stopped", panicked: "hit a defect of the server",
  kicked: "were removed by the operator", banned: "came from a banned address",
};

function showDisconnects(disconnects) {
  const byCount = Object.entries(disconnects).sort(([, a], [, b]) => b - a);
  const texts = byCount.map(([reason, count]) => `${count} ${REASONS[reason] ?? reason}`);
  element("ends").hidden = texts.length === 0;
  say("disconnects", texts.join(" · "));
}

// ---- the connection ----

let source = null;
let heardAt = 0;

function state(name, text) {
  element("state").className = `state ${name}`;
  say("state", text);
}

function heard(handle) {
  return (event) => {
    heardAt = performance.now();
    handle(JSON.parse(event.data));
  };
}

function open() {
  if (source) return;
  heardAt = performance.now();
  source = new EventSource("status/events");
  source.addEventListener("history", heard(onHistory));
  source.addEventListener("now", heard(onNow));
  source.onerror = () => {
    // After an error status, such as for too many viewers, the browser does not retry by itself.
    if (source?.readyState === EventSource.CLOSED) {
      state("lost", "the server has no place for another viewer; trying again");
      close();
      setTimeout(() => { if (!document.hidden) open(); }, RETRY_MS);
    }
  };
}

function close() {
  source?.close();
  source = null;
}

// When the network fails, the connection may stay open and silent.
setInterval(() => {
  if (!source || performance.now() - heardAt < SILENT_AFTER_MS) return;
  state("lost", "the server does not answer; trying again");
  if (source.readyState === EventSource.OPEN) {
    close();
    open();
  }
}, 1000);

// A hidden tab needs no events; the history fills the gap afterwards.
document.addEventListener("visibilitychange", () => document.hidden ? close() : open());

// ---- the round trip ----

// Measures the time between request and answer on an open connection, without the time to open one
// and without the page's own work.
async function measureTrip() {
  if (document.hidden) return;
  performance.clearResourceTimings();
  const time_s = Date.now() / 1000;
  try {
    await (await fetch("healthz", { cache: "no-store" })).text();
  } catch {
    return; // the state line already says that the server does not answer
  }
  const timing = performance.getEntriesByType("resource").find((entry) => entry.name.endsWith("/healthz"));
  if (!timing || timing.responseStart === 0) return;
  const ms = timing.responseStart - timing.requestStart;
  trips.push({ time_s, ms });
  trips = trips.filter((trip) => trip.time_s > time_s - SPAN_S);
  say("trip", milliseconds(ms));
}

if (!document.hidden) open();
// The first measurement waits, so that it does not include the page's own loading.
setInterval(measureTrip, PING_EVERY_MS);
