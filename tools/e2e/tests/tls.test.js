import assert from "node:assert/strict";

import { MAGENTA } from "../support/browser.js";
import { scenario, walked } from "../support/scenario.js";
import { until } from "../support/until.js";

// A person who has read the browser's warning and gone on.
const TRUSTING = { ignoreHTTPSErrors: true };
const WALK_M = 2;

const encrypted = { serverFlags: ["--tls-self-signed"] };
scenario("a page that came over https plays over wss, beside an encrypted bot", encrypted, async ({ server, browser }) => {
    assert.match(server.page, /^https:/);
    await server.startBots(1);
    const person = await browser.person({ ...TRUSTING, colour: MAGENTA });
    const sockets = [];
    person.on("page", (page) => page.on("websocket", (socket) => sockets.push(socket.url())));
    // As people write it, without the beginning: the server sends the browser on.
    const anna = await browser.open(`http://${server.http}/?name=Anna`, person);
    await anna.joined();
    assert.equal(await anna.page.evaluate(() => location.origin), `https://${server.http}`);
    assert.deepEqual(sockets, [`wss://${server.http}/ws`]);

    const start = await server.cube("Anna");
    await anna.hold("KeyW", () => until("Anna has walked", async () =>
        walked(start, await server.cube("Anna")) > WALK_M));
    await anna.look("tls");

    const status = await browser.open(`${server.page}status`, person);
    await status.page.waitForFunction(() => document.body.textContent.includes("Anna"));
    await status.look("tls-status");
});
