import assert from "node:assert/strict";

import { MAGENTA } from "../support/browser.js";
import { LAN_HOST } from "../support/chromium.js";
import { apart } from "../support/picture.js";
import { scenario, walked } from "../support/scenario.js";
import { get } from "../support/server.js";
import { until } from "../support/until.js";

const WALK_M = 4;
const WALK_PIXELS = 40;

// Keeps the page's data channels for the test, and lets it hold back what its socket receives.
const WATCH = `
    const create = RTCPeerConnection.prototype.createDataChannel;
    window.channels = [];
    RTCPeerConnection.prototype.createDataChannel = function (...options) {
        const channel = create.apply(this, options);
        channel.addEventListener("message", () => channel.count = (channel.count ?? 0) + 1);
        Object.defineProperty(channel, "onmessage", {
            set: (take) => channel.addEventListener("message", (event) => window.blocked || take(event)),
        });
        const send = channel.send.bind(channel);
        channel.send = (datagram) => window.blocked || send(datagram);
        channels.push(channel);
        return channel;
    };
    window.WebSocket = class extends WebSocket {
        set onmessage(take) {
            super.onmessage = (event) => window.held ? held.push(() => take(event)) : take(event);
        }
    };
`;

// A network that lets no UDP through: what the page sends goes to a port where nobody is.
const BLOCK = `
    const elsewhere = (text) => text.replace(/ \\d+ typ host/g, " 9 typ host");
    const { setRemoteDescription, addIceCandidate } = RTCPeerConnection.prototype;
    RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
        window.answered = true;
        return setRemoteDescription.call(this, { type, sdp: elsewhere(sdp) });
    };
    RTCPeerConnection.prototype.addIceCandidate = function (candidate) {
        return addIceCandidate.call(this, { ...candidate, candidate: elsewhere(candidate.candidate) });
    };
`;

// The page as a phone in the LAN gets it: without encryption, and not on localhost.
const lanPage = (server) => `http://${LAN_HOST}:${server.http.split(":")[1]}/`;

async function watched(browser, options) {
    const person = await browser.person(options);
    await person.addInitScript(WATCH);
    return person;
}

// A number of the server's metrics; 0 if it has none.
async function metric(server, name) {
    const { body } = await get(`${server.page}metrics`);
    const line = body.toString().split("\n").find((line) => line.startsWith(`${name} `));
    return Number(line?.split(" ")[1] ?? 0);
}

// Anna walks, and her cube moves in Вася's tab.
async function annaIsSeen({ server, anna, vasya, name }) {
    const seen = await vasya.findMagenta(`${name}-before`);
    const start = await server.cube("Anna");
    await anna.hold("ArrowRight", () => until("Anna has walked", async () =>
        walked(start, await server.cube("Anna")) > WALK_M));
    await until("Anna's cube is elsewhere in Вася's tab", async () =>
        apart(seen, await vasya.findMagenta(`${name}-after`)) > WALK_PIXELS);
}

scenario("over plain http ticks come by datagrams, also while the stream stands still", {}, async ({ server, browser }) => {
    const anna = await browser.open(`${lanPage(server)}?name=Anna`, { colour: MAGENTA });
    const person = await watched(browser);
    const vasya = await browser.open(`${lanPage(server)}?name=${encodeURIComponent("Вася")}`, person);
    await Promise.all([anna.joined(), vasya.joined()]);
    assert.equal(await vasya.page.evaluate(() => isSecureContext), false);
    await vasya.page.waitForFunction(() => channels.length === 1 && channels[0].readyState === "open" && channels[0].count);
    assert.equal(await metric(server, "cubesync_datagram_paths"), 2);

    const seen = await vasya.findMagenta("datagrams-1-before");
    await vasya.page.evaluate(() => window.held = []);
    const count = await vasya.page.evaluate(() => channels[0].count);
    const start = await server.cube("Anna");
    await anna.hold("ArrowRight", () => until("Anna has walked", async () =>
        walked(start, await server.cube("Anna")) > WALK_M));
    await until("Anna's cube is elsewhere in Вася's tab", async () =>
        apart(seen, await vasya.findMagenta("datagrams-2-stream-held-back")) > WALK_PIXELS);
    assert.ok(await vasya.page.evaluate(() => channels[0].count) > count + 5);
    await vasya.page.evaluate(() => {
        for (const take of held.splice(0)) take();
        window.held = null;
    });

    const taken = 'cubesync_udp_received_total{outcome="taken"}';
    const before = await metric(server, taken);
    const at = await server.cube("Вася");
    await vasya.hold("KeyW", () => until("Вася has walked", async () => walked(at, await server.cube("Вася")) > WALK_M));
    assert.ok(await metric(server, taken) > before + 5, "samples went by datagrams too");
});

scenario("without datagrams the game plays on over its stream", { serverFlags: ["--udp", "off"] }, async ({ server, browser }) => {
    const person = await watched(browser, { colour: MAGENTA });
    const anna = await browser.open(`${lanPage(server)}?name=Anna`, person);
    const vasya = await browser.open(`${lanPage(server)}?name=${encodeURIComponent("Вася")}`);
    await Promise.all([anna.joined(), vasya.joined()]);
    await annaIsSeen({ server, anna, vasya, name: "no-datagrams" });
    assert.notEqual(await anna.page.evaluate(() => channels[0].readyState), "open");
});

scenario("where no UDP comes through the game plays on over its stream", {}, async ({ server, browser }) => {
    const anna = await browser.open(`${lanPage(server)}?name=Anna`, { colour: MAGENTA });
    const person = await watched(browser);
    await person.addInitScript(BLOCK);
    const vasya = await browser.open(`${lanPage(server)}?name=${encodeURIComponent("Вася")}`, person);
    await Promise.all([anna.joined(), vasya.joined()]);
    await vasya.page.waitForFunction(() => window.answered);
    await annaIsSeen({ server, anna, vasya, name: "blocked" });
    assert.notEqual(await vasya.page.evaluate(() => channels[0].readyState), "open");
});

scenario("where UDP comes through no more the stream goes on alone", {}, async ({ server, browser }) => {
    const anna = await browser.open(`${lanPage(server)}?name=Anna`, { colour: MAGENTA });
    const person = await watched(browser);
    const vasya = await browser.open(`${lanPage(server)}?name=${encodeURIComponent("Вася")}`, person);
    await Promise.all([anna.joined(), vasya.joined()]);
    await vasya.page.waitForFunction(() => channels[0].readyState === "open" && channels[0].count);
    await vasya.page.evaluate(() => window.blocked = true);
    await annaIsSeen({ server, anna, vasya, name: "blocked-halfway" });
    const at = await server.cube("Вася");
    await vasya.hold("KeyW", () => until("Вася has walked", async () => walked(at, await server.cube("Вася")) > WALK_M));
});

scenario("a browser without WebRTC plays too", {}, async ({ server, browser }) => {
    const person = await browser.person();
    await person.addInitScript("delete window.RTCPeerConnection; delete window.webkitRTCPeerConnection;");
    const anna = await browser.open(`${lanPage(server)}?name=Anna`, person);
    await anna.joined();
    const start = await server.cube("Anna");
    await anna.hold("KeyW", () => until("Anna has walked", async () => walked(start, await server.cube("Anna")) > WALK_M));
});
