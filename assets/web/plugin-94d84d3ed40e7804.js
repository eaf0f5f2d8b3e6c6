"use strict";
(() => {
const VERSION = 4;
const [CONNECTING, OPEN, CLOSED] = [0, 1, 2];
const MAX_UNREAD_BYTES = 4 << 20;
const MAX_UNSENT_BYTES = 4 << 10;
const MAX_UNREAD_DATAGRAMS = 64;
const MAX_DATAGRAM_BYTES = 1100;
const bytes = (pointer, length) => new Uint8Array(wasm_memory.buffer, pointer, length);
const read = (pointer, length) => new TextDecoder().decode(bytes(pointer, length));
const write = (text, pointer, room) => new TextEncoder().encodeInto(text, bytes(pointer, room)).written;
let last_frame_ms = 0;
function frameWhileHidden() {
if (!document.hidden || !wasm_exports || cubesyncFailed() || performance.now() - last_frame_ms < 15) return;
last_frame_ms = performance.now();
wasm_exports.frame();
}
setInterval(frameWhileHidden, 1000);
const sockets = new Map();
let last_socket = 0;
function openSocket(neighbour) {
const socket = { code: CONNECTING, unread: [], offset: 0, unread_bytes: 0 };
const end = (reason) => {
if (socket.code !== CLOSED) Object.assign(socket, { code: CLOSED, reason });
frameWhileHidden();
};
sockets.set(++last_socket, socket);
try {
const url = new URL(neighbour ? `//${neighbour}/ws` : "ws", document.baseURI);
url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
url.search = "";
socket.web = new WebSocket(url);
} catch ({ message }) {
end(`the browser does not connect: ${message}`);
return last_socket;
}
socket.web.binaryType = "arraybuffer";
socket.web.onopen = () => {
socket.code = OPEN;
frameWhileHidden();
reloadWhenNewer();
};
socket.web.onmessage = ({ data }) => {
if (!(data instanceof ArrayBuffer) || socket.code !== OPEN) return;
socket.unread.push(new Uint8Array(data));
socket.unread_bytes += data.byteLength;
frameWhileHidden();
if (socket.unread_bytes > MAX_UNREAD_BYTES) {
end("too much came while this tab was asleep");
socket.unread = [];
socket.web.close();
}
};
socket.web.onclose = async ({ code }) => {
if (socket.code === CONNECTING) return end(await obstacle(neighbour));
end(code === 1006 ? "the server or the network cut the connection" : "the server closed the connection");
};
return last_socket;
}
async function obstacle(neighbour) {
const trust = location.protocol === "https:" ? " Or the browser no longer trusts its certificate: reload the page to see." : "";
const question = `ws?origin=${encodeURIComponent(location.origin)}`;
const answer = neighbour ? null : await fetch(question, { cache: "no-store" }).catch(() => null);
if (!answer) return `the server does not answer; is it running, and are you online?${trust}`;
if (answer.status === 426) {
return `the server would let you in, but its WebSocket does not come through. If that stays so, a browser extension, a proxy or a firewall blocks it.${trust}`;
}
const is_text = answer.headers.get("content-type")?.startsWith("text/plain");
const text = is_text ? await answer.text().catch(() => "") : "";
return text.trim() || `something in front of the server answers in its place, with status ${answer.status}`;
}
function receive(id, to, room) {
const socket = sockets.get(id);
let count = 0;
while (socket?.unread.length && count < room) {
const rest = socket.unread[0].subarray(socket.offset, socket.offset + room - count);
bytes(to + count, rest.length).set(rest);
count += rest.length;
socket.offset += rest.length;
if (socket.offset === socket.unread[0].length) {
socket.unread.shift();
socket.offset = 0;
}
}
if (socket) socket.unread_bytes -= count;
return count;
}
function send(id, from, length) {
const web = sockets.get(id)?.web;
if (web?.readyState !== WebSocket.OPEN || web.bufferedAmount > MAX_UNSENT_BYTES) return 0;
web.send(bytes(from, length).slice());
return 1;
}
function closeSocket(id) {
const socket = sockets.get(id);
sockets.delete(id);
if (!socket) return;
socket.code = CLOSED;
socket.web?.close();
socket.peer?.close();
}
function openDatagrams(id) {
const socket = sockets.get(id);
if (!socket || socket.peer || !window.RTCPeerConnection) return;
try {
const peer = socket.peer = new RTCPeerConnection();
const options = { negotiated: true, id: 0, ordered: false, maxRetransmits: 0 };
const channel = socket.channel = peer.createDataChannel("", options);
socket.datagrams = [];
channel.binaryType = "arraybuffer";
channel.onopen = () => socket.first && channel.send(socket.first);
channel.onmessage = ({ data }) => {
if (!(data.byteLength <= MAX_DATAGRAM_BYTES)) return;
if (socket.datagrams.push(new Uint8Array(data)) > MAX_UNREAD_DATAGRAMS) socket.datagrams.shift();
frameWhileHidden();
};
peer.setLocalDescription().then(() => socket.offer = peer.localDescription.sdp, () => {});
} catch {
}
}
async function answerDatagrams(id, sdp) {
const { peer, web } = sockets.get(id) ?? {};
try {
await peer.setRemoteDescription({ type: "answer", sdp });
const host = new URL(web.url).hostname.replace(/[[\]]/g, "");
const port = / (\d+) typ host/.exec(sdp)[1];
await peer.addIceCandidate({ candidate: `candidate:2 1 udp 1 ${host} ${port} typ host`, sdpMLineIndex: 0 });
} catch {
}
}
function receiveDatagram(id, to, room) {
const datagram = sockets.get(id)?.datagrams?.shift();
if (!datagram || datagram.length > room) return 0;
bytes(to, room).set(datagram);
return datagram.length;
}
function sendDatagram(id, from, length) {
const socket = sockets.get(id);
const datagram = bytes(from, length).slice();
if (socket?.channel?.readyState === "connecting") {
socket.first = datagram;
} else if (socket?.channel?.readyState === "open" && !socket.channel.bufferedAmount) {
try {
socket.channel.send(datagram);
} catch {
}
}
}
async function reloadWhenNewer() {
const answer = await fetch(location.href, { cache: "no-store" }).catch(() => null);
const build = answer?.ok && /data-build="([^"]+)"/.exec(await answer.text())?.[1];
if (build && build !== document.documentElement.dataset.build) cubesyncReloadOnce(build);
}
const stored = (storage, key) => {
try {
return JSON.parse(storage().getItem(key)) ?? {};
} catch {
return {};
}
};
const store = (storage, key, value) => {
try {
if (value) storage().setItem(key, JSON.stringify(value));
else storage().removeItem(key);
} catch {
}
};
const session = () => sessionStorage;
const local = () => localStorage;
const parameters = (text) => [...new URLSearchParams(text.slice(1).replace(/[.,;:!?'"*_~)\]}>]+$/, ""))];
const given = [location.search, location.hash].flatMap(parameters);
const said = (key) => {
const values = given.filter(([name]) => name.toLowerCase() === key).map(([, value]) => value);
return values.find(Boolean) ?? values[0] ?? null;
};
const remembered = stored(local, "cubesync");
const GAME = "cubesync-game-";
const here = location.pathname + location.search + location.hash;
const ORPHAN_MS = 3_600_000;
const ANSWER_MS = 1000;
let kept = {};
function storeGame(is_closed) {
if (rank !== Infinity) return;
Object.assign(kept, { is_closed, seen_ms: Date.now() });
store(session, "cubesync", kept);
store(local, GAME + kept.id, kept.join && !is_closed && kept);
}
let rank = 0;
let lose;
let channel;
const sayRank = () => channel?.postMessage({ id: kept.id, rank });
try {
channel = new BroadcastChannel("cubesync");
channel.onmessage = ({ data }) => {
if (data.id !== kept.id) return;
if (data.rank < rank) sayRank();
else lose?.();
};
} catch {
}
function isNobodys(game) {
kept = game;
rank = Math.random();
return new Promise((resolve) => {
lose = () => resolve(false);
setTimeout(resolve, channel ? ANSWER_MS : 0, true);
sayRank();
});
}
async function findGame() {
const own = stored(session, "cubesync");
const games = new Map([[own.id, own]]);
try {
for (const key of Object.keys(localStorage).filter((key) => key.startsWith(GAME))) {
const game = stored(local, key);
const is_kept = game.id === own.id || Date.now() - game.seen_ms < ORPHAN_MS;
if (is_kept) games.set(game.id, game);
else store(local, key);
}
} catch {
}
for (const game of games.values()) {
if (game.page === here && (game.is_closed || await isNobodys(game))) return game;
}
return { page: here };
}
window.cubesyncReady = findGame().then((game) => {
kept = { id: Math.random(), ...game };
rank = Infinity;
storeGame();
});
window.addEventListener("pagehide", () => storeGame(true));
window.addEventListener("pageshow", (event) => event.persisted && storeGame());
setInterval(storeGame, 60_000);
function setting(key) {
if (key === "join") return kept.join ?? (said("name") === null ? "" : "1");
return kept[key] ?? (["name", "room"].includes(key) ? said(key) : null) ?? remembered[key] ?? "";
}
function keep(key, value) {
kept[key] = value;
storeGame();
if (key === "name" || key === "colour") {
remembered[key] = value;
store(local, "cubesync", remembered);
}
}
function inviteLink(room) {
const link = new URL(location.href);
link.search = link.hash = "";
if (room !== "lobby") link.searchParams.set("room", room);
return link.href.replace(/[.*_]+$/, (end) => end.replace(/./g, (sign) => `%${sign.charCodeAt().toString(16)}`));
}
async function copy(text) {
try {
return await navigator.clipboard.writeText(text);
} catch {
const area = document.body.appendChild(document.createElement("textarea"));
area.value = text;
area.select();
const copied = document.execCommand("copy");
area.remove();
canvas.focus();
if (!copied) window.prompt("Copy this link:", text);
}
}
function toggleFullscreen() {
const page = document.documentElement;
const is_on = document.fullscreenElement ?? document.webkitFullscreenElement;
const change = is_on
? document.exitFullscreen ?? document.webkitExitFullscreen
: page.requestFullscreen ?? page.webkitRequestFullscreen;
change?.call(is_on ? document : page)?.catch?.(() => {});
}
const lettering = document.createElement("canvas").getContext("2d");
function setSize(size) {
lettering.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
}
function textWidth(text, length, size) {
setSize(size);
return lettering.measureText(read(text, length)).width;
}
function drawText(text, length, size, width, height, x, y, texture, left, top) {
Object.assign(lettering.canvas, { width, height });
setSize(size);
lettering.fillStyle = "#fff";
lettering.fillText(read(text, length), x, y);
const bound = gl.getParameter(gl.TEXTURE_BINDING_2D);
gl.bindTexture(gl.TEXTURE_2D, GL.textures[texture]);
gl.texSubImage2D(gl.TEXTURE_2D, 0, left, top, gl.RGBA, gl.UNSIGNED_BYTE, lettering.canvas);
gl.bindTexture(gl.TEXTURE_2D, bound);
}
const fields = new Map();
function removeUnseenFields() {
for (const [index, field] of fields) {
if (!field.is_seen) {
field.input.remove();
fields.delete(index);
}
field.is_seen = false;
}
if (fields.size) requestAnimationFrame(removeUnseenFields);
}
function makeField(index) {
const input = document.body.appendChild(document.createElement("input"));
const field = { input, is_changed: false };
Object.assign(input, { className: "field", type: "text", inputMode: "text", enterKeyHint: "go", spellcheck: false });
Object.entries({ autocapitalize: "off", autocorrect: "off", autocomplete: "off" }).forEach((pair) => input.setAttribute(...pair));
input.oninput = () => field.is_changed = true;
input.onpaste = (event) => event.stopPropagation();
input.onkeydown = (event) => {
event.stopPropagation();
if (event.key !== "Enter" || event.isComposing) return;
input.blur();
wasm_exports.key_down(257, 0, false);
wasm_exports.key_up(257, 0);
};
if (!fields.size) requestAnimationFrame(removeUnseenFields);
fields.set(index, field);
return field;
}
function textField(index, x, y, width, height, text, length, to, room) {
if (!matchMedia("(any-pointer: coarse)").matches) return -1;
const field = fields.get(index) ?? makeField(index);
const area = canvas.getBoundingClientRect();
field.is_seen = true;
Object.assign(field.input.style, {
left: `${area.left + x}px`, top: `${area.top + y}px`, width: `${width}px`, height: `${height}px`,
});
if (field.is_changed) {
field.is_changed = false;
return write(field.input.value, to, room);
}
const value = read(text, length);
if (field.input.value !== value) field.input.value = value;
return -1;
}
window.addEventListener("keydown", (event) => {
if (event.target !== canvas || !wasm_exports) return;
const is_ours = !/^F\d+$/.test(event.code) || ["F1", "F3", "F4"].includes(event.code);
const types = ["Quote", "Slash"].includes(event.code) && event.key.length === 1;
if (event.metaKey) {
wasm_exports.focus(false);
if (event.code === "KeyV") wasm_exports.key_down(86, 2, event.repeat);
} else if (types && !event.ctrlKey) {
event.preventDefault();
wasm_exports.key_press(event.key.codePointAt(0));
} else if (is_ours) {
return;
}
event.stopImmediatePropagation();
}, true);
canvas.addEventListener("pointerdown", (event) => {
if (event.pointerType === "mouse") canvas.setPointerCapture(event.pointerId);
canvas.focus();
});
canvas.addEventListener("contextmenu", (event) => event.preventDefault());
window.addEventListener("gesturestart", (event) => event.preventDefault());
new ResizeObserver(() => window.onresize?.()).observe(canvas);
miniquad_add_plugin({
name: "cubesync",
version: VERSION,
register_plugin: ({ env }) => Object.assign(env, {
cubesync_now_ms: () => performance.now(),
cubesync_random: () => crypto.getRandomValues(new Uint32Array(1))[0],
cubesync_is_hidden: () => Number(document.hidden),
cubesync_prefers_touch: () => Number(matchMedia("(hover: none) and (pointer: coarse)").matches),
cubesync_fail: (text, length) => cubesyncFail(read(text, length)),
cubesync_socket_open: (address, length) => openSocket(read(address, length)),
cubesync_socket_state: (id) => {
const socket = sockets.get(id);
return socket?.unread.length ? OPEN : socket?.code ?? CLOSED;
},
cubesync_socket_reason: (id, to, room) => write(sockets.get(id)?.reason ?? "", to, room),
cubesync_socket_receive: receive,
cubesync_socket_send: send,
cubesync_socket_close: closeSocket,
cubesync_datagrams_open: openDatagrams,
cubesync_datagrams_offer: (id, to, room) => write(sockets.get(id)?.offer ?? "", to, room),
cubesync_datagrams_answer: (id, text, length) => void answerDatagrams(id, read(text, length)),
cubesync_datagrams_receive: receiveDatagram,
cubesync_datagrams_send: sendDatagram,
cubesync_setting: (key, length, to, room) => write(setting(read(key, length)), to, room),
cubesync_keep: (key, key_length, value, length) => keep(read(key, key_length), read(value, length)),
cubesync_address: (to, room) => {
const port = location.port || (location.protocol === "https:" ? 443 : 80);
return write(`${location.hostname}:${port}`, to, room);
},
cubesync_invite_link: (text, length, to, room) => write(inviteLink(read(text, length)), to, room),
cubesync_copy: (text, length) => void copy(read(text, length)),
cubesync_set_title: (text, length) => document.title = read(text, length),
cubesync_can_fullscreen: () => Number(document.fullscreenEnabled ?? document.webkitFullscreenEnabled ?? false),
cubesync_toggle_fullscreen: toggleFullscreen,
cubesync_text_width: textWidth,
cubesync_text_draw: drawText,
cubesync_text_field: textField,
}),
});
})();
