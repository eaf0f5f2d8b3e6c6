import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { built } from "../support/program.js";
import { scenario } from "../support/scenario.js";
import { get } from "../support/server.js";
import { standIn } from "../support/stand_in.js";
import { until } from "../support/until.js";

// What browsers say of a WebSocket that did not open, and of the question why.
const announced = [/WebSocket connection to .* failed/, /Failed to load resource/, /ERR_CONNECTION/];

// A tab of somebody new with the game's form, and everything that the game is told in it.
async function openForm(browser, page, options) {
    const person = await browser.person(options);
    const frames = [];
    await person.addInitScript(() => {
        window.told = [];
        const { encodeInto } = TextEncoder.prototype;
        TextEncoder.prototype.encodeInto = function (text, ...more) {
            told.push(text);
            return encodeInto.call(this, text, ...more);
        };
    });
    person.on("page", (page) => page.on("websocket", (socket) =>
        socket.on("framereceived", ({ payload }) => frames.push(payload.toString()))));
    const tab = await browser.open(page, person);
    await tab.page.waitForFunction(() => window.wasm_exports && document.getElementById("cover").hidden);
    tab.join = () => tab.page.keyboard.press("Enter");
    tab.isTold = (words) => until(`the game is told ${words}`, async () => {
        const told = [...frames, ...await tab.page.evaluate(() => told)];
        return told.some((text) => text.includes(words));
    });
    return tab;
}

// Looks at the form until it shows an error.
function showsError(tab, name) {
    return until("the form shows an error", async () => (await tab.look(name)).showsError());
}

scenario("a full server says so", { announced, serverFlags: ["--max-connections", "1"] }, async ({ server, browser }) => {
    await server.startBots(1);
    const tab = await openForm(browser, server.page);
    await tab.join();
    await tab.isTold("the server is full");
    await showsError(tab, "30-full");
});

scenario("too many connections from one address are named", { announced, serverFlags: ["--trust-proxy", "127.0.0.1", "--max-connections-per-address", "1"] }, async ({ server, browser }) => {
    const headers = (own) => ({ ...own, host: server.http, origin: `http://${server.http}`, "x-forwarded-for": "192.0.2.7" });
    const proxy = await standIn(server, { headers, passes_sockets: true });
    try {
        const first = await openForm(browser, proxy.page);
        await first.join();
        await first.joined();
        const second = await openForm(browser, proxy.page);
        await second.join();
        await second.isTold("from your address");
        await showsError(second, "31-address");
    } finally {
        proxy.end();
    }
});

scenario("a page whose origin the server refuses says what the operator can do", { announced }, async ({ server, browser }) => {
    // As a proxy does that does not pass on `Host`.
    const headers = (own) => ({ ...own, host: server.http });
    const proxy = await standIn(server, { headers, passes_sockets: true });
    try {
        const tab = await openForm(browser, proxy.page);
        await tab.join();
        await tab.isTold(`--allow-origin ${proxy.page.slice(0, -1)}`);
        await showsError(tab, "32-origin");
    } finally {
        proxy.end();
    }
});

scenario("a server that stops says so", { announced, serverFlags: ["--drain", "20s"] }, async ({ server, browser }) => {
    const tab = await openForm(browser, server.page);
    // It says nothing and stays, so that the server waits for it.
    const [hostname, port] = server.tcp.split(":");
    const silent = connect({ port, host: hostname, allowHalfOpen: true });
    silent.on("error", () => {});
    await until("the server has it", async () => /pending_connections 1\n/.test(await (await fetch(`${server.page}metrics`)).text()));
    const stopped = server.stop("SIGTERM");
    await until("the server stops", async () => (await fetch(`${server.page}healthz`).catch(() => ({}))).status === 503);
    await tab.join();
    await tab.isTold("the server is shutting down");
    await showsError(tab, "33-stopping");
    silent.destroy();
    await stopped;
});

for (const [how, flags, pattern] of [["", [], []], [", encrypted", ["--tls-self-signed"], [/certificate/]]]) {
    const options = { announced: [...announced, ...pattern], serverFlags: ["--max-http-connections", "8", ...flags] };
    scenario(`too many connections to the pages are named${how}`, options, async ({ server, browser }) => {
        const tab = await openForm(browser, server.page, { ignoreHTTPSErrors: true });
        const [hostname, port] = server.http.split(":");
        const idle = Array.from({ length: 16 }, () => connect(port, hostname, function () { this.write("GET"); }));
        try {
            for (const socket of idle) socket.on("error", () => {});
            await until("no page is served", () => get(`${server.page}healthz`).then(({ status }) => status === 503, () => false));
            await tab.join();
            await tab.isTold("pages have too many connections");
            await showsError(tab, "34-pages");
        } finally {
            for (const socket of idle) socket.destroy();
        }
    });
}

scenario("a server that is gone is named as such", { announced }, async ({ server, browser }) => {
    const tab = await openForm(browser, server.page);
    await server.stop("SIGKILL");
    await tab.join();
    await tab.isTold("the server does not answer; is it running, and are you online?");
    await showsError(tab, "35-gone");
});

scenario("only when the server would let a page in, what is in between is blamed", { announced }, async ({ server, browser }) => {
    const proxy = await standIn(server, {});
    try {
        const tab = await browser.open(`${proxy.page}?name=Anna`);
        await until("it says why there is no connection", async () => (await tab.look("22-socket-blocked")).showsLoss());
        await until("it tries again by itself", () => proxy.sockets > 1);
        const form = await openForm(browser, proxy.page);
        await form.join();
        await form.isTold("a browser extension, a proxy or a firewall");
        await showsError(form, "36-blocked");
    } finally {
        proxy.end();
    }
});

scenario("somebody who answers in the server's place is named", { announced }, async ({ server, browser }) => {
    const form = await openForm(browser, server.page);
    await form.page.route("**/ws?*", (route) => route.fulfill({ status: 200, contentType: "text/html", body: "Log in" }));
    await form.page.evaluate(() => window.WebSocket = class { constructor() { setTimeout(() => this.onclose({ code: 1006 })); } close() {} });
    await form.join();
    await form.isTold("something in front of the server answers in its place, with status 200");
});

const folder = mkdtempSync(join(tmpdir(), "cubesync-"));
const control = ["--control", join(folder, "control.sock")];
scenario("a player whom the operator removes reads why and does not come back", { announced, serverFlags: control }, async ({ server, browser }) => {
    const tab = await openForm(browser, `${server.page}?name=Anna`);
    await tab.join();
    await tab.joined();
    execFileSync(built("cubesync-server", server.profile), ["kick", "anna", "--reason", "no shouting", ...control]);
    await tab.isTold("no shouting");
    await showsError(tab, "37-kicked");
    assert.equal((await server.room()).cubes.some((cube) => cube.name === "Anna"), false);
    rmSync(folder, { recursive: true });
});
