import assert from "node:assert/strict";
import test from "node:test";

import { Devtools } from "../support/devtools.js";
import { walked } from "../support/scenario.js";
import { Server } from "../support/server.js";
import { until } from "../support/until.js";

const DEADLINE_MS = 120_000;
// Much longer than a cube needs to come to rest, and enough to make a queue of what was missed.
const HIDDEN_TICKS = 150;

test("a hidden tab's cube rests, and its view is now when it returns", { timeout: DEADLINE_MS }, async () => {
    const [server, browser] = [await Server.start(), new Devtools()];
    try {
        const move = await server.startTypist("Mark");
        const anna = await browser.open(`${server.page}?name=Anna`);
        const other = await browser.open(`${server.page}time.html`);
        await anna.bringToFront();
        await anna.until("document.title.startsWith('cubesync — ') && document.getElementById('cover').hidden");
        assert.equal(await anna.value("document.visibilityState"), "visible");

        // The key goes up when nobody looks, and no page hears of it.
        const start = await server.cube("Anna");
        await anna.press("w");
        await until("Anna walks", async () => walked(start, await server.cube("Anna")) > 2);
        await other.bringToFront();
        await anna.until("document.visibilityState === 'hidden'");

        let last = await server.cube("Anna");
        await until("the hidden cube rests", async () => {
            const now = await server.cube("Anna");
            const isStill = walked(last, now) === 0;
            last = now;
            return isStill;
        });
        const { tick } = await server.room();
        for (let number = 0; ; number++) {
            // Back and forth far away, so that each tick has something to tell.
            move(number % 20, 40, 0.5);
            const room = await server.room();
            const cube = room.cubes.find(({ name }) => name === "Anna");
            assert.equal(walked(last, cube), 0, "the hidden cube moves");
            if (room.tick > tick + HIDDEN_TICKS) break;
        }
    } finally {
        await browser.end();
        await server.end();
    }
});
